/** Pictures that are there more than once, byte for byte. */

import { addressOf, catalogueQuery } from './address.js';
import { getJson, imageUrl } from './api.js';
import { element } from './dom.js';
import { notifyError, openDialog } from './notices.js';
import { counted } from './words.js';

/** @import { View } from './address.js' */

/** The most groups that are listed. */
const MAX_GROUPS = 100;
/** Side of their pictures in pixels. */
const SIDE_PX = 120;

/**
 * Open the list of duplicates in a view; each group leads to its pictures, side by side.
 * @param {View} view
 */
export async function openDuplicates(view) {
  const query = catalogueQuery(view);
  query.set('limit', String(MAX_GROUPS));
  try {
    const { values } = await getJson(`stats/sha256?${query}`);
    // the most frequent come first
    const groups = values.filter((/** @type {{count: number}} */ { count }) => count > 1);
    const dialog = openDialog('Duplicates', content(groups));
    dialog.addEventListener('click', (event) => {
      if (/** @type {HTMLElement} */ (event.target).closest('a')) dialog.close();
    });
  } catch (error) {
    notifyError(error);
  }
}

/** @param {{value: string, count: number}[]} groups */
function content(groups) {
  if (!groups.length) return element('p', { className: 'quiet' }, 'No picture is here twice.');
  const items = groups.map(({ value, count }) => {
    const href = addressOf({ folder: '', sort: '', stack: '', picture: '', filters: [['sha256', value]] });
    const image = element('img', {
      alt: '',
      loading: 'lazy',
      src: imageUrl(`sha256:${value}`, { xsize: SIDE_PX, ysize: SIDE_PX }),
    });
    return element(
      'li',
      {},
      element('a', { href, data: { view: '' } }, image, element('span', {}, counted(count, 'picture'))),
    );
  });
  return element('ul', { className: 'groups' }, ...items);
}
