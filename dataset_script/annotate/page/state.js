// What the page looks at; nothing that is annotated lives here.

export const STEPS = 10;
export const $ = (id) => document.getElementById(id);

export const here = {
  tree: null, // what /api/clips says
  clip: null, // what /api/clips/<id> says
  peaks: [],
  frames: [], // pictures of the clip
  spectrogram: null,
  candidates: null, // {step, candidates} of the last detection
  comparison: null, // masks of the reviewed annotator
  gesture: null, // {fid, step, box, points} that the next click goes on with
  drag: null, // of the pointer, or of the keyboard's cursor
  intervalStart: null, // s, set by I
  suggested: [],
  editing: null, // number of the sentence that is edited
  render: () => {}, // all panels anew: page.js sets it
};

export const view = {
  clip_id: null, step: 0, time: 0, fid: null, tool: "point", size: 10, masks: true, scale: 1,
  cursor: null, pointer: null, listed: null,
};

export const selected = () => here.clip?.objects.find((thing) => thing.fid === view.fid) || null;

export function shots() {
  const starts = [0, ...here.clip.shots, STEPS];
  return starts.slice(0, -1).map((start, index) => range(start, starts[index + 1]));
}

export const range = (start, end) => Array.from({ length: end - start }, (_, index) => start + index);

export const shotOf = (step) => shots().find((shot) => shot.includes(step));

// In pixels of the frame; the slider counts thousandths of its longer side.
export const radius = () => Math.max(0.5, (view.size * Math.max(...here.clip.size)) / 1000);

export function make(tag, attributes = {}, text = "") {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  return element;
}
