/** Cells of the grid: a picture, or a stack of pictures. */

import { element } from './dom.js';
import { renditionUrl } from './renditions.js';
import { counted, digits, lastPart } from './words.js';

/** @import { Listing } from './listing.js' */

/** Sides of thumbnails in pixels: few, so that caches hold them. */
const SIDES = [120, 250, 330, 500, 960, 1280, 1920];

/**
 * Return a cell of the grid; the address of its picture is in its data until it is to be fetched.
 * @param {Listing} listing
 * @param {number} index
 * @param {number} height in CSS pixels
 * @param {{isCurrent: boolean, isSelected: boolean}} state
 */
export function makeCell(listing, index, height, { isCurrent, isSelected }) {
  const name = listing.names[index];
  const label = lastPart(name);
  const size = listing.sizeOf(index);
  const cell = element('div', {
    role: 'gridcell',
    className: 'cell',
    tabIndex: isCurrent ? 0 : -1,
    title: name,
    'aria-label': size > 1 ? `${label}, stack of ${counted(size, 'picture')}` : label,
    'aria-selected': isSelected,
    data: { index: String(index) },
  });
  cell.style.width = `${height * listing.ratio(index)}px`;
  if (listing.widths[index]) {
    const source = thumbnailUrl(listing, index, height);
    cell.append(element('img', { alt: '', decoding: 'async', draggable: false, data: { source } }));
  } else {
    cell.append(element('span', { className: 'nothing' }, 'No picture yet'));
  }
  cell.append(
    element('input', { type: 'checkbox', tabIndex: -1, checked: isSelected, 'aria-label': `Select ${label}` }),
    element('span', { className: 'label', 'aria-hidden': 'true' }, label),
  );
  addStack(cell, listing, index);
  return cell;
}

/**
 * Show the size of a stack, or at an unfolded one the button that folds it.
 * @param {HTMLElement} cell
 * @param {Listing} listing
 * @param {number} index
 */
function addStack(cell, listing, index) {
  const size = listing.sizeOf(index);
  const unfolded = listing.unfoldedAt(index);
  if (size > 1) {
    cell.classList.add('stacked');
    cell.append(element('span', { className: 'stack', 'aria-hidden': 'true' }, digits(size)));
  } else if (unfolded) {
    const [head, count] = unfolded;
    cell.classList.add('unfolded');
    const text = `Fold ${counted(count, 'picture')}`;
    if (head === index)
      cell.append(
        element('button', { type: 'button', className: 'stack', tabIndex: -1, title: text, 'aria-label': text }, '−'),
      );
  }
}

/**
 * Return the address of a thumbnail, at the pixel ratio of the device.
 * @param {Listing} listing
 * @param {number} index
 * @param {number} height in CSS pixels
 */
function thumbnailUrl(listing, index, height) {
  const picture = listing.picture(index);
  // cut where it is much wider or higher than others: then its longer side is beyond the cell
  const wanted = height * Math.max(1, picture.width / picture.height) * devicePixelRatio;
  // a side that is a tenth short is not seen, and half the bytes
  const side = SIDES.find((each) => each >= wanted * 0.9) ?? SIDES[SIDES.length - 1];
  return renditionUrl(picture, side);
}
