"""One picture that shows a whole segmented video: a row of frames for each expression, and the
waveform below, in which each object is marked where it is the one that is heard."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..inference.segment import PEAKS, MaskedFrame, VideoSegmentation
from ..utils.files import whole_file
from ..video_refavs import SHORTEST_STEP
from .overlay import FAINT, INK, NOTHING, PAPER, colour_of, font_of, tint_of, wrap


MAX_COLUMNS = 10
THUMBNAIL = (160, 200)  # pixels, at most (width, height)
GAP, MARGIN = 4, 16  # pixels
TEXT = 17, 27  # pixels, of the narrowest sheet and of one with all columns: read at half the size
STRIP_HEIGHT = 80  # pixels, of the waveform
ROUNDING = 1e-6  # s
# Of the sound of this very moment: "the first to make a sound" means its object in silence too.
SOUND_NOW = re.compile(r"making (a |any )?(sound|noise)|sounding|(is|be) heard", re.IGNORECASE)
COMPARED = (96, 96)  # pixels, at which masks are compared
SAME = 0.5  # IoU of two masks that show one object


@contextmanager
def contact_sheet_writer(
    segmentation: VideoSegmentation, path: str | Path
) -> Iterator[Callable[[MaskedFrame], None]]:
    """Write [`draw_contact_sheet`] to a file."""
    thumbnails = Thumbnails(segmentation)
    yield thumbnails.add
    if thumbnails.num_seconds == count_seconds(segmentation.duration):
        sheet = draw_sheet(segmentation, thumbnails.columns)
    else:  # the file had declared another length
        sheet = draw_contact_sheet(segmentation)
    with whole_file(path) as unfinished:
        sheet.save(unfinished)


def draw_contact_sheet(segmentation: VideoSegmentation) -> Image.Image:
    """Draw at most ten evenly spaced seconds of a video, each expression's masks on them, and the
    whole waveform, in an object's colour where it is heard, if a sentence is about sound: see
    [`find_sounding`].

    The waveform below a frame is the sound from that second to the next one shown.
    """
    thumbnails = Thumbnails(segmentation)
    for item in segmentation.masked_frames():
        thumbnails.add(item)
    return draw_sheet(segmentation, thumbnails.columns)


def count_seconds(duration: float) -> int:
    """Count the steps of a second in a video of `duration` s; a short tail belongs to the last."""
    return max(1, math.floor(duration + 1 - SHORTEST_STEP + ROUNDING))


class Thumbnails:
    """Collects the small frames of a contact sheet, those on display at evenly spaced seconds of
    the length that the segmentation has when the first frame comes."""

    def __init__(self, segmentation: VideoSegmentation):
        self.num_seconds = count_seconds(segmentation.duration)
        num_columns = min(MAX_COLUMNS, self.num_seconds)
        self.seconds = [index * self.num_seconds // num_columns for index in range(num_columns)]
        size = segmentation.info.size
        scale = min(limit / side for limit, side in zip(THUMBNAIL, size, strict=True))
        self.size = tuple(max(1, round(side * scale)) for side in size)
        self.pictures: list[Image.Image] = []

    def add(self, item: MaskedFrame) -> None:
        """Keep the frame if it is one of those."""
        for second in self.seconds[len(self.pictures) :]:
            if second and item.frame.end <= second + ROUNDING:
                break
            picture = Image.fromarray(item.frame.rgb)
            self.pictures.append(picture.resize(self.size, Image.Resampling.LANCZOS))

    @property
    def columns(self) -> list[tuple[int, Image.Image]]:
        """(second, picture) of each column."""
        return list(zip(self.seconds, self.pictures, strict=True))


def draw_sheet(
    segmentation: VideoSegmentation, columns: list[tuple[int, Image.Image]]
) -> Image.Image:
    """Draw the sheet of a segmentation and of (second, frame) for each column."""
    peaks = None
    if segmentation.info.has_audio:
        peaks = np.zeros(count_seconds(segmentation.duration) * PEAKS, dtype=np.float32)
        peaks[: len(segmentation.peaks)] = segmentation.peaks[: len(peaks)]
    return _Sheet(segmentation, columns).draw(peaks)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class _Sheet:
    """The layout of the sheet.

    Args:
        segmentation: of [`segment_video`].
        columns: (second, picture), from left to right.
    """

    def __init__(self, segmentation: VideoSegmentation, columns: list[tuple[int, Image.Image]]):
        self.segmentation, self.columns = segmentation, columns
        picture = columns[0][1]
        self.cell = max(THUMBNAIL[0], picture.width) + GAP
        self.width = max(2 * MARGIN + len(columns) * self.cell - GAP, 640)
        self.text = round(np.interp(len(columns), (4, MAX_COLUMNS), TEXT))
        self.row = self.text + 15 + picture.height + 20
        self.height = self.top(len(segmentation.expressions)) + STRIP_HEIGHT + self.text + MARGIN
        self.masks = [
            segmentation.masks(segmentation.step_at(second), picture.size)
            for second, picture in columns
        ]

    def left(self, column: int) -> int:
        return MARGIN + column * self.cell

    def top(self, expression: int) -> int:
        return MARGIN + self.text + expression * self.row

    def draw(self, peaks: np.ndarray | None) -> Image.Image:
        """Draw everything; `peaks` are the segmentation's, None without a sound track."""
        sheet = Image.new("RGB", (self.width, self.height), PAPER)
        pen, font = ImageDraw.Draw(sheet), font_of(self.text - 4)
        for column, (second, _) in enumerate(self.columns):
            pen.text((self.left(column), MARGIN / 2), _clock(second), font=font, fill=FAINT)
        for expression in range(len(self.segmentation.expressions)):
            self._draw_title(pen, expression)
            for column in range(len(self.columns)):
                self._draw_cell(sheet, pen, expression, column)
        self._draw_waveform(pen, peaks)
        return sheet

    def _draw_title(self, pen: ImageDraw.ImageDraw, expression: int) -> None:
        """The expression, and when it fits."""
        top, colour, font = self.top(expression), colour_of(expression), font_of(self.text)
        intervals = self.segmentation.intervals(expression)
        times = ", ".join(f"{a:g}-{b:g} s" for a, b in np.round(intervals, 1).tolist())
        times = wrap(times or NOTHING, font, self.width / 2, max_lines=1)[0]
        right = self.width - MARGIN - font.getlength(times)
        title = self.segmentation.expressions[expression]
        title = wrap(title, font, right - MARGIN - 2 * self.text, max_lines=1)[0]
        pen.ellipse((MARGIN, top + 4, MARGIN + self.text - 3, top + 1 + self.text), fill=colour)
        pen.text((MARGIN + 1.4 * self.text, top), title, font=font, fill=INK)
        pen.text((right, top), times, font=font, fill=colour if intervals else FAINT)

    def _draw_cell(
        self, sheet: Image.Image, pen: ImageDraw.ImageDraw, expression: int, column: int
    ) -> None:
        """One frame and its mask; a bar below it says that the object is in it."""
        corner = (self.left(column), self.top(expression) + self.text + 11)
        picture, mask = self.columns[column][1], self.masks[column][expression]
        tint = tint_of(mask[None], first=expression)
        sheet.paste(picture, corner)
        sheet.paste(tint, corner, mask=tint)
        if mask.any():
            bottom = corner[1] + picture.height + 2
            bar = (corner[0], bottom, corner[0] + picture.width - 1, bottom + 3)
            pen.rectangle(bar, fill=colour_of(expression))

    def _draw_waveform(self, pen: ImageDraw.ImageDraw, peaks: np.ndarray | None) -> None:
        """The sound under the frames, as loud as the loudest is high."""
        top, font = self.top(len(self.segmentation.expressions)), font_of(self.text - 4)
        if peaks is None:
            pen.text((MARGIN, top), "no sound track", font=font, fill=FAINT)
            return
        middle, width = top + STRIP_HEIGHT / 2, len(self.columns) * self.cell - GAP
        edges = np.linspace(0, len(peaks), width + 1).astype(int)
        colours = self._sound_colours()
        loudest = max(peaks.max(), 1e-3)
        for x in range(width):
            peak = peaks[edges[x] : max(edges[x] + 1, edges[x + 1])].max()
            reach = peak / loudest * STRIP_HEIGHT / 2
            ink = colours[min(edges[x] // PEAKS, len(colours) - 1)]
            pen.line((MARGIN + x, middle - reach, MARGIN + x, middle + reach), fill=ink)
        said = "sound" if set(colours) == {FAINT} else "sound, in the colour of what is heard"
        pen.text((MARGIN, top + STRIP_HEIGHT), said, font=font, fill=FAINT)

    def _sound_colours(self) -> list[tuple[int, int, int]]:
        """Of each second: that of the first sentence whose object is heard, one that is not about
        sound if there is one."""
        found, segmentation = find_sounding(self.segmentation), self.segmentation
        num_seconds = math.ceil(segmentation.duration)
        if found is None:
            return [FAINT] * num_seconds
        said = segmentation.expressions
        order = sorted(range(len(said)), key=lambda row: bool(SOUND_NOW.search(said[row])))
        colours = []
        for second in range(num_seconds):
            heard = found[:, segmentation.step_at(second)]
            colours.append(next((colour_of(row) for row in order if heard[row]), FAINT))
        return colours


def find_sounding(segmentation: VideoSegmentation) -> np.ndarray | None:
    """`(expressions, steps)` bool: whether the object of each expression is seen and is the one
    that an expression such as "the animal that is making a sound" found in that step.

    None if no expression is of that kind or the video has no sound.
    """
    asked = [bool(SOUND_NOW.search(expression)) for expression in segmentation.expressions]
    if not any(asked) or not segmentation.info.has_audio:
        return None
    steps = [
        _same_object(segmentation.masks(step, COMPARED), np.array(asked))
        for step in range(segmentation.num_steps)
    ]
    return np.stack(steps, axis=1)


def _same_object(masks: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """`masks (expressions, height, width)` to `(expressions,)`."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    both = flat @ flat[asked].T  # (expressions, asked)
    union = flat.sum(1)[:, None] + flat[asked].sum(1) - both
    return (both > SAME * union).any(axis=1)
