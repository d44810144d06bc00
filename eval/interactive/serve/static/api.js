// Talking to the server. Every request carries the session; every change also its picture, the version that the page was
// looking at, and an id of its own, so that one whose answer was lost is not made twice.
//
// Changes wait in a queue, one under way at a time, and are kept in the browser until the server has them on its disk: a page
// that is loaded again, or a server that comes back, goes on where it was.

const settings = JSON.parse(document.getElementById("settings").textContent);
const RETRY_MS = 1000, BROKEN_TRIES = 3, QUEUE = `pano-queue-${settings.place}`;
export const place = settings.place;  // whose pictures these are: another place may be served at this address later
export const maxBytes = settings.maxBytes;

export const id = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const stored = (store, key, make) => { if (!store.getItem(key)) store.setItem(key, make()); return store.getItem(key); };
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Failure extends Error {
  constructor(status, code, message) { super(message); Object.assign(this, { status, code }); }
}

export class Api {
  constructor() {
    this.hooks = {};  // onState(state, waiting, why): idle, saving, saved, offline, full. onAnswer(edit, answer), onRefused(edit, failure)
    this.author = stored(localStorage, "pano-author", id);
    this.session = sessionStorage.getItem("pano-session");
    sessionStorage.removeItem("pano-session");  // a tab that is doubled has a session of its own
    window.addEventListener("pagehide", () => { if (this.session) sessionStorage.setItem("pano-session", this.session); });
    this.queue = JSON.parse(sessionStorage.getItem(QUEUE) || "[]");
    this.made = new Map();  // request of an edit that began an object → the object's id
  }

  get who() { return stored(localStorage, "pano-who", () => `annotator ${this.author.slice(0, 4)}`); }
  set who(name) { localStorage.setItem("pano-who", name); }

  async fetch(path, { method = "GET", body, type, signal } = {}) {
    let answer;
    try {
      answer = await fetch(path, {
        method, signal, cache: "no-store", body: body === undefined || type ? body : JSON.stringify(body),
        headers: { "X-Pano-Token": settings.token, "X-Pano": "1", "X-Pano-Place": settings.place, ...(body === undefined ? {} : { "Content-Type": type || "application/json" }) },
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Failure(0, "offline", "the server does not answer: is `pano serve` still running?");
    }
    if (answer.ok) return answer;
    const said = await answer.json().catch(() => ({}));
    throw new Failure(answer.status, said.code, said.error || `the server says ${answer.status}`);
  }

  async join() {
    const body = { author: this.author, who: this.who, session: this.session };
    this.session = (await (await this.fetch("api/join", { method: "POST", body })).json()).session;
  }

  // A request that joins (again) if the server does not know this tab.
  async ask(path, options) {
    if (!this.session) await this.join();
    try {
      return await this.fetch(typeof path === "function" ? path(this.session) : path, typeof options === "function" ? options(this.session) : options);
    } catch (failure) {
      if (failure.code !== "session") throw failure;
      await this.join();
      return this.fetch(typeof path === "function" ? path(this.session) : path, typeof options === "function" ? options(this.session) : options);
    }
  }

  async post(path, body) {
    const answer = await this.ask(path, (session) => ({ method: "POST", body: { ...body, session } }));
    try { return await answer.json(); } catch { throw new Failure(0, "offline", "the server's answer was cut off"); }
  }

  // ---- the queue of changes

  change(picture, version, edit, frame = null) {
    const one = { request: id(), picture, edit, version, frame };
    this.queue.push(one);
    this._keep();
    this.run();
    return one.request;
  }

  async run() {
    if (this.running) return;
    this.running = true;
    while (this.queue.length) {
      const one = this.queue[0];
      this.hooks.onState("saving", this.queue.length);
      try {
        const answer = await this.post("api/edit", { picture: one.picture, version: one.version, request: one.request, frame: one.frame, edit: this._resolved(one.edit) });
        if (answer.touched?.length) this.made.set(one.request, answer.touched[0]);
        this._done(one);
        this.hooks.onAnswer(one, answer);
      } catch (failure) {
        one.broken = (one.broken ?? 0) + (failure.status === 500);
        if (failure.code === "busy") await sleep(RETRY_MS);
        else if ((failure.code === "offline" || failure.status >= 500) && one.broken < BROKEN_TRIES) {
          this.hooks.onState(failure.code === "storage" ? "full" : "offline", this.queue.length, failure.message);
          await sleep(RETRY_MS);
        } else if (failure.code === "elsewhere") {
          this.hooks.onState("full", this.queue.length, failure.message);
          this.running = false;
          return;
        } else {
          this._done(one);
          this.hooks.onRefused(one, failure);
        }
      }
    }
    this.running = false;
    this.hooks.onState("saved", 0);
  }

  // Objects that were pending when the edit was made, by their ids.
  _resolved(edit) {
    const real = (one) => (one?.pending ? this.made.get(one.pending) ?? null : one);
    const found = { ...edit };
    if (edit.object?.pending) found.object = real(edit.object);
    if (edit.objects) found.objects = edit.objects.map(real).filter((one) => one !== null);
    if (edit.objects?.length && !found.objects.length) throw new Failure(0, "gone", "the object was not made, so it was not changed either");
    return found;
  }

  // When all that waits is on the server's disk.
  async drained() { while (this.queue.length) await sleep(50); }

  _done(one) {
    this.queue = this.queue.filter((other) => other !== one);
    const id = this.made.get(one.request), real = (object) => (object?.pending === one.request ? id : object);
    if (id !== undefined) {  // a page that is loaded again does not know what was made
      for (const other of this.queue) {
        if (other.edit.object) other.edit.object = real(other.edit.object);
        if (other.edit.objects) other.edit.objects = other.edit.objects.map(real);
      }
    }
    this._keep();
  }

  _keep() { sessionStorage.setItem(QUEUE, JSON.stringify(this.queue)); }

  cancel(request = this.queue[0]?.request) {
    if (request) this.post("api/cancel", { request }).catch(() => {});
  }
}
