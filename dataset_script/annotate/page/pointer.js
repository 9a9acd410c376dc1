// The pointer on the frame and on the sound, and the keyboard's cursor in its place.

import { box, needObject, point, setSounding, setTime, stroke, takeCandidate } from "./actions.js";
import { draw } from "./drawing.js";
import { area, decode } from "./masks.js";
import { $, here, selected, view } from "./state.js";

function pixelOf(event) {
  const rect = $("frame").getBoundingClientRect();
  const [height, width] = here.clip.size;
  const clamp = (value, most) => Math.max(0, Math.min(most, value));
  return {
    x: clamp((event.clientX - rect.left) / view.scale, width - 1),
    y: clamp((event.clientY - rect.top) / view.scale, height - 1),
  };
}

function candidateAt({ x, y }) {
  if (here.candidates?.step !== view.step) return null;
  const at = Math.floor(y) * here.clip.size[1] + Math.floor(x);
  const hit = here.candidates.candidates.filter((one) => decode(one.counts, here.clip.size)[at]);
  return hit.sort((one, other) => area(one.counts) - area(other.counts))[0] || null;
}

export function press(event) {
  event.preventDefault(); // the frame takes no focus: arrow keys go on changing frames
  if (!here.clip) return;
  document.activeElement?.blur();
  view.cursor = null;
  const place = pixelOf(event);
  const candidate = candidateAt(place);
  if (candidate) return takeCandidate(candidate);
  if (view.tool === "point") return point(place.x, place.y, event.button === 0 && !event.shiftKey);
  if (!needObject()) return;
  $("frame").setPointerCapture(event.pointerId);
  here.drag = view.tool === "box" ? { kind: "box", ...place } : { kind: "stroke", points: [[place.x, place.y]] };
  draw();
}

export function move(event) {
  if (!here.clip) return;
  view.pointer = pixelOf(event);
  if (here.drag?.kind === "stroke") here.drag.points.push([view.pointer.x, view.pointer.y]);
  draw();
}

export function release(event) {
  if (!here.drag || here.drag.kind === "interval") return;
  const place = pixelOf(event);
  const done = here.drag;
  here.drag = null;
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

export function pressTimeline(event) {
  event.preventDefault();
  document.activeElement?.blur();
  const time = timeOf(event);
  $("timeline").setPointerCapture(event.pointerId);
  const edge = edgeAt(time);
  if (edge) here.drag = { kind: "interval", moved: true, to: time, ...edge };
  else here.drag = { kind: "interval", moved: false, from: time, to: time, x: event.clientX, others: selected()?.sounding || [] };
}

export function moveTimeline(event) {
  if (here.drag?.kind !== "interval") {
    $("timeline").style.cursor = edgeAt(timeOf(event)) ? "ew-resize" : "text";
    return;
  }
  here.drag.to = timeOf(event);
  here.drag.moved ||= Math.abs(event.clientX - here.drag.x) > 4;
  if (here.drag.moved) draw();
}

export function releaseTimeline() {
  if (here.drag?.kind !== "interval") return;
  const done = here.drag;
  here.drag = null;
  if (!done.moved) return setTime(done.from);
  if (needObject()) setSounding([...done.others, [done.from, done.to]]);
  draw();
}

// While the frame has the focus, the arrow keys move a cursor, and Enter does what a click does.
export function frameKey(event) {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const [height, width] = here.clip.size;
  view.cursor ||= { x: Math.round(width / 2), y: Math.round(height / 2) };
  if (moves[event.key]) {
    const stride = event.shiftKey ? 1 : Math.max(2, Math.round(Math.max(width, height) / 64));
    const [dx, dy] = moves[event.key];
    view.cursor.x = Math.max(0, Math.min(width - 1, view.cursor.x + dx * stride));
    view.cursor.y = Math.max(0, Math.min(height - 1, view.cursor.y + dy * stride));
    if (here.drag?.kind === "stroke") here.drag.points.push([view.cursor.x, view.cursor.y]);
    $("frame").setAttribute("aria-label", `Frame, cursor at ${view.cursor.x}, ${view.cursor.y}`);
  } else if (event.key === "Enter") {
    enter(event.shiftKey);
  } else if (event.key === "Escape") {
    if (here.drag) here.drag = null;
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
  if (!here.drag) {
    here.drag = view.tool === "box" ? { kind: "box", x, y } : { kind: "stroke", points: [[x, y]] };
    return;
  }
  const done = here.drag;
  here.drag = null;
  if (done.kind === "box") box(done.x, done.y, x, y);
  else stroke(done.points);
}

export function timelineKey(event) {
  const moves = { ArrowLeft: -0.1, ArrowRight: 0.1, ArrowDown: -0.1, ArrowUp: 0.1, Home: -10, End: 10 };
  if (!(event.key in moves)) return;
  setTime(view.time + moves[event.key]);
  event.preventDefault();
  event.stopPropagation();
}
