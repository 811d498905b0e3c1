/** The list of uploads, and where they come from: dropped or chosen files and folders. */

import { element, iconButton } from './dom.js';
import { chosenFiles, droppedFiles } from './dropped.js';
import { notify } from './notices.js';
import { parse } from './record.js';
import { UploadQueue } from './upload_queue.js';
import { bytes, counted, digits, duration } from './words.js';

/** @import { Upload } from './upload_queue.js' */
/** @import { PathFile } from './dropped.js' */

/** The most uploads that are listed: those that failed, are sent or wait first. */
const MAX_LISTED = 100;
/** Milliseconds between two looks at the queue. */
const REFRESH_MS = 150;
const ORDER = ['failed', 'sending', 'checking', 'waiting', 'done', 'skipped'];
const STATES = {
  waiting: 'waits',
  checking: 'is checked',
  sending: '',
  done: 'uploaded',
  skipped: 'is there already',
  failed: '',
};

/** Shows the queue; it starts closed. */
export class UploadPanel {
  /**
   * @param {() => string} folder where uploads go, as the page shows it
   * @param {() => void} finished called when nothing is left to send
   */
  constructor(folder, finished) {
    this.folder = folder;
    this.finished = finished;
    this.timer = 0;
    /** Uploads that were done when the view was listed last. */
    this.listed = 0;
    this.queue = new UploadQueue(() => this.#refreshSoon());
    this.target = element('input', { type: 'text', id: 'upload-folder', placeholder: 'the top', spellcheck: false });
    this.data = element('textarea', {
      id: 'upload-data',
      rows: 3,
      placeholder: '{"site": "plot 12"}',
      spellcheck: false,
      'aria-describedby': 'upload-mistake',
    });
    this.mistake = element('p', { id: 'upload-mistake', className: 'mistake', role: 'alert' });
    this.state = element('p', { role: 'status', className: 'state' });
    this.progress = element('progress', { max: 1, value: 0, 'aria-label': 'Sent', hidden: true });
    this.list = element('ul', { 'aria-label': 'Uploads' });
    this.retry = element('button', { type: 'button', hidden: true, on: { click: () => this.queue.retry() } }, 'Retry');
    this.element = this.#build();
    document.body.append(this.element);
    this.#acceptDrops();
    addEventListener('beforeunload', (event) => this.queue.summary().left && event.preventDefault());
  }

  #build() {
    return element(
      'section',
      { className: 'uploads', 'aria-label': 'Uploads', hidden: true },
      element(
        'div',
        { className: 'dialog-head' },
        element('h2', {}, 'Upload'),
        iconButton('close', 'Close', () => this.close()),
      ),
      element('div', { className: 'line' }, element('label', { for: 'upload-folder' }, 'To'), this.target),
      element(
        'div',
        { className: 'buttons' },
        this.#chooser('Choose files', {}),
        this.#chooser('Choose a folder', { webkitdirectory: true }),
      ),
      element(
        'details',
        {},
        element('summary', {}, 'Data for all'),
        element('label', { for: 'upload-data', className: 'quiet' }, 'JSON that each picture gets'),
        this.data,
      ),
      this.mistake,
      this.state,
      this.progress,
      this.retry,
      this.list,
    );
  }

  /**
   * @param {string} label
   * @param {Record<string, any>} properties
   */
  #chooser(label, properties) {
    const input = element('input', { type: 'file', multiple: true, ...properties, 'aria-label': label });
    input.addEventListener('change', () => {
      this.add(chosenFiles(/** @type {FileList} */ (input.files)));
      input.value = '';
    });
    return element('label', { className: 'button file' }, label, input);
  }

  open() {
    if (this.element.hidden) this.target.value = this.folder();
    this.element.hidden = false;
    /** @type {HTMLElement} */ (this.element.querySelector('input[type=file]')).focus();
  }

  close() {
    this.element.hidden = true;
  }

  /** @param {PathFile[]} files */
  add(files) {
    this.open();
    const { problem } = this.data.value.trim() ? parse(this.data.value) : { problem: '' };
    this.mistake.textContent = problem;
    if (problem) return;
    this.queue.data = this.data.value.trim();
    this.queue.add(files, this.target.value.replace(/^\/+|\/+$/g, ''));
  }

  #acceptDrops() {
    const isFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes('Files');
    addEventListener('dragover', (event) => {
      if (!isFiles(event)) return;
      event.preventDefault();
      document.body.classList.add('dropping');
    });
    addEventListener('dragleave', (event) => {
      if (!event.relatedTarget) document.body.classList.remove('dropping');
    });
    addEventListener('drop', async (event) => {
      if (!isFiles(event)) return;
      event.preventDefault();
      document.body.classList.remove('dropping');
      if (document.querySelector('dialog[open]')) notify('Close what is open, then drop the files again.');
      else this.add(await droppedFiles(/** @type {DataTransfer} */ (event.dataTransfer)));
    });
  }

  #refreshSoon() {
    if (!this.timer) this.timer = setTimeout(() => this.#refresh(), REFRESH_MS);
  }

  #refresh() {
    this.timer = 0;
    const summary = this.queue.summary();
    const isBusy = summary.left > 0;
    this.state.textContent = this.queue.isPaused ? waitingText(summary.left) : stateText(summary);
    this.progress.hidden = !isBusy;
    this.progress.value = summary.total ? summary.sent / summary.total : 0;
    this.retry.hidden = !summary.failed || isBusy;
    const sorted = [...this.queue.uploads].sort((one, other) => ORDER.indexOf(one.state) - ORDER.indexOf(other.state));
    this.list.replaceChildren(...sorted.slice(0, MAX_LISTED).map(row));
    // All may be sent between two looks.
    if (!isBusy && summary.done > this.listed) {
      this.listed = summary.done;
      this.finished();
    }
  }
}

/** @param {number} count */
const waitingText = (count) =>
  `The server cannot be reached; ${counted(count, 'upload')} ${count === 1 ? 'waits' : 'wait'}.`;

/** @param {ReturnType<UploadQueue['summary']>} summary */
function stateText({ left, done, skipped, failed, sent, total, speed }) {
  const parts = [left ? `${digits(done)} of ${digits(done + left)} uploaded` : `${digits(done)} uploaded`];
  if (skipped) parts.push(`${digits(skipped)} already there`);
  if (failed) parts.push(`${digits(failed)} failed`);
  if (left && speed > 0 && sent) parts.push(`${bytes(speed)}/s`, `${duration((total - sent) / speed)} left`);
  return parts.join(' · ');
}

/** @param {Upload} upload */
function row({ name, file, state, sent, reason }) {
  const percent =
    state === 'sending' ? `${Math.round((100 * Math.min(sent, file.size)) / Math.max(1, file.size))} %` : '';
  return element(
    'li',
    { className: state },
    element('span', { className: 'name', title: name }, name),
    element('span', { className: 'quiet' }, percent || STATES[state] || bytes(file.size)),
    reason && element('span', { className: 'mistake' }, reason),
  );
}
