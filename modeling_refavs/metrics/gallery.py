"""A picture of a split's best, median and worst sentences and its worst null reference: frames,
truth, prediction, scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from dataset_script.taxonomy import NULL_CATEGORY

from ..visualization.overlay import FAINT, INK, PAPER, colour_of, font_of, tint_of, wrap
from .refavs_jaccard.refavs_jaccard import score_frames
from .scoring import Conventions, Record


THUMBNAIL_WIDTH = 150  # pixels
GAP, MARGIN, TEXT, LABEL = 4, 20, 17, 110  # pixels; LABEL is the column of names at the left
TRUTH, PREDICTION = 1, 0  # numbers of the colours
JACCARD_SCALE = "(overlap with the truth, 1 is best)"
NULL_SCALE = "(whatever is predicted is wrong, 0 is best)"


@dataclass(frozen=True)
class Choice:
    """A sentence, by the index of its clip in the split and its number in the clip."""

    title: str
    index: int
    sentence: int


def choose_sentences(records: Sequence[Record]) -> list[Choice]:
    """The sentences with the best, the median and the worst J, and the null reference with the
    worst S; where all are null references, the best, the median and the worst of them."""
    scored: dict[bool, list[tuple[float, int, int]]] = {False: [], True: []}
    for record in records:
        for number, sentence in enumerate(record["sentences"]):
            is_null = sentence["category"] == NULL_CATEGORY
            scored[is_null].append((-goodness_of(sentence), record["index"], number))
    referring, null = sorted(scored[False]), sorted(scored[True])
    if not referring:
        return _choose(null, "null references")
    return _choose(referring, "sentences") + _choose(null, "null references")[-1:]


def _choose(ranked: list[tuple[float, int, int]], what: str) -> list[Choice]:
    """Of those from the best to the worst; fewer than three show once."""
    last = len(ranked) - 1
    places = {last // 2: "median", last: "worst", 0: "best"} if ranked else {}
    return [
        Choice(f"{title} of {len(ranked)} {what}", *ranked[place][1:])
        for place, title in sorted(places.items())
    ]


def goodness_of(sentence: dict[str, Any]) -> float:
    if sentence["category"] == NULL_CATEGORY:
        return 1 - (sentence["predicted"] / sentence["frames"]) ** 0.5
    return sentence["jaccard"] / max(sentence["jaccard_frames"], 1)


@dataclass(frozen=True)
class Panel:
    """One sentence asked of one clip.

    Args:
        title: which sentence this is.
        sentence: a row's `expression` and `category`.
        frames: pictures.
        masks: `(frames, height, width)` bool, the truth.
        predictions: of each model, by its name, probabilities `(frames, height, width)` float32.
    """

    title: str
    sentence: dict[str, Any]
    frames: list[Image.Image]
    masks: np.ndarray
    predictions: dict[str, np.ndarray]

    @property
    def is_null(self) -> bool:
        return self.sentence["category"] == NULL_CATEGORY


def draw_gallery(panels: Sequence[Panel], conventions: Conventions) -> Image.Image:
    """The panels below each other: the sentence, its truth on every frame, and every prediction
    with the score of each."""
    drawn = [_draw_panel(panel, conventions) for panel in panels]
    sheet = Image.new(
        "RGB", (max(panel.width for panel in drawn), sum(panel.height for panel in drawn)), PAPER
    )
    top = 0
    for panel in drawn:
        sheet.paste(panel, (0, top))
        top += panel.height
    return sheet


def _draw_panel(panel: Panel, conventions: Conventions) -> Image.Image:
    width, height = (
        THUMBNAIL_WIDTH,
        round(THUMBNAIL_WIDTH * panel.frames[0].height / panel.frames[0].width),
    )
    sheet_width = 2 * MARGIN + LABEL + len(panel.frames) * (width + GAP) - GAP
    rows_top, row_height = MARGIN + 2 * TEXT + 12, height + GAP + 2 * TEXT
    sheet_height = rows_top + height + GAP + len(panel.predictions) * row_height
    sheet = Image.new("RGB", (sheet_width, sheet_height), PAPER)
    pen = ImageDraw.Draw(sheet)
    rows, scores = {}, []
    for name, probabilities in panel.predictions.items():
        predicted, captions, score = _judge(panel, probabilities, conventions)
        rows[name if len(panel.predictions) == 1 else f"{name}: {score}"] = predicted, captions
        scores.append(score)
    scale = NULL_SCALE if panel.is_null else JACCARD_SCALE
    heading = ", ".join([panel.title, *(scores if len(scores) == 1 else [])]) + f" {scale}"
    pen.text((MARGIN, MARGIN), heading, font=font_of(TEXT - 2), fill=FAINT)
    sentence = wrap(
        f"“{panel.sentence['expression']}”",
        font_of(TEXT + 1),
        sheet_width - 2 * MARGIN,
        max_lines=1,
    )[0]
    pen.text((MARGIN, MARGIN + TEXT + 3), sentence, font=font_of(TEXT + 1), fill=INK)
    pictures = [frame.resize((width, height), Image.Resampling.LANCZOS) for frame in panel.frames]
    label = "truth: nothing" if panel.is_null else "truth"
    _draw_row(sheet, rows_top, label, TRUTH, pictures, panel.masks)
    for number, (label, (predicted, captions)) in enumerate(rows.items()):
        top = rows_top + height + GAP + number * row_height
        _draw_row(sheet, top, label, PREDICTION, pictures, predicted)
        for column, caption in enumerate(captions):
            left = MARGIN + LABEL + column * (width + GAP)
            pen.text((left, top + height + GAP), caption, font=font_of(TEXT - 4), fill=FAINT)
    return sheet


def _draw_row(
    sheet: Image.Image,
    top: int,
    label: str,
    colour: int,
    pictures: list[Image.Image],
    masks: np.ndarray,
) -> None:
    width, height = pictures[0].size
    lines = wrap(label, font_of(TEXT - 2), LABEL - GAP, max_lines=3)
    pen, first = ImageDraw.Draw(sheet), top + (height - len(lines) * TEXT) / 2
    for number, line in enumerate(lines):
        place = (MARGIN, first + number * TEXT)
        pen.text(place, line, font=font_of(TEXT - 2), fill=colour_of(colour))
    for column, (picture, mask) in enumerate(zip(pictures, masks, strict=True)):
        _paste_frame(sheet, (MARGIN + LABEL + column * (width + GAP), top), picture, mask, colour)


def _judge(
    panel: Panel, probabilities: np.ndarray, conventions: Conventions
) -> tuple[np.ndarray, list[str], str]:
    """The predicted masks `(frames, height, width)` bool, a caption for each, and the score of
    all."""
    if panel.is_null:
        predicted = probabilities > conventions.null_threshold
        shares = predicted.mean(axis=(1, 2))
        captions = [f"{share:.1%} predicted" for share in shares]
        return predicted, captions, f"S {np.sqrt(shares.mean()):.3f}"
    predicted = probabilities > conventions.threshold
    scores = score_frames(
        probabilities, panel.masks, conventions.threshold, conventions.empty_truth
    )
    captions = [
        f"J {score:.2f}{'' if shown else ', object absent'}"
        for score, shown in zip(scores, panel.masks.any(axis=(1, 2)), strict=True)
    ]
    return predicted, captions, f"J {np.nanmean(scores):.2f}"


def _paste_frame(
    sheet: Image.Image, corner: tuple[int, int], picture: Image.Image, mask: np.ndarray, colour: int
) -> None:
    at_size = np.asarray(Image.fromarray(mask).resize(picture.size, Image.Resampling.NEAREST))
    tint = tint_of(at_size[None], first=colour)
    sheet.paste(picture, corner)
    sheet.paste(tint, corner, mask=tint)
