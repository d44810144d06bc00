// What will be when the changes that wait in the queue are made. The page shows that at once, so that a second key means what
// its hand means: “accept” twice is two labels, also where the server has not answered the first.

const FIELDS = ["name", "category", "colour", "locked", "review", "comment"];

// Objects as they will be after words, flags and deletions; what draws is known when it is answered.
export function foreseen(objects, edits) {
  let found = objects;
  for (const edit of edits) {
    const meant = new Set(edit.objects ?? []);
    if (edit.kind === "undo" || edit.kind === "redo") return objects;  // it takes back what is not known here
    if (edit.kind === "delete") found = found.filter((one) => !meant.has(one.id) || one.locked);
    if (edit.kind === "set") {
      const said = Object.fromEntries(FIELDS.filter((field) => edit[field] !== undefined).map((field) => [field, edit[field]]));
      const only = Object.keys(said).every((field) => field === "locked" || field === "comment" || field === "review");
      found = found.map((one) => (meant.has(one.id) && (!one.locked || only) ? { ...one, ...said } : one));
    }
  }
  return found;
}
