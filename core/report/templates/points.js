// Points in space (core/report/points.py): every .points element has a scene; drag turns, wheel and pinch zoom, arrows
// turn, + and - zoom. "height" cuts away what is above, so that one can look into a room.
(() => {
  const VERTEX = `
    attribute vec3 position; attribute vec3 colour;
    uniform mat4 view; uniform float size; uniform float top;
    varying vec3 shade;
    void main() {
      gl_Position = position.z > top ? vec4(2.0, 2.0, 2.0, 1.0) : view * vec4(position, 1.0);
      gl_PointSize = clamp(size / gl_Position.w, 1.0, 24.0);
      shade = colour;
    }`;
  const FRAGMENT = `
    precision mediump float; varying vec3 shade;
    void main() { gl_FragColor = vec4(shade, 1.0); }`;

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  // World → clip, columns first: an eye that looks at the origin from (yaw, pitch, distance), z up.
  function looking({ yaw, pitch, distance }, aspect) {
    const [sy, cy, sp, cp] = [Math.sin(yaw), Math.cos(yaw), Math.sin(pitch), Math.cos(pitch)];
    const right = [cy, -sy, 0], ahead = [sy * cp, cy * cp, -sp], up = [sy * sp, cy * sp, cp];
    const f = 1 / Math.tan(0.5), near = 0.05, far = 200, a = (far + near) / (far - near), b = -2 * far * near / (far - near);
    const clip = [];
    for (let k = 0; k < 3; k++) clip.push(right[k] * f / aspect, up[k] * f, a * ahead[k], ahead[k]);
    clip.push(0, 0, a * distance + b, distance);
    return clip;
  }

  function start(box) {
    const scene = JSON.parse(box.querySelector("script").textContent);
    const canvas = box.querySelector("canvas"), bar = box.querySelector(".pt-bar");
    const gl = canvas.getContext("webgl", { preserveDrawingBuffer: true });
    if (!gl || !scene.clouds.length) {
      canvas.replaceWith(Object.assign(document.createElement("p"), { className: "pt-none",
        textContent: "This browser draws no WebGL: the points cannot be shown." }));
      bar.querySelectorAll("label").forEach((label) => label.remove());
      return;
    }
    const program = twgl.createProgramInfo(gl, [VERTEX, FRAGMENT]);
    const names = Object.keys(scene.clouds[0].colours);
    const state = { cloud: 0, colour: names[0], yaw: 0.6, pitch: 0.75, distance: 6, top: 0 };
    let buffers = [], low = Infinity, high = -Infinity, reach = [];
    for (const cloud of scene.clouds) {
      const position = Float32Array.from(new Int16Array(bytes(cloud.position).buffer), (mm) => mm / 1000);
      for (let k = 0; k < position.length; k += 3) {
        low = Math.min(low, position[k + 2]); high = Math.max(high, position[k + 2]);
        if (k % 300 === 0) reach.push(Math.hypot(position[k], position[k + 1]));
      }
      buffers.push(Object.fromEntries(names.map((name) => [name, twgl.createBufferInfoFromArrays(gl, {
        position: { numComponents: 3, data: position },
        colour: { numComponents: 3, data: bytes(cloud.colours[name]), normalize: true },
      })])));
    }
    reach.sort((a, b) => a - b);
    state.distance = Math.min(60, Math.max(1, 3.2 * (reach[Math.floor(0.8 * reach.length)] || 2)));
    const cut = bar.querySelector("input");
    const height = () => { state.top = low + (high - low) * Number(cut.value) + 0.001; };
    height();

    function draw() {
      twgl.resizeCanvasToDisplaySize(canvas, Math.min(devicePixelRatio || 1, 2));
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clearColor(0.07, 0.08, 0.1, 1);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      gl.enable(gl.DEPTH_TEST);
      const buffer = buffers[state.cloud][state.colour];
      gl.useProgram(program.program);
      twgl.setBuffersAndAttributes(gl, program, buffer);
      twgl.setUniforms(program, { view: looking(state, canvas.width / canvas.height),
        size: canvas.height / 24, top: state.top });
      twgl.drawBufferInfo(gl, buffer, gl.POINTS);
      canvas.dataset.shown = Number(canvas.dataset.shown || 0) + 1;
    }

    let asked = false;
    const redraw = () => { if (!asked) { asked = true; requestAnimationFrame(() => { asked = false; draw(); }); } };

    function group(label, entries, key) {
      if (entries.length < 2) return;
      const span = Object.assign(document.createElement("span"), { className: "pt-group" });
      span.setAttribute("role", "group");
      span.setAttribute("aria-label", label);
      entries.forEach(([value, text]) => {
        const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
        const mark = () => button.setAttribute("aria-pressed", String(state[key] === value));
        button.dataset[key] = text;
        button.addEventListener("click", () => { state[key] = value; marks.forEach((one) => one()); redraw(); });
        marks.push(mark);
        mark();
        span.append(button);
      });
      bar.insertBefore(span, bar.querySelector("label"));
    }
    const marks = [];
    group("Points", scene.clouds.map((cloud, k) => [k, cloud.label]), "cloud");
    group("Colours", names.map((name) => [name, name]), "colour");
    cut.addEventListener("input", () => { height(); redraw(); });

    const turn = (dx, dy) => {
      state.yaw -= dx;
      state.pitch = Math.max(-1.5, Math.min(1.5, state.pitch + dy));
      redraw();
    };
    const zoom = (factor) => { state.distance = Math.max(0.3, Math.min(90, state.distance * factor)); redraw(); };
    const fingers = new Map();
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const now = [event.clientX, event.clientY];
      if (fingers.size === 1) turn((now[0] - before[0]) / 200, (now[1] - before[1]) / 200);
      else {
        const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
        const apart = ([x, y]) => Math.hypot(x - other[0], y - other[1]) || 1;
        zoom(apart(before) / apart(now));
      }
      fingers.set(event.pointerId, now);
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
    canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(event.deltaY / 800)); }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const turns = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
      const zooms = { "+": 0.9, "=": 0.9, "-": 1.1 }[event.key];
      if (turns) turn(...turns);
      if (zooms) zoom(zooms);
      if (turns || zooms) event.preventDefault();
    });
    new ResizeObserver(redraw).observe(canvas);
    draw();
  }

  // Each view is a WebGL context, of which browsers hold few: it starts when it is first seen.
  const seen = new IntersectionObserver((entries) => entries.forEach((entry) => {
    if (!entry.isIntersecting) return;
    seen.unobserve(entry.target);
    start(entry.target);
  }));
  document.querySelectorAll(".points").forEach((box) => seen.observe(box));
})();
