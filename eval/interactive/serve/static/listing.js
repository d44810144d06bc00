// The two lists of the place: pictures, and what is to be looked at of machine-made labels. What this page has said and the
// server has not answered yet is in them already.

import { api, page, revise } from "./page.js";
import { classes, facts, pictures } from "./painting.js";

let listing = 0;

export async function refreshList() {
  page.list = await (await api.ask((session) => `api/pictures?session=${session}`)).json();
  for (const one of api.queue) if (one.edit.kind === "status") mark(one.picture, one.edit.status);
  pictures();
  classes();
  facts();
  document.body.dataset.pictures = String(page.list.pictures.length);
  if (page.list.labelled) await refreshRevise();
}

// A picture's status before the server has it.
export function mark(picture, status) {
  const row = page.list.pictures.find((one) => one.id === picture);
  if (row) row.status = status;
}

export async function refreshRevise() {
  if (!page.list.labelled) return;
  const asked = listing += 1;
  const answer = await (await api.ask((session) => `api/revise?session=${session}`)).json();
  if (asked !== listing) return;  // an older list that comes later would take a verdict back
  revise.show(answer);
  for (const { edit } of api.queue) if (edit.kind === "revise") revise.judge(edit.entry, edit.verdict);
}
