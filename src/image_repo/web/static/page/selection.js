/** Which pictures are selected, by name: a selection outlives a new order. */

/** @import { Listing } from './listing.js' */

/** The selected pictures of a view. */
export class Selection {
  constructor() {
    /** @type {Set<string>} */
    this.names = new Set();
    /** @type {Listing | null} */
    this.listing = null;
    /** Index from which a range extends. */
    this.anchor = 0;
    /** @type {(() => void)[]} */
    this.listeners = [];
  }

  /** How many are selected. */
  get size() {
    return this.names.size;
  }

  /** Whether anything is selected, so that a click selects instead of opening. */
  get isOn() {
    return this.names.size > 0;
  }

  /** @param {() => void} listener called after each change */
  onChange(listener) {
    this.listeners.push(listener);
  }

  /** @param {string} name */
  has(name) {
    return this.names.has(name);
  }

  /**
   * Return whether all pictures of a cell are selected.
   * @param {number} index
   */
  hasCell(index) {
    return this.#members(index).every((name) => this.names.has(name));
  }

  /**
   * Return the names of the pictures of a cell.
   * @param {number} index
   * @returns {string[]}
   */
  #members(index) {
    return this.listing?.members(index) ?? [];
  }

  /** @param {number} index */
  toggle(index) {
    const isSelected = this.hasCell(index);
    for (const name of this.#members(index)) {
      if (isSelected) this.names.delete(name);
      else this.names.add(name);
    }
    this.anchor = index;
    this.#tell();
  }

  /**
   * Select all from the anchor to a picture.
   * @param {number} index
   */
  extend(index) {
    const [first, last] = [this.anchor, index].sort((one, other) => one - other);
    for (let each = first; each <= last; each += 1) this.#members(each).forEach((name) => this.names.add(name));
    this.#tell();
  }

  /** Select everything that the view lists so far. */
  all() {
    const length = this.listing?.length ?? 0;
    for (let index = 0; index < length; index += 1) this.#members(index).forEach((name) => this.names.add(name));
    this.#tell();
  }

  /** @param {string[]} names that are gone */
  drop(names) {
    names.forEach((name) => this.names.delete(name));
    this.#tell();
  }

  clear() {
    this.names.clear();
    this.#tell();
  }

  #tell() {
    this.listeners.forEach((listener) => listener());
  }
}
