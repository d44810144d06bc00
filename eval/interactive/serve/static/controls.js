// What a hand does beside the sphere: buttons, fields, lists, files that are dropped, the address.

import { cancel } from "./carrying.js";
import { change, choose, giveClass, gotoUnseen, merge, newObject, review, set, toggleHidden } from "./editing.js";
import { $ } from "./elements.js";
import { save, takeMasks, upload } from "./files.js";
import { open } from "./opening.js";
import { api, chosen, ids, meant, page, tools, view, wanted } from "./page.js";
import { ink, paint, pictures, radiusDeg } from "./painting.js";
import { showList } from "./panels.js";
import { fail, hush } from "./saying.js";
import { TOOLS } from "./tools.js";
import { here } from "./turns.js";
import { undo } from "./walking.js";

const on = (id, kind, act) => $(id).addEventListener(kind, act);

// A row of a list, by what it says it is. The lists are made anew while they are used, so it is their frame that hears. After a
// pointer (`detail` counts its clicks) the keys are the sphere's: arrows would do nothing in a list.
function onRow(list, name, act) {
  on(list, "click", (event) => {
    const row = event.target.closest(`[data-${name}]`);
    if (row) act(row.dataset[name], event);
    if (row && event.detail) $("stage").focus({ preventScroll: true });
  });
}

export const redo = () => change({ kind: "redo" });
export function help() { $("help").showModal(); }

// ---- the picture

for (const name of TOOLS) document.querySelector(`#tools [data-tool="${name}"]`).addEventListener("click", () => tools.choose(name));
on("undo", "click", undo);
on("redo", "click", here(redo));
on("status", "change", () => { const { value } = $("status"); here(() => change({ kind: "status", status: value }))(); });
on("cancel", "click", cancel);
on("error-close", "click", hush);
on("opacity", "input", () => { view.opacity = $("opacity").value / 100; view.draw(); });
on("radius", "input", () => { $("radius-words").textContent = `${radiusDeg().toFixed(1)}°`; ink(); });
on("stage", "focus", () => { tools.byKeys = $("stage").matches(":focus-visible"); ink(); });
on("stage", "blur", ink);
on("help-button", "click", help);
on("help-close", "click", () => $("help").close());

// ---- pictures

onRow("picture-list", "picture", (picture) => open(picture));
on("picture-search", "input", pictures);
on("show-pictures", "click", () => showList());
on("who", "change", async () => { api.who = $("who").value.trim() || api.who; $("who").value = api.who; api.session = null; await api.join().catch((failure) => fail(failure.message)); });

// ---- objects

// What is typed belongs to what was chosen when the typing began.
let typing = null;
function typed(values) { const objects = typing ?? meant(); typing = null; if (objects.length) set(values, objects); }

onRow("objects", "object", (object, event) => {
  const more = event.ctrlKey || event.metaKey || event.shiftKey;
  choose(Number(object), more);
  if (!more) gotoUnseen();
});
onRow("class-list", "category", (category) => giveClass(category));
on("object-search", "input", paint);
on("new", "click", newObject);
on("detail", "focusin", (event) => { typing = event.target.closest("input, textarea") ? meant() : null; });
on("category", "change", () => { const objects = typing ?? meant(); giveClass($("category").value.trim(), objects); typing = meant(); });
on("name", "change", () => typed({ name: $("name").value.trim() }));
on("comment", "change", () => typed({ comment: $("comment").value }));
on("colour", "change", () => typed({ colour: $("colour").value }));
on("accept", "click", () => review("accepted"));
on("reject", "click", () => review("rejected"));
on("hide", "click", toggleHidden);
on("lock", "click", () => set({ locked: !chosen().every((one) => one.locked) }));
on("merge", "click", merge);
on("split", "click", () => { if (page.chosen.size === 1) change({ kind: "split", object: ids()[0] }); });
on("delete", "click", () => { if (meant().length) change({ kind: "delete", objects: meant() }); });
on("detail", "submit", (event) => event.preventDefault());
for (const field of ["category", "name"]) on(field, "keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); $("stage").focus(); } });  // leaving it takes it over
on("comment", "keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); $("stage").focus(); } });

// ---- files

on("file", "change", () => { upload([...$("file").files]); $("file").value = ""; });
on("import", "change", () => { const [file] = $("import").files; here(() => takeMasks(file))(); $("import").value = ""; });
for (const button of document.querySelectorAll("[data-save]")) button.addEventListener("click", here(() => save(button.dataset.save)));

document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const files = [...event.dataTransfer.files], masks = files.filter((file) => /\.json$/i.test(file.name));
  for (const file of masks) here(() => takeMasks(file))();
  upload(files.filter((file) => !masks.includes(file)));
});

// ---- the tab

window.addEventListener("beforeunload", (event) => {
  document.activeElement?.blur();  // words that are being typed count
  if (api.queue.length) event.preventDefault();
});
window.addEventListener("hashchange", () => {
  const linked = page.list.pictures.find((one) => `#${one.id}` === location.hash);
  if (linked && linked.id !== wanted()) open(linked.id);
});
