// The picture on the sphere, drawn by WebGL 2: a mesh per tile (mesh.js), the sharpest tile that is there (tiles.js), and over
// it the id map of the objects at full resolution, coloured by a palette. Nothing is drawn unless something has changed.
//
// Our own and not pannellum, which the reports have: it knows neither tiles of equirectangular pictures nor an id map that is
// coloured while it is drawn, so every change of a mask would be a new picture of the whole sphere.

import { Camera, RAD, dot } from "./geometry.js";
import { coarsest, freeCell, makeCell, nearest, program } from "./mesh.js";
import { TILE, Tiles } from "./tiles.js";

const SLOW_MS = 24, COARSE = 0.5;  // while it turns a slow machine draws fewer pixels, and all of them at rest
const REST_MS = 160, MAX_REST_MS = 1000;  // four frames at least: a machine that is slower than this is not at rest between two

export class SphereView {
  constructor(canvas) {
    this.hooks = {};  // loadTile(level, x, y): a promise of an ImageBitmap. onDraw(): after each frame. onRest(): when it has turned
    this.canvas = canvas;
    this.camera = new Camera();
    this.frames = 0;
    this.opacity = 0.5;
    this.scale = 1;
    this.slow = 0;
    this.turning = false;
    this.frameMs = 0;
    this.chosen = 0;
    this.gl = canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false, powerPreference: "high-performance" });
    if (this.gl) this._start();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { this._start(); if (this.picture) this.setPicture(this.picture, this.idMap); });
    new ResizeObserver(() => this._resize()).observe(canvas);
    this._resize();
  }

  _start() {
    this.at = program(this.gl);
    this.paletteTexture = this.gl.createTexture();
    this.tiles?.lost();  // with the context that they were of
    this.tiles = new Tiles(this.gl, (...place) => this.hooks.loadTile(...place), () => this.draw());
    this.cells = [];
  }

  _resize() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2), box = this.canvas.getBoundingClientRect();
    this.camera.resize(box.width, box.height);
    this.full = [Math.max(1, Math.round(box.width * ratio)), Math.max(1, Math.round(box.height * ratio))];
    this._size();
    this.draw();
  }

  _size() {
    const [width, height] = this.full.map((pixels) => Math.max(1, Math.round(pixels * this.scale)));
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
  }

  // The view turns: where frames come slowly, they are drawn with fewer pixels until it rests.
  turned() {
    if (!this.turning) this.slow = 0;
    this.turning = true;
    clearTimeout(this.rest);
    this.rest = setTimeout(() => {
      this.turning = false;
      this.scale = 1;
      this._size();
      this.draw();
      this.hooks.onRest();
    }, Math.min(MAX_REST_MS, Math.max(REST_MS, 4 * this.frameMs)));
    this.draw();
  }

  // It took so long until the browser could show the next frame; several slow ones while it turns make it coarse.
  _took(ms) {
    this.frameMs = ms;
    if (!this.turning) return;
    this.slow = ms > SLOW_MS ? this.slow + 1 : Math.max(0, this.slow - 1);
    if (this.slow >= 3 && this.scale === 1) { this.scale = COARSE; this._size(); this.draw(); }
  }

  // picture: {width, height, levels: [[width, height], …], key}; idMap: of overlay.js.
  setPicture(picture, idMap) {
    const gl = this.gl;
    this.tiles.show(picture.levels);
    for (const cell of this.cells) freeCell(gl, cell);
    this.picture = picture;
    this.idMap = idMap;
    const [width, height] = picture.levels.at(-1);
    this.cells = [];
    for (let y = 0; y * TILE < height; y++) {
      for (let x = 0; x * TILE < width; x++) {
        this.cells.push(makeCell(gl, x, y, [x * TILE / width, Math.min(1, (x + 1) * TILE / width)], [y * TILE / height, Math.min(1, (y + 1) * TILE / height)]));
      }
    }
    this.draw();
  }

  // Another frame of the same size: the one before is shown until the first tiles are there.
  nextFrame() {
    this.tiles.next();
    this.draw();
  }

  // The frame before is still seen in places.
  get changing() { return Boolean(this.tiles?.before.size); }

  // The id map has changed in rows v0 … v1 (of the map).
  idsChanged(v0, v1) {
    const height = this.idMap.height;
    for (const cell of this.cells) if (cell.v1 * height > v0 && cell.v0 * height < v1) cell.stale = true;
    this.draw();
  }

  // Colours: Uint8Array of 256·256·4, of the numbers in the id map.
  setPalette(colours) {
    const gl = this.gl;
    gl.activeTexture(gl.TEXTURE2);
    gl.bindTexture(gl.TEXTURE_2D, this.paletteTexture);
    gl.pixelStorei(gl.UNPACK_ROW_LENGTH, 0);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 256, 256, 0, gl.RGBA, gl.UNSIGNED_BYTE, colours);
    nearest(gl);
    this.draw();
  }

  _uploadIds(cell) {
    const gl = this.gl, { width, height, ids } = this.idMap;
    const x0 = Math.round(cell.u0 * width), x1 = Math.round(cell.u1 * width), y0 = Math.round(cell.v0 * height), y1 = Math.round(cell.v1 * height);
    cell.stale = false;
    cell.size = [x1 - x0, y1 - y0];
    cell.drawn = false;
    for (let y = y0; y < y1 && !cell.drawn; y++) cell.drawn = ids.subarray(y * width + x0, y * width + x1).some((id) => id);
    gl.activeTexture(gl.TEXTURE1);
    gl.bindTexture(gl.TEXTURE_2D, cell.ids);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 2);
    if (!cell.drawn) {
      gl.pixelStorei(gl.UNPACK_ROW_LENGTH, 0);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.R16UI, 1, 1, 0, gl.RED_INTEGER, gl.UNSIGNED_SHORT, new Uint16Array(1));
    } else {
      gl.pixelStorei(gl.UNPACK_ROW_LENGTH, width);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.R16UI, x1 - x0, y1 - y0, 0, gl.RED_INTEGER, gl.UNSIGNED_SHORT, ids.subarray(y0 * width + x0));
      gl.pixelStorei(gl.UNPACK_ROW_LENGTH, 0);
    }
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 4);
    nearest(gl);
  }

  draw() {
    if (this.waiting || !this.gl) return;
    this.waiting = true;
    requestAnimationFrame((now) => {
      this.waiting = false;
      this._draw();
      requestAnimationFrame((then) => this._took(then - now));
    });
  }

  _draw() {
    const gl = this.gl;
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.clearColor(0.063, 0.075, 0.09, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    this.frames += 1;
    this.tiles.now = this.frames;
    if (this.picture) {
      const { right, up, forward, tanX, tanY } = this.camera.axes();
      gl.uniform3fv(this.at.right, right);
      gl.uniform3fv(this.at.up, up);
      gl.uniform3fv(this.at.forward, forward);
      gl.uniform2f(this.at.tangent, tanX, tanY);
      gl.uniform1f(this.at.opacity, this.opacity);
      gl.uniform1ui(this.at.chosen, this.chosen);
      gl.activeTexture(gl.TEXTURE2);
      gl.bindTexture(gl.TEXTURE_2D, this.paletteTexture);
      const seen = this._seen({ right, up, forward, tanX, tanY }), mesh = coarsest(this.full[0] / 2 / tanX, this.turning), level = this._level();
      for (const cell of seen) this._drawCell(cell, mesh, level);
      this.tiles.wish(seen, this.cells, forward, level);
    }
    this.hooks.onDraw();
  }

  // The cells that no side of the view shuts out.
  _seen({ right, up, forward, tanX, tanY }) {
    const sides = [[right, tanX, 1], [right, tanX, -1], [up, tanY, 1], [up, tanY, -1]].map(([axis, tangent, sign]) => forward.map((value, k) => (value * tangent + sign * axis[k]) / Math.hypot(1, tangent)));
    return this.cells.filter((cell) => cell.reach > Math.PI / 2 || sides.every((side) => dot(cell.middle, side) > -Math.sin(cell.reach)));
  }

  _drawCell(cell, mesh, level) {
    const found = this.tiles.sharpest(cell, level), gl = this.gl;
    if (!found) return;
    if (cell.stale) this._uploadIds(cell);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, found.texture);
    gl.activeTexture(gl.TEXTURE1);
    gl.bindTexture(gl.TEXTURE_2D, cell.ids);
    gl.uniform4f(this.at.rect, ...found.rect);
    gl.uniform1i(this.at.drawn, cell.drawn ? 1 : 0);
    gl.uniform2i(this.at.size, ...cell.size);
    gl.bindVertexArray(cell.mesh);
    const [first, count] = cell.ranges[mesh];
    gl.drawElements(gl.TRIANGLES, count, gl.UNSIGNED_SHORT, 2 * first);
  }

  // The level whose pixels are those of the screen, or a little smaller.
  _level() { return this.tiles.level(this.full[0] / (2 * Math.tan(this.camera.fov * RAD / 2)) * 2 * Math.PI * 0.8); }

  // Whether every tile that is seen is as sharp as the zoom needs.
  get settled() {
    return Boolean(this.picture) && this.tiles.loading === 0 && !this.waiting;
  }
}
