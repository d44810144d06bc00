// What the server says: what is so of the open picture, which it is asked every two seconds in case somebody else has changed it,
// and what has come of a change. An older answer never takes the place of a newer one.

import { Failure } from "./api.js";
import { choose, DRAWS } from "./editing.js";
import { $ } from "./elements.js";
import { refreshList, refreshRevise } from "./listing.js";
import { api, page, timeline, waiting, waits } from "./page.js";
import { acts, foresee, paint, people, pictures } from "./painting.js";
import { fail, savedIs, say, tellQueue, tellSaved } from "./saying.js";

let torn = false;  // masks are missing: asked for again with the next look
let looking = false;
let again = null;

// What is to be done with a picture whose work is another than this page knows (opening.js, which is above this module).
export function onStale(open) { again = open; }

export async function update(state) {
  if (state.picture !== page.state?.picture || state.version < page.state.version) return;
  page.heard = { picture: state.picture, version: state.version };  // ours, also where its frame is not looked at any more
  if (state.video && state.video.frame !== page.frame) { if (!page.seeking) look(true); return; }  // of a frame that is no longer looked at
  page.state = { ...page.state, ...state, told: state.objects, objects: state.objects };
  torn = false;
  try {
    await Promise.all(state.objects.filter((one) => one.mask && !page.runs.has(one.mask)).map(loadRuns));
  } catch (failure) {
    if (failure.code !== "offline" && failure.code !== "stale") throw failure;
    torn = true;
  }
  const now = page.state;
  if (state.picture !== now?.picture || state.version !== now.version || state.video?.frame !== now.video?.frame) return;
  foresee();
  acts(now);
  if (!waits().some((edit) => edit.kind === "status")) listed(now);
  people(now);
  Object.assign(document.body.dataset, { shows: state.picture, version: state.version, frame: String(now.video?.frame ?? ""), objects: JSON.stringify(now.told.map(({ id, pixels, clicks, name, category, review, colour, locked, comment, mask }) => ({ id, pixels, clicks: clicks.length, name, category, review, colour, locked, comment, mask }))) });
}

// The picture's row in the list, without asking for the list.
function listed({ picture, status, objects }) {
  $("status").value = status;
  const row = page.list.pictures.find((one) => one.id === picture);
  if (!row || (row.status === status && row.objects === objects.length)) return;
  Object.assign(row, { status, objects: objects.length });
  pictures();
}

async function loadRuns(one) {
  const { runs } = page, answer = await api.ask(`api/mask/${page.state.picture}/${one.mask}`);
  runs.set(one.mask, new Uint32Array(await answer.arrayBuffer().catch(() => { throw new Failure(0, "offline", "a mask was cut off"); })));
}

// Ask for the picture as it is now; `whole`: also where this page has made its version.
export async function look(whole = false) {
  whole ||= torn;
  if (!page.state || page.opening || page.seeking || (!whole && (api.queue.length || looking))) return;
  const { picture, version } = page.state;
  looking = true;
  try {
    const { frame } = page, state = await api.post("api/look", { picture, version: whole ? 0 : version, frame });
    if (page.state?.picture !== picture || page.frame !== frame) return;
    if (state.version !== page.state.version && !state.objects) return;
    if (state.objects && !whole && state.version > known(picture) && !page.carrying && !api.queue.length) say("somebody else has changed this picture: it is shown as it is now");
    if (state.objects) await update(state);
    else people(state);
    if (savedIs("offline")) tellSaved("saved");
  } catch (failure) {
    const left = page.opening || page.state?.picture !== picture;  // it is said of a picture that she has gone on from
    if (failure.code === "offline") tellSaved("offline", "the server does not answer; what was saved is safe");
    else if (failure.code === "elsewhere") tellSaved("full", failure.message);
    else if (failure.code === "stale" && !left) again(picture);
    else if (!left) fail(failure.message);
  } finally {
    looking = false;
  }
}

// The newest version that this page was told of.
function known(picture) { return Math.max(page.state.version, page.heard.picture === picture ? page.heard.version : 0); }

// How far the predictor is in getting the picture ready, or a propagation.
export async function progress() {
  if (!page.state) return;
  const state = await api.post("api/look", { picture: page.state.picture, version: page.state.version, frame: page.frame }).catch(() => null);
  if (state?.objects && page.carrying) await update(state);
  if (state && state.picture === page.state.picture) page.state.progress = state.progress;
}

const TAKES_BACK = ["undo", "redo"], REGROUPS = ["undo", "redo", "split", "merge"], JUDGES = ["revise", "undo", "redo"];

export function onState(state, count, why) {
  tellQueue(state, count, why);
  if (state !== "saving") waiting.set("computing", null);
}

export async function onAnswer(one, answer) {
  const { kind } = one.edit, judged = JUDGES.includes(kind);
  const meant = page.intents.get(one.request) === page.choices;  // she has chosen nothing else since
  forget(one);
  if (kind === "status" || (judged && answer.picture !== page.state?.picture)) refreshList().catch(() => {});
  if (answer.picture !== page.state?.picture) return;  // she has gone on before the answer
  showMade(one, answer, meant);
  if (!api.queue.some((other) => DRAWS[other.edit.kind])) waiting.set("computing", null);
  await update(answer);
  if (judged) await refreshRevise();
}

// What has become of the change is chosen, or the frame shown that it was made on.
function showMade({ request, edit: { kind } }, { touched, at_frames }, meant) {
  if (page.fresh?.pending === request && touched.length) choose(touched[0], false, false);
  else if (meant && TAKES_BACK.includes(kind) && at_frames && (page.frame < at_frames[0] || page.frame > at_frames[1])) timeline.go(at_frames[0]);
  else if (meant && REGROUPS.includes(kind) && touched.length) choose(touched[0], false, false);
}

export function onRefused(one, failure) {
  forget(one);
  if (page.fresh?.pending === one.request) page.fresh = null;
  waiting.set("computing", null);
  if (failure.code !== "cancelled") fail(failure.message);
  if (one.edit.kind === "revise") refreshRevise().catch(() => {});
  look(true);
  paint();
}

function forget({ request }) {
  page.strokes = page.strokes.filter((stroke) => stroke.request !== request);
  page.intents.delete(request);
}
