// Directions and the camera. The sphere is that of the server: longitude 0 is the middle of the picture and grows to the
// right, latitude grows upwards; a direction is [cos φ·sin λ, cos φ·cos λ, sin φ].

export const RAD = Math.PI / 180;
export const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
export const wrapDeg = (lon) => ((lon + 180) % 360 + 360) % 360 - 180;
export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

export function direction(lon, lat) {
  const flat = Math.cos(lat * RAD);
  return [flat * Math.sin(lon * RAD), flat * Math.cos(lon * RAD), Math.sin(lat * RAD)];
}

export function lonLat(d) {
  return [Math.atan2(d[0], d[1]) / RAD, Math.atan2(d[2], Math.hypot(d[0], d[1])) / RAD];
}

// Places [lon, lat] within corners on the sphere: their middle, and halfway from it to each of them.
export function inside(places) {
  const all = places.map((place) => direction(...place)), middle = [0, 1, 2].map((k) => all.reduce((sum, d) => sum + d[k], 0) / all.length);
  return [middle, ...all.map((d) => d.map((value, k) => value + middle[k]))].map(lonLat);
}

export const MIN_FOV = 4, MAX_FOV = 130;

// Where one looks: lon, lat of the middle and the angle across the width, all in degrees.
export class Camera {
  constructor() {
    Object.assign(this, { lon: 0, lat: 0, fov: 100, width: 1, height: 1 });
  }

  resize(width, height) {
    Object.assign(this, { width: Math.max(1, width), height: Math.max(1, height) });
  }

  turn(lon, lat) {
    this.lon = wrapDeg(lon);
    this.lat = clamp(lat, -90, 90);
  }

  zoom(factor) {
    this.fov = clamp(this.fov * factor, MIN_FOV, MAX_FOV);
  }

  get degPerPixel() {
    return 2 * Math.tan(this.fov * RAD / 2) / this.width / RAD;
  }

  axes() {
    const [sinLon, cosLon, sinLat, cosLat] = [Math.sin(this.lon * RAD), Math.cos(this.lon * RAD), Math.sin(this.lat * RAD), Math.cos(this.lat * RAD)];
    return {
      right: [cosLon, -sinLon, 0],
      up: [-sinLat * sinLon, -sinLat * cosLon, cosLat],
      forward: [cosLat * sinLon, cosLat * cosLon, sinLat],
      tanX: Math.tan(this.fov * RAD / 2),
      tanY: Math.tan(this.fov * RAD / 2) * this.height / this.width,
    };
  }

  // A place on the stage, CSS pixels, as tangents to the right and upwards.
  tangents(x, y) {
    const { tanX, tanY } = this.axes();
    return [(2 * x / this.width - 1) * tanX, (1 - 2 * y / this.height) * tanY];
  }

  // The direction of a place on the stage.
  at(x, y) {
    const { right, up, forward } = this.axes(), [a, b] = this.tangents(x, y);
    const d = [0, 1, 2].map((k) => forward[k] + a * right[k] + b * up[k]), length = Math.hypot(...d);
    return d.map((value) => value / length);
  }

  // Turn so that a direction is seen at a place on the stage: what a hand has hold of stays under it. A pole is always on the
  // middle line, so what lies near one comes as near to the place as it can.
  hold(d, x, y) {
    const [a, b] = this.tangents(x, y), tilt = Math.atan(b), now = this.lat * RAD;
    const high = Math.asin(clamp(d[2] * Math.hypot(1, a, b) / Math.hypot(1, b), -1, 1));
    const near = [high, Math.PI - high, -Math.PI - high].map((angle) => angle - tilt).sort((p, q) => Math.abs(p - now) - Math.abs(q - now));
    const lat = clamp(near[0], -Math.PI / 2, Math.PI / 2), aside = Math.atan2(a, Math.cos(lat) - Math.sin(lat) * b);
    this.turn(Math.hypot(d[0], d[1]) < 1e-6 ? this.lon : (Math.atan2(d[0], d[1]) - aside) / RAD, lat / RAD);
  }

  // The place of a direction on the stage; null behind the camera.
  place(d) {
    const { right, up, forward, tanX, tanY } = this.axes(), depth = dot(d, forward);
    if (depth < 1e-4) return null;
    return [(dot(d, right) / depth / tanX + 1) / 2 * this.width, (1 - dot(d, up) / depth / tanY) / 2 * this.height];
  }
}
