// All that stands around the frame, drawn anew after each action.

import { aboutText, goTo, judge, removeInterval, takeCandidate } from "./actions.js";
import { act } from "./clips.js";
import { draw } from "./drawing.js";
import { $, STEPS, here, make, range, selected, shotOf, shots, view } from "./state.js";

export function render() {
  if (!here.clip) return;
  $("clip-name").textContent = here.clip.clip_id;
  $("clip-state").textContent = here.clip.state;
  $("clip-state").className = `state ${here.clip.state}`;
  $("clip-state").title = here.clip.missing.join("; ");
  $("split").value = here.clip.split;
  $("undo").disabled = !here.clip.can.undo;
  $("redo").disabled = !here.clip.can.redo;
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
  if (here.tree.review) return reviewStep();
  if (here.candidates?.step === view.step) return "Click on an outline to take it, or choose one by Tab and Enter. Escape leaves them.";
  if (here.intervalStart !== null) return `The interval begins at ${here.intervalStart.toFixed(1)} s: move the playhead and press O where it ends.`;
  if (!thing)
    return here.tree.can_detect
      ? "Name the first object on the right (N), or find candidates on this frame (D) and take one."
      : "Name the first object on the right (N): what it is, and its group.";
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
  if (!thing.sounding.length && here.clip.sentences.length === 0)
    return `Does the ${name} sound? Drag over the waveform where it does. Then name the next object, or write sentences.`;
  if (!here.clip.sentences.length) return "Write a sentence that means one of the objects (S), or take a suggestion (G).";
  if (here.clip.missing.length) return `Still to do: ${here.clip.missing.join("; ")}.`;
  return "This clip is ready: Page Down opens the next. Write tree (Shift+W) makes a data set of all.";
}

function reviewStep() {
  if (here.comparison) return `Dashed outlines are ${here.tree.review}’s masks; A hides them. Page Down opens the next clip.`;
  return `Review of ${here.tree.review}: mark each object anew on the frames with “?”, then see the agreement (A).`;
}

// A few frames that a review is asked for: the middle of each shot, and of the longest the ends too.
function askedSteps() {
  const middles = shots().map((shot) => shot[Math.floor(shot.length / 2)]);
  const longest = shots().reduce((one, other) => (other.length > one.length ? other : one));
  return [...new Set([...middles, longest[0], longest[longest.length - 1]])].sort((a, b) => a - b);
}

function renderStrip() {
  if (view.listed !== here.clip.clip_id) {
    $("strip").replaceChildren(...range(0, STEPS).map(makeStep));
    view.listed = here.clip.clip_id;
  }
  [...$("strip").children].forEach((cell, step) => {
    const button = cell.querySelector(".picture");
    const said = here.clip.objects.map((thing) => `${thing.category} ${thing.states[step]}`);
    button.setAttribute("aria-label", [`Frame ${step}`, ...said].join(", "));
    button.title = [`Frame ${step}`, ...said].join("\n");
    button.setAttribute("aria-current", step === view.step);
    cell.classList.toggle("asked", Boolean(here.tree.review) && askedSteps().includes(step));
    cell.querySelector(".marks").replaceChildren(...here.clip.objects.map((thing) => markOf(thing, step)));
    const shot = cell.querySelector(".shot");
    if (!shot) return;
    shot.setAttribute("aria-pressed", here.clip.shots.includes(step));
    shot.classList.toggle("proposed", here.clip.proposed_shots.includes(step));
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
  const shown = here.candidates?.step === view.step ? here.candidates.candidates : [];
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
    ...here.clip.objects.map((thing) => {
      const row = make("li");
      row.classList.toggle("selected", thing.fid === view.fid);
      const radio = make("input", { type: "radio", name: "object", "aria-label": `Select ${thing.category} (object ${thing.fid})` });
      radio.checked = thing.fid === view.fid;
      const choose = () => {
        if (view.fid === thing.fid) return;
        view.fid = thing.fid;
        here.gesture = null;
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
    ...here.clip.objects.map((thing) => new Option(`${thing.category} (${thing.fid})`, thing.fid)),
    new Option("nothing in this clip", ""),
  );
  const there = chosen === "" || here.clip.objects.some((thing) => String(thing.fid) === chosen);
  select.value = there && $("sentence").value.trim() ? chosen : (view.fid ?? "");
  $("add-sentence").textContent = here.editing === null ? "Add" : "Change";
  $("sentences").replaceChildren(...here.clip.sentences.map(sentenceRow));
  $("suggestions").replaceChildren(
    ...here.suggested.map((text) => {
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
  const thing = here.clip.objects.find((other) => other.fid === one.fid);
  const swatch = make("span", { class: "swatch", title: thing?.category || "nothing in this clip" });
  if (thing) swatch.style.background = thing.colour;
  const edit = make("button", { "aria-label": `Edit the sentence: ${one.text}`, title: "Edit" }, "✎");
  edit.onclick = () => {
    here.editing = index;
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
