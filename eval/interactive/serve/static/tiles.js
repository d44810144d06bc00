// The tiles of the picture as textures: asked for as they are seen, the middle first, kept while they are used. Until the tiles
// of another frame are there, those of the frame before stand in for them.

import { dot } from "./geometry.js";
import { nearest } from "./mesh.js";

export const TILE = 1024;
const KEPT = 80, AT_ONCE = 4, AGAIN_MS = 2000;

export class Tiles {
  // load(level, x, y) gives a promise of an ImageBitmap; changed() is called when one has come, or may be asked for again.
  constructor(gl, load, changed) {
    Object.assign(this, { gl, load, changed, levels: [], loading: 0, now: 0 });  // now: the number of the frame that is drawn
    this.held = new Map();  // "level/x/y" → {texture, used}, without a texture while it is on its way
    this.before = new Map();  // of the frame that was shown before
  }

  // Another picture: [[width, height], …], the coarsest level first.
  show(levels) {
    this.close();
    this.levels = levels;
  }

  // Another frame of the same size.
  next() {
    const there = [...this.held].filter(([, tile]) => tile.texture);
    if (there.length) {
      this._free(this.before);
      this.before = new Map(there);
    }
    this.held = new Map();  // what is on its way for the one before comes too late
  }

  close() {
    this._free(this.held);
    this._free(this.before);
    this.lost();
  }

  // The textures are gone by themselves, and what is on its way is not wanted.
  lost() {
    this.held = new Map();
    this.before = new Map();
  }

  _free(tiles) { for (const tile of tiles.values()) if (tile.texture) this.gl.deleteTexture(tile.texture); }

  // The sharpest tile that is there for a cell, up to the level that the zoom needs, and the part of it that the cell is.
  sharpest(cell, top) {
    const count = this.levels.length;
    for (const [tiles, levels] of [[this.held, range(top, -1, -1)], [this.held, range(top + 1, count, 1)], [this.before, range(count - 1, -1, -1)]]) {
      for (const level of levels) {
        const [width, height] = this.levels[level], [x, y] = this._of(cell, level);
        const tile = tiles.get(`${level}/${x}/${y}`);
        if (!tile?.texture) continue;
        tile.used = this.now;
        const w = Math.min(TILE, width - x * TILE), h = Math.min(TILE, height - y * TILE);
        return { texture: tile.texture, rect: [(cell.u1 - cell.u0) * width / w, (cell.v1 - cell.v0) * height / h, (cell.u0 * width - x * TILE) / w, (cell.v0 * height - y * TILE) / h] };
      }
    }
    return null;
  }

  _of(cell, level) {
    const [width, height] = this.levels[level], at = (low, high, size) => Math.floor((low + high) / 2 * size / TILE);
    return [at(cell.u0, cell.u1, width), at(cell.v0, cell.v1, height)];
  }

  // The coarsest level whose pixels are not larger than the screen's, `across` pixels for 360°.
  level(across) {
    const found = this.levels.findIndex(([width]) => width >= across);
    return found < 0 ? this.levels.length - 1 : found;
  }

  // Ask for the tiles that are seen, the middle first; the coarsest level before all others.
  wish(seen, cells, forward, level) {
    const near = [...seen].sort((a, b) => dot(b.middle, forward) - dot(a.middle, forward));
    const wanted = new Map([...near.map((cell) => [0, cell]), ...cells.map((cell) => [0, cell]), ...near.map((cell) => [level, cell])].map(([which, cell]) => {
      const place = [which, ...this._of(cell, which)];
      return [place.join("/"), place];
    }));
    for (const [key, place] of wanted) {
      if (this.loading >= AT_ONCE) break;
      if (!this.held.has(key)) this._load(key, place, cells);
    }
  }

  async _load(key, place, cells) {
    const { gl, held } = this;
    held.set(key, {});
    this.loading += 1;
    try {
      const bitmap = await this.load(...place);
      if (this.held !== held) { bitmap.close(); return; }
      const texture = gl.createTexture();
      gl.activeTexture(gl.TEXTURE0);
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB8, gl.RGB, gl.UNSIGNED_BYTE, bitmap);
      bitmap.close();
      nearest(gl);
      for (const name of ["MIN_FILTER", "MAG_FILTER"]) gl.texParameteri(gl.TEXTURE_2D, gl[`TEXTURE_${name}`], gl.LINEAR);
      held.set(key, { texture, used: this.now });
      this._dropOld();
      this._settle(cells);
    } catch {
      setTimeout(() => { if (this.held === held) { held.delete(key); this.changed(); } }, AGAIN_MS);
    } finally {
      this.loading -= 1;
      this.changed();
    }
  }

  // When the coarsest level is there, nothing of the frame before is needed.
  _settle(cells) {
    if (!this.before.size || !cells.every((cell) => this.held.get([0, ...this._of(cell, 0)].join("/"))?.texture)) return;
    this._free(this.before);
    this.before = new Map();
  }

  _dropOld() {
    const there = [...this.held].filter(([key, tile]) => tile.texture && !key.startsWith("0/"));
    there.sort((a, b) => a[1].used - b[1].used);
    for (const [key, tile] of there.slice(0, Math.max(0, there.length - KEPT))) {
      this.gl.deleteTexture(tile.texture);
      this.held.delete(key);
    }
  }
}

function range(from, to, step) {
  const found = [];
  for (let k = from; step > 0 ? k < to : k > to; k += step) found.push(k);
  return found;
}
