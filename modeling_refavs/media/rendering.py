"""A segmented video made visible: the clip again, in one of four modes, with its own sound."""

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from .compositing import Composite
from .frame_folder import FrameFolderWriter, write_frame_folder
from .frames import read_frames
from .overlay import PAPER, Captions, tint_of
from .segmentation import VideoSegmentation
from .sound import read_sound
from .writing import SOUND_LAYOUT, SOUND_RATE, TRANSPARENT_SUFFIXES, VideoWriter, write_video


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
        mode: `overlay`: each second's masks in colour, the sentences under the picture. `cutout`: the object alone, on
            nothing in a .webm and on black elsewhere. `matte`: the object white on black. `blur-rest`: all but the object
            blurred. The last three have the video's own size, and take several sentences together.

    Raises:
        ValueError: the suffix is another, or the mode.
    """
    info, transparent = segmentation.info, _is_transparent(mode) and Path(path).suffix.lower() in TRANSPARENT_SUFFIXES
    scene = _make_scene(segmentation, mode, transparent)
    sound = read_sound(info.path, SOUND_RATE, SOUND_LAYOUT, info.start_time) if info.has_audio else None
    with write_video(path, scene.size, info.frame_rate, sound, transparent) as video:
        _draw_all(scene, info.path, video, progress)


def render_frames(
    segmentation: VideoSegmentation,
    folder: str | Path,
    progress: Callable[[int], None] | None = None,
    mode: str = "overlay",
) -> None:
    """As [`render_video`], but a PNG for each picture of the video, cutouts transparent; a folder has no sound."""
    with write_frame_folder(folder) as frames:
        _draw_all(_make_scene(segmentation, mode, _is_transparent(mode)), segmentation.info.path, frames, progress)


def _is_transparent(mode: str) -> bool:
    return mode == "cutout"


def _make_scene(segmentation: VideoSegmentation, mode: str, transparent: bool) -> "Scene | Composite":
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    return Scene(segmentation) if mode == "overlay" else Composite(segmentation, mode, transparent)


def _draw_all(
    scene: "Scene | Composite",
    video: Path,
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
        intervals = [segmentation.intervals(index) for index in range(len(segmentation.expressions))]
        self.captions = Captions(segmentation.expressions, intervals, segmentation.duration, canvas_width, font_size)
        self.size = (canvas_width, self.picture_size[1] + self.captions.height)
        self._second = lru_cache(maxsize=1)(self._draw_second)

    def draw(self, rgb: np.ndarray, time: float) -> np.ndarray:
        """A frame `(height, width, 3)` uint8 on display at `time` (s) to the whole scene, of `self.size`."""
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
