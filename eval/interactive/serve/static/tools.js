// What the pointer and the keys do on the sphere. A tool gets places as [lon, lat] in degrees, from the pointer or from the
// middle of the view (keyboard), and in the end gives an edit. What is being drawn is kept as places on the sphere, so one can
// look around in between.

import { clamp, direction, dot, lonLat } from "./geometry.js";

export const TOOLS = ["look", "click", "box", "brush", "eraser", "polygon"];
const STILL_PX = 5, FINGER_PX = 12, MIN_STEP_PX = 3;

export class Tools {
  constructor(stage, view) {
    // onEdit(edit), onChoose(lon, lat, event), onHover(lon, lat), redraw(), radiusDeg(), polygonMode(), onTool(name),
    // say(message), notYet(): why what is drawn would mean nothing yet, or ""
    this.hooks = {};
    Object.assign(this, { stage, view, name: "look", path: [], corner: null, pointers: new Map(), pen: false, hover: null });
    stage.addEventListener("pointerdown", (event) => this._down(event));
    stage.addEventListener("pointermove", (event) => this._move(event));
    stage.addEventListener("pointerup", (event) => this._up(event));
    stage.addEventListener("pointercancel", (event) => this._up(event, true));
    stage.addEventListener("pointerleave", () => { this.hover = null; this.hooks.redraw(); });
    stage.addEventListener("dblclick", () => { if (this.name === "polygon") this.close(); });
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    stage.addEventListener("wheel", (event) => { event.preventDefault(); this._zoomAt(event, Math.exp(event.deltaY * 0.0015)); }, { passive: false });
  }

  choose(name) {
    this.stop();
    this.name = name;
    this.stage.dataset.tool = name;
    this.hooks.onTool(name);
  }

  // Let go of what is half drawn, also of a button that is held down.
  stop() {
    if (this.drag?.pans) this.drag.moved = true;
    else this.drag = null;
    this.path = [];
    this.corner = null;
    this.pen = false;
    this.drawing = null;
    this.hooks.redraw();
  }

  get busy() { return this.path.length > 0 || this.corner !== null || Boolean(this.drawing); }

  _at(event) {
    const box = this.stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  _place(event) { return lonLat(this.view.camera.at(...this._at(event))); }

  _zoomAt(event, factor) {
    const camera = this.view.camera, at = this._at(event), held = camera.at(...at);
    camera.zoom(factor);
    camera.hold(held, ...at);
    this.view.turned();
  }

  _down(event) {
    if (event.target.closest("button")) return;
    this.stage.setPointerCapture(event.pointerId);
    this.stage.focus({ preventScroll: true });
    const at = this._at(event);
    this.byKeys = false;
    this.pointers.set(event.pointerId, at);
    if (this.pointers.size === 2) { this.drawing = null; this.path = this.name === "polygon" ? this.path : []; this.drag = null; this.hooks.redraw(); return; }
    const looks = event.button !== 0 || this.space || this.name === "look", notYet = looks && event.button !== 0 ? "" : this.hooks.notYet();
    const pans = looks || notYet !== "" || this.name === "click" || this.name === "polygon";
    if (notYet && !looks) this.hooks.say(notYet);
    this.drag = { from: at, last: at, pans, moved: notYet !== "", button: event.button };
    if (pans) return;
    const place = this._place(event);
    if (this.name === "box") this.drawing = { from: at, to: at };
    else { this.path = [place]; this.drawing = { last: at }; }
    this.hooks.redraw();
  }

  _move(event) {
    const at = this._at(event);
    this.byKeys = false;
    this.hover = at;
    if (this.pointers.size === 2 && this.pointers.has(event.pointerId)) { this._pinch(event.pointerId, at); return; }
    if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, at);
    const drag = this.drag;
    if (!drag) { this.hooks.onHover(...lonLat(this.view.camera.at(...at))); this.hooks.redraw(); return; }
    if (Math.hypot(at[0] - drag.from[0], at[1] - drag.from[1]) > (event.pointerType === "touch" ? FINGER_PX : STILL_PX)) drag.moved = true;
    if (drag.pans) {
      if (drag.moved) {
        drag.held ??= this.view.camera.at(...drag.last);
        this.view.camera.hold(drag.held, ...at);
        this.view.turned();
      }
      drag.last = at;
      return;
    }
    if (this.name === "box") this.drawing.to = at;
    else if (Math.hypot(at[0] - this.drawing.last[0], at[1] - this.drawing.last[1]) >= MIN_STEP_PX) {
      this.drawing.last = at;
      this.path.push(this._place(event));
    }
    this.hooks.redraw();
  }

  _pinch(moved, at) {
    const before = [...this.pointers.values()];
    this.pointers.set(moved, at);
    const after = [...this.pointers.values()], middle = (p) => [(p[0][0] + p[1][0]) / 2, (p[0][1] + p[1][1]) / 2], gap = (p) => Math.max(20, Math.hypot(p[0][0] - p[1][0], p[0][1] - p[1][1]));
    const camera = this.view.camera, held = camera.at(...middle(before));
    camera.zoom(gap(before) / gap(after));
    camera.hold(held, ...middle(after));
    this.view.turned();
  }

  _up(event, cancelled) {
    if (!this.pointers.delete(event.pointerId)) return;
    const drag = this.drag;
    this.drag = null;
    if (!drag || cancelled) { if (cancelled) this.stop(); return; }
    const place = this._place(event);
    if (drag.pans) {
      if (!drag.moved && drag.button === 0 && !this.space) this.use(place, event);
      return;
    }
    if (this.name === "box") this._box();
    else { this.path.push(place); this._stroke(); }
  }

  // The tool at a place, by a click or a key; never on a picture that has come since the button went down.
  use(place, event = {}) {
    if (this.name === "look") this.hooks.onChoose(...place, event);
    else if (this.name === "click") this.hooks.onEdit({ kind: "click", lon_deg: place[0], lat_deg: place[1], positive: !(event.shiftKey || event.altKey) });
    else if (this.name === "polygon") this._corner(place);
  }

  // Enter: the tool in the middle of the view.
  key(event) {
    const camera = this.view.camera, place = [camera.lon, camera.lat], middle = [camera.width / 2, camera.height / 2], notYet = this.hooks.notYet();
    if (notYet) { this.hooks.say(notYet); return; }
    this.byKeys = true;  // the cross in the middle shows where
    if (this.name === "polygon" && event.shiftKey) { this.close(); return; }
    if (this.name === "brush" || this.name === "eraser") {
      if (this.pen) { this.pen = false; this._stroke(); } else { this.pen = true; this.path = [place]; this.hooks.say("the brush is down: arrows draw, Enter lifts it"); }
    } else if (this.name === "box") {
      if (!this.corner) { this.corner = place; this.hooks.say("one corner is set: look at the other and press Enter"); this.hooks.redraw(); return; }
      const from = camera.place(direction(...this.corner));
      this.corner = null;
      if (!from) { this.hooks.say("the first corner is behind you: begin again"); this.hooks.redraw(); return; }
      this.drawing = { from, to: middle };
      this._box();
    } else this.use(place, event);
    this.hooks.redraw();
  }

  // After looking around by keys: a brush that is down draws.
  moved() {
    if (this.pen) this.path.push([this.view.camera.lon, this.view.camera.lat]);
    this.hooks.redraw();
  }

  _stroke() {
    const points = thin(this.path).map(([lon, lat]) => [round(lon), round(lat)]);
    this.path = [];
    this.drawing = null;
    if (points.length) this.hooks.onEdit({ kind: "brush", points, radius_deg: this.hooks.radiusDeg(), erase: this.name === "eraser" });
    this.hooks.redraw();
  }

  _box() {
    const { from, to } = this.drawing, camera = this.view.camera;
    this.drawing = null;
    if (Math.abs(from[0] - to[0]) > 4 && Math.abs(from[1] - to[1]) > 4) {
      const corners = [from, [to[0], from[1]], to, [from[0], to[1]]].map((at) => lonLat(camera.at(...at)).map(round));
      this.hooks.onEdit({ kind: "box", corners });
    }
    this.hooks.redraw();
  }

  _corner(place) {
    const camera = this.view.camera, first = this.path[0] && camera.place(direction(...this.path[0])), at = camera.place(direction(...place));
    if (this.path.length > 2 && first && at && Math.hypot(first[0] - at[0], first[1] - at[1]) < FINGER_PX) { this.close(); return; }
    const last = this.path.at(-1);
    if (last && dot(direction(...last), direction(...place)) > 1 - 1e-9) return;  // the second click of a double click
    this.path.push(place);
    this.hooks.redraw();
  }

  back() {
    this.path.pop();
    this.hooks.redraw();
  }

  close() {
    const points = this.path.map(([lon, lat]) => [round(lon), round(lat)]);
    if (points.length < 3) { if (points.length) this.hooks.say("a polygon has three corners or more"); return; }
    this.path = [];
    this.hooks.onEdit({ kind: "polygon", points, mode: this.hooks.polygonMode() });
    this.hooks.redraw();
  }

  look(dLon, dLat) {
    this.byKeys = true;
    const camera = this.view.camera, step = camera.fov / 20;
    camera.turn(camera.lon + dLon * step / Math.max(0.15, Math.cos(camera.lat * Math.PI / 180)), camera.lat + dLat * step);
    this.view.turned();
    this.moved();
  }
}

const round = (value) => clamp(Math.round(value * 1e4) / 1e4, -180, 180);

// At most 2000 points of a path: a hand that draws for minutes.
function thin(path) {
  const every = Math.ceil(path.length / 2000);
  return path.filter((_, k) => k % every === 0 || k === path.length - 1);
}
