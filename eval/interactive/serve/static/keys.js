// Every action and its key, in one table: the help that `?` shows is made of it.

export const KEYS = [
  ["Look", [
    ["← → ↑ ↓", "look around (Shift: four times as far)"], ["+ −", "zoom, as the wheel"], ["Enter", "use the tool in the middle of the view"],
    ["G", "look at the chosen object"], ["Space", "held while dragging: look around, whatever the tool; so does the right button"],
  ]],
  ["Tools", [
    ["V", "look, and choose the object under the pointer"], ["C", "click on a thing; Shift or Alt takes away"], ["X", "box around a thing"], ["B", "brush; Enter puts it down, arrows draw, Enter lifts it"],
    ["E", "eraser"], ["[ ]", "brush smaller, larger"], ["P", "polygon; a click on the first corner, a double click, or Shift+Enter closes it"], ["Backspace", "the last corner away"], ["Esc", "let go of what is half drawn or half typed; cancel what is computed"],
  ]],
  ["Objects", [
    ["N", "the next click, box or stroke begins a new object"], ["J K", "next, previous object (Shift: choose it too)"], ["T", "type its class; with nothing chosen, that of the next object"], ["1 … 9", "the class that has this number in the list"], ["F2  Shift+F2", "type its name, a comment; Ctrl+Enter ends it"], ["A R", "accept, reject a machine's label, and on to the next; with nothing chosen to the first"],
    ["H  Shift+H", "hide or show, hide all others (in your browser alone)"], ["Q", "lock or unlock"], ["M", "make the chosen objects one"], ["S", "an object for each connected part"], ["Del", "delete"], ["Ctrl+Z  Ctrl+Y", "undo, redo your own last change"],
  ]],
  ["Video", [
    [", .", "previous, next frame"], ["< >", "previous, next keyframe: where a hand has drawn the chosen object"], ["F  Shift+F", "propagate the chosen objects forward, backward; Esc cancels"],
  ]],
  ["Labels that were found", [["W", "the next thing to look at, of what pano annotate lists"], ["Y U", "it is right as it is, it is fixed; and on to the next. Again: to be looked at after all"]]],
  ["Pictures", [["PageDown PageUp", "next, previous picture"], ["D", "mark it as done, and on to the next that is not; Ctrl+Z goes back"], ["L", "list of pictures"], ["Ctrl+S", "save COCO (the work itself is kept as you go)"], ["?", "this help"]]],
];

export function helpTable() {
  const table = document.createElement("table");
  for (const [title, rows] of KEYS) {
    const head = table.insertRow(), cell = document.createElement("th");
    cell.textContent = title;
    cell.colSpan = 2;
    cell.scope = "colgroup";
    head.append(cell);
    for (const [keys, words] of rows) {
      const row = table.insertRow(), first = row.insertCell();
      for (const key of keys.split(" ").filter(Boolean)) { const mark = document.createElement("kbd"); mark.textContent = key; first.append(mark, " "); }
      row.insertCell().textContent = words;
    }
  }
  return table;
}

// Keys that go on while they are held; all others count once, however long a tired hand rests on them.
const HELD = new Set(["turn", "zoom", "smaller", "larger", "previousFrame", "nextFrame", "nextPicture", "previousPicture", "step", "undo", "redo", "back", "space"]);
const TYPED = "textarea, input:not([type=range], [type=color], [type=file])";

// actions: name → function. Keys mean letters only where nothing is being typed.
export function listen(actions) {
  const plain = {
    v: "look", c: "click", x: "box", b: "brush", e: "eraser", p: "polygon", n: "new", t: "category", f2: "name", a: "accept", r: "reject", h: "hide", q: "lock", m: "merge", s: "split",
    delete: "remove", g: "goto", d: "done", l: "list", "?": "help", "[": "smaller", "]": "larger", pagedown: "nextPicture", pageup: "previousPicture", escape: "stop", backspace: "back",
    ",": "previousFrame", ".": "nextFrame", "<": "previousKey", ">": "nextKey", w: "nextEntry", y: "entryAccepted", u: "entryFixed",
  };
  document.addEventListener("keydown", (event) => {
    const key = event.key.toLowerCase(), typing = event.target.closest(TYPED), picking = event.target.closest("select, input[type=range]"), listed = event.target.closest("nav, aside, #timeline");
    if (document.querySelector("dialog[open]")) return;
    const stage = event.target.closest("#stage") || !(picking || listed || event.target.closest("button, a"));
    const does = (name, ...args) => { event.preventDefault(); if (!event.repeat || HELD.has(name)) actions[name](...args); };
    if (event.ctrlKey || event.metaKey) {
      if (typing && key !== "s") return;
      if (key === "z") does(event.shiftKey ? "redo" : "undo");
      else if (key === "y") does("redo");
      else if (key === "s") does("save");
      return;
    }
    if (typing) { if (key === "escape") actions.forget(event.target); return; }
    if (key === "j" || key === "k") { does("step", key === "j" ? 1 : -1, event.shiftKey); return; }
    if (!picking && !listed) {
      const arrow = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, 1], arrowdown: [0, -1] }[key];
      if (arrow) { does("turn", ...arrow.map((value) => value * (event.shiftKey ? 4 : 1))); return; }
      if (stage && key === "enter") { does("use", event); return; }
      if (stage && key === " ") { event.preventDefault(); actions.space(true); return; }
      if (key === "+" || key === "=") { does("zoom", 0.85); return; }
      if (key === "-") { does("zoom", 1 / 0.85); return; }
    }
    if (/^[1-9]$/.test(key) && !event.altKey) { does("classNumber", Number(key)); return; }
    if (key === "f") { does("carry", event.shiftKey ? "backward" : "forward"); return; }
    if (key === "f2" && event.shiftKey) { does("comment"); return; }
    if (key === "h" && event.shiftKey) { does("isolate"); return; }
    if (event.altKey || !plain[key]) return;
    does(plain[key]);
  });
  document.addEventListener("keyup", (event) => { if (event.key === " ") actions.space(false); });
}
