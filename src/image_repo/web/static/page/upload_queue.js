/** Uploads: some at a time; what is there already is passed over, what failed can be tried again. */

import { fileUrl, getJson, ROOT, sendBody } from './api.js';
import { RESUMABLE_BYTES, sendInParts } from './resumable_upload.js';

/** @import { PathFile } from './dropped.js' */

/** Uploads at a time. */
const AT_ONCE = 3;
/** Seconds until the server is tried again, doubled each time up to the greatest. */
const FIRST_PAUSE_S = 2;
const MAX_PAUSE_S = 30;

/**
 * @typedef {object} Upload
 * @property {string} name of the image
 * @property {File} file
 * @property {'waiting' | 'checking' | 'sending' | 'done' | 'skipped' | 'failed'} state
 * @property {number} sent bytes
 * @property {string} reason why it failed
 */

/** Sends files one after another. */
export class UploadQueue {
  /** @param {() => void} changed called after each change, often */
  constructor(changed) {
    this.changed = changed;
    /** @type {Upload[]} */
    this.uploads = [];
    /** Data for all, as JSON; empty for none. */
    this.data = '';
    /** Whether the server cannot be reached, and uploads wait for it. */
    this.isPaused = false;
    this.pause = FIRST_PAUSE_S;
    this.running = 0;
    this.begun = 0;
    this.next = 0;
    /** @type {Worker | null} */
    this.worker = null;
    this.hashes = new Map();
  }

  /**
   * Add files below a folder. Hidden ones are passed over: no image can have their names.
   * @param {PathFile[]} files
   * @param {string} folder
   */
  add(files, folder) {
    if (!this.running) this.begun = performance.now();
    for (const { path, file } of files) {
      if (path.split('/').some((each) => each.startsWith('.'))) continue;
      this.uploads.push({ name: folder ? `${folder}/${path}` : path, file, state: 'waiting', sent: 0, reason: '' });
    }
    this.#start();
  }

  /** Try again what failed. */
  retry() {
    for (const upload of this.uploads) if (upload.state === 'failed') this.#wait(upload);
    this.resume();
  }

  /** Go on after a pause. */
  resume() {
    this.isPaused = false;
    this.next = 0;
    this.#start();
  }

  /** @param {Upload} upload */
  #wait(upload) {
    Object.assign(upload, { state: 'waiting', sent: 0, reason: '' });
  }

  #start() {
    while (this.running < AT_ONCE && !this.isPaused) {
      const upload = this.#take();
      if (!upload) break;
      this.running += 1;
      this.#run(upload).finally(() => {
        this.running -= 1;
        this.#start();
      });
    }
    this.changed();
  }

  /** @returns {Upload | undefined} the next that waits */
  #take() {
    while (this.next < this.uploads.length && this.uploads[this.next].state !== 'waiting') this.next += 1;
    return this.uploads[this.next++];
  }

  /** @param {Upload} upload */
  async #run(upload) {
    upload.state = 'checking';
    try {
      if (await this.#isThere(upload)) {
        upload.state = 'skipped';
      } else {
        upload.state = 'sending';
        await this.#send(upload);
        upload.state = 'done';
      }
      this.pause = FIRST_PAUSE_S;
    } catch (error) {
      this.#fail(upload, /** @type {any} */ (error));
    }
  }

  /**
   * @param {Upload} upload
   * @param {{message: string, status?: number}} error
   */
  #fail(upload, { message, status }) {
    if (status !== 0) {
      Object.assign(upload, { state: 'failed', reason: message });
      return;
    }
    this.#wait(upload);
    if (this.isPaused) return;
    this.isPaused = true;
    setTimeout(() => this.isPaused && this.resume(), this.pause * 1000);
    this.pause = Math.min(MAX_PAUSE_S, this.pause * 2);
  }

  /**
   * Return whether the server has these bytes under this name. The digest is computed where the sizes agree.
   * @param {Upload} upload
   */
  async #isThere({ name, file }) {
    try {
      const record = await getJson(fileUrl(name, { meta: 'True' }));
      return record.bytes === file.size && record.sha256 === (await this.#digest(file));
    } catch (error) {
      if (/** @type {any} */ (error).status === 404) return false;
      throw error;
    }
  }

  /**
   * @param {File} file
   * @returns {Promise<string>}
   */
  #digest(file) {
    this.worker ??= this.#startWorker();
    const id = crypto.getRandomValues(new Uint32Array(2)).join();
    return new Promise((resolve, reject) => {
      this.hashes.set(id, { resolve, reject });
      this.worker?.postMessage({ id, file });
    });
  }

  #startWorker() {
    const worker = new Worker(new URL('static/page/sha256_worker.js', ROOT), { type: 'module' });
    worker.addEventListener('message', ({ data: { id, sha256, mistake } }) => {
      const { resolve, reject } = this.hashes.get(id);
      this.hashes.delete(id);
      if (sha256) resolve(sha256);
      else reject(new Error(mistake));
    });
    return worker;
  }

  /** @param {Upload} upload */
  async #send(upload) {
    const { file, name } = upload;
    const progress = (/** @type {number} */ sent) => {
      upload.sent = sent;
      this.changed();
    };
    if (file.size >= RESUMABLE_BYTES && (await sendInParts(file, name, this.data, progress))) return;
    const form = new FormData();
    if (this.data) form.append('data', this.data);
    form.append('file', file, file.name);
    await sendBody('POST', fileUrl(name), form, { Accept: 'application/json' }, progress);
  }

  /** Return how many are in each state, and bytes sent, in all, and a second. */
  summary() {
    const counts = { waiting: 0, checking: 0, sending: 0, done: 0, skipped: 0, failed: 0 };
    let sent = 0;
    let total = 0;
    for (const upload of this.uploads) {
      counts[upload.state] += 1;
      if (upload.state === 'skipped' || upload.state === 'failed') continue;
      total += upload.file.size;
      sent += upload.state === 'done' ? upload.file.size : Math.min(upload.sent, upload.file.size);
    }
    const speed = (sent / Math.max(1, performance.now() - this.begun)) * 1000;
    return { ...counts, sent, total, speed, left: counts.waiting + counts.checking + counts.sending };
  }
}
