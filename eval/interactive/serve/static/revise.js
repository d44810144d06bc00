// What a person should look at in machine-made labels (`revise.json`), the worst first: the list, which entry is looked at, and
// what came of it. It knows nothing of the server: what is wanted goes out through hooks.

import { $, counted, fill, inSight, make } from "./elements.js";

const VERDICTS = { accepted: "right as it is", fixed: "fixed" };

export class Revise {
  constructor() {
    this.hooks = {};  // onGo(entry), onVerdict(entry, "accepted", "fixed" or null)
    this.entries = [];
    this.at = null;  // the digest of the entry that is looked at
    $("entry-accepted").addEventListener("click", () => this.say("accepted"));
    $("entry-fixed").addEventListener("click", () => this.say("fixed"));
  }

  get current() { return this.entries.find((one) => one.entry === this.at); }

  show({ entries, all, done }) {
    this.entries = entries;
    $("revise").hidden = !all;
    $("revise-words").textContent = `${done} of ${counted(all, "entry", "entries")} done${entries.length < all ? `; the first ${entries.length} are shown` : ""}`;
    fill($("revise-list"), entries.map((one) => this._row(one)));
    this._mark();
    document.body.dataset.revise = JSON.stringify({ all, done, at: this.at, open: entries.filter((one) => !one.verdict).length });
  }

  _row(one) {
    const item = make("li"), button = make("button", undefined, one.verdict ? "done" : "");
    button.type = "button";
    button.dataset.entry = one.entry;
    button.title = one.why;
    button.setAttribute("aria-current", String(one.entry === this.at));
    button.append(make("b", one.why), make("small", [one.label, one.item, `frame ${one.frame + 1}`, VERDICTS[one.verdict]].filter(Boolean).join(" · ")));
    button.addEventListener("click", () => this.go(one));
    item.append(button);
    return item;
  }

  _mark() {
    for (const button of $("revise-list").querySelectorAll("button")) {
      button.setAttribute("aria-current", String(button.dataset.entry === this.at));
      if (button.dataset.entry === this.at) inSight(button);
    }
    const { current } = this;
    $("verdict").hidden = !current;
    for (const name of Object.keys(VERDICTS)) $(`entry-${name}`).setAttribute("aria-pressed", String(current?.verdict === name));
  }

  go(one) {
    this.at = one.entry;
    this._mark();
    this.hooks.onGo(one);
  }

  leave() { this.at = null; this._mark(); }

  // A verdict that was given and is not answered yet.
  judge(entry, verdict) {
    const one = this.entries.find((other) => other.entry === entry);
    if (one) one.verdict = verdict;
    this._mark();
  }

  // The next that is open after the one that is looked at; the worst where there is none.
  next() {
    const open = this.entries.filter((one) => !one.verdict && one.entry !== this.at), place = this.entries.findIndex((one) => one.entry === this.at);
    const one = open.find((other) => this.entries.indexOf(other) > place) ?? open[0];
    if (one) this.go(one);
  }

  say(verdict) {
    const { current } = this;
    if (current) this.hooks.onVerdict(current, current.verdict === verdict ? null : verdict);
  }
}
