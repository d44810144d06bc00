// The page of `pano serve`: what is open, what is chosen, and who hears of what.

import { Api, id, maxBytes } from "./api.js";
import { direction } from "./geometry.js";
import { helpTable, listen } from "./keys.js";
import { IdMap, palette } from "./overlay.js";
import { called, counted, showClasses, showDetail, showObjects, showPictures } from "./panels.js";
import { Revise } from "./revise.js";
import { SphereView } from "./sphere.js";
import { Timeline } from "./timeline.js";
import { TOOLS, Tools, drawInk } from "./tools.js";

const $ = (id) => document.getElementById(id);
const POLL_MS = 2000, PROGRESS_MS = 1000;
const WORDS = { idle: "nothing to save", saving: "saving …", saved: "all changes are saved", offline: "not saved: the server does not answer, trying again", full: "not saved" };

const page = { list: { pictures: [], classes: [] }, state: null, chosen: new Set(), hidden: new Set(), fresh: null, map: null, runs: new Map(), strokes: [], asked: 0, frame: null, carrying: null };

const api = new Api({
  onState: (state, waiting, why) => {
    $("saved").dataset.state = document.body.dataset.saved = state;
    $("saved").textContent = state === "full" ? `${WORDS.full}: ${why}` : waiting > 1 ? `${WORDS[state]} (${waiting} changes wait)` : WORDS[state];
    if (state === "saved") busy(null);
    if (state === "offline" || state === "full") busy(null);
  },
  onAnswer: async (one, answer) => {
    page.strokes = page.strokes.filter((stroke) => stroke.request !== one.request);
    const judged = ["revise", "undo", "redo"].includes(one.edit.kind);
    if (answer.picture !== page.state?.picture) {  // she has gone on before the answer
      if (judged) await refreshRevise();
      return;
    }
    if (page.fresh?.pending === one.request && answer.touched.length) choose(answer.touched[0]);
    else if (["undo", "redo"].includes(one.edit.kind) && answer.at_frames && (page.frame < answer.at_frames[0] || page.frame > answer.at_frames[1])) timeline.go(answer.at_frames[0]);
    else if (["undo", "redo", "split", "merge"].includes(one.edit.kind) && answer.touched.length) choose(answer.touched[0]);
    await update(answer);
    if (!api.queue.length) busy(null);
    if (judged) {
      const next = one.edit.verdict && one.edit.entry === revise.at;
      await refreshRevise();
      if (next) revise.next();
    }
  },
  onRefused: (one, failure) => {
    page.strokes = page.strokes.filter((stroke) => stroke.request !== one.request);
    if (page.fresh?.pending === one.request) page.fresh = { pending: null };
    busy(null);
    if (failure.code !== "cancelled") fail(failure.message);
    look(true);
    ink();
  },
});

const view = new SphereView($("gl"), async (level, x, y) => {
  const answer = await api.ask(`api/tile/${page.state.picture}/${level}/${x}/${y}${page.frame === null ? "" : `?frame=${page.frame}`}`);
  return createImageBitmap(await answer.blob());
}, () => {
  document.body.dataset.frames = view.frames;
  document.body.dataset.settled = String(view.settled);
  ink();
});

const tools = new Tools($("stage"), view, {
  onEdit: (edit) => change(edit),
  onChoose: (lon, lat, event) => {
    const number = page.map?.at(lon, lat);
    if (number) choose(number, event.shiftKey || event.ctrlKey);
    else if (!event.shiftKey) choose(null);
  },
  onHover: (lon, lat) => readout(lon, lat),
  onTool: (name) => {
    for (const button of document.querySelectorAll("[data-tool]:not(#stage)")) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
    $("radius-field").hidden = name !== "brush" && name !== "eraser";
    $("mode-field").hidden = name !== "polygon";
    if (page.state?.video) ready();
  },
  redraw: () => ink(),
  radiusDeg: () => radiusDeg(),
  polygonMode: () => $("polygon-mode").value,
  say: (message) => { $("notice").textContent = message; },
});

const timeline = new Timeline({
  onFrame: (frame) => showFrame(frame),
  onCarry: (direction, frames) => carry(direction, frames),
  onClear: (span) => { if (page.chosen.size) change({ kind: "clear", objects: ids(), span }); },
});

const revise = new Revise({
  onGo: (entry) => { page.arriving = gotoEntry(entry); },
  onVerdict: async (entry, verdict) => {
    await page.arriving;  // a key that is quicker than the picture is not lost
    if (page.state?.picture === entry.picture) change({ kind: "revise", entry: entry.entry, verdict });
    else fail(`the verdict on “${entry.why}” was not taken, since its picture is not open: go to the entry and say it again`);
  },
});

const pen = $("ink").getContext("2d");
let drawn = false;
function ink() {
  if (drawn) return;
  drawn = true;
  requestAnimationFrame(() => {
    drawn = false;
    const canvas = $("ink");
    const [width, height] = view.full;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const keyboard = document.activeElement === $("stage") && $("stage").matches(":focus-visible") && page.state;
    const one = chosen()[0];
    drawInk(pen, view, tools, { clicks: one?.clicks ?? [], radiusDeg: radiusDeg(), colour: one?.colour ?? "#ff3d71", keyboard, strokes: page.strokes.filter((stroke) => stroke.frame === page.frame), place: placeOf(revise.current) });
  });
}

// From 0.1° to 30°, in even steps of the eye.
function radiusDeg() { return 0.1 * 300 ** ($("radius").value / 100); }

function busy(words) {
  clearInterval(page.tick);
  if (!words && page.carrying) words = "propagating";
  $("busy").hidden = !words;
  if (!words) { delete document.body.dataset.busy; return; }
  const started = performance.now();
  const tell = () => { const [done, of] = page.state?.progress ?? [0, 0]; $("doing").textContent = `${words} … ${((performance.now() - started) / 1000).toFixed(0)} s${of > 1 ? `, ${page.carrying ? "frame" : "view"} ${done} of ${of}` : ""}`; };
  document.body.dataset.busy = "";
  page.tick = setInterval(tell, 500);
  tell();
}

function fail(message) {
  $("error").firstElementChild.textContent = message;
  $("error").hidden = false;
}

function readout(lon, lat) {
  const number = page.map?.at(lon, lat), one = number && page.state.objects.find((other) => other.id === number);
  $("readout").textContent = `${lon.toFixed(1)}°, ${lat.toFixed(1)}°${one ? ` · ${called(one)}` : ""}`;
}

// ---- pictures

async function refreshList() {
  page.list = await (await api.ask((session) => `api/pictures?session=${session}`)).json();
  showPictures(page.list, page.state?.picture, open);
  showClasses(page.list.classes);
  facts();
  document.body.dataset.pictures = String(page.list.pictures.length);
  if (page.list.labelled) await refreshRevise();
}

async function refreshRevise() {
  if (!page.list.labelled) return;
  const asked = page.listing = (page.listing ?? 0) + 1;
  const answer = await (await api.ask((session) => `api/revise?session=${session}`)).json();
  if (asked === page.listing) revise.show(answer);  // an older list that comes later would take a verdict back
}

// To an entry's frame and place, with its object chosen.
async function gotoEntry(one) {
  if (page.state?.picture !== one.picture) await open(one.picture);
  if (page.state?.picture !== one.picture || revise.at !== one.entry) return;  // somebody was quicker
  if (page.state.video) timeline.go(one.frame);
  choose(page.state.objects.some((other) => other.id === one.id) ? one.id : null);
  if (one.lon_deg !== null) { view.camera.turn(one.lon_deg, one.lat_deg); view.draw(); }
  ink();
}

// Where the entry that is looked at is, on its own frame.
function placeOf(one) { return one && one.lon_deg !== null && one.picture === page.state?.picture && (page.frame ?? 0) === one.frame ? [one.lon_deg, one.lat_deg] : null; }

function facts() {
  const { predictor, method, following } = page.list;
  $("facts").textContent = `Clicks: ${predictor}${method ? `; method ${method}` : ""}${page.state?.video ? `. Propagation: ${following}` : ""}`;
}

async function open(picture) {
  if (narrow()) showList(false);
  const asked = ++page.asked;
  if (revise.current && revise.current.picture !== picture) revise.leave();
  tools.stop();
  $("error").hidden = true;
  busy("opening the picture");
  try {
    const state = await api.post("api/look", { picture, version: 0 });
    if (asked !== page.asked) return;
    Object.assign(page, { state: null, chosen: new Set(), hidden: hiddenOn(picture), fresh: null, runs: new Map(), strokes: [], map: new IdMap(state.width, state.height), frame: state.video?.frame ?? null });
    page.state = state;
    timeline.open(state.video);
    view.camera.turn(0, 0);
    if (view.gl) view.setPicture({ ...state, key: picture }, page.map);
    $("drop").hidden = true;
    $("what").textContent = `${state.name}, ${state.width}×${state.height}`;
    $("notice").textContent = state.notice;
    document.title = `${state.name} · panoforge`;
    location.hash = picture;
    await update(state);
    ready();
    await refreshList();
  } catch (failure) {
    fail(failure.message);
  } finally {
    if (!api.queue.length) busy(null);
    document.body.dataset.opened = page.state?.picture ?? "";
  }
}

// The predictor looks at the picture beforehand; in a video only at a frame that somebody rests on to click.
function ready() {
  clearTimeout(page.rest);
  if (page.frame !== null && tools.name !== "click" && tools.name !== "box") return;
  const { picture } = page.state, { frame } = page;
  page.rest = setTimeout(() => { if (page.state?.picture === picture && page.frame === frame) api.post("api/ready", { picture, frame }).catch(() => {}); }, frame === null ? 0 : 700);
}

// Show a frame; while one is on its way only the last one that was asked for counts.
async function showFrame(frame) {
  page.frame = frame;
  tools.stop();
  if (page.seeking) return;
  page.seeking = true;
  try {
    while (page.state?.video && page.state.video.frame !== page.frame) {
      const wanted = page.frame, { picture } = page.state;
      const state = await api.post("api/look", { picture, version: 0, frame: wanted });
      if (page.state?.picture !== picture) return;
      page.state = { ...page.state, ...state };
      if (wanted !== page.frame) continue;
      if (view.gl) view.nextFrame();
      await update(state);
      ready();
    }
  } catch (failure) { fail(failure.message); } finally { page.seeking = false; }
  document.body.dataset.frame = String(page.state?.video?.frame ?? "");
}

async function carry(direction, frames) {
  if (!page.state?.video || page.carrying) return;
  if (!page.chosen.size) { fail("choose the object to be propagated first"); return; }
  $("error").hidden = true;
  await api.drained();
  const { picture, version } = page.state, { frame } = page;
  page.carrying = id();
  busy("propagating");
  document.body.dataset.carrying = "";
  try {
    const answer = await api.post("api/propagate", { picture, version, request: page.carrying, frame, objects: ids(), direction, frames });
    await update(answer);
    const lost = Object.entries(answer.lost).map(([one, at]) => `${called(page.state.objects.find((other) => other.id === Number(one)) ?? { id: one })} was seen last on frame ${at + 1}`);
    $("notice").textContent = `propagated over ${counted(answer.frames_done, "frame")}${answer.cancelled ? ", then cancelled" : ""}${lost.length ? `; ${lost.join(", ")}: correct it there and propagate again` : ""}`;
  } catch (failure) { fail(failure.code === "offline" ? "the server went away while propagating: what it has written is kept, propagate again from its last frame" : failure.message); }
  page.carrying = null;
  delete document.body.dataset.carrying;
  busy(null);
  look(true);
}

function stepPicture(by, want = () => true) {
  const { pictures } = page.list, at = pictures.findIndex((one) => one.id === page.state?.picture);
  for (let k = 1; k <= pictures.length; k++) {
    const next = pictures[(at + by * k + pictures.length * 2) % pictures.length];
    if (want(next)) { if (next.id !== page.state?.picture) open(next.id); return; }
  }
}

async function upload(files) {
  for (const file of files) {
    if (file.size > maxBytes) { fail(`${file.name} has ${(file.size / 1e6).toFixed(0)} MB, and ${(maxBytes / 1e6).toFixed(0)} MB is the cap (--max-upload-mb)`); continue; }
    busy(`taking in ${file.name}`);
    try {
      const answer = await api.ask((session) => `api/upload?session=${session}&name=${encodeURIComponent(file.name)}`, { method: "POST", body: file, type: "application/octet-stream" });
      const { picture } = await answer.json();
      await refreshList();
      await open(picture);
    } catch (failure) { fail(failure.message); }
    busy(null);
  }
}

// ---- the state of the open picture

async function update(state) {
  if (state.picture !== page.state?.picture || state.version < page.state.version) return;
  if (state.video && state.video.frame !== page.frame) { if (!page.seeking) look(true); return; }  // of a frame that is no longer looked at
  page.state = { ...page.state, ...state };
  const { objects } = page.state;
  await Promise.all(objects.filter((one) => one.mask && !page.runs.has(one.mask)).map(loadRuns));
  if (state.picture !== page.state?.picture) return;
  const ids = new Set(objects.map((one) => one.id));
  page.chosen = new Set([...page.chosen].filter((id) => ids.has(id)));
  paint();
  $("undo").disabled = !state.can_undo;
  $("redo").disabled = !state.can_redo;
  $("status").disabled = false;
  $("status").value = state.status;
  showPeople(state);
  for (const button of document.querySelectorAll("[data-save]")) button.disabled = !objects.some((one) => one.pixels && one.review !== "rejected");
  Object.assign(document.body.dataset, { shows: state.picture, version: state.version, objects: JSON.stringify(objects.map(({ id, pixels, clicks, name, category, review }) => ({ id, pixels, clicks: clicks.length, name, category, review }))) });
}

async function loadRuns(one) {
  const answer = await api.ask(`api/mask/${page.state.picture}/${one.mask}`);
  page.runs.set(one.mask, new Uint32Array(await answer.arrayBuffer()));
}

// The id map, the colours and the lists: after any change of what is there, chosen or hidden.
function paint() {
  const { objects } = page.state;
  const masks = objects.filter((one) => one.mask && page.runs.has(one.mask) && !page.hidden.has(one.id) && one.review !== "rejected").map((one) => ({ number: one.id, runs: page.runs.get(one.mask), pixels: one.pixels }));
  const rows = page.map.show(masks);
  if (view.gl) {
    if (rows) view.idsChanged(...rows);
    view.setPalette(palette(objects.map((one) => [one.id, one.colour])));
    view.chosen = page.chosen.size === 1 ? [...page.chosen][0] : 0;
  }
  showObjects(objects, page.chosen, page.hidden, (object, more) => { choose(object, more); if (!more) gotoUnseen(); });
  showDetail(chosen(), page.hidden);
  timeline.mark(objects, chosen());
  showClasses([...new Set([...page.list.classes, ...objects.map((one) => one.category).filter(Boolean)])].sort());
  document.body.dataset.chosen = JSON.stringify([...page.chosen]);
  ink();
}

async function look(whole = false) {
  if (!page.state || (!whole && (api.queue.length || page.looking))) return;
  const { picture, version } = page.state;
  page.looking = true;
  try {
    const { frame } = page, state = await api.post("api/look", { picture, version: whole ? 0 : version, frame });
    if (page.state?.picture !== picture || page.frame !== frame) return;
    if (state.version !== page.state.version && !state.objects) return;
    if (state.objects && state.version > version && !whole && !page.carrying) $("notice").textContent = "somebody else has changed this picture: it is shown as it is now";
    if (state.objects) await update(state);
    else showPeople(state);
    if ($("saved").dataset.state === "offline") { $("saved").dataset.state = document.body.dataset.saved = "saved"; $("saved").textContent = WORDS.saved; }
  } catch (failure) {
    if (failure.code === "offline") { $("saved").dataset.state = document.body.dataset.saved = "offline"; $("saved").textContent = "the server does not answer; what was saved is safe"; }
    else if (failure.code === "stale") open(picture);
    else fail(failure.message);
  } finally {
    page.looking = false;
  }
}

function showPeople({ people }) {
  if (people) $("people").textContent = people.length ? `also here: ${people.join(", ")}` : "";
}

// How far the predictor is in getting the picture ready.
async function progress() {
  if (!page.state) return;
  const state = await api.post("api/look", { picture: page.state.picture, version: page.state.version, frame: page.frame }).catch(() => null);
  if (state?.objects && page.carrying) await update(state);
  if (state && state.picture === page.state.picture) page.state.progress = state.progress;
}

// ---- changing

const chosen = () => (page.state?.objects ?? []).filter((one) => page.chosen.has(one.id));

function choose(id, more = false) {
  page.fresh = null;
  if (!more) page.chosen = new Set();
  if (id !== null) { if (more && page.chosen.has(id)) page.chosen.delete(id); else page.chosen.add(id); }
  if (page.state) paint();
}

const DRAWS = { click: "computing the mask", box: "computing the mask", brush: null, polygon: null };

function change(edit) {
  if (!page.state) return;
  $("error").hidden = true;
  if (edit.kind in DRAWS) {
    const one = chosen()[0];
    edit.object = one ? one.id : page.fresh?.pending ? page.fresh : null;
    if (edit.object === null && (edit.erase || edit.mode === "erase" || edit.mode === "cut")) { fail("choose the object first"); return; }
    if (edit.object === null) edit.category = page.category ?? "";
  }
  const request = api.change(page.state.picture, page.state.version, edit, page.frame);
  if (edit.object === null) page.fresh = { pending: request };
  if (edit.kind === "brush") page.strokes.push({ ...edit, request, frame: page.frame });
  if (DRAWS[edit.kind]) busy(DRAWS[edit.kind]);
}

const ids = () => [...page.chosen];
function set(values) { if (page.chosen.size) change({ kind: "set", objects: ids(), ...values }); }
function review(what) {
  if (!chosen().some((one) => one.review !== "own")) return;
  set({ review: what });
  const next = page.state.objects.find((one) => one.review === "proposed" && !page.chosen.has(one.id));
  if (next) { choose(next.id); gotoChosen(); }
}
function gotoChosen() {
  const [one] = chosen(), middle = one?.middle_deg;
  if (middle) { view.camera.turn(...middle); view.draw(); }
  else if (one?.spans?.length) {  // not on this frame: to the nearest that shows it
    const ends = one.spans.flat();
    timeline.go(ends.reduce((a, b) => Math.abs(b - page.frame) < Math.abs(a - page.frame) ? b : a));
  }
}
function gotoUnseen() {
  const middle = chosen()[0]?.middle_deg, place = middle && view.camera.place(direction(...middle)), { width, height } = view.camera;
  if (middle && !(place && place[0] > 0 && place[0] < width && place[1] > 0 && place[1] < height)) gotoChosen();
}
function newObject() {
  choose(null);
  if (tools.name === "look") tools.choose("click");
  $("notice").textContent = `the next click, box or stroke begins a new object${page.category ? ` of class “${page.category}”` : ""}`;
}
function toggleHidden() {
  const all = ids().every((id) => page.hidden.has(id));
  for (const id of ids()) { if (all) page.hidden.delete(id); else page.hidden.add(id); }
  keepHidden();
}

// Hide all but what is chosen; all are shown again if they are hidden already.
function isolate() {
  const others = (page.state?.objects ?? []).map((one) => one.id).filter((one) => !page.chosen.has(one));
  page.hidden = new Set(page.chosen.size && !others.every((one) => page.hidden.has(one)) ? others : []);
  keepHidden();
}

// What is hidden is a matter of this browser, not of the work: others see all, and a reload changes nothing.
function hiddenOn(picture) { return new Set(JSON.parse(localStorage.getItem(`pano-hidden-${picture}`) || "[]")); }
function keepHidden() {
  const name = `pano-hidden-${page.state.picture}`;
  if (page.hidden.size) localStorage.setItem(name, JSON.stringify([...page.hidden])); else localStorage.removeItem(name);
  paint();
}

async function takeMasks(file) {
  if (!file || !page.state) return;
  busy(`reading ${file.name}`);
  try {
    const { picture, version } = page.state, frame = page.frame === null ? {} : { frame: page.frame };
    const answer = await api.ask((session) => `api/import?${new URLSearchParams({ picture, session, version, request: id(), name: file.name, ...frame })}`, { method: "POST", body: file, type: "application/octet-stream" });
    const state = await answer.json();
    await update(state);
    choose(state.touched[0] ?? null);
    $("notice").textContent = `${counted(state.touched.length, "mask")} of ${file.name} to be looked at${state.left_out ? `; left out: ${state.left_out}` : ""}`;
  } catch (failure) { fail(failure.message); }
  busy(null);
}

async function save(kind) {
  if (!page.state) return;
  try {
    const answer = await api.ask((session) => `api/export/${page.state.picture}/${kind}?session=${session}&version=${page.state.version}${page.frame === null ? "" : `&frame=${page.frame}`}`);
    const link = document.createElement("a"), left = decodeURIComponent(answer.headers.get("X-Pano-Left-Out") ?? "");
    link.download = decodeURIComponent(/filename\*=UTF-8''([^;]+)/.exec(answer.headers.get("Content-Disposition"))[1]);
    link.href = URL.createObjectURL(await answer.blob());
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    $("notice").textContent = `${link.download} is saved${left ? `; not in it: ${left}` : ""}`;
  } catch (failure) { fail(failure.message); look(true); }
}

// ---- wiring

function cancel() { api.cancel(page.carrying ?? undefined); }

const narrow = () => window.matchMedia("(max-width: 1000px)").matches;
function showList(show = $("pictures").hidden) {
  $("pictures").hidden = !show;
  $("show-pictures").setAttribute("aria-expanded", String(show));
}
function help() { $("help").showModal(); }

for (const name of TOOLS) document.querySelector(`#tools [data-tool="${name}"]`).addEventListener("click", () => tools.choose(name));
const on = (id, kind, act) => $(id).addEventListener(kind, act);
on("undo", "click", () => change({ kind: "undo" }));
on("redo", "click", () => change({ kind: "redo" }));
on("new", "click", newObject);
on("status", "change", () => change({ kind: "status", status: $("status").value }));
on("category", "change", () => { page.category = $("category").value.trim(); set({ category: page.category }); });
on("name", "change", () => set({ name: $("name").value.trim() }));
on("comment", "change", () => set({ comment: $("comment").value }));
on("colour", "change", () => set({ colour: $("colour").value }));
on("accept", "click", () => review("accepted"));
on("reject", "click", () => review("rejected"));
on("hide", "click", toggleHidden);
on("lock", "click", () => set({ locked: !chosen().every((one) => one.locked) }));
on("merge", "click", () => change({ kind: "merge", objects: ids() }));
on("split", "click", () => { if (page.chosen.size === 1) change({ kind: "split", object: ids()[0] }); });
on("delete", "click", () => { if (page.chosen.size) change({ kind: "delete", objects: ids() }); });
on("detail", "submit", (event) => event.preventDefault());
for (const field of ["category", "name"]) on(field, "keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); $("stage").focus(); } });  // leaving it takes it over
on("cancel", "click", cancel);
on("error-close", "click", () => { $("error").hidden = true; });
on("opacity", "input", () => { view.opacity = $("opacity").value / 100; view.draw(); });
on("radius", "input", () => { $("radius-words").textContent = `${radiusDeg().toFixed(1)}°`; ink(); });
on("picture-search", "input", () => showPictures(page.list, page.state?.picture, open));
on("object-search", "input", () => { if (page.state) paint(); });
on("show-pictures", "click", () => showList());
on("help-button", "click", help);
on("help-close", "click", () => $("help").close());
on("file", "change", () => { upload([...$("file").files]); $("file").value = ""; });
on("import", "change", () => { takeMasks($("import").files[0]); $("import").value = ""; });
on("who", "change", async () => { api.who = $("who").value.trim() || api.who; $("who").value = api.who; api.session = null; await api.join(); });
on("stage", "focus", ink);
on("stage", "blur", ink);
for (const button of document.querySelectorAll("[data-save]")) button.addEventListener("click", () => save(button.dataset.save));

document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const files = [...event.dataTransfer.files], masks = files.filter((file) => /\.json$/i.test(file.name));
  for (const file of masks) takeMasks(file);
  upload(files.filter((file) => !masks.includes(file)));
});
window.addEventListener("beforeunload", (event) => { if (api.queue.length) event.preventDefault(); });

const radius = (by) => { $("radius").value = Number($("radius").value) + by; $("radius").dispatchEvent(new Event("input")); };
listen({
  ...Object.fromEntries(TOOLS.map((name) => [name, () => tools.choose(name)])),
  new: newObject, hide: toggleHidden, list: () => showList(), help, goto: gotoChosen,
  undo: () => change({ kind: "undo" }), redo: () => change({ kind: "redo" }), save: () => save("coco.json"),
  category: () => $("category").focus(), name: () => $("name").focus(), accept: () => review("accepted"), reject: () => review("rejected"),
  lock: () => $("lock").click(), merge: () => $("merge").click(), split: () => $("split").click(), remove: () => $("delete").click(),
  done: () => { change({ kind: "status", status: "done" }); stepPicture(1, (one) => one.status !== "done" && one.status !== "skipped"); },
  smaller: () => radius(-4), larger: () => radius(4), nextPicture: () => stepPicture(1), previousPicture: () => stepPicture(-1),
  stop: () => { if (tools.busy) tools.stop(); else cancel(); }, back: () => tools.back(),
  step: (by, more) => {
    const { objects } = page.state ?? { objects: [] };
    if (!objects.length) return;
    const at = objects.findIndex((one) => page.chosen.has(one.id));
    choose(objects[(at + by + objects.length + (at < 0 && by < 0 ? 1 : 0)) % objects.length].id, more);
    gotoChosen();
  },
  previousFrame: () => timeline.step(-1), nextFrame: () => timeline.step(1), previousKey: () => timeline.toKey(-1), nextKey: () => timeline.toKey(1),
  nextEntry: () => revise.next(), entryAccepted: () => revise.say("accepted"), entryFixed: () => revise.say("fixed"),
  carry: (direction) => timeline.carry(direction), isolate,
  turn: (lon, lat) => tools.look(lon, lat), zoom: (factor) => { view.camera.zoom(factor); view.draw(); ink(); },
  use: (event) => tools.key(event), space: (down) => { tools.space = down; },
});

// For tests and benchmarks: where a place on the sphere is on the stage.
window.panoView = {
  place: (lon, lat) => view.camera.place(direction(lon, lat)),
  lookAt: (lon, lat, fov) => { view.camera.turn(lon, lat); if (fov) view.camera.fov = fov; view.draw(); },
  where: () => ({ lon: view.camera.lon, lat: view.camera.lat, fov: view.camera.fov }),
};

$("keys").append(helpTable());
$("who").value = api.who;
$("radius").dispatchEvent(new Event("input"));
tools.choose("look");
if (narrow()) showList(false);
if (!view.gl) fail("this browser has no WebGL 2, which the sphere is drawn with: try another one");
try {
  await api.join();
  await refreshList();
  const { pictures } = page.list, wanted = pictures.find((one) => `#${one.id}` === location.hash) ?? pictures[0];
  if (wanted) await open(wanted.id);
  api.run();
} catch (failure) { fail(failure.message); }
document.body.dataset.loaded = "";
setInterval(() => { if (!document.hidden) look(); }, POLL_MS);
setInterval(() => { if (document.body.dataset.busy !== undefined) progress(); }, PROGRESS_MS);
setInterval(() => { if (!document.hidden) refreshList().catch(() => {}); }, 5 * POLL_MS);
