/** Changes of images: data, deletion and restoring. */

import { imageUrl, imagesUrl, send, sendJson } from './api.js';

/** Requests at a time. */
const AT_ONCE = 4;

/** @param {string} name */
export const deleteImage = (name) => send(imageUrl(name), { method: 'DELETE' });

/**
 * Bring a version of an image back from the bin.
 * @param {string} name
 * @param {string} id of the item
 */
export const restoreItem = (name, id) => send(imageUrl(name, { restore: id }), { method: 'POST' });

/**
 * Bring back the newest version of an image.
 * @param {string} name
 */
export const restoreImage = (name) => restoreItem(name, 'True');

/**
 * Merge into the data of one image (RFC 7396).
 * @param {string} name
 * @param {Record<string, unknown>} patch
 */
export const patchImage = (name, patch) => sendJson('PATCH', imageUrl(name), patch);

/**
 * Merge into the data of everything that a query finds.
 * @param {URLSearchParams} query
 * @param {Record<string, unknown>} patch
 */
export const patchQuery = (query, patch) => sendJson('PATCH', imagesUrl(query), patch);

/**
 * Do something to each of many names, some at a time.
 * @param {Iterable<string>} names
 * @param {(name: string) => Promise<unknown>} act
 * @param {(done: number) => void} [progress]
 * @returns {Promise<{done: string[], failed: Map<string, Error>}>}
 */
export async function each(names, act, progress = () => {}) {
  const rest = names[Symbol.iterator]();
  const done = /** @type {string[]} */ ([]);
  const failed = /** @type {Map<string, Error>} */ (new Map());
  const work = async () => {
    for (let next = rest.next(); !next.done; next = rest.next()) {
      try {
        await act(next.value);
        done.push(next.value);
      } catch (error) {
        failed.set(next.value, /** @type {Error} */ (error));
      }
      progress(done.length + failed.size);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return { done, failed };
}
