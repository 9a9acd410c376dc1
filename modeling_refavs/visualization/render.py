"""A segmented video drawn again, as a video or as a folder of PNGs, in one of four modes: the
objects in colour over captions, the object alone, its shape alone, or all but it blurred.

The last three have the video's own size and take several expressions together: what any of them
refers to is the object. Where nothing fits there is no object.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ..inference.export import write_outputs
from ..inference.live import LiveAnswer, LiveSecond, LiveSource
from ..inference.segment import STANDING, MaskedFrame, VideoSegmentation
from ..modeling_outputs_refavs import RefAVSStreamOutput
from ..video_refavs import VideoInfo, VideoSource, read_sound
from .overlay import PAPER, Captions, colour_of, draw_tint, font_of, tint_of
from .video_writer import (
    SOUND_LAYOUT,
    SOUND_RATE,
    TRANSPARENT_SUFFIXES,
    VideoWriter,
    check_size,
    write_frame_folder,
    write_video,
)
from .yuv import Layer, blank_frame, from_rgb, pad_to_even, paste, planes_of, read_planes


MODES = ("overlay", "cutout", "matte", "blur-rest")
MIN_CANVAS = 360  # pixels; below it a caption could not be read
BLUR = 1 / 40  # standard deviation, of the frame's longer side
# Standard deviation in pixels at which a frame is blurred: a larger one is shrunk until that is
# enough.
FINE_BLUR = 4


def cut_out(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return `rgb (h, w, 3)` uint8 where `mask (h, w)`, black and fully transparent elsewhere:
    `(h, w, 4)` uint8."""
    opaque = np.dstack([rgb, np.full(mask.shape, 255, np.uint8)])
    return np.where(mask[..., None], opaque, np.uint8(0))


def draw_matte(mask: np.ndarray) -> np.ndarray:
    """Return `mask (h, w)` white on black: `(h, w, 3)` uint8."""
    return np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=-1)


def blur_rest(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return `rgb (h, w, 3)` uint8, blurred but where `mask (h, w)`; the object's colours do not
    run into what is around it."""
    if mask.all():
        return rgb
    deviation = max(mask.shape) * BLUR
    shrink = max(1, round(deviation / FINE_BLUR))
    # Premultiplied ("RGBa"): the blur is a mean over what is not the object.
    rest = Image.fromarray(cut_out(rgb, ~mask)).convert("RGBa").reduce(shrink)
    blurred = rest.filter(ImageFilter.GaussianBlur(deviation / shrink)).convert("RGBA")
    blurred = blurred.convert("RGB").resize(mask.shape[::-1], Image.Resampling.BICUBIC)
    return np.where(mask[..., None], rgb, np.asarray(blurred))


class Composite:
    """Draws frames in one of the modes `cutout`, `matte` and `blur-rest`.

    Args:
        segmentation: of [`segment_video`].
        mode: see [`cut_out`], [`draw_matte`] and [`blur_rest`].
        transparent: whether a cutout has an alpha channel, or black around the object.
    """

    def __init__(self, segmentation: VideoSegmentation, mode: str, transparent: bool):
        self.size, self.mode, self.transparent = segmentation.info.size, mode, transparent
        self._step: int | None = None
        self._layer: Layer | None = None

    def draw(self, item: MaskedFrame) -> np.ndarray:
        """Return `(height, width, 3)` uint8, or 4 channels where transparent."""
        self._begin(item)
        if self.mode == "matte":
            return draw_matte(self._mask)
        if self.mode == "blur-rest":
            return blur_rest(item.frame.rgb, self._mask)
        picture = cut_out(item.frame.rgb, self._mask)
        return picture if self.transparent else picture[..., :3]

    def draw_yuv(self, item: MaskedFrame) -> av.VideoFrame | np.ndarray:
        """Return the same as yuv420p, or where it is drawn in RGB as [`draw`] does."""
        if self.mode == "blur-rest" or self.transparent:
            return self.draw(item)
        self._begin(item)
        frame, planes = blank_frame(self.size)
        if self.mode == "cutout":
            paste(planes, read_planes(item.frame))
        if self._layer is None:
            kept = self._mask if self.mode == "cutout" else np.zeros_like(self._mask)
            self._layer = Layer(cut_out(draw_matte(self._mask), ~kept))
        self._layer.blend(planes)
        return frame

    def _begin(self, item: MaskedFrame) -> None:
        if item.step != self._step:
            self._step, self._mask, self._layer = item.step, item.masks.any(axis=0), None


def lay_out(
    info: VideoInfo, expressions: Sequence[str], duration: float = 1.0
) -> tuple[tuple[int, int], Captions, tuple[int, int]]:
    """Of an overlay: the frame's size, the captions, and the size of both, (width, height) each."""
    width, height = info.size
    scale = max(1, math.ceil(MIN_CANVAS / max(width, height)))
    frame_size = (width * scale, height * scale)
    canvas_width = max(frame_size[0] + frame_size[0] % 2, MIN_CANVAS)
    font_size = max(15, round(min(canvas_width, max(frame_size)) / 40))
    captions = Captions(expressions, duration, canvas_width, font_size)
    top = frame_size[1] + frame_size[1] % 2
    return frame_size, captions, (canvas_width, top + captions.height)


class Overlay:
    """Draws frames with the objects in colour, enlarged if tiny, over the captions.

    Args:
        segmentation: of [`segment_video`].
    """

    def __init__(self, segmentation: VideoSegmentation):
        self.segmentation = segmentation
        info = segmentation.info
        self.frame_size, self.captions, self.size = lay_out(
            info, segmentation.expressions, info.duration or segmentation.duration
        )
        self._step: int | None = None
        self._layer: Layer | None = None  # of the step, in planes and
        self._tint: Image.Image | None = None  # in RGB, once it is needed
        self._caption: tuple[int, list[bool]] | None = None

    def draw(self, item: MaskedFrame) -> np.ndarray:
        """Return the frame and its captions: `(height, width, 3)` uint8, of `self.size`."""
        self._begin(item)
        picture = Image.fromarray(item.frame.rgb)
        if picture.size != self.frame_size:
            picture = picture.resize(self.frame_size, Image.Resampling.BICUBIC)
        canvas = Image.new("RGB", self.size, PAPER)
        canvas.paste(Image.fromarray(pad_to_even(np.asarray(picture))), self._corner)
        if self._tint is None:
            self._tint = tint_of(self._masks(item))
        canvas.paste(self._tint, self._corner, mask=self._tint)
        canvas.paste(self._band, (0, self.size[1] - self._band.height))
        return np.asarray(canvas)

    def draw_yuv(self, item: MaskedFrame) -> av.VideoFrame | np.ndarray:
        """Return the same as yuv420p, or where it is enlarged as [`draw`] does."""
        if self.frame_size != self.segmentation.info.size or self._corner[0]:
            return self.draw(item)
        self._begin(item)
        frame, planes = blank_frame(self.size)
        paste(planes, read_planes(item.frame))
        if self._layer is None:
            self._layer = Layer(*draw_tint(self._masks(item)))
        self._layer.blend(planes)
        paste(planes, self._band_planes, self.size[1] - self._band.height)
        return frame

    @property
    def _corner(self) -> tuple[int, int]:
        return (self.size[0] - self.frame_size[0]) // 2, 0

    def _begin(self, item: MaskedFrame) -> None:
        """Draw the captions, which all frames of a second share unless an object comes or goes in
        it; the colours of the masks are another step's."""
        if item.step == self._step:
            return
        self._step, self._layer, self._tint = item.step, None, None
        time = self.segmentation.time_of(item.step)
        self.captions.update(time, item.masks.any(axis=(1, 2)))
        caption = int(time), self.captions.present
        if caption != self._caption:
            self._caption, self._band = caption, self.captions.draw(time)
            self._band_planes = planes_of(from_rgb(np.asarray(self._band)))

    def _masks(self, item: MaskedFrame) -> np.ndarray:
        """Return a step's masks, of the size that frames are drawn in."""
        masks = item.masks
        if self.frame_size != self.segmentation.info.size:
            masks = self.segmentation.masks(item.step, self.frame_size)
        return np.stack([pad_to_even(mask) for mask in masks])


def make_drawer(
    segmentation: VideoSegmentation, mode: str, transparent: bool
) -> Overlay | Composite:
    """Return what draws frames in a mode; `ValueError` names the modes if there is no such one."""
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if mode == "overlay":
        return Overlay(segmentation)
    return Composite(segmentation, mode, transparent)


def check_video_size(
    info: VideoInfo, expressions: Sequence[str], path: str | Path, mode: str = "overlay"
) -> None:
    """Raise `ValueError` if no encoder takes what [`render_video`] would draw."""
    size = info.size
    if mode == "overlay":
        size = lay_out(info, expressions)[2]
    check_size(path, size)


@contextmanager
def rendered_video_writer(
    segmentation: VideoSegmentation,
    path: str | Path,
    mode: str = "overlay",
    encoder: str = "libx264",
    threads: int = 0,
) -> Iterator[Callable[[MaskedFrame], None]]:
    """Write a video; see [`render_video`] and, for the last two, [`write_video`]."""
    info = segmentation.info
    transparent = mode == "cutout" and Path(path).suffix.lower() in TRANSPARENT_SUFFIXES
    drawer = make_drawer(segmentation, mode, transparent)
    sources: list[VideoSource] = []  # of the first frame, where the sound is read

    def read() -> Iterator[np.ndarray]:
        yield from read_sound(sources[0], SOUND_RATE, SOUND_LAYOUT, info.start_time)

    options = (read() if info.has_audio else None, transparent, encoder, threads)
    with write_video(path, drawer.size, info.frame_rate, *options) as video:

        def write(item: MaskedFrame) -> None:
            sources[:] = sources or [item.source]
            if item.is_shown:
                video.write(drawer.draw_yuv(item), item.time, item.end)

        yield write


@contextmanager
def rendered_folder_writer(
    segmentation: VideoSegmentation, folder: str | Path, mode: str = "overlay"
) -> Iterator[Callable[[MaskedFrame], None]]:
    """Write a folder of PNGs; see [`render_frames`]."""
    drawer = make_drawer(segmentation, mode, transparent=True)
    with write_frame_folder(folder) as frames:

        def write(item: MaskedFrame) -> None:
            if item.is_shown and item.time == item.frame.time:
                frames.write(drawer.draw(item), item.frame.index)

        yield write


def render_video(
    segmentation: VideoSegmentation,
    path: str | Path,
    progress: Callable[[int], None] | None = None,
    mode: str = "overlay",
) -> None:
    """Write the video again, with the clip's own sound.

    Args:
        segmentation: of [`segment_video`].
        path: of the result: .mp4, .mov, .mkv or .webm. It appears when it is complete.
        progress: called with the number of seconds done.
        mode: `overlay`: the masks in colour, the expressions under the frame. `cutout`: the object
            alone, on nothing in a .webm and on black elsewhere. `matte`: the object white on black.
            `blur-rest`: all but the object blurred.

    Raises:
        ValueError: the suffix is another, or the mode.
    """
    write_outputs(segmentation, [rendered_video_writer(segmentation, path, mode)], progress)


def render_frames(
    segmentation: VideoSegmentation,
    folder: str | Path,
    progress: Callable[[int], None] | None = None,
    mode: str = "overlay",
) -> None:
    """Write what [`render_video`] does as a PNG a frame, cutouts transparent, under the frames' own
    numbers; a folder has no clock and no sound."""
    write_outputs(segmentation, [rendered_folder_writer(segmentation, folder, mode)], progress)


__all__ = [
    "MODES",
    "render_frames",
    "render_video",
    "rendered_folder_writer",
    "rendered_video_writer",
]


class _Blocks(deque):
    """Sound as an iterator that may run dry and go on later."""

    def __next__(self) -> np.ndarray:
        if not self:
            raise StopIteration
        return self.popleft()


class Recorder:
    """The source's own pictures and sound in a file, coloured with the newest answer; opened by the
    first second."""

    def __init__(self, path: Path, source: LiveSource):
        self.path, self.source, self.stack = path, source, ExitStack()
        self.video: VideoWriter | None = None
        self.sounds, self.num_sounds = _Blocks(), 0  # of a second each
        self.layer: Image.Image | None = None

    def __enter__(self) -> "Recorder":
        self.stack.__enter__()
        return self

    def __exit__(self, *failure) -> None:
        self.stack.__exit__(*failure)

    def record(self, answer: LiveAnswer) -> None:
        """Dropped seconds keep the masks from before."""
        for second in answer.dropped:
            self._write(second)
        self.layer = self._draw_layer(answer.output)
        self._write(answer.second)

    def _write(self, second: LiveSecond) -> None:
        if self.video is None:
            sound = self.sounds if self.source.has_sound else None
            writer = write_video(self.path, second.frame.size, self.source.frame_rate, sound)
            self.video = self.stack.enter_context(writer)
        if self.source.has_sound:
            self._add_sound(second.number, second.sounds[1])
        shown = [(frame, frame.time, frame.end) for frame in second.pictures]
        begin = shown[0][1] if shown else second.number + 1.0
        if begin - second.number > STANDING:
            shown.insert(0, (second.frame, second.number, begin))
        for frame, time, end in shown:
            picture = Image.fromarray(frame.rgb)
            if self.layer:
                picture.paste(self.layer, mask=self.layer)
            self.video.write(np.asarray(picture), time, end)

    def _add_sound(self, number: int, samples: np.ndarray) -> None:
        """Silence stands for seconds that were lost, and for what has not come."""
        silence = np.zeros((2, SOUND_RATE), dtype=np.float32)
        while self.num_sounds < number:
            self.sounds.append(silence)
            self.num_sounds += 1
        self.sounds.append(np.concatenate([samples, silence], axis=1)[:, :SOUND_RATE])
        self.num_sounds += 1

    def _draw_layer(self, output: RefAVSStreamOutput) -> Image.Image:
        """The masks, and each sentence in its colour behind a full disc or, where its object is not
        there, a ring."""
        layer = tint_of(output.masks)
        pen, unit = ImageDraw.Draw(layer), max(12, layer.height // 24)
        for index, (text, mask) in enumerate(zip(output.expressions, output.masks, strict=True)):
            top, colour = unit * (0.4 + 1.4 * index), colour_of(index)
            disc = (unit * 0.4, top + unit * 0.15, unit * 1.2, top + unit * 0.95)
            pen.ellipse(
                disc, fill=colour if mask.any() else None, outline=colour, width=max(1, unit // 8)
            )
            pen.text(
                (unit * 1.7, top),
                text,
                font=font_of(unit),
                fill=colour,
                stroke_width=2,
                stroke_fill=PAPER,
            )
        return layer
