/** Tools for a view, beside the grid: map, duplicates, bin, server. */

import { openBin } from './bin.js';
import { element, part } from './dom.js';
import { openDuplicates } from './duplicates.js';
import { openMap } from './map.js';
import { positionKeys } from './positions.js';
import { openServer } from './server.js';

/** @import { View } from './address.js' */
/** @import { Host } from './picture.js' */

/** @typedef {Host & {view: View, go: (view: View) => void}} Page */

/**
 * Install what the caller may use.
 * @param {Page} page
 */
export function installTools(page) {
  const button = (/** @type {string} */ text, /** @type {() => void} */ click) =>
    element('button', { type: 'button', className: 'quiet', on: { click } }, text);
  const tools = [];
  if (page.may('write')) tools.push(button('Bin', () => openBin(page.view.folder, () => page.reload())));
  tools.push(button('Duplicates', () => openDuplicates(page.view)));
  // where anybody may delete, anybody may look
  const isOperator = page.may('administer') || (!page.caller?.name && page.may('delete'));
  if (isOperator) tools.push(button('Server', () => openServer(page.may('administer'))));
  part('side').append(element('div', { className: 'buttons' }, ...tools));
}

/**
 * Offer the map, where records have positions.
 * @param {Page} page
 * @param {string[]} keys that records have
 */
export function offerMap(page, keys) {
  const pair = positionKeys(keys);
  const button = part('map');
  button.hidden = !pair;
  button.onclick = () => pair && openMap(page.view, pair, (filters) => page.go({ ...page.view, picture: '', filters }));
}
