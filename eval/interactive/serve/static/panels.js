// The two lists beside the sphere: pictures, and the objects of the one that is open. All names go in as text.

const $ = (id) => document.getElementById(id);
export const make = (tag, text, name) => { const element = document.createElement(tag); if (text !== undefined) element.textContent = text; if (name) element.className = name; return element; };
const STATUS = { new: "new", open: "in work", done: "done", skipped: "skipped", damaged: "damaged" };
const REVIEW = { proposed: "to be looked at", accepted: "accepted", rejected: "rejected" };

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

// "1 mask", "2 masks": `core/numbers.py` has its sibling.
export const counted = (value, one, many = `${one}s`) => `${value} ${value === 1 ? one : many}`;

export const called = (one) => one.name || one.category || `object ${one.id}`;

export function showPictures({ pictures, left_out }, current, choose) {
  const search = $("picture-search").value.trim().toLowerCase();
  fill($("picture-list"), pictures.filter((one) => one.name.toLowerCase().includes(search)).map((one) => {
    const item = make("li"), button = make("button");
    button.type = "button";
    button.dataset.picture = one.id;
    button.setAttribute("aria-current", String(one.id === current));
    const people = one.people.length ? ` · ${one.people.join(", ")}` : "";
    button.title = one.name;
    button.append(make("b", one.name), make("small", `${STATUS[one.status]}${one.objects ? `, ${one.objects}` : ""}${people}`));
    button.addEventListener("click", () => choose(one.id));
    item.append(button);
    return item;
  }));
  const done = pictures.filter((one) => one.status === "done").length;
  $("progress-of-all").textContent = `${done} of ${pictures.length} done${left_out ? `; left out: ${left_out}` : ""}`;
}

export function showObjects(objects, chosen, hidden, choose) {
  const search = $("object-search").value.trim().toLowerCase();
  const shown = objects.filter((one) => `${one.name} ${one.category} ${one.comment} ${one.id}`.toLowerCase().includes(search));
  fill($("objects"), shown.map((one) => {
    const item = make("li"), button = make("button", undefined, one.review === "rejected" ? "gone" : one.spans && !one.pixels ? "absent" : ""), swatch = make("i");
    button.type = "button";
    button.dataset.object = one.id;
    button.setAttribute("aria-pressed", String(chosen.has(one.id)));
    swatch.style.background = one.colour;
    const marks = [one.name && one.category, REVIEW[one.review], one.locked && "locked", hidden.has(one.id) && "hidden", one.comment && "comment", one.spans && !one.pixels ? "not on this frame" : `${(100 * one.area_sr / (4 * Math.PI)).toFixed(2)} %`];
    button.append(swatch, make("b", called(one)), make("small", marks.filter(Boolean).join(" · ")));
    button.addEventListener("click", (event) => choose(one.id, event.ctrlKey || event.metaKey || event.shiftKey));
    item.append(button);
    return item;
  }));
  return shown;
}

// The form of what is chosen; what is being typed in is left alone.
export function showDetail(chosen, hidden) {
  $("detail").hidden = !chosen.length;
  if (!chosen.length) return;
  const [one] = chosen, all = (test) => chosen.every(test);
  $("detail-title").textContent = chosen.length > 1 ? `${chosen.length} objects` : called(one);
  const put = (field, value) => { if (document.activeElement !== $(field)) $(field).value = value; };
  put("category", all((other) => other.category === one.category) ? one.category : "");
  put("name", all((other) => other.name === one.name) ? one.name : "");
  put("comment", all((other) => other.comment === one.comment) ? one.comment : "");
  put("colour", one.colour);
  $("review").hidden = all((other) => other.review === "own");
  $("accept").setAttribute("aria-pressed", String(all((other) => other.review === "accepted")));
  $("reject").setAttribute("aria-pressed", String(all((other) => other.review === "rejected")));
  $("hide").setAttribute("aria-pressed", String(all((other) => hidden.has(other.id))));
  $("lock").setAttribute("aria-pressed", String(all((other) => other.locked)));
  const locked = chosen.some((other) => other.locked);
  for (const field of ["category", "name", "colour", "delete"]) $(field).disabled = locked;
  $("merge").disabled = locked || chosen.length < 2;
  $("split").disabled = locked || chosen.length !== 1;
}

export function showClasses(classes) {
  $("classes").replaceChildren(...classes.map((name) => { const option = make("option"); option.value = name; return option; }));
}
