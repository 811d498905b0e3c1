/** Numbers and names as people read them. */

const NUMBERS = new Intl.NumberFormat('en');
const UNITS = ['bytes', 'kB', 'MB', 'GB', 'TB'];

/** @param {number} value */
export const digits = (value) => NUMBERS.format(value);

/**
 * Return a count with its noun.
 * @param {number} count
 * @param {string} noun in the singular
 */
export const counted = (count, noun) => `${digits(count)} ${noun}${count === 1 ? '' : 's'}`;

/**
 * Return a size in the decimal units of SI.
 * @param {number} size in bytes
 */
export function bytes(size) {
  let power = 0;
  for (; size >= 1000 && power < UNITS.length - 1; power += 1) size /= 1000;
  return `${size >= 100 || power === 0 ? Math.round(size) : size.toFixed(1)} ${UNITS[power]}`;
}

/**
 * Return a duration such as `2 min 5 s`.
 * @param {number} seconds
 */
export function duration(seconds) {
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/**
 * Return the last part of a name.
 * @param {string} name
 */
export const lastPart = (name) => name.slice(name.lastIndexOf('/') + 1);

/**
 * Return the folder of a name, without a slash at its end.
 * @param {string} name
 */
export const folderOf = (name) => name.slice(0, Math.max(0, name.lastIndexOf('/')));
