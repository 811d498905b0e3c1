/** Order, size of the rows, and theme: the last two are remembered in the browser. */

import { element, part } from './dom.js';

/** Orders that people choose from: text → keys. */
const ORDERS = /** @type {const} */ ([
  ['Name', ''],
  ['Name, backwards', '-name'],
  ['Newest upload', '-uploaded'],
  ['Oldest upload', 'uploaded'],
  ['Last taken', '-exif.captured'],
  ['First taken', 'exif.captured'],
  ['Largest file', '-bytes'],
]);
/** Longest times between two pictures of a stack: text → seconds. */
const GAPS = /** @type {const} */ ([
  ['None', ''],
  ['5 s', '5'],
  ['30 s', '30'],
  ['2 min', '120'],
  ['10 min', '600'],
]);
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
export const installSort = (choose) => installList('sort', ORDERS, choose);

/**
 * Fill the list of the gaps that end a stack.
 * @param {(gap: string) => void} choose
 */
export const installStacks = (choose) => installList('stacks', GAPS, choose);

/**
 * @param {string} id
 * @param {readonly (readonly [string, string])[]} options text and value
 * @param {(value: string) => void} choose
 */
function installList(id, options, choose) {
  const list = /** @type {HTMLSelectElement} */ (part(id));
  list.append(...options.map(([text, value]) => element('option', { value }, text)));
  list.addEventListener('change', () => choose(list.value));
}

/**
 * Show what a view has chosen of a list, also what only its address can say.
 * @param {string} id
 * @param {string} value
 */
export function showChoice(id, value) {
  const list = /** @type {HTMLSelectElement} */ (part(id));
  if (![...list.options].some((each) => each.value === value)) list.append(element('option', { value }, value));
  list.value = value;
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
