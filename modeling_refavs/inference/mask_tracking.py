"""Masks of one frame in the other frames of its shot, without a model that was trained for it.

Where an object went is guessed in several ways: from optical flow, from local features, from a
search for its picture, and from the masks that a checkpoint proposes. Each guess is a map from the
pixels of a frame to those of the pivot, is bent by optical flow until it fits, and is judged by how
far the frame shows there what the pivot shows of the object.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Protocol

import cv2
import numpy as np


WAYS = ("flow", "features", "search", "proposals")
WORK_SIZE = 400  # pixels, of the longer side at which objects are looked for
SEARCH_SIZE = 96  # pixels, likewise of the search for an object's picture
SEARCH_SCALES = (0.8, 1.0, 1.25)  # of the object since the pivot
MIN_PIXELS = 12  # of an object, at the working size
MAX_COLOUR = 30.0  # of CIELAB's units as OpenCV has them: colours that differ by that do not agree
MAX_SHIFT = (20.0, 6.0, 6.0)  # of an object's colours since the pivot, as light may shift them
NEAREST = 3  # proposals that are tried
MAX_SCALE = 2.5  # by which a feature match may make an object larger or smaller
SEEN = 0.62  # score of a guess, from which the object is there
PARTLY_SEEN = 0.84  # likewise of what is not hidden of it
LEAST = 0.35  # of the object, that is not hidden
VISIBLE = 0.3  # agreement, smoothed, from which a pixel shows the object and not what is before it
REFINED = 2  # guesses that are bent by flow, the best so far
SAME_MASK = 0.6  # IoU of a guess with the proposal that takes its place
EXACT = 0.85  # mean agreement of a guess, from which its outline is as good as the pivot's


class Proposals(Protocol):
    """What [`QueryMasks`] finds in a frame."""

    masks: np.ndarray  # (proposals, height, width) bool
    features: np.ndarray  # (proposals, C) of unit length

    def describe(self, mask: np.ndarray) -> np.ndarray:
        """The feature `(C,)` of any mask of the frame."""


class View:
    """A frame at the working size."""

    def __init__(self, frame: np.ndarray, propose: Callable[[np.ndarray], Proposals] | None):
        self.frame, self._propose = frame, propose
        factor = min(1.0, WORK_SIZE / max(frame.shape[:2]))
        self.size = tuple(max(1, round(side * factor)) for side in frame.shape[:2])
        self.pixels = cv2.resize(frame, self.size[::-1], interpolation=cv2.INTER_AREA)

    def resize(self, mask: np.ndarray) -> np.ndarray:
        """A mask of the frame at the working size."""
        whole = mask.astype(np.float32)
        return cv2.resize(whole, self.size[::-1], interpolation=cv2.INTER_AREA) > 0.5

    @cached_property
    def grey(self) -> np.ndarray:
        return cv2.cvtColor(self.pixels, cv2.COLOR_RGB2GRAY)

    @cached_property
    def colours(self) -> np.ndarray:
        """CIELAB `(h, w, 3)` float32, smoothed: noise and half a pixel of motion do not count."""
        smooth = cv2.GaussianBlur(cv2.cvtColor(self.pixels, cv2.COLOR_RGB2LAB), (0, 0), 1.0)
        return smooth.astype(np.float32)

    @cached_property
    def features(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Places `(n, 2)` of local features and their descriptors `(n, 128)`."""
        points, descriptors = _sift().detectAndCompute(self.grey, None)
        return np.float32([point.pt for point in points]).reshape(-1, 2), descriptors

    @cached_property
    def proposals(self) -> Proposals | None:
        return None if self._propose is None else self._propose(self.frame)

    @cached_property
    def proposed(self) -> list[np.ndarray]:
        """The proposals' masks at the working size."""
        return [] if self.proposals is None else [self.resize(m) for m in self.proposals.masks]


class Template:
    """An object as the pivot shows it; `mask (height, width)` is the frame's."""

    def __init__(self, view: View, mask: np.ndarray):
        self.view, self.whole, self.mask = view, mask, view.resize(mask)
        self.opaque = self.mask.astype(np.float32)
        self.area = int(self.mask.sum())
        margin = max(1, round(0.03 * self.area**0.5))
        kernel = np.ones((2 * margin + 1, 2 * margin + 1))
        self.around = cv2.dilate(self.mask.astype(np.uint8), kernel)
        self.box = cv2.boundingRect(self.mask.astype(np.uint8))

    @cached_property
    def centre(self) -> np.ndarray:
        return np.argwhere(self.mask).mean(0)[::-1]

    @cached_property
    def features(self) -> tuple[np.ndarray, np.ndarray | None]:
        places, descriptors = self.view.features
        if descriptors is None:
            return places, None
        column, row = places.astype(int).T
        own = self.around[row, column] > 0
        return places[own], descriptors[own]

    @cached_property
    def description(self) -> np.ndarray:
        return self.view.proposals.describe(self.whole)


@dataclass(frozen=True)
class Guess:
    """Where an object may be in a frame.

    Args:
        places: `(h, w, 2)` float32, of each pixel its (x, y) in the pivot.
        mask: `(h, w)` bool, the object there.
        agreement: `(h, w)` float32 in [0, 1], how far a pixel of it has the pivot's colour.
        score: how far the whole looks like it, 1 at most.
    """

    places: np.ndarray
    mask: np.ndarray
    agreement: np.ndarray
    score: float


class MaskTracker:
    """A `Tracker` of dataset_script/annotate/models.py.

    Args:
        propose: masks of a frame with features, see [`Proposals`]; None: there are none.
        ways: of [`WAYS`], those that are tried.
    """

    def __init__(
        self,
        propose: Callable[[np.ndarray], Proposals] | None = None,
        ways: Sequence[str] = WAYS,
    ):
        if unknown := set(ways) - set(WAYS):
            raise ValueError(f"ways must be of {', '.join(WAYS)}, got {', '.join(unknown)}")
        self.ways = tuple(ways)
        self.propose = propose if "proposals" in self.ways else None

    def track(
        self, frames: Sequence[np.ndarray], pivot: int, masks: dict[int, np.ndarray]
    ) -> Iterator[tuple[int, dict[int, np.ndarray]]]:
        """See `Tracker.track`; frames after the pivot come first, the nearest of them first.

        Raises:
            ValueError: there is no such frame, or a mask is not of its size.
        """
        if not 0 <= pivot < len(frames):
            raise ValueError(f"the pivot must be one of {len(frames)} frames, got {pivot}")
        size = frames[pivot].shape[:2]
        for fid, mask in masks.items():
            if mask.shape != size:
                raise ValueError(f"object {fid}: a mask of {mask.shape} for frames of {size}")
        start = View(frames[pivot], self.propose)
        templates = {fid: Template(start, mask) for fid, mask in masks.items()}
        for places in (range(pivot + 1, len(frames)), range(pivot - 1, -1, -1)):
            last = dict.fromkeys(templates, (start, _grid(start.size)))
            for place in places:
                view = View(frames[place], self.propose)
                guesses = {fid: self._find(templates[fid], view, *last[fid]) for fid in templates}
                last |= {fid: (view, g.places) for fid, g in guesses.items() if g is not None}
                yield place, self._settle(templates, view, guesses)

    def _find(
        self, template: Template, view: View, last: View, last_places: np.ndarray
    ) -> Guess | None:
        """Where the object is; None where it is not to be seen."""
        if template.area < MIN_PIXELS:
            return None
        guesses = []
        if "flow" in self.ways:
            guesses.append(_judge(template, view, _follow(view, last, last_places)))
        moves = []
        if "features" in self.ways:
            moves += _match_features(template, view)
        if "search" in self.ways:
            moves += _search(template, view)
        if view.proposals is not None:
            moves += _match_proposals(template, view)
        rough = [_judge(template, view, _move(move, view.size)) for move in moves]
        rough = sorted((guess for guess in rough if guess), key=lambda guess: -guess.score)
        for guess in rough[:REFINED]:
            guesses += [guess, _judge(template, view, _bend(template, view, guess.places))]
        best = max((guess for guess in guesses if guess), key=lambda g: g.score, default=None)
        return best if _is_seen(template, view, best) else None

    def _settle(
        self, templates: dict[int, Template], view: View, guesses: dict[int, Guess | None]
    ) -> dict[int, np.ndarray]:
        """Masks at the frame's size: a pixel is of the object with whose picture it agrees most."""
        size = view.frame.shape[:2]
        shares = {fid: _share(templates[fid], view, guess) for fid, guess in guesses.items()}
        most = np.max(list(shares.values()), axis=0, initial=0.0) if shares else None
        return {
            fid: (share > 0) & (share >= most) if share.any() else np.zeros(size, bool)
            for fid, share in shares.items()
        }


def _share(template: Template, view: View, guess: Guess | None) -> np.ndarray:
    """How far each pixel of the frame is the object's, `(height, width)` float32; 0 where it is
    not."""
    size = view.frame.shape[:2]
    if guess is None:
        return np.zeros(size, np.float32)
    smooth = _smooth(guess.agreement)
    agreement = cv2.resize(smooth, size[::-1], interpolation=cv2.INTER_LINEAR)
    proposed = _proposed(view, guess, smooth)
    if proposed is not None:
        return np.maximum(agreement, 0.01) * proposed
    scale = (np.array(size[::-1]) / view.size[::-1]).astype(np.float32)
    places = cv2.resize((guess.places + 0.5) * scale - np.float32(0.5), size[::-1])
    shown = _at(template.whole.astype(np.float32), places) > 0.5
    return agreement * (shown & (agreement > VISIBLE))


def _proposed(view: View, guess: Guess, agreement: np.ndarray) -> np.ndarray | None:
    """The proposal that shows the same, where the object's form has changed so that the guess is
    not exact."""
    if guess.agreement[guess.mask].mean() >= EXACT:
        return None
    mask = guess.mask & (agreement > VISIBLE)
    overlaps = [(mask & other).sum() / max(1, (mask | other).sum()) for other in view.proposed]
    if max(overlaps, default=0.0) < SAME_MASK:
        return None
    return view.proposals.masks[int(np.argmax(overlaps))]


# Guesses


def _judge(template: Template, view: View, places: np.ndarray) -> Guess | None:
    """None where nothing of the object is left in the frame."""
    mask = _at(template.opaque, places) > 0.5
    if mask.sum() < MIN_PIXELS:
        return None
    agreement, score = _compare(template, view, places, mask)
    return Guess(places, mask, agreement, score)


def _compare(
    template: Template, view: View, places: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, float]:
    """How far the pixels of a mask have the pivot's colours, `(h, w)` in [0, 1] and 0 beside it;
    and the mean of that and of the colours' correlation, at most 1."""
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    part = (slice(y, y + h), slice(x, x + w))
    inside = mask[part]
    expected = _at(template.view.colours, places[part], cv2.BORDER_REPLICATE)
    found = view.colours[part]
    difference = found - expected
    shift = np.clip(np.median(difference[inside], 0), np.negative(MAX_SHIFT), MAX_SHIFT)
    distance = np.linalg.norm(difference - shift, axis=-1)
    agreement = np.zeros(view.size, np.float32)
    agreement[part] = np.clip(1 - distance / MAX_COLOUR, 0, 1) * inside
    one, other = expected[inside], found[inside]
    one, other = one - one.mean(0), other - other.mean(0)
    correlation = (one * other).sum() / (np.linalg.norm(one) * np.linalg.norm(other) + 1e-6)
    return agreement, float((agreement[mask].mean() + correlation) / 2)


def _is_seen(template: Template, view: View, guess: Guess | None) -> bool:
    """Whether the whole looks like the object, or, more so, what is not hidden of it."""
    if guess is None or guess.score >= SEEN:
        return guess is not None
    shown = guess.mask & (_smooth(guess.agreement) > VISIBLE)
    if shown.sum() < max(MIN_PIXELS, LEAST * guess.mask.sum()):
        return False
    return _compare(template, view, guess.places, shown)[1] >= PARTLY_SEEN


def _follow(view: View, last: View, last_places: np.ndarray) -> np.ndarray:
    """By optical flow from the last frame that showed the object."""
    flow = _flow().calc(view.grey, last.grey, None)
    return _at(last_places, _grid(view.size) + flow, cv2.BORDER_REPLICATE)


def _match_features(template: Template, view: View) -> list[np.ndarray]:
    """By local features: the similarities on which most of them agree, at most two."""
    (places, descriptors), (others, other_descriptors) = template.features, view.features
    if descriptors is None or other_descriptors is None or len(others) < 2:
        return []
    pairs = cv2.BFMatcher().knnMatch(descriptors, other_descriptors, k=2)
    pairs = [one for one, other in pairs if one.distance < 0.85 * other.distance]
    moves = []
    for _ in range(2):
        if len(pairs) < 4:
            break
        sources = places[[pair.queryIdx for pair in pairs]]
        targets = others[[pair.trainIdx for pair in pairs]]
        move, inliers = cv2.estimateAffinePartial2D(
            sources, targets, method=cv2.RANSAC, ransacReprojThreshold=4, maxIters=1000
        )
        if move is None:
            break
        scale = abs(np.linalg.det(move[:, :2])) ** 0.5
        if inliers.sum() >= 4 and 1 / MAX_SCALE < scale < MAX_SCALE:
            moves.append(move)
        pairs = [pair for pair, inlier in zip(pairs, inliers.ravel(), strict=True) if not inlier]
    return moves


def _search(template: Template, view: View) -> list[np.ndarray]:
    """By correlation of the object's picture with all of the frame, and a margin beyond it."""
    factor = min(1.0, SEARCH_SIZE / max(view.size))
    small = cv2.resize(view.pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    left, top, width, height = template.box
    own = (slice(top, top + height), slice(left, left + width))
    found = []
    for scale in SEARCH_SCALES:
        w, h = (max(4, round(side * factor * scale)) for side in (width, height))
        picture = cv2.resize(template.view.pixels[own], (w, h), interpolation=cv2.INTER_AREA)
        inside = cv2.resize(template.opaque[own], (w, h), interpolation=cv2.INTER_AREA) > 0.5
        if inside.sum() < MIN_PIXELS:
            continue
        rows, columns = h // 2 + 1, w // 2 + 1
        padded = cv2.copyMakeBorder(small, rows, rows, columns, columns, cv2.BORDER_REPLICATE)
        if padded.shape[0] < h or padded.shape[1] < w:
            continue
        opaque = np.repeat(inside.astype(np.uint8)[..., None], 3, axis=-1)
        likeness = cv2.matchTemplate(padded, picture, cv2.TM_CCOEFF_NORMED, mask=opaque)
        likeness[~(np.abs(likeness) <= 1.01)] = -1  # of parts of one colour it is not defined
        for _ in range(2):
            _, best, _, (x, y) = cv2.minMaxLoc(likeness)
            around = (
                slice(max(0, y - h // 4), y + h // 4 + 1),
                slice(max(0, x - w // 4), x + w // 4 + 1),
            )
            likeness[around] = -1
            sx, sy = w / factor / width, h / factor / height
            x, y = (x - columns) / factor - sx * left, (y - rows) / factor - sy * top
            found.append((best, np.array([[sx, 0, x], [0, sy, y]])))
    found.sort(key=lambda entry: -entry[0])
    return [move for _, move in found[:4]]


def _match_proposals(template: Template, view: View) -> list[np.ndarray]:
    """To the places of the proposals whose features are nearest to the object's: at their size and
    at the object's own."""
    moves = []
    likeness = view.proposals.features @ template.description
    for index in np.argsort(-likeness)[:NEAREST]:
        area = int(view.proposed[index].sum())
        scale = (area / template.area) ** 0.5
        if area >= MIN_PIXELS and 1 / MAX_SCALE < scale < MAX_SCALE:
            centre = np.argwhere(view.proposed[index]).mean(0)[::-1]
            for factor in (scale, 1.0):
                shift = centre - factor * template.centre
                moves.append(np.concatenate([factor * np.eye(2), shift[:, None]], axis=1))
    return moves


def _bend(template: Template, view: View, places: np.ndarray) -> np.ndarray:
    """A guess bent by optical flow, in which what is around the object has no part."""
    shown = _at(template.around.astype(np.float32), places) > 0.3
    x, y, w, h = cv2.boundingRect(shown.astype(np.uint8))
    part = tuple(
        slice(max(0, start - 16), min(side, start + length + 16))
        for start, length, side in ((y, h, view.size[0]), (x, w, view.size[1]))
    )
    grey = np.ascontiguousarray(view.grey[part])
    if min(grey.shape) < 24:  # too small for the coarsest level of the flow
        return places
    expected = _at(template.view.grey, places[part], cv2.BORDER_REPLICATE)
    flow = _flow().calc(grey, np.where(shown[part], expected, grey), None)
    flow = _smooth(flow)
    bent = places.copy()
    bent[part] = _at(places, _grid(view.size)[part] + flow, cv2.BORDER_REPLICATE)
    return bent


# Pictures


def _smooth(picture: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), 2.0)


def _at(picture: np.ndarray, places: np.ndarray, border: int = cv2.BORDER_CONSTANT) -> np.ndarray:
    """A picture read at (x, y) `places (h, w, 2)`."""
    columns, rows = np.ascontiguousarray(places[..., 0]), np.ascontiguousarray(places[..., 1])
    return cv2.remap(picture, columns, rows, cv2.INTER_LINEAR, borderMode=border)


def _grid(size: tuple[int, int]) -> np.ndarray:
    """Of each pixel its (x, y), `(h, w, 2)` float32."""
    return np.stack(np.meshgrid(*map(np.arange, size[::-1])), axis=-1).astype(np.float32)


def _move(move: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A similarity `(2, 3)` from the pivot to a frame as places in the pivot."""
    back = cv2.invertAffineTransform(move).astype(np.float32)
    return _grid(size) @ back[:, :2].T + back[:, 2]


@cache
def _sift() -> cv2.SIFT:
    return cv2.SIFT_create(nfeatures=3000, contrastThreshold=0.015)


def _flow() -> cv2.DISOpticalFlow:
    """A new one each time: what it computes depends on pictures of another size before."""
    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
