/** Digests of files, off the thread that draws the page. */

import { digestOf } from './sha256.js';

addEventListener('message', async ({ data: { id, file } }) => {
  try {
    postMessage({ id, sha256: await digestOf(file) });
  } catch (error) {
    postMessage({ id, mistake: String(error) });
  }
});
