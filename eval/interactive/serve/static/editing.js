// What a hand does to objects. Which are chosen and hidden is a matter of this browser alone. A change goes into the queue
// (api.js) with the picture and the version that it was made on, and what can be foreseen of it is shown at once.

import { place } from "./api.js";
import { direction, inside } from "./geometry.js";
import { api, chosen, ids, meant, page, timeline, tools, view, waiting } from "./page.js";
import { foresee, paint } from "./painting.js";
import { called } from "./panels.js";
import { fail, hush, say } from "./saying.js";

// `own`: a hand did it. What answers may choose something, too, but never against a hand that was there meanwhile.
export function choose(id, more = false, own = true) {
  page.fresh = null;
  if (own) page.choices += 1;
  if (!more) page.chosen = new Set();
  if (id !== null) { if (more && page.chosen.has(id)) page.chosen.delete(id); else page.chosen.add(id); }
  paint();
}

// The next or the one before, in the list's order.
export function step(by, more) {
  const { objects } = page.state;
  if (!objects.length) return;
  const last = ids().at(-1), at = objects.findIndex((one) => one.id === last);
  choose(objects[(at + by + objects.length + (at < 0 && by < 0 ? 1 : 0)) % objects.length].id, more);
  gotoChosen();
}

export function gotoChosen() {
  const [one] = chosen(), middle = one?.middle_deg;
  if (middle) { view.camera.turn(...middle); view.turned(); }
  else if (one?.spans?.length) {  // not on this frame: to the nearest that shows it
    const ends = one.spans.flat();
    timeline.go(ends.reduce((a, b) => Math.abs(b - page.frame) < Math.abs(a - page.frame) ? b : a));
  }
}

export function gotoUnseen() {
  const middle = chosen()[0]?.middle_deg, at = middle && view.camera.place(direction(...middle)), { width, height } = view.camera;
  if (middle && !(at && at[0] > 0 && at[0] < width && at[1] > 0 && at[1] < height)) gotoChosen();
}

export function toggleHidden() {
  if (!page.chosen.size) { fail("choose what is to be hidden first"); return; }
  const all = ids().every((id) => page.hidden.has(id));
  for (const id of ids()) { if (all) page.hidden.delete(id); else page.hidden.add(id); }
  keepHidden();
}

// Hide all but what is chosen; all are shown again if they are hidden already.
export function isolate() {
  if (!page.state) return;
  const others = page.state.objects.map((one) => one.id).filter((one) => !page.chosen.has(one));
  page.hidden = new Set(page.chosen.size && !others.every((one) => page.hidden.has(one)) ? others : []);
  keepHidden();
}

// Kept in the browser, so that a reload changes nothing, and others see all.
const named = (picture) => `pano-hidden-${place}-${picture}`;
export function hiddenOn(picture) { return new Set(JSON.parse(localStorage.getItem(named(picture)) || "[]")); }
function keepHidden() {
  const name = named(page.state.picture);
  if (page.hidden.size) localStorage.setItem(name, JSON.stringify([...page.hidden])); else localStorage.removeItem(name);
  paint();
}

export const DRAWS = { click: "computing the mask", box: "computing the mask", brush: null, polygon: null };

export function change(edit) {
  if (!page.state) return;
  hush();
  page.back = null;
  if (edit.kind in DRAWS) {
    const one = chosen()[0];
    edit.object = one ? one.id : page.fresh?.pending ? page.fresh : null;
    if (edit.object === null && (edit.erase || edit.mode === "erase" || edit.mode === "cut")) { fail("choose the object first"); return; }
    if (!one) edit.category = page.category ?? "";
  }
  say(joins(edit) ?? "");
  const request = api.change(page.state.picture, page.state.version, edit, page.frame);
  page.intents.set(request, page.choices);
  if (edit.object === null) page.fresh = { pending: request };
  if (edit.kind === "brush") page.strokes.push({ ...edit, request, frame: page.frame });
  if (DRAWS[edit.kind]) waiting.set("computing", DRAWS[edit.kind]);
  if (edit.kind === "set" || edit.kind === "delete") foresee(); else paint();
}

// A thing that is drawn away from what is chosen joins it: that is what a hand may not have meant, so it is said.
function joins(edit) {
  const one = edit.kind in DRAWS && chosen()[0];
  if (!one?.pixels || page.hidden.has(one.id) || edit.positive === false || edit.erase || (edit.mode ?? "add") !== "add") return null;
  const places = edit.points ?? edit.corners ?? [[edit.lon_deg, edit.lat_deg]];
  if ([...places, ...inside(places)].some((place) => page.map.at(...place) === one.id)) return null;
  return `more of “${called(one)}”; for an object of its own: Ctrl+Z, N, and again`;
}

// The chosen objects become the first of them; its words are kept.
export function merge() {
  const [kept, ...rest] = ids().map((id) => chosen().find((one) => one.id === id));
  const lost = rest.flatMap((one) => ["name", "comment"].filter((word) => one[word] && one[word] !== kept[word]).map((word) => `the ${word} “${one[word]}”`));
  change({ kind: "merge", objects: ids() });
  if (lost.length) say(`merged into “${called(kept)}”, without ${lost.join(" and ")}; Ctrl+Z brings that back`);
}

export function set(values, objects = meant()) { if (objects.length) change({ kind: "set", objects, ...values }); else fail("choose an object first"); }

export function giveClass(category, objects = meant()) {
  page.category = category;
  if (objects.length) set({ category }, objects);
  else { paint(); say(category ? `the next object is of class “${category}”` : "the next object has no class"); }
}

export function classNumber(number) {
  if (page.classes[number - 1]) giveClass(page.classes[number - 1]);
  else fail(`there is no class number ${number} yet`);
}

// Accept or reject what is chosen, and on to the next label that nobody has looked at.
export function review(what) {
  const { objects } = page.state, at = objects.findIndex((one) => page.chosen.has(one.id));
  if (page.chosen.size) {
    if (!chosen().some((one) => one.review !== "own")) { fail("this object was drawn by hand: there is nothing to accept or reject"); return; }
    set({ review: what });
  }
  const left = page.state.objects.filter((one) => one.review === "proposed" && !page.chosen.has(one.id));
  const next = left.find((one) => page.state.objects.indexOf(one) > at) ?? left[0];
  if (next) { choose(next.id); gotoChosen(); } else say("no label of this picture is left to be looked at");
}

export function newObject() {
  choose(null);
  if (tools.name === "look") tools.choose("click");
  say(`the next click, box or stroke begins a new object${page.category ? ` of class “${page.category}”` : ""}`);
}
