/** SHA-256 (FIPS 180-4) in parts, also where the page is not secure and has no `crypto.subtle`. */

const BLOCK = 64;
/** Bytes of a file that are read at a time. */
const PART_BYTES = 4 << 20;

/** @param {number} count */
function primes(count) {
  const found = /** @type {number[]} */ ([]);
  for (let each = 2; found.length < count; each += 1) if (found.every((prime) => each % prime)) found.push(each);
  return found;
}

/** First 32 bits of the fraction of a number. @param {number} value */
const fraction = (value) => ((value - Math.floor(value)) * 2 ** 32) | 0;
const ROUNDS = Int32Array.from(primes(64), (prime) => fraction(Math.cbrt(prime)));
const START = Int32Array.from(primes(8), (prime) => fraction(Math.sqrt(prime)));

/** @param {number} word @param {number} by */
const rotate = (word, by) => (word >>> by) | (word << (32 - by));

/** A digest in the making. */
export class Sha256 {
  constructor() {
    this.state = START.slice();
    this.words = new Int32Array(64);
    this.rest = new Uint8Array(0);
    this.length = 0;
  }

  /** @param {Uint8Array} bytes */
  update(bytes) {
    this.length += bytes.length;
    let all = bytes;
    if (this.rest.length) {
      all = new Uint8Array(this.rest.length + bytes.length);
      all.set(this.rest);
      all.set(bytes, this.rest.length);
    }
    const view = new DataView(all.buffer, all.byteOffset, all.byteLength);
    const end = all.length - (all.length % BLOCK);
    for (let at = 0; at < end; at += BLOCK) this.#block(view, at);
    this.rest = all.slice(end);
  }

  /**
   * @param {DataView} view
   * @param {number} at
   */
  #block(view, at) {
    const { words, state } = this;
    for (let t = 0; t < 16; t += 1) words[t] = view.getInt32(at + 4 * t);
    for (let t = 16; t < 64; t += 1) {
      const early = words[t - 15];
      const late = words[t - 2];
      const low = rotate(early, 7) ^ rotate(early, 18) ^ (early >>> 3);
      const high = rotate(late, 17) ^ rotate(late, 19) ^ (late >>> 10);
      words[t] = (words[t - 16] + low + words[t - 7] + high) | 0;
    }
    // no destructuring: it is a call for each element, and this runs once in 64 bytes
    let a = state[0];
    let b = state[1];
    let c = state[2];
    let d = state[3];
    let e = state[4];
    let f = state[5];
    let g = state[6];
    let h = state[7];
    for (let t = 0; t < 64; t += 1) {
      const first =
        (h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + ROUNDS[t] + words[t]) | 0;
      const second = ((rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + first) | 0;
      d = c;
      c = b;
      b = a;
      a = (first + second) | 0;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
  }

  /** @returns {string} the digest in hexadecimal digits */
  digest() {
    const { length } = this;
    const padding = new Uint8Array(((119 - (length % BLOCK)) % BLOCK) + 9);
    padding[0] = 0x80;
    const view = new DataView(padding.buffer);
    view.setUint32(padding.length - 8, Math.floor(length / 2 ** 29));
    view.setUint32(padding.length - 4, (length * 8) % 2 ** 32);
    this.update(padding);
    return [...this.state].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
  }
}

/**
 * Return the digest of a file.
 * @param {Blob} file
 */
export async function digestOf(file) {
  const digest = new Sha256();
  for (let at = 0; at < file.size; at += PART_BYTES) {
    digest.update(new Uint8Array(await file.slice(at, at + PART_BYTES).arrayBuffer()));
  }
  return digest.digest();
}
