/** Folders beside the grid, and the path above it. */

import { addressOf } from './address.js';
import { element, icon, part } from './dom.js';
import { digits, folderOf, lastPart } from './words.js';

/** @import { View } from './address.js' */
/** @import { Listing } from './listing.js' */

/** The most folders that are listed. */
const MAX_FOLDERS = 500;

/**
 * Return the address of a folder under the filters of a view.
 * @param {View} view
 * @param {string} folder
 */
const folderAddress = (view, folder) => addressOf({ ...view, folder, picture: '' });

/**
 * Show the folders below a view's, with how many of its pictures each has.
 * @param {View} view
 * @param {Listing} listing
 */
export function showFolders(view, listing) {
  const below = listing.foldersBelow(view.folder);
  const items = below.slice(0, MAX_FOLDERS).map(([name, count]) => {
    const folder = view.folder ? `${view.folder}/${name}` : name;
    const link = element(
      'a',
      { href: folderAddress(view, folder), data: { view: '' } },
      icon('folder'),
      element('span', {}, name),
    );
    return element(
      'li',
      {},
      link,
      element('span', { className: 'number', 'aria-label': `${digits(count)} pictures` }, digits(count)),
    );
  });
  const more = below.length - MAX_FOLDERS;
  part('folders').replaceChildren(
    element('h2', {}, 'Folders'),
    items.length ? element('ul', {}, ...items) : element('p', { className: 'quiet' }, 'No folders here'),
    ...(more > 0 ? [element('p', { className: 'quiet' }, `${digits(more)} more: search for their names`)] : []),
  );
}

/**
 * Show where a view is, as links to the folders above it.
 * @param {View} view
 */
export function showTrail(view) {
  const links = [];
  for (let folder = view.folder; folder; folder = folderOf(folder)) {
    const above = folderOf(folder);
    links.unshift(
      element('a', { href: folderAddress(view, above), data: { view: '' } }, above ? lastPart(above) : 'All pictures'),
    );
  }
  part('trail').replaceChildren(...links.flatMap((link) => [link, element('span', { 'aria-hidden': 'true' }, '/')]));
  part('title').textContent = view.folder ? lastPart(view.folder) : 'All pictures';
}
