// What each action of keys.js does.

import { cancel } from "./carrying.js";
import { help, redo } from "./controls.js";
import { classNumber, gotoChosen, isolate, newObject, review, step, toggleHidden } from "./editing.js";
import { $ } from "./elements.js";
import { save } from "./files.js";
import { listen } from "./keys.js";
import { revise, timeline, tools, view } from "./page.js";
import { ink } from "./painting.js";
import { showList } from "./panels.js";
import { fail } from "./saying.js";
import { TOOLS } from "./tools.js";
import { here } from "./turns.js";
import { done, stepPicture, undo } from "./walking.js";

const radius = (by) => { $("radius").value = Number($("radius").value) + by; $("radius").dispatchEvent(new Event("input")); };
const press = (id) => { if (!$(id).disabled) $(id).click(); };

const WORDS = { name: "choose an object first: then it gets a name", comment: "choose an object first: then it gets a comment" };

function field(name) {
  if ($(name).closest("[hidden]") || $(name).disabled) { fail(WORDS[name] ?? "this object is locked"); return; }
  $(name).focus();
  $(name).select();
}

// Words that are being typed count, and the hand goes on typing.
function takeOver() {
  const typed = document.activeElement;
  if (!typed?.matches("#detail input, #detail textarea")) return;
  typed.blur();
  typed.focus();
}

const anyPicture = {
  forget: (target) => { if (target.dataset.shown !== undefined) target.value = target.dataset.shown; target.blur(); },
  ...Object.fromEntries(TOOLS.map((name) => [name, () => tools.choose(name)])),
  list: () => showList(), help, category: () => field("category"), classNumber,
  undo, done, nextPicture: () => stepPicture(1), previousPicture: () => stepPicture(-1),
  smaller: () => radius(-4), larger: () => radius(4), back: () => tools.back(),
  stop: () => { if (tools.busy) tools.stop(); else cancel(); },
  turn: (lon, lat) => { $("stage").focus({ preventScroll: true }); tools.look(lon, lat); }, zoom: (factor) => { view.camera.zoom(factor); view.draw(); ink(); },
  use: (event) => tools.key(event), space: (down) => { tools.space = down; },
  nextEntry: () => revise.next(), entryAccepted: () => revise.say("accepted"), entryFixed: () => revise.say("fixed"),
};

// These are about the open picture, and wait for it.
const ofThePicture = {
  new: newObject, hide: toggleHidden, isolate, goto: gotoChosen, redo, save: () => { takeOver(); save("coco.json"); }, name: () => field("name"), comment: () => field("comment"), step,
  accept: () => review("accepted"), reject: () => review("rejected"), lock: () => press("lock"), merge: () => press("merge"), split: () => press("split"), remove: () => press("delete"),
  previousFrame: () => timeline.step(-1), nextFrame: () => timeline.step(1), previousKey: () => timeline.toKey(-1), nextKey: () => timeline.toKey(1),
  carry: (direction) => timeline.carry(direction),
};

listen({ ...anyPicture, ...Object.fromEntries(Object.entries(ofThePicture).map(([name, action]) => [name, here(action)])) });
