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

  /** @param {number} index */
  toggle(index) {
    const name = this.listing?.names[index];
    if (name === undefined) return;
    if (!this.names.delete(name)) this.names.add(name);
    this.anchor = index;
    this.#tell();
  }

  /**
   * Select all from the anchor to a picture.
   * @param {number} index
   */
  extend(index) {
    const [first, last] = [this.anchor, index].sort((one, other) => one - other);
    this.listing?.names.slice(first, last + 1).forEach((name) => this.names.add(name));
    this.#tell();
  }

  /** Select everything that the view lists so far. */
  all() {
    this.listing?.names.forEach((name) => this.names.add(name));
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
