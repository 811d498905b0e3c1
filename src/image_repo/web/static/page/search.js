/** The search box, and the filters of a view as chips. */

import { addFilters, addressOf, filterText, parseSearch } from './address.js';
import { element, icon, part } from './dom.js';

/** @import { View } from './address.js' */

/**
 * Install the search box.
 * @param {() => View} present the present view
 * @param {(view: View) => void} go shows another
 */
export function installSearch(present, go) {
  const form = /** @type {HTMLFormElement} */ (part('search'));
  const input = /** @type {HTMLInputElement} */ (form.elements.namedItem('q'));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const added = parseSearch(input.value);
    input.value = '';
    if (added.length) go({ ...present(), picture: '', filters: addFilters(present().filters, added) });
  });
  return input;
}

/**
 * Show the filters of a view; each can be taken away.
 * @param {View} view
 */
export function showChips(view) {
  const chips = view.filters.map((filter, index) => {
    const others = view.filters.filter((_, other) => other !== index);
    const text = filterText(filter);
    const href = addressOf({ ...view, picture: '', filters: others });
    const remove = element('a', { href, 'aria-label': `Remove ${text}`, data: { view: '' } }, icon('close'));
    return element('li', { className: 'chip' }, element('span', {}, text), remove);
  });
  if (chips.length > 1) {
    const href = addressOf({ ...view, picture: '', filters: [] });
    chips.push(element('li', {}, element('a', { href, className: 'clear', data: { view: '' } }, 'Clear all')));
  }
  part('chips').replaceChildren(...chips);
}
