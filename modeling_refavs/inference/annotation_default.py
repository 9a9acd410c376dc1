"""What `refavs annotate` works with where no other model is named: our own checkpoint's mask
queries, OpenCV's GrabCut, and what the checkpoint's encoders hear."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from dataset_script.annotate.models import Candidate, Prompt

from ..encoders_refavs import encode_seconds
from ..feature_extraction_refavs import SAMPLING_RATE
from ..grounding_refavs import mean_token, normalise


# Candidates
ANYTHING = "The object."  # of which the queries are asked where no text is given
MIN_SHARE = 0.001  # of the frame, of a candidate
SAME = 0.6  # IoU of two masks that show one object
NAMED = 0.1  # probability that a candidate is what a text names, at least
KEPT_FRAMES = 24  # whose masks are kept

# GrabCut
WORK_SIZE = 480  # pixels, of the longer side
ROUNDS = 4
CLICK = 0.015  # of the longer side, radius of what a click is sure of
CLICKED = 0.12  # likewise, of what a click alone is taken to be, where there is no candidate
REACH = 0.15  # likewise, how far from a click a mask that was there may change
BAND = 0.12  # of the object's size: how far its outline may move
WITHIN_BOX = 0.5  # IoU of a box and a candidate's that stand for the same object

# Sound
WINDOW, HOP = 0.96, 0.24  # s, of what is listened to
HEARD = 0.4  # correlation of a sound with a name
LOUD, LEVEL_WINDOW = 8.0, 0.1  # dB above the noise floor; s
NOISE_SHARE = 0.1  # of the windows, which are the quietest, that tell the noise floor
FAINTEST = -60.0  # dB of full scale, of any sound
SHORTEST = 0.3  # s, of an interval and of a silence within one


@dataclass(frozen=True)
class FrameQueries:
    """What the queries of a checkpoint make of a frame, a row for each query that shows anything.

    Args:
        masks: `(queries, height, width)` bool.
        scores: `(queries,)` in [0, 1], how likely each shows an object as a whole.
        labels: what each shows by the vocabulary of the naming head; empty without it.
        features: `(queries, C)` of unit length, F_V under each mask.
    """

    masks: np.ndarray
    scores: np.ndarray
    labels: tuple[str, ...]
    features: np.ndarray
    rows: np.ndarray  # of the model's queries
    clips: Any  # what `encode_clips` returned
    frame_features: np.ndarray  # F_V `(C, h, w)`

    def describe(self, mask: np.ndarray) -> np.ndarray:
        """The mean F_V `(C,)` under a mask `(height, width)`, of unit length."""
        return _pool(self.frame_features, mask)


class QueryMasks:
    """The masks of a checkpoint's queries, which do not depend on the sentence that is asked.

    Args:
        model, processor: of `load_model`, a [`RefAVSForSegmentation`].
    """

    def __init__(self, model: Any, processor: Any):
        self.model, self.processor = model, processor
        self._frames: OrderedDict[bytes, FrameQueries] = OrderedDict()

    def __call__(self, frame: np.ndarray) -> FrameQueries:
        """Of a frame `(height, width, 3)` uint8; those of the last frames are remembered."""
        key = frame.tobytes()
        if key not in self._frames:
            self._frames[key] = self._look(frame)
            while len(self._frames) > KEPT_FRAMES:
                self._frames.popitem(last=False)
        self._frames.move_to_end(key)
        return self._frames[key]

    @torch.inference_mode()
    def name(self, frame: np.ndarray, phrases: Sequence[str]) -> np.ndarray:
        """How likely each row of the frame is what each phrase names, `(phrases, queries)`."""
        queries = self(frame)
        outputs = self._ask(queries.clips, [f"The {phrase}." for phrase in phrases])
        probabilities = outputs.class_queries_logits[:, 0].float().softmax(-1)[..., 0]
        return probabilities.cpu().numpy()[:, queries.rows]

    @torch.inference_mode()
    def _look(self, frame: np.ndarray) -> FrameQueries:
        inputs = self.processor(frames=[frame], device=self.model.device)
        pixels = inputs["pixel_values"].to(self.model.dtype)
        clips = self.model.encode_clips(pixel_values=pixels)
        outputs = self._ask(clips, [ANYTHING])
        logits = outputs.masks_queries_logits[0].float()  # (1, queries, h, w)
        likely = outputs.class_queries_logits[0, 0].float().softmax(-1)[:, 0]
        inside, around = ((logits[0] > level).sum((1, 2)) for level in (1, -1))
        scores = (likely * inside / around.clamp(min=1)).cpu().numpy()
        size = frame.shape[:2]
        masks = (nn.functional.interpolate(logits, size, mode="bilinear")[0] > 0).cpu().numpy()
        rows = np.flatnonzero(masks.mean((1, 2)) >= MIN_SHARE)
        features = clips.frame_features[0, 0].float().cpu().numpy()
        described = np.array([_pool(features, mask) for mask in masks[rows]])
        return FrameQueries(
            masks[rows],
            scores[rows],
            self._labels(features, masks[rows]),
            described.reshape(len(rows), len(features)),
            rows,
            clips,
            features,
        )

    def _ask(self, clips: Any, sentences: list[str]) -> Any:
        tokens = self.processor.tokenize(sentences)
        ids, mask = (
            torch.as_tensor(tokens[key], device=self.model.device)
            for key in ("input_ids", "attention_mask")
        )
        index = torch.zeros(len(sentences), dtype=torch.long, device=self.model.device)
        return self.model.segment(clips, input_ids=ids, attention_mask=mask, clip_index=index)

    def _labels(self, features: np.ndarray, masks: np.ndarray) -> tuple[str, ...]:
        naming = getattr(self.model.base_model, "naming", None)
        names = [name for _, name in sorted(self.model.config.vision_config.id2label.items())]
        if naming is None or len(names) != naming.classifier.out_features or not len(masks):
            return ("",) * len(masks)
        means = np.array([_pool(features, mask, unit=False) for mask in masks])
        shown = naming.classifier(torch.as_tensor(means, device=self.model.device))
        return tuple(names[index] for index in shown.argmax(-1).tolist())


def _pool(features: np.ndarray, mask: np.ndarray, unit: bool = True) -> np.ndarray:
    """The mean of `features (C, h, w)` where a mask is, each weighted by the square of its cover,
    as `pool_under_masks` does."""
    size = features.shape[:0:-1]
    cover = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) ** 2
    mean = (features * cover).sum((1, 2)) / max(cover.sum(), 1e-6)
    return mean / max(np.linalg.norm(mean), 1e-6) if unit else mean


class QueryDetector:
    """A `Detector` of dataset_script/annotate/models.py: what the mask queries show."""

    def __init__(self, queries: QueryMasks):
        self.queries = queries

    def detect(self, frame: np.ndarray, text: str = "") -> list[Candidate]:
        """See `Detector.detect`; without a text, labels are of the checkpoint's vocabulary."""
        found = self.queries(frame)
        phrases = [phrase.strip() for phrase in text.split(".") if phrase.strip()]
        if not len(found.masks):
            return []
        labels, scores = found.labels, found.scores
        if phrases:
            named = self.queries.name(frame, phrases)  # (phrases, queries)
            labels = [phrases[index] for index in named.argmax(0)]
            scores = np.where(named.max(0) >= NAMED, named.max(0), 0.0)
        order = [row for row in np.argsort(-scores, kind="stable") if scores[row] > 0]
        kept = drop_doubles([found.masks[row] for row in order])
        return [
            Candidate(found.masks[row], labels[row], float(scores[row]))
            for row in (order[place] for place in kept)
        ]


def drop_doubles(masks: Sequence[np.ndarray]) -> list[int]:
    """Places of those that do not show what an earlier one shows."""
    kept: list[int] = []
    for place, mask in enumerate(masks):
        if all(mask_overlap(mask, masks[other]) < SAME for other in kept):
            kept.append(place)
    return kept


def mask_overlap(one: np.ndarray, other: np.ndarray) -> float:
    """IoU of two masks; 0 where both are empty."""
    return float((one & other).sum() / max(1, (one | other).sum()))


class GrabCutSegmenter:
    """A `Segmenter` of dataset_script/annotate/models.py: GrabCut, from a candidate where one fits.

    Args:
        detector: whose candidates clicks and boxes may mean; None: there are none.
    """

    def __init__(self, detector: QueryDetector | None = None):
        self.detector = detector

    def segment(self, frame: np.ndarray, prompt: Prompt) -> np.ndarray:
        """See `Segmenter.segment`. What is clicked as the object is in the mask, and what is
        clicked as beside it is not. A mask that is given changes near the clicks alone, or, without
        any, near its outline."""
        size = frame.shape[:2]
        factor = min(1.0, WORK_SIZE / max(size))
        small = cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        start = self._start(frame, prompt)
        if start is not None:
            start = _resize(start, small.shape[:2])
        marks = _mark(small.shape[:2], prompt, factor, start)
        cut = _resize(_cut(small, marks), size)
        if prompt.mask is not None and prompt.points:
            near = _discs(size, prompt.points, REACH * max(size))
            cut = np.where(near, cut, prompt.mask)
        for label in (True, False):
            clicks = [
                point
                for point, own in zip(prompt.points, prompt.labels, strict=True)
                if own == label
            ]
            cut = np.where(_discs(size, clicks, 1.0), label, cut)
        return _with_clicks(cut, prompt)

    def _start(self, frame: np.ndarray, prompt: Prompt) -> np.ndarray | None:
        """The mask to begin with: the one that is given, else the candidate that is meant."""
        if prompt.mask is not None or self.detector is None:
            return prompt.mask
        candidates = [candidate.mask for candidate in self.detector.detect(frame)]
        if prompt.box is not None:
            overlaps = [_box_overlap(mask, prompt.box) for mask in candidates]
            if max(overlaps, default=0.0) >= WITHIN_BOX:
                return candidates[int(np.argmax(overlaps))]
            return None
        clicked = list(zip(prompt.points, prompt.labels, strict=True))
        for mask in candidates:  # the likeliest first
            if all(_holds(mask, point) == label for point, label in clicked):
                return mask
        return None


def _mark(
    size: tuple[int, int], prompt: Prompt, factor: float, start: np.ndarray | None
) -> np.ndarray:
    """What GrabCut is told of each pixel."""
    longer = max(size)
    points = [(x * factor, y * factor) for x, y in prompt.points]
    on = [point for point, label in zip(points, prompt.labels, strict=True) if label]
    off = [point for point, label in zip(points, prompt.labels, strict=True) if not label]
    marks = np.full(size, cv2.GC_PR_BGD, np.uint8)
    if start is not None:
        width = BAND * start.sum() ** 0.5 + 1
        marks[start] = cv2.GC_PR_FGD
        core = cv2.erode(start.astype(np.uint8), _disc(width)) > 0
        far = cv2.dilate(start.astype(np.uint8), _disc(width)) == 0
        near = _discs(size, points, REACH * longer)
        marks[core & ~near] = cv2.GC_FGD
        marks[far & ~near] = cv2.GC_BGD
    if prompt.box is not None:
        left, top, right, bottom = (round(side * factor) for side in prompt.box)
        inside = np.zeros(size, bool)
        inside[max(0, top) : bottom + 1, max(0, left) : right + 1] = True
        if start is None:
            marks[inside] = cv2.GC_PR_FGD
        marks[~inside] = cv2.GC_BGD
    elif start is None:
        marks[_discs(size, on, CLICKED * longer)] = cv2.GC_PR_FGD
        marks[~_discs(size, on, 4 * CLICKED * longer)] = cv2.GC_BGD
    marks[_discs(size, on, CLICK * longer)] = cv2.GC_FGD
    marks[_discs(size, off, CLICK * longer)] = cv2.GC_BGD
    return marks


def _cut(picture: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """GrabCut; the marks' own mask where they leave one side empty, as it then cannot be run, or
    where nothing would be left."""
    object_marks = (marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD)
    if object_marks.all() or not object_marks.any():
        return object_marks
    marks = marks.copy()
    cv2.setRNGSeed(0)  # of its mixtures' start: the same clicks give the same mask
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(picture, marks, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = (marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD)
    return found if found.any() else object_marks


def _with_clicks(mask: np.ndarray, prompt: Prompt) -> np.ndarray:
    """The parts of a mask that are clicked; without a click, those that are not specks."""
    count, parts, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    on = [point for point, label in zip(prompt.points, prompt.labels, strict=True) if label]
    kept = {parts[_pixel(mask, point)] for point in on} - {0}
    if prompt.mask is not None or not kept:
        areas = facts[:, cv2.CC_STAT_AREA]
        kept |= {part for part in range(1, count) if areas[part] >= 0.02 * areas[1:].max()}
    return np.isin(parts, list(kept))


def _pixel(mask: np.ndarray, point: tuple[float, float]) -> tuple[int, int]:
    """(row, column) of a click, within the frame."""
    x, y = point
    return (
        int(np.clip(y, 0, mask.shape[0] - 1)),
        int(np.clip(x, 0, mask.shape[1] - 1)),
    )


def _holds(mask: np.ndarray, point: tuple[float, float]) -> bool:
    return bool(mask[_pixel(mask, point)])


def _discs(
    size: tuple[int, int], points: Sequence[tuple[float, float]], radius: float
) -> np.ndarray:
    picture = np.zeros(size, np.uint8)
    for x, y in points:
        cv2.circle(picture, (int(x), int(y)), max(1, round(radius)), 1, cv2.FILLED)
    return picture > 0


def _disc(radius: float) -> np.ndarray:
    side = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def _resize(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR) > 0.5


def _box_overlap(mask: np.ndarray, box: tuple[float, float, float, float]) -> float:
    """IoU of a mask's bounding box with another box."""
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    left, top, right, bottom = box
    width = min(x + w, right) - max(x, left)
    height = min(y + h, bottom) - max(y, top)
    both = max(0.0, width) * max(0.0, height)
    return both / max(1e-6, w * h + (right - left) * (bottom - top) - both)


# Sound


class SoundIntervals:
    """A `SoundProposer` of dataset_script/annotate/models.py: intervals of any sound, less those in
    which the category is not heard.

    Args:
        likeness: how far each window of a second sounds like a category, see [`NamedSounds`]; None:
            loudness alone decides.
    """

    def __init__(self, likeness: Callable[[np.ndarray, str], np.ndarray] | None = None):
        self.likeness = likeness

    def propose(self, samples: np.ndarray, category: str) -> list[tuple[float, float]]:
        """See `SoundProposer.propose`. Where the category is heard nowhere, it may be any sound."""
        samples = np.asarray(samples, np.float32)
        loud = to_intervals(loud_windows(samples), len(samples) / SAMPLING_RATE)
        if self.likeness is None or len(samples) < WINDOW * SAMPLING_RATE:
            return loud
        middles = np.flatnonzero(self.likeness(samples, category)) * HOP + WINDOW / 2
        heard = [
            (start, end) for start, end in loud if ((start <= middles) & (middles < end)).any()
        ]
        return heard or loud


def loud_windows(samples: np.ndarray) -> np.ndarray:
    """Whether each [`LEVEL_WINDOW`] of sound stands out of the noise, `(windows,)` bool."""
    width = round(LEVEL_WINDOW * SAMPLING_RATE)
    padded = np.pad(samples, (0, -len(samples) % width)).reshape(-1, width)
    levels = 10 * np.log10((padded**2).mean(1) + 1e-10)
    if not len(levels):
        return np.zeros(0, bool)
    floor = np.quantile(levels, NOISE_SHARE)
    steady = levels.max() < floor + LOUD  # one sound from end to end, or noise alone
    return levels > (FAINTEST if steady else max(FAINTEST, floor + LOUD))


def to_intervals(active: np.ndarray, seconds: float) -> list[tuple[float, float]]:
    """Runs of windows as (start, end) in s; short silences are filled and short runs left out."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(int), [0]])))
    runs: list[list[float]] = []
    for start, end in edges.reshape(-1, 2) * LEVEL_WINDOW:
        if runs and start - runs[-1][1] < SHORTEST:
            runs[-1][1] = end
        else:
            runs.append([start, end])
    return [
        (round(float(start), 2), round(min(float(end), seconds), 2))
        for start, end in runs
        if end - start >= SHORTEST
    ]


class NamedSounds:
    """Which windows of a sound are like a category's name, where a checkpoint's projections of
    sounds and words share one space.

    Args:
        model, processor: of `load_model`, a [`RefAVSForSegmentation`].
    """

    def __init__(self, model: Any, processor: Any):
        self.model, self.processor = model, processor

    @torch.inference_mode()
    def __call__(self, samples: np.ndarray, category: str) -> np.ndarray:
        """`(windows,)` bool, of windows of [`WINDOW`] every [`HOP`]."""
        width, hop = round(WINDOW * SAMPLING_RATE), round(HOP * SAMPLING_RATE)
        starts = range(0, len(samples) - width + 1, hop)
        parts, device = self.model.base_model, self.model.device
        windows = [samples[start : start + width] for start in starts]
        features = self.processor.extract_audio(windows, SAMPLING_RATE, 1)["input_features"]
        features = torch.as_tensor(np.asarray(features), device=device, dtype=self.model.dtype)
        heard = encode_seconds(parts.audio_encoder, features)  # (windows, 1, C)
        heard = parts.cue_projection.project_audio(heard).flatten(0, -2)  # (windows, D)
        tokens = self.processor.tokenize([category])
        ids, mask = (
            torch.as_tensor(tokens[key], device=device) for key in ("input_ids", "attention_mask")
        )
        texts, mask = parts.encode_text(ids, mask)
        name = mean_token(parts.cue_projection.project_text(texts), mask)
        likeness = normalise(heard) @ normalise(name).T / heard.shape[-1]
        return (likeness[:, 0] >= HEARD).cpu().numpy()
