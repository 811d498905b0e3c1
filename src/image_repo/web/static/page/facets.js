/** Facets: the values of keys in what the view finds, with counts; and suggestions for the search box. */

import { addFilters, addressOf, catalogueQuery, RECORD } from './address.js';
import { getJson } from './api.js';
import { element, part } from './dom.js';
import { digits } from './words.js';

/** @import { View } from './address.js' */

/** The most keys that are facets, and values that each shows. */
const MAX_FACETS = 6;
const MAX_VALUES = 7;
/** Keys that are facets where records have nothing better. */
const USUAL = ['exif.camera_model', 'media_type'];

/** Shows facets of views, and suggests keys and values. */
export class Facets {
  /**
   * @param {HTMLInputElement} input the search box
   * @param {(keys: string[]) => void} onKeys called with the keys that there are
   */
  constructor(input, onKeys) {
    this.input = input;
    this.onKeys = onKeys;
    /** @type {string[]} */
    this.keys = [];
    this.loading = new AbortController();
    input.addEventListener('focus', () => this.#suggest());
    input.addEventListener('input', () => this.#suggest());
    /** @type {Map<string, string[]>} key → its values */
    this.values = new Map();
  }

  /**
   * Show the facets of a view.
   * @param {View} view
   */
  async show(view) {
    this.loading.abort();
    this.loading = new AbortController();
    const { signal } = this.loading;
    const query = catalogueQuery(view);
    query.set('limit', String(MAX_VALUES));
    try {
      const { keys } = await getJson('keys?limit=200', { signal });
      this.keys = keys.map((/** @type {{key: string}} */ { key }) => key);
      this.onKeys(this.keys);
      const facets = [];
      // one after another: the pictures need the connections
      for (const key of facetKeys(keys)) {
        const answer = await statistics(key, query, signal);
        if (answer.values.length) facets.push(facet(view, key, answer));
        if (facets.length === MAX_FACETS) break;
      }
      part('facets').replaceChildren(...facets);
    } catch {
      // the pictures are there without them, and the listing tells what is wrong
      if (!signal.aborted) part('facets').replaceChildren();
    }
  }

  /** Suggest keys, and behind the = of one its values. */
  async #suggest() {
    const word = this.input.value.match(/\S*$/)?.[0] ?? '';
    const before = this.input.value.slice(0, this.input.value.length - word.length);
    const key = word.match(/^([^=<>!~]+)=/)?.[1];
    let words = this.keys.map((each) => `${each}=`);
    if (key) {
      if (!this.values.has(key)) this.values.set(key, await valuesOf(key));
      words = (this.values.get(key) ?? []).map((value) => `${key}=${/\s/.test(value) ? `"${value}"` : value}`);
    }
    part('suggestions').replaceChildren(...words.map((each) => element('option', { value: before + each })));
  }
}

/**
 * Return the keys that are facets: those of the user's own data with text, the most frequent first.
 * @param {{key: string, types: Record<string, number>}[]} keys
 */
function facetKeys(keys) {
  const isFacet = (/** @type {{key: string, types: Record<string, number>}} */ { key, types }) =>
    !RECORD.test(key) && (types.text || types.boolean || types.number);
  // labels before numbers
  const own = [
    ...keys.filter((each) => isFacet(each) && each.types.text),
    ...keys.filter((each) => isFacet(each) && !each.types.text),
  ].map(({ key }) => key);
  const usual = USUAL.filter((key) => keys.some((each) => each.key === key));
  return [...own.slice(0, MAX_FACETS), ...usual];
}

/**
 * @param {string} key
 * @param {URLSearchParams} query
 * @param {AbortSignal} [signal]
 */
const statistics = (key, query, signal) => getJson(`stats/${encodeURIComponent(key)}?${query}`, { signal });

/** @param {string} key */
async function valuesOf(key) {
  const answer = await statistics(key, new URLSearchParams({ limit: '50' })).catch(() => ({ values: [] }));
  return answer.values.map((/** @type {{value: unknown}} */ { value }) => String(value));
}

/**
 * @param {View} view
 * @param {string} key
 * @param {{values: {value: unknown, count: number}[], more?: number}} answer
 */
function facet(view, key, { values, more }) {
  const items = values.map(({ value, count }) => {
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    const isOn = view.filters.some(([name, chosen]) => name === key && chosen === text);
    const filters = isOn
      ? view.filters.filter(([name, chosen]) => name !== key || chosen !== text)
      : addFilters(view.filters, [[key, text]]);
    const href = addressOf({ ...view, picture: '', filters });
    const link = element(
      'a',
      { href, data: { view: '' }, 'aria-current': isOn ? 'true' : null },
      element('span', {}, text || 'empty'),
    );
    return element('li', {}, link, element('span', { className: 'number' }, digits(count)));
  });
  if (more) items.push(element('li', { className: 'quiet more' }, `and ${digits(more)} more`));
  return element('section', {}, element('h2', {}, key), element('ul', {}, ...items));
}
