// The picture on the sphere, drawn by WebGL 2: a mesh per tile, the sharpest tile that is there, and over it the id map of
// the objects at full resolution, coloured by a palette. Nothing is drawn unless something has changed.
//
// Our own and not pannellum, which the reports have: it knows neither tiles of equirectangular pictures nor an id map that is
// coloured while it is drawn, so every change of a mask would be a new picture of the whole sphere.

import { Camera, RAD, direction, dot } from "./geometry.js";

const TILE = 1024, QUAD_DEG = 1.25, KEPT_TILES = 80, AT_ONCE = 4;
const SLOW_MS = 24, COARSE = 0.5;  // while it turns a slow machine draws fewer pixels, and all of them at rest
const REST_MS = 160, MAX_REST_MS = 1000;  // four frames at least: a machine that is slower than this is not at rest between two
const STEPS = [4, 2, 1], BENT_PX = 0.6, BENT_TURNING_PX = 3;  // quads of a mesh that are drawn as one; how far that may bend the picture
const VERTEX = `#version 300 es
in vec3 place; in vec2 uv; uniform vec3 right, up, forward; uniform vec2 tangent; out vec2 t;
void main() { t = uv; gl_Position = vec4(dot(place, right) / tangent.x, dot(place, up) / tangent.y, 0.0, dot(place, forward)); }`;
const FRAGMENT = `#version 300 es
precision highp float; precision highp usampler2D;
in vec2 t; out vec4 colour;
uniform sampler2D picture, palette; uniform usampler2D ids; uniform vec4 rect; uniform ivec2 size; uniform float opacity; uniform uint chosen; uniform bool drawn;
uint at(ivec2 p) { return texelFetch(ids, clamp(p, ivec2(0), size - 1), 0).r; }
void main() {
  colour = vec4(texture(picture, t * rect.xy + rect.zw).rgb, 1.0);
  if (!drawn) return;
  ivec2 p = ivec2(t * vec2(size));
  uint id = at(p), right = at(p + ivec2(1, 0)), below = at(p + ivec2(0, 1));
  vec4 ink = texelFetch(palette, ivec2(id & 255u, id >> 8u), 0);
  colour.rgb = mix(colour.rgb, ink.rgb, ink.a * opacity * (id == chosen ? 1.0 : 0.8));
  if (id != right || id != below) {
    uint other = id != 0u ? id : (right != 0u ? right : below);
    vec4 line = texelFetch(palette, ivec2(other & 255u, other >> 8u), 0);
    bool bright = chosen != 0u && (id == chosen || right == chosen || below == chosen);
    colour.rgb = mix(colour.rgb, bright ? vec3(1.0) : line.rgb, line.a);
  }
}`;

export class SphereView {
  // `loadTile(level, x, y)` gives a promise of an ImageBitmap; `onDraw` is called after each frame, `onRest` when it has turned.
  constructor(canvas, loadTile, onDraw, onRest) {
    this.onRest = onRest;
    this.canvas = canvas;
    this.loadTile = loadTile;
    this.onDraw = onDraw;
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
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.bindAttribLocation(program, 0, "place");
    gl.bindAttribLocation(program, 1, "uv");
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error("this browser cannot draw the sphere");
    gl.useProgram(program);
    this.at = Object.fromEntries(["right", "up", "forward", "tangent", "picture", "palette", "ids", "rect", "size", "opacity", "chosen", "drawn"]
      .map((name) => [name, gl.getUniformLocation(program, name)]));
    gl.uniform1i(this.at.picture, 0);
    gl.uniform1i(this.at.ids, 1);
    gl.uniform1i(this.at.palette, 2);
    this.paletteTexture = gl.createTexture();
    this.tiles = new Map();  // "level/x/y" → {texture, used} or a promise
    this.before = new Map();  // of the frame that was shown before, until this one's are there
    this.cells = [];
    this.loading = 0;
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
      this.onRest();
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
    for (const tile of [...this.tiles.values(), ...this.before.values()]) if (tile.texture) gl.deleteTexture(tile.texture);
    this.before = new Map();
    for (const cell of this.cells) { gl.deleteVertexArray(cell.mesh); gl.deleteBuffer(cell.buffer); gl.deleteBuffer(cell.index); gl.deleteTexture(cell.ids); }
    this.tiles = new Map();
    this.picture = picture;
    this.idMap = idMap;
    const [width, height] = picture.levels.at(-1);
    this.cells = [];
    for (let y = 0; y * TILE < height; y++) {
      for (let x = 0; x * TILE < width; x++) {
        this.cells.push(this._cell(x, y, [x * TILE / width, Math.min(1, (x + 1) * TILE / width)], [y * TILE / height, Math.min(1, (y + 1) * TILE / height)]));
      }
    }
    this.draw();
  }

  // Another frame of the same size: the one before is shown until the first tiles are there.
  nextFrame() {
    const held = [...this.tiles].filter(([, tile]) => tile.texture);
    if (held.length) {
      for (const tile of this.before.values()) this.gl.deleteTexture(tile.texture);
      this.before = new Map(held);
    }
    this.tiles = new Map();
    this.picture = { ...this.picture };
    this.draw();
  }

  _cell(x, y, [u0, u1], [v0, v1]) {
    const gl = this.gl, quads = (degrees) => STEPS[0] * Math.ceil(degrees / QUAD_DEG / STEPS[0]), columns = quads((u1 - u0) * 360), rows = quads((v1 - v0) * 180);
    const values = new Float32Array((columns + 1) * (rows + 1) * 5), orders = STEPS.map((step) => order(columns, rows, step));
    let k = 0;
    for (let j = 0; j <= rows; j++) {
      for (let i = 0; i <= columns; i++) {
        const s = i / columns, t = j / rows;
        values.set(direction((u0 + (u1 - u0) * s - 0.5) * 360, (0.5 - v0 - (v1 - v0) * t) * 180), k);
        values.set([s, t], k + 3);
        k += 5;
      }
    }
    const mesh = gl.createVertexArray(), buffer = gl.createBuffer(), index = gl.createBuffer();
    gl.bindVertexArray(mesh);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, index);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, new Uint16Array(orders.flat()), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 20, 0);
    gl.enableVertexAttribArray(1);
    gl.vertexAttribPointer(1, 2, gl.FLOAT, false, 20, 12);
    const middle = direction(((u0 + u1) / 2 - 0.5) * 360, (0.5 - (v0 + v1) / 2) * 180);
    let reach = 0;
    for (let i = 0; i < values.length; i += 5) reach = Math.max(reach, Math.acos(Math.min(1, dot(middle, values.subarray(i, i + 3)))));
    let first = 0;
    const ranges = orders.map((one) => { first += one.length; return [first - one.length, one.length]; });
    return { x, y, u0, u1, v0, v1, mesh, buffer, index, ranges, middle, reach, ids: gl.createTexture(), stale: true, drawn: false };
  }

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
    this._nearest();
    this.draw();
  }

  _nearest() {
    const gl = this.gl;
    for (const [name, value] of [["MIN_FILTER", "NEAREST"], ["MAG_FILTER", "NEAREST"], ["WRAP_S", "CLAMP_TO_EDGE"], ["WRAP_T", "CLAMP_TO_EDGE"]]) {
      gl.texParameteri(gl.TEXTURE_2D, gl[`TEXTURE_${name}`], gl[value]);
    }
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
    this._nearest();
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
      const seen = this._seen({ right, up, forward, tanX, tanY }), mesh = this._mesh(tanX, tanY);
      for (const cell of seen) this._drawCell(cell, mesh);
      this._wish(seen, forward);
    }
    this.onDraw();
  }

  // The cells that no side of the view shuts out.
  _seen({ right, up, forward, tanX, tanY }) {
    const sides = [[right, tanX, 1], [right, tanX, -1], [up, tanY, 1], [up, tanY, -1]].map(([axis, tangent, sign]) => forward.map((value, k) => (value * tangent + sign * axis[k]) / Math.hypot(1, tangent)));
    return this.cells.filter((cell) => cell.reach > Math.PI / 2 || sides.every((side) => dot(cell.middle, side) > -Math.sin(cell.reach)));
  }

  // The coarsest mesh that bends the picture by less than is seen: between the corners of a quad lines of latitude are straight,
  // and at a pole meridians are, by a quarter of the quad's angle squared.
  _mesh(tanX, tanY) {
    const perRad = this.full[0] / 2 / tanX, most = this.turning ? BENT_TURNING_PX : BENT_PX;
    const found = STEPS.findIndex((step) => (step * QUAD_DEG * RAD) ** 2 / 4 * perRad < most);
    return found < 0 ? STEPS.length - 1 : found;
  }

  _drawCell(cell, mesh) {
    const found = this._sharpest(cell), gl = this.gl;
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

  // The sharpest tile that is there for a cell, up to the level that the zoom needs, and the part of it that the cell is.
  _sharpest(cell) {
    const top = this._level(), count = this.picture.levels.length;
    for (const [tiles, levels] of [[this.tiles, range(top, -1, -1)], [this.tiles, range(top + 1, count, 1)], [this.before, range(count - 1, -1, -1)]]) {
      for (const level of levels) {
        const [width, height] = this.picture.levels[level], x = this._tileOf(cell.u0, cell.u1, width), y = this._tileOf(cell.v0, cell.v1, height);
        const tile = tiles.get(`${level}/${x}/${y}`);
        if (!tile?.texture) continue;
        tile.used = this.frames;
        const w = Math.min(TILE, width - x * TILE), h = Math.min(TILE, height - y * TILE);
        return { texture: tile.texture, rect: [(cell.u1 - cell.u0) * width / w, (cell.v1 - cell.v0) * height / h, (cell.u0 * width - x * TILE) / w, (cell.v0 * height - y * TILE) / h] };
      }
    }
    return null;
  }

  _tileOf(low, high, size) { return Math.floor((low + high) / 2 * size / TILE); }

  // The coarsest level whose pixels are not larger than the screen's.
  _level() {
    const wanted = this.full[0] / (2 * Math.tan(this.camera.fov * RAD / 2)) * 2 * Math.PI * 0.8;
    const found = this.picture.levels.findIndex(([width]) => width >= wanted);
    return found < 0 ? this.picture.levels.length - 1 : found;
  }

  // Ask for the tiles that are seen, the middle first; the coarsest level before all others.
  _wish(seen, forward) {
    const wanted = new Map(), level = this._level();
    const put = (which, cell) => {
      const [width, height] = this.picture.levels[which], x = this._tileOf(cell.u0, cell.u1, width), y = this._tileOf(cell.v0, cell.v1, height), key = `${which}/${x}/${y}`;
      if (!this.tiles.has(key)) wanted.set(key, [which, x, y]);
    };
    const near = [...seen].sort((a, b) => dot(b.middle, forward) - dot(a.middle, forward));
    for (const cell of near) put(0, cell);
    for (const cell of this.cells) put(0, cell);
    for (const cell of near) put(level, cell);
    for (const [key, [which, x, y]] of wanted) {
      if (this.loading >= AT_ONCE) break;
      this._load(key, which, x, y, this.picture);
    }
  }

  async _load(key, level, x, y, picture) {
    const gl = this.gl;
    this.tiles.set(key, {});
    this.loading += 1;
    try {
      const bitmap = await this.loadTile(level, x, y);
      if (this.picture !== picture) { bitmap.close(); return; }
      const texture = gl.createTexture();
      gl.activeTexture(gl.TEXTURE0);
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB8, gl.RGB, gl.UNSIGNED_BYTE, bitmap);
      bitmap.close();
      this._nearest();
      for (const name of ["MIN_FILTER", "MAG_FILTER"]) gl.texParameteri(gl.TEXTURE_2D, gl[`TEXTURE_${name}`], gl.LINEAR);
      this.tiles.set(key, { texture, used: this.frames });
      this._dropOld();
      if (this.before.size && this.cells.every((cell) => this.tiles.get(`0/${this._tileOf(cell.u0, cell.u1, picture.levels[0][0])}/${this._tileOf(cell.v0, cell.v1, picture.levels[0][1])}`)?.texture)) {
        for (const tile of this.before.values()) gl.deleteTexture(tile.texture);
        this.before = new Map();
      }
    } catch {
      setTimeout(() => { if (this.picture === picture) { this.tiles.delete(key); this.draw(); } }, 2000);
    } finally {
      this.loading -= 1;
      this.draw();
    }
  }

  _dropOld() {
    const held = [...this.tiles].filter(([key, tile]) => tile.texture && !key.startsWith("0/"));
    held.sort((a, b) => a[1].used - b[1].used);
    for (const [key, tile] of held.slice(0, Math.max(0, held.length - KEPT_TILES))) {
      this.gl.deleteTexture(tile.texture);
      this.tiles.delete(key);
    }
  }

  // Whether every tile that is seen is as sharp as the zoom needs.
  get settled() {
    return Boolean(this.picture) && this.loading === 0 && !this.waiting;
  }
}

// The triangles of a mesh of so many quads, `step` × `step` of them drawn as one.
function order(columns, rows, step) {
  const found = [], across = columns + 1;
  for (let j = 0; j < rows; j += step) {
    for (let i = 0; i < columns; i += step) {
      const a = j * across + i, b = a + step * across;
      found.push(a, b, a + step, a + step, b, b + step);
    }
  }
  return found;
}

function range(from, to, step) {
  const found = [];
  for (let k = from; step > 0 ? k < to : k > to; k += step) found.push(k);
  return found;
}
