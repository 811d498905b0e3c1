/** One picture: large, with its record beside it, and its neighbours by the arrow keys. */

import { addressOf } from './address.js';
import { deleteImage, restoreImage } from './changes.js';
import { element, icon, iconButton } from './dom.js';
import { isTyping } from './keys.js';
import { Labels } from './labels.js';
import { openUrlPanel } from './makeurl.js';
import { nearFilter } from './near.js';
import { confirmAction, notify, notifyError } from './notices.js';
import { RecordPanel } from './record.js';
import { downloadUrl, renditionUrl } from './renditions.js';
import { Viewer } from './viewer.js';
import { digits, lastPart } from './words.js';

/** @import { Listing } from './listing.js' */

/** Longer side of the preview in pixels. */
const PREVIEW_PX = 960;

/**
 * @typedef {object} Host the page, as a picture needs it
 * @property {Listing} listing
 * @property {import('./api.js').Caller | undefined} caller
 * @property {(name: string) => void} moveTo shows another picture, under its own address
 * @property {() => void} leave goes back to the grid
 * @property {(names: string[]) => void} removed takes pictures out of the grid
 * @property {() => void} reload lists the view again
 * @property {(action: string) => boolean} may
 */

/** The dialog with a picture. */
export class PictureView {
  /** @param {Host} host */
  constructor(host) {
    this.host = host;
    this.name = '';
    this.stage = element('div', { className: 'stage' });
    this.viewer = new Viewer(this.stage);
    this.title = element('h2', { id: 'picture-title' });
    this.place = element('span', { className: 'quiet', role: 'status' });
    this.record = new RecordPanel(host);
    this.labels = new Labels();
    this.similar = element(
      'a',
      { className: 'button', title: 'Pictures that look nearly the same', data: { view: '' } },
      'Similar',
    );
    this.before = stepButton('before', 'Previous', 'left', () => this.step(-1));
    this.after = stepButton('after', 'Next', 'right', () => this.step(1));
    this.dialog = element('dialog', { className: 'picture', 'aria-labelledby': 'picture-title' });
    this.dialog.append(this.#main(), this.#side());
    this.dialog.addEventListener('keydown', (event) => this.#key(event));
    this.dialog.addEventListener('cancel', (event) => {
      event.preventDefault();
      host.leave();
    });
    document.body.append(this.dialog);
  }

  #main() {
    const tools = element(
      'div',
      { className: 'tools' },
      iconButton('close', 'Close', () => this.host.leave()),
      this.title,
      this.place,
      element('span', { className: 'space' }),
      iconButton('minus', 'Zoom out', () => this.viewer.zoom(1 / 1.5)),
      iconButton('plus', 'Zoom in', () => this.viewer.zoom(1.5)),
      iconButton('whole', 'All of it', () => this.viewer.whole()),
      iconButton('info', 'Record', () => this.#togglePanel()),
    );
    return element('div', { className: 'view' }, tools, this.stage, this.before, this.after);
  }

  #side() {
    const actions = element(
      'div',
      { className: 'buttons' },
      element('button', { type: 'button', on: { click: () => this.#download() } }, 'Download'),
      element('button', { type: 'button', on: { click: () => this.#openUrl() } }, 'URL'),
    );
    actions.append(this.similar);
    if (this.host.may('write'))
      actions.append(element('button', { type: 'button', on: { click: () => this.record.edit() } }, 'Edit'));
    if (this.host.may('delete'))
      actions.append(
        element('button', { type: 'button', className: 'danger', on: { click: () => this.#delete() } }, 'Delete'),
      );
    return element('aside', { className: 'record', 'aria-label': 'Record' }, actions, this.record.element);
  }

  /**
   * Show a picture of the listing, or one that it does not have.
   * @param {string} name
   */
  async show(name) {
    this.name = name;
    this.title.textContent = lastPart(name);
    this.title.title = name;
    this.similar.href = addressOf({ folder: '', sort: '', stack: '', picture: '', filters: [nearFilter(name)] });
    const { listing } = this.host;
    const index = listing.indexOf(name);
    this.place.textContent = index < 0 ? '' : `${digits(index + 1)} of ${digits(listing.count)}`;
    this.before.disabled = index <= 0;
    this.after.disabled = index < 0 || index >= listing.length - 1;
    if (!this.dialog.open) this.dialog.showModal();
    if (index >= 0 && !listing.widths[index]) {
      this.viewer.fail('No picture yet');
    } else {
      const preview = renditionUrl(index < 0 ? { name } : listing.picture(index), PREVIEW_PX);
      this.viewer.open(name, preview).catch(notifyError);
    }
    await this.record.show(name);
  }

  close() {
    if (!this.dialog.open) return;
    this.viewer.close();
    this.dialog.close();
  }

  /** @param {number} by 1 for the next picture, -1 for the one before */
  step(by) {
    const { listing } = this.host;
    const index = listing.indexOf(this.name);
    const name = index < 0 ? undefined : listing.names[index + by];
    if (name !== undefined) this.host.moveTo(name);
  }

  #togglePanel() {
    this.dialog.classList.toggle('alone');
  }

  #download() {
    element('a', { href: downloadUrl(this.name), download: '' }).click();
  }

  async #openUrl() {
    await this.record.loading; // a srcset has no width beyond the picture's
    openUrlPanel(this.record.current, this.host.caller);
  }

  async #delete() {
    const { name } = this;
    const isSure = await confirmAction(
      `Delete ${lastPart(name)}?`,
      'It stays in the bin for some days, and can be brought back.',
      'Delete',
    );
    if (!isSure) return;
    try {
      await deleteImage(name);
    } catch (error) {
      notifyError(error);
      return;
    }
    this.host.removed([name]);
    this.host.leave();
    notify(`${lastPart(name)} is deleted.`, {
      label: 'Undo',
      run: () => restoreImage(name).then(() => this.host.reload(), notifyError),
    });
  }

  /** Give the picture a label, and go on. @param {Promise<boolean>} labelled */
  async #goOn(labelled) {
    try {
      if (await labelled) this.step(1);
    } catch (error) {
      notifyError(error);
    }
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (isTyping(event)) return;
    /** @type {Record<string, () => void>} */
    const acts = {
      ArrowLeft: () => this.step(-1),
      ArrowRight: () => this.step(1),
      '+': () => this.viewer.zoom(1.5),
      '-': () => this.viewer.zoom(1 / 1.5),
      0: () => this.viewer.whole(),
      i: () => this.#togglePanel(),
    };
    if (this.host.may('write')) {
      acts.e = () => this.record.edit();
      acts.r = () => this.#goOn(this.labels.repeat(this.name));
      if (/^[1-9]$/.test(event.key)) acts[event.key] = () => this.#goOn(this.labels.give(event.key, this.name));
    }
    if (this.host.may('delete')) acts.Delete = () => this.#delete();
    if (!Object.hasOwn(acts, event.key)) return;
    event.preventDefault();
    acts[event.key]();
  }
}

/**
 * @param {string} side
 * @param {string} label
 * @param {string} name of the icon
 * @param {() => void} click
 */
function stepButton(side, label, name, click) {
  return element(
    'button',
    { type: 'button', className: `step ${side}`, 'aria-label': label, on: { click } },
    icon(name),
  );
}
