// The frame, the thumbnails and the sound.

import { picture } from "./masks.js";
import { $, here, radius, selected, view } from "./state.js";

function fit() {
  const stage = $("stage").getBoundingClientRect();
  const [height, width] = here.clip.size;
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

export function draw(emphasised = null) {
  if (!here.clip || !here.frames.length) return;
  const ratio = fit();
  const pen = $("frame").getContext("2d");
  pen.setTransform(ratio * view.scale, 0, 0, ratio * view.scale, 0, 0);
  const [height, width] = here.clip.size;
  if (here.frames[view.step].complete && here.frames[view.step].naturalWidth) pen.drawImage(here.frames[view.step], 0, 0, width, height);
  if (view.masks) drawMasks(pen, emphasised);
  drawGesture(pen, 1 / view.scale);
  drawThumbnails();
  drawTimeline();
}

function drawMasks(pen, emphasised) {
  for (const thing of here.clip.objects) {
    const counts = thing.masks[view.step];
    if (!counts) continue;
    pen.globalAlpha = thing.fid === view.fid ? 1 : 0.75;
    pen.drawImage(maskPicture(thing, view.step), 0, 0);
  }
  pen.globalAlpha = 1;
  for (const [index, one] of (here.comparison?.objects || []).entries()) {
    const counts = one.masks[view.step];
    if (counts) pen.drawImage(picture(`theirs ${index} ${view.step}`, counts, here.clip.size, "#ffffff", { fill: 0, dashed: true }), 0, 0);
  }
  if (here.candidates?.step === view.step)
    for (const [index, candidate] of here.candidates.candidates.entries()) {
      const fill = candidate === emphasised ? 0.6 : 0.08;
      pen.drawImage(picture(`candidate ${index} ${fill}`, candidate.counts, here.clip.size, "#ffffff", { fill }), 0, 0);
    }
}

const maskPicture = (thing, step) => picture(`${thing.fid} ${step}`, thing.masks[step], here.clip.size, thing.colour);

// Lines are `unit` wide: one pixel of the screen.
function drawGesture(pen, unit) {
  pen.lineWidth = 2 * unit;
  if (here.gesture && here.gesture.step === view.step && here.gesture.fid === view.fid) {
    if (here.gesture.box.length) {
      const [left, top, right, bottom] = here.gesture.box;
      pen.strokeStyle = "#ffffff";
      pen.setLineDash([6 * unit, 4 * unit]);
      pen.strokeRect(left, top, right - left, bottom - top);
      pen.setLineDash([]);
    }
    for (const [x, y, on] of here.gesture.points) {
      disc(pen, x, y, 5 * unit, on ? "#2fbf5b" : "#e0403a");
      pen.fillStyle = "#fff";
      pen.font = `bold ${9 * unit}px sans-serif`;
      pen.textAlign = "center";
      pen.fillText(on ? "+" : "−", x, y + 3 * unit);
    }
  }
  const tip = view.cursor || view.pointer;
  if (here.drag?.kind === "box" && tip) {
    pen.strokeStyle = "#fff";
    pen.strokeRect(here.drag.x, here.drag.y, tip.x - here.drag.x, tip.y - here.drag.y);
  }
  if (here.drag?.kind === "stroke") {
    pen.strokeStyle = view.tool === "eraser" ? "#0009" : `${selected()?.colour}99`;
    pen.lineWidth = 2 * radius();
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    here.drag.points.forEach(([x, y], index) => (index ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    if (here.drag.points.length === 1) pen.lineTo(here.drag.points[0][0] + 0.01, here.drag.points[0][1]);
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
  const [height, width] = here.clip.size;
  [...$("strip").children].forEach((cell, step) => {
    const canvas = cell.querySelector("canvas");
    const pen = canvas.getContext("2d");
    if (!here.frames[step].complete || !here.frames[step].naturalWidth) return;
    const scale = Math.min(canvas.width / width, canvas.height / height);
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.setTransform(scale, 0, 0, scale, (canvas.width - width * scale) / 2, (canvas.height - height * scale) / 2);
    pen.drawImage(here.frames[step], 0, 0, width, height);
    if (view.masks)
      for (const thing of here.clip.objects) if (thing.masks[step]) pen.drawImage(maskPicture(thing, step), 0, 0);
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
  if (here.spectrogram?.complete && here.spectrogram.naturalWidth) pen.drawImage(here.spectrogram, 0, LANES + WAVE, width, height - LANES - WAVE);
  pen.fillStyle = "#b9c4cf";
  here.peaks.forEach((peak, index) => {
    const reach = Math.max(0.5, (peak * (WAVE - 4)) / 2);
    pen.fillRect((index / here.peaks.length) * width, LANES + WAVE / 2 - reach, Math.max(1, width / here.peaks.length), 2 * reach);
  });
  drawIntervals(pen, at);
  for (const step of here.clip.shots) vertical(pen, at(step), height, "#ff8177", 2);
  if (here.intervalStart !== null) vertical(pen, at(here.intervalStart), height, "#ffe119", 2);
  vertical(pen, at(view.time), height, "#6cb2ff", 2);
}

function drawIntervals(pen, at) {
  const lane = LANES / Math.max(1, here.clip.objects.length);
  here.clip.objects.forEach((thing, index) => {
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
  if (thing.fid !== view.fid || here.drag?.kind !== "interval") return thing.sounding;
  return [...here.drag.others, [Math.min(here.drag.from, here.drag.to), Math.max(here.drag.from, here.drag.to)]];
}

function vertical(pen, x, height, colour, width) {
  pen.fillStyle = colour;
  pen.fillRect(x - width / 2, 0, width, height);
}
