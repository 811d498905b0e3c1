/** Questions before something is done, and notices after it. */

import { element, iconButton } from './dom.js';

/** Milliseconds until a notice without a button goes by itself. */
const NOTICE_MS = 6000;

const region = element('div', { className: 'notices', role: 'status' });

/** Put the notices where they can be used: within the dialog that is on top, as all else is inert meanwhile. */
function placeRegion() {
  const top = [...document.querySelectorAll('dialog[open]')].pop() ?? document.body;
  if (region.parentElement === top) return;
  top.append(region);
  top.addEventListener('close', () => placeRegion(), { once: true });
}

/**
 * Show a notice.
 * @param {string} text
 * @param {{label: string, run: () => void}} [action] a button, with which the notice stays until it is closed
 */
export function notify(text, action) {
  const notice = element('div', { className: 'notice' }, element('span', {}, text));
  if (action) {
    const run = () => {
      notice.remove();
      action.run();
    };
    notice.append(element('button', { type: 'button', on: { click: run } }, action.label));
  } else {
    setTimeout(() => notice.remove(), NOTICE_MS);
  }
  notice.append(iconButton('close', 'Dismiss', () => notice.remove()));
  placeRegion();
  region.replaceChildren(notice);
}

/** @param {unknown} error tells what failed */
export const notifyError = (error) => notify(/** @type {Error} */ (error).message);

/**
 * Ask before something is done.
 * @param {string} question
 * @param {string} explanation
 * @param {string} label of the button that does it
 * @returns {Promise<boolean>}
 */
export function confirmAction(question, explanation, label) {
  return new Promise((resolve) => {
    const title = element('h2', { id: 'question' }, question);
    const cancel = element('button', { type: 'submit', value: '' }, 'Cancel');
    const accept = element('button', { type: 'submit', value: 'yes', className: 'danger' }, label);
    const form = element(
      'form',
      { method: 'dialog' },
      title,
      element('p', {}, explanation),
      element('div', { className: 'buttons' }, cancel, accept),
    );
    const dialog = element('dialog', { className: 'question', 'aria-labelledby': 'question' }, form);
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue === 'yes');
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/**
 * Open a dialog that is removed when it closes, with the focus back where it was.
 * @param {string} title
 * @param {...Node} content
 * @returns {HTMLDialogElement}
 */
export function openDialog(title, ...content) {
  const heading = element('h2', { id: 'dialog-title' }, title);
  const dialog = element('dialog', { className: 'panel', 'aria-labelledby': 'dialog-title' });
  dialog.append(
    element(
      'div',
      { className: 'dialog-head' },
      heading,
      iconButton('close', 'Close', () => dialog.close()),
    ),
    ...content,
  );
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
