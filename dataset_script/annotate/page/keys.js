// What each key does.

import {
  cancel, compare, detect, goTo, markEnd, markStart, needObject, ofStep, play, removeInterval,
  selectObject, setTime, setTool, showJudgement, suggest, track, undo, writeTree,
} from "./actions.js";
import { act, stepClip } from "./clips.js";
import { draw } from "./drawing.js";
import { calm, complain } from "./server.js";
import { $, here, make, view } from "./state.js";

const focusOn = (id) => () => $(id).focus();
const resize = (by) => () => {
  view.size = Math.max(1, Math.min(80, view.size + by));
  here.render();
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
  [here.candidates, here.intervalStart, here.gesture, here.drag] = [null, null, null, null];
  if (here.editing !== null) {
    here.editing = null;
    $("sentence").value = "";
    showJudgement(null);
  }
  here.suggested = [];
  document.activeElement?.blur();
  here.render();
}

function keyName(event) {
  if (/^[0-9]$/.test(event.key)) return "0 … 9";
  return { " ": "Space", Backspace: "Delete" }[event.key] || event.key;
}

export function key(event) {
  if (!here.tree || document.querySelector("dialog[open]") || event.isComposing) return;
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

export function listKeys() {
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
