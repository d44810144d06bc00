// From what the page knows to what is seen: the id map and its colours, the lists, the marks over the sphere. It changes
// nothing; what a hand does with what is seen is in controls.js.

import { place } from "./api.js";
import { $ } from "./elements.js";
import { foreseen } from "./foreseen.js";
import { lonLat } from "./geometry.js";
import { drawInk, hasInk } from "./ink.js";
import { palette } from "./overlay.js";
import { chosen, page, revise, timeline, tools, view, waits } from "./page.js";
import { called, listClasses, showClasses, showDetail, showObjects, showPictures } from "./panels.js";

const pen = $("ink").getContext("2d");
let inking = false;

export function ink() {
  if (inking) return;
  inking = true;
  requestAnimationFrame(() => {
    inking = false;
    const canvas = $("ink"), [width, height] = view.full, one = chosen()[0];
    const keyboard = Boolean(tools.byKeys && document.activeElement === $("stage") && page.state);
    const what = { clicks: one?.clicks ?? [], radiusDeg: radiusDeg(), colour: one?.colour ?? "#ff3d71", keyboard, strokes: page.strokes.filter((stroke) => stroke.frame === page.frame), place: placeOf(revise.current) };
    canvas.hidden = !hasInk(tools, what);
    if (canvas.hidden) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    drawInk(pen, view, tools, what);
  });
}

// From 0.1° to 30°, in even steps of the eye.
export function radiusDeg() { return 0.1 * 300 ** ($("radius").value / 100); }

// Where the entry that is looked at is, on its own frame.
function placeOf(one) { return one && one.lon_deg !== null && one.picture === page.state?.picture && (page.frame ?? 0) === one.frame ? [one.lon_deg, one.lat_deg] : null; }

// What is under the pointer, also where the view has turned or an object has changed under it.
export function readout() {
  if (!tools.hover) { $("readout").textContent = ""; return; }
  const [lon, lat] = lonLat(view.camera.at(...tools.hover)), number = page.map?.at(lon, lat), one = number && page.state.objects.find((other) => other.id === number);
  $("readout").textContent = `${lon.toFixed(1)}°, ${lat.toFixed(1)}°${one ? ` · ${called(one)}` : ""}`;
}

export function pictures() { showPictures(page.list, page.state?.picture); }

export function facts() {
  const { predictor, method, following } = page.list;
  $("facts").textContent = `Clicks: ${predictor}${method ? `; method ${method}` : ""}${page.state?.video ? `. Propagation: ${following}` : ""}`;
}

export function people({ people: others }) {
  if (others) $("people").textContent = others.length ? `also here: ${others.join(", ")}` : "";
}

// The buttons of the picture as a whole.
export function acts(state) {
  $("undo").disabled = !state.can_undo;
  $("redo").disabled = !state.can_redo;
  $("status").disabled = false;
  for (const button of document.querySelectorAll("[data-save]")) button.disabled = !state.objects.some((one) => one.pixels && one.review !== "rejected");
}

// What is there, and what the changes that wait will make of it.
export function foresee() {
  page.state.objects = foreseen(page.state.told, waits());
  const ids = new Set(page.state.objects.map((one) => one.id));
  page.chosen = new Set([...page.chosen].filter((id) => ids.has(id)));
  paint();
}

// The id map, the colours and the lists: after any change of what is there, chosen or hidden.
export function paint() {
  if (!page.state) return;
  const { objects } = page.state;
  const masks = objects.filter((one) => one.mask && page.runs.has(one.mask) && !page.hidden.has(one.id) && one.review !== "rejected").map((one) => ({ number: one.id, runs: page.runs.get(one.mask), pixels: one.pixels }));
  const rows = page.map.show(masks);
  if (view.gl) {
    if (rows) view.idsChanged(...rows);
    view.setPalette(palette(objects.map((one) => [one.id, one.colour])));
    view.chosen = page.chosen.size === 1 ? [...page.chosen][0] : 0;
  }
  showObjects(objects, page.chosen, page.hidden);
  showDetail(chosen(), page.hidden, { pending: Boolean(page.fresh?.pending), category: page.category ?? "" });
  timeline.mark(objects, chosen());
  classes();
  readout();
  document.body.dataset.chosen = JSON.stringify([...page.chosen]);
  ink();
}

// The classes in their order, which the digits mean: in this browser new ones come last, so that a hand can learn them.
export function classes() {
  const name = `pano-classes-${place}`, kept = JSON.parse(localStorage.getItem(name) || "[]");
  const used = [...page.list.classes, ...(page.state?.objects ?? []).map((one) => one.category), page.category].filter(Boolean);
  const all = [...new Set([...kept, ...[...new Set(used)].sort()])];
  if (all.length > kept.length) localStorage.setItem(name, JSON.stringify(all.slice(0, 500)));
  page.classes = all;
  listClasses(all);
  showClasses(all, chosen(), page.category ?? "");
}
