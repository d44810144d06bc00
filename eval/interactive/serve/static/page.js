// What the page knows, in one object that every module above reads (beside each part stands who writes it), and the parts of the
// page, each made once. A part says what happened by its `hooks`, and knows nothing of who hears it: app.js joins them to what is
// to be done.

import { Api } from "./api.js";
import { $ } from "./elements.js";
import { Revise } from "./revise.js";
import { Waiting } from "./saying.js";
import { SphereView } from "./sphere.js";
import { Timeline } from "./timeline.js";
import { Tools } from "./tools.js";

export const page = {
  // of the place (listing.js)
  list: { pictures: [], classes: [] },
  classes: [],  // in the order that the digits mean (painting.js)

  // of the open picture (opening.js; its state also by hearing.js)
  state: null,  // as the server last said, with `told`, its objects before what waits was foreseen
  opening: null,  // the picture that is on its way
  arriving: null,  // a promise of the end of that
  back: null,  // the picture that the page went on from by itself: the next undo is meant for it (walking.js)
  frame: null,  // the frame of a video that is wanted
  drawn: null,  // the one that is shown
  seeking: false,  // another frame is on its way
  map: null,  // which object each pixel shows
  runs: new Map(),  // masks by their digests (hearing.js)
  heard: { version: 0 },  // the newest version that an answer told of (hearing.js)

  // of this browser's hand (editing.js)
  chosen: new Set(),
  hidden: new Set(),
  choices: 0,  // how often a hand has chosen
  category: null,  // of the next object (editing.js)

  // what is under way (editing.js, hearing.js)
  fresh: null,  // {pending: request} of an object that is being made
  intents: new Map(),  // request → `choices` when it was made
  strokes: [],  // drawn until the server's mask is there
  carrying: null,  // a propagation (carrying.js)
};

export const chosen = () => (page.state?.objects ?? []).filter((one) => page.chosen.has(one.id));
export const ids = () => [...page.chosen];

// What is chosen, or what is being made: an edit of it waits until it is there.
export const meant = () => (page.chosen.size ? ids() : page.fresh?.pending ? [page.fresh] : []);

// The picture that a hand means: the one on its way, or the open one.
export const wanted = () => page.opening ?? page.state?.picture;

export const api = new Api();
export const view = new SphereView($("gl"));
export const tools = new Tools($("stage"), view);
export const timeline = new Timeline();
export const revise = new Revise();
export const waiting = new Waiting(() => page.state?.progress ?? [0, 0]);

// The changes of the open picture that the server has not answered yet.
export const waits = () => api.queue.filter((one) => one.picture === page.state?.picture).map((one) => one.edit);
