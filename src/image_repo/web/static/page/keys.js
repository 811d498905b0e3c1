/** Keys of the grid, and the help that lists all keys. */

import { element, part } from './dom.js';
import { openDialog } from './notices.js';

/** @import { Grid } from './grid.js' */

const HELP = /** @type {const} */ ([
  [
    'Pictures',
    [
      ['← → ↑ ↓', 'move'],
      ['Home, End', 'first and last'],
      ['Page Up, Page Down', 'a window up or down'],
      ['Enter', 'open'],
      ['s', 'unfold a stack, and fold it again'],
      ['Space or x', 'select'],
      ['Shift + arrow or click', 'select a range'],
      ['Ctrl + A', 'select all'],
      ['Escape', 'select nothing'],
      ['Delete', 'delete what is selected'],
      ['e', 'edit the data of what is selected'],
    ],
  ],
  [
    'A picture',
    [
      ['← →', 'the one before, the next'],
      ['+ − 0', 'zoom in, out, all of it'],
      ['i', 'show or hide the record'],
      ['e', 'edit its data'],
      ['1 … 9', 'give it a label, and go on to the next'],
      ['r', 'repeat the last label'],
      ['Escape', 'back to the grid'],
    ],
  ],
  [
    'Everywhere',
    [
      ['/', 'search'],
      ['u', 'upload'],
      ['?', 'these keys'],
    ],
  ],
]);

/** Show all keys. */
export function showHelp() {
  const sections = HELP.map(([title, keys]) => {
    const rows = keys.flatMap(([key, text]) => [element('dt', {}, element('kbd', {}, key)), element('dd', {}, text)]);
    return element('section', {}, element('h3', {}, title), element('dl', {}, ...rows));
  });
  openDialog('Keys', element('div', { className: 'keys' }, ...sections));
}

/**
 * Return whether a key is meant for a text that is being written, or goes with a modifier.
 * @param {KeyboardEvent} event
 */
export function isTyping(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  const isText = target.matches('textarea, select, input:not([type=checkbox]):not([type=radio]):not([type=range])');
  return isText || event.ctrlKey || event.metaKey || event.altKey;
}

/**
 * Install the keys of the grid.
 * @param {Grid} grid
 * @param {{open: () => void, fold: () => void, remove: () => void, edit: () => void}} actions on the current or the selected pictures
 */
export function installGridKeys(grid, { open, fold, remove, edit }) {
  const { selection } = grid;
  const page = () => Math.max(1, Math.floor(innerHeight / (grid.rowHeight + 6)) - 1);
  /** @type {Record<string, () => number>} */
  const moves = {
    ArrowRight: () => grid.current + 1,
    ArrowLeft: () => grid.current - 1,
    ArrowDown: () => grid.vertical(grid.current, 1),
    ArrowUp: () => grid.vertical(grid.current, -1),
    PageDown: () => grid.vertical(grid.current, page()),
    PageUp: () => grid.vertical(grid.current, -page()),
    Home: () => 0,
    End: () => (grid.listing?.length ?? 1) - 1,
  };
  /** @type {Record<string, () => void>} */
  const acts = {
    Enter: open,
    ' ': () => selection.toggle(grid.current),
    x: () => selection.toggle(grid.current),
    Delete: remove,
    e: edit,
    s: fold,
    Escape: () => selection.clear(),
  };
  grid.element.addEventListener('keydown', (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === 'a') {
      event.preventDefault();
      selection.all();
    } else if (event.key in moves && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      if (event.shiftKey && !selection.isOn) selection.toggle(grid.current);
      grid.focus(moves[event.key]());
      if (event.shiftKey) selection.extend(grid.current);
    } else if (event.key in acts && !isTyping(event)) {
      event.preventDefault();
      acts[event.key]();
    }
  });
}

/**
 * Install the keys that work everywhere.
 * @param {() => void} upload
 */
export function installKeys(upload) {
  document.addEventListener('keydown', (event) => {
    if (isTyping(event) || document.querySelector('dialog[open]')) return;
    if (event.key === '?') showHelp();
    else if (event.key === '/') /** @type {HTMLElement} */ (part('search').querySelector('input')).focus();
    else if (event.key === 'u') upload();
    else return;
    event.preventDefault();
  });
}
