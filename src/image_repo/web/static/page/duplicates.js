/** Pictures that are there more than once, byte for byte or nearly, side by side. */

import { addressOf, gridQuery } from './address.js';
import { element } from './dom.js';
import { gridParts } from './listing.js';
import { nearFilter, NearGroups } from './near.js';
import { notifyError, openDialog } from './notices.js';
import { renditionUrl } from './renditions.js';
import { bytes, counted, digits, lastPart } from './words.js';

/** @import { View } from './address.js' */
/** @import { Picture } from './renditions.js' */

/** The most groups of a kind that are listed, and pictures of each that are shown. */
const MAX_GROUPS = 50;
const MAX_SHOWN = 6;
/** Side of their pictures in pixels. */
const SIDE_PX = 250;
const SELECT = ['sha256', 'dhash', 'bytes'];
/** Milliseconds of comparing until the page may draw: where many pictures have an edge in common, it takes seconds. */
const SLICE_MS = 40;

/** @typedef {Picture & {sha256: string, bytes: number}} Copy */

/**
 * Open the list of duplicates in a view; each group leads to all of its pictures.
 * @param {View} view
 */
export async function openDuplicates(view) {
  const state = element('p', { className: 'quiet', role: 'status' }, 'Pictures are compared …');
  const dialog = openDialog('Duplicates', state);
  dialog.classList.add('wide');
  const closed = new AbortController();
  dialog.addEventListener('close', () => closed.abort());
  dialog.addEventListener('click', (event) => {
    if (/** @type {HTMLElement} */ (event.target).closest('a')) dialog.close();
  });
  try {
    const { same, near } = await compare(view, closed.signal, (count) => {
      // rounded, so that a screen reader hears of it now and then
      const text = `${digits(count - (count % 1000))} pictures compared …`;
      if (state.textContent !== text) state.textContent = text;
    });
    state.textContent = same.length || near.length ? '' : 'No picture is here twice, or nearly.';
    const ofSame = (/** @type {Copy[]} */ [{ sha256 }]) => [['sha256', sha256]];
    const ofNear = (/** @type {Copy[]} */ [{ name }]) => [nearFilter(name)];
    dialog.append(...section('The same bytes', same, view, ofSame), ...section('Nearly the same', near, view, ofNear));
  } catch (error) {
    if (!closed.signal.aborted) notifyError(error);
  }
}

/**
 * Compare the pictures of a view.
 * @param {View} view
 * @param {AbortSignal} signal
 * @param {(count: number) => void} progress called with how many are compared
 * @returns {Promise<{same: Copy[][], near: Copy[][]}>} groups, the largest first; none is near that is all the same
 */
async function compare(view, signal, progress) {
  /** @type {Copy[]} */
  const copies = [];
  /** @type {Map<string, Copy[]>} */
  const bySha256 = new Map();
  const near = new NearGroups();
  let begun = performance.now();
  for await (const { names, versions, widths, heights, columns } of gridParts(gridQuery(view), SELECT, signal)) {
    for (const [index, name] of names.entries()) {
      const sha256 = columns.sha256[index];
      if (!sha256) continue; // a description without a picture
      const [version, width, height] = [versions[index], widths[index], heights[index]];
      const copy = { name, version, width, height, sha256, bytes: columns.bytes[index] };
      near.add(columns.dhash[index], copies.push(copy) - 1);
      const others = bySha256.get(sha256);
      if (others) others.push(copy);
      else bySha256.set(sha256, [copy]);
      if (performance.now() - begun < SLICE_MS) continue;
      progress(copies.length);
      await new Promise((resolve) => setTimeout(resolve));
      signal.throwIfAborted();
      begun = performance.now();
    }
  }
  const groups = near.groups.filter((each) => each.length > 1).map((each) => each.map((index) => copies[index]));
  return {
    same: largest([...bySha256.values()].filter((each) => each.length > 1)),
    near: largest(groups.filter((each) => each.some(({ sha256 }) => sha256 !== each[0].sha256))),
  };
}

/** @param {Copy[][]} groups */
const largest = (groups) => groups.sort((one, other) => other.length - one.length);

/**
 * @param {string} title
 * @param {Copy[][]} groups
 * @param {View} view
 * @param {(group: Copy[]) => string[][]} filtersOf the filters that find a group
 */
function section(title, groups, view, filtersOf) {
  if (!groups.length) return [];
  const items = groups.slice(0, MAX_GROUPS).map((group) => {
    const filters = /** @type {[string, string][]} */ (filtersOf(group));
    const href = addressOf({ ...view, sort: '', stack: '', picture: '', filters });
    const link = element('a', { href, className: 'all', data: { view: '' } }, counted(group.length, 'picture'));
    return element('li', {}, link, ...group.slice(0, MAX_SHOWN).map((copy) => figure(copy, view, filters)));
  });
  const more = groups.length - items.length;
  const heading = element('h3', {}, `${title}: ${counted(groups.length, 'group')}`);
  const rest = more > 0 && element('p', { className: 'quiet' }, `${digits(more)} more: open a folder, or filter`);
  return [heading, element('ul', { className: 'copies' }, ...items), ...(rest ? [rest] : [])];
}

/**
 * Return a picture of a group, as a link to it.
 * @param {Copy} copy
 * @param {View} view
 * @param {[string, string][]} filters of its group
 */
function figure(copy, view, filters) {
  const href = addressOf({ ...view, sort: '', stack: '', picture: copy.name, filters });
  const facts = `${digits(copy.width ?? 0)} × ${digits(copy.height ?? 0)}, ${bytes(copy.bytes)}`;
  const image = element('img', { alt: '', loading: 'lazy', src: renditionUrl(copy, SIDE_PX) });
  return element(
    'a',
    { href, title: copy.name, data: { view: '' } },
    image,
    element('span', {}, lastPart(copy.name)),
    element('small', { className: 'quiet' }, facts),
  );
}
