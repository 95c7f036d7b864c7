// Changes the document only where something differs, so that the focus stays where it
// is and a screen reader is not disturbed.

const SVG = "http://www.w3.org/2000/svg";

/** Makes an element with these attributes and children. */
export function make(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** Makes an element of a drawing. */
export function draw(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Sets the text of an element. */
export function text(node, value) {
  const wanted = value ?? "";
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Sets an attribute of an element. */
export function set(node, name, value) {
  const wanted = String(value);
  if (node.getAttribute(name) !== wanted) node.setAttribute(name, wanted);
}

/** Shows an element, or hides it. */
export function show(node, wanted) {
  node.hidden = !wanted;
}

/**
 * Makes the children of `parent` those of `items`, in their order. `make` makes the
 * child of a new item, and `fill` writes an item into its child. Leaves children alone
 * that have no key, such as a table's head.
 */
export function list(parent, items, keyOf, makeChild, fill) {
  const focused = document.activeElement;
  const before = new Map();
  for (const child of parent.children) if (child.key !== undefined) before.set(child.key, child);
  let last = [...parent.children].findLast((child) => child.key === undefined) ?? null;
  for (const item of items) {
    const key = keyOf(item);
    let child = before.get(key);
    before.delete(key);
    if (!child) {
      child = makeChild(item);
      child.key = key;
    }
    fill(child, item);
    const place = last ? last.nextSibling : parent.firstChild;
    if (place !== child) parent.insertBefore(child, place);
    last = child;
  }
  for (const child of before.values()) child.remove();
  // A child that was moved has lost the focus.
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
}
