// What a person does, and what models do for them.

import { act, listClip, settled, take } from "./clips.js";
import { draw } from "./drawing.js";
import { ask, calm, clipPath, complain, saved } from "./server.js";
import { $, STEPS, here, make, radius, selected, view } from "./state.js";

// The object that a tool works on; without one, the place to name it.
export function needObject() {
  if (selected()) return true;
  complain("First name an object, on the right.");
  $("new-category").focus();
  return false;
}

export function goTo(step, time = step) {
  if (!here.clip) return;
  view.step = Math.max(0, Math.min(STEPS - 1, step));
  view.time = Math.max(0, Math.min(10, time));
  if ($("audio").src) $("audio").currentTime = view.time;
  dropGesture();
  here.render();
}

function dropGesture() {
  here.gesture = null;
  here.drag = null;
}

export function setTime(time) {
  time = Math.max(0, Math.min(9.999, time));
  goTo(Math.floor(time), time);
}

export function play() {
  const audio = $("audio");
  if (!audio.paused) return audio.pause();
  if (view.time >= 9.9) setTime(0);
  audio.currentTime = view.time;
  audio.play().catch((error) => complain(`The sound cannot be played: ${error.message}`));
}

export function follow() {
  const audio = $("audio");
  $("play").textContent = audio.paused ? "Play" : "Pause";
  if (audio.paused) return here.render();
  view.time = Math.min(10, audio.currentTime);
  const step = Math.min(STEPS - 1, Math.floor(view.time));
  if (step !== view.step) {
    view.step = step;
    dropGesture();
    here.render();
  } else {
    draw();
  }
  requestAnimationFrame(follow);
}

export function setTool(tool) {
  view.tool = tool;
  here.drag = null;
  if (tool === "brush" || tool === "eraser") here.gesture = null;
  here.render();
}

export function point(x, y, on) {
  if (!needObject()) return;
  if (!here.gesture || here.gesture.fid !== view.fid || here.gesture.step !== view.step)
    here.gesture = { fid: view.fid, step: view.step, box: [], points: [] };
  here.gesture.points.push([x, y, on ? 1 : 0]);
  prompt();
}

export function box(x0, y0, x1, y1) {
  const sides = [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
  if (sides[2] - sides[0] < 2 || sides[3] - sides[1] < 2) return;
  here.gesture = { fid: view.fid, step: view.step, box: sides, points: [] };
  prompt();
}

function prompt() {
  const { fid, step, box, points } = here.gesture;
  const sent = { fid, step, box, points: points.map((one) => [...one]) };
  act("point", sent).then((done) => {
    if (!done && here.gesture?.fid === fid && here.gesture.step === step) here.gesture = null;
    draw();
  });
}

export function stroke(points) {
  here.gesture = null;
  const erase = view.tool === "eraser";
  act("paint", { fid: view.fid, step: view.step, stroke: points, radius: radius(), erase });
}

export function ofStep(name, more = {}) {
  if (!needObject()) return;
  here.gesture = null;
  act(name, { fid: view.fid, step: view.step, ...more });
}

export function undo(name) {
  here.gesture = null;
  act(name);
}

export function setSounding(intervals) {
  act("set_sounding", { fid: view.fid, intervals });
}

// I and O: where the playhead stands, an interval begins and ends. Inside of one they move its edges.
export function markStart() {
  if (!needObject()) return;
  const { sounding } = selected();
  const at = sounding.findIndex(([start, end]) => start < view.time && view.time < end);
  if (at < 0) {
    here.intervalStart = view.time;
    return here.render();
  }
  setSounding(sounding.map((pair, index) => (index === at ? [view.time, pair[1]] : pair)));
}

export function markEnd() {
  if (!needObject()) return;
  const { sounding } = selected();
  if (here.intervalStart !== null) {
    const begun = here.intervalStart;
    here.intervalStart = null;
    return setSounding([...sounding, [begun, view.time]]);
  }
  const before = sounding.filter(([start]) => start < view.time);
  const last = before[before.length - 1];
  if (!last) return complain("No interval begins before the playhead: I begins one.");
  setSounding(sounding.map((pair) => (pair === last ? [pair[0], view.time] : pair)));
}

export function removeInterval(at) {
  if (!needObject()) return;
  const { sounding } = selected();
  if (at === undefined) at = sounding.findIndex(([start, end]) => start <= view.time && view.time <= end);
  if (at < 0) return complain("The playhead stands in no interval of this object.");
  setSounding(sounding.filter((_, index) => index !== at));
}

export function selectObject(by) {
  if (!here.clip?.objects.length) return;
  const at = here.clip.objects.findIndex((thing) => thing.fid === view.fid);
  view.fid = here.clip.objects[(at + by + here.clip.objects.length) % here.clip.objects.length].fid;
  here.gesture = null;
  here.intervalStart = null;
  here.render();
}

export function groupOf(category) {
  return here.tree.categories[category] || here.clip?.objects.find((thing) => thing.category === category)?.super_category || "";
}

export async function addObject(category, super_category) {
  const before = new Set(here.clip.objects.map((thing) => thing.fid));
  if (!(await act("add_object", { category, super_category }))) return false;
  view.fid = here.clip.objects.find((thing) => !before.has(thing.fid)).fid;
  here.render();
  return true;
}

// Models at work

async function startWork(kind, body) {
  calm();
  await settled();
  try {
    watch(await ask(clipPath(`start/${kind}`), body));
  } catch (error) {
    complain(error);
  }
}

async function watch(job) {
  $("work").hidden = job.state !== "running";
  if (job.state === "running") {
    $("work-bar").max = job.total;
    if (job.done) $("work-bar").value = job.done;
    else $("work-bar").removeAttribute("value");
    $("work-text").textContent = job.kind === "track" ? `Tracking: ${job.done} of ${job.total} frames` : "Looking for candidates";
    await new Promise((done) => setTimeout(done, 200));
    try {
      return watch(await ask("/api/job"));
    } catch (error) {
      $("work").hidden = true;
      return complain(error);
    }
  }
  if (job.state === "failed") complain(job.error);
  if (job.state === "done" && job.clip_id === view.clip_id) {
    if (job.kind === "detect") showCandidates(job.result);
    else {
      here.gesture = null;
      const answer = await ask(clipPath(""));
      take(answer);
      listClip(answer);
      saved();
    }
  }
}

export function track(direction, all = false) {
  if (!needObject()) return;
  const fids = all ? here.clip.objects.map((thing) => thing.fid) : [view.fid];
  startWork("track", { step: view.step, fids, direction });
}

export function detect() {
  if (!here.tree.can_detect) return complain("No detector was loaded: refavs annotate --detector.");
  here.candidates = null;
  here.render();
  startWork("detect", { step: view.step, text: $("detector-text").value });
}

export function cancel() {
  ask("/api/cancel", {}).catch(complain);
}

function showCandidates(result) {
  here.candidates = result.candidates.length ? result : null;
  if (!here.candidates) return complain("Nothing was found on this frame.");
  const missing = selected()?.states[result.step] === "missing";
  $("candidate-object").replaceChildren(
    ...here.clip.objects.map((thing) => new Option(thing.category, thing.fid)),
    new Option("a new object", "new"),
  );
  $("candidate-object").value = missing ? view.fid : "new";
  here.render();
  $("candidates").querySelector("button").focus();
}

export async function takeCandidate(candidate) {
  const { step } = here.candidates;
  const chosen = $("candidate-object").value;
  let fid = Number(chosen);
  here.candidates = null;
  here.gesture = null;
  if (chosen === "new") {
    const category = candidate.label || "object";
    if (!(await addObject(category, groupOf(category) || "object"))) return;
    fid = view.fid;
  }
  view.fid = fid;
  act("set_mask", { fid, step, counts: candidate.counts });
}

// Sentences

let typing = 0;
export function judgeSoon() {
  clearTimeout(typing);
  typing = setTimeout(judge, 250);
}

export async function judge() {
  const { text, fid } = sentence();
  if (!text.trim()) return showJudgement(null);
  try {
    const answer = await ask(clipPath("judge"), { text, fid });
    if ($("sentence").value === text) showJudgement(answer);
  } catch (error) {
    complain(error);
  }
}

function sentence() {
  const chosen = $("sentence-object").value;
  return { text: $("sentence").value, fid: chosen === "" ? null : Number(chosen) };
}

export async function addSentence() {
  const sent = sentence();
  const done =
    here.editing === null ? await act("add_sentence", sent) : await act("change_sentence", { index: here.editing, ...sent });
  if (!done) return;
  here.editing = null;
  $("sentence").value = "";
  here.suggested = here.suggested.filter((text) => text !== sent.text);
  showJudgement(null);
  here.render();
}

export async function suggest() {
  if (!needObject()) return;
  $("sentence-object").value = view.fid;
  try {
    here.suggested = (await ask(clipPath("suggest"), { fid: view.fid })).sentences;
    if (!here.suggested.length) complain("There is no suggestion: the sentence needs masks, sounding intervals or other objects to speak of.");
    here.render();
    $("suggestions").querySelector("button")?.focus();
  } catch (error) {
    complain(error);
  }
}

export function showJudgement(answer) {
  $("about").textContent = answer ? aboutText(answer.about) : "";
  const good = answer && !answer.remarks.length;
  $("remarks").replaceChildren(
    ...(answer?.remarks || []).map((text) => make("li", {}, text)),
    ...(good ? [make("li", { class: "good" }, "unique, clear, each word needed")] : []),
  );
}

export function aboutText(about) {
  const cues = about.cues.join(", ") || "no cue";
  return `${cues} · grade ${about.grade}`;
}

// Tree and review

export async function writeTree() {
  await settled();
  $("saved").textContent = "Writing the tree…";
  try {
    const answer = await ask("/api/write", {});
    $("saved").textContent = "Tree written";
    report(answer.can_train ? "The tree is written and can be trained on" : "The tree is written", make("pre", {}, answer.report));
  } catch (error) {
    $("saved").textContent = "Tree not written";
    complain(error);
  }
}

export async function compare() {
  if (!here.tree.review) return complain("Nobody is reviewed: refavs annotate --review NAME.");
  if (here.comparison) {
    here.comparison = null;
    return here.render();
  }
  try {
    await settled();
    here.comparison = await ask(clipPath("compare"));
    here.render();
    report(`Agreement with ${here.tree.review}`, agreementTable(here.comparison));
  } catch (error) {
    complain(error);
  }
}

function agreementTable(answer) {
  const box = make("div");
  const table = make("table");
  const row = (cells, kind) => {
    const line = make("tr");
    line.append(...cells.map((text) => make(kind, {}, text)));
    table.append(line);
  };
  const percent = (value) => (value === null ? "" : (100 * value).toFixed(1));
  row(["object", "J", "of its frames", "J of sounding"], "th");
  for (const one of answer.objects) {
    const steps = one.jaccard.map((value, step) => (value === null ? "" : `${step}: ${percent(value)}`));
    row([one.category, percent(one.mean), steps.filter(Boolean).join(", "), percent(one.sounding)], "td");
  }
  box.append(table);
  for (const one of answer.alone)
    box.append(make("p", {}, `${one.category} of ${one.annotator}: the other has nothing like it on the same frames yet.`));
  box.append(make("p", {}, "Dashed outlines on the frames are the other annotator's masks; A hides them."));
  return box;
}

function report(title, content) {
  $("report-title").textContent = title;
  $("report").replaceChildren(content);
  $("report-dialog").showModal();
}
