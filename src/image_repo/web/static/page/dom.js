/** Elements of the document. No markup is made from text. */

/**
 * Make an element.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} [properties] `on` holds listeners, `data` data attributes; names with a dash, `role`,
 *   `for` and `list` are attributes, all others properties
 * @param {...(Node | string | null | false | undefined)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === 'on') Object.entries(value).forEach(([event, listener]) => made.addEventListener(event, listener));
    else if (name === 'data') Object.assign(made.dataset, value);
    else if (name.includes('-') || name === 'role' || name === 'for' || name === 'list') made.setAttribute(name, value);
    else /** @type {any} */ (made)[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

const SVG = 'http://www.w3.org/2000/svg';

/**
 * Make an element of SVG.
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 */
export function svgElement(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  return made;
}

/**
 * Return an icon of the page's set.
 * @param {string} name
 */
export function icon(name) {
  const made = svgElement('svg', { 'aria-hidden': 'true' });
  made.append(svgElement('use', { href: `#i-${name}` }));
  return made;
}

/**
 * Return a button with an icon alone.
 * @param {string} name of the icon
 * @param {string} label
 * @param {() => void} action
 */
export function iconButton(name, label, action) {
  return element(
    'button',
    { type: 'button', className: 'icon', title: label, 'aria-label': label, on: { click: action } },
    icon(name),
  );
}

/**
 * Return an element of the template.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function part(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`The page has no ${id}.`);
  return found;
}

/**
 * Show a mistake where screen readers read it at once; an empty text removes it.
 * @param {string} text
 */
export function alertText(text) {
  part('alert').replaceChildren(...(text ? [element('p', {}, text)] : []));
}
