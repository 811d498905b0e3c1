/** Addresses of small renditions, of sizes that the server accepts: `requests.mode` may allow some alone. */

import { imageUrl, serviceUrl } from './api.js';

/** Side of tiles in pixels (`TILE_PX` of the server). */
const TILE_PX = 512;

/**
 * @typedef {object} Picture
 * @property {string} name
 * @property {string} [version]
 * @property {number} [width] in pixels, where it is known
 * @property {number} [height]
 */

/** Whether the tiles of the image service are all that is rendered. */
let isTiled = false;
let signature = '';

/**
 * Take only such sizes from now on as the server renders.
 * @param {{mode: string, signature?: string} | undefined} requests as `/me` tells
 */
export function limitSizes(requests) {
  isTiled = requests !== undefined;
  signature = requests?.signature ?? '';
}

/** What is to be added to the address of a tile. */
export const tileQuery = () => (signature ? `?signature=${signature}` : '');

/**
 * Return the address of a rendition that fits a square.
 * @param {Picture} picture
 * @param {number} side in pixels; where only tiles are rendered, it is that of the whole picture as one tile
 */
export function renditionUrl({ name, version, width = 0, height = 0 }, side) {
  const ofVersion = version ? { v: version } : null;
  if (!isTiled) return imageUrl(name, { xsize: side, ysize: side, ...ofVersion });
  const query = new URLSearchParams({ ...ofVersion, ...(signature && { signature }) });
  return `${serviceUrl(name)}/full/${tileSize(width, height)}/0/default.jpg${query.size ? `?${query}` : ''}`;
}

/**
 * Return the address of a picture in its full size, as a file.
 * @param {string} name
 */
export function downloadUrl(name) {
  return signature ? `${serviceUrl(name)}/full/max/0/default.jpg${tileQuery()}` : imageUrl(name, { download: '' });
}

/**
 * Return the size of the whole picture as one tile, as the image service spells it.
 * @param {number} width
 * @param {number} height
 */
function tileSize(width, height) {
  let scale = 1;
  while (Math.max(width, height) > TILE_PX * scale) scale *= 2;
  return scale === 1 ? 'max' : `${Math.ceil(width / scale)},${Math.ceil(height / scale)}`;
}
