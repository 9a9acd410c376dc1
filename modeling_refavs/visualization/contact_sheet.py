"""One picture that tells a whole segmented video: a row of seconds for each sentence, and the sound
below."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from ..inference.segment import SAMPLING_RATE, VideoSegmentation
from ..video_refavs import read_steps
from .overlay import FAINT, INK, NOTHING, PAPER, colour_of, font_of, tint_of, wrap


MAX_COLUMNS = 10
THUMBNAIL = (160, 200)  # pixels, at most (width, height)
GAP, MARGIN, TEXT = 4, 16, 17  # pixels
STRIP_HEIGHT = 56  # pixels, of the waveform
PEAKS = 160  # a second: as many as a thumbnail has columns


def draw_contact_sheet(segmentation: VideoSegmentation) -> Image.Image:
    """At most ten evenly spaced seconds of a video, each sentence's masks on them, and the whole
    waveform.

    The waveform below a picture is the sound from that second to the next one shown.
    """
    num_seconds = int(segmentation.time_of(segmentation.num_steps - 1)) + 1
    num_columns = min(MAX_COLUMNS, num_seconds)
    seconds = [index * num_seconds // num_columns for index in range(num_columns)]
    pictures, peaks = _read_columns(segmentation, seconds)
    grid = _Grid(segmentation, seconds[: len(pictures)], pictures)
    sheet = Image.new("RGB", (grid.width, grid.height), PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, second in enumerate(grid.seconds):
        pen.text(
            (grid.left(column), MARGIN / 2), _clock(second), font=font_of(TEXT - 3), fill=FAINT
        )
    for expression in range(len(segmentation.expressions)):
        grid.draw_sentence(sheet, expression)
    grid.draw_waveform(pen, peaks)
    return sheet


def _read_columns(
    segmentation: VideoSegmentation, seconds: list[int]
) -> tuple[list[Image.Image], np.ndarray | None]:
    """The pictures of `seconds`, and the loudest sample of each 1/160 s; None without a sound
    track."""
    scale = min(limit / side for limit, side in zip(THUMBNAIL, segmentation.info.size, strict=True))
    size = tuple(max(1, round(side * scale)) for side in segmentation.info.size)
    pictures, peaks = [], []
    for index, step in enumerate(read_steps(segmentation.info, SAMPLING_RATE)):
        if index in seconds:
            pictures.append(Image.fromarray(step.frame).resize(size, Image.Resampling.LANCZOS))
        if step.audio is not None:
            second = np.zeros(SAMPLING_RATE, dtype=np.float32)
            second[: len(step.audio)] = np.abs(step.audio)
            peaks.append(
                second.reshape(PEAKS, -1).max(axis=1)
            )  # (samples,) -> (PEAKS, samples/PEAKS) -> (PEAKS,)
    return pictures, np.concatenate(peaks) if peaks else None


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@dataclass
class _Grid:
    """Where things stand on the sheet."""

    segmentation: VideoSegmentation
    seconds: list[int]
    pictures: list[Image.Image]

    @property
    def cell(self) -> int:
        return max(THUMBNAIL[0], self.pictures[0].width) + GAP

    @property
    def row(self) -> int:
        return TEXT + 12 + self.pictures[0].height + 20

    @property
    def width(self) -> int:
        return max(2 * MARGIN + len(self.seconds) * self.cell - GAP, 640)

    @property
    def height(self) -> int:
        return self.top(len(self.segmentation.expressions)) + STRIP_HEIGHT + TEXT + MARGIN

    def left(self, column: int) -> int:
        return MARGIN + column * self.cell

    def top(self, expression: int) -> int:
        return MARGIN + TEXT + expression * self.row

    def draw_sentence(self, sheet: Image.Image, expression: int) -> None:
        """The sentence, when it fits, and its masks on every column; a bar marks the pictures that
        show its object."""
        pen, top, colour = ImageDraw.Draw(sheet), self.top(expression), colour_of(expression)
        font = font_of(TEXT)
        times = ", ".join(
            f"{a:g}-{b:g} s"
            for a, b in np.round(self.segmentation.intervals(expression), 1).tolist()
        )
        times = wrap(times or NOTHING, font, self.width / 2, max_lines=1)[0]
        right = self.width - MARGIN - font.getlength(times)
        sentence = wrap(
            self.segmentation.expressions[expression], font, right - MARGIN - 2 * TEXT, max_lines=1
        )[0]
        pen.ellipse((MARGIN, top + 3, MARGIN + 14, top + 17), fill=colour)
        pen.text((MARGIN + 22, top), sentence, font=font, fill=INK)
        pen.text(
            (right, top),
            times,
            font=font,
            fill=colour if self.segmentation.intervals(expression) else FAINT,
        )
        for column, (second, picture) in enumerate(zip(self.seconds, self.pictures, strict=True)):
            corner = (self.left(column), top + TEXT + 9)
            mask = self.segmentation.masks(self.segmentation.step_at(second), picture.size)[
                expression
            ]
            tint = tint_of(mask[None], first=expression)
            sheet.paste(picture, corner)
            sheet.paste(tint, corner, mask=tint)
            if mask.any():
                bottom = corner[1] + picture.height + 2
                pen.rectangle(
                    (corner[0], bottom, corner[0] + picture.width - 1, bottom + 3), fill=colour
                )

    def draw_waveform(self, pen: ImageDraw.ImageDraw, peaks: np.ndarray | None) -> None:
        """The sound under the pictures, as loud as the loudest is high."""
        top = self.top(len(self.segmentation.expressions))
        if peaks is None:
            pen.text((MARGIN, top), "no sound track", font=font_of(TEXT - 3), fill=FAINT)
            return
        middle, width = top + STRIP_HEIGHT / 2, len(self.seconds) * self.cell - GAP
        edges = np.linspace(0, len(peaks), width + 1).astype(int)
        loudest = max(peaks.max(), 1e-3)
        for x in range(width):
            reach = (
                peaks[edges[x] : max(edges[x] + 1, edges[x + 1])].max() / loudest * STRIP_HEIGHT / 2
            )
            pen.line((MARGIN + x, middle - reach, MARGIN + x, middle + reach), fill=FAINT)
        pen.text((MARGIN, top + STRIP_HEIGHT), "sound", font=font_of(TEXT - 3), fill=FAINT)
