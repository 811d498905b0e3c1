/** The page: one view at a time, whose address says what it shows. */

import { addressOf, gridQuery, readView } from './address.js';
import { caller } from './api.js';
import { SelectionBar } from './bulk.js';
import { alertText, element, icon, part } from './dom.js';
import { openExport } from './export.js';
import { Facets } from './facets.js';
import { showFolders, showTrail } from './folders.js';
import { Grid } from './grid.js';
import { Histogram } from './histogram.js';
import { installGridKeys, installKeys, showHelp } from './keys.js';
import { Listing } from './listing.js';
import { installDensity, installSort, installStacks, installTheme, showChoice } from './options.js';
import { PictureView } from './picture.js';
import { limitSizes } from './renditions.js';
import { installSearch, showChips } from './search.js';
import { Selection } from './selection.js';
import { UploadPanel } from './upload_panel.js';
import { refuse, showCaller, showCount, tellUnknownKeys, tellUnsigned } from './states.js';
import { stacked } from './stacks.js';
import { installTools, offerMap } from './tools.js';
import { lastPart } from './words.js';

/** @import { View } from './address.js' */
/** @import { Caller } from './api.js' */

class Page {
  constructor() {
    this.view = readView();
    this.listing = new Listing();
    this.selection = new Selection();
    this.grid = new Grid(
      this.selection,
      (index) => this.open(index),
      (index) => this.#toggleStack(index),
    );
    /** The listing as the grid shows it: with its stacks. */
    this.shown = this.listing;
    /** @type {Set<string>} names of stacks whose pictures stand one by one */
    this.unfolded = new Set();
    this.loading = new AbortController();
    /** @type {Caller | undefined} */
    this.caller = undefined;
    /** @type {string | null} query of the present listing */
    this.query = null;
    installTheme();
    installDensity((height) => {
      this.grid.rowHeight = height;
      this.grid.update();
    });
    installSort((sort) => this.go({ ...this.view, sort }));
    installStacks((stack) => this.go({ ...this.view, stack }));
    this.facets = new Facets(
      installSearch(
        () => this.view,
        (view) => this.go(view),
      ),
      (keys) => offerMap(this, keys),
    );
    this.histogram = new Histogram((filters) => this.go({ ...this.view, picture: '', filters }));
    addEventListener('popstate', () => this.show(readView()));
    document.addEventListener('click', (event) => this.#follow(event));
    part('export').addEventListener('click', () => openExport(this.view, this.listing.count, this.caller));
    part('help').addEventListener('click', showHelp);
    part('menu').addEventListener('click', () => this.#toggleMenu());
  }

  async start() {
    try {
      this.caller = await caller();
    } catch (error) {
      alertText(/** @type {Error} */ (error).message);
      return;
    }
    limitSizes(this.caller.requests);
    showCaller(this.caller);
    this.picture = new PictureView(this);
    const bar = new SelectionBar(this, this.selection);
    installGridKeys(this.grid, {
      open: () => this.open(this.grid.current),
      fold: () => this.#toggleStack(this.grid.current),
      remove: () => bar.remove(),
      edit: () => bar.edit(),
    });
    this.#installUpload();
    installTools(this);
    if (this.caller.may.includes('list')) await this.show(this.view);
    else refuse(this.caller);
  }

  /**
   * Show a view under an address of its own.
   * @param {View} view
   */
  go(view) {
    history.pushState({ isPicture: Boolean(view.picture) }, '', addressOf(view));
    this.show(view);
  }

  /** @param {View} view */
  async show(view) {
    const hasSameStacks = view.stack === this.view.stack;
    this.view = view;
    showTrail(view);
    showChips(view);
    showChoice('sort', view.sort);
    showChoice('stacks', view.stack);
    document.title = `${view.folder ? lastPart(view.folder) : 'Pictures'} · image_repo`;
    const query = gridQuery(view).toString();
    if (query !== this.query || !this.listing.length) {
      this.facets.show(view);
      await this.#list(query);
    } else if (!hasSameStacks) {
      this.#arrange();
      this.#describe();
    }
    this.#showPicture();
  }

  /** Open the picture of the address, or close the one that is open. */
  #showPicture() {
    const { picture: name } = this.view;
    if (name) {
      document.title = `${lastPart(name)} · image_repo`;
      this.picture?.show(name);
    } else if (this.picture?.dialog.open) {
      const index = this.shown.indexOf(this.picture.name);
      this.picture.close();
      if (index >= 0) this.grid.focus(index);
    }
  }

  /** @param {string} name of the picture to show in place of the one that is open */
  moveTo(name) {
    this.view = { ...this.view, picture: name };
    history.replaceState(history.state, '', addressOf(this.view));
    this.#showPicture();
  }

  /** Close the picture. */
  leave() {
    // back, so that the way back from the grid does not lead to the picture again
    if (history.state?.isPicture) history.back();
    else this.go({ ...this.view, picture: '' });
  }

  /** @param {string[]} names that are gone */
  removed(names) {
    this.listing.remove(new Set(names));
    this.selection.drop(names);
    this.#arrange();
    this.#describe();
  }

  /** List the view again. */
  reload() {
    this.query = null;
    return this.show(this.view);
  }

  #installUpload() {
    const panel = this.may('write')
      ? new UploadPanel(
          () => this.view.folder,
          () => this.reload(),
        )
      : null;
    installKeys(() => panel?.open());
    if (!panel) return;
    const button = element(
      'button',
      { type: 'button', className: 'primary', on: { click: () => panel.open() } },
      icon('upload'),
      element('span', {}, 'Upload'),
    );
    part('actions').prepend(button);
  }

  /** @param {string} action such as `write` */
  may(action) {
    return this.caller?.may.includes(action) ?? false;
  }

  /** @param {string} query of `/grid` */
  async #list(query) {
    this.loading.abort();
    this.loading = new AbortController();
    const { signal } = this.loading;
    this.query = query;
    const listing = new Listing();
    alertText('');
    try {
      await listing.load(new URLSearchParams(query), signal, (answer, isFirst) =>
        this.#progress(listing, answer, isFirst),
      );
    } catch (error) {
      if (signal.aborted) return;
      if (!listing.length) this.#progress(listing, {}, true);
      alertText(/** @type {Error} */ (error).message);
    }
  }

  /**
   * Show a listing that has grown.
   * @param {Listing} listing
   * @param {Record<string, any>} answer
   * @param {boolean} isFirst
   */
  #progress(listing, answer, isFirst) {
    if (isFirst) {
      this.listing = listing;
      this.#stack();
      scrollTo({ top: 0, behavior: 'instant' });
      this.grid.show(this.shown);
      tellUnknownKeys(answer, this.view);
      if (this.caller) tellUnsigned(this.caller);
    } else {
      this.#arrange();
    }
    this.#describe();
  }

  /** Show the listing with its stacks as they are now. */
  #arrange() {
    this.#stack();
    this.grid.replace(this.shown);
  }

  #stack() {
    this.shown = stacked(this.listing, this.view.stack, this.unfolded);
    this.selection.listing = this.shown;
  }

  /**
   * Fold or unfold the stack of a cell.
   * @param {number} index
   */
  #toggleStack(index) {
    const name = this.shown.toggle(index);
    if (!name) return;
    this.#arrange();
    this.grid.focus(this.shown.indexOf(name));
  }

  /** Say what the listing has. */
  #describe() {
    showCount(this.view, this.listing, this.shown);
    showFolders(this.view, this.listing);
    this.histogram.show(this.view, this.listing);
  }

  /** @param {number} index */
  open(index) {
    if (this.shown.sizeOf(index) > 1) this.#toggleStack(index);
    else this.go({ ...this.view, picture: this.shown.names[index] });
  }

  /**
   * Follow a link to another view without loading the page anew.
   * @param {MouseEvent} event
   */
  #follow(event) {
    const link = /** @type {HTMLElement} */ (event.target).closest('a[data-view], a.brand');
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    history.pushState(null, '', /** @type {HTMLAnchorElement} */ (link).href);
    this.#toggleMenu(false);
    this.show(readView());
  }

  /** @param {boolean} [isOpen] */
  #toggleMenu(isOpen = !document.body.classList.contains('menu')) {
    document.body.classList.toggle('menu', isOpen);
    part('menu').setAttribute('aria-expanded', String(isOpen));
  }
}

new Page().start();
