// Opening a picture, and a frame of a video. The last one that was asked for counts; until it is there the one before is shown,
// and nothing is drawn on it.

import { choose, hiddenOn } from "./editing.js";
import { $ } from "./elements.js";
import { look, onStale, update } from "./hearing.js";
import { refreshList } from "./listing.js";
import { IdMap } from "./overlay.js";
import { api, page, revise, timeline, tools, view, waiting } from "./page.js";
import { paint } from "./painting.js";
import { narrow, showList } from "./panels.js";
import { fail, hush, say } from "./saying.js";

let asked = 0;  // how many pictures were asked for
let rest = null;

export function open(picture) {
  page.arriving = arrive(picture);
  return page.arriving;
}
onStale(open);

async function arrive(picture) {
  if (narrow.matches) showList(false);
  const mine = asked += 1;
  page.opening = picture;
  page.back = null;
  if (revise.current && revise.current.picture !== picture) revise.leave();
  tools.stop();
  choose(null);  // what is typed or pressed from now on is not meant for what was chosen here
  hush();
  say("");
  waiting.set("opening", "opening the picture");
  document.body.dataset.opening = "";
  try {
    const state = await api.post("api/look", { picture, version: 0 });
    if (mine !== asked) return;
    show(picture, state);
    await update(state);
    ready();
    refreshList().catch(() => {});
  } catch (failure) {
    if (mine === asked) fail(failure.message);
  } finally {
    if (mine === asked) {
      page.opening = null;
      waiting.set("opening", null);
      delete document.body.dataset.opening;
      document.body.dataset.opened = page.state?.picture ?? "";
      paint();
    }
  }
}

function show(picture, state) {
  tools.stop();
  const frame = state.video?.frame ?? null;
  Object.assign(page, { state, chosen: new Set(), hidden: hiddenOn(picture), fresh: null, runs: new Map(), strokes: [], map: new IdMap(state.width, state.height), frame, drawn: frame });
  timeline.open(state.video);
  view.camera.turn(0, 0);
  if (view.gl) view.setPicture({ ...state, key: picture }, page.map);
  $("drop").hidden = true;
  $("what").textContent = `${state.name}, ${state.width}×${state.height}`;
  say(state.notice);
  document.title = `${state.name} · panoforge`;
  // Not by `location.hash`: the browser would say that later, and a slow one after she has gone on from here.
  if (location.hash !== `#${picture}`) history.pushState(null, "", `#${picture}`);
}

// The predictor looks beforehand at what is looked at; in a video only at a frame that somebody rests on to click.
export function ready() {
  clearTimeout(rest);
  if (!page.state || (page.frame !== null && tools.name !== "click" && tools.name !== "box")) return;
  const { picture } = page.state, { frame } = page;
  rest = setTimeout(() => {
    if (page.state?.picture !== picture || page.frame !== frame) return;
    api.post("api/ready", { picture, frame, towards: page.list.method === "near" ? [view.camera.lon, view.camera.lat] : null }).catch(() => {});
  }, frame === null ? 300 : 700);
}

// Show a frame; while one is on its way only the last one that was asked for counts.
export async function showFrame(frame) {
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

// Why a place on the stage means nothing yet; empty where it does.
export function notYet() {
  if (page.opening || !page.state) return "the picture is on its way: nothing was drawn";
  if (page.seeking || page.drawn !== page.frame || view.changing) return `frame ${page.frame + 1} is on its way: nothing was drawn`;
  return "";
}
