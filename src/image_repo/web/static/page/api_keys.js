/** API keys, for administrators: listed, made, revoked. */

import { getJson, send, sendJson } from './api.js';
import { copyField } from './copy.js';
import { element } from './dom.js';
import { confirmAction, notify, notifyError } from './notices.js';

/**
 * @typedef {object} Key
 * @property {string} name
 * @property {string} role
 * @property {string} prefix
 * @property {string | null} expires
 * @property {string | null} created
 */

const ROLES = ['reader', 'writer', 'admin'];

/**
 * Return the section of the keys.
 * @returns {Promise<HTMLElement>}
 */
export async function keysSection() {
  const { keys } = await getJson('access/keys');
  const list = element('ul', { className: 'items' }, ...keys.map((/** @type {Key} */ key) => row(key)));
  const made = element('div', { role: 'status' });
  return element('section', { className: 'keys-section' }, element('h3', {}, 'API keys'), list, form(list, made), made);
}

/** @param {Key} key */
function row({ name, role, prefix, expires, created }) {
  const facts = [
    role,
    prefix && `below ${prefix}`,
    created && `since ${created.slice(0, 10)}`,
    expires && `${Date.parse(expires) < Date.now() ? 'expired' : 'until'} ${expires.slice(0, 10)}`,
  ];
  const button = element('button', { type: 'button', className: 'danger', 'aria-label': `Revoke ${name}` }, 'Revoke');
  const item = element(
    'li',
    { data: { key: name } },
    element('span', { className: 'name' }, name),
    element('span', { className: 'quiet' }, facts.filter(Boolean).join(', ')),
    button,
  );
  button.addEventListener('click', () => revoke(name, item));
  return item;
}

/**
 * @param {string} name
 * @param {HTMLElement} item
 */
async function revoke(name, item) {
  if (!(await confirmAction(`Revoke ${name}?`, 'Programs that send this key are refused from then on.', 'Revoke')))
    return;
  try {
    await send(`access/keys/${encodeURIComponent(name)}`, { method: 'DELETE' });
  } catch (error) {
    notifyError(error);
    return;
  }
  item.remove();
  notify(`${name} is revoked.`);
}

/**
 * Return the form for a new key.
 * @param {HTMLElement} list
 * @param {HTMLElement} made shows the key, this once
 */
function form(list, made) {
  const mistake = element('p', { className: 'mistake', role: 'alert' });
  const field = (/** @type {string} */ label, /** @type {HTMLElement} */ input) =>
    element('label', {}, element('span', {}, label), input);
  const roles = ROLES.map((role) => element('option', { value: role }, role));
  const result = element(
    'form',
    { className: 'new-key' },
    field('Name', element('input', { type: 'text', name: 'name', required: true, autocomplete: 'off' })),
    field('Role', element('select', { name: 'role' }, ...roles)),
    field('Folder', element('input', { type: 'text', name: 'prefix', placeholder: 'all', autocomplete: 'off' })),
    field('Expires', element('input', { type: 'date', name: 'expires' })),
    element('button', {}, 'Make a key'),
    mistake,
  );
  result.addEventListener('submit', async (event) => {
    event.preventDefault();
    mistake.textContent = '';
    const given = [...new FormData(result)].filter(([, value]) => value);
    try {
      const { key, ...facts } = await (await sendJson('POST', 'access/keys', Object.fromEntries(given))).json();
      list.append(row(facts));
      const note = element('p', { className: 'quiet' }, `The key ${facts.name}, shown this once: copy it now.`);
      made.replaceChildren(note, copyField('Key', key));
      result.reset();
    } catch (error) {
      mistake.textContent = /** @type {Error} */ (error).message;
    }
  });
  return result;
}
