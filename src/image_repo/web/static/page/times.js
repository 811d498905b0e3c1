/** Spans of equal length that times are counted in. Pure; times are milliseconds since 1970, as on the camera's clock. */

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
/** 1970 began on a Thursday, weeks begin on Monday. */
const MONDAY_MS = 4 * DAY_MS;
/** Spans by a clock in milliseconds, then by the calendar in months; each list ascending. */
const BY_CLOCK = [1, 5, 15]
  .map((count) => count * MINUTE_MS)
  .concat(
    [1, 3, 6].map((count) => count * HOUR_MS),
    DAY_MS,
    7 * DAY_MS,
  );
const BY_CALENDAR = [1, 3, 12, 60, 120, 600, 1200];

/**
 * @typedef {object} Spans consecutive spans of time, empty ones too
 * @property {number[]} bounds where each begins, and at last where the last ends
 * @property {number[]} counts of the times in each
 * @property {boolean} isByDay whether all bounds are midnights
 */

/**
 * Return a time of ISO 8601 without its zone, in milliseconds; NaN for anything else.
 * @param {unknown} text such as `2024-05-01T10:00:00+02:00`
 */
export function readTime(text) {
  return typeof text === 'string' ? Date.parse(`${text.slice(0, 19)}Z`) : NaN;
}

/**
 * Count times in spans.
 * @param {Iterable<number>} times NaN is passed over
 * @param {number} max the most spans
 * @returns {Spans}
 */
export function countTimes(times, max) {
  let first = Infinity;
  let last = -Infinity;
  for (const time of times) {
    if (time < first) first = time;
    if (time > last) last = time;
  }
  if (first > last) return { bounds: [], counts: [], isByDay: true };
  const bounds = boundsOf(first, last, max);
  const counts = new Array(bounds.length - 1).fill(0);
  for (const time of times) if (!Number.isNaN(time)) counts[spanAt(bounds, time)] += 1;
  return { bounds, counts, isByDay: bounds.every((bound) => bound % DAY_MS === 0) };
}

/**
 * Return the bounds of the shortest spans that are few enough.
 * @param {number} first time
 * @param {number} last time
 * @param {number} max the most spans
 */
function boundsOf(first, last, max) {
  for (const length of BY_CLOCK) {
    const shift = length === 7 * DAY_MS ? MONDAY_MS : 0;
    const begin = Math.floor((first - shift) / length) * length + shift;
    const count = Math.floor((last - begin) / length) + 1;
    if (count <= max) return Array.from({ length: count + 1 }, (_, index) => begin + index * length);
  }
  for (const months of BY_CALENDAR) {
    const begin = Math.floor(monthOf(first) / months) * months;
    const count = Math.floor((monthOf(last) - begin) / months) + 1;
    if (count <= max) return Array.from({ length: count + 1 }, (_, index) => monthBegin(begin + index * months));
  }
  return [first, last + 1];
}

/** @param {number} time */
function monthOf(time) {
  const date = new Date(time);
  return date.getUTCFullYear() * 12 + date.getUTCMonth();
}

/** @param {number} month since the year 0 */
function monthBegin(month) {
  const date = new Date(0);
  date.setUTCFullYear(Math.floor(month / 12), month % 12, 1);
  return date.getTime();
}

/**
 * Return the span of a time, by bisection.
 * @param {number[]} bounds
 * @param {number} time
 */
function spanAt(bounds, time) {
  let low = 0;
  let high = bounds.length - 2;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (bounds[middle] <= time) low = middle;
    else high = middle - 1;
  }
  return low;
}

/**
 * Return a bound as text that compares with the times of records.
 * @param {number} time
 * @param {boolean} isByDay
 */
export function boundText(time, isByDay) {
  return new Date(time).toISOString().slice(0, isByDay ? 10 : 16);
}

const UTC = /** @type {const} */ ({ timeZone: 'UTC' });
const DAY = new Intl.DateTimeFormat('en-GB', { ...UTC, day: 'numeric', month: 'short', year: 'numeric' });
const MONTH = new Intl.DateTimeFormat('en-GB', { ...UTC, month: 'short', year: 'numeric' });
const CLOCK = new Intl.DateTimeFormat('en-GB', {
  ...UTC,
  day: 'numeric',
  month: 'short',
  year: 'numeric',
  hour: '2-digit',
  minute: '2-digit',
});
const TIME = new Intl.DateTimeFormat('en-GB', { ...UTC, hour: '2-digit', minute: '2-digit' });

/**
 * Return a span as people read it: a month, a day, or from when to when.
 * @param {number} begin
 * @param {number} end
 */
export function spanText(begin, end) {
  if (begin % DAY_MS || end % DAY_MS) {
    const isOneDay = Math.floor(begin / DAY_MS) === Math.floor((end - 1) / DAY_MS);
    return `${CLOCK.format(begin)} to ${(isOneDay ? TIME : CLOCK).format(end)}`;
  }
  if (end - begin === DAY_MS) return DAY.format(begin);
  const [first, beyond] = [begin, end].map(monthOf);
  const isOfMonths = monthBegin(first) === begin && monthBegin(beyond) === end;
  if (!isOfMonths) return `${DAY.format(begin)} to ${DAY.format(end - DAY_MS)}`;
  if (beyond - first === 12 && first % 12 === 0) return String(first / 12);
  return beyond - first === 1 ? MONTH.format(begin) : `${MONTH.format(begin)} to ${MONTH.format(end - DAY_MS)}`;
}
