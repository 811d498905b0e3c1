/** Where the pictures of a view were taken: dots on an outline of the land; a dot, or a drawn box, is a filter. */

import { addressOf, gridQuery } from './address.js';
import { getJson } from './api.js';
import { element, svgElement } from './dom.js';
import { gridParts } from './listing.js';
import { notifyError, openDialog } from './notices.js';
import { angleText, boxAround, clustersOf, isPosition, linesBetween } from './positions.js';
import { counted, digits } from './words.js';

/** @import { View } from './address.js' */
/** @import { Box, Cluster, Pair } from './positions.js' */
/** @typedef {{latitudes: number[], longitudes: number[]}} Lines of the graticule */

/** Side of the cells of the grid that groups positions, in CSS pixels: each has one dot at most. */
const CELL_PX = 32;
/** The most pixels between two lines of the graticule, about. */
const LINE_PX = 130;
/** The shortest side of a drawn box in CSS pixels; less is a click. */
const MIN_DRAWN_PX = 6;

/**
 * Open the map.
 * @param {View} view
 * @param {Pair} pair keys of latitude and longitude
 * @param {(filters: [string, string][]) => void} choose shows the view with other filters
 */
export async function openMap(view, pair, choose) {
  const map = element('div', { className: 'map' });
  const state = element('p', { className: 'quiet', role: 'status' }, 'Positions are fetched …');
  const dialog = openDialog('Map', map, state);
  dialog.classList.add('wide');
  const closed = new AbortController();
  dialog.addEventListener('close', () => closed.abort());
  dialog.addEventListener('click', (event) => {
    if (/** @type {HTMLElement} */ (event.target).closest('a')) dialog.close();
  });
  try {
    const land = getJson('static/page/land.json', { signal: closed.signal });
    const { latitudes, longitudes, count } = await positionsOf(view, pair, closed.signal);
    state.textContent = `${digits(latitudes.length)} of ${counted(count, 'picture')} tell where. A dot is a filter, and so is a box that is drawn on the map.`;
    if (!latitudes.length) return;
    const { clientWidth: width, clientHeight: height } = map;
    const box = boxAround(latitudes, longitudes, width / height);
    const clusters = clustersOf(latitudes, longitudes, box, Math.ceil(width / CELL_PX), Math.ceil(height / CELL_PX));
    const lines = {
      latitudes: linesBetween(box.south, box.north, height / LINE_PX),
      longitudes: linesBetween(box.west, box.east, width / LINE_PX),
    };
    map.append(
      background(box, lines, (await land).path),
      ...labels(box, lines),
      ...clusters.map((each) => dot(each, box, view, pair)),
    );
    installDrawing(map, box, (drawn) => {
      dialog.close();
      choose(filtersOf(view, pair, drawn));
    });
  } catch (error) {
    if (!closed.signal.aborted) notifyError(error);
  }
}

/**
 * Fetch the positions of a view.
 * @param {View} view
 * @param {Pair} pair
 * @param {AbortSignal} signal
 */
async function positionsOf(view, pair, signal) {
  /** @type {{latitudes: number[], longitudes: number[], count: number}} */
  const positions = { latitudes: [], longitudes: [], count: 0 };
  for await (const { columns, names } of gridParts(gridQuery(view), pair, signal)) {
    positions.count += names.length;
    const [latitudes, longitudes] = pair.map((key) => columns[key]);
    for (const [index, latitude] of latitudes.entries()) {
      if (!isPosition(latitude, longitudes[index])) continue;
      positions.latitudes.push(latitude);
      positions.longitudes.push(longitudes[index]);
    }
  }
  return positions;
}

/**
 * Return the view's filters with a box in place of the one that it has.
 * @param {View} view
 * @param {Pair} pair
 * @param {Box} box
 * @returns {[string, string][]}
 */
function filtersOf(view, [latitude, longitude], { south, north, west, east }) {
  const isOther = (/** @type {string} */ name) => ![latitude, longitude].includes(name.replace(/__(gte|lte)$/, ''));
  return [
    ...view.filters.filter(([name]) => isOther(name)),
    [`${latitude}__gte`, String(south)],
    [`${latitude}__lte`, String(north)],
    [`${longitude}__gte`, String(west)],
    [`${longitude}__lte`, String(east)],
  ];
}

/**
 * Return the land and a graticule.
 * @param {Box} box
 * @param {Lines} lines
 * @param {string} land path in tenths of a degree, y to the south
 */
function background(box, { latitudes, longitudes }, land) {
  const { west, east, south, north } = box;
  const viewBox = `${west} ${-north} ${east - west} ${north - south}`;
  const svg = svgElement('svg', { viewBox, preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  svg.append(svgElement('path', { class: 'land', d: land, transform: 'scale(0.1)' }));
  for (const y of latitudes) svg.append(svgElement('line', { x1: west, x2: east, y1: -y, y2: -y }));
  for (const x of longitudes) svg.append(svgElement('line', { x1: x, x2: x, y1: -north, y2: -south }));
  return svg;
}

/**
 * Return the angles of the graticule, at the left and at the bottom.
 * @param {Box} box
 * @param {Lines} lines
 */
function labels({ west, east, south, north }, { latitudes, longitudes }) {
  const label = (/** @type {string} */ text, /** @type {Partial<CSSStyleDeclaration>} */ style) => {
    const made = element('small', { 'aria-hidden': 'true' }, text);
    Object.assign(made.style, style);
    return made;
  };
  const percent = (/** @type {number} */ part) => `${100 * part}%`;
  return [
    ...latitudes.map((y) => label(angleText(y, 'NS'), { left: '0', top: percent((north - y) / (north - south)) })),
    ...longitudes.map((x) => label(angleText(x, 'EW'), { bottom: '0', left: percent((x - west) / (east - west)) })),
  ];
}

/**
 * Return the dot of a cluster, as a link to the view of its pictures.
 * @param {Cluster} cluster
 * @param {Box} box
 * @param {View} view
 * @param {Pair} pair
 */
function dot(cluster, box, view, pair) {
  const { count, latitude, longitude } = cluster;
  const href = addressOf({ ...view, picture: '', filters: filtersOf(view, pair, cluster) });
  const label = `${counted(count, 'picture')} near ${angleText(latitude, 'NS')}, ${angleText(longitude, 'EW')}`;
  const link = element(
    'a',
    { className: 'place', href, title: label, 'aria-label': label, data: { view: '' } },
    count > 1 ? digits(count) : '',
  );
  const side = `${count > 1 ? 20 + 5 * Math.log2(count) : 14}px`;
  Object.assign(link.style, {
    left: `${(100 * (longitude - box.west)) / (box.east - box.west)}%`,
    top: `${(100 * (box.north - latitude)) / (box.north - box.south)}%`,
    width: side,
    height: side,
  });
  return link;
}

/**
 * Let a box be drawn.
 * @param {HTMLElement} map
 * @param {Box} box that it shows
 * @param {(drawn: Box) => void} done
 */
function installDrawing(map, box, done) {
  /** @type {{x: number, y: number, frame: HTMLElement} | null} */
  let begun = null;
  const place = (/** @type {PointerEvent} */ event) => {
    const { left, top, width, height } = map.getBoundingClientRect();
    return {
      x: Math.min(width, Math.max(0, event.clientX - left)),
      y: Math.min(height, Math.max(0, event.clientY - top)),
    };
  };
  map.addEventListener('pointerdown', (event) => {
    if (event.button || /** @type {HTMLElement} */ (event.target).closest('a')) return;
    map.setPointerCapture(event.pointerId);
    begun = { ...place(event), frame: element('div', { className: 'drawn' }) };
    map.append(begun.frame);
  });
  map.addEventListener('pointermove', (event) => {
    if (!begun) return;
    const { left, top, right, bottom } = rectangle(begun, place(event));
    Object.assign(begun.frame.style, {
      left: `${left}px`,
      top: `${top}px`,
      width: `${right - left}px`,
      height: `${bottom - top}px`,
    });
  });
  map.addEventListener('pointerup', (event) => {
    if (!begun) return;
    const { left, top, right, bottom } = rectangle(begun, place(event));
    begun.frame.remove();
    begun = null;
    if (Math.min(right - left, bottom - top) < MIN_DRAWN_PX) return;
    const longitude = (/** @type {number} */ x) => rounded(box.west + ((box.east - box.west) * x) / map.clientWidth);
    const latitude = (/** @type {number} */ y) => rounded(box.north - ((box.north - box.south) * y) / map.clientHeight);
    done({ west: longitude(left), east: longitude(right), south: latitude(bottom), north: latitude(top) });
  });
}

/**
 * @param {{x: number, y: number}} one corner
 * @param {{x: number, y: number}} other corner
 */
function rectangle(one, other) {
  const [left, right] = [one.x, other.x].sort((first, second) => first - second);
  const [top, bottom] = [one.y, other.y].sort((first, second) => first - second);
  return { left, top, right, bottom };
}

/** @param {number} angle in degrees, to about a metre */
const rounded = (angle) => Number(angle.toFixed(5));
