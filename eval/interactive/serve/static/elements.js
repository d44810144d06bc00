// Elements of the page: found, made, and put into lists. All words go in as text.

export const $ = (id) => document.getElementById(id);
export const make = (tag, text, name) => { const element = document.createElement(tag); if (text !== undefined) element.textContent = text; if (name) element.className = name; return element; };

// Put rows into a list. What looks the same is left alone, so that it can be clicked on; what has the focus keeps it.
export function fill(list, rows) {
  const now = document.createElement("ol");
  now.append(...rows);
  if (now.innerHTML === list.innerHTML && list.childElementCount) return;
  const { object, picture, entry } = list.contains(document.activeElement) ? document.activeElement.dataset : {};
  list.replaceChildren(...rows);
  const again = object ? `[data-object="${object}"]` : entry ? `[data-entry="${entry}"]` : picture && `[data-picture="${picture}"]`;
  if (again) list.querySelector(again)?.focus({ preventScroll: true });
}

// Scroll a row's own list, or what holds it, and nothing else, until the row is seen.
export function inSight(row, list = row.closest("ol")) {
  const box = list.getBoundingClientRect(), at = row.getBoundingClientRect();
  if (at.top < box.top) list.scrollTop -= box.top - at.top;
  else if (at.bottom > box.bottom) list.scrollTop += at.bottom - box.bottom;
}

// "1 mask", "2 masks": `core/numbers.py` has its sibling.
export const counted = (value, one, many = `${one}s`) => `${value} ${value === 1 ? one : many}`;
