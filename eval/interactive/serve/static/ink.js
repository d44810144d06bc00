// What is half drawn, and the marks, on a 2D canvas over the sphere.

import { direction, lonLat } from "./geometry.js";

// Whether there is anything to be drawn over the sphere: where not, its canvas is taken away, since to clear and to lay an
// empty one over each frame costs a machine without a GPU as much as half of the sphere.
export function hasInk(tools, { clicks, keyboard, strokes, place }) {
  const brush = tools.name === "brush" || tools.name === "eraser";
  return Boolean(clicks.length || strokes.length || place || keyboard || tools.path.length || tools.drawing || tools.corner || (brush && tools.hover));
}

export function drawInk(pen, view, tools, { clicks, radiusDeg, colour, keyboard, strokes, place }) {
  const camera = view.camera, ratio = pen.canvas.width / camera.width;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, camera.width, camera.height);
  pen.fillStyle = "rgb(0 0 0 / .004)";
  pen.fillRect(0, 0, 1, 1);  // chromium without a GPU shows an older picture instead of one that was only cleared
  pen.lineJoin = pen.lineCap = "round";
  const stroke = (path, radius, css) => {
    pen.strokeStyle = pen.fillStyle = css;
    pen.globalAlpha = 0.45;
    pen.lineWidth = Math.max(2, 2 * radius / camera.degPerPixel);
    pen.beginPath();
    let open = false;
    for (const place of path) {
      const at = camera.place(direction(...place));
      if (!at) { open = false; continue; }
      if (open) pen.lineTo(...at); else { pen.moveTo(...at); pen.lineTo(at[0] + 0.01, at[1]); }
      open = true;
    }
    pen.stroke();
    pen.globalAlpha = 1;
  };
  const looked = place && camera.place(direction(...place));
  if (looked) ring(pen, looked, 26);
  for (const one of strokes) stroke(one.points, one.radius_deg, one.erase ? "#ffffff" : colour);
  if (tools.name === "brush" || tools.name === "eraser") {
    const erase = tools.name === "eraser";
    if (tools.path.length) stroke(tools.path, radiusDeg, erase ? "#ffffff" : colour);
    const at = keyboard ? [camera.width / 2, camera.height / 2] : tools.hover;
    if (at) ring(pen, at, Math.max(2, radiusDeg / camera.degPerPixel));
  }
  if (tools.name === "polygon" && tools.path.length) {
    const end = keyboard ? [camera.lon, camera.lat] : tools.hover && lonLat(camera.at(...tools.hover));
    line(pen, camera, end ? [...tools.path, end] : tools.path);
    for (const place of tools.path) dot_(pen, camera.place(direction(...place)), "#ffffff");
  }
  const box = tools.name === "box" && (tools.drawing || (tools.corner && corners(camera, tools.corner)));
  if (box) {
    pen.setLineDash([6, 4]);
    pen.lineWidth = 2;
    pen.strokeStyle = "#ffffff";
    pen.strokeRect(box.from[0], box.from[1], box.to[0] - box.from[0], box.to[1] - box.from[1]);
    pen.setLineDash([]);
  }
  for (const [lon, lat, positive] of clicks) dot_(pen, camera.place(direction(lon, lat)), positive ? "#2fbf71" : "#e5484d");
  if (keyboard) cross(pen, camera.width / 2, camera.height / 2);
}

function corners(camera, corner) {
  const from = camera.place(direction(...corner));
  return from && { from, to: [camera.width / 2, camera.height / 2] };
}

function line(pen, camera, path) {
  pen.lineWidth = 2;
  for (const css of ["#14161a", "#ffffff"]) {
    pen.strokeStyle = css;
    pen.setLineDash(css === "#ffffff" ? [6, 4] : []);
    pen.beginPath();
    let open = false;
    for (const place of path) {
      const at = camera.place(direction(...place));
      if (!at) { open = false; continue; }
      if (open) pen.lineTo(...at); else pen.moveTo(...at);
      open = true;
    }
    pen.stroke();
  }
  pen.setLineDash([]);
}

function ring(pen, at, radius) {
  pen.lineWidth = 1.5;
  for (const [css, more] of [["#14161a", 1], ["#ffffff", 0]]) {
    pen.strokeStyle = css;
    pen.beginPath();
    pen.arc(...at, radius + more, 0, 2 * Math.PI);
    pen.stroke();
  }
}

function dot_(pen, at, css) {
  if (!at) return;
  pen.fillStyle = css;
  pen.strokeStyle = "#ffffff";
  pen.lineWidth = 2;
  pen.beginPath();
  pen.arc(...at, 5.5, 0, 2 * Math.PI);
  pen.fill();
  pen.stroke();
}

function cross(pen, x, y) {
  for (const [css, width] of [["#14161a", 4], ["#ffffff", 1.6]]) {
    pen.strokeStyle = css;
    pen.lineWidth = width;
    pen.beginPath();
    pen.moveTo(x - 14, y); pen.lineTo(x - 4, y); pen.moveTo(x + 4, y); pen.lineTo(x + 14, y);
    pen.moveTo(x, y - 14); pen.lineTo(x, y - 4); pen.moveTo(x, y + 4); pen.lineTo(x, y + 14);
    pen.stroke();
  }
}
