// The list of clips, and the one that is open.

import { draw } from "./drawing.js";
import { forget } from "./masks.js";
import { ask, clipPath, complain, media, saved } from "./server.js";
import { $, STEPS, here, make, view } from "./state.js";

export async function loadTree() {
  here.tree = await ask("/api/clips");
  document.title = `refavs annotate: ${here.tree.annotator}`;
  $("split").replaceChildren(...here.tree.splits.map((name) => new Option(name)));
  const groups = [...new Set(Object.values(here.tree.categories))];
  $("categories").replaceChildren(...Object.keys(here.tree.categories).map((name) => new Option(name, name)));
  $("groups").replaceChildren(...groups.map((name) => new Option(name, name)));
  $("agreement").hidden = !here.tree.review;
  $("detection").hidden = !here.tree.can_detect;
  $("propose").hidden = !here.tree.can_hear;
  listClips();
  const begun = here.tree.clips.find((one) => one.state !== "ready") || here.tree.clips[0];
  const named = here.tree.clips.find((one) => one.clip_id === decodeURIComponent(location.hash.slice(1)));
  await openClip((named || begun).clip_id);
}

export function listClips() {
  const wanted = $("filter").value.trim().toLowerCase();
  const shown = here.tree.clips.filter((one) => one.clip_id.toLowerCase().includes(wanted));
  $("clips").replaceChildren(
    ...shown.map((one) => {
      const button = make("button", { title: `${one.clip_id}: ${one.missing.join("; ") || "ready"}` }, one.clip_id);
      button.className = one.state;
      button.dataset.clip = one.clip_id;
      button.setAttribute("aria-label", `${one.clip_id}, ${one.state}`);
      if (one.clip_id === view.clip_id) button.setAttribute("aria-current", "true");
      button.onclick = () => openClip(one.clip_id);
      const item = make("li");
      item.append(button);
      return item;
    }),
  );
  const ready = here.tree.clips.filter((one) => one.state === "ready").length;
  $("progress-of-clips").textContent = `${ready} of ${here.tree.clips.length} clips ready`;
}

export function listClip({ clip_id, state, missing }) {
  Object.assign(here.tree.clips.find((one) => one.clip_id === clip_id), { state, missing });
  listClips();
}

async function openClip(clip_id) {
  if (view.clip_id === clip_id) return;
  Object.assign(view, { clip_id, step: 0, time: 0, fid: null, cursor: null });
  [here.candidates, here.comparison, here.gesture, here.drag, here.intervalStart, here.editing] = [null, null, null, null, null, null];
  here.suggested = [];
  forget();
  location.hash = encodeURIComponent(clip_id);
  $("audio").pause();
  try {
    const answer = await ask(clipPath(""));
    if (view.clip_id !== clip_id) return;
    here.peaks = [];
    here.frames = Array.from({ length: STEPS }, (_, step) => load(media(`frames/${step}.jpg`)));
    here.spectrogram = load(media("spectrogram.png"));
    $("audio").src = media("audio.wav");
    $("sentence").value = "";
    take(answer);
    listClips();
    document.querySelector("#clips [aria-current]")?.scrollIntoView({ block: "nearest" });
    const sound = await ask(clipPath("sound"));
    if (view.clip_id === clip_id) here.peaks = sound.peaks;
    draw();
  } catch (error) {
    complain(error);
  }
}

function load(address) {
  const image = new Image();
  image.onload = () => draw();
  image.src = address;
  return image;
}

export function stepClip(by) {
  const at = here.tree.clips.findIndex((one) => one.clip_id === view.clip_id);
  const next = here.tree.clips[at + by];
  if (next) openClip(next.clip_id);
}

export function take(answer) {
  here.clip = answer;
  const fids = here.clip.objects.map((thing) => thing.fid);
  if (!fids.includes(view.fid)) view.fid = fids.length ? fids[fids.length - 1] : null;
  here.render();
}

let queue = Promise.resolve();
export const settled = () => queue;

// One after the other, so that each click goes on from what the one before it has made.
export function act(name, body = {}) {
  const path = clipPath(name);
  const clip_id = view.clip_id;
  $("saved").textContent = "Saving…";
  queue = queue.then(async () => {
    try {
      const answer = await ask(path, body);
      if (clip_id === view.clip_id) take(answer);
      listClip(answer);
      saved();
      return true;
    } catch (error) {
      if (!$("saved").classList.contains("lost")) $("saved").textContent = "Not changed";
      complain(error);
      return false;
    }
  });
  return queue;
}
