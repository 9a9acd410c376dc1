"""The object alone, its shape alone, or all around it blurred: pictures for editing, of the video's
own size.

Several sentences are taken together: what any of them means is the object. Where nothing fits there
is no object.
"""

import math
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ..inference.live import LiveAnswer, LiveSecond, LiveSource
from ..inference.segment import VideoSegmentation
from ..modeling_outputs_refavs import RefAVSStreamOutput
from ..video_refavs import VideoInfo, read_frames, read_sound
from .overlay import PAPER, Captions, colour_of, font_of, tint_of
from .video_writer import (
    SOUND_LAYOUT,
    SOUND_RATE,
    TRANSPARENT_SUFFIXES,
    FrameFolderWriter,
    VideoWriter,
    write_frame_folder,
    write_video,
)


BLUR = 1 / 40  # standard deviation, of the picture's longer side
# standard deviation in pixels at which a picture is blurred: a larger one is shrunk until that is enough
FINE = 4


class Composite:
    """Draws a video's pictures in one of the modes `cutout`, `matte` and `blur-rest`.

    Args:
        segmentation: of [`segment_video`].
        mode: see [`cut_out`], [`draw_matte`] and [`blur_rest`].
        transparent: whether a cutout has an alpha channel, or black around the object.
    """

    def __init__(self, segmentation: VideoSegmentation, mode: str, transparent: bool = False):
        self.segmentation, self.size = segmentation, segmentation.info.size
        self.mode, self.transparent = mode, transparent
        self._mask = lru_cache(maxsize=1)(lambda step: segmentation.masks(step).any(axis=0))

    def draw(self, rgb: np.ndarray, time: float) -> np.ndarray:
        """A frame `(height, width, 3)` uint8 on display at `time` (s) to `(height, width, 3)`, or 4
        where transparent."""
        mask = self._mask(self.segmentation.step_at(time))
        if self.mode == "matte":
            return draw_matte(mask)
        if self.mode == "blur-rest":
            return blur_rest(rgb, mask)
        picture = cut_out(rgb, mask)
        return picture if self.transparent else picture[..., :3]


def cut_out(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`rgb (h, w, 3)` uint8 where `mask (h, w)`, black and fully transparent elsewhere: `(h, w, 4)`
    uint8."""
    return np.where(
        mask[..., None], np.dstack([rgb, np.full(mask.shape, 255, np.uint8)]), np.uint8(0)
    )


def draw_matte(mask: np.ndarray) -> np.ndarray:
    """`mask (h, w)` white on black: `(h, w, 3)` uint8."""
    return np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=-1)


def blur_rest(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`rgb (h, w, 3)` uint8, blurred but where `mask (h, w)`; the object's colours do not run into
    what is around it."""
    if mask.all():
        return rgb
    rest = cut_out(rgb, ~mask)
    deviation = max(mask.shape) * BLUR
    shrink = max(1, round(deviation / FINE))
    # Premultiplied ("RGBa"): the blur is a mean over what is not the object.
    blurred = (
        Image.fromarray(rest)
        .convert("RGBa")
        .reduce(shrink)
        .filter(ImageFilter.GaussianBlur(deviation / shrink))
    )
    blurred = (
        blurred.convert("RGBA").convert("RGB").resize(mask.shape[::-1], Image.Resampling.BICUBIC)
    )
    return np.where(mask[..., None], rgb, np.asarray(blurred))


MODES = ("overlay", "cutout", "matte", "blur-rest")
SMALLEST_CANVAS = 360  # pixels; below it a caption could not be read


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
        mode: `overlay`: each second's masks in colour, the sentences under the picture. `cutout`:
            the object alone, on nothing in a .webm and on black elsewhere. `matte`: the object
            white on black.
            `blur-rest`: all but the object blurred. The last three have the video's own size, and
            take several sentences together.

    Raises:
        ValueError: the suffix is another, or the mode.
    """
    info, transparent = (
        segmentation.info,
        _is_transparent(mode) and Path(path).suffix.lower() in TRANSPARENT_SUFFIXES,
    )
    scene = _make_scene(segmentation, mode, transparent)
    sound = (
        read_sound(info, SOUND_RATE, SOUND_LAYOUT, info.start_time) if info.has_audio else None
    )
    with write_video(path, scene.size, info.frame_rate, sound, transparent) as video:
        _draw_all(scene, info, video, progress)


def render_frames(
    segmentation: VideoSegmentation,
    folder: str | Path,
    progress: Callable[[int], None] | None = None,
    mode: str = "overlay",
) -> None:
    """As [`render_video`], but a PNG for each picture of the video, cutouts transparent; a folder
    has no sound."""
    with write_frame_folder(folder) as frames:
        _draw_all(
            _make_scene(segmentation, mode, _is_transparent(mode)),
            segmentation.info,
            frames,
            progress,
        )


def _is_transparent(mode: str) -> bool:
    return mode == "cutout"


def _make_scene(
    segmentation: VideoSegmentation, mode: str, transparent: bool
) -> "Scene | Composite":
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    return Scene(segmentation) if mode == "overlay" else Composite(segmentation, mode, transparent)


def _draw_all(
    scene: "Scene | Composite",
    video: VideoInfo,
    writer: VideoWriter | FrameFolderWriter,
    progress: Callable[[int], None] | None,
) -> None:
    second = 0
    for frame in read_frames(video):
        writer.write(scene.draw(frame.rgb, frame.time), frame.time, frame.end)
        if progress and int(frame.end) > second:
            progress(int(frame.end) - second)
            second = int(frame.end)


class Scene:
    """The layout of an overlay: a picture, enlarged if tiny, over its captions."""

    def __init__(self, segmentation: VideoSegmentation):
        self.segmentation = segmentation
        width, height = segmentation.info.width, segmentation.info.height
        scale = max(1, math.ceil(SMALLEST_CANVAS / max(width, height)))
        self.picture_size = (width * scale, height * scale)
        canvas_width = max(self.picture_size[0], SMALLEST_CANVAS)
        font_size = max(15, round(min(canvas_width, max(self.picture_size)) / 40))
        intervals = [
            segmentation.intervals(index) for index in range(len(segmentation.expressions))
        ]
        self.captions = Captions(
            segmentation.expressions, intervals, segmentation.duration, canvas_width, font_size
        )
        self.size = (canvas_width, self.picture_size[1] + self.captions.height)
        self._second = lru_cache(maxsize=1)(self._draw_second)

    def draw(self, rgb: np.ndarray, time: float) -> np.ndarray:
        """A frame `(height, width, 3)` uint8 on display at `time` (s) to the whole scene, of
        `self.size`."""
        tint, opacity, canvas = self._second(self.segmentation.step_at(time))
        picture, corner = Image.fromarray(rgb), ((self.size[0] - self.picture_size[0]) // 2, 0)
        if picture.size != self.picture_size:
            picture = picture.resize(self.picture_size, Image.Resampling.BICUBIC)
        canvas.paste(picture, corner)
        canvas.paste(tint, corner, mask=opacity)
        return np.asarray(canvas)

    def _draw_second(self, step: int) -> tuple[Image.Image, Image.Image, Image.Image]:
        """The masks' colours and opacity in a second, and a canvas with its captions."""
        tint = tint_of(self.segmentation.masks(step, self.picture_size))
        canvas = Image.new("RGB", self.size, PAPER)
        canvas.paste(self.captions.draw(self.segmentation.time_of(step)), (0, self.picture_size[1]))
        return tint.convert("RGB"), tint.getchannel("A"), canvas


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
        for frame in second.pictures:
            picture = Image.fromarray(frame.rgb)
            if self.layer:
                picture.paste(self.layer, mask=self.layer)
            self.video.write(np.asarray(picture), frame.time, frame.end)

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
