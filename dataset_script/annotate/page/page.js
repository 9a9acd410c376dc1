// The page of `refavs annotate`. What is annotated lives on the server: each action is sent, saved
// there, and answered by the clip as it is then. Here is only what one looks at.

import { area, decode, forget, picture } from "./masks.js";

const TOKEN = new URLSearchParams(location.search).get("token") || "";
const STEPS = 10;
const $ = (id) => document.getElementById(id);

let tree = null; // what /api/clips says
let clip = null; // what /api/clips/<id> says
let peaks = [];
let frames = []; // pictures of the clip
let spectrogram = null;
let candidates = null; // {step, candidates} of the last detection
let comparison = null; // masks of the reviewed annotator
let gesture = null; // {fid, step, box, points} that the next click goes on with
let drag = null; // of the pointer, or of the keyboard's cursor
let intervalStart = null; // s, set by I
let suggested = [];
let editing = null; // number of the sentence that is edited
const view = {
  clip_id: null, step: 0, time: 0, fid: null, tool: "point", size: 10, masks: true, scale: 1,
  cursor: null, pointer: null, listed: null,
};

// The server

let queue = Promise.resolve();

async function ask(path, body) {
  const options = { headers: { "X-Token": TOKEN } };
  if (body !== undefined) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    lost();
    throw new Error(
      "The server has ended. All that was saved is on disk: start refavs annotate again and open its new address.",
    );
  }
  if (answer.status === 403) throw new Error(await answer.text());
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content;
}

const of = (name) => `/api/clips/${encodeURIComponent(view.clip_id)}${name ? "/" + name : ""}`;
const media = (name) => `${of(name)}?token=${encodeURIComponent(TOKEN)}`;

// One after the other, so that each click goes on from what the one before it has made.
function act(name, body = {}) {
  const path = of(name);
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

let changes = 0;
function saved() {
  $("saved").textContent = `Saved ${new Date().toLocaleTimeString("en-GB")}`;
  $("saved").dataset.changes = ++changes;
}

function lost() {
  $("saved").textContent = "Server has ended";
  $("saved").classList.add("lost");
}

let hiding = 0;
function complain(error) {
  $("error").textContent = error.message || error;
  $("error").hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => ($("error").hidden = true), 9000);
}

function calm() {
  $("error").hidden = true;
}

// Clips

async function loadTree() {
  tree = await ask("/api/clips");
  document.title = `refavs annotate: ${tree.annotator}`;
  $("split").replaceChildren(...tree.splits.map((name) => new Option(name)));
  const groups = [...new Set(Object.values(tree.categories))];
  $("categories").replaceChildren(...Object.keys(tree.categories).map((name) => new Option(name, name)));
  $("groups").replaceChildren(...groups.map((name) => new Option(name, name)));
  $("agreement").hidden = !tree.review;
  $("detection").hidden = !tree.can_detect;
  $("propose").hidden = !tree.can_hear;
  listClips();
  const begun = tree.clips.find((one) => one.state !== "ready") || tree.clips[0];
  const named = tree.clips.find((one) => one.clip_id === decodeURIComponent(location.hash.slice(1)));
  await openClip((named || begun).clip_id);
}

function listClips() {
  const wanted = $("filter").value.trim().toLowerCase();
  const shown = tree.clips.filter((one) => one.clip_id.toLowerCase().includes(wanted));
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
  const ready = tree.clips.filter((one) => one.state === "ready").length;
  $("progress-of-clips").textContent = `${ready} of ${tree.clips.length} clips ready`;
}

function listClip({ clip_id, state, missing }) {
  Object.assign(tree.clips.find((one) => one.clip_id === clip_id), { state, missing });
  listClips();
}

async function openClip(clip_id) {
  if (view.clip_id === clip_id) return;
  Object.assign(view, { clip_id, step: 0, time: 0, fid: null, cursor: null });
  [candidates, comparison, gesture, drag, intervalStart, editing] = [null, null, null, null, null, null];
  suggested = [];
  forget();
  location.hash = encodeURIComponent(clip_id);
  $("audio").pause();
  try {
    const answer = await ask(of(""));
    if (view.clip_id !== clip_id) return;
    peaks = [];
    frames = Array.from({ length: STEPS }, (_, step) => load(media(`frames/${step}.jpg`)));
    spectrogram = load(media("spectrogram.png"));
    $("audio").src = media("audio.wav");
    $("sentence").value = "";
    take(answer);
    listClips();
    document.querySelector("#clips [aria-current]")?.scrollIntoView({ block: "nearest" });
    const sound = await ask(of("sound"));
    if (view.clip_id === clip_id) peaks = sound.peaks;
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

function stepClip(by) {
  const at = tree.clips.findIndex((one) => one.clip_id === view.clip_id);
  const next = tree.clips[at + by];
  if (next) openClip(next.clip_id);
}

function take(answer) {
  clip = answer;
  const fids = clip.objects.map((thing) => thing.fid);
  if (!fids.includes(view.fid)) view.fid = fids.length ? fids[fids.length - 1] : null;
  render();
}

const selected = () => clip?.objects.find((thing) => thing.fid === view.fid) || null;

// What a person does

// The object that a tool works on; without one, the place to name it.
function needObject() {
  if (selected()) return true;
  complain("First name an object, on the right.");
  $("new-category").focus();
  return false;
}

function goTo(step, time = step) {
  if (!clip) return;
  view.step = Math.max(0, Math.min(STEPS - 1, step));
  view.time = Math.max(0, Math.min(10, time));
  if ($("audio").src) $("audio").currentTime = view.time;
  dropGesture();
  render();
}

function dropGesture() {
  gesture = null;
  drag = null;
}

function setTime(time) {
  time = Math.max(0, Math.min(9.999, time));
  goTo(Math.floor(time), time);
}

function play() {
  const audio = $("audio");
  if (!audio.paused) return audio.pause();
  if (view.time >= 9.9) setTime(0);
  audio.currentTime = view.time;
  audio.play().catch((error) => complain(`The sound cannot be played: ${error.message}`));
}

function follow() {
  const audio = $("audio");
  $("play").textContent = audio.paused ? "Play" : "Pause";
  if (audio.paused) return render();
  view.time = Math.min(10, audio.currentTime);
  const step = Math.min(STEPS - 1, Math.floor(view.time));
  if (step !== view.step) {
    view.step = step;
    dropGesture();
    render();
  } else {
    draw();
  }
  requestAnimationFrame(follow);
}

function setTool(tool) {
  view.tool = tool;
  drag = null;
  if (tool === "brush" || tool === "eraser") gesture = null;
  render();
}

function point(x, y, on) {
  if (!needObject()) return;
  if (!gesture || gesture.fid !== view.fid || gesture.step !== view.step)
    gesture = { fid: view.fid, step: view.step, box: [], points: [] };
  gesture.points.push([x, y, on ? 1 : 0]);
  prompt();
}

function box(x0, y0, x1, y1) {
  const sides = [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
  if (sides[2] - sides[0] < 2 || sides[3] - sides[1] < 2) return;
  gesture = { fid: view.fid, step: view.step, box: sides, points: [] };
  prompt();
}

function prompt() {
  const { fid, step, box, points } = gesture;
  const sent = { fid, step, box, points: points.map((one) => [...one]) };
  act("point", sent).then((done) => {
    if (!done && gesture?.fid === fid && gesture.step === step) gesture = null;
    draw();
  });
}

function stroke(points) {
  gesture = null;
  const erase = view.tool === "eraser";
  act("paint", { fid: view.fid, step: view.step, stroke: points, radius: radius(), erase });
}

// In pixels of the frame; the slider counts thousandths of its longer side.
const radius = () => Math.max(0.5, (view.size * Math.max(...clip.size)) / 1000);

function ofStep(name, more = {}) {
  if (!needObject()) return;
  gesture = null;
  act(name, { fid: view.fid, step: view.step, ...more });
}

function undo(name) {
  gesture = null;
  act(name);
}

function setSounding(intervals) {
  act("set_sounding", { fid: view.fid, intervals });
}

// I and O: where the playhead stands, an interval begins and ends. Inside of one they move its edges.
function markStart() {
  if (!needObject()) return;
  const { sounding } = selected();
  const at = sounding.findIndex(([start, end]) => start < view.time && view.time < end);
  if (at < 0) {
    intervalStart = view.time;
    return render();
  }
  setSounding(sounding.map((pair, index) => (index === at ? [view.time, pair[1]] : pair)));
}

function markEnd() {
  if (!needObject()) return;
  const { sounding } = selected();
  if (intervalStart !== null) {
    const begun = intervalStart;
    intervalStart = null;
    return setSounding([...sounding, [begun, view.time]]);
  }
  const before = sounding.filter(([start]) => start < view.time);
  const last = before[before.length - 1];
  if (!last) return complain("No interval begins before the playhead: I begins one.");
  setSounding(sounding.map((pair) => (pair === last ? [pair[0], view.time] : pair)));
}

function removeInterval(at) {
  if (!needObject()) return;
  const { sounding } = selected();
  if (at === undefined) at = sounding.findIndex(([start, end]) => start <= view.time && view.time <= end);
  if (at < 0) return complain("The playhead stands in no interval of this object.");
  setSounding(sounding.filter((_, index) => index !== at));
}

function selectObject(by) {
  if (!clip?.objects.length) return;
  const at = clip.objects.findIndex((thing) => thing.fid === view.fid);
  view.fid = clip.objects[(at + by + clip.objects.length) % clip.objects.length].fid;
  gesture = null;
  intervalStart = null;
  render();
}

function groupOf(category) {
  return tree.categories[category] || clip?.objects.find((thing) => thing.category === category)?.super_category || "";
}

async function addObject(category, super_category) {
  const before = new Set(clip.objects.map((thing) => thing.fid));
  if (!(await act("add_object", { category, super_category }))) return false;
  view.fid = clip.objects.find((thing) => !before.has(thing.fid)).fid;
  render();
  return true;
}

// Models at work

async function start(kind, body) {
  calm();
  await queue;
  try {
    watch(await ask(of(`start/${kind}`), body));
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
      gesture = null;
      const answer = await ask(of(""));
      take(answer);
      listClip(answer);
      saved();
    }
  }
}

function track(direction, all = false) {
  if (!needObject()) return;
  const fids = all ? clip.objects.map((thing) => thing.fid) : [view.fid];
  start("track", { step: view.step, fids, direction });
}

function detect() {
  if (!tree.can_detect) return complain("No detector was loaded: refavs annotate --detector.");
  candidates = null;
  render();
  start("detect", { step: view.step, text: $("detector-text").value });
}

function cancel() {
  ask("/api/cancel", {}).catch(complain);
}

function showCandidates(result) {
  candidates = result.candidates.length ? result : null;
  if (!candidates) return complain("Nothing was found on this frame.");
  const missing = selected()?.states[result.step] === "missing";
  $("candidate-object").replaceChildren(
    ...clip.objects.map((thing) => new Option(thing.category, thing.fid)),
    new Option("a new object", "new"),
  );
  $("candidate-object").value = missing ? view.fid : "new";
  render();
  $("candidates").querySelector("button").focus();
}

async function takeCandidate(candidate) {
  const { step } = candidates;
  const chosen = $("candidate-object").value;
  let fid = Number(chosen);
  candidates = null;
  gesture = null;
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
function judgeSoon() {
  clearTimeout(typing);
  typing = setTimeout(judge, 250);
}

async function judge() {
  const { text, fid } = sentence();
  if (!text.trim()) return showJudgement(null);
  try {
    const answer = await ask(of("judge"), { text, fid });
    if ($("sentence").value === text) showJudgement(answer);
  } catch (error) {
    complain(error);
  }
}

function sentence() {
  const chosen = $("sentence-object").value;
  return { text: $("sentence").value, fid: chosen === "" ? null : Number(chosen) };
}

async function addSentence() {
  const sent = sentence();
  const done =
    editing === null ? await act("add_sentence", sent) : await act("change_sentence", { index: editing, ...sent });
  if (!done) return;
  editing = null;
  $("sentence").value = "";
  suggested = suggested.filter((text) => text !== sent.text);
  showJudgement(null);
  render();
}

async function suggest() {
  if (!needObject()) return;
  $("sentence-object").value = view.fid;
  try {
    suggested = (await ask(of("suggest"), { fid: view.fid })).sentences;
    if (!suggested.length) complain("There is no suggestion: the sentence needs masks, sounding intervals or other objects to speak of.");
    render();
    $("suggestions").querySelector("button")?.focus();
  } catch (error) {
    complain(error);
  }
}

// Tree and review

async function writeTree() {
  await queue;
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

async function compare() {
  if (!tree.review) return complain("Nobody is reviewed: refavs annotate --review NAME.");
  if (comparison) {
    comparison = null;
    return render();
  }
  try {
    await queue;
    comparison = await ask(of("compare"));
    render();
    report(`Agreement with ${tree.review}`, agreementTable(comparison));
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

// What is shown

function make(tag, attributes = {}, text = "") {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  return element;
}

function render() {
  if (!clip) return;
  $("clip-name").textContent = clip.clip_id;
  $("clip-state").textContent = clip.state;
  $("clip-state").className = `state ${clip.state}`;
  $("clip-state").title = clip.missing.join("; ");
  $("split").value = clip.split;
  $("undo").disabled = !clip.can.undo;
  $("redo").disabled = !clip.can.redo;
  $("next").textContent = $("next").title = nextStep();
  for (const button of $("tools").children)
    button.setAttribute("aria-checked", button.dataset.tool === view.tool);
  $("size").value = view.size;
  renderCandidates();
  renderStrip();
  renderIntervals();
  renderObjects();
  renderSentences();
  draw();
}

// The one thing that a person who is here for the first time should do now.
function nextStep() {
  const thing = selected();
  if (tree.review) return reviewStep();
  if (candidates?.step === view.step) return "Click on an outline to take it, or choose one by Tab and Enter. Escape leaves them.";
  if (intervalStart !== null) return `The interval begins at ${intervalStart.toFixed(1)} s: move the playhead and press O where it ends.`;
  if (!thing) return "Name the first object on the right (N): what it is, and its group.";
  const name = thing.category;
  const masked = thing.states.findIndex((state) => state !== "missing" && !state.endsWith("absent"));
  if (masked < 0) return `Go to a frame that shows the ${name} well; click on it, or drag a box around it (B). Right click takes away.`;
  const missing = thing.states.findIndex((state) => state === "missing");
  if (missing >= 0) {
    const shot = shotOf(missing);
    const pivot = shot.find((step) => thing.states[step] !== "missing" && !thing.states[step].endsWith("absent"));
    if (pivot === undefined)
      return `Frames ${shot[0]} to ${shot[shot.length - 1]} are another shot: mark the ${name} there too, or say that it is not visible (V, Shift+V).`;
    return shot.includes(view.step) && thing.states[view.step] !== "missing"
      ? `Track (T) carries the ${name} from this frame to the others of its shot.`
      : `Go to frame ${pivot}, where the ${name} is marked, and track it (T).`;
  }
  const unseen = thing.states.findIndex((state) => state.startsWith("propagated"));
  if (unseen >= 0) return `Check each frame (← →): mend the ${name} where it is wrong and track on (>); accept with Y, all with Shift+Y.`;
  if (!thing.sounding.length && clip.sentences.length === 0)
    return `Does the ${name} sound? Drag over the waveform where it does. Then name the next object, or write sentences.`;
  if (!clip.sentences.length) return "Write a sentence that means one of the objects (S), or take a suggestion (G).";
  if (clip.missing.length) return `Still to do: ${clip.missing.join("; ")}.`;
  return "This clip is ready: Page Down opens the next. Write tree (Shift+W) makes a data set of all.";
}

function reviewStep() {
  if (comparison) return `Dashed outlines are ${tree.review}’s masks; A hides them. Page Down opens the next clip.`;
  return `Review of ${tree.review}: mark each object anew on the frames with “?”, then see the agreement (A).`;
}

// A few frames that a review is asked for: the middle of each shot, and of the longest the ends too.
function askedSteps() {
  const middles = shots().map((shot) => shot[Math.floor(shot.length / 2)]);
  const longest = shots().reduce((one, other) => (other.length > one.length ? other : one));
  return [...new Set([...middles, longest[0], longest[longest.length - 1]])].sort((a, b) => a - b);
}

function shots() {
  const starts = [0, ...clip.shots, STEPS];
  return starts.slice(0, -1).map((start, index) => range(start, starts[index + 1]));
}

const range = (start, end) => Array.from({ length: end - start }, (_, index) => start + index);
const shotOf = (step) => shots().find((shot) => shot.includes(step));

function renderStrip() {
  if (view.listed !== clip.clip_id) {
    $("strip").replaceChildren(...range(0, STEPS).map(makeStep));
    view.listed = clip.clip_id;
  }
  [...$("strip").children].forEach((cell, step) => {
    const button = cell.querySelector(".picture");
    const said = clip.objects.map((thing) => `${thing.category} ${thing.states[step]}`);
    button.setAttribute("aria-label", [`Frame ${step}`, ...said].join(", "));
    button.title = [`Frame ${step}`, ...said].join("\n");
    button.setAttribute("aria-current", step === view.step);
    cell.classList.toggle("asked", Boolean(tree.review) && askedSteps().includes(step));
    cell.querySelector(".marks").replaceChildren(...clip.objects.map((thing) => markOf(thing, step)));
    const shot = cell.querySelector(".shot");
    if (!shot) return;
    shot.setAttribute("aria-pressed", clip.shots.includes(step));
    shot.classList.toggle("proposed", clip.proposed_shots.includes(step));
  });
}

function makeStep(step) {
  const cell = make("div", { class: "step" });
  const button = make("button", { class: "picture" });
  button.append(make("canvas", { width: 120, height: 68 }));
  button.onclick = () => goTo(step);
  cell.append(button, make("div", { class: "marks" }));
  if (step) {
    const shot = make("button", { class: "shot", "aria-label": `Another shot begins at frame ${step}`, title: `Another shot begins at frame ${step} (C on that frame)` });
    shot.onclick = () => act("toggle_shot", { step });
    cell.append(shot);
  }
  return cell;
}

function markOf(thing, step) {
  const state = thing.states[step];
  const signs = { missing: "·", corrected: "●", propagated: "○", "corrected absent": "✕", "propagated absent": "⨯" };
  const mark = make("span", { title: `${thing.category}: ${state}` }, signs[state]);
  mark.style.color = state === "missing" ? "" : thing.colour;
  return mark;
}

function renderIntervals() {
  const thing = selected();
  $("time").textContent = `${view.time.toFixed(1)} s`;
  $("propose").disabled = !thing;
  $("intervals").replaceChildren(
    ...(thing?.sounding || []).map(([start, end], index) => {
      const text = `${start.toFixed(2)}–${end.toFixed(2)} s`;
      const chip = make("span", { class: "chip" }, text + " ");
      const remove = make("button", { "aria-label": `Remove the interval ${text}`, title: "Remove (X with the playhead in it)" }, "×");
      remove.onclick = () => removeInterval(index);
      chip.append(remove);
      return chip;
    }),
  );
  const slider = $("timeline");
  slider.setAttribute("aria-valuenow", view.time.toFixed(1));
  slider.setAttribute("aria-valuetext", `${view.time.toFixed(1)} seconds`);
}

function renderCandidates() {
  const shown = candidates?.step === view.step ? candidates.candidates : [];
  $("candidate-for").hidden = !shown.length;
  $("candidates").replaceChildren(
    ...shown.map((candidate, index) => {
      const text = `${index + 1} ${candidate.label || "thing"} ${Math.round(100 * candidate.score)} %`;
      const button = make("button", { type: "button" }, text);
      button.onclick = () => takeCandidate(candidate);
      button.onfocus = button.onmouseenter = () => draw(candidate);
      return button;
    }),
  );
}

function renderObjects() {
  $("objects").replaceChildren(
    ...clip.objects.map((thing) => {
      const row = make("li");
      row.classList.toggle("selected", thing.fid === view.fid);
      const radio = make("input", { type: "radio", name: "object", "aria-label": `Select ${thing.category} (object ${thing.fid})` });
      radio.checked = thing.fid === view.fid;
      const choose = () => {
        if (view.fid === thing.fid) return;
        view.fid = thing.fid;
        gesture = null;
        render();
      };
      radio.onchange = choose;
      const inputs = ["colour", "category", "super_category"].map((name) => {
        const label = name === "super_category" ? "Group" : name[0].toUpperCase() + name.slice(1);
        const input = make("input", { "aria-label": `${label} of object ${thing.fid}`, title: label });
        if (name === "colour") input.type = "color";
        else input.setAttribute("list", name === "category" ? "categories" : "groups");
        input.value = thing[name];
        input.onchange = () => act("change_object", { fid: thing.fid, category: thing.category, super_category: thing.super_category, colour: thing.colour, [name]: input.value });
        return input;
      });
      const done = thing.states.filter((state) => state !== "missing").length;
      const remove = make("button", { "aria-label": `Remove ${thing.category} (object ${thing.fid})`, title: "Remove the object and its sentences (Z brings it back)" }, "×");
      remove.onclick = () => act("remove_object", { fid: thing.fid });
      row.append(radio, ...inputs, make("small", { title: "frames annotated" }, `${done}/${STEPS}`), remove);
      row.onclick = choose;
      return row;
    }),
  );
}

function renderSentences() {
  const select = $("sentence-object");
  const chosen = select.value;
  select.replaceChildren(
    ...clip.objects.map((thing) => new Option(`${thing.category} (${thing.fid})`, thing.fid)),
    new Option("nothing in this clip", ""),
  );
  const there = chosen === "" || clip.objects.some((thing) => String(thing.fid) === chosen);
  select.value = there && $("sentence").value.trim() ? chosen : (view.fid ?? "");
  $("add-sentence").textContent = editing === null ? "Add" : "Change";
  $("sentences").replaceChildren(...clip.sentences.map(sentenceRow));
  $("suggestions").replaceChildren(
    ...suggested.map((text) => {
      const button = make("button", { type: "button" }, text);
      button.onclick = () => {
        $("sentence").value = text;
        select.value = view.fid;
        $("sentence").focus();
        judge();
      };
      return button;
    }),
  );
}

function sentenceRow(one, index) {
  const row = make("li");
  const thing = clip.objects.find((other) => other.fid === one.fid);
  const swatch = make("span", { class: "swatch", title: thing?.category || "nothing in this clip" });
  if (thing) swatch.style.background = thing.colour;
  const edit = make("button", { "aria-label": `Edit the sentence: ${one.text}`, title: "Edit" }, "✎");
  edit.onclick = () => {
    editing = index;
    $("sentence").value = one.text;
    render();
    $("sentence-object").value = one.fid ?? "";
    $("sentence").focus();
    judge();
  };
  const remove = make("button", { "aria-label": `Remove the sentence: ${one.text}`, title: "Remove" }, "×");
  remove.onclick = () => act("remove_sentence", { index });
  const what = thing ? `${thing.category} · ${aboutText(one.about)}` : `means nothing here · ${aboutText(one.about)}`;
  row.append(swatch, make("span", {}, one.text), edit, remove, make("small", {}, what));
  row.append(...one.remarks.map((text) => make("small", { class: "remark" }, `! ${text}`)));
  return row;
}

function aboutText(about) {
  const cues = about.cues.join(", ") || "no cue";
  return `${cues} · grade ${about.grade}`;
}

function showJudgement(answer) {
  $("about").textContent = answer ? aboutText(answer.about) : "";
  const good = answer && !answer.remarks.length;
  $("remarks").replaceChildren(
    ...(answer?.remarks || []).map((text) => make("li", {}, text)),
    ...(good ? [make("li", { class: "good" }, "unique, clear, each word needed")] : []),
  );
}

// Canvases

function fit() {
  const stage = $("stage").getBoundingClientRect();
  const [height, width] = clip.size;
  view.scale = Math.min((stage.width - 4) / width, (stage.height - 4) / height);
  const canvas = $("frame");
  const ratio = devicePixelRatio || 1;
  const [shownWidth, shownHeight] = [width * view.scale, height * view.scale];
  if (canvas.width !== Math.round(shownWidth * ratio) || canvas.height !== Math.round(shownHeight * ratio)) {
    canvas.width = Math.round(shownWidth * ratio);
    canvas.height = Math.round(shownHeight * ratio);
    canvas.style.width = `${shownWidth}px`;
    canvas.style.height = `${shownHeight}px`;
  }
  return ratio;
}

function draw(emphasised = null) {
  if (!clip || !frames.length) return;
  const ratio = fit();
  const pen = $("frame").getContext("2d");
  pen.setTransform(ratio * view.scale, 0, 0, ratio * view.scale, 0, 0);
  const [height, width] = clip.size;
  if (frames[view.step].complete && frames[view.step].naturalWidth) pen.drawImage(frames[view.step], 0, 0, width, height);
  if (view.masks) drawMasks(pen, emphasised);
  drawGesture(pen, 1 / view.scale);
  drawThumbnails();
  drawTimeline();
}

function drawMasks(pen, emphasised) {
  for (const thing of clip.objects) {
    const counts = thing.masks[view.step];
    if (!counts) continue;
    pen.globalAlpha = thing.fid === view.fid ? 1 : 0.75;
    pen.drawImage(maskPicture(thing, view.step), 0, 0);
  }
  pen.globalAlpha = 1;
  for (const [index, one] of (comparison?.objects || []).entries()) {
    const counts = one.masks[view.step];
    if (counts) pen.drawImage(picture(`theirs ${index} ${view.step}`, counts, clip.size, "#ffffff", { fill: 0, dashed: true }), 0, 0);
  }
  if (candidates?.step === view.step)
    for (const [index, candidate] of candidates.candidates.entries()) {
      const fill = candidate === emphasised ? 0.6 : 0.08;
      pen.drawImage(picture(`candidate ${index} ${fill}`, candidate.counts, clip.size, "#ffffff", { fill }), 0, 0);
    }
}

const maskPicture = (thing, step) => picture(`${thing.fid} ${step}`, thing.masks[step], clip.size, thing.colour);

// Lines are `unit` wide: one pixel of the screen.
function drawGesture(pen, unit) {
  pen.lineWidth = 2 * unit;
  if (gesture && gesture.step === view.step && gesture.fid === view.fid) {
    if (gesture.box.length) {
      const [left, top, right, bottom] = gesture.box;
      pen.strokeStyle = "#ffffff";
      pen.setLineDash([6 * unit, 4 * unit]);
      pen.strokeRect(left, top, right - left, bottom - top);
      pen.setLineDash([]);
    }
    for (const [x, y, on] of gesture.points) {
      disc(pen, x, y, 5 * unit, on ? "#2fbf5b" : "#e0403a");
      pen.fillStyle = "#fff";
      pen.font = `bold ${9 * unit}px sans-serif`;
      pen.textAlign = "center";
      pen.fillText(on ? "+" : "−", x, y + 3 * unit);
    }
  }
  const tip = view.cursor || view.pointer;
  if (drag?.kind === "box" && tip) {
    pen.strokeStyle = "#fff";
    pen.strokeRect(drag.x, drag.y, tip.x - drag.x, tip.y - drag.y);
  }
  if (drag?.kind === "stroke") {
    pen.strokeStyle = view.tool === "eraser" ? "#0009" : `${selected()?.colour}99`;
    pen.lineWidth = 2 * radius();
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    drag.points.forEach(([x, y], index) => (index ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    if (drag.points.length === 1) pen.lineTo(drag.points[0][0] + 0.01, drag.points[0][1]);
    pen.stroke();
  }
  if (tip && (view.tool === "brush" || view.tool === "eraser")) ring(pen, tip.x, tip.y, radius(), unit);
  if (view.cursor) crosshair(pen, view.cursor, unit);
}

function disc(pen, x, y, size, colour) {
  pen.fillStyle = colour;
  pen.strokeStyle = "#fff";
  pen.beginPath();
  pen.arc(x, y, size, 0, 7);
  pen.fill();
  pen.stroke();
}

function ring(pen, x, y, size, unit) {
  for (const [colour, width] of [["#000", 3], ["#fff", 1.5]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = width * unit;
    pen.beginPath();
    pen.arc(x, y, size, 0, 7);
    pen.stroke();
  }
}

function crosshair(pen, { x, y }, unit) {
  for (const [colour, width] of [["#000", 4], ["#ffe119", 2]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = width * unit;
    pen.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      pen.moveTo(x + 4 * dx * unit, y + 4 * dy * unit);
      pen.lineTo(x + 14 * dx * unit, y + 14 * dy * unit);
    }
    pen.stroke();
  }
}

function drawThumbnails() {
  const [height, width] = clip.size;
  [...$("strip").children].forEach((cell, step) => {
    const canvas = cell.querySelector("canvas");
    const pen = canvas.getContext("2d");
    if (!frames[step].complete || !frames[step].naturalWidth) return;
    const scale = Math.min(canvas.width / width, canvas.height / height);
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.setTransform(scale, 0, 0, scale, (canvas.width - width * scale) / 2, (canvas.height - height * scale) / 2);
    pen.drawImage(frames[step], 0, 0, width, height);
    if (view.masks)
      for (const thing of clip.objects) if (thing.masks[step]) pen.drawImage(maskPicture(thing, step), 0, 0);
  });
}

const LANES = 10, WAVE = 44; // pixels: objects' intervals above, then the waveform, then the spectrogram

function drawTimeline() {
  const canvas = $("timeline");
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== width * ratio) [canvas.width, canvas.height] = [width * ratio, height * ratio];
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.fillStyle = "#0c0d0f";
  pen.fillRect(0, 0, width, height);
  const at = (time) => (time / 10) * width;
  if (spectrogram?.complete && spectrogram.naturalWidth) pen.drawImage(spectrogram, 0, LANES + WAVE, width, height - LANES - WAVE);
  pen.fillStyle = "#b9c4cf";
  peaks.forEach((peak, index) => {
    const reach = Math.max(0.5, (peak * (WAVE - 4)) / 2);
    pen.fillRect((index / peaks.length) * width, LANES + WAVE / 2 - reach, Math.max(1, width / peaks.length), 2 * reach);
  });
  drawIntervals(pen, at);
  for (const step of clip.shots) vertical(pen, at(step), height, "#ff8177", 2);
  if (intervalStart !== null) vertical(pen, at(intervalStart), height, "#ffe119", 2);
  vertical(pen, at(view.time), height, "#6cb2ff", 2);
}

function drawIntervals(pen, at) {
  const lane = LANES / Math.max(1, clip.objects.length);
  clip.objects.forEach((thing, index) => {
    for (const [start, end] of shownIntervals(thing)) {
      pen.fillStyle = thing.colour;
      pen.fillRect(at(start), index * lane, at(end) - at(start), Math.max(2, lane - 1));
      if (thing.fid !== view.fid) continue;
      pen.globalAlpha = 0.5;
      pen.fillRect(at(start), LANES, at(end) - at(start), WAVE);
      pen.globalAlpha = 1;
      for (const time of [start, end]) pen.fillRect(at(time) - 1.5, LANES, 3, WAVE);
    }
  });
}

// As they are while one of them is dragged.
function shownIntervals(thing) {
  if (thing.fid !== view.fid || drag?.kind !== "interval") return thing.sounding;
  return [...drag.others, [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)]];
}

function vertical(pen, x, height, colour, width) {
  pen.fillStyle = colour;
  pen.fillRect(x - width / 2, 0, width, height);
}

// The pointer

function pixelOf(event) {
  const rect = $("frame").getBoundingClientRect();
  const [height, width] = clip.size;
  const clamp = (value, most) => Math.max(0, Math.min(most, value));
  return {
    x: clamp((event.clientX - rect.left) / view.scale, width - 1),
    y: clamp((event.clientY - rect.top) / view.scale, height - 1),
  };
}

function candidateAt({ x, y }) {
  if (candidates?.step !== view.step) return null;
  const at = Math.floor(y) * clip.size[1] + Math.floor(x);
  const hit = candidates.candidates.filter((one) => decode(one.counts, clip.size)[at]);
  return hit.sort((one, other) => area(one.counts) - area(other.counts))[0] || null;
}

function press(event) {
  event.preventDefault(); // the frame takes no focus: arrow keys go on changing frames
  if (!clip) return;
  document.activeElement?.blur();
  view.cursor = null;
  const place = pixelOf(event);
  const candidate = candidateAt(place);
  if (candidate) return takeCandidate(candidate);
  if (view.tool === "point") return point(place.x, place.y, event.button === 0 && !event.shiftKey);
  if (!needObject()) return;
  $("frame").setPointerCapture(event.pointerId);
  drag = view.tool === "box" ? { kind: "box", ...place } : { kind: "stroke", points: [[place.x, place.y]] };
  draw();
}

function move(event) {
  if (!clip) return;
  view.pointer = pixelOf(event);
  if (drag?.kind === "stroke") drag.points.push([view.pointer.x, view.pointer.y]);
  draw();
}

function release(event) {
  if (!drag || drag.kind === "interval") return;
  const place = pixelOf(event);
  const done = drag;
  drag = null;
  if (done.kind === "box") box(done.x, done.y, place.x, place.y);
  else stroke(done.points);
  draw();
}

const GRIP = 6; // pixels around an interval's edge
const timeOf = (event) => {
  const rect = $("timeline").getBoundingClientRect();
  return Math.max(0, Math.min(10, (10 * (event.clientX - rect.left)) / rect.width));
};

function edgeAt(time) {
  const near = (10 * GRIP) / $("timeline").clientWidth;
  const { sounding } = selected() || { sounding: [] };
  for (const [index, pair] of sounding.entries())
    for (const side of [0, 1])
      if (Math.abs(pair[side] - time) < near)
        return { from: pair[1 - side], others: sounding.filter((_, other) => other !== index) };
  return null;
}

function pressTimeline(event) {
  event.preventDefault();
  document.activeElement?.blur();
  const time = timeOf(event);
  $("timeline").setPointerCapture(event.pointerId);
  const edge = edgeAt(time);
  if (edge) drag = { kind: "interval", moved: true, to: time, ...edge };
  else drag = { kind: "interval", moved: false, from: time, to: time, x: event.clientX, others: selected()?.sounding || [] };
}

function moveTimeline(event) {
  if (drag?.kind !== "interval") {
    $("timeline").style.cursor = edgeAt(timeOf(event)) ? "ew-resize" : "text";
    return;
  }
  drag.to = timeOf(event);
  drag.moved ||= Math.abs(event.clientX - drag.x) > 4;
  if (drag.moved) draw();
}

function releaseTimeline() {
  if (drag?.kind !== "interval") return;
  const done = drag;
  drag = null;
  if (!done.moved) return setTime(done.from);
  if (needObject()) setSounding([...done.others, [done.from, done.to]]);
  draw();
}

// The keyboard

// While the frame has the focus, the arrow keys move a cursor, and Enter does what a click does.
function frameKey(event) {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const [height, width] = clip.size;
  view.cursor ||= { x: Math.round(width / 2), y: Math.round(height / 2) };
  if (moves[event.key]) {
    const stride = event.shiftKey ? 1 : Math.max(2, Math.round(Math.max(width, height) / 64));
    const [dx, dy] = moves[event.key];
    view.cursor.x = Math.max(0, Math.min(width - 1, view.cursor.x + dx * stride));
    view.cursor.y = Math.max(0, Math.min(height - 1, view.cursor.y + dy * stride));
    if (drag?.kind === "stroke") drag.points.push([view.cursor.x, view.cursor.y]);
    $("frame").setAttribute("aria-label", `Frame, cursor at ${view.cursor.x}, ${view.cursor.y}`);
  } else if (event.key === "Enter") {
    enter(event.shiftKey);
  } else if (event.key === "Escape") {
    if (drag) drag = null;
    else $("frame").blur();
  } else {
    return;
  }
  event.preventDefault();
  event.stopPropagation();
  draw();
}

function enter(shift) {
  const { x, y } = view.cursor;
  const candidate = candidateAt(view.cursor);
  if (candidate) return takeCandidate(candidate);
  if (view.tool === "point") return point(x, y, !shift);
  if (!needObject()) return;
  if (!drag) {
    drag = view.tool === "box" ? { kind: "box", x, y } : { kind: "stroke", points: [[x, y]] };
    return;
  }
  const done = drag;
  drag = null;
  if (done.kind === "box") box(done.x, done.y, x, y);
  else stroke(done.points);
}

function timelineKey(event) {
  const moves = { ArrowLeft: -0.1, ArrowRight: 0.1, ArrowDown: -0.1, ArrowUp: 0.1, Home: -10, End: 10 };
  if (!(event.key in moves)) return;
  setTime(view.time + moves[event.key]);
  event.preventDefault();
  event.stopPropagation();
}

const focusOn = (id) => () => $(id).focus();
const resize = (by) => () => {
  view.size = Math.max(1, Math.min(80, view.size + by));
  render();
};

// [keys, what they do, function]; the help lists them in this order.
const KEYS = {
  "Frames and sound": [
    ["ArrowLeft", "frame before", () => goTo(view.step - 1)],
    ["ArrowRight", "next frame", () => goTo(view.step + 1)],
    ["0 … 9", "this frame", (event) => goTo(Number(event.key))],
    ["Space", "play, pause", play],
    [",", "playhead back by 0.1 s", () => setTime(view.time - 0.1)],
    [".", "playhead on by 0.1 s", () => setTime(view.time + 0.1)],
    ["c", "another shot begins at this frame, or not", () => (view.step ? act("toggle_shot", { step: view.step }) : complain("A shot always begins at frame 0."))],
    ["PageUp", "clip before", () => stepClip(-1)],
    ["PageDown", "next clip", () => stepClip(1)],
  ],
  Objects: [
    ["n", "name a new object", focusOn("new-category")],
    ["j", "next object", () => selectObject(1)],
    ["k", "object before", () => selectObject(-1)],
  ],
  Masks: [
    ["f", "cursor on the frame: arrows move it, with Shift by one pixel; Enter clicks, Shift+Enter clicks beside the object; for box, brush and eraser Enter begins and ends; Escape leaves", focusOn("frame")],
    ["p", "point", () => setTool("point")],
    ["b", "box", () => setTool("box")],
    ["r", "brush", () => setTool("brush")],
    ["e", "eraser", () => setTool("eraser")],
    ["[", "smaller brush", resize(-3)],
    ["]", "larger brush", resize(3)],
    ["v", "not visible on this frame", () => ofStep("hide")],
    ["V", "not visible on all frames of this shot that have no mask", () => ofStep("hide", { shot: true })],
    ["y", "accept this frame's mask", () => ofStep("accept")],
    ["Y", "accept all masks of the object", () => needObject() && act("accept", { fid: view.fid })],
    ["Delete", "take this frame's mask away", () => ofStep("clear_mask")],
    ["m", "hide or show masks", () => { view.masks = !view.masks; draw(); }],
  ],
  "Models": [
    ["t", "track the object from this frame, both ways", () => track("both")],
    ["T", "track all objects from this frame", () => track("both", true)],
    ["<", "track backward", () => track("backward")],
    [">", "track forward", () => track("forward")],
    ["/", "things to find", focusOn("detector-text")],
    ["d", "find candidates on this frame", detect],
  ],
  "When the object sounds": [
    ["i", "an interval begins at the playhead", markStart],
    ["o", "it ends at the playhead", markEnd],
    ["x", "remove the interval at the playhead", () => removeInterval()],
    ["h", "propose intervals by a model that hears", () => needObject() && act("propose_sounding", { fid: view.fid })],
  ],
  Sentences: [
    ["s", "write a sentence; Enter adds it", focusOn("sentence")],
    ["g", "suggestions for the object", suggest],
  ],
  "Clip and tree": [
    ["z", "undo (also Ctrl+Z)", () => undo("undo")],
    ["Z", "redo (also Ctrl+Y)", () => undo("redo")],
    ["a", "agreement with the reviewed annotator", compare],
    ["W", "write the tree", writeTree],
    ["?", "these keys", () => $("help-dialog").showModal()],
    ["Escape", "cancel, leave a field", escape],
  ],
};

function escape() {
  calm();
  if (!$("work").hidden) return cancel();
  [candidates, intervalStart, gesture, drag] = [null, null, null, null];
  if (editing !== null) {
    editing = null;
    $("sentence").value = "";
    showJudgement(null);
  }
  suggested = [];
  document.activeElement?.blur();
  render();
}

function keyName(event) {
  if (/^[0-9]$/.test(event.key)) return "0 … 9";
  return { " ": "Space", Backspace: "Delete" }[event.key] || event.key;
}

function key(event) {
  if (!tree || document.querySelector("dialog[open]") || event.isComposing) return;
  const target = event.target;
  const typed = target.matches("textarea, select, input:not([type=range], [type=radio], [type=color])");
  if (event.ctrlKey || event.metaKey || event.altKey) {
    const wanted = { z: event.shiftKey ? "redo" : "undo", Z: "redo", y: "redo" }[event.key];
    if (!wanted || typed || event.altKey) return;
    event.preventDefault();
    return undo(wanted);
  }
  const name = keyName(event);
  if (typed && name !== "Escape") return;
  if (target.matches("button") && ["Space", "Enter"].includes(name)) return;
  if (target.matches("input") && /^Arrow|Space/.test(name)) return;
  const found = Object.values(KEYS).flat().find(([keys]) => keys === name);
  if (!found) return;
  event.preventDefault();
  found[2](event);
}

function listKeys() {
  const shown = { ArrowLeft: "←", ArrowRight: "→", PageUp: "Page Up", PageDown: "Page Down" };
  const label = (keys) => shown[keys] || (/^[A-Z]$/.test(keys) ? `Shift+${keys}` : keys.length === 1 ? keys.toUpperCase() : keys);
  $("keys").replaceChildren(
    ...Object.entries(KEYS).map(([title, entries]) => {
      const part = make("div");
      const list = make("dl");
      for (const [keys, meaning] of entries) {
        const term = make("dt");
        term.append(make("kbd", {}, label(keys)));
        list.append(term, make("dd", {}, meaning));
      }
      part.append(make("h3", {}, title), list);
      return part;
    }),
  );
}

// What is wired to what

function wire() {
  const click = (id, run) => ($(id).onclick = run);
  click("undo", () => undo("undo"));
  click("redo", () => undo("redo"));
  click("write", writeTree);
  click("agreement", compare);
  click("help", () => $("help-dialog").showModal());
  click("hide", () => ofStep("hide"));
  click("accept", () => ofStep("accept"));
  click("clear", () => ofStep("clear_mask"));
  click("track", () => track("both"));
  click("track-forward", () => track("forward"));
  click("track-backward", () => track("backward"));
  click("cancel", cancel);
  click("play", play);
  click("propose", () => needObject() && act("propose_sounding", { fid: view.fid }));
  click("suggest", suggest);
  for (const button of $("tools").children) button.onclick = () => setTool(button.dataset.tool);
  $("size").oninput = () => { view.size = Number($("size").value); draw(); };
  $("filter").oninput = listClips;
  $("split").onchange = () => act("set_split", { split: $("split").value });
  $("new-category").oninput = () => {
    const group = groupOf($("new-category").value.trim());
    if (group) $("new-group").value = group;
  };
  $("new-object").onsubmit = async (event) => {
    event.preventDefault();
    calm();
    if (!(await addObject($("new-category").value, $("new-group").value))) return;
    $("new-object").reset();
    document.activeElement?.blur();
  };
  $("detection").onsubmit = (event) => {
    event.preventDefault();
    detect();
  };
  $("sentence-form").onsubmit = (event) => {
    event.preventDefault();
    addSentence();
  };
  $("sentence").onkeydown = (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    addSentence();
  };
  $("sentence").oninput = judgeSoon;
  $("sentence-object").onchange = judgeSoon;
  const frame = $("frame");
  frame.onpointerdown = press;
  frame.onpointermove = move;
  frame.onpointerup = release;
  frame.onmousedown = (event) => event.preventDefault();
  frame.onpointerleave = () => { view.pointer = null; draw(); };
  frame.oncontextmenu = (event) => event.preventDefault();
  frame.onkeydown = frameKey;
  frame.onfocus = () => { view.cursor ||= { x: Math.round(clip.size[1] / 2), y: Math.round(clip.size[0] / 2) }; draw(); };
  frame.onblur = () => { view.cursor = null; draw(); };
  const timeline = $("timeline");
  timeline.onpointerdown = pressTimeline;
  timeline.onpointermove = moveTimeline;
  timeline.onpointerup = releaseTimeline;
  timeline.onkeydown = timelineKey;
  $("audio").onplay = $("audio").onpause = follow;
  document.addEventListener("keydown", key);
  new ResizeObserver(() => draw()).observe($("stage"));
  listKeys();
}

wire();
loadTree().catch(complain);
