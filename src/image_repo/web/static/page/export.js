/** What a view shows, for other programs: downloads, a manifest, the query itself, a link to share. */

import { catalogueQuery } from './address.js';
import { getJson, imagesUrl, imageUrl, ROOT } from './api.js';
import { copyField } from './copy.js';
import { element } from './dom.js';
import { notifyError, openDialog } from './notices.js';
import { counted } from './words.js';

/** @import { View } from './address.js' */
/** @import { Caller } from './api.js' */

/** Formats beside pictures and records: text → name. */
const FORMATS = [
  ['CSV', 'csv'],
  ['COCO', 'coco'],
  ['Camtrap DP', 'camtrap'],
  ['Croissant', 'croissant'],
];
/** Lifetime of a link to share, in seconds: a week. */
const LIFETIME_S = 604_800;

/**
 * Open the dialog.
 * @param {View} view
 * @param {number} count of pictures in it
 * @param {Caller | undefined} caller
 */
export function openExport(view, count, caller) {
  const query = catalogueQuery(view);
  const address = (/** @type {string} */ path, /** @type {Record<string, string>} */ more = {}) => {
    const parameters = new URLSearchParams([...query, ...Object.entries(more)]);
    return `${new URL(path, ROOT).href}${parameters.size ? `?${parameters}` : ''}`;
  };
  const link = (/** @type {string} */ text, /** @type {string} */ href, className = 'button') =>
    element('a', { className, href, download: '' }, text);
  const formats = FORMATS.map(([text, format]) => link(text, address('export', { format })));
  const results = element(
    'div',
    { className: 'results' },
    copyField('IIIF manifest', address('iiif/3/query/manifest.json')),
    copyField('API', imagesUrl(query)),
  );
  const dialog = openDialog(
    `Export ${counted(count, 'picture')}`,
    element('p', { className: 'quiet' }, 'A zip with the pictures as they are served, and their records.'),
    element('div', { className: 'buttons' }, link('Zip', address('export'), 'button primary'), ...formats),
    results,
  );
  dialog.classList.add('export');
  if (caller?.name && view.folder && !view.filters.length) results.append(shareButton(view.folder));
}

/** @param {string} folder */
function shareButton(folder) {
  const button = element('button', { type: 'button' }, 'Share this folder for a week');
  button.addEventListener('click', async () => {
    try {
      const { url } = await getJson(imageUrl(`${folder}/`, { share: 'True', lifetime: LIFETIME_S }));
      button.replaceWith(copyField('Share', new URL(url, location.href).href));
    } catch (error) {
      notifyError(error);
    }
  });
  return button;
}
