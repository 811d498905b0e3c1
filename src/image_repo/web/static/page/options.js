/** Order, size of the rows, and theme: the last two are remembered in the browser. */

import { element, part } from './dom.js';

/** Orders that people choose from: text → keys. */
const ORDERS = [
  ['Name', ''],
  ['Name, backwards', '-name'],
  ['Newest upload', '-uploaded'],
  ['Oldest upload', 'uploaded'],
  ['Last taken', '-exif.captured'],
  ['First taken', 'exif.captured'],
  ['Largest file', '-bytes'],
];
/** Heights of rows in CSS pixels. */
const HEIGHTS = /** @type {const} */ ([
  ['Small', 110],
  ['Medium', 190],
  ['Large', 320],
]);
const THEMES = ['auto', 'light', 'dark'];

/** @param {string} key */
function remembered(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/**
 * @param {string} key
 * @param {string} value
 */
function remember(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // a browser without storage forgets it with the page
  }
}

/**
 * Fill the list of orders.
 * @param {(sort: string) => void} choose
 */
export function installSort(choose) {
  const list = /** @type {HTMLSelectElement} */ (part('sort'));
  list.append(...ORDERS.map(([text, value]) => element('option', { value }, text)));
  list.addEventListener('change', () => choose(list.value));
}

/**
 * Show the order of a view, one from its address too.
 * @param {string} sort
 */
export function showSort(sort) {
  const list = /** @type {HTMLSelectElement} */ (part('sort'));
  if (!ORDERS.some(([, value]) => value === sort) && ![...list.options].some((each) => each.value === sort)) {
    list.append(element('option', { value: sort }, sort));
  }
  list.value = sort;
}

/**
 * Install the choice of the rows' height.
 * @param {(height: number) => void} choose called at once with what was chosen last
 */
export function installDensity(choose) {
  const chosen = remembered('density') ?? 'Medium';
  for (const [name, height] of HEIGHTS) {
    const input = element('input', { type: 'radio', name: 'density', value: name, checked: name === chosen });
    input.addEventListener('change', () => {
      remember('density', name);
      choose(height);
    });
    part('density').append(element('label', { title: `${name} pictures` }, input, element('span', {}, name)));
  }
  choose((HEIGHTS.find(([name]) => name === chosen) ?? HEIGHTS[1])[1]);
}

/** Install the button that goes from the system's theme to light and dark. */
export function installTheme() {
  const button = part('theme');
  const name = () => `Theme: ${document.documentElement.dataset.theme ?? 'auto'}`;
  const label = () => {
    button.title = name();
    button.setAttribute('aria-label', name());
  };
  button.addEventListener('click', () => {
    const { dataset } = document.documentElement;
    const next = THEMES[(THEMES.indexOf(dataset.theme ?? 'auto') + 1) % THEMES.length];
    if (next === 'auto') delete dataset.theme;
    else dataset.theme = next;
    remember('theme', next);
    label();
  });
  label();
}
