/** The address of the page is the query: it can be bookmarked and sent. */

/**
 * @typedef {object} View what the page shows
 * @property {string} folder without a slash at its end; empty for all
 * @property {[string, string][]} filters as the catalogue takes them: KEY or KEY__OP, and a value
 * @property {string} sort keys of an order, empty for names
 * @property {string} stack the longest time between two pictures of a stack, in seconds; empty for no stacks
 * @property {string} picture name of the picture that is open, or empty
 */

/** Members of a record, as opposed to the user's own data. */
export const RECORD =
  /^(name|version|sha256|image_id|bytes|width|height|filename|uploaded|owner|media_type|dhash|thumbhash|palette|damaged|preview|data|exif|exif\..*)$/;
const OWN = ['folder', 'sort', 'stack', 'picture'];
/** Signs of comparison → operators; the longer first. */
const SIGNS = /** @type {const} */ ([
  ['>=', '__gte'],
  ['<=', '__lte'],
  ['!=', '__ne'],
  ['~', '__regex'],
  ['>', '__gt'],
  ['<', '__lt'],
  ['=', ''],
]);
/** Words that a query has once. */
const SINGLE = ['text', 'near', 'regex'];
const TOKEN = /(?:[^\s"]|"[^"]*")+/g;

/** @returns {View} of the present address */
export function readView() {
  const query = new URLSearchParams(location.search);
  return {
    folder: (query.get('folder') ?? '').replace(/^\/+|\/+$/g, ''),
    sort: query.get('sort') ?? '',
    stack: /^\d{1,6}$/.test(query.get('stack') ?? '') ? (query.get('stack') ?? '') : '',
    picture: query.get('picture') ?? '',
    filters: [...query].filter(([name]) => !OWN.includes(name)),
  };
}

/**
 * Return the address of a view, relative to the page.
 * @param {View} view
 */
export function addressOf(view) {
  const query = new URLSearchParams();
  for (const name of /** @type {const} */ (['folder', 'sort', 'stack'])) if (view[name]) query.set(name, view[name]);
  view.filters.forEach(([name, value]) => query.append(name, value));
  if (view.picture) query.set('picture', view.picture);
  // slashes may stand in a query (RFC 3986, section 3.4), and are easier to read
  return `./${query.size ? `?${query.toString().replaceAll('%2F', '/')}` : ''}`;
}

/**
 * Return what a view lists, as parameters of `/grid`.
 * @param {View} view
 */
export function gridQuery(view) {
  const query = new URLSearchParams(view.filters);
  if (view.folder) query.set('folder', view.folder);
  if (view.sort) query.set('sort', view.sort);
  return query;
}

/**
 * Return a view's filters as parameters of the catalogue, the folder as conditions on names.
 * @param {View} view
 */
export function catalogueQuery(view) {
  const query = new URLSearchParams(view.filters);
  if (view.folder) {
    query.append('name__gte', `${view.folder}/`);
    query.append('name__lt', `${view.folder}0`); // 0 comes behind /
  }
  return query;
}

/**
 * Read what was typed: `species=fox`, `width>=2000`, `site!=north`, `taken__exists=True`, or words.
 * @param {string} text
 * @returns {[string, string][]}
 */
export function parseSearch(text) {
  /** @type {[string, string][]} */
  const filters = [];
  const words = [];
  for (const token of text.match(TOKEN) ?? []) {
    const filter = parseCondition(token);
    if (filter) filters.push(filter);
    else words.push(token.replaceAll('"', ''));
  }
  if (words.length) filters.push(['text', words.join(' ')]);
  return filters;
}

/**
 * @param {string} token
 * @returns {[string, string] | null}
 */
function parseCondition(token) {
  const at = token.search(/[=<>~]|!=/);
  if (at < 1) return null;
  const rest = token.slice(at);
  const [sign, operator] = SIGNS.find(([each]) => rest.startsWith(each)) ?? ['', ''];
  const value = rest.slice(sign.length).replace(/^"(.*)"$/, '$1');
  return sign ? [token.slice(0, at) + operator, value] : null;
}

/**
 * Add filters to a view's; free text and near duplicates replace those before.
 * @param {[string, string][]} present
 * @param {[string, string][]} added
 * @returns {[string, string][]}
 */
export function addFilters(present, added) {
  const isReplaced = (/** @type {[string, string]} */ [name, value]) =>
    added.some(([key, text]) => key === name && (SINGLE.includes(name) || text === value));
  return [...present.filter((each) => !isReplaced(each)), ...added];
}

/**
 * Return a filter as people read it.
 * @param {[string, string]} filter
 */
export function filterText([name, value]) {
  if (name === 'text') return `“${value}”`;
  if (name === 'near') return `near ${value}`;
  const [, key, operator] = name.match(/^(.*?)(__\w+)?$/) ?? ['', name, ''];
  const sign = SIGNS.find(([, each]) => each === (operator ?? ''))?.[0];
  return sign ? `${key} ${sign} ${value}` : `${key} ${(operator ?? '').slice(2)} ${value}`;
}
