// What the page waits for, said over the sphere: several things may be under way at once, and each ends by itself. The first
// of them in the order below is shown, with the seconds that it has taken.

const $ = (id) => document.getElementById(id);
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
