/** What the page says where there are no pictures to show, and to whom it shows them. */

import { addressOf } from './address.js';
import { alertText, element, part } from './dom.js';
import { TIMES } from './listing.js';
import { counted } from './words.js';

/** @import { View } from './address.js' */
/** @import { Caller } from './api.js' */
/** @import { Listing } from './listing.js' */

/**
 * Tell keys of a view that no record has, and what was probably meant.
 * @param {Record<string, any>} answer
 * @param {View} view
 */
export function tellUnknownKeys({ unknown_keys: unknown = [], nearest = {} }, view) {
  const address = addressOf(view);
  // the page itself asks for times
  const isOwn = (/** @type {string} */ key) => TIMES.some((each) => each === key) && !address.includes(key);
  const text = (/** @type {string} */ key) => {
    const meant = nearest[key] ? ` Did you mean ${nearest[key]}?` : '';
    return `No record has ${key}.${meant}`;
  };
  alertText(
    unknown
      .filter((/** @type {string} */ key) => !isOwn(key))
      .map(text)
      .join(' '),
  );
}

/**
 * Say why the thumbnails cannot be shown, where requests are to be signed.
 * @param {Caller} caller
 */
export function tellUnsigned({ requests }) {
  if (requests?.mode !== 'signed' || requests.signature) return;
  alertText('This server renders signed requests alone: the page shows pictures to those who may write.');
}

/**
 * Say how many pictures and stacks there are; the choice of stacks is offered where times are known.
 * @param {View} view
 * @param {Listing} listing
 * @param {Listing} shown with its stacks
 */
export function showCount(view, listing, shown) {
  const stacks = shown.stackCount ? `, ${counted(shown.stackCount, 'stack')}` : '';
  part('count').textContent = counted(listing.count, 'picture') + stacks;
  const hasTimes = listing.times['exif.captured'].some((time) => !Number.isNaN(time));
  part('stack-choice').hidden = !hasTimes && !view.stack;
  showEmpty(view, listing);
}

/**
 * Say in words that nothing was found, and what to do.
 * @param {View} view
 * @param {Listing} listing
 */
function showEmpty(view, listing) {
  const empty = part('empty');
  empty.hidden = listing.length > 0;
  if (listing.length) return;
  const text = view.filters.length ? 'No picture matches.' : 'No pictures yet.';
  const hint = view.filters.length
    ? 'Take a filter away, or search for something else.'
    : 'Drop files or folders onto this page.';
  empty.replaceChildren(element('p', {}, text), element('p', { className: 'quiet' }, hint));
}

/** @param {Caller} caller */
export function showCaller(caller) {
  if (!caller.name && caller.login) part('actions').append(loginLink(caller.login, 'button'));
  if (caller.name && caller.logout)
    part('actions').append(element('a', { className: 'button', href: caller.logout, title: caller.name }, 'Log out'));
}

/**
 * Return a link to the login, from which the way leads back to the view.
 * @param {string} login
 * @param {string} className
 */
function loginLink(login, className) {
  const link = element('a', { className, href: login }, 'Log in');
  link.addEventListener('click', () => {
    link.href = `${login}?${new URLSearchParams({ next: location.pathname + location.search })}`;
  });
  return link;
}

/**
 * Say that the pictures are private, and how to get in.
 * @param {Caller} caller
 */
export function refuse(caller) {
  const text = caller.name ? `${caller.name} may not list the pictures here.` : 'The pictures here are private.';
  const way = caller.login
    ? element('p', {}, loginLink(caller.login, 'button primary'))
    : element(
        'p',
        { className: 'quiet' },
        'Programs send an API key. For a link to a picture, ask who runs this server.',
      );
  part('empty').hidden = false;
  part('empty').replaceChildren(element('p', {}, text), way);
  part('side').hidden = true;
}
