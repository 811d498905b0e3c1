/** What is done to all selected pictures: edit their data, delete, download. */

import { catalogueQuery, RECORD } from './address.js';
import { getJson, ROOT } from './api.js';
import { deleteImage, each, patchImage, patchQuery, restoreImage } from './changes.js';
import { element, part } from './dom.js';
import { valueOf } from './labels.js';
import { confirmAction, notify, notifyError, openDialog } from './notices.js';
import { parse } from './record.js';
import { counted, digits } from './words.js';

/** @import { Selection } from './selection.js' */
/** @import { View } from './address.js' */
/** @import { Host } from './picture.js' */

/** The most characters of names in a query: servers limit the length of a URL. */
const MAX_NAMES_CHARS = 4000;
/** The most keys that are fields, and values of each in its tally. */
const MAX_KEYS = 12;
const MAX_VALUES = 5;

/** The bar that appears while something is selected. */
export class SelectionBar {
  /**
   * @param {Host & {view: View}} host
   * @param {Selection} selection
   */
  constructor(host, selection) {
    this.host = host;
    this.selection = selection;
    this.count = element('span', { role: 'status' });
    const button = (/** @type {string} */ text, /** @type {() => void} */ click, className = '') =>
      element('button', { type: 'button', className, on: { click } }, text);
    this.element = element(
      'div',
      { className: 'selection', role: 'toolbar', 'aria-label': 'Selected pictures', hidden: true },
      this.count,
      button('All', () => selection.all()),
      button('Download', () => this.download()),
      host.may('write') && button('Edit', () => this.edit()),
      host.may('delete') && button('Delete', () => this.remove(), 'danger'),
      button('Clear', () => selection.clear()),
    );
    part('main').append(this.element);
    selection.onChange(() => this.#show());
  }

  #show() {
    this.element.hidden = !this.selection.isOn;
    this.count.textContent = `${digits(this.selection.size)} selected`;
  }

  /**
   * Return the query that finds just what is selected; null where only names can say it.
   * @returns {URLSearchParams | null}
   */
  #query() {
    const { host, selection } = this;
    const { listing, view } = host;
    const isAll =
      listing.isComplete && selection.size === listing.length && listing.names.every((name) => selection.has(name));
    if (isAll && (view.filters.length || view.folder)) return catalogueQuery(view);
    const names = [...selection.names];
    const isShort = names.reduce((sum, name) => sum + name.length + 1, 0) <= MAX_NAMES_CHARS;
    return isShort && !names.some((name) => name.includes(','))
      ? new URLSearchParams({ name__in: names.join() })
      : null;
  }

  /** Download a zip of the selected pictures with their records. */
  download() {
    const query = this.#query();
    if (!query) notify('These are too many to name in one download: filter for them, then select all.');
    else element('a', { href: new URL(`export?${query}`, ROOT).href, download: '' }).click();
  }

  async remove() {
    const names = [...this.selection.names];
    if (!names.length) return;
    const text = counted(names.length, 'picture');
    if (
      !(await confirmAction(
        `Delete ${text}?`,
        'They stay in the bin for some days, and can be brought back.',
        'Delete',
      ))
    )
      return;
    const { done, failed } = await each(names, deleteImage, (count) => this.#progress('Deleting', count, names.length));
    this.host.removed(done);
    const result = `${counted(done.length, 'picture')} deleted${failed.size ? `, ${digits(failed.size)} failed: ${firstMessage(failed)}` : ''}.`;
    notify(result, { label: 'Undo', run: () => this.#restore(done) });
  }

  /** @param {string[]} names */
  async #restore(names) {
    const { done, failed } = await each(names, restoreImage, (count) =>
      this.#progress('Restoring', count, names.length),
    );
    notify(
      `${counted(done.length, 'picture')} restored${failed.size ? `, ${digits(failed.size)} failed: ${firstMessage(failed)}` : ''}.`,
    );
    await this.host.reload();
  }

  /**
   * @param {string} verb
   * @param {number} count
   * @param {number} total
   */
  #progress(verb, count, total) {
    if (total > 20 && count % 10 === 0) notify(`${verb}: ${digits(count)} of ${digits(total)}`);
  }

  /** Edit the data of all: a value that is given replaces, all else stays. */
  async edit() {
    if (!this.selection.isOn) return;
    const query = this.#query();
    const fields = element('div', { className: 'fields' });
    const text = element('textarea', {
      id: 'bulk-data',
      rows: 5,
      spellcheck: false,
      placeholder: '{"species": "fox"}',
      'aria-describedby': 'bulk-mistake',
    });
    const mistake = element('p', { id: 'bulk-mistake', className: 'mistake', role: 'alert' });
    const save = element('button', { type: 'submit', className: 'primary' }, 'Save');
    const hint = element('p', { className: 'quiet' }, 'What is empty stays as it is. In JSON, null removes a key.');
    const form = element('form', {}, hint, fields, element('label', { for: 'bulk-data' }, 'Data'), text, mistake, save);
    const dialog = openDialog(`Edit ${counted(this.selection.size, 'picture')}`, form);
    text.focus();
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      const { value, problem } = patchOf(fields, text.value);
      mistake.textContent = problem;
      if (problem) return;
      save.disabled = true;
      await this.#patch(query, value);
      dialog.close();
    });
    if (query) await fillTallies(fields, query).catch(notifyError);
  }

  /**
   * @param {URLSearchParams | null} query
   * @param {Record<string, unknown>} patch
   */
  async #patch(query, patch) {
    try {
      if (query) {
        const { modified } = await (await patchQuery(query, patch)).json();
        notify(`${counted(modified, 'picture')} changed.`);
      } else {
        const { done, failed } = await each(this.selection.names, (name) => patchImage(name, patch));
        notify(
          `${counted(done.length, 'picture')} changed${failed.size ? `, ${digits(failed.size)} failed: ${firstMessage(failed)}` : ''}.`,
        );
      }
    } catch (error) {
      notifyError(error);
    }
    await this.host.reload();
  }
}

/** @param {Map<string, Error>} failed */
const firstMessage = (failed) => [...failed.values()][0]?.message ?? '';

/**
 * Return what is to be merged, from the fields and from JSON.
 * @param {HTMLElement} fields
 * @param {string} text
 * @returns {{value: Record<string, unknown>, problem: string}}
 */
function patchOf(fields, text) {
  const { value, problem } = text.trim() ? parse(text) : { value: {}, problem: '' };
  if (problem) return { value: {}, problem };
  if (!value || typeof value !== 'object' || Array.isArray(value))
    return { value: {}, problem: 'Expected a JSON object, such as {"species": "fox"}.' };
  const given = [...fields.querySelectorAll('input')].filter((input) => input.value);
  const patch = { ...Object.fromEntries(given.map((input) => [input.name, valueOf(input.value)])), ...value };
  return { value: patch, problem: Object.keys(patch).length ? '' : 'Nothing is changed yet.' };
}

/**
 * Show the keys of the data as fields, each with its values and how many have them: `fox (12)`.
 * @param {HTMLElement} fields
 * @param {URLSearchParams} query
 */
async function fillTallies(fields, query) {
  const { keys } = await getJson('keys?limit=200');
  const isOwn = (/** @type {{key: string, types: Record<string, number>}} */ { key, types }) =>
    (types.text || types.number || types.boolean) && !RECORD.test(key) && !key.includes('.');
  const own = keys
    .filter(isOwn)
    .slice(0, MAX_KEYS)
    .map((/** @type {{key: string}} */ { key }) => key);
  const rows = await Promise.all(
    own.map(async (/** @type {string} */ key) => {
      const { values, more = 0 } = await getJson(`stats/${encodeURIComponent(key)}?${query}&limit=${MAX_VALUES}`);
      const tally = values.map(
        (/** @type {{value: unknown, count: number}} */ { value, count }) => `${value} (${digits(count)})`,
      );
      return tallyField(key, [...tally, ...(more ? [`${digits(more)} more`] : [])].join(', '));
    }),
  );
  fields.replaceChildren(...rows);
}

/**
 * @param {string} key
 * @param {string} tally
 */
function tallyField(key, tally) {
  const input = element('input', { type: 'text', name: key });
  return element(
    'label',
    {},
    element('span', {}, key),
    input,
    element('small', { className: 'quiet' }, tally || 'nothing yet'),
  );
}
