/** The record of a picture: facts, what the camera wrote, and the user's data, to read and to edit. */

import { getJson, imageUrl, send, sendJson } from './api.js';
import { element } from './dom.js';
import { valueOf } from './labels.js';
import { notify } from './notices.js';
import { bytes, folderOf } from './words.js';

/** @import { RequestError } from './api.js' */
/** @import { Host } from './picture.js' */

/** Members of a camera's record → how they are read. */
const CAMERA = /** @type {Record<string, (value: any) => string>} */ ({
  exposure_time: (value) => (value < 0.5 ? `1/${Math.round(1 / value)} s` : `${value} s`),
  f_number: (value) => `f/${value}`,
  focal_length: (value) => `${value} mm`,
  iso: (value) => `ISO ${value}`,
  captured: (value) => String(value).replace('T', ' '),
});

/** Shows the record of one picture after another. */
export class RecordPanel {
  /** @param {Host} host */
  constructor(host) {
    this.host = host;
    this.element = element('div', { className: 'facts' });
    /** @type {Record<string, any>} */
    this.current = { name: '' };
    this.etag = '';
    this.loading = Promise.resolve();
  }

  /** @param {string} name */
  show(name) {
    this.loading = this.#load(name);
    return this.loading;
  }

  /** @param {string} name */
  async #load(name) {
    this.current = { name };
    try {
      const response = await send(imageUrl(name, { meta: 'True' }), { headers: { Accept: 'application/json' } });
      const record = await response.json();
      if (this.current.name !== name) return; // another is shown by now
      this.current = record;
      this.etag = response.headers.get('ETag') ?? '';
      this.#read();
    } catch (error) {
      this.element.replaceChildren(element('p', { role: 'alert' }, /** @type {Error} */ (error).message));
    }
  }

  #read() {
    const { name, data, exif, width, height, bytes: size, media_type: type, uploaded, owner, filename } = this.current;
    const facts = {
      Folder: folderOf(name),
      Size: width ? `${width} × ${height}` : 'no picture yet',
      File: [filename, type?.replace('image/', ''), size && bytes(size)].filter(Boolean).join(', '),
      Uploaded: uploaded?.replace('T', ' ').replace(/(\.\d+)?(Z|\+00:00)$/, ' UTC'),
      Owner: owner,
    };
    const camera = Object.entries(exif ?? {}).map(([key, value]) => [
      key.replaceAll('_', ' '),
      CAMERA[key]?.(value) ?? textOf(value),
    ]);
    const own =
      data && typeof data === 'object' && !Array.isArray(data)
        ? Object.entries(data).map(([key, value]) => [key, textOf(value)])
        : [['data', textOf(data)]];
    this.element.replaceChildren(
      section('Data', own, 'Nothing yet'),
      section(
        'Picture',
        Object.entries(facts).filter(([, value]) => value),
      ),
      ...(camera.length ? [section('Camera', camera)] : []),
    );
  }

  /** Edit the data: single values as fields, all of it as JSON. */
  async edit() {
    await this.loading; // the form would be replaced by what arrives
    const text = element('textarea', { id: 'data', rows: 12, spellcheck: false, 'aria-describedby': 'data-mistake' });
    text.value = JSON.stringify(this.current.data ?? {}, null, 2);
    const mistake = element('p', { id: 'data-mistake', role: 'alert', className: 'mistake' });
    const fields = element('div', { className: 'fields' });
    const check = () => {
      const { value, problem } = parse(text.value);
      mistake.textContent = problem;
      text.setAttribute('aria-invalid', String(Boolean(problem)));
      if (!problem) fillFields(fields, value, text);
      return problem ? undefined : value;
    };
    text.addEventListener('input', check);
    const save = element('button', { type: 'submit', className: 'primary' }, 'Save');
    const cancel = element('button', { type: 'button', on: { click: () => this.#read() } }, 'Cancel');
    const form = element(
      'form',
      { className: 'editor' },
      element('h3', {}, 'Data'),
      fields,
      element('label', { for: 'data' }, 'Data'),
      text,
      mistake,
      element('div', { className: 'buttons' }, cancel, save),
    );
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      const value = check();
      if (value !== undefined) this.#save(value, mistake);
    });
    form.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape') return;
      event.preventDefault();
      event.stopPropagation();
      this.#read();
    });
    this.element.replaceChildren(form);
    check();
    text.focus();
  }

  /**
   * @param {unknown} data
   * @param {HTMLElement} mistake tells what is wrong
   */
  async #save(data, mistake) {
    const { name } = this.current;
    try {
      await sendJson('PUT', imageUrl(name), data, this.etag ? { 'If-Match': this.etag } : {});
    } catch (error) {
      const { status, message } = /** @type {RequestError} */ (error);
      mistake.textContent = status === 412 ? await this.#conflict(name) : message;
      return;
    }
    notify('Saved.');
    await this.show(name);
  }

  /**
   * Take over the present entity tag, so that saving again is a decision.
   * @param {string} name
   */
  async #conflict(name) {
    const { data } = await getJson(imageUrl(name, { meta: 'True' }));
    const response = await send(imageUrl(name, { meta: 'True' }), { method: 'HEAD' });
    this.etag = response.headers.get('ETag') ?? '';
    return `Somebody else changed it meanwhile, to ${JSON.stringify(data)}. Save again to replace that.`;
  }
}

/** @param {unknown} value */
const textOf = (value) => (typeof value === 'string' ? value : JSON.stringify(value));

/**
 * @param {string} title
 * @param {string[][]} pairs
 * @param {string} [nothing] in place of no pairs
 */
function section(title, pairs, nothing = '') {
  const rows = pairs.flatMap(([key, value]) => [element('dt', {}, key), element('dd', {}, value)]);
  return element(
    'section',
    {},
    element('h3', {}, title),
    rows.length ? element('dl', {}, ...rows) : element('p', { className: 'quiet' }, nothing),
  );
}

/**
 * Read JSON.
 * @param {string} text
 * @returns {{value?: any, problem: string}}
 */
export function parse(text) {
  try {
    return { value: JSON.parse(text), problem: '' };
  } catch (error) {
    return { problem: `This is no JSON: ${/** @type {Error} */ (error).message}.` };
  }
}

/**
 * Show the single values of an object as fields, which change the text; and one more for a new key.
 * @param {HTMLElement} fields
 * @param {any} value
 * @param {HTMLTextAreaElement} text
 */
function fillFields(fields, value, text) {
  if (!value || typeof value !== 'object' || Array.isArray(value)) {
    fields.replaceChildren();
    return;
  }
  const write = () => {
    text.value = JSON.stringify(value, null, 2);
  };
  const rows = Object.entries(value)
    .filter(([, each]) => each === null || typeof each !== 'object')
    .map(([key, each]) => {
      const input = element('input', { type: 'text', value: textOf(each) });
      input.addEventListener('input', () => {
        value[key] = valueOf(input.value);
        write();
      });
      return element('label', {}, element('span', {}, key), input);
    });
  fields.replaceChildren(...rows, newField(value, write));
}

/**
 * Return fields for a key that the data does not have yet.
 * @param {Record<string, unknown>} value
 * @param {() => void} changed
 */
function newField(value, changed) {
  const key = element('input', { type: 'text', 'aria-label': 'New key', placeholder: 'new key' });
  const content = element('input', { type: 'text', 'aria-label': 'Its value', placeholder: 'value' });
  let added = '';
  const write = () => {
    if (added) delete value[added];
    added = key.value && content.value && !Object.hasOwn(value, key.value) ? key.value : '';
    if (added) value[added] = valueOf(content.value);
    changed();
  };
  key.addEventListener('input', write);
  content.addEventListener('input', write);
  return element('div', { className: 'new' }, key, content);
}
