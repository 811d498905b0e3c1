/** One key labels a picture. The labels of the keys 1 to 9 are remembered in the browser. */

import { patchImage } from './changes.js';
import { parseSearch } from './address.js';
import { element } from './dom.js';
import { notify, openDialog } from './notices.js';

const STORED = 'labels';

/** The labels of the keys. */
export class Labels {
  constructor() {
    /** @type {Record<string, string>} key → `species=fox` */
    this.ofKeys = read();
    this.last = '';
  }

  /**
   * Give a picture the label of a key, which is asked for the first time.
   * @param {string} key
   * @param {string} name
   * @returns {Promise<boolean>} whether it was given
   */
  async give(key, name) {
    const label = this.ofKeys[key] ?? (await this.#ask(key));
    return label ? this.#apply(label, name) : false;
  }

  /**
   * Give a picture the label that was given last.
   * @param {string} name
   */
  async repeat(name) {
    return this.last ? this.#apply(this.last, name) : false;
  }

  /**
   * @param {string} label
   * @param {string} name
   */
  async #apply(label, name) {
    await patchImage(name, patchOf(label));
    this.last = label;
    notify(label, { label: 'Change keys', run: () => this.#forget() });
    return true;
  }

  /**
   * @param {string} key
   * @returns {Promise<string | undefined>}
   */
  #ask(key) {
    return new Promise((resolve) => {
      const input = element('input', {
        type: 'text',
        id: 'label',
        placeholder: 'species=fox',
        required: true,
        autocomplete: 'off',
      });
      const form = element(
        'form',
        { method: 'dialog' },
        element('label', { for: 'label' }, `Label of key ${key}`),
        input,
        element('button', { className: 'primary' }, 'Use'),
      );
      const dialog = openDialog(`Key ${key}`, form);
      form.addEventListener('submit', () => {
        if (Object.keys(patchOf(input.value)).length) this.ofKeys[key] = input.value;
        store(this.ofKeys);
      });
      dialog.addEventListener('close', () => resolve(this.ofKeys[key]));
      input.focus();
    });
  }

  #forget() {
    this.ofKeys = {};
    store(this.ofKeys);
    notify('The keys 1 to 9 have no labels now; each is asked for when it is used.');
  }
}

/**
 * Return the data that a label stands for; a word alone is a `label`.
 * @param {string} label such as `species=fox stars=3`
 */
function patchOf(label) {
  const pairs = parseSearch(label).map(([key, value]) => [key === 'text' ? 'label' : key, valueOf(value)]);
  return Object.fromEntries(pairs);
}

/**
 * Return the JSON value of a text: numbers and true, false and null are themselves.
 * @param {string} text
 */
export function valueOf(text) {
  return /^(true|false|null|-?(0|[1-9]\d*)(\.\d+)?)$/.test(text) ? JSON.parse(text) : text;
}

function read() {
  try {
    return JSON.parse(localStorage.getItem(STORED) ?? '{}');
  } catch {
    return {};
  }
}

/** @param {Record<string, string>} labels */
function store(labels) {
  try {
    localStorage.setItem(STORED, JSON.stringify(labels));
  } catch {
    // they last as long as the page
  }
}
