/** The bin: what was deleted or replaced, to be brought back. */

import { getJson } from './api.js';
import { restoreItem } from './changes.js';
import { element } from './dom.js';
import { notify, notifyError, openDialog } from './notices.js';
import { bytes } from './words.js';

/** The most items that are listed. */
const MAX_ITEMS = 200;

/**
 * @typedef {object} Item
 * @property {string} name
 * @property {string} id
 * @property {string} reason
 * @property {string} at
 * @property {number | null} bytes
 */

/**
 * Open the bin of a folder.
 * @param {string} folder without a slash at its end; empty for all
 * @param {() => void} restored called after something is brought back
 */
export async function openBin(folder, restored) {
  const query = new URLSearchParams({ limit: String(MAX_ITEMS), ...(folder && { prefix: `${folder}/` }) });
  let items;
  try {
    ({ items } = await getJson(`trash?${query}`));
  } catch (error) {
    notifyError(error);
    return;
  }
  const rows = items.map((/** @type {Item} */ item) => row(item, restored));
  const content = rows.length
    ? element('ul', { className: 'items' }, ...rows)
    : element('p', { className: 'quiet' }, 'The bin is empty.');
  openDialog(folder ? `Bin of ${folder}` : 'Bin', content);
}

/**
 * @param {Item} item
 * @param {() => void} restored
 */
function row(item, restored) {
  const { name, id, reason, at, bytes: size } = item;
  const button = element('button', { type: 'button', 'aria-label': `Restore ${name}` }, 'Restore');
  const made = element(
    'li',
    {},
    element('span', { className: 'name', title: name }, name),
    element(
      'span',
      { className: 'quiet' },
      [reason, at.slice(0, 16).replace('T', ' '), size && bytes(size)].filter(Boolean).join(', '),
    ),
    button,
  );
  button.addEventListener('click', async () => {
    try {
      await restoreItem(name, id);
    } catch (error) {
      notifyError(error);
      return;
    }
    made.remove();
    notify(`${name} is restored.`);
    restored();
  });
  return made;
}
