/** The grid: any number of pictures, of which the rows near the window are in the document. */

import { makeCell } from './cells.js';
import { element, part } from './dom.js';
import { layRows, rowAt, verticalNeighbour } from './layout.js';

/** @import { Listing } from './listing.js' */
/** @import { Selection } from './selection.js' */

/** The most pictures in the document. */
const MAX_CELLS = 390;
/** Between pictures, in CSS pixels. */
const GAP = 6;
/** Above this speed in CSS pixels a millisecond, pictures wait until the scrolling slows down. */
const MAX_SPEED = 6;
/** After the last fast scroll, milliseconds until pictures are fetched. */
const SETTLED_MS = 80;

/** Shows a listing. */
export class Grid {
  /**
   * @param {Selection} selection
   * @param {(index: number) => void} open shows a picture, or unfolds a stack
   * @param {(index: number) => void} fold folds the stack of a cell
   */
  constructor(selection, open, fold) {
    this.element = part('grid');
    this.selection = selection;
    this.open = open;
    this.fold = fold;
    /** @type {Listing | null} */
    this.listing = null;
    /** Wanted height of rows in CSS pixels. */
    this.rowHeight = 200;
    /** Index of the picture that has the focus when the grid does. */
    this.current = 0;
    /** @type {Map<number, HTMLElement>} rows in the document */
    this.rows = new Map();
    this.layout = layRows([], [], { width: 1, height: 1, gap: GAP });
    this.width = 0;
    this.scrolled = { top: 0, at: 0, timer: 0 };
    addEventListener('scroll', () => this.#scroll(), { passive: true });
    new ResizeObserver(() => this.#resize()).observe(this.element);
    addEventListener('resize', () => this.render());
    this.element.addEventListener('click', (event) => this.#click(event));
    this.element.addEventListener('focusin', (event) => this.#focusIn(event));
    selection.onChange(() => this.#mark());
  }

  /**
   * Show a listing, from its beginning.
   * @param {Listing} listing
   */
  show(listing) {
    this.listing = listing;
    this.current = 0;
    this.update();
  }

  /**
   * Show another arrangement of the listing, where the window is.
   * @param {Listing} listing
   */
  replace(listing) {
    this.listing = listing;
    this.update();
  }

  /** Lay the listing out again, after it or the width changed; what is at the top of the window stays there. */
  update() {
    if (!this.listing) return;
    const top = Math.max(0, -this.element.getBoundingClientRect().top);
    const row = rowAt(this.layout.tops, top);
    const first = this.layout.count && top ? this.layout.firsts[row] : 0;
    const into = top - (this.layout.tops[row] ?? 0);
    this.width = this.element.clientWidth;
    const { widths, heights } = this.listing;
    this.layout = layRows(widths, heights, { width: this.width, height: this.rowHeight, gap: GAP });
    this.rows.forEach((each) => each.remove());
    this.rows.clear();
    const { count, tops, firsts } = this.layout;
    const known = tops[count];
    const missing = this.listing.length ? (this.listing.count - this.listing.length) / this.listing.length : 0;
    this.element.style.height = `${Math.round(known * (1 + missing))}px`;
    this.element.setAttribute('aria-rowcount', String(this.listing.isComplete ? count : -1));
    if (first && first < this.listing.length) {
      scrollBy({ top: tops[rowAt(firsts, first)] + into - top, behavior: 'instant' });
    }
    this.render();
  }

  /** Put the rows near the window into the document, and take the others out. */
  render() {
    const { count, tops } = this.layout;
    if (!count || this.element.closest('[hidden]')) return;
    const above = -this.element.getBoundingClientRect().top;
    const [first, last] = this.#window(rowAt(tops, above), rowAt(tops, above + innerHeight));
    for (const [row, made] of this.rows) {
      if (row < first || row > last) {
        if (made.contains(document.activeElement)) continue; // the focus must not be lost
        made.remove();
        this.rows.delete(row);
      }
    }
    for (let row = first; row <= last; row += 1) if (!this.rows.has(row)) this.#addRow(row);
    if (!this.#isFast()) this.#fetch();
  }

  /**
   * Return first and last row to have in the document: what is visible, and about a window around it.
   * @param {number} first visible row
   * @param {number} last visible row
   */
  #window(first, last) {
    const { count, firsts } = this.layout;
    const visible = last - first + 1;
    let from = first;
    let to = last;
    const fits = () => firsts[Math.min(count, to + 1)] - firsts[Math.max(0, from)] < MAX_CELLS;
    for (let more = 0; more < visible && fits(); more += 1) {
      to = Math.min(count - 1, to + 1);
      if (fits()) from = Math.max(0, from - 1);
    }
    return [from, to];
  }

  /** @param {number} row */
  #addRow(row) {
    const { firsts, tops, heights } = this.layout;
    const made = element('div', { role: 'row', className: 'row', 'aria-rowindex': row + 1 });
    Object.assign(made.style, { top: `${tops[row]}px`, height: `${heights[row]}px` });
    for (let index = firsts[row]; index < firsts[row + 1]; index += 1) made.append(this.#cell(index, heights[row]));
    this.rows.set(row, made);
    // in the order of reading, whichever way was scrolled
    const next = [...this.rows.keys()].filter((each) => each > row).sort((one, other) => one - other)[0];
    this.element.insertBefore(made, next === undefined ? null : /** @type {Node} */ (this.rows.get(next)));
  }

  /**
   * @param {number} index
   * @param {number} height in CSS pixels
   */
  #cell(index, height) {
    const listing = /** @type {Listing} */ (this.listing);
    return makeCell(listing, index, height, {
      isCurrent: index === this.current,
      isSelected: this.selection.hasCell(index),
    });
  }

  /** Fetch the pictures of all cells in the document. */
  #fetch() {
    for (const image of this.element.querySelectorAll('img[data-source]')) {
      const { dataset } = /** @type {HTMLImageElement} */ (image);
      image.addEventListener('load', () => image.classList.add('loaded'), { once: true });
      image.addEventListener('error', () => image.parentElement?.classList.add('failed'), { once: true });
      /** @type {HTMLImageElement} */ (image).src = dataset.source ?? '';
      delete dataset.source;
    }
  }

  #scroll() {
    clearTimeout(this.scrolled.timer);
    this.render();
    this.scrolled.timer = setTimeout(() => this.#fetch(), SETTLED_MS);
  }

  #isFast() {
    const now = performance.now();
    const speed = Math.abs(scrollY - this.scrolled.top) / Math.max(1, now - this.scrolled.at);
    Object.assign(this.scrolled, { top: scrollY, at: now });
    return speed > MAX_SPEED;
  }

  #resize() {
    if (this.element.clientWidth !== this.width) this.update();
  }

  /** @param {MouseEvent} event */
  #click(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const cell = /** @type {HTMLElement | null} */ (target.closest('.cell'));
    if (!cell) return;
    const index = Number(cell.dataset.index);
    this.focus(index);
    if (target.matches('button.stack')) this.fold(index);
    else if (event.shiftKey) this.selection.extend(index);
    else if (target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || this.selection.isOn)
      this.selection.toggle(index);
    else this.open(index);
    this.#mark();
  }

  /** @param {FocusEvent} event */
  #focusIn(event) {
    const cell = /** @type {HTMLElement} */ (event.target).closest('.cell');
    if (cell) this.#setCurrent(Number(/** @type {HTMLElement} */ (cell).dataset.index));
  }

  /** @param {number} index */
  #setCurrent(index) {
    const old = this.cellOf(this.current);
    if (old) old.tabIndex = -1;
    this.current = index;
    const cell = this.cellOf(index);
    if (cell) cell.tabIndex = 0;
  }

  /**
   * Return the cell of a picture, where it is in the document.
   * @param {number} index
   * @returns {HTMLElement | null}
   */
  cellOf(index) {
    return this.element.querySelector(`[data-index="${index}"]`);
  }

  /**
   * Move the focus to a picture, and scroll to it.
   * @param {number} index
   */
  focus(index) {
    const length = this.listing?.length ?? 0;
    if (!length) return;
    this.#setCurrent(Math.min(length - 1, Math.max(0, index)));
    this.scrollTo(this.current);
    this.cellOf(this.current)?.focus({ preventScroll: true });
  }

  /**
   * Scroll until a picture is in the window.
   * @param {number} index
   */
  scrollTo(index) {
    const row = rowAt(this.layout.firsts, index);
    const box = this.element.getBoundingClientRect();
    const top = box.top + this.layout.tops[row];
    const bottom = top + this.layout.heights[row];
    const bar = parseFloat(getComputedStyle(document.documentElement).scrollPaddingTop) || 0;
    if (top < bar) scrollBy({ top: top - bar, behavior: 'instant' });
    else if (bottom > innerHeight) scrollBy({ top: bottom - innerHeight + GAP, behavior: 'instant' });
    this.render();
  }

  /**
   * Return the picture above or below another.
   * @param {number} index
   * @param {number} rows how many further down, negative for up
   */
  vertical(index, rows) {
    return verticalNeighbour(this.layout, (each) => /** @type {Listing} */ (this.listing).ratio(each), index, rows);
  }

  /** Show which cells are selected. */
  #mark() {
    this.element.classList.toggle('selecting', this.selection.isOn);
    for (const cell of this.element.querySelectorAll('.cell')) {
      const index = Number(/** @type {HTMLElement} */ (cell).dataset.index);
      const isSelected = this.selection.hasCell(index);
      cell.setAttribute('aria-selected', String(isSelected));
      const box = cell.querySelector('input');
      if (box) box.checked = isSelected;
    }
  }
}
