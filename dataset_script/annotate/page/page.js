// The page of `refavs annotate`. What is annotated lives on the server: each action is sent, saved
// there, and answered by the clip as it is then.

import {
  addObject, addSentence, cancel, compare, detect, follow, groupOf, judgeSoon, needObject, ofStep,
  play, setTool, suggest, track, undo, writeTree,
} from "./actions.js";
import { act, listClips, loadTree } from "./clips.js";
import { draw } from "./drawing.js";
import { key, listKeys } from "./keys.js";
import { render } from "./panels.js";
import {
  frameKey, move, moveTimeline, press, pressTimeline, release, releaseTimeline, timelineKey,
} from "./pointer.js";
import { calm, complain } from "./server.js";
import { $, here, view } from "./state.js";

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
  frame.onfocus = () => { view.cursor ||= { x: Math.round(here.clip.size[1] / 2), y: Math.round(here.clip.size[0] / 2) }; draw(); };
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

here.render = render;
wire();
loadTree().catch(complain);
