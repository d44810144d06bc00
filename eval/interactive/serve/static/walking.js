// From picture to picture: the next one, the next that is not done, the next entry of what is to be looked at. And back: where
// the page went on by itself, undo means the picture that it came from.

import { stopCarrying } from "./carrying.js";
import { change, choose } from "./editing.js";
import { mark } from "./listing.js";
import { open } from "./opening.js";
import { page, revise, timeline, view, wanted } from "./page.js";
import { ink, pictures } from "./painting.js";
import { fail, say } from "./saying.js";
import { came, take } from "./turns.js";

const LEFT = ["done", "skipped", "damaged"];

export function stepPicture(by, want = () => true) {
  const all = page.list.pictures, at = all.findIndex((one) => one.id === wanted());
  for (let k = 1; k < all.length; k++) {
    const next = all[(at + by * k + all.length * 2) % all.length];
    if (want(next)) { open(next.id); return true; }
  }
  return false;
}

// Marked as done, and on to the next. Never said of a picture that nobody has seen: it does not wait for one that is on its way.
export function done() {
  if (page.opening) { fail("not marked as done: the picture is still being opened"); return; }
  if (!page.state) return;
  const { picture } = page.state;
  change({ kind: "status", status: "done" });
  mark(picture, "done");
  pictures();
  if (stepPicture(1, (one) => !LEFT.includes(one.status))) page.back = picture;
  else say("all pictures are done");
}

// To an entry's frame and place, with its object chosen; nothing where somebody was quicker.
export function gotoEntry(one) {
  if (wanted() !== one.picture) open(one.picture);
  take(one.picture, () => {
    if (revise.at !== one.entry) return;
    if (page.state.video) timeline.go(one.frame);
    choose(page.state.objects.some((other) => other.id === one.id) ? one.id : null);
    if (one.lon_deg !== null) { view.camera.turn(one.lon_deg, one.lat_deg); view.turned(); }
    ink();
  }, () => {});
}

export function judge(entry, verdict) {
  take(entry.picture, () => {
    change({ kind: "revise", entry: entry.entry, verdict });
    revise.judge(entry.entry, verdict);
    if (!verdict || revise.at !== entry.entry) return;
    revise.next();
    if (page.opening && page.opening !== entry.picture) page.back = entry.picture;  // before it is open: Ctrl+Z may be quicker
  }, () => fail(`the verdict on “${entry.why}” was not taken, since its picture is not open: go to the entry and say it again`));
}

export function undo() { take(null, takeBack); }

// Back to where the page went on from by itself, and the last change there taken back; else the last change here.
async function takeBack() {
  const { back } = page, picture = wanted(), carrying = page.carrying && page.carrying.picture === page.state?.picture;
  page.back = null;
  if (back && back !== picture) {
    await open(back);
    if (page.state?.picture !== back || page.opening) return;
  } else {
    if (carrying && !await stopCarrying()) return;  // nothing was written that could be taken back
    if (!await came(picture)) return;
  }
  change({ kind: "undo" });
}
