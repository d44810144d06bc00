// The two lists beside the sphere: pictures, and the objects of the one that is open with the form of what is chosen. Rows say by
// `data-picture`, `data-object` and `data-category` what they are; what a click on one does is in controls.js.

import { $, counted, fill, inSight, make } from "./elements.js";

const STATUS = { new: "new", open: "in work", done: "done", skipped: "skipped", damaged: "damaged" };
const REVIEW = { proposed: "to be looked at", accepted: "accepted", rejected: "rejected" };

export const called = (one) => one.name || one.category || `object ${one.id}`;

export function showPictures({ pictures, left_out }, current) {
  const search = $("picture-search").value.trim().toLowerCase();
  fill($("picture-list"), pictures.filter((one) => one.name.toLowerCase().includes(search)).map((one) => {
    const item = make("li"), button = make("button");
    button.type = "button";
    button.dataset.picture = one.id;
    button.setAttribute("aria-current", String(one.id === current));
    const people = one.people.length ? ` · ${one.people.join(", ")}` : "";
    button.title = one.name;
    button.append(make("b", one.name), make("small", `${STATUS[one.status]}${one.objects ? ` · ${counted(one.objects, "object")}` : ""}${people}`));
    item.append(button);
    return item;
  }));
  const row = $("picture-list").querySelector('[aria-current="true"]');
  if (row && current !== followed) inSight(row, $("pictures"));
  if (row) followed = current;
  const done = pictures.filter((one) => one.status === "done").length;
  $("progress-of-all").textContent = `${done} of ${pictures.length} done${left_out ? `; left out: ${left_out}` : ""}`;
}

let followed = null;

export function showObjects(objects, chosen, hidden) {
  const search = $("object-search").value.trim().toLowerCase();
  $("object-find").hidden = objects.length < 5 && !search;
  $("no-objects").hidden = objects.length > 0;
  const shown = objects.filter((one) => `${one.name} ${one.category} ${one.comment} ${one.id}`.toLowerCase().includes(search));
  fill($("objects"), shown.map((one) => {
    const item = make("li"), button = make("button", undefined, one.review === "rejected" ? "gone" : one.spans && !one.pixels ? "absent" : ""), swatch = make("i");
    button.type = "button";
    button.dataset.object = one.id;
    button.setAttribute("aria-pressed", String(chosen.has(one.id)));
    swatch.style.background = one.colour;
    const marks = [one.name && one.category, REVIEW[one.review], one.locked && "locked", hidden.has(one.id) && "hidden", one.comment && "comment", one.spans && !one.pixels ? "not on this frame" : `${(100 * one.area_sr / (4 * Math.PI)).toFixed(2)} %`];
    button.append(swatch, make("b", called(one)), make("small", marks.filter(Boolean).join(" · ")));
    item.append(button);
    return item;
  }));
  const last = [...chosen].at(-1), row = last && $("objects").querySelector(`[data-object="${last}"]`);
  if (row && row !== seen) inSight(row);
  seen = row;
}
let seen = null;

// The form of what is chosen; with nothing chosen, of what is being made (`pending`) or comes next. What is being typed in is left
// alone, whatever else happens meanwhile.
export function showDetail(chosen, hidden, { pending, category }) {
  const made = chosen.length > 0, [one] = chosen, all = (test) => chosen.every(test), typed = $("detail").contains(document.activeElement) ? document.activeElement : null;
  $("detail").hidden = false;
  const put = (field, value) => { if (typed !== $(field)) { $(field).value = value; $(field).dataset.shown = value; } };
  $("detail-title").textContent = chosen.length > 1 ? `${chosen.length} objects` : made ? called(one) : pending ? "The new object" : "The next object";
  $("detail-words").hidden = !made && !pending && !typed;
  $("detail-acts").hidden = !made;
  put("category", made ? (all((other) => other.category === one.category) ? one.category : "") : category);
  put("name", made && all((other) => other.name === one.name) ? one.name : "");
  put("comment", made && all((other) => other.comment === one.comment) ? one.comment : "");
  $("review").hidden = !made || all((other) => other.review === "own");
  const locked = made && chosen.some((other) => other.locked);
  for (const field of ["category", "name", "colour", "delete"]) if (typed !== $(field)) $(field).disabled = locked;
  if (!made) return;
  put("colour", one.colour);
  $("accept").setAttribute("aria-pressed", String(all((other) => other.review === "accepted")));
  $("reject").setAttribute("aria-pressed", String(all((other) => other.review === "rejected")));
  $("hide").setAttribute("aria-pressed", String(all((other) => hidden.has(other.id))));
  $("lock").setAttribute("aria-pressed", String(all((other) => other.locked)));
  $("merge").disabled = locked || chosen.length < 2;
  $("split").disabled = locked || chosen.length !== 1;
}

// What the class field proposes while one types.
export function listClasses(classes) {
  if (classes.join("\n") === proposed) return;
  proposed = classes.join("\n");
  $("classes").replaceChildren(...classes.map((name) => { const option = make("option"); option.value = name; return option; }));
}
let proposed = null;

// The first nine classes as buttons with their digits.
export function showClasses(classes, chosen, next) {
  const now = chosen.length ? (chosen.every((one) => one.category === chosen[0].category) ? chosen[0].category : null) : next;
  const locked = chosen.some((one) => one.locked), first = classes.slice(0, 9);
  const rows = first.map((name, k) => {
    const button = make("button", undefined, "class");
    button.type = "button";
    button.disabled = locked;
    button.title = `class “${name}” (${k + 1})`;
    button.setAttribute("aria-pressed", String(name === now));
    button.dataset.category = name;
    button.append(make("kbd", String(k + 1)), make("span", name));
    return button;
  });
  const list = $("class-list"), focused = list.contains(document.activeElement) && document.activeElement.dataset.category;
  if (rows.map((row) => row.outerHTML).join("") === [...list.children].map((row) => row.outerHTML).join("")) return;
  list.replaceChildren(...rows);
  if (focused) rows.find((row) => row.dataset.category === focused)?.focus({ preventScroll: true });
}

// Where the window is narrow, the list of pictures lies over the sphere.
export const narrow = window.matchMedia("(max-width: 1000px)");
export function showList(show = $("pictures").hidden) {
  $("pictures").hidden = !show;
  $("show-pictures").setAttribute("aria-expanded", String(show));
}
