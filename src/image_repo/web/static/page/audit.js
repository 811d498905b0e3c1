/** The audit log, for administrators: who changed what, the newest first. */

import { getJson } from './api.js';
import { element } from './dom.js';

/** @typedef {Record<string, any>} Line */

/**
 * Return the section of the audit log.
 * @returns {Promise<HTMLElement>}
 */
export async function auditSection() {
  const { target, lines, detail } = await getJson('access/audit');
  const rows = lines.map((/** @type {Line} */ line) => row(line));
  const table = element(
    'div',
    { className: 'audit', tabIndex: 0, role: 'region', 'aria-label': 'Audit log' },
    element('table', {}, element('tbody', {}, ...rows)),
  );
  const note = element('p', { className: 'quiet' }, noteOf(target, lines.length, detail));
  return element('section', {}, element('h3', {}, 'Audit'), ...(rows.length ? [table] : []), note);
}

/**
 * Say where the log is.
 * @param {string | null} target
 * @param {number} count
 * @param {string} [detail] why it cannot be read
 */
function noteOf(target, count, detail) {
  if (detail) return detail;
  if (target === null) return 'Nothing is written down: access.audit: FILE in the configuration begins an audit log.';
  if (target === 'log') return 'The audit lines are in the log of the server; only of a file they are shown here.';
  return `${count ? 'The newest lines' : 'Nothing is written yet'} of ${target}, on the node that answers.`;
}

/** @param {Line} line */
function row({ time = '', who, action = '', path = '', query, status = '' }) {
  const cells = [
    time.slice(0, 19).replace('T', ' '),
    who ?? 'anybody',
    action,
    query ? `${path}?${query}` : path,
    String(status),
  ];
  return element('tr', { className: status >= 400 ? 'refused' : '' }, ...cells.map((text) => element('td', {}, text)));
}
