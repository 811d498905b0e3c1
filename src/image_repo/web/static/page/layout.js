/** Rows of pictures of equal height that fill the width. Pure. */

/** Ratios of width to height that a cell takes; beyond, the picture is cut. */
const MIN_RATIO = 0.4;
const MAX_RATIO = 4;
/** The ratio of what has no size: a description without a picture. */
const NO_RATIO = 1;

/**
 * @typedef {object} Rows
 * @property {number} count of rows
 * @property {Uint32Array} firsts index of the first picture of each row, and the number of pictures at the end
 * @property {Float64Array} tops in CSS pixels, and the total height at the end
 * @property {Float64Array} heights in CSS pixels
 */

/**
 * Return the ratio of width to height of a cell.
 * @param {number} width
 * @param {number} height
 */
export function ratioOf(width, height) {
  return width && height ? Math.min(MAX_RATIO, Math.max(MIN_RATIO, width / height)) : NO_RATIO;
}

/**
 * Lay pictures out in rows.
 * @param {number[]} widths of the pictures in pixels
 * @param {number[]} heights
 * @param {{width: number, height: number, gap: number}} room width to fill and the wanted height
 *   of rows, in CSS pixels
 * @returns {Rows}
 */
export function layRows(widths, heights, { width, height, gap }) {
  const firsts = new Uint32Array(widths.length + 1);
  const tops = new Float64Array(widths.length + 1);
  const rowHeights = new Float64Array(widths.length);
  let row = 0;
  let top = 0;
  const close = (/** @type {number} */ first, /** @type {number} */ rowHeight) => {
    firsts[row] = first;
    tops[row] = top;
    rowHeights[row] = rowHeight;
    top += rowHeight + gap;
    row += 1;
  };
  let first = 0;
  let ratios = 0;
  for (let index = 0; index < widths.length; index += 1) {
    const ratio = ratioOf(widths[index], heights[index]);
    const before = (width - gap * (index - first - 1)) / ratios;
    const after = (width - gap * (index - first)) / (ratios + ratio);
    if (after > height) {
      ratios += ratio;
    } else if (index > first && before - height < height - after) {
      close(first, before);
      first = index;
      ratios = ratio;
    } else {
      close(first, after);
      first = index + 1;
      ratios = 0;
    }
  }
  if (first < widths.length) close(first, Math.min(height, (width - gap * (widths.length - first - 1)) / ratios));
  firsts[row] = widths.length;
  tops[row] = top;
  return {
    count: row,
    firsts: firsts.subarray(0, row + 1),
    tops: tops.subarray(0, row + 1),
    heights: rowHeights.subarray(0, row),
  };
}

/**
 * Return the row at a place, by bisection.
 * @param {Float64Array | Uint32Array} starts of rows, ascending, with the end
 * @param {number} place
 */
export function rowAt(starts, place) {
  let low = 0;
  let high = Math.max(0, starts.length - 2);
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle] <= place) low = middle;
    else high = middle - 1;
  }
  return low;
}

/**
 * Return the picture some rows below another: the one whose middle is nearest.
 * @param {Rows} layout
 * @param {(index: number) => number} ratioAt width by height of a cell
 * @param {number} index of the other
 * @param {number} rows how many further down, negative for up
 */
export function verticalNeighbour({ count, firsts }, ratioAt, index, rows) {
  const row = rowAt(firsts, index);
  const target = Math.min(count - 1, Math.max(0, row + rows));
  if (target === row) return index;
  const middles = (/** @type {number} */ at) =>
    middlesOf(Array.from({ length: firsts[at + 1] - firsts[at] }, (_, each) => ratioAt(firsts[at] + each)));
  const middle = middles(row)[index - firsts[row]];
  const distances = middles(target).map((each) => Math.abs(each - middle));
  return firsts[target] + distances.indexOf(Math.min(...distances));
}

/**
 * Return the middles of the cells of a row, as fractions of its width.
 * @param {number[]} ratios of the cells
 */
function middlesOf(ratios) {
  const sum = ratios.reduce((one, other) => one + other, 0);
  let left = 0;
  return ratios.map((ratio) => {
    left += ratio;
    return (left - ratio / 2) / sum;
  });
}
