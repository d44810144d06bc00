// panoVideo(container, scene, options): a panoramic video to look around in, with controls to play it below the view.
//
// scene    {image, layers, later, fps, step, frames}: SphereVideo of core/report/viewer.py. Frame k of those that are shown is frame
//          k * step of the video.
// options  those of panoSphere, which shows the frames.
// gives    {destroy(), ready}
//
// It plays in the video's own time and leaves frames out where the machine is too slow. The frame that is shown is in the
// container's data-frame. Keys: Space, arrows, Home and End, comma and full stop; the view keeps the arrows for looking around.
window.panoVideo = function (container, scene, options) {
  "use strict";
  const make = (tag, name, parent, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };
  const button = (text, label) => {
    const element = make("button", "", bar, text);
    element.type = "button";
    element.setAttribute("aria-label", label);
    return element;
  };

  container.replaceChildren();
  container.classList.remove("ps");  // of a panorama that was open here before
  container.classList.add("pv");
  const view = make("div", "", container);
  const bar = make("div", "pv-bar", container);
  const play = button("play", "play");
  const back = button("‹", "one frame back");
  const slider = make("input", "", bar);
  const on = button("›", "one frame on");
  const said = make("output", "pv-said", bar);
  const count = scene.later.length + 1, last = scene.frames - 1;
  Object.assign(slider, { type: "range", min: 0, max: count - 1, step: 1, value: 0 });
  slider.setAttribute("aria-label", "frame");

  const { image, layers } = scene;
  const sphere = window.panoSphere(view, { image, layers }, options);
  const read = new Map();  // k → its decoded frame, as a promise: the page holds a bounded number of them
  let shown = 0, wanted = 0, working = false, playing = false, gone = false;

  const frameOf = (k) => {
    if (!read.has(k)) {
      const frame = k ? scene.later[k - 1] : { image, ids: layers.map((layer) => layer.uri) };
      read.set(k, sphere.readFrame(frame.image, layers.map((layer, i) => ({ ...layer, uri: frame.ids[i] }))));
    }
    return read.get(k);
  };

  function say() {
    const frame = shown * scene.step;
    slider.value = shown;
    said.textContent = `frame ${frame} of 0–${last} · ${(frame / scene.fps).toFixed(2)} s`;
    slider.setAttribute("aria-valuetext", `frame ${frame}, ${(frame / scene.fps).toFixed(2)} seconds`);
    container.dataset.frame = frame;
  }

  async function show(k) {
    wanted = Math.min(count - 1, Math.max(0, k));
    if (working) return;
    working = true;
    try {
      while (shown !== wanted && !gone) {
        const k = wanted, frame = await frameOf(k);
        if (gone) return;
        sphere.showFrame(frame);
        shown = k;
        say();
      }
    } catch (error) {
      pause();
      said.textContent = error.message;
    } finally {
      working = false;
    }
  }

  function pause() {
    playing = false;
    play.textContent = "play";
    play.setAttribute("aria-label", "play");
    delete container.dataset.playing;
  }

  function start() {
    playing = true;
    play.textContent = "pause";
    play.setAttribute("aria-label", "pause");
    container.dataset.playing = "";
    const from = shown === count - 1 ? 0 : shown, per_s = scene.fps / scene.step;
    let since = null;
    const next = (now) => {
      if (!playing || gone) return;
      since ??= now;
      show((from + Math.floor((now - since) / 1000 * per_s)) % count);
      requestAnimationFrame(next);
    };
    requestAnimationFrame(next);
  }

  const go = (k) => { pause(); show(k); };
  const toggle = () => (playing ? pause() : start());
  play.addEventListener("click", toggle);
  back.addEventListener("click", () => go(wanted - 1));
  on.addEventListener("click", () => go(wanted + 1));
  slider.addEventListener("input", () => go(Number(slider.value)));

  function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = event.target, ours = at === slider;
    const looking = at.closest(".ps-stage"), other = at.matches("input") && !ours;
    const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    const ends = { Home: 0, End: count - 1 }[event.key], steps = { ",": -1, ".": 1 }[event.key];
    if (event.key === " " && !at.matches("button") && !other) toggle();
    else if (steps) go(wanted + steps);
    else if (looking || other) return;
    else if (moves) go(wanted + moves);
    else if (ends !== undefined) go(ends);
    else return;
    event.preventDefault();
  }
  container.addEventListener("keydown", key);

  say();
  sphere.ready.then(() => { if (!gone) slider.focus({ preventScroll: true }); });
  return {
    ready: sphere.ready,
    destroy: () => {
      gone = true;
      container.removeEventListener("keydown", key);
      sphere.destroy();
      container.replaceChildren();
      container.classList.remove("pv");
      for (const name of ["frame", "playing"]) delete container.dataset[name];
    },
  };
};
