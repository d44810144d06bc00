// The page of `pano serve`: sends what the user does to the server, and shows what it answers. One request at a time.
(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  let sphere = null, state = { open: false }, chosen = 0, adding = true, waiting = false;

  async function ask(path, doing, body, type) {
    if (waiting) return null;
    waiting = true;
    document.body.dataset.busy = "";
    const started = performance.now();
    const tell = () => { $("doing").textContent = `${doing} … ${((performance.now() - started) / 1000).toFixed(0)} s`; };
    const show = setTimeout(() => { tell(); $("busy").hidden = false; }, 150), tick = setInterval(tell, 500);
    $("error").hidden = true;
    try {
      const answer = await fetch(path, {
        method: body === undefined ? "GET" : "POST", body: type ? body : body && JSON.stringify(body), cache: "no-store",
        headers: { "X-Pano-Token": settings.token, "X-Pano-Tab": settings.tab, "X-Pano": "1", ...(body === undefined ? {} : { "Content-Type": type || "application/json" }) },
      });
      if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error || `the server says ${answer.status}`);
      document.body.dataset.seconds = ((performance.now() - started) / 1000).toFixed(2);
      return answer;
    } catch (error) {
      fail(error instanceof TypeError ? "the server does not answer: is `pano serve` still running?" : error.message);
      return null;
    } finally {
      clearTimeout(show);
      clearInterval(tick);
      $("busy").hidden = true;
      waiting = false;
      delete document.body.dataset.busy;
    }
  }
  const change = async (path, doing, body) => {
    const answer = await ask(path, doing, body);
    if (answer) await update(await answer.json());
    return Boolean(answer);
  };
  function fail(message) {
    $("error").textContent = message;
    $("error").hidden = false;
  }

  async function update(next) {
    state = next;
    if (!state.open) return;
    chosen = Math.min(chosen, state.objects.length - 1);
    if (state.image) {
      if (sphere) sphere.destroy();
      $("drop").hidden = true;
      $("sphere").hidden = false;
      sphere = panoSphere($("sphere"), { image: state.image, layers: state.layers }, { opacity: 0.55, onPick: pick });
      await sphere.ready;
    } else if (sphere) {
      await sphere.setLayers(state.layers);
    }
    list();
    $("what").textContent = `${state.name}, ${state.size}`;
    $("facts").textContent = `${state.predictor}; method ${state.method}, ${state.frames} views`;
    $("undo").disabled = !state.can_undo;
    for (const button of document.querySelectorAll("[data-save]")) button.disabled = !state.objects.some((object) => object.clicks);
    document.body.dataset.objects = JSON.stringify(state.objects);
  }

  function list() {
    $("objects").replaceChildren(...state.objects.map((object, index) => {
      const row = document.createElement("li"), choose = document.createElement("button"), remove = document.createElement("button");
      row.className = index === chosen ? "chosen" : "";
      choose.className = "pick";
      choose.type = remove.type = "button";
      const swatch = document.createElement("i"), size = document.createElement("small");
      swatch.style.background = object.colour;
      size.textContent = object.clicks ? `${(100 * object.area_sr / (4 * Math.PI)).toFixed(2)} %` : "no click yet";
      choose.append(swatch, `object ${index + 1}`, size);
      choose.title = "clicks go to this object";
      choose.addEventListener("click", () => { chosen = index; list(); });
      remove.className = "drop";
      remove.textContent = "×";
      remove.setAttribute("aria-label", `delete object ${index + 1}`);
      remove.addEventListener("click", () => change("delete", "deleting", { object: index }));
      row.append(choose, remove);
      return row;
    }));
  }

  async function pick(lon, lat, event) {
    const positive = adding !== (event.shiftKey || event.altKey);
    await change("click", "computing", { object: chosen, lon_deg: lon, lat_deg: lat, positive });
  }
  async function open(file) {
    if (!file) return;
    if (file.size > settings.maxBytes) {
      fail(`${file.name} has ${(file.size / 1e6).toFixed(0)} MB, and ${(settings.maxBytes / 1e6).toFixed(0)} MB is the cap (--max-upload-mb)`);
      return;
    }
    chosen = 0;
    const answer = await ask(`image?name=${encodeURIComponent(file.name)}`, "taking in the panorama", file, "application/octet-stream");
    if (answer) await update(await answer.json());
  }
  function mode(adds) {
    adding = adds;
    $("add").setAttribute("aria-checked", String(adds));
    $("remove").setAttribute("aria-checked", String(!adds));
  }

  $("add").addEventListener("click", () => mode(true));
  $("remove").addEventListener("click", () => mode(false));
  $("undo").addEventListener("click", () => change("undo", "undoing", {}));
  $("new").addEventListener("click", async () => {
    if (await change("object", "adding", {})) { chosen = state.objects.length - 1; list(); mode(true); }
  });
  $("file").addEventListener("change", () => { open($("file").files[0]); $("file").value = ""; });
  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", async () => {
      const answer = await ask(button.dataset.save, "saving");
      if (!answer) return;
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await answer.blob());
      link.download = decodeURIComponent(/filename\*=UTF-8''([^;]+)/.exec(answer.headers.get("Content-Disposition"))[1]);
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
  }
  const view = $("view");
  document.addEventListener("dragover", (event) => { event.preventDefault(); view.classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) view.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    view.classList.remove("over");
    open(event.dataTransfer.files[0]);
  });
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "z") { event.preventDefault(); $("undo").click(); }
  });
  ask("state", "asking").then(async (answer) => {  // a picture given on the command line, or a page that was loaded again
    if (answer) await update(await answer.json());
    document.body.dataset.loaded = "";
  });
})();
