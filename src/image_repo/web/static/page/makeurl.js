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

/** @import { Caller } from './api.js' */

/**
 * Open the panel.
 * @param {Record<string, any>} record of the picture
 * @param {Caller | undefined} caller
 */
export function openUrlPanel(record, caller) {
  const requests = caller?.requests;
  const form = makeForm(Boolean(caller?.name), requests?.presets);
  const image = element('img', { alt: 'What the URL gives; a click sets the focus' });
  const cost = element('p', { className: 'quiet', role: 'status' });
  const results = element('div', { className: 'results' });
  const state = { focus: '', timer: 0, request: new AbortController(), shown: '' };
  const update = () => {
    clearTimeout(state.timer);
    state.timer = setTimeout(
      () => show(record, parametersOf(form, state.focus), requests, form, { image, cost, results, state }),
      PAUSE_MS,
    );
  };
  form.addEventListener('input', update);
  form.addEventListener('submit', (event) => event.preventDefault());
  image.addEventListener('click', (event) => {
    const x = (event.offsetX / image.clientWidth).toFixed(2);
    state.focus = `${x},${(event.offsetY / image.clientHeight).toFixed(2)}`;
    const fit = /** @type {HTMLSelectElement | null} */ (form.elements.namedItem('fit'));
    if (fit) fit.value = 'cover';
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
 * @param {string[]} [presets] where they alone are rendered
 */
function makeForm(mayShare, presets) {
  return element(
    'form',
    { className: 'make-url' },
    ...(presets ? [choice('Preset', 'preset', [['none', ''], ...presets.map(twice)])] : recipeFields()),
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
 * @param {string} text
 * @returns {readonly [string, string]}
 */
const twice = (text) => [text, text];

/** Return the fields that decide what is rendered. */
function recipeFields() {
  return [
    numberField('Width', 'xsize', 960),
    numberField('Height', 'ysize'),
    choice('Fit', 'fit', ['inside', 'cover', 'contain', 'fill'].map(twice)),
    choice('Format', 'kind', [
      ['JPEG', 'jpg'],
      ['WebP', 'webp'],
      ['AVIF', 'avif'],
      ['PNG', 'png'],
      ['by the browser', 'auto'],
    ]),
    numberField('Quality', 'quality', 82, 100),
  ];
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
  const names = /** @type {const} */ (['preset', 'xsize', 'ysize', 'fit', 'kind', 'quality']);
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
 * @param {Caller['requests']} requests
 * @param {HTMLFormElement} form
 * @param {{image: HTMLImageElement, cost: HTMLElement, results: HTMLElement, state: any}} parts
 */
async function show(record, parameters, requests, form, { image, cost, results, state }) {
  state.request.abort();
  state.request = new AbortController();
  const { signal } = state.request;
  const begun = performance.now();
  try {
    const { url, srcset } = await addressesOf(record, parameters, requests, signal);
    const response = await fetch(url, { signal });
    if (!response.ok) throw new Error((await response.json()).detail ?? `Status ${response.status}`);
    const picture = await response.blob();
    cost.textContent = `${bytes(picture.size)} in ${Math.round(performance.now() - begun)} ms`;
    URL.revokeObjectURL(state.shown);
    image.src = state.shown = URL.createObjectURL(picture);
    results.replaceChildren(...spellings(record, srcset, await linkOf(record.name, url, form)));
  } catch (error) {
    if (signal.aborted) return;
    cost.textContent = /** @type {Error} */ (error).message;
    results.replaceChildren();
  }
}

/**
 * Return the address of a rendition, and those of several widths as `srcset` takes them; the server signs where it must.
 * @param {Record<string, any>} record
 * @param {Record<string, string>} parameters
 * @param {Caller['requests']} requests
 * @param {AbortSignal} signal
 * @returns {Promise<{url: string, srcset: string}>}
 */
async function addressesOf(record, parameters, requests, signal) {
  const { xsize, ysize, ...rest } = parameters;
  if (requests?.mode === 'presets') return { url: imageUrl(record.name, parameters), srcset: '' };
  const widths = WIDTHS.filter((width) => !record.width || width <= record.width);
  if (requests?.mode !== 'signed') {
    const sources = widths.map((width) => `${imageUrl(record.name, { xsize: width, ...rest })} ${width}w`);
    return { url: imageUrl(record.name, parameters), srcset: sources.join(', ') };
  }
  if (!xsize) throw new Error('Expected a width: what the server signs has one.');
  /** @type {Record<string, string>} */
  const box = ysize ? { xsize, ysize } : {};
  const url = imageUrl(record.name, { ...rest, ...box, srcset: [xsize, ...widths].join() });
  const { sources, srcset } = await getJson(url, { signal });
  // one as wide as is wanted, or the largest
  const source = sources.find((/** @type {{width: number}} */ each) => each.width >= Number(xsize)) ?? sources.at(-1);
  return { url: source.url, srcset };
}

/**
 * Return an address in the chosen kind: lasting, temporary, or one to share.
 * @param {string} name
 * @param {string} address
 * @param {HTMLFormElement} form
 * @returns {Promise<string>}
 */
async function linkOf(name, address, form) {
  const kind = /** @type {HTMLSelectElement} */ (form.elements.namedItem('link')).value;
  if (!kind) return address;
  const lifetime = /** @type {HTMLSelectElement} */ (form.elements.namedItem('lifetime')).value;
  const temporary = new URL(address);
  temporary.searchParams.set('url', 'True');
  temporary.searchParams.set('lifetime', lifetime);
  const { url } = await getJson(kind === 'share' ? imageUrl(name, { share: 'True', lifetime }) : temporary.href);
  return new URL(url, location.href).href;
}

/**
 * Return the address in the forms in which people use it, each with a button that copies it.
 * @param {Record<string, any>} record
 * @param {string} srcset
 * @param {string} url
 */
function spellings(record, srcset, url) {
  const alt = lastPart(record.name).replaceAll('&', '&amp;').replaceAll('"', '&quot;');
  const escaped = (/** @type {string} */ text) => text.replaceAll('&', '&amp;');
  const widths = srcset && `srcset="${escaped(srcset)}" sizes="100vw"`;
  const texts = [
    ['URL', url],
    ['HTML', `<img src="${escaped(url)}" ${widths} alt="${alt}">`],
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
