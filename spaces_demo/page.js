// A lane moves the video to where it is clicked, or by arrow keys, and shows where the video is.
const overlayVideo = () => document.querySelector("#overlay video");

function seek(lane, seconds) {
  const video = overlayVideo(), end = Number(lane.ariaValueMax);
  if (video) video.currentTime = Math.min(Math.max(seconds, 0), end - 0.05);
}

document.addEventListener("click", event => {
  const lane = event.target.closest?.(".lane");
  if (!lane) return;
  const box = lane.getBoundingClientRect();
  seek(lane, (event.clientX - box.left) / box.width * Number(lane.ariaValueMax));
});

document.addEventListener("keydown", event => {
  const lane = event.target.closest?.(".lane"), video = overlayVideo();
  const step = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1}[event.key];
  if (!lane || !video || !(step || event.key === " ")) return;
  event.preventDefault();
  if (step) seek(lane, video.currentTime + step);
  else if (video.paused) video.play();
  else video.pause();
});

for (const name of ["timeupdate", "seeking"]) {
  document.addEventListener(name, event => {
    if (event.target !== overlayVideo()) return;
    for (const lane of document.querySelectorAll(".lane")) {
      const now = event.target.currentTime, end = Number(lane.ariaValueMax);
      lane.style.setProperty("--now", Math.min(now / end, 1));
      lane.ariaValueNow = now.toFixed(1);
    }
  }, true);
}

// Not gradio's own scrolling, which is switched off on a Space; there the page lies in a frame that
// is as high as it, and the frame's owner scrolls.
window.showAnswer = () => setTimeout(() => {
  const result = document.querySelector("#result");
  if (window.parentIFrame) window.parentIFrame.scrollToOffset(0, result.offsetTop);
  else result.scrollIntoView({block: "start"});
}, 100);
