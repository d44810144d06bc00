// What is said to the person: an error (red, until it is closed or the next change), a notice below the sphere, whether all is
// saved, and over the sphere what the page waits for.

import { $ } from "./elements.js";

const WORDS = { idle: "nothing to save", saving: "saving …", saved: "all changes are saved", offline: "not saved: the server does not answer, trying again", full: "not saved" };

export function fail(message) {
  $("error").firstElementChild.textContent = message;
  $("error").hidden = false;
}

export function hush() { $("error").hidden = true; }

export function say(message) { $("notice").textContent = message; }

// state: of `WORDS`; other words take the place of its own.
export function tellSaved(state, words = WORDS[state]) {
  $("saved").dataset.state = document.body.dataset.saved = state;
  $("saved").textContent = words;
}

export const savedIs = (state) => $("saved").dataset.state === state;

// Of a queue of changes: how many wait, and why nothing is saved.
export function tellQueue(state, count, why) {
  tellSaved(state, state === "full" ? `${WORDS.full}: ${why}` : count > 1 ? `${WORDS[state]} (${count} changes wait)` : WORDS[state]);
}

const ORDER = ["carrying", "opening", "reading", "computing"];  // the first and the last can be cancelled
const CANCELLED = new Set(["carrying", "computing"]);

export class Waiting {
  // progress(): [done, of] of what the predictor is at.
  constructor(progress) {
    this.progress = progress;
    this.under = new Map();  // kind → {words, since}
  }

  // Words begin a kind of waiting, null ends it.
  set(kind, words) {
    if (words === null) this.under.delete(kind);
    else if (this.under.get(kind)?.words !== words) this.under.set(kind, { words, since: performance.now() });
    this._show();
  }

  _show() {
    clearInterval(this.tick);
    const kind = ORDER.find((one) => this.under.has(one));
    $("busy").hidden = !kind;
    if (!kind) { delete document.body.dataset.busy; return; }
    document.body.dataset.busy = "";
    $("cancel").hidden = !CANCELLED.has(kind);
    const { words, since } = this.under.get(kind);
    const tell = () => {
      const [done, of] = this.progress();
      $("doing").textContent = `${words} … ${((performance.now() - since) / 1000).toFixed(0)} s${of > 1 && CANCELLED.has(kind) ? `, ${kind === "carrying" ? "frame" : "view"} ${done} of ${of}` : ""}`;
    };
    this.tick = setInterval(tell, 500);
    tell();
  }
}
