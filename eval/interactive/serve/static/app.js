// The page of `pano serve`: who hears what the parts say, and how the page begins.
//
// What a hand does goes one way: a part, controls.js or shortcuts.js hears it; it waits for its picture where that is on its way
// (turns.js); an action changes what the page knows (page.js), or makes an edit that goes into the queue (api.js); what comes of
// it changes what the page knows (hearing.js); and that is painted (painting.js). No module imports one above it:
//
//   geometry, elements, foreseen, overlay, keys, api → mesh, tiles, sphere, tools, ink, timeline, revise, panels, saying → page →
//   painting, turns → editing, listing → hearing → opening, carrying → files, walking → controls → shortcuts → app

import { carry } from "./carrying.js";
import "./controls.js";
import { change, choose } from "./editing.js";
import { $ } from "./elements.js";
import { direction } from "./geometry.js";
import { look, onAnswer, onRefused, onState, progress } from "./hearing.js";
import { helpTable } from "./keys.js";
import { refreshList } from "./listing.js";
import { notYet, open, ready, showFrame } from "./opening.js";
import { api, ids, page, revise, timeline, tools, view } from "./page.js";
import { ink, radiusDeg, readout } from "./painting.js";
import { narrow, showList } from "./panels.js";
import { fail, say } from "./saying.js";
import "./shortcuts.js";
import { gotoEntry, judge } from "./walking.js";

const POLL_MS = 2000, PROGRESS_MS = 1000;

Object.assign(api.hooks, { onState, onAnswer, onRefused });

Object.assign(view.hooks, {
  loadTile: async (level, x, y) => {
    const answer = await api.ask(`api/tile/${page.state.picture}/${level}/${x}/${y}${page.drawn === null ? "" : `?frame=${page.drawn}`}`);
    return createImageBitmap(await answer.blob());
  },
  onDraw: () => {
    document.body.dataset.frames = view.frames;
    document.body.dataset.settled = String(view.settled);
    ink();
  },
  onRest: () => {
    readout();
    if (page.list.method === "near" && !page.opening) ready();
  },
});

Object.assign(tools.hooks, {
  onEdit: change,
  onChoose: (lon, lat, event) => {
    const number = page.map?.at(lon, lat);
    if (number) choose(number, event.shiftKey || event.ctrlKey);
    else if (!event.shiftKey) choose(null);
  },
  onHover: readout,
  onTool: (name) => {
    for (const button of document.querySelectorAll("[data-tool]:not(#stage)")) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
    $("radius-field").hidden = name !== "brush" && name !== "eraser";
    $("mode-field").hidden = name !== "polygon";
    if (page.state?.video) ready();
  },
  redraw: ink,
  notYet,
  radiusDeg,
  polygonMode: () => $("polygon-mode").value,
  say,
});

Object.assign(timeline.hooks, {
  onFrame: showFrame,
  onCarry: carry,
  onClear: (span) => { if (page.chosen.size) change({ kind: "clear", objects: ids(), span }); else fail("choose the object first that is to go from frames"); },
});

Object.assign(revise.hooks, { onGo: gotoEntry, onVerdict: judge });

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
if (narrow.matches) showList(false);
narrow.addEventListener("change", () => showList(!narrow.matches));
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
  const { pictures } = page.list, linked = pictures.find((one) => `#${one.id}` === location.hash) ?? pictures[0];
  if (linked && !page.opening) await open(linked.id);
  if (api.queue.length) api.run();
}
document.body.dataset.loaded = "";
setInterval(() => { if (!document.hidden) look(); }, POLL_MS);
setInterval(() => { if (document.body.dataset.busy !== undefined) progress(); }, PROGRESS_MS);
setInterval(() => { if (!document.hidden) refreshList().catch(() => {}); }, 5 * POLL_MS);
