"""Colours over frames: what is referred to, and by which sentence."""

import math
import re
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage


# Okabe and Ito's colours, told apart with any colour vision; the first three also on grass, sky and
# skin.
COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (204, 121, 167),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
)
PAPER, INK, FAINT = (18, 18, 18), (245, 245, 245), (150, 150, 150)
FILL = 100  # opacity of a mask inside its contour, of 255
NOTHING = "nothing fits"
EAST_ASIAN = re.compile("[\u2e80-\u9fff\uac00-\ud7ff\uff00-\uffef]")
EAST_ASIAN_FONTS = ("NotoSansCJK-Regular.ttc", "wqy-zenhei.ttc", "DejaVuSans.ttf")


def colour_of(expression: int) -> tuple[int, int, int]:
    """RGB of sentence number `expression`; after seven they begin again."""
    return COLOURS[expression % len(COLOURS)]


def tint_of(masks: np.ndarray, first: int = 0) -> Image.Image:
    """`masks (expressions, height, width)` bool to one RGBA layer of their size, clear where no
    mask is.

    Light inside each mask; its contour in full colour between a dark and a light line, so that it
    shows on any background. Where masks lie on each other their colours are stripes.
    `first` is the number of the first sentence, for its colour.
    """
    tint = Image.new("RGBA", masks.shape[:0:-1])
    pixels, (top, left) = draw_tint(masks, first)
    if pixels.size:
        tint.paste(Image.fromarray(pixels), (left, top))
    return tint


def draw_tint(masks: np.ndarray, first: int = 0) -> tuple[np.ndarray, tuple[int, int]]:
    """The part of [`tint_of`] that has colours, `(height, width, 4)` uint8, and its upper left
    corner (row, column), which is even; around the colours two pixels and more are clear, unless
    the frame ends there."""
    line = max(1, round(min(masks.shape[1:]) / 240))
    edge = (line + 1) // 2
    union = masks.any(axis=0)
    rows, columns = np.flatnonzero(union.any(axis=1)), np.flatnonzero(union.any(axis=0))
    if not len(rows):
        return np.zeros((0, 0, 4), dtype=np.uint8), (0, 0)
    margin = edge + 3
    top, left = (max(0, int(seen[0]) - margin) // 2 * 2 for seen in (rows, columns))
    bottom, right = (int(seen[-1] + margin) // 2 * 2 + 2 for seen in (rows, columns))
    box = masks[:, top:bottom, left:right]
    return _tint(box, (top, left), line, edge, first), (top, left)


def _tint(
    masks: np.ndarray, corner: tuple[int, int], line: int, edge: int, first: int
) -> np.ndarray:
    """`masks (expressions, height, width)` of a box with its upper left `corner` (row, column) to
    RGBA `(height, width, 4)`; `line` and `edge` are the widths of a contour and of the lines beside
    it."""
    pixels = np.zeros((*masks.shape[1:], 4), dtype=np.uint8)
    insides, light = np.zeros_like(masks), np.zeros(masks.shape[1:], dtype=bool)
    for inside, mask in zip(insides, masks, strict=True):
        if mask.any():
            ndimage.minimum_filter(mask, size=2 * line + 1, mode="nearest", output=inside)
            light |= inside & ~ndimage.minimum_filter(inside, size=2 * edge + 1, mode="nearest")
            pixels[ndimage.maximum_filter(mask, size=2 * edge + 1, mode="nearest")] = (*PAPER, 160)
    stripes = _stripes(corner, masks.shape[1:], 4 * line + 2)
    _paint(pixels, insides, stripes, FILL, first)
    pixels[light] = (*INK, 160)
    _paint(pixels, masks & ~insides, stripes, 255, first)
    return pixels


def _paint(
    pixels: np.ndarray, layers: np.ndarray, stripes: np.ndarray, opacity: int, first: int
) -> None:
    """Colour the `pixels (height, width, 4)` of each of `layers (expressions, height, width)`."""
    # Whose turn it is, of those that are there.
    turns = stripes % np.maximum(layers.sum(axis=0, dtype=np.int32), 1)
    ranks = np.cumsum(layers, axis=0, dtype=np.int16) - 1
    for expression, (layer, rank) in enumerate(zip(layers, ranks, strict=True), start=first):
        pixels[layer & (rank == turns)] = (*colour_of(expression), opacity)


def _stripes(corner: tuple[int, int], size: tuple[int, int], width: int) -> np.ndarray:
    """`(height, width)` int32: the number of the diagonal stripe that each pixel is in."""
    rows, columns = (np.arange(side, dtype=np.int32) for side in size)
    return (rows[:, None] + columns + sum(corner)) // width


@cache
def font_of(size: int, text: str = "") -> ImageFont.FreeTypeFont:
    """DejaVu where the machine has it, for most alphabets, or a font for Chinese, Japanese and
    Korean if `text` needs one; else Pillow's own, which holds little more than ASCII."""
    for name in EAST_ASIAN_FONTS if EAST_ASIAN.search(text) else ("DejaVuSans.ttf",):
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def wrap(text: str, font: ImageFont.FreeTypeFont, width: float, max_lines: int) -> list[str]:
    """`text` in lines of at most `width` pixels; what does not fit in `max_lines` ends in "..."."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], f"{lines[max_lines - 1]} ..."]
    return [_shortened(line, font, width) for line in lines]


def _shortened(line: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """One line that fits, by its beginning."""
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(f"{line}...") > width:
        line = line[:-1]
    return f"{line.rstrip(' .')}..."


class Captions:
    """A band for under the frame: each sentence in its colour, when its object has been there so
    far, and where we are.

    Args:
        expressions: the sentences.
        duration: s, of the video.
        width: of the band, in pixels.
        font_size: in pixels.
    """

    def __init__(self, expressions: Sequence[str], duration: float, width: int, font_size: int):
        self.duration, self.width = duration, width
        self.font, self.unit = font_of(font_size, " ".join(expressions)), font_size
        lines_width = width - 2.6 * font_size
        self.lines = [wrap(each, self.font, lines_width, max_lines=3) for each in expressions]
        height = self.unit * (0.9 + sum(1.25 * len(lines) + 0.75 for lines in self.lines))
        self.height = 2 * math.ceil(height / 2)  # even, as encoders want it
        # For each sentence, when its object came and went, by turns, in s.
        self.changes: list[list[float]] = [[] for _ in expressions]

    @property
    def present(self) -> list[bool]:
        """Whether each sentence's object is in the frame."""
        return [len(changes) % 2 == 1 for changes in self.changes]

    def update(self, time: float, present: Sequence[bool]) -> None:
        """Note whose object is in the frame from `time` (s) on, later than all noted before."""
        for changes, before, now in zip(self.changes, self.present, present, strict=True):
            if now != before:
                changes.append(time)

    def draw(self, time: float) -> Image.Image:
        """The band in the second that begins at `time` (s): a full disc before a sentence whose
        object is in the frame, a ring otherwise; faint before it is seen for the first time."""
        band = Image.new("RGB", (self.width, self.height), PAPER)
        pen, unit, top = ImageDraw.Draw(band), self.unit, 0.6 * self.unit
        for expression, (lines, there) in enumerate(zip(self.lines, self.present, strict=True)):
            colour = colour_of(expression)
            disc = (unit * 0.6, top + unit * 0.15, unit * 1.4, top + unit * 0.95)
            pen.ellipse(
                disc, fill=colour if there else None, outline=colour, width=max(1, unit // 8)
            )
            for line in lines:
                ink = INK if self.changes[expression] else FAINT
                pen.text((unit * 2, top), line, font=self.font, fill=ink)
                top += unit * 1.25
            self._draw_timeline(pen, expression, top + unit * 0.2, time)
            top += unit * 0.75
        return band

    def _draw_timeline(
        self, pen: ImageDraw.ImageDraw, expression: int, top: float, time: float
    ) -> None:
        left, right = self.unit * 2, self.width - self.unit * 0.6
        bottom = top + max(2, self.unit * 0.18)

        def place(seconds: float) -> float:
            return left + (right - left) * min(seconds / self.duration, 1)

        pen.rectangle((left, top, right, bottom), fill=(70, 70, 70))
        changes = [*self.changes[expression], int(time) + 1]  # what is there stays for the second
        for start, end in zip(changes[::2], changes[1::2], strict=False):
            pen.rectangle((place(start), top, place(end), bottom), fill=colour_of(expression))
        now = place(time)
        pen.rectangle(
            (now - 1, top - self.unit * 0.15, now + 1, bottom + self.unit * 0.15), fill=INK
        )
