/** When the pictures of a view were taken, as a histogram: a bar, or a range of bars, is a filter. */

import { element, part } from './dom.js';
import { boundText, countTimes, spanText } from './times.js';
import { counted } from './words.js';

/** @import { View } from './address.js' */
/** @import { Listing } from './listing.js' */
/** @import { Spans } from './times.js' */

/** The most bars. */
const MAX_BARS = 32;
/** Height of the highest, in CSS pixels. */
const HEIGHT_PX = 56;
/** Keys of times, the better first, with what they tell. */
const KEYS = /** @type {const} */ ([
  ['exif.captured', 'Taken'],
  ['uploaded', 'Uploaded'],
]);
const BOUND = /__(gte|gt|lte|lt)$/;

/** Shows the times of views. */
export class Histogram {
  /** @param {(filters: [string, string][]) => void} choose shows the view with other filters */
  constructor(choose) {
    this.element = part('times');
    this.choose = choose;
    /** @type {View | null} */
    this.view = null;
    this.key = '';
    /** @type {Spans} */
    this.spans = { bounds: [], counts: [], isByDay: true };
    /** First and last bar of the range that is being chosen. */
    this.range = [0, 0];
    this.isDragging = false;
    this.element.addEventListener('keydown', (event) => this.#key(event));
    this.element.addEventListener('pointerdown', (event) => this.#drag(event, true));
    this.element.addEventListener('pointermove', (event) => this.#drag(event, false));
    addEventListener('pointerup', () => this.#drop());
  }

  /**
   * Show the times of a listing, as far as it is known.
   * @param {View} view
   * @param {Listing} listing
   */
  show(view, listing) {
    this.view = view;
    const known = KEYS.find(([key]) => listing.times[key].some((time) => !Number.isNaN(time)));
    this.key = known?.[0] ?? '';
    this.spans = countTimes(known ? listing.times[known[0]] : [], MAX_BARS);
    const { bounds, counts } = this.spans;
    this.element.hidden = counts.length < 2;
    this.isDragging = false;
    if (this.element.hidden) return;
    const hasFocus = this.element.contains(document.activeElement);
    const label = known?.[1] ?? '';
    const bars = element(
      'div',
      {
        className: 'bars',
        role: 'group',
        'aria-label': `${label}: a bar is a filter, Shift with arrows chooses several`,
      },
      ...this.#bars(),
    );
    const range = element(
      'p',
      { className: 'quiet', 'aria-live': 'polite' },
      spanText(bounds[0], bounds[counts.length]),
    );
    this.element.replaceChildren(element('h2', {}, label), bars, range);
    if (hasFocus) this.#focus(0);
  }

  #bars() {
    const { bounds, counts } = this.spans;
    const most = Math.max(...counts);
    return counts.map((count, index) => {
      const text = `${spanText(bounds[index], bounds[index + 1])}: ${counted(count, 'picture')}`;
      const bar = element(
        'button',
        { type: 'button', title: text, 'aria-label': text, tabIndex: index ? -1 : 0, data: { bar: String(index) } },
        element('span'),
      );
      // a single picture among thousands is seen too
      /** @type {HTMLElement} */ (bar.firstChild).style.height =
        `${count ? Math.max(2, Math.round((HEIGHT_PX * count) / most)) : 0}px`;
      return bar;
    });
  }

  /** @param {Event} event @returns {number} index of the bar, or -1 */
  #barOf(event) {
    const bar = /** @type {HTMLElement} */ (event.target).closest('[data-bar]');
    return bar ? Number(/** @type {HTMLElement} */ (bar).dataset.bar) : -1;
  }

  /**
   * @param {PointerEvent} event
   * @param {boolean} isBegin
   */
  #drag(event, isBegin) {
    const index = this.#barOf(event);
    if (index < 0 || (isBegin ? event.button : !this.isDragging)) return;
    // a touch stays with the element that it began on
    if (isBegin) /** @type {HTMLElement} */ (event.target).releasePointerCapture(event.pointerId);
    this.isDragging = true;
    this.#mark(isBegin ? index : this.range[0], index);
  }

  #drop() {
    if (!this.isDragging) return;
    this.isDragging = false;
    this.#apply();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const index = this.#barOf(event);
    if (index < 0) return;
    const last = this.spans.counts.length - 1;
    /** @type {Record<string, number>} */
    const moves = { ArrowLeft: Math.max(0, index - 1), ArrowRight: Math.min(last, index + 1), Home: 0, End: last };
    const isChosen = event.key === 'Enter' || event.key === ' ';
    if (!isChosen && !(event.key in moves)) return;
    event.preventDefault();
    if (isChosen) {
      if (!this.element.querySelector('[aria-pressed="true"]')) this.range = [index, index];
      this.#apply();
      return;
    }
    const target = moves[event.key];
    const begin = this.element.querySelector('[aria-pressed="true"]') ? this.range[0] : index;
    if (event.shiftKey) this.#mark(begin, target);
    else this.#mark(-1, -1);
    this.#focus(target);
  }

  /** @param {number} index */
  #focus(index) {
    const bars = /** @type {NodeListOf<HTMLElement>} */ (this.element.querySelectorAll('[data-bar]'));
    bars.forEach((bar, each) => {
      bar.tabIndex = each === index ? 0 : -1;
    });
    bars[index].focus();
  }

  /**
   * Mark a range; -1 marks none.
   * @param {number} begin
   * @param {number} end
   */
  #mark(begin, end) {
    this.range = [begin, end];
    const [first, last] = [begin, end].sort((one, other) => one - other);
    const { bounds, counts } = this.spans;
    this.element
      .querySelectorAll('[data-bar]')
      .forEach((bar, index) => bar.setAttribute('aria-pressed', String(index >= first && index <= last)));
    const text = first < 0 ? spanText(bounds[0], bounds[counts.length]) : spanText(bounds[first], bounds[last + 1]);
    /** @type {HTMLElement} */ (this.element.lastChild).textContent = text;
  }

  /** Make the range a filter, in place of the one that the view has. */
  #apply() {
    const { bounds, isByDay } = this.spans;
    const [first, last] = [...this.range].sort((one, other) => one - other);
    if (first < 0 || !this.view) return;
    const others = this.view.filters.filter(([name]) => name.replace(BOUND, '') !== this.key);
    this.choose([
      ...others,
      [`${this.key}__gte`, boundText(bounds[first], isByDay)],
      [`${this.key}__lt`, boundText(bounds[last + 1], isByDay)],
    ]);
  }
}
