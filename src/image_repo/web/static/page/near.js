/** Pictures that look nearly the same, by their difference hashes. */

import { pathOf } from './api.js';

/** Bits in which the hashes of near duplicates differ at most, as `near=NAME` of the server takes it. */
const DISTANCE = 6;
const BANDS = 4;
const BAND_BITS = 16;
const BAND_VALUES = 1 << BAND_BITS;
/** Of two hashes within the distance, one band differs in at most one bit (pigeonhole principle). */
const PROBES = [0, ...Array.from({ length: BAND_BITS }, (_, bit) => 1 << bit)];

/** Number → how many of its bits are set. */
const BIT_COUNTS = new Uint8Array(BAND_VALUES);
for (let bits = 1; bits < BAND_VALUES; bits += 1) BIT_COUNTS[bits] = BIT_COUNTS[bits >> 1] + (bits & 1);

/**
 * Return the filter that finds what looks like a picture.
 * @param {string} name
 * @returns {[string, string]}
 */
export const nearFilter = (name) => {
  // a comma and digits at the end would be a distance
  const distance = /,\d+$/.test(name) ? `,${DISTANCE}` : '';
  return ['near', pathOf(name) + distance];
};

/** Groups hashes: each is of the first group whose first hash is near. */
export class NearGroups {
  constructor() {
    /** @type {number[][]} of each group what was added, in order */
    this.groups = [];
    /** Group that was added last of each value of each band; -1 for none. */
    this.last = new Int32Array(BANDS * BAND_VALUES).fill(-1);
    /** @type {number[]} of each group and band the group with the same value before it */
    this.before = [];
    /** @type {number[]} of each group and band the value of its first hash */
    this.bands = [];
  }

  /**
   * Add a hash.
   * @param {unknown} hash 16 hexadecimal digits; anything else is passed over
   * @param {number} index what stands in the group
   */
  add(hash, index) {
    if (typeof hash !== 'string' || !/^[0-9a-f]{16}$/.test(hash)) return;
    const bands = Array.from({ length: BANDS }, (_, band) => parseInt(hash.slice(4 * band, 4 * band + 4), 16));
    const group = this.#find(bands);
    if (group < 0) this.#begin(bands, index);
    else this.groups[group].push(index);
  }

  /**
   * Return the first group that is near, or -1.
   * @param {number[]} bands
   */
  #find(bands) {
    let first = -1;
    for (let band = 0; band < BANDS; band += 1) {
      for (const probe of PROBES) {
        let group = this.last[band * BAND_VALUES + (bands[band] ^ probe)];
        for (; group >= 0; group = this.before[group * BANDS + band]) {
          if ((first < 0 || group < first) && this.#isNear(group, bands)) first = group;
        }
      }
    }
    return first;
  }

  /**
   * @param {number} group
   * @param {number[]} bands
   */
  #isNear(group, bands) {
    let distance = 0;
    for (let band = 0; band < BANDS; band += 1) distance += BIT_COUNTS[bands[band] ^ this.bands[group * BANDS + band]];
    return distance <= DISTANCE;
  }

  /**
   * @param {number[]} bands
   * @param {number} index
   */
  #begin(bands, index) {
    const group = this.groups.push([index]) - 1;
    bands.forEach((value, band) => {
      const place = band * BAND_VALUES + value;
      this.before.push(this.last[place]);
      this.bands.push(value);
      this.last[place] = group;
    });
  }
}
