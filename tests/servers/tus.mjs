// Uploads a file with the client of tus's authors: node tus.mjs ENDPOINT FILE METADATA OPTIONS, both of these in JSON.
// Prints a line of JSON for each number of bytes that was accepted, and one at the end: {url} or {status, message}.
import { createReadStream, statSync } from 'node:fs';
import { Upload } from 'tus-js-client';

const [endpoint, file, metadata, options] = process.argv.slice(2);
const say = (members) => console.log(JSON.stringify(members));

const upload = new Upload(createReadStream(file), {
  endpoint,
  uploadSize: statSync(file).size,
  metadata: JSON.parse(metadata),
  retryDelays: Array(40).fill(250),
  onChunkComplete: (size, accepted) => say({ accepted }),
  onSuccess: () => say({ url: upload.url }),
  onError: (error) => say({ status: error.originalResponse?.getStatus() ?? 0, message: error.message }),
  ...JSON.parse(options),
});
upload.start();
