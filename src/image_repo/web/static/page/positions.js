/** Positions of pictures in degrees (WGS 84), and how they are grouped. Pure. */

/** Keys of latitude and longitude: the camera's, which records hold where the server is set up so, then users' own. */
const PAIRS = /** @type {const} */ ([
  ['exif.latitude', 'exif.longitude'],
  ['latitude', 'longitude'],
  ['decimalLatitude', 'decimalLongitude'],
  ['lat', 'lon'],
  ['lat', 'lng'],
]);
/** The least height of a map: about a kilometre. */
const MIN_HEIGHT = 0.01;
/** Of a map around the positions. */
const MARGIN = 1.3;
/** Distances between lines of the graticule. */
const STEPS = [30, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001];

/** @typedef {readonly [string, string]} Pair keys of latitude and longitude */
/** @typedef {{west: number, east: number, south: number, north: number}} Box */
/**
 * @typedef {Box & {count: number, latitude: number, longitude: number}} Cluster the box of its positions, and their
 *   mean
 */

/**
 * Return the keys that hold positions; null where there are none.
 * @param {string[]} keys
 * @returns {Pair | null}
 */
export function positionKeys(keys) {
  return PAIRS.find((pair) => pair.every((key) => keys.includes(key))) ?? null;
}

/**
 * Return whether two values are a position.
 * @param {unknown} latitude
 * @param {unknown} longitude
 */
export function isPosition(latitude, longitude) {
  const isWithin = (/** @type {unknown} */ value, /** @type {number} */ most) =>
    typeof value === 'number' && Math.abs(value) <= most;
  return isWithin(latitude, 90) && isWithin(longitude, 180);
}

/**
 * Return the part of the world that a map of positions shows.
 * @param {number[]} latitudes
 * @param {number[]} longitudes as many, and at least one
 * @param {number} ratio of its width to its height as it is drawn
 * @returns {Box}
 */
export function boxAround(latitudes, longitudes, ratio) {
  const [south, north] = rangeOf(latitudes);
  const [west, east] = rangeOf(longitudes);
  const middle = (south + north) / 2;
  const shrink = shrinkAt(middle);
  const height = Math.max(MIN_HEIGHT, (north - south) * MARGIN, ((east - west) * MARGIN * shrink) / ratio);
  const width = Math.min(360, (height * ratio) / shrink);
  const bounded = Math.min(180, height);
  const top = Math.min(90, Math.max(middle + bounded / 2, -90 + bounded));
  const left = Math.min(180 - width, Math.max((west + east) / 2 - width / 2, -180));
  return { west: left, east: left + width, south: top - bounded, north: top };
}

/**
 * Return how much shorter a degree of longitude is at a latitude; of a map that has the poles, it is drawn as long.
 * @param {number} latitude
 */
export const shrinkAt = (latitude) => Math.max(0.2, Math.cos((latitude * Math.PI) / 180));

/** @param {number[]} values */
function rangeOf(values) {
  let [least, most] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  return [least, most];
}

/**
 * Group positions by the cells of a grid.
 * @param {number[]} latitudes
 * @param {number[]} longitudes
 * @param {Box} box that all lie in
 * @param {number} columns cells in a row
 * @param {number} rows
 * @returns {Cluster[]} the largest last
 */
export function clustersOf(latitudes, longitudes, box, columns, rows) {
  /** @type {Map<number, Cluster>} */
  const clusters = new Map();
  const across = (box.east - box.west) / columns || 1;
  const down = (box.north - box.south) / rows || 1;
  latitudes.forEach((latitude, index) => {
    const longitude = longitudes[index];
    const cell =
      Math.floor((latitude - box.south) / down) * (columns + 1) + Math.floor((longitude - box.west) / across);
    const cluster = clusters.get(cell);
    if (cluster) add(cluster, latitude, longitude);
    else {
      const itself = { west: longitude, east: longitude, south: latitude, north: latitude };
      clusters.set(cell, { ...itself, count: 1, latitude, longitude });
    }
  });
  return [...clusters.values()].sort((one, other) => one.count - other.count);
}

/**
 * @param {Cluster} cluster
 * @param {number} latitude
 * @param {number} longitude
 */
function add(cluster, latitude, longitude) {
  cluster.count += 1;
  cluster.latitude += (latitude - cluster.latitude) / cluster.count;
  cluster.longitude += (longitude - cluster.longitude) / cluster.count;
  cluster.west = Math.min(cluster.west, longitude);
  cluster.east = Math.max(cluster.east, longitude);
  cluster.south = Math.min(cluster.south, latitude);
  cluster.north = Math.max(cluster.north, latitude);
}

/**
 * Return the lines of a graticule.
 * @param {number} from
 * @param {number} to
 * @param {number} count how many there are at least, if there is a distance for it
 * @returns {number[]} degrees
 */
export function linesBetween(from, to, count) {
  const step = STEPS.find((each) => (to - from) / each >= count) ?? STEPS[STEPS.length - 1];
  const first = Math.ceil(from / step);
  return Array.from({ length: Math.floor(to / step) - first + 1 }, (_, index) =>
    Number(((first + index) * step).toFixed(3)),
  );
}

/**
 * Return an angle as people read it, such as `51.5° N`.
 * @param {number} angle in degrees
 * @param {string} signs for positive and negative ones: `NS` or `EW`
 */
export const angleText = (angle, signs) => `${Number(Math.abs(angle).toFixed(3))}° ${signs[angle < 0 ? 1 : 0]}`;
