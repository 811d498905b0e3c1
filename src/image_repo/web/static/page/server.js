/** The server at a glance, for those who run it: health, caches, work, free space. */

import { ROOT, send } from './api.js';
import { keysSection } from './api_keys.js';
import { auditSection } from './audit.js';
import { element } from './dom.js';
import { notifyError, openDialog } from './notices.js';
import { bytes, digits } from './words.js';

/** Line of Prometheus' text format. */
const LINE = /^(\w+)(?:\{([^}]*)\})? (\S+)$/;

/**
 * Open the dialog.
 * @param {boolean} isAdmin whether the caller may see keys and audit log
 */
export async function openServer(isAdmin) {
  try {
    // 503 has the state of the parts as well
    const health = await (
      await fetch(new URL('readyz?verbose', ROOT), { headers: { Accept: 'application/json' } })
    ).json();
    const values = readMetrics(await (await send('metrics')).text());
    const dialog = openDialog('Server', ...sections(health, values));
    if (!isAdmin) return;
    dialog.classList.add('wide');
    dialog.append(await keysSection(), await auditSection());
  } catch (error) {
    notifyError(error);
  }
}

/**
 * Return the values of metrics, by name with their labels' values.
 * @param {string} text
 * @returns {Map<string, number>} such as `cache_bytes memory` → 1024
 */
export function readMetrics(text) {
  const values = new Map();
  for (const line of text.split('\n')) {
    const match = line.match(LINE);
    if (!match) continue;
    const labels = [...(match[2] ?? '').matchAll(/="([^"]*)"/g)].map(([, value]) => value);
    values.set([match[1].replace('image_repo_', ''), ...labels].join(' '), Number(match[3]));
  }
  return values;
}

/**
 * @param {{parts?: Record<string, string>, detail?: string}} health
 * @param {Map<string, number>} values
 */
function sections({ parts = {}, detail = '' }, values) {
  const count = (/** @type {string} */ name) => digits(values.get(name) ?? 0);
  const size = (/** @type {string} */ name) => bytes(values.get(name) ?? 0);
  const layers = ['memory', 'disk', 'cache'].map((layer) => [`Answered from ${layer}`, count(`hits_total ${layer}`)]);
  const caches = ['memory', 'disk'].map((tier) => [
    `Cache in ${tier}`,
    `${size(`cache_bytes ${tier}`)}, ${count(`cache_entries ${tier}`)} pictures`,
  ]);
  const folders = ['originals', 'cache'].filter((folder) => values.has(`free_bytes ${folder}`));
  return [
    table('Health', detail ? [['', detail]] : Object.entries(parts)),
    table('Pictures', [...layers, ['Rendered', count('renders_total')], ['Renders that wait', count('render_queue')]]),
    table('Caches', caches),
    table('Store', [
      ['Failed calls', count('store_errors_total')],
      [
        'Open circuits',
        digits((values.get('open_circuits originals') ?? 0) + (values.get('open_circuits cache') ?? 0)),
      ],
      ...folders.map((folder) => [`Free for ${folder}`, size(`free_bytes ${folder}`)]),
    ]),
    table('Catalogue', [
      ['Complete', values.get('catalogue_complete') ? 'yes' : 'not yet'],
      ['Changes that wait', count('catalogue_outbox')],
    ]),
    element(
      'p',
      { className: 'quiet' },
      'These are the numbers of one node since it started. ',
      element('a', { href: new URL('docs', ROOT).href }, 'The interface'),
      ' has all.',
    ),
  ];
}

/**
 * @param {string} title
 * @param {string[][]} pairs
 */
function table(title, pairs) {
  const rows = pairs.flatMap(([key, value]) => [
    element('dt', {}, key),
    element('dd', { className: value === 'ok' ? 'ok' : '' }, value),
  ]);
  return element('section', { className: 'facts' }, element('h3', {}, title), element('dl', {}, ...rows));
}
