// The page of `pano serve`: what is open, what is chosen, and who hears of what.

import { Api, Failure, id, maxBytes, place } from "./api.js";
import { foreseen } from "./foreseen.js";
import { direction } from "./geometry.js";
import { helpTable, listen } from "./keys.js";
import { IdMap, palette } from "./overlay.js";
import { called, counted, listClasses, showClasses, showDetail, showObjects, showPictures } from "./panels.js";
import { Revise } from "./revise.js";
import { SphereView } from "./sphere.js";
import { Timeline } from "./timeline.js";
import { TOOLS, Tools, drawInk, hasInk } from "./tools.js";
import { Waiting } from "./waiting.js";

const $ = (id) => document.getElementById(id);
const POLL_MS = 2000, PROGRESS_MS = 1000;
const WORDS = { idle: "nothing to save", saving: "saving …", saved: "all changes are saved", offline: "not saved: the server does not answer, trying again", full: "not saved" };

const page = { list: { pictures: [], classes: [] }, state: null, chosen: new Set(), hidden: new Set(), fresh: null, map: null, runs: new Map(), strokes: [], asked: 0, frame: null, drawn: null, opening: null, carrying: null, back: null, choices: 0, intents: new Map(), heard: { version: 0 } };

const waiting = new Waiting(() => page.state?.progress ?? [0, 0]);

const api = new Api({
  onState: (state, count, why) => {
    $("saved").dataset.state = document.body.dataset.saved = state;
    $("saved").textContent = state === "full" ? `${WORDS.full}: ${why}` : count > 1 ? `${WORDS[state]} (${count} changes wait)` : WORDS[state];
    if (state !== "saving") waiting.set("computing", null);
  },
  onAnswer: async (one, answer) => {
    page.strokes = page.strokes.filter((stroke) => stroke.request !== one.request);
    const { kind } = one.edit, judged = ["revise", "undo", "redo"].includes(kind);
    const meant = page.intents.get(one.request) === page.choices;  // she has chosen nothing else since
    page.intents.delete(one.request);
    if (kind === "status" || (judged && answer.picture !== page.state?.picture)) refreshList().catch(() => {});
    if (answer.picture !== page.state?.picture) return;  // she has gone on before the answer
    if (page.fresh?.pending === one.request && answer.touched.length) choose(answer.touched[0], false, false);
    else if (meant && ["undo", "redo"].includes(kind) && answer.at_frames && (page.frame < answer.at_frames[0] || page.frame > answer.at_frames[1])) timeline.go(answer.at_frames[0]);
    else if (meant && ["undo", "redo", "split", "merge"].includes(kind) && answer.touched.length) choose(answer.touched[0], false, false);
    if (!api.queue.some((other) => DRAWS[other.edit.kind])) waiting.set("computing", null);
    await update(answer);
    if (judged) await refreshRevise();
  },
  onRefused: (one, failure) => {
    page.strokes = page.strokes.filter((stroke) => stroke.request !== one.request);
    page.intents.delete(one.request);
    if (page.fresh?.pending === one.request) page.fresh = null;
    waiting.set("computing", null);
    if (failure.code !== "cancelled") fail(failure.message);
    if (one.edit.kind === "revise") refreshRevise().catch(() => {});
    look(true);
    if (page.state) paint();
  },
});

const view = new SphereView($("gl"), async (level, x, y) => {
  const answer = await api.ask(`api/tile/${page.state.picture}/${level}/${x}/${y}${page.drawn === null ? "" : `?frame=${page.drawn}`}`);
  return createImageBitmap(await answer.blob());
}, () => {
  document.body.dataset.frames = view.frames;
  document.body.dataset.settled = String(view.settled);
  ink();
}, () => { if (page.list.method === "near" && !page.opening) ready(); });

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
  notYet: () => notYet(),
  radiusDeg: () => radiusDeg(),
  polygonMode: () => $("polygon-mode").value,
  say: (message) => { $("notice").textContent = message; },
});

const timeline = new Timeline({
  onFrame: (frame) => showFrame(frame),
  onCarry: (direction, frames) => carry(direction, frames),
  onClear: (span) => { if (page.chosen.size) change({ kind: "clear", objects: ids(), span }); else fail("choose the object first that is to go from frames"); },
});

const revise = new Revise({
  onGo: (entry) => { page.going = gotoEntry(entry); },
  onVerdict: (entry, verdict) => { page.judging = judged(entry, verdict); return page.judging; },
});

async function judged(entry, verdict) {
  await page.going;  // a key that is quicker than the picture is not lost
  if (page.state?.picture !== entry.picture) { fail(`the verdict on “${entry.why}” was not taken, since its picture is not open: go to the entry and say it again`); return; }
  change({ kind: "revise", entry: entry.entry, verdict });
  revise.judge(entry.entry, verdict);
  if (!verdict || revise.at !== entry.entry) return;
  revise.next();
  if (page.opening && page.opening !== entry.picture) page.back = entry.picture;  // before it is open: Ctrl+Z may be quicker
}

// Why a place on the stage means nothing yet; empty where it does.
function notYet() {
  if (page.opening || !page.state) return "the picture is on its way: nothing was drawn";
  if (page.seeking || page.drawn !== page.frame || view.before?.size) return `frame ${page.frame + 1} is on its way: nothing was drawn`;
  return "";
}

const pen = $("ink").getContext("2d");
let drawn = false;
function ink() {
  if (drawn) return;
  drawn = true;
  requestAnimationFrame(() => {
    drawn = false;
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
function radiusDeg() { return 0.1 * 300 ** ($("radius").value / 100); }

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
  for (const one of api.queue) if (one.edit.kind === "status") Object.assign(page.list.pictures.find((other) => other.id === one.picture) ?? {}, { status: one.edit.status });
  showPictures(page.list, page.state?.picture, open);
  classes();
  facts();
  document.body.dataset.pictures = String(page.list.pictures.length);
  if (page.list.labelled) await refreshRevise();
}

async function refreshRevise() {
  if (!page.list.labelled) return;
  const asked = page.listing = (page.listing ?? 0) + 1;
  const answer = await (await api.ask((session) => `api/revise?session=${session}`)).json();
  if (asked !== page.listing) return;  // an older list that comes later would take a verdict back
  revise.show(answer);
  for (const { edit } of api.queue) if (edit.kind === "revise") revise.judge(edit.entry, edit.verdict);
}

// To an entry's frame and place, with its object chosen.
async function gotoEntry(one) {
  if (page.state?.picture !== one.picture) await open(one.picture);
  if (page.state?.picture !== one.picture || revise.at !== one.entry) return;  // somebody was quicker
  if (page.state.video) timeline.go(one.frame);
  choose(page.state.objects.some((other) => other.id === one.id) ? one.id : null);
  if (one.lon_deg !== null) { view.camera.turn(one.lon_deg, one.lat_deg); view.turned(); }
  ink();
}

// Where the entry that is looked at is, on its own frame.
function placeOf(one) { return one && one.lon_deg !== null && one.picture === page.state?.picture && (page.frame ?? 0) === one.frame ? [one.lon_deg, one.lat_deg] : null; }

function facts() {
  const { predictor, method, following } = page.list;
  $("facts").textContent = `Clicks: ${predictor}${method ? `; method ${method}` : ""}${page.state?.video ? `. Propagation: ${following}` : ""}`;
}

function open(picture) {
  page.arriving = arrive(picture);
  return page.arriving;
}

async function arrive(picture) {
  if (narrow()) showList(false);
  const asked = ++page.asked;
  page.opening = picture;
  page.back = null;
  if (revise.current && revise.current.picture !== picture) revise.leave();
  tools.stop();
  choose(null);  // what is typed or pressed from now on is not meant for what was chosen here
  $("error").hidden = true;
  $("notice").textContent = "";
  waiting.set("opening", "opening the picture");
  document.body.dataset.opening = "";
  try {
    const state = await api.post("api/look", { picture, version: 0 });
    if (asked !== page.asked) return;
    tools.stop();
    Object.assign(page, { state: null, chosen: new Set(), hidden: hiddenOn(picture), fresh: null, runs: new Map(), strokes: [], map: new IdMap(state.width, state.height), frame: state.video?.frame ?? null, drawn: state.video?.frame ?? null });
    page.state = state;
    timeline.open(state.video);
    view.camera.turn(0, 0);
    if (view.gl) view.setPicture({ ...state, key: picture }, page.map);
    $("drop").hidden = true;
    $("what").textContent = `${state.name}, ${state.width}×${state.height}`;
    $("notice").textContent = state.notice;
    document.title = `${state.name} · panoforge`;
    // Not by `location.hash`: the browser would say that later, and a slow one after she has gone on from here.
    if (location.hash !== `#${picture}`) history.pushState(null, "", `#${picture}`);
    await update(state);
    ready();
    refreshList().catch(() => {});
  } catch (failure) {
    if (asked === page.asked) fail(failure.message);
  } finally {
    if (asked === page.asked) {
      page.opening = null;
      waiting.set("opening", null);
      delete document.body.dataset.opening;
      document.body.dataset.opened = page.state?.picture ?? "";
      if (page.state) paint();
    }
  }
}

// The predictor looks beforehand at what is looked at; in a video only at a frame that somebody rests on to click.
function ready() {
  clearTimeout(page.rest);
  if (!page.state || (page.frame !== null && tools.name !== "click" && tools.name !== "box")) return;
  const { picture } = page.state, { frame } = page;
  page.rest = setTimeout(() => {
    if (page.state?.picture !== picture || page.frame !== frame) return;
    api.post("api/ready", { picture, frame, towards: page.list.method === "near" ? [view.camera.lon, view.camera.lat] : null }).catch(() => {});
  }, frame === null ? 300 : 700);
}

// Show a frame; while one is on its way only the last one that was asked for counts.
async function showFrame(frame) {
  page.frame = frame;
  tools.stop();
  if (page.seeking) return;
  page.seeking = true;
  try {
    while (page.state?.video && page.drawn !== page.frame) {
      const wanted = page.frame, { picture } = page.state;
      try {
        const state = await api.post("api/look", { picture, version: 0, frame: wanted });
        if (page.state?.picture !== picture || wanted !== page.frame) continue;
        page.drawn = wanted;
        if (view.gl) view.nextFrame();
        await update(state);
        ready();
      } catch (failure) {
        if (page.state?.picture !== picture) continue;
        fail(`frame ${wanted + 1} is not shown: ${failure.message}`);
        page.frame = page.drawn;  // what is seen is what is worked on
        timeline.show(page.frame);
      }
    }
  } finally { page.seeking = false; }
  document.body.dataset.frame = String(page.state?.video?.frame ?? "");
}

function carry(direction, frames) {
  if (!page.state?.video) return;
  if (page.carrying) { fail(`“${page.carrying.name}” is being propagated: wait, or cancel it with Esc`); return; }
  if (!page.chosen.size && !page.fresh?.pending) { fail("choose the object to be propagated first"); return; }
  page.carried = carryOn(direction, frames);
}

// Gives the number of frames that were written.
async function carryOn(direction, frames) {
  const { picture, name } = page.state, { frame } = page, carrying = page.carrying = { request: id(), picture, name, cancelled: false };
  const here = () => page.state?.picture === picture;
  let done = 0;
  $("error").hidden = true;
  waiting.set("carrying", "propagating");
  document.body.dataset.carrying = "";
  try {
    await api.drained();
    if (here() && page.chosen.size && !carrying.cancelled) {
      const names = new Map(page.state.objects.map((one) => [one.id, called(one)]));
      const answer = await api.post("api/propagate", { picture, version: page.state.version, request: carrying.request, frame, objects: ids(), direction, frames });
      done = answer.frames_done;
      await update(answer);
      const lost = Object.entries(answer.lost).map(([one, at]) => `${names.get(Number(one)) ?? `object ${one}`} was seen last on frame ${at + 1}`);
      $("notice").textContent = `${here() ? "" : `${name}: `}propagated over ${counted(done, "frame")}${answer.cancelled ? ", then cancelled" : ""}${lost.length ? `; ${lost.join(", ")}: correct it there and propagate again` : ""}`;
    } else $("notice").textContent = `nothing was propagated in ${name}: ${carrying.cancelled ? "it was cancelled" : "it was left before that had begun"}`;
  } catch (failure) { fail(failure.code === "offline" ? "the server went away while propagating: what it has written is kept, propagate again from its last frame" : failure.message); }
  page.carrying = null;
  delete document.body.dataset.carrying;
  waiting.set("carrying", null);
  look(true);
  return done;
}

function stepPicture(by, want = () => true) {
  const { pictures } = page.list, here = page.opening ?? page.state?.picture, at = pictures.findIndex((one) => one.id === here);
  for (let k = 1; k < pictures.length; k++) {
    const next = pictures[(at + by * k + pictures.length * 2) % pictures.length];
    if (want(next)) { open(next.id); return true; }
  }
  return false;
}

function done() {
  const { picture } = page.state;
  change({ kind: "status", status: "done" });
  Object.assign(page.list.pictures.find((one) => one.id === picture) ?? {}, { status: "done" });
  showPictures(page.list, picture, open);
  const next = stepPicture(1, (one) => !["done", "skipped", "damaged"].includes(one.status));
  if (next) page.back = picture;
  else $("notice").textContent = "all pictures are done";
}

// Back to where the page went on from by itself, and the last change there taken back; else the last change here.
async function undo() {
  await page.judging;  // a verdict that waits for its picture was said before
  const { back } = page, carrying = page.carrying?.picture === page.state?.picture;
  page.back = null;
  if (back && back !== (page.opening ?? page.state?.picture)) {
    await open(back);
    if (page.state?.picture !== back || page.opening) return;
  } else if (carrying) {
    cancel();
    if (!await page.carried) return;  // nothing was written that could be taken back
  }
  here(() => change({ kind: "undo" }))();
}

async function upload(files) {
  let first = null;
  for (const file of files) {
    if (file.size > maxBytes) { fail(`${file.name} has ${(file.size / 1e6).toFixed(0)} MB, and ${(maxBytes / 1e6).toFixed(0)} MB is the cap (--max-upload-mb)`); continue; }
    waiting.set("reading", `taking in ${file.name}`);
    try {
      const answer = await api.ask((session) => `api/upload?session=${session}&name=${encodeURIComponent(file.name)}`, { method: "POST", body: file, type: "application/octet-stream" });
      first ??= (await answer.json()).picture;
      await refreshList();
    } catch (failure) { fail(failure.message); }
    waiting.set("reading", null);
  }
  if (first) open(first);
}

// ---- the state of the open picture

async function update(state) {
  if (state.picture !== page.state?.picture || state.version < page.state.version) return;
  page.heard = { picture: state.picture, version: state.version };  // ours, also where its frame is not looked at any more
  if (state.video && state.video.frame !== page.frame) { if (!page.seeking) look(true); return; }  // of a frame that is no longer looked at
  page.state = { ...page.state, ...state, told: state.objects, objects: state.objects };
  page.torn = false;
  try {
    await Promise.all(state.objects.filter((one) => one.mask && !page.runs.has(one.mask)).map(loadRuns));
  } catch (failure) {
    if (failure.code !== "offline" && failure.code !== "stale") throw failure;
    page.torn = true;  // masks are missing: asked for again with the next look
  }
  const now = page.state;
  if (state.picture !== now?.picture || state.version !== now.version || state.video?.frame !== now.video?.frame) return;
  foresee();
  $("undo").disabled = !now.can_undo;
  $("redo").disabled = !now.can_redo;
  $("status").disabled = false;
  if (!waits().some((edit) => edit.kind === "status")) {
    $("status").value = now.status;
    const row = page.list.pictures.find((one) => one.id === state.picture), fresh = { status: now.status, objects: now.objects.length };
    if (row && (row.status !== fresh.status || row.objects !== fresh.objects)) { Object.assign(row, fresh); showPictures(page.list, state.picture, open); }
  }
  showPeople(now);
  for (const button of document.querySelectorAll("[data-save]")) button.disabled = !now.objects.some((one) => one.pixels && one.review !== "rejected");
  Object.assign(document.body.dataset, { shows: state.picture, version: state.version, frame: String(now.video?.frame ?? ""), objects: JSON.stringify(now.told.map(({ id, pixels, clicks, name, category, review, colour, locked, comment, mask }) => ({ id, pixels, clicks: clicks.length, name, category, review, colour, locked, comment, mask }))) });
}

async function loadRuns(one) {
  const { runs } = page, answer = await api.ask(`api/mask/${page.state.picture}/${one.mask}`);
  runs.set(one.mask, new Uint32Array(await answer.arrayBuffer().catch(() => { throw new Failure(0, "offline", "a mask was cut off"); })));
}

const waits = () => api.queue.filter((one) => one.picture === page.state?.picture).map((one) => one.edit);

// What is there, and what the changes that wait will make of it.
function foresee() {
  page.state.objects = foreseen(page.state.told, waits());
  const ids = new Set(page.state.objects.map((one) => one.id));
  page.chosen = new Set([...page.chosen].filter((id) => ids.has(id)));
  paint();
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
  showDetail(chosen(), page.hidden, { pending: Boolean(page.fresh?.pending), category: page.category ?? "" });
  timeline.mark(objects, chosen());
  classes();
  document.body.dataset.chosen = JSON.stringify([...page.chosen]);
  ink();
}

// The classes in their order, which the digits mean: in this browser new ones come last, so that a hand can learn them.
function classes() {
  const name = `pano-classes-${place}`, kept = JSON.parse(localStorage.getItem(name) || "[]");
  const used = [...page.list.classes, ...(page.state?.objects ?? []).map((one) => one.category), page.category].filter(Boolean);
  const all = [...new Set([...kept, ...[...new Set(used)].sort()])];
  if (all.length > kept.length) localStorage.setItem(name, JSON.stringify(all.slice(0, 500)));
  page.classes = all;
  listClasses(all);
  showClasses(all, chosen(), page.category ?? "", (category) => giveClass(category));
}

async function look(whole = false) {
  whole ||= Boolean(page.torn);
  if (!page.state || page.opening || page.seeking || (!whole && (api.queue.length || page.looking))) return;
  const { picture, version } = page.state;
  page.looking = true;
  try {
    const { frame } = page, state = await api.post("api/look", { picture, version: whole ? 0 : version, frame });
    if (page.state?.picture !== picture || page.frame !== frame) return;
    if (state.version !== page.state.version && !state.objects) return;
    const known = page.heard.picture === picture ? Math.max(page.heard.version, page.state.version) : page.state.version;
    if (state.objects && state.version > known && !whole && !page.carrying && !api.queue.length) $("notice").textContent = "somebody else has changed this picture: it is shown as it is now";
    if (state.objects) await update(state);
    else showPeople(state);
    if ($("saved").dataset.state === "offline") { $("saved").dataset.state = document.body.dataset.saved = "saved"; $("saved").textContent = WORDS.saved; }
  } catch (failure) {
    const left = page.opening || page.state?.picture !== picture;  // it is said of a picture that she has gone on from
    if (failure.code === "offline") { $("saved").dataset.state = document.body.dataset.saved = "offline"; $("saved").textContent = "the server does not answer; what was saved is safe"; }
    else if (failure.code === "elsewhere") { $("saved").dataset.state = document.body.dataset.saved = "full"; $("saved").textContent = failure.message; }
    else if (failure.code === "stale" && !left) open(picture);
    else if (!left) fail(failure.message);
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

// `own`: a hand did it. What answers may choose something, too, but never against a hand that was there meanwhile.
function choose(id, more = false, own = true) {
  page.fresh = null;
  if (own) page.choices += 1;
  if (!more) page.chosen = new Set();
  if (id !== null) { if (more && page.chosen.has(id)) page.chosen.delete(id); else page.chosen.add(id); }
  if (page.state) paint();
}

const DRAWS = { click: "computing the mask", box: "computing the mask", brush: null, polygon: null };

function change(edit) {
  if (!page.state) return;
  $("error").hidden = true;
  page.back = null;
  if (edit.kind in DRAWS) {
    const one = chosen()[0];
    edit.object = one ? one.id : page.fresh?.pending ? page.fresh : null;
    if (edit.object === null && (edit.erase || edit.mode === "erase" || edit.mode === "cut")) { fail("choose the object first"); return; }
    if (!one) edit.category = page.category ?? "";
  }
  $("notice").textContent = "";
  const request = api.change(page.state.picture, page.state.version, edit, page.frame);
  page.intents.set(request, page.choices);
  if (edit.object === null) page.fresh = { pending: request };
  if (edit.kind === "brush") page.strokes.push({ ...edit, request, frame: page.frame });
  if (DRAWS[edit.kind]) waiting.set("computing", DRAWS[edit.kind]);
  if (edit.kind === "set" || edit.kind === "delete") foresee(); else paint();
}

const ids = () => [...page.chosen];
// What is chosen, or what is being made: an edit of it waits until it is there.
const meant = () => (page.chosen.size ? ids() : page.fresh?.pending ? [page.fresh] : []);
function set(values, objects = meant()) { if (objects.length) change({ kind: "set", objects, ...values }); else fail("choose an object first"); }
// What is typed belongs to what was chosen when the typing began.
function typed(values) { const objects = page.typing ?? meant(); page.typing = null; if (objects.length) set(values, objects); }
function giveClass(category, objects = meant()) {
  page.category = category;
  if (objects.length) set({ category }, objects);
  else { if (page.state) paint(); $("notice").textContent = category ? `the next object is of class “${category}”` : "the next object has no class"; }
}
function review(what) {
  const { objects } = page.state, at = objects.findIndex((one) => page.chosen.has(one.id));
  if (page.chosen.size) {
    if (!chosen().some((one) => one.review !== "own")) { fail("this object was drawn by hand: there is nothing to accept or reject"); return; }
    set({ review: what });
  }
  const left = page.state.objects.filter((one) => one.review === "proposed" && !page.chosen.has(one.id));
  const next = left.find((one) => page.state.objects.indexOf(one) > at) ?? left[0];
  if (next) { choose(next.id); gotoChosen(); } else $("notice").textContent = "no label of this picture is left to be looked at";
}
function gotoChosen() {
  const [one] = chosen(), middle = one?.middle_deg;
  if (middle) { view.camera.turn(...middle); view.turned(); }
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
  if (!page.chosen.size) { fail("choose what is to be hidden first"); return; }
  const all = ids().every((id) => page.hidden.has(id));
  for (const id of ids()) { if (all) page.hidden.delete(id); else page.hidden.add(id); }
  keepHidden();
}

// Hide all but what is chosen; all are shown again if they are hidden already.
function isolate() {
  if (!page.state) return;
  const others = (page.state?.objects ?? []).map((one) => one.id).filter((one) => !page.chosen.has(one));
  page.hidden = new Set(page.chosen.size && !others.every((one) => page.hidden.has(one)) ? others : []);
  keepHidden();
}

// What is hidden is a matter of this browser, not of the work: others see all, and a reload changes nothing.
function hiddenOn(picture) { return new Set(JSON.parse(localStorage.getItem(`pano-hidden-${place}-${picture}`) || "[]")); }
function keepHidden() {
  const name = `pano-hidden-${place}-${page.state.picture}`;
  if (page.hidden.size) localStorage.setItem(name, JSON.stringify([...page.hidden])); else localStorage.removeItem(name);
  paint();
}

async function takeMasks(file) {
  if (!file || !page.state) return;
  waiting.set("reading", `reading ${file.name}`);
  try {
    const { picture, version } = page.state, frame = page.frame === null ? {} : { frame: page.frame };
    const answer = await api.ask((session) => `api/import?${new URLSearchParams({ picture, session, version, request: id(), name: file.name, ...frame })}`, { method: "POST", body: file, type: "application/octet-stream" });
    const state = await answer.json();
    await update(state);
    if (page.state?.picture === picture && !page.opening) choose(state.touched[0] ?? null);
    $("notice").textContent = `${counted(state.touched.length, "mask")} of ${file.name} ${page.state?.picture === picture ? "" : `in ${state.name} `}to be looked at${state.left_out ? `; left out: ${state.left_out}` : ""}`;
  } catch (failure) { fail(failure.message); }
  waiting.set("reading", null);
}

async function save(kind) {
  const { picture, name, objects } = page.state, { frame } = page;
  if (kind !== "overlay.jpg" && !objects.some((one) => one.review !== "rejected") && !api.queue.length) { fail(`there is nothing on ${name} that could be saved into a file`); return; }
  if (api.queue.length) $("notice").textContent = "the file comes when all changes are saved";
  await api.drained();  // a file without the last stroke would be a lie
  if (page.state?.picture !== picture) { fail(`no file of ${name}: another picture was opened before its changes were saved`); return; }
  try {
    const answer = await api.ask((session) => `api/export/${picture}/${kind}?session=${session}&version=${page.state.version}${frame === null ? "" : `&frame=${frame}`}`);
    const link = document.createElement("a"), left = decodeURIComponent(answer.headers.get("X-Pano-Left-Out") ?? "");
    link.download = decodeURIComponent(/filename\*=UTF-8''([^;]+)/.exec(answer.headers.get("Content-Disposition"))[1]);
    link.href = URL.createObjectURL(await answer.blob());
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    $("notice").textContent = `${link.download} is saved${left ? `; not in it: ${left}` : ""}`;
  } catch (failure) { fail(failure.message); look(true); }
}

// ---- wiring

function cancel() {
  if (page.carrying) page.carrying.cancelled = true;
  api.cancel(page.carrying?.request);
}

// An action that is about the open picture waits for the one that is being opened; if that is left again, it was not taken.
function here(action) {
  return async (...args) => {
    const wanted = page.opening;
    if (wanted) {
      await page.arriving;
      if (page.opening || page.state?.picture !== wanted) { fail("a key was not taken, since the picture that it was meant for was not opened"); return; }
    }
    if (page.state) action(...args);
  };
}

const narrow = () => window.matchMedia("(max-width: 1000px)").matches;
function showList(show = $("pictures").hidden) {
  $("pictures").hidden = !show;
  $("show-pictures").setAttribute("aria-expanded", String(show));
}
function help() { $("help").showModal(); }

for (const name of TOOLS) document.querySelector(`#tools [data-tool="${name}"]`).addEventListener("click", () => tools.choose(name));
const on = (id, kind, act) => $(id).addEventListener(kind, act);
const redo = () => change({ kind: "redo" });
on("undo", "click", undo);
on("redo", "click", here(redo));
on("new", "click", newObject);
on("status", "change", () => { const { value } = $("status"); here(() => change({ kind: "status", status: value }))(); });
on("detail", "focusin", (event) => { page.typing = event.target.closest("input, textarea") ? meant() : null; });
on("category", "change", () => { const objects = page.typing ?? meant(); giveClass($("category").value.trim(), objects); page.typing = meant(); });
on("name", "change", () => typed({ name: $("name").value.trim() }));
on("comment", "change", () => typed({ comment: $("comment").value }));
on("colour", "change", () => typed({ colour: $("colour").value }));
on("accept", "click", () => review("accepted"));
on("reject", "click", () => review("rejected"));
on("hide", "click", toggleHidden);
on("lock", "click", () => set({ locked: !chosen().every((one) => one.locked) }));
on("merge", "click", () => change({ kind: "merge", objects: ids() }));
on("split", "click", () => { if (page.chosen.size === 1) change({ kind: "split", object: ids()[0] }); });
on("delete", "click", () => { if (meant().length) change({ kind: "delete", objects: meant() }); });
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
on("import", "change", () => { const [file] = $("import").files; here(() => takeMasks(file))(); $("import").value = ""; });
on("who", "change", async () => { api.who = $("who").value.trim() || api.who; $("who").value = api.who; api.session = null; await api.join().catch((failure) => fail(failure.message)); });
on("stage", "focus", () => { tools.byKeys = $("stage").matches(":focus-visible"); ink(); });
on("stage", "blur", ink);
for (const button of document.querySelectorAll("[data-save]")) button.addEventListener("click", here(() => save(button.dataset.save)));

document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const files = [...event.dataTransfer.files], masks = files.filter((file) => /\.json$/i.test(file.name));
  for (const file of masks) here(() => takeMasks(file))();
  upload(files.filter((file) => !masks.includes(file)));
});
window.addEventListener("beforeunload", (event) => {
  document.activeElement?.blur();  // words that are being typed count
  if (api.queue.length) event.preventDefault();
});
window.addEventListener("hashchange", () => {
  const wanted = page.list.pictures.find((one) => `#${one.id}` === location.hash);
  if (wanted && wanted.id !== (page.opening ?? page.state?.picture)) open(wanted.id);
});

const radius = (by) => { $("radius").value = Number($("radius").value) + by; $("radius").dispatchEvent(new Event("input")); };
const off = (id) => { if (!$(id).disabled) $(id).click(); };
function field(name) {
  if ($(name).closest("[hidden]") || $(name).disabled) { fail(name === "name" ? "choose an object first: then it gets a name" : "this object is locked"); return; }
  $(name).focus();
  $(name).select();
}
listen({
  forget: (target) => { if (target.dataset.shown !== undefined) target.value = target.dataset.shown; target.blur(); },
  ...Object.fromEntries(TOOLS.map((name) => [name, () => tools.choose(name)])),
  list: () => showList(), help, category: () => field("category"), classNumber: (number) => { if (page.classes[number - 1]) giveClass(page.classes[number - 1]); else fail(`there is no class number ${number} yet`); },
  undo, nextPicture: () => stepPicture(1), previousPicture: () => stepPicture(-1),
  done: () => { if (page.opening) fail("not marked as done: the picture is still being opened"); else if (page.state) done(); },
  smaller: () => radius(-4), larger: () => radius(4), back: () => tools.back(),
  stop: () => { if (tools.busy) tools.stop(); else cancel(); },
  turn: (lon, lat) => { $("stage").focus({ preventScroll: true }); tools.look(lon, lat); }, zoom: (factor) => { view.camera.zoom(factor); view.draw(); ink(); },
  use: (event) => tools.key(event), space: (down) => { tools.space = down; },
  nextEntry: () => revise.next(), entryAccepted: () => revise.say("accepted"), entryFixed: () => revise.say("fixed"),
  ...Object.fromEntries(Object.entries({
    new: newObject, hide: toggleHidden, goto: gotoChosen, redo, save: () => save("coco.json"), name: () => field("name"), isolate,
    accept: () => review("accepted"), reject: () => review("rejected"), lock: () => off("lock"), merge: () => off("merge"), split: () => off("split"), remove: () => off("delete"),
    step: (by, more) => {
      const { objects } = page.state;
      if (!objects.length) return;
      const last = ids().at(-1), at = objects.findIndex((one) => one.id === last);
      choose(objects[(at + by + objects.length + (at < 0 && by < 0 ? 1 : 0)) % objects.length].id, more);
      gotoChosen();
    },
    previousFrame: () => timeline.step(-1), nextFrame: () => timeline.step(1), previousKey: () => timeline.toKey(-1), nextKey: () => timeline.toKey(1),
    carry: (direction) => timeline.carry(direction),
  }).map(([name, action]) => [name, here(action)])),
});

// For tests and benchmarks: where a place on the sphere is on the stage, and a mask as the page has it.
window.panoView = {
  runs: (digest) => [...(page.runs.get(digest) ?? [])],
  place: (lon, lat) => view.camera.place(direction(lon, lat)),
  lookAt: (lon, lat, fov) => { view.camera.turn(lon, lat); if (fov) view.camera.fov = fov; view.turned(); },
  where: () => ({ lon: view.camera.lon, lat: view.camera.lat, fov: view.camera.fov }),
};

$("keys").append(helpTable());
$("who").value = api.who;
$("radius").dispatchEvent(new Event("input"));
tools.choose("look");
if (narrow()) showList(false);
if (!view.gl) fail("this browser has no WebGL 2, which the sphere is drawn with: try another one");
for (;;) {  // a server that is being started again is waited for
  try {
    await api.join();
    await refreshList();
    break;
  } catch (failure) {
    fail(failure.message);
    if (failure.code !== "offline") break;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
$("error").hidden = $("error").hidden || page.list.pictures.length > 0;
{
  const { pictures } = page.list, wanted = pictures.find((one) => `#${one.id}` === location.hash) ?? pictures[0];
  if (wanted && !page.opening) await open(wanted.id);
  if (api.queue.length) api.run();
}
document.body.dataset.loaded = "";
setInterval(() => { if (!document.hidden) look(); }, POLL_MS);
setInterval(() => { if (document.body.dataset.busy !== undefined) progress(); }, PROGRESS_MS);
setInterval(() => { if (!document.hidden) refreshList().catch(() => {}); }, 5 * POLL_MS);
