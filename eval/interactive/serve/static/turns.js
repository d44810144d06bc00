// What a hand has asked for about a picture that is not there yet: one queue, in the order in which it was asked for. A key that
// is quicker than its picture is not lost, never means another picture, and never overtakes a key before it. Keys, verdicts,
// ways to an entry and undo wait here; changes that are made already wait in api.js. What draws does not wait: a place on a
// picture that is not seen means nothing (`notYet` in opening.js).

import { page, wanted } from "./page.js";
import { fail } from "./saying.js";

const queue = [];
let running = false;

// Do `act` with that picture open (null: with any), at once where nothing waits; `lost` where the picture did not come. Where
// `act` gives a promise, what is asked for later waits for it.
export function take(picture, act, lost) {
  queue.push({ picture, act, lost });
  if (!running) run();
}

// No await before the first thing that has to be waited for: what can be done at once is done before the key's event is over.
async function run() {
  running = true;
  while (queue.length) {
    const { picture, act, lost } = queue[0];
    while (picture !== null && page.opening === picture) await page.arriving;
    queue.shift();
    try {
      const under = picture === null || page.state?.picture === picture ? act() : lost();
      if (under) await under;
    } catch (error) { reportError(error); }  // one that fails holds up no other
  }
  running = false;
}

const notTaken = () => fail("a key was not taken, since the picture that it was meant for was not opened");

// An action that is about the picture that a hand means now. Not taken where that is left again meanwhile.
export function here(action) {
  return (...args) => {
    const picture = wanted();
    if (picture) take(picture, () => { if (page.opening) notTaken(); else action(...args); }, notTaken);
  };
}

// Whether that picture is open when none is on its way any more: for an action that has had its turn and must wait.
export async function came(picture) {
  while (picture && page.opening === picture) await page.arriving;
  const open = picture && page.state?.picture === picture && !page.opening;
  if (picture && !open) notTaken();
  return open;
}
