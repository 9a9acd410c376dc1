"""What a person does to an annotation by hand: each action takes an annotation and what the page
sent, and returns the annotation that follows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from modeling_refavs.mask_rle import decode_rle

from ..schema import CLIP_MS, NUM_FRAMES
from .annotation import Annotation, ObjectAnnotation, SentenceAnnotation
from .tree import COLOURS


CLIP_SECONDS = CLIP_MS / 1000
SHORTEST = 0.05  # s, of a sounding interval
MAX_NUMBERS = 100_000  # in one list that the page sends


class Body:
    """What the page sent with an action; each method returns one entry of it.

    Raises:
        ValueError: names the entry that is missing or is not what it should be.
    """

    def __init__(self, content: Any):
        if not isinstance(content, dict):
            raise ValueError("an action must come as a JSON object")
        self.content = content

    def has(self, name: str) -> bool:
        return self.content.get(name) is not None

    def number(self, name: str, low: float, high: float) -> float:
        return _number(name, self.content.get(name), low, high)

    def whole(self, name: str, low: int, high: int) -> int:
        value = self.number(name, low, high)
        if value != int(value):
            raise ValueError(f"{name} must be a whole number, got {value}")
        return int(value)

    def step(self) -> int:
        return self.whole("step", 0, NUM_FRAMES - 1)

    def fid(self) -> int:
        return self.whole("fid", 0, 2**31 - 1)

    def text(self, name: str, longest: int = 500) -> str:
        value = self.content.get(name, "")
        if not isinstance(value, str) or len(value) > longest:
            raise ValueError(f"{name} must be a text of at most {longest} letters")
        return " ".join(value.split())

    def numbers(self, name: str, width: int = 1) -> list[tuple[float, ...]]:
        """A list of tuples of `width` numbers each."""
        rows = self.content.get(name, [])
        if not isinstance(rows, list) or len(rows) * width > MAX_NUMBERS:
            raise ValueError(f"{name} must be a list of at most {MAX_NUMBERS // width} entries")
        rows = [row if isinstance(row, list) else [row] for row in rows]
        if any(len(row) != width for row in rows):
            raise ValueError(f"{name}: each entry must have {width} numbers")
        return [tuple(_number(name, value, -1e6, 2**31) for value in row) for row in rows]


def _number(name: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name} must be a number, got {value!r:.60}")
    if not low <= value <= high:
        raise ValueError(f"{name} must lie between {low:g} and {high:g}, got {value:g}")
    return value


def set_split(annotation: Annotation, body: Body) -> Annotation:
    return replace(annotation, split=body.text("split"))


def toggle_shot(annotation: Annotation, body: Body) -> Annotation:
    """Another shot begins at this step, or no longer does."""
    step = body.whole("step", 1, NUM_FRAMES - 1)
    return replace(annotation, shots=tuple(sorted(set(annotation.shots) ^ {step})))


# Objects


def add_object(annotation: Annotation, body: Body) -> Annotation:
    fids, used = {thing.fid for thing in annotation.objects}, _colours(annotation)
    fid = min(set(range(len(fids) + 1)) - fids)  # without gaps, as `dataset check` wants them
    free = [colour for colour in COLOURS if colour not in used]
    colour = (free or COLOURS)[0]
    thing = ObjectAnnotation(fid, body.text("category"), body.text("super_category"), colour)
    return annotation.with_object(thing)


def _colours(annotation: Annotation) -> set[str]:
    return {thing.colour for thing in annotation.objects}


def change_object(annotation: Annotation, body: Body) -> Annotation:
    names = {name: body.text(name) for name in ("category", "super_category", "colour")}
    return annotation.with_object(replace(annotation.find(body.fid()), **names))


def remove_object(annotation: Annotation, body: Body) -> Annotation:
    """And the sentences that mean it."""
    thing = annotation.find(body.fid())
    return replace(
        annotation,
        objects=tuple(other for other in annotation.objects if other is not thing),
        sentences=tuple(one for one in annotation.sentences if one.fid != thing.fid),
    )


# Masks


def with_mask(
    annotation: Annotation, fid: int, step: int, mask: np.ndarray | None, corrected: bool = True
) -> Annotation:
    """With this mask `(height, width)` bool; None takes away what is there."""
    thing = annotation.find(fid)
    masks = {other: kept for other, kept in thing.masks.items() if other != step}
    done = thing.corrected - {step}
    if mask is not None:
        masks[step] = mask
        done |= {step} if corrected else set()
    return annotation.with_object(replace(thing, masks=masks, corrected=frozenset(done)))


def paint(annotation: Annotation, body: Body) -> Annotation:
    """A stroke of a round brush, `radius` in pixels, along points (x, y); or of an eraser."""
    fid, step = body.fid(), body.step()
    mask = annotation.find(fid).masks.get(step)
    erase = bool(body.content.get("erase"))
    if mask is None:
        if erase:
            raise ValueError("there is nothing to erase on this frame")
        mask = np.zeros(annotation.size, dtype=bool)
    radius = body.number("radius", 0.5, max(annotation.size))
    stroke = draw_stroke(annotation.size, body.numbers("stroke", 2), radius)
    return with_mask(annotation, fid, step, mask & ~stroke if erase else mask | stroke)


def draw_stroke(
    size: tuple[int, int], points: Sequence[tuple[float, ...]], radius: float
) -> np.ndarray:
    """`size` bool, True within `radius` of the line through the points."""
    image = Image.new("1", size[::-1])
    pen = ImageDraw.Draw(image)
    if len(points) > 1:
        pen.line([tuple(point) for point in points], fill=1, width=max(1, round(2 * radius)))
    for x, y in points:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
    return np.asarray(image)


def set_mask(annotation: Annotation, body: Body) -> Annotation:
    """A mask that the page has: of a candidate that was taken. `counts` is COCO's, uncompressed."""
    counts = [int(count) for (count,) in body.numbers("counts")]
    mask = decode_rle({"size": annotation.size, "counts": counts})
    return with_mask(annotation, body.fid(), body.step(), mask)


def clear_mask(annotation: Annotation, body: Body) -> Annotation:
    return with_mask(annotation, body.fid(), body.step(), None)


def hide(annotation: Annotation, body: Body) -> Annotation:
    """The object is not to be seen in this step; or, with `shot`, in all steps of its shot that
    have no mask."""
    fid, steps = body.fid(), [body.step()]
    if body.content.get("shot"):
        known = annotation.find(fid).masks
        steps = [step for step in annotation.shot_of(body.step()) if step not in known]
    for step in steps:
        annotation = with_mask(annotation, fid, step, np.zeros(annotation.size, dtype=bool))
    return annotation


def accept(annotation: Annotation, body: Body) -> Annotation:
    """What was propagated is right: of one step, or of all where none is named."""
    thing = annotation.find(body.fid())
    steps = {body.step()} if body.has("step") else set(thing.masks)
    if not steps <= thing.masks.keys():
        raise ValueError("there is no mask on this frame to be accepted")
    return annotation.with_object(replace(thing, corrected=thing.corrected | steps))


# Sound


def set_sounding(annotation: Annotation, body: Body) -> Annotation:
    intervals = merge_intervals(body.numbers("intervals", 2))
    return annotation.with_object(replace(annotation.find(body.fid()), sounding=intervals))


def merge_intervals(intervals: Sequence[tuple[float, ...]]) -> tuple[tuple[float, float], ...]:
    """In order and apart, to 0.01 s, within the clip; what is too short is left out."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted((min(pair), max(pair)) for pair in intervals):
        start, end = (round(min(max(time, 0.0), CLIP_SECONDS), 2) for time in (start, end))
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif end - start >= SHORTEST:
            merged.append((start, end))
    return tuple(merged)


# Sentences


def read_sentence(body: Body) -> SentenceAnnotation:
    """`fid` is null where the sentence fits nothing in the clip."""
    return SentenceAnnotation(body.text("text"), body.fid() if body.has("fid") else None)


def add_sentence(annotation: Annotation, body: Body) -> Annotation:
    sentence = read_sentence(body)
    if sentence in annotation.sentences:
        raise ValueError("this sentence is there already")
    return replace(annotation, sentences=(*annotation.sentences, sentence))


def change_sentence(annotation: Annotation, body: Body) -> Annotation:
    sentences, index = list(annotation.sentences), _index(annotation, body)
    sentences[index] = read_sentence(body)
    return replace(annotation, sentences=tuple(sentences))


def remove_sentence(annotation: Annotation, body: Body) -> Annotation:
    sentences = list(annotation.sentences)
    del sentences[_index(annotation, body)]
    return replace(annotation, sentences=tuple(sentences))


def _index(annotation: Annotation, body: Body) -> int:
    return body.whole("index", 0, len(annotation.sentences) - 1)


ACTIONS: dict[str, Callable[[Annotation, Body], Annotation]] = {
    action.__name__: action
    for action in (
        set_split,
        toggle_shot,
        add_object,
        change_object,
        remove_object,
        paint,
        set_mask,
        clear_mask,
        hide,
        accept,
        set_sounding,
        add_sentence,
        change_sentence,
        remove_sentence,
    )
}
