// The frames of a video below the sphere: scrub, step, go to keyframes, propagate, clear. It knows nothing of the server: what
// is wanted goes out through hooks.

import { $ } from "./elements.js";

export class Timeline {
  constructor() {
    this.hooks = {};  // onFrame(number), onCarry(direction, frames or null), onClear(span)
    this.video = null;
    this.frame = 0;
    this.objects = [];
    const on = (id, kind, act) => $(id).addEventListener(kind, act);
    on("frame", "input", () => this.go(Number($("frame").value)));
    on("previous-frame", "click", () => this.step(-1));
    on("next-frame", "click", () => this.step(1));
    on("previous-key", "click", () => this.toKey(-1));
    on("next-key", "click", () => this.toKey(1));
    on("carry-back", "click", () => this.carry("backward"));
    on("carry", "click", () => this.carry("forward"));
    on("clear", "click", () => this.hooks.onClear($("clear-span").value));
    new ResizeObserver(() => this.draw()).observe($("marks"));
  }

  // video: {frames, fps, frame}, or null for a picture.
  open(video) {
    this.video = video;
    $("timeline").hidden = !video;
    if (!video) return;
    $("frame").max = video.frames - 1;
    this.show(video.frame);
  }

  show(frame) {
    this.frame = frame;
    $("frame").value = frame;
    const { frames, fps } = this.video, seconds = fps ? ` · ${(frame / fps).toFixed(2)} s` : "";
    $("frame-words").textContent = `${frame + 1} of ${frames}${seconds}`;
    $("frame").setAttribute("aria-valuetext", $("frame-words").textContent);
    $("previous-frame").disabled = frame === 0;
    $("next-frame").disabled = frame === frames - 1;
    this.draw();
  }

  go(frame) {
    if (!this.video) return;
    const next = Math.min(this.video.frames - 1, Math.max(0, frame));
    if (next !== this.frame) { this.show(next); this.hooks.onFrame(next); }
  }

  step(by) { this.go(this.frame + by); }

  // The next frame, that way, on which a hand has made the chosen object (or any).
  toKey(way) {
    const keys = this.objects.flatMap((one) => one.keys).filter((key) => (key - this.frame) * way > 0);
    if (keys.length) this.go(way > 0 ? Math.min(...keys) : Math.max(...keys));
  }

  carry(direction) {
    if (this.video) this.hooks.onCarry(direction, $("reach").value ? Number($("reach").value) : null);
  }

  // What is marked: the chosen objects, or all.
  mark(objects, chosen) {
    if (!this.video) return;
    this.objects = chosen.length ? chosen : objects;
    for (const id of ["carry", "carry-back", "clear"]) $(id).disabled = !chosen.length || chosen.some((one) => one.locked);
    this.draw();
  }

  draw() {
    if (!this.video) return;
    const canvas = $("marks"), ratio = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
    if (!box.width) return;
    canvas.width = Math.round(box.width * ratio);
    canvas.height = Math.round(box.height * ratio);
    const pen = canvas.getContext("2d"), { frames } = this.video, pad = 8, wide = (box.width - 2 * pad) / Math.max(1, frames - 1);
    const x = (frame) => pad + Math.min(frames - 1, Math.max(0, frame)) * wide;  // as the slider's knob
    const rows = Math.min(4, this.objects.length), high = box.height / Math.max(1, rows);
    pen.scale(ratio, ratio);
    for (const [row, one] of this.objects.slice(0, 4).entries()) {
      const y = row * high;
      pen.fillStyle = one.colour;
      pen.globalAlpha = 0.55;
      for (const [first, last] of one.spans) pen.fillRect(x(first - 0.5), y + 2, Math.max(2, x(last + 0.5) - x(first - 0.5)), high - 4);
      pen.globalAlpha = 1;
      for (const key of one.keys) {
        const middle = x(key), half = Math.min(6, high / 2);
        pen.beginPath();
        pen.moveTo(middle, y + high / 2 - half); pen.lineTo(middle + half, y + high / 2); pen.lineTo(middle, y + high / 2 + half); pen.lineTo(middle - half, y + high / 2);
        pen.closePath();
        pen.fill();
        pen.strokeStyle = "#fff";
        pen.stroke();
      }
    }
    pen.fillStyle = getComputedStyle(canvas).color;
    pen.fillRect(x(this.frame) - 1, 0, 2, box.height);
  }
}
