// Propagation: the chosen objects of a video are carried on to other frames, by the server, one propagation at a time.

import { id } from "./api.js";
import { counted } from "./elements.js";
import { look, update } from "./hearing.js";
import { api, ids, page, waiting } from "./page.js";
import { called } from "./panels.js";
import { fail, hush, say } from "./saying.js";

let carried = null;  // a promise of the number of frames that were written

export function carry(direction, frames) {
  if (!page.state?.video) return;
  if (page.carrying) { fail(`“${page.carrying.name}” is being propagated: wait, or cancel it with Esc`); return; }
  if (!page.chosen.size && !page.fresh?.pending) { fail("choose the object to be propagated first"); return; }
  carried = carryOn(direction, frames);
}

// Cancel it, or else what is being computed.
export function cancel() {
  if (page.carrying) page.carrying.cancelled = true;
  api.cancel(page.carrying?.request);
}

// Cancel it, and wait; gives the number of frames that it had written.
export function stopCarrying() {
  cancel();
  return carried;
}

async function carryOn(direction, frames) {
  const { picture, name } = page.state, { frame } = page, carrying = page.carrying = { request: id(), picture, name, cancelled: false };
  const isOpen = () => page.state?.picture === picture;
  let done = 0;
  hush();
  waiting.set("carrying", "propagating");
  document.body.dataset.carrying = "";
  try {
    await api.drained();
    if (isOpen() && page.chosen.size && !carrying.cancelled) {
      const names = new Map(page.state.objects.map((one) => [one.id, called(one)]));
      const answer = await api.post("api/propagate", { picture, version: page.state.version, request: carrying.request, frame, objects: ids(), direction, frames });
      done = answer.frames_done;
      await update(answer);
      say(`${isOpen() ? "" : `${name}: `}${whatWasDone(answer, names)}`);
    } else say(`nothing was propagated in ${name}: ${carrying.cancelled ? "it was cancelled" : "it was left before that had begun"}`);
  } catch (failure) { fail(failure.code === "offline" ? "the server went away while propagating: what it has written is kept, propagate again from its last frame" : failure.message); }
  page.carrying = null;
  delete document.body.dataset.carrying;
  waiting.set("carrying", null);
  look(true);
  return done;
}

function whatWasDone({ frames_done, cancelled, lost }, names) {
  const seen = Object.entries(lost).map(([one, at]) => `${names.get(Number(one)) ?? `object ${one}`} was seen last on frame ${at + 1}`);
  return `propagated over ${counted(frames_done, "frame")}${cancelled ? ", then cancelled" : ""}${seen.length ? `; ${seen.join(", ")}: correct it there and propagate again` : ""}`;
}
