/** Files with the paths that they have in what was dropped or chosen. */

/**
 * @typedef {object} PathFile
 * @property {string} path with slashes, from the dropped folder on
 * @property {File} file
 */

/**
 * Return the files of a drop, those in folders too. To be called while the event is handled.
 * @param {DataTransfer} transfer
 * @returns {Promise<PathFile[]>}
 */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items]
    .map((item) => item.webkitGetAsEntry?.())
    .filter((entry) => entry !== null && entry !== undefined);
  if (!entries.length) return chosenFiles(transfer.files);
  /** @type {PathFile[]} */
  const files = [];
  for (const entry of entries) await walk(entry, files);
  return files;
}

/**
 * @param {FileSystemEntry} entry
 * @param {PathFile[]} files
 */
async function walk(entry, files) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) =>
      /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject),
    );
    files.push({ path: entry.fullPath.replace(/^\//, ''), file });
    return;
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  // a folder is read a hundred entries at a time, until none is left
  for (;;) {
    const part = /** @type {FileSystemEntry[]} */ (
      await new Promise((resolve, reject) => reader.readEntries(resolve, reject))
    );
    if (!part.length) return;
    for (const each of part) await walk(each, files);
  }
}

/**
 * Return the files of a list, with their paths where a folder was chosen.
 * @param {FileList} list
 * @returns {PathFile[]}
 */
export const chosenFiles = (list) => [...list].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
