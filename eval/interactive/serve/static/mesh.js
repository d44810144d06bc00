// What WebGL draws the sphere with: the program, and cells, one for each tile of the sharpest level, each a mesh of quads that is
// drawn whole or several of them as one.

import { direction, dot, RAD } from "./geometry.js";

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

const UNIFORMS = ["right", "up", "forward", "tangent", "picture", "palette", "ids", "rect", "size", "opacity", "chosen", "drawn"];

// Link and use it; gives where its uniforms are. Texture units: 0 the picture, 1 the ids, 2 the palette.
export function program(gl) {
  const linked = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(linked, shader);
  }
  gl.bindAttribLocation(linked, 0, "place");
  gl.bindAttribLocation(linked, 1, "uv");
  gl.linkProgram(linked);
  if (!gl.getProgramParameter(linked, gl.LINK_STATUS)) throw new Error("this browser cannot draw the sphere");
  gl.useProgram(linked);
  const at = Object.fromEntries(UNIFORMS.map((name) => [name, gl.getUniformLocation(linked, name)]));
  gl.uniform1i(at.picture, 0);
  gl.uniform1i(at.ids, 1);
  gl.uniform1i(at.palette, 2);
  return at;
}

// How the texture that is bound is read: no colour or number between two of its pixels.
export function nearest(gl) {
  for (const [name, value] of [["MIN_FILTER", "NEAREST"], ["MAG_FILTER", "NEAREST"], ["WRAP_S", "CLAMP_TO_EDGE"], ["WRAP_T", "CLAMP_TO_EDGE"]]) {
    gl.texParameteri(gl.TEXTURE_2D, gl[`TEXTURE_${name}`], gl[value]);
  }
}

const QUAD_DEG = 1.25, STEPS = [4, 2, 1];  // quads of a mesh that are drawn as one
const BENT_PX = 0.6, BENT_TURNING_PX = 3;  // how far that may bend the picture

// u0 … v1: what of the picture it is, from 0 to 1. `middle`, `reach`: a cone in which it lies. `ids`: the texture of its part of the
// id map, `stale` where it is to be sent again, `drawn` where there is anything in it.
export function makeCell(gl, x, y, [u0, u1], [v0, v1]) {
  const quads = (degrees) => STEPS[0] * Math.ceil(degrees / QUAD_DEG / STEPS[0]), columns = quads((u1 - u0) * 360), rows = quads((v1 - v0) * 180);
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

export function freeCell(gl, cell) {
  gl.deleteVertexArray(cell.mesh);
  gl.deleteBuffer(cell.buffer);
  gl.deleteBuffer(cell.index);
  gl.deleteTexture(cell.ids);
}

// Which of a cell's ranges: the coarsest mesh that bends the picture by less than is seen. Between the corners of a quad lines of
// latitude are straight, and at a pole meridians are, by a quarter of the quad's angle squared.
export function coarsest(pixelsPerRad, turning) {
  const most = turning ? BENT_TURNING_PX : BENT_PX;
  const found = STEPS.findIndex((step) => (step * QUAD_DEG * RAD) ** 2 / 4 * pixelsPerRad < most);
  return found < 0 ? STEPS.length - 1 : found;
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
