// panoSphere(container, scene, options): a panorama to look around in, with layers that can be switched.
//
// scene    {image, layers}: as core/report/viewer.py makes it.
// options  title; shown: labels of the layers that are on (default: all); opacity 0…1 of filled layers; flat: start flat;
//          onPick(lon_deg, lat_deg, event): a click that was no drag; onReady().
// gives    {setLayers(layers), setImage(uri, layers), destroy(), lookAt(lon_deg, lat_deg), flat: whether it is shown flat}
//
// The picture and its layers are drawn on one canvas, which is the sphere's texture and, in the flat view, is shown itself:
// so both views always agree. Ids are read back from the PNG's red and green, to colour them and to name what is under the
// pointer. All names go in as text, never as markup.
window.panoSphere = function (container, scene, options) {
  "use strict";
  const make = (tag, name, parent, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  };
  const loadImage = (uri) => new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("a picture of this panorama cannot be shown"));
    image.src = uri;
  });
  const hasWebgl = () => {
    try {
      const context = document.createElement("canvas").getContext("webgl");
      const lose = context && context.getExtension("WEBGL_lose_context");
      if (lose) lose.loseContext();
      return Boolean(context);
    } catch { return false; }
  };

  // { videos
  if (scene.later) return window.panoVideo(container, scene, options || {});
  // } videos
  options = options || {};
  container.replaceChildren();
  container.classList.add("ps");
  const stage = make("div", "ps-stage", container);
  const bar = make("div", "ps-bar", container);
  const readout = make("div", "ps-readout", container);
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  const webgl = hasWebgl();
  const state = { base: null, layers: [], opacity: options.opacity ?? 0.5, flat: Boolean(options.flat) || !webgl, version: 0, gone: false };
  const on = new Map();  // label → whether it is shown; kept when layers are replaced
  let viewer = null, flat = null, spots = [], down = null, at = null;

  // ---- layers
  async function prepare(layer) {
    if (layer.kind !== "ids") return { ...layer };
    const image = await loadImage(layer.uri);
    const picture = document.createElement("canvas");
    const width = picture.width = image.naturalWidth, height = picture.height = image.naturalHeight;
    const pen = picture.getContext("2d", { willReadFrequently: true });
    pen.drawImage(image, 0, 0);
    const pixels = pen.getImageData(0, 0, width, height);
    const ids = new Uint16Array(width * height);
    for (let i = 0; i < ids.length; i++) ids[i] = pixels.data[4 * i] | (pixels.data[4 * i + 1] << 8);
    const inks = new Uint32Array(65536);  // little-endian ABGR, as canvases hold pixels on every machine that browsers run on
    for (const [id, css] of Object.entries(layer.colours)) {
      const [red, green, blue] = [1, 3, 5].map((k) => parseInt(css.slice(k, k + 2), 16));
      inks[id] = (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
    }
    const paint = new Uint32Array(pixels.data.buffer);
    for (let v = 0, i = 0; v < height; v++) {
      for (let u = 0; u < width; u++, i++) {
        if (!layer.outline) { paint[i] = inks[ids[i]]; continue; }
        const right = ids[u + 1 < width ? i + 1 : i + 1 - width], below = v + 1 < height ? ids[i + width] : ids[i];
        paint[i] = ids[i] !== right || ids[i] !== below ? inks[ids[i] || right || below] : 0;
      }
    }
    pen.putImageData(pixels, 0, 0);
    return { ...layer, ids, width, height, picture };
  }

  function draw() {
    if (!state.base || state.gone) return;
    context.globalAlpha = 1;
    context.drawImage(state.base, 0, 0);
    for (const layer of state.layers) {
      if (layer.kind !== "ids" || !on.get(layer.label)) continue;
      context.imageSmoothingEnabled = false;
      context.globalAlpha = layer.outline ? 1 : state.opacity;
      context.drawImage(layer.picture, 0, 0, canvas.width, canvas.height);
    }
    context.globalAlpha = 1;
    state.version += 1;
    if (viewer) refresh();
    else if (flat) container.dataset.shown = state.version;
    drawPoints();
    if (at) tell(...at);
  }

  function refresh() {  // the texture is taken anew for three frames, then left alone
    const now = viewer;
    let frames = 3;
    const next = () => {
      if (viewer !== now || state.gone) return;
      if (frames-- > 0) { requestAnimationFrame(next); return; }
      now.setUpdate(false);
      container.dataset.shown = state.version;
    };
    now.setUpdate(true);
    next();
  }

  function drawPoints() {
    for (const spot of spots) spot();
    spots = [];
    state.layers.forEach((layer, number) => {
      if (layer.kind !== "points" || !on.get(layer.label)) return;
      layer.points.forEach((point, k) => {
        if (state.flat) {
          const dot = make("div", "ps-dot", flat);
          dot.style.setProperty("--dot", point.colour);
          dot.style.left = `${(point.lon_deg / 360 + 0.5) * 100}%`;
          dot.style.top = `${(0.5 - point.lat_deg / 180) * 100}%`;
          dot.title = point.text;
          spots.push(() => dot.remove());
        } else if (viewer) {
          const id = `p${number}-${k}`;
          viewer.addHotSpot({
            id, pitch: point.lat_deg, yaw: point.lon_deg, cssClass: "ps-dot",
            createTooltipFunc: (div) => { div.style.setProperty("--dot", point.colour); div.title = point.text; },
          });
          const now = viewer;
          spots.push(() => { if (viewer === now) now.removeHotSpot(id); });
        }
      });
    });
  }

  // ---- the two views of the canvas
  function show() {
    for (const spot of spots) spot();
    spots = [];
    if (viewer) { viewer.destroy(); viewer = null; }
    stage.replaceChildren();
    flat = null;
    if (state.flat) {
      flat = make("div", "ps-flat", stage);
      flat.append(canvas);
      if (!webgl) make("p", "ps-notice", stage, "This browser has no WebGL, so the panorama is shown flat. Everything else works.");
      listen(flat);
      drawPoints();
      container.dataset.shown = state.version;
    } else {
      const place = make("div", "ps-pannellum", stage);
      viewer = window.pannellum.viewer(place, {
        type: "equirectangular", panorama: canvas, dynamic: true, dynamicUpdate: true, autoLoad: true, hfov: 100, minHfov: 20,
        maxHfov: 130, doubleClickZoom: false, showControls: false, capturedKeyNumbers: [37, 38, 39, 40, 61, 107, 109, 173, 187, 189],
      });
      refresh();
      listen(place);
      place.tabIndex = 0;
      place.focus({ preventScroll: true });
      drawPoints();
    }
    container.dataset.view = state.flat ? "flat" : "sphere";
  }

  function coordinates(event) {
    if (!state.flat) {
      const [pitch, yaw] = viewer.mouseEventToCoords(event);
      return [yaw, pitch];
    }
    const box = flat.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width - 0.5) * 360, (0.5 - (event.clientY - box.top) / box.height) * 180];
  }

  function listen(target) {
    target.addEventListener("pointerdown", (event) => { down = [event.clientX, event.clientY]; }, true);
    target.addEventListener("click", (event) => {
      const still = down && Math.hypot(event.clientX - down[0], event.clientY - down[1]) < 4;
      down = null;
      if (still && event.button === 0 && options.onPick) options.onPick(...coordinates(event), event);
    });
    target.addEventListener("pointermove", (event) => {
      at = event.buttons ? null : coordinates(event);
      if (at) tell(...at);
    });
    target.addEventListener("pointerleave", () => { at = null; readout.replaceChildren(); });
  }

  function tell(lon, lat) {
    readout.replaceChildren();
    make("span", "", readout, `${lon.toFixed(1)}°, ${lat.toFixed(1)}°`);
    for (const layer of state.layers) {
      if (layer.kind !== "ids" || !on.get(layer.label)) continue;
      const u = Math.min(layer.width - 1, Math.max(0, Math.floor((lon / 360 + 0.5) * layer.width)));
      const v = Math.min(layer.height - 1, Math.max(0, Math.floor((0.5 - lat / 180) * layer.height)));
      const id = layer.ids[v * layer.width + u];
      readout.append(` · ${layer.label}: `);
      if (id) make("span", "ps-swatch", readout).style.background = layer.colours[id];
      make("b", "", readout, id ? layer.names[id] : "nothing");
    }
  }

  // ---- controls
  function controls() {
    bar.replaceChildren();
    if (options.title) make("span", "ps-title", bar, options.title);
    for (const layer of state.layers) {
      const box = make("input", "", make("label", "", bar));
      box.type = "checkbox";
      box.checked = on.get(layer.label);
      box.dataset.layer = layer.label;
      box.addEventListener("change", () => { on.set(layer.label, box.checked); draw(); });
      box.after(layer.label);
    }
    if (state.layers.some((layer) => layer.kind === "ids" && !layer.outline)) {
      const label = make("label", "", bar, "opacity");
      const range = make("input", "", label);
      Object.assign(range, { type: "range", min: 0, max: 100, value: Math.round(100 * state.opacity) });
      range.dataset.opacity = "";
      range.addEventListener("input", () => { state.opacity = range.value / 100; draw(); });
    }
    make("span", "ps-space", bar);
    if (webgl) {
      const toggle = make("button", "", bar, state.flat ? "360°" : "flat");
      toggle.type = "button";
      toggle.dataset.toggle = "";
      toggle.addEventListener("click", () => { state.flat = !state.flat; toggle.textContent = state.flat ? "360°" : "flat"; show(); });
    }
    if (options.onClose) {
      const close = make("button", "", bar, "close");
      close.type = "button";
      close.dataset.close = "";
      close.addEventListener("click", options.onClose);
    }
  }

  async function setLayers(layers) {
    const ready = await Promise.all(layers.map(prepare));
    if (state.gone) return;
    for (const layer of ready) {
      if (!on.has(layer.label)) on.set(layer.label, options.shown ? options.shown.includes(layer.label) : true);
    }
    state.layers = ready;
    controls();
    draw();
  }

  async function setImage(uri, layers) {
    const image = await loadImage(uri);
    if (state.gone) return;
    state.base = image;
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    await setLayers(layers);
    show();
    container.dataset.ready = "";
  }

  const sphere = {
    get flat() { return state.flat; },
    setLayers, setImage,
    // { videos
    readFrame: async (uri, layers) => ({ base: await loadImage(uri), layers: await Promise.all(layers.map(prepare)) }),
    showFrame: (frame) => { Object.assign(state, frame); draw(); },
    // } videos
    lookAt: (lon, lat) => { if (viewer) viewer.lookAt(lat, lon, undefined, false); },
    destroy: () => {
      state.gone = true;
      if (viewer) viewer.destroy();
      viewer = null;
      container.replaceChildren();
      for (const name of ["ready", "shown", "view"]) delete container.dataset[name];
    },
  };
  sphere.ready = setImage(scene.image, scene.layers).catch((error) => {
    container.dataset.ready = "";
    stage.replaceChildren(make("p", "ps-notice", null, error.message));
  });
  return sphere;
};
