/** Texts to be copied. */

import { element } from './dom.js';
import { notify } from './notices.js';

/**
 * Return a text with a button that copies it.
 * @param {string} label
 * @param {string} text
 */
export function copyField(label, text) {
  const field = element('input', { type: 'text', readOnly: true, value: text, 'aria-label': label });
  field.addEventListener('focus', () => field.select());
  const button = element(
    'button',
    { type: 'button', 'aria-label': `Copy ${label}`, on: { click: () => copyText(field) } },
    'Copy',
  );
  return element('div', { className: 'result' }, element('span', { 'aria-hidden': 'true' }, label), field, button);
}

/** @param {HTMLInputElement} field */
async function copyText(field) {
  field.select();
  // the clipboard needs a secure page; the older way does not
  if (navigator.clipboard) await navigator.clipboard.writeText(field.value);
  else document.execCommand('copy');
  notify('Copied.');
}
