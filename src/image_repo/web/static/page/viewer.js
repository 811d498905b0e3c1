/** Deep zoom by OpenSeadragon, from the tiles of the image service. */

import { ROOT, serviceUrl } from './api.js';
import { element } from './dom.js';
import { tileQuery } from './renditions.js';

const LIBRARY = 'static/openseadragon/openseadragon.min.js';
/** @type {Promise<any> | undefined} */
let library;

/** Fetch the library, when a picture is opened for the first time. */
function loadLibrary() {
  library ??= new Promise((resolve, reject) => {
    const src = new URL(LIBRARY, ROOT).href;
    const loaded = () => resolve(/** @type {any} */ (globalThis).OpenSeadragon);
    document.head.append(
      element('script', { src, on: { load: loaded, error: () => reject(new Error('The viewer cannot be loaded.')) } }),
    );
  });
  return library;
}

/** @param {any} source of tiles, to whose addresses the signature is added where there is one */
function addTileQuery(source) {
  const address = source.getTileUrl.bind(source);
  source.getTileUrl = (/** @type {number[]} */ ...place) => address(...place) + tileQuery();
}

/** A picture of which any part can be seen at full size. */
export class Viewer {
  /** @param {HTMLElement} stage shows it */
  constructor(stage) {
    this.stage = stage;
    /** @type {any} */
    this.viewer = null;
    /** Name of the picture that was asked for last. */
    this.name = '';
  }

  /**
   * Show a picture: at once its preview, then its tiles.
   * @param {string} name
   * @param {string} preview address of a small rendition
   */
  async open(name, preview) {
    this.name = name;
    const image = element('img', { className: 'preview', alt: name, src: preview });
    this.#replace(image);
    const OpenSeadragon = await loadLibrary();
    if (this.name !== name) return;
    this.viewer ??= this.#start(OpenSeadragon);
    this.viewer.removeAllHandlers('tile-drawn');
    this.viewer.addOnceHandler('tile-drawn', () => image.classList.add('behind'));
    this.viewer.open(`${serviceUrl(name)}/info.json`);
  }

  /**
   * Say in words why there is no picture.
   * @param {string} text
   */
  fail(text) {
    this.name = '';
    this.#replace(element('p', { className: 'preview nothing' }, text));
  }

  /** @param {Node} shown in place of what was */
  #replace(shown) {
    this.viewer?.close();
    this.stage.querySelector('.preview')?.remove();
    this.stage.append(shown);
  }

  /** @param {any} OpenSeadragon */
  #start(OpenSeadragon) {
    const target = element('div', { className: 'tiles' });
    this.stage.append(target);
    const viewer = OpenSeadragon({
      element: target,
      showNavigationControl: false,
      keyboardNavEnabled: false,
      drawer: 'canvas',
      visibilityRatio: 0.6,
      maxZoomPixelRatio: 4,
      animationTime: 0.35,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    });
    viewer.addHandler('open', () => addTileQuery(viewer.world.getItemAt(0).source));
    viewer.addHandler('open-failed', () => this.fail('The picture cannot be shown.'));
    // the dialog has keys of its own, and the canvas is one stop for Tab
    viewer.canvas.setAttribute('aria-label', 'Picture, zoomed by + and −');
    viewer.canvas.setAttribute('role', 'img');
    return viewer;
  }

  /** @param {number} factor 2 for twice as large */
  zoom(factor) {
    this.viewer?.viewport?.zoomBy(factor);
    this.viewer?.viewport?.applyConstraints();
  }

  /** Show all of it. */
  whole() {
    this.viewer?.viewport?.goHome();
  }

  close() {
    this.name = '';
    this.viewer?.destroy();
    this.viewer = null;
    this.stage.replaceChildren();
  }
}
