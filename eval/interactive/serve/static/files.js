// Files: masks and pictures that are taken in, and what is saved of the work.

import { id, maxBytes } from "./api.js";
import { choose } from "./editing.js";
import { counted } from "./elements.js";
import { look, update } from "./hearing.js";
import { refreshList } from "./listing.js";
import { open } from "./opening.js";
import { api, page, waiting } from "./page.js";
import { fail, say } from "./saying.js";

const BYTES = "application/octet-stream";

// Pictures and videos into the place; the first is opened.
export async function upload(files) {
  let first = null;
  for (const file of files) {
    if (file.size > maxBytes) { fail(`${file.name} has ${(file.size / 1e6).toFixed(0)} MB, and ${(maxBytes / 1e6).toFixed(0)} MB is the cap (--max-upload-mb)`); continue; }
    waiting.set("reading", `taking in ${file.name}`);
    try {
      const answer = await api.ask((session) => `api/upload?session=${session}&name=${encodeURIComponent(file.name)}`, { method: "POST", body: file, type: BYTES });
      first ??= (await answer.json()).picture;
      await refreshList();
    } catch (failure) { fail(failure.message); }
    waiting.set("reading", null);
  }
  if (first) open(first);
}

// Masks onto the open picture, to be looked at.
export async function takeMasks(file) {
  if (!file || !page.state) return;
  waiting.set("reading", `reading ${file.name}`);
  try {
    const { picture, version } = page.state, frame = page.frame === null ? {} : { frame: page.frame };
    const answer = await api.ask((session) => `api/import?${new URLSearchParams({ picture, session, version, request: id(), name: file.name, ...frame })}`, { method: "POST", body: file, type: BYTES });
    const state = await answer.json();
    await update(state);
    if (page.state?.picture === picture && !page.opening) choose(state.touched[0] ?? null);
    say(`${counted(state.touched.length, "mask")} of ${file.name} ${page.state?.picture === picture ? "" : `in ${state.name} `}to be looked at${state.remarks ? `; ${state.remarks}` : ""}`);
  } catch (failure) { fail(failure.message); }
  waiting.set("reading", null);
}

export async function save(kind) {
  const { picture, name, objects } = page.state, { frame } = page;
  if (kind !== "overlay.jpg" && !objects.some((one) => one.review !== "rejected") && !api.queue.length) { fail(`there is nothing on ${name} that could be saved into a file`); return; }
  if (api.queue.length) say("the file comes when all changes are saved");
  await api.drained();  // a file without the last stroke would be a lie
  if (page.state?.picture !== picture) { fail(`no file of ${name}: another picture was opened before its changes were saved`); return; }
  try {
    const answer = await api.ask((session) => `api/export/${picture}/${kind}?session=${session}&version=${page.state.version}${frame === null ? "" : `&frame=${frame}`}`);
    const link = document.createElement("a"), left = decodeURIComponent(answer.headers.get("X-Pano-Left-Out") ?? "");
    link.download = decodeURIComponent(/filename\*=UTF-8''([^;]+)/.exec(answer.headers.get("Content-Disposition"))[1]);
    link.href = URL.createObjectURL(await answer.blob());
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    say(`${link.download} is saved${left ? `; not in it: ${left}` : ""}`);
  } catch (failure) { fail(failure.message); look(true); }
}
