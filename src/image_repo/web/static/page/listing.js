/** The pictures of a view: columns that are fetched part by part, the first of them at once. */

import { getJson } from './api.js';
import { ratioOf } from './layout.js';
import { readTime } from './times.js';

/** The most pictures that one view lists. */
const MAX_PICTURES = 500_000;
/** Keys of times that a listing has beside its columns. */
export const TIMES = /** @type {const} */ (['exif.captured', 'uploaded']);

/**
 * Fetch what `/grid` has, part by part.
 * @param {URLSearchParams} query
 * @param {readonly string[]} select keys of further columns
 * @param {AbortSignal} signal
 */
export async function* gridParts(query, select, signal) {
  const parameters = new URLSearchParams(query);
  parameters.set('select', select.join());
  for (let count = 0; count < MAX_PICTURES;) {
    const part = await getJson(`grid?${parameters}`, { signal });
    count += part.names.length;
    yield part;
    if (!part.after) return;
    parameters.set('after', part.after);
  }
}

/** Columns of a view. */
export class Listing {
  constructor() {
    /** @type {string[]} */
    this.names = [];
    /** @type {string[]} */
    this.versions = [];
    /** @type {number[]} pixels, 0 for a description without a picture */
    this.widths = [];
    /** @type {number[]} */
    this.heights = [];
    /** @type {Record<typeof TIMES[number], number[]>} milliseconds, NaN for none (`times.js`) */
    this.times = { 'exif.captured': [], uploaded: [] };
    /** How many match, of which `names` has the first. */
    this.count = 0;
    this.isComplete = false;
    /** How many stacks there are (`stacks.js`). */
    this.stackCount = 0;
  }

  /** How many are known so far. */
  get length() {
    return this.names.length;
  }

  /**
   * Fetch all parts.
   * @param {URLSearchParams} query of `/grid`
   * @param {AbortSignal} signal
   * @param {(part: Record<string, any>, isFirst: boolean) => void} progress called after each part
   */
  async load(query, signal, progress) {
    let isFirst = true;
    for await (const part of gridParts(query, TIMES, signal)) {
      this.#append(part, isFirst);
      this.isComplete = !part.after || this.length >= MAX_PICTURES;
      progress(part, isFirst);
      isFirst = false;
    }
  }

  /**
   * @param {Record<string, any>} part
   * @param {boolean} isFirst
   */
  #append(part, isFirst) {
    for (const column of /** @type {const} */ (['names', 'versions', 'widths', 'heights'])) {
      // not spread into push(): an argument list has a limit
      const target = /** @type {any[]} */ (this[column]);
      for (const value of part[column]) target.push(value);
    }
    for (const key of TIMES) for (const value of part.columns[key]) this.times[key].push(readTime(value));
    if (isFirst) this.count = part.count;
    if (!part.after || this.length > this.count) this.count = this.length;
  }

  /**
   * Return the ratio of width to height of a cell.
   * @param {number} index
   */
  ratio(index) {
    return ratioOf(this.widths[index], this.heights[index]);
  }

  /**
   * Return the names of the pictures of a cell: one, but for a stack.
   * @param {number} index
   */
  members(index) {
    return this.names.slice(index, index + 1);
  }

  /**
   * Return how many pictures a cell stands for.
   * @param {number} index
   * @returns {number}
   */
  sizeOf(index) {
    return index < this.length ? 1 : 0;
  }

  /**
   * Return the first cell of the unfolded stack that a cell is of, and its count of pictures; null where it is of none.
   * @param {number} _index
   * @returns {[number, number] | null}
   */
  unfoldedAt(_index) {
    return null;
  }

  /**
   * Fold or unfold the stack of a cell.
   * @param {number} _index
   * @returns {string} the name of the stack; empty where there is none
   */
  toggle(_index) {
    return '';
  }

  /** @param {number} index */
  picture(index) {
    return {
      name: this.names[index],
      version: this.versions[index],
      width: this.widths[index],
      height: this.heights[index],
    };
  }

  /**
   * Return the index of a picture, or -1.
   * @param {string} name
   */
  indexOf(name) {
    return this.names.indexOf(name);
  }

  /**
   * Remove pictures that are gone.
   * @param {Set<string>} names
   */
  remove(names) {
    const stays = this.names.map((name) => !names.has(name));
    const pick = (/** @type {any[]} */ column) => column.filter((_, index) => stays[index]);
    this.count -= stays.filter((each) => !each).length;
    this.names = pick(this.names);
    this.versions = pick(this.versions);
    this.widths = pick(this.widths);
    this.heights = pick(this.heights);
    for (const key of TIMES) this.times[key] = pick(this.times[key]);
  }

  /**
   * Return the folders just below one, in order, with how many of the pictures lie in each.
   * @param {string} folder without a slash at its end
   * @returns {[string, number][]}
   */
  foldersBelow(folder) {
    const from = folder ? folder.length + 1 : 0;
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (const name of this.names) {
      const slash = name.indexOf('/', from);
      if (slash < 0) continue;
      const below = name.slice(from, slash);
      counts.set(below, (counts.get(below) ?? 0) + 1);
    }
    const { compare } = new Intl.Collator('en', { numeric: true });
    return [...counts].sort(([one], [other]) => compare(one, other));
  }
}
