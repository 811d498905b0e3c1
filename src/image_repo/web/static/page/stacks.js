/** Sequences of pictures as stacks: those that were taken one soon after another are one cell of the grid. */

import { rowAt } from './layout.js';
import { Listing } from './listing.js';
import { folderOf } from './words.js';

/**
 * Return a listing with its stacks, or itself where there are to be none.
 * @param {Listing} listing
 * @param {string} gap in seconds, or empty
 * @param {Set<string>} unfolded names of stacks whose pictures stand one by one
 * @returns {Listing}
 */
export const stacked = (listing, gap, unfolded) => (gap ? new StackedListing(listing, Number(gap), unfolded) : listing);

/** A listing whose sequences are one cell each. A stack has the name of its first picture. */
class StackedListing extends Listing {
  /**
   * @param {Listing} listing
   * @param {number} gap the longest time between two pictures of a sequence, in seconds
   * @param {Set<string>} unfolded names of stacks whose pictures stand one by one
   */
  constructor(listing, gap, unfolded) {
    super();
    this.listing = listing;
    this.unfolded = unfolded;
    /** @type {number[]} */
    const firsts = [];
    /** @type {Map<number, [number, number]>} cell of an unfolded stack → its first cell, and its pictures */
    this.unfoldedCells = new Map();
    for (let first = 0; first < listing.length;) {
      let end = first + 1;
      while (end < listing.length && isNext(listing, end, gap * 1000)) end += 1;
      const count = end - first;
      if (count > 1) this.stackCount += 1;
      const head = firsts.length;
      firsts.push(first);
      if (count > 1 && unfolded.has(listing.names[first])) {
        for (let each = first + 1; each < end; each += 1) firsts.push(each);
        for (let cell = head; cell < firsts.length; cell += 1) this.unfoldedCells.set(cell, [head, count]);
      }
      first = end;
    }
    const pick = (/** @type {any[]} */ column) => firsts.map((index) => column[index]);
    this.names = pick(listing.names);
    this.versions = pick(listing.versions);
    this.widths = pick(listing.widths);
    this.heights = pick(listing.heights);
    this.count = listing.length ? Math.round((listing.count * firsts.length) / listing.length) : 0;
    this.isComplete = listing.isComplete;
    /** Index in the listing of the first picture of each cell, and the number of pictures at the end. */
    this.firsts = Uint32Array.from([...firsts, listing.length]);
  }

  /**
   * @override
   * @param {number} index
   */
  members(index) {
    return this.listing.names.slice(this.firsts[index], this.firsts[index + 1]);
  }

  /**
   * @override
   * @param {number} index
   */
  sizeOf(index) {
    return this.firsts[index + 1] - this.firsts[index];
  }

  /**
   * @override
   * @param {number} index
   */
  unfoldedAt(index) {
    return this.unfoldedCells.get(index) ?? null;
  }

  /**
   * Return the index of the cell that has a picture, or -1.
   * @override
   * @param {string} name
   */
  indexOf(name) {
    const index = this.listing.indexOf(name);
    return index < 0 ? -1 : rowAt(this.firsts, index);
  }

  /**
   * @override
   * @param {number} index
   */
  toggle(index) {
    const head = this.unfoldedAt(index)?.[0] ?? index;
    const name = this.names[head];
    if (this.unfoldedAt(index)) this.unfolded.delete(name);
    else if (this.sizeOf(index) > 1) this.unfolded.add(name);
    else return '';
    return name;
  }
}

/**
 * Return whether a picture belongs to the sequence of the one before it.
 * @param {Listing} listing
 * @param {number} index
 * @param {number} gap in milliseconds
 */
function isNext({ names, times }, index, gap) {
  const taken = times['exif.captured'];
  // false where one has no time
  return Math.abs(taken[index] - taken[index - 1]) <= gap && folderOf(names[index]) === folderOf(names[index - 1]);
}
