/** Requests to the server of this page. */

/** The root of the server, with a slash at its end: the page also works behind a path prefix. */
export const ROOT = new URL('../../', import.meta.url);
const IMAGES = document.documentElement.dataset.images ?? 'images';

/** A refused or failed request. */
export class RequestError extends Error {
  /**
   * @param {string} message for people
   * @param {number} status of HTTP; 0 where the server cannot be reached
   * @param {Record<string, any>} members of the problem (RFC 9457)
   */
  constructor(message, status, members = {}) {
    super(message);
    this.status = status;
    this.members = members;
  }
}

/** Endings of pictures: a path may have one, which is no part of the name. */
const ENDING = new RegExp(`.\\.(${document.documentElement.dataset.endings ?? 'jpg'})$`, 'i');

/**
 * Return a path that is of this image alone: a name that ends as pictures do gets another ending.
 * @param {string} name
 */
export const pathOf = (name) => (ENDING.test(name) ? `${name}.jpg` : name);

/**
 * Return the address of an image.
 * @param {string} name
 * @param {Record<string, string | number>} [parameters]
 */
export const imageUrl = (name, parameters = {}) => fileUrl(pathOf(name), parameters);

/**
 * Return the address of the image that a file is, whose name has the ending of its format.
 * @param {string} path
 * @param {Record<string, string | number>} [parameters]
 */
export function fileUrl(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).map(([key, value]) => [key, String(value)]));
  const encoded = path.split('/').map(encodeURIComponent).join('/');
  return `${ROOT.href}${IMAGES}/${encoded}${query.size ? `?${query}` : ''}`;
}

/**
 * Return the address of the image service of an image (IIIF Image API 3.0).
 * @param {string} name
 */
export const serviceUrl = (name) => `${ROOT.href}iiif/3/${encodeURIComponent(pathOf(name))}`;

/**
 * Return the address of images in general.
 * @param {URLSearchParams} [query]
 */
export const imagesUrl = (query) => `${ROOT.href}${IMAGES}${query?.size ? `?${query}` : ''}`;

/**
 * Make a request.
 * @param {string} url absolute, or relative to the root
 * @param {RequestInit} [options]
 * @returns {Promise<Response>} with a status below 400
 * @throws {RequestError}
 */
export async function send(url, options = {}) {
  let response;
  try {
    response = await fetch(new URL(url, ROOT), { credentials: 'same-origin', ...options });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new RequestError('The server cannot be reached.', 0);
  }
  if (response.ok) return response;
  throw await problemOf(response);
}

/**
 * Return the error that a refused request is.
 * @param {Response} response
 */
async function problemOf(response) {
  const members = await response.json().catch(() => ({}));
  const text = members.detail || members.title || `The server answered with status ${response.status}.`;
  return new RequestError(text, response.status, members);
}

/**
 * Send a body, and tell how much of it is sent, which fetch() does not.
 * @param {string} method
 * @param {string} url
 * @param {XMLHttpRequestBodyInit} body
 * @param {Record<string, string>} headers
 * @param {(loaded: number) => void} progress called with bytes
 * @returns {Promise<void>}
 */
export function sendBody(method, url, body, headers, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.addEventListener('progress', ({ loaded }) => progress(loaded));
    request.addEventListener('load', () => {
      if (request.status < 400) resolve();
      else problemOf(new Response(request.responseText, { status: request.status })).then(reject);
    });
    request.addEventListener('error', () => reject(new RequestError('The server cannot be reached.', 0)));
    request.send(body);
  });
}

/**
 * Return the JSON of an answer.
 * @param {string} url
 * @param {RequestInit} [options]
 * @returns {Promise<any>}
 */
export async function getJson(url, options = {}) {
  return (await send(url, { ...options, headers: { Accept: 'application/json', ...options.headers } })).json();
}

/**
 * Send JSON.
 * @param {string} method
 * @param {string} url
 * @param {unknown} body
 * @param {Record<string, string>} [headers]
 */
export function sendJson(method, url, body, headers = {}) {
  return send(url, {
    method,
    body: JSON.stringify(body),
    headers: { 'Content-Type': 'application/json', Accept: 'application/json', ...headers },
  });
}

/**
 * @typedef {object} Caller who uses the page
 * @property {string | null} name
 * @property {string[]} may
 * @property {string} [login] where to log in, where the server offers it
 * @property {string} [logout]
 * @property {{mode: string, signature?: string, presets?: string[]}} [requests] where only some sizes are rendered
 */

/** @returns {Promise<Caller>} */
export const caller = () => getJson('me');
