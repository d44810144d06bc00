// The id map: which object each pixel shows. Masks come as run lengths of the whole picture, row by row; where they overlap
// the smaller one is on top. After a change only the rows that it reaches are painted again.

export const MAX_ID_WIDTH = window.matchMedia("(max-width: 760px)").matches ? 4096 : 16384;

export class IdMap {
  constructor(width, height) {
    this.full = [width, height];
    this.step = 1;
    while (width / this.step > MAX_ID_WIDTH) this.step *= 2;
    this.width = Math.ceil(width / this.step);
    this.height = Math.ceil(height / this.step);
    this.ids = new Uint16Array(this.width * this.height);
    this.shown = [];  // [{number, runs, pixels}], the largest first
  }

  // Show these masks; gives the rows [first, last) of the map that have changed, or null.
  show(masks) {
    const next = [...masks].sort((a, b) => b.pixels - a.pixels || a.number - b.number);
    const same = (a, b) => a && b && a.number === b.number && a.runs === b.runs;
    const differ = [...this.shown.filter((a) => !next.some((b) => same(a, b))), ...next.filter((a) => !this.shown.some((b) => same(a, b)))];
    this.shown = next;
    if (!differ.length) return null;
    const spans = differ.map((mask) => this._rows(mask.runs)).filter(Boolean);
    if (!spans.length) return null;
    const v0 = Math.min(...spans.map((span) => span[0])), v1 = Math.max(...spans.map((span) => span[1]));
    this.ids.fill(0, v0 * this.width, v1 * this.width);
    for (const mask of next) this._paint(mask, v0, v1);
    return [v0, v1];
  }

  _rows(runs) {
    if (runs.length < 2) return null;
    let end = 0;
    for (const run of runs) end += run;
    const last = runs.length % 2 ? end - runs[runs.length - 1] : end;
    return [Math.floor(runs[0] / this.full[0] / this.step), Math.min(this.height, Math.floor((last - 1) / this.full[0] / this.step) + 1)];
  }

  _paint({ number, runs }, v0, v1) {
    const width = this.full[0], step = this.step, low = v0 * step * width, high = v1 * step * width;
    let at = 0;
    for (let k = 0; k + 1 < runs.length && at < high; k += 2) {
      let start = at + runs[k];
      const stop = Math.min(start + runs[k + 1], high);
      at = start + runs[k + 1];
      start = Math.max(start, low);
      if (stop <= start) continue;
      if (step === 1) { this.ids.fill(number, start, stop); continue; }
      for (let v = Math.ceil(Math.floor(start / width) / step) * step; v * width < stop; v += step) {
        const x0 = Math.max(start - v * width, 0), x1 = Math.min(stop - v * width, width);
        if (x1 > x0) this.ids.fill(number, v / step * this.width + Math.ceil(x0 / step), v / step * this.width + Math.ceil(x1 / step));
      }
    }
  }

  // The number at a place, degrees; 0 is nothing.
  at(lon, lat) {
    const u = Math.min(this.width - 1, Math.max(0, Math.floor((lon / 360 + 0.5) * this.width)));
    const v = Math.min(this.height - 1, Math.max(0, Math.floor((0.5 - lat / 180) * this.height)));
    return this.ids[v * this.width + u];
  }
}

// The colours of numbers: numbers without one are not drawn.
export function palette(colours) {
  const found = new Uint8Array(256 * 256 * 4);
  for (const [number, css] of colours) found.set([1, 3, 5].map((k) => parseInt(css.slice(k, k + 2), 16)).concat(255), number * 4);
  return found;
}
