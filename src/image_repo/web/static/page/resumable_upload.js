/** Uploads in parts (tus 1.0): a large file goes on where its connection broke, also after the page was loaded anew. */

import { ROOT, send, sendBody } from './api.js';

/** @import { RequestError } from './api.js' */

/** Files from this size on go in parts. */
export const RESUMABLE_BYTES = 8 * 2 ** 20;
/** Bytes of a request: what a proxy that takes bodies whole may cost. */
const PART_BYTES = 16 * 2 ** 20;
/** The most characters of metadata, which travels as a header. */
const MAX_METADATA_CHARS = 8_192;
/** Times that a part is tried again where the server has other bytes than expected, or still works on the last ones. */
const MAX_ATTEMPTS = 30;
const LOCKED_PAUSE_MS = 2_000;
/** Milliseconds for which an unfinished upload is remembered here; the server forgets it as well. */
const MAX_AGE_MS = 86_400_000;
const ENDPOINT = `${ROOT.href}uploads`;
const TUS = { 'Tus-Resumable': '1.0.0', Accept: 'application/json' };
const KEY = 'upload in parts ';
/** Statuses of a creation after which the file goes as a whole: no such route, too many, no room. */
const NOT_IN_PARTS = new Set([404, 405, 429, 501, 507]);
const UNAUTHENTICATED = 401;
const NOT_FOUND = 404;
const CONFLICT = 409;
const LOCKED = 423;

/**
 * Send a file in parts.
 * @param {File} file
 * @param {string} name of the image
 * @param {string} data of the image, as JSON; empty for none
 * @param {(sent: number) => void} progress called with bytes
 * @returns {Promise<boolean>} false where the file has to go as a whole
 * @throws {RequestError} where it is refused, or breaks off: the same again goes on
 */
export async function sendInParts(file, name, data, progress) {
  const metadata = metadataOf({ name, filename: file.name, ...(data && { data }) });
  if (metadata.length > MAX_METADATA_CHARS) return false;
  const key = KEY + JSON.stringify([name, file.name, file.size, file.lastModified, data]);
  try {
    const begun = (await resume(key)) ?? (await create(key, file.size, metadata));
    if (begun) await sendParts(begun, file, progress);
    forget(key);
    return Boolean(begun);
  } catch (error) {
    // what broke off goes on; what was refused is not there any more
    const { status } = /** @type {RequestError} */ (error);
    if (status >= 400 && status < 500 && status !== UNAUTHENTICATED && status !== LOCKED) forget(key);
    throw error;
  }
}

/**
 * @typedef {object} Begun
 * @property {string} url of the upload
 * @property {number} offset bytes that the server has
 */

/**
 * @param {Begun} begun
 * @param {File} file
 * @param {(sent: number) => void} progress
 */
async function sendParts({ url, offset }, file, progress) {
  for (let attempts = 0; offset < file.size;) {
    try {
      offset = await sendPart(url, file, offset, progress);
    } catch (error) {
      const { status } = /** @type {RequestError} */ (error);
      attempts += 1;
      if ((status !== CONFLICT && status !== LOCKED) || attempts > MAX_ATTEMPTS) throw error;
      if (status === LOCKED) await new Promise((resolve) => setTimeout(resolve, LOCKED_PAUSE_MS));
      offset = await offsetOf(url);
    }
  }
}

/**
 * @param {string} url
 * @param {File} file
 * @param {number} offset
 * @param {(sent: number) => void} progress
 * @returns {Promise<number>} the offset behind the part
 */
async function sendPart(url, file, offset, progress) {
  const headers = { ...TUS, 'Upload-Offset': String(offset), 'Content-Type': 'application/offset+octet-stream' };
  const part = file.slice(offset, offset + PART_BYTES);
  await sendBody('PATCH', url, part, headers, (loaded) => progress(offset + loaded));
  return offset + part.size;
}

/**
 * Return how many bytes the server has.
 * @param {string} url
 */
async function offsetOf(url) {
  const response = await send(url, { method: 'HEAD', headers: TUS, cache: 'no-store' });
  return Number(response.headers.get('Upload-Offset'));
}

/**
 * Return a new upload; null where the file has to go as a whole.
 * @param {string} key
 * @param {number} size
 * @param {string} metadata
 * @returns {Promise<Begun | null>}
 */
async function create(key, size, metadata) {
  const headers = { ...TUS, 'Upload-Length': String(size), 'Upload-Metadata': metadata };
  try {
    const response = await send(ENDPOINT, { method: 'POST', headers });
    const id = (response.headers.get('Location') ?? '').split('/').pop();
    const url = `${ENDPOINT}/${id}`;
    remember(key, url);
    return { url, offset: 0 };
  } catch (error) {
    if (NOT_IN_PARTS.has(/** @type {RequestError} */ (error).status)) return null;
    throw error;
  }
}

/**
 * Return an upload that began before; null where the server does not have it any more.
 * @param {string} key
 * @returns {Promise<Begun | null>}
 */
async function resume(key) {
  const url = remembered(key);
  if (!url) return null;
  try {
    return { url, offset: await offsetOf(url) };
  } catch (error) {
    if (/** @type {RequestError} */ (error).status !== NOT_FOUND) throw error;
    forget(key);
    return null;
  }
}

/** @param {Record<string, string>} values */
const metadataOf = (values) =>
  Object.entries(values)
    .map(([key, value]) => `${key} ${base64(value)}`)
    .join(',');

/** @param {string} text */
const base64 = (text) => btoa(Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join(''));

// -- what is remembered; some browsers offer no storage --------------------------------------------------------------

/**
 * @param {string} key
 * @param {string} url
 */
function remember(key, url) {
  try {
    for (const other of Object.keys(localStorage)) if (other.startsWith(KEY) && !remembered(other)) forget(other);
    localStorage.setItem(key, JSON.stringify({ url, at: Date.now() }));
  } catch {
    // it goes on after a broken connection, but not after the page was loaded anew
  }
}

/**
 * @param {string} key
 * @returns {string | null}
 */
function remembered(key) {
  try {
    const { url, at } = JSON.parse(localStorage.getItem(key) ?? '{}');
    return url && Date.now() - at < MAX_AGE_MS ? url : null;
  } catch {
    return null;
  }
}

/** @param {string} key */
function forget(key) {
  try {
    localStorage.removeItem(key);
  } catch {
    // nothing is remembered
  }
}
