/** "Make a URL": size, format, fit and focus of a picture, ready to be used elsewhere. */

import { getJson, imageUrl, serviceUrl } from './api.js';
import { copyField } from './copy.js';
import { element } from './dom.js';
import { openDialog } from './notices.js';
import { bytes, lastPart } from './words.js';

/** Widths of a srcset in pixels. */
const WIDTHS = [330, 960, 1920];
/** Milliseconds from the last change until the picture is fetched. */
const PAUSE_MS = 250;
const LIFETIMES = /** @type {const} */ ([
  ['an hour', 3600],
  ['a day', 86_400],
  ['a week', 604_800],
]);

/**
 * Open the panel.
 * @param {Record<string, any>} record of the picture
 * @param {boolean} mayShare
 */
export function openUrlPanel(record, mayShare) {
  const form = makeForm(mayShare);
  const image = element('img', { alt: 'What the URL gives; a click sets the focus' });
  const cost = element('p', { className: 'quiet', role: 'status' });
  const results = element('div', { className: 'results' });
  const state = { focus: '', timer: 0, request: new AbortController(), shown: '' };
  const update = () => {
    clearTimeout(state.timer);
    state.timer = setTimeout(
      () => show(record, parametersOf(form, state.focus), form, { image, cost, results, state }),
      PAUSE_MS,
    );
  };
  form.addEventListener('input', update);
  form.addEventListener('submit', (event) => event.preventDefault());
  image.addEventListener('click', (event) => {
    const x = (event.offsetX / image.clientWidth).toFixed(2);
    state.focus = `${x},${(event.offsetY / image.clientHeight).toFixed(2)}`;
    /** @type {HTMLSelectElement} */ (form.elements.namedItem('fit')).value = 'cover';
    update();
  });
  const dialog = openDialog(
    `URL of ${lastPart(record.name)}`,
    element('div', { className: 'url-panel' }, form, element('div', {}, image, cost), results),
  );
  dialog.classList.add('wide');
  dialog.addEventListener('close', () => URL.revokeObjectURL(state.shown));
  update();
}

/**
 * Return the form of the panel.
 * @param {boolean} mayShare
 */
function makeForm(mayShare) {
  return element(
    'form',
    { className: 'make-url' },
    numberField('Width', 'xsize', 960),
    numberField('Height', 'ysize'),
    choice('Fit', 'fit', [
      ['inside', 'inside'],
      ['cover', 'cover'],
      ['contain', 'contain'],
      ['fill', 'fill'],
    ]),
    choice('Format', 'kind', [
      ['JPEG', 'jpg'],
      ['WebP', 'webp'],
      ['AVIF', 'avif'],
      ['PNG', 'png'],
      ['by the browser', 'auto'],
    ]),
    numberField('Quality', 'quality', 82, 100),
    choice('Link', 'link', [
      ['lasting', ''],
      ['temporary', 'url'],
      ...(mayShare ? [/** @type {const} */ (['to share', 'share'])] : []),
    ]),
    choice(
      'For',
      'lifetime',
      LIFETIMES.map(([text, seconds]) => [text, String(seconds)]),
    ),
  );
}

/**
 * Return the parameters that the form stands for.
 * @param {HTMLFormElement} form
 * @param {string} focus
 * @returns {Record<string, string>}
 */
function parametersOf(form, focus) {
  const given = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, String(value)]));
  const usual = { fit: 'inside', kind: 'jpg', quality: '82' };
  const names = /** @type {const} */ (['xsize', 'ysize', 'fit', 'kind', 'quality']);
  const chosen = names.filter((name) => given[name] && given[name] !== /** @type {any} */ (usual)[name]);
  return {
    ...Object.fromEntries(chosen.map((name) => [name, given[name]])),
    ...(focus && given.fit === 'cover' ? { focus } : {}),
  };
}

/**
 * Fetch what the URL gives, and show it with what it costs.
 * @param {Record<string, any>} record
 * @param {Record<string, string>} parameters
 * @param {HTMLFormElement} form
 * @param {{image: HTMLImageElement, cost: HTMLElement, results: HTMLElement, state: any}} parts
 */
async function show(record, parameters, form, { image, cost, results, state }) {
  state.request.abort();
  state.request = new AbortController();
  const { signal } = state.request;
  const begun = performance.now();
  try {
    const url = imageUrl(record.name, parameters);
    const response = await fetch(url, { signal });
    if (!response.ok) throw new Error((await response.json()).detail ?? `Status ${response.status}`);
    const picture = await response.blob();
    cost.textContent = `${bytes(picture.size)} in ${Math.round(performance.now() - begun)} ms`;
    URL.revokeObjectURL(state.shown);
    image.src = state.shown = URL.createObjectURL(picture);
    results.replaceChildren(...spellings(record, parameters, await linkOf(record.name, parameters, form)));
  } catch (error) {
    if (!signal.aborted) cost.textContent = /** @type {Error} */ (error).message;
  }
}

/**
 * Return the address in the chosen kind: lasting, temporary, or one to share.
 * @param {string} name
 * @param {Record<string, string>} parameters
 * @param {HTMLFormElement} form
 * @returns {Promise<string>}
 */
async function linkOf(name, parameters, form) {
  const kind = /** @type {HTMLSelectElement} */ (form.elements.namedItem('link')).value;
  if (!kind) return imageUrl(name, parameters);
  const lifetime = /** @type {HTMLSelectElement} */ (form.elements.namedItem('lifetime')).value;
  const { url } = await getJson(
    imageUrl(name, kind === 'share' ? { share: 'True', lifetime } : { ...parameters, [kind]: 'True', lifetime }),
  );
  return new URL(url, location.href).href;
}

/**
 * Return the address in the forms in which people use it, each with a button that copies it.
 * @param {Record<string, any>} record
 * @param {Record<string, string>} parameters
 * @param {string} url
 */
function spellings(record, parameters, url) {
  const alt = lastPart(record.name).replaceAll('&', '&amp;').replaceAll('"', '&quot;');
  const rest = { ...parameters };
  delete rest.xsize;
  delete rest.ysize;
  const widths = WIDTHS.filter((width) => !record.width || width <= record.width);
  const set = widths.map((width) => `${imageUrl(record.name, { xsize: width, ...rest })} ${width}w`).join(', ');
  const escaped = (/** @type {string} */ text) => text.replaceAll('&', '&amp;');
  const texts = [
    ['URL', url],
    ['HTML', `<img src="${escaped(url)}" srcset="${escaped(set)}" sizes="100vw" alt="${alt}">`],
    ['Markdown', `![${lastPart(record.name).replace(/[\\[\]]/g, '\\$&')}](${url})`],
    ['IIIF', `${serviceUrl(record.name)}/info.json`],
  ];
  return texts.map(([label, text]) => copyField(label, text));
}

/**
 * @param {string} label
 * @param {string} name
 * @param {number} [value]
 * @param {number} [max]
 */
function numberField(label, name, value, max = 10_000) {
  return element(
    'label',
    {},
    element('span', {}, label),
    element('input', {
      type: 'number',
      name,
      min: '1',
      max: String(max),
      value: value === undefined ? '' : String(value),
      placeholder: 'free',
    }),
  );
}

/**
 * @param {string} label
 * @param {string} name
 * @param {(readonly [string, string])[]} options text and value
 */
function choice(label, name, options) {
  return element(
    'label',
    {},
    element('span', {}, label),
    element('select', { name }, ...options.map(([text, value]) => element('option', { value }, text))),
  );
}
