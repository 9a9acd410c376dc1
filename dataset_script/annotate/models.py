"""What the page asks of models; `modeling_refavs.inference.annotation_models` has them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Prompt:
    """What a person points at in one frame, in its pixels.

    Args:
        points: (x, y) of clicks.
        labels: of each click, True on the object and False beside it.
        box: (left, top, right, bottom) around the object.
        mask: `(height, width)` bool, the object as it is marked so far.

    Raises:
        ValueError: nothing is pointed at.
    """

    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[bool, ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask: np.ndarray | None = None

    def __post_init__(self):
        if not self.points and self.box is None and self.mask is None:
            raise ValueError("nothing is pointed at: give clicks, a box or a mask")


@dataclass(frozen=True)
class Candidate:
    """A thing that a detector found. `label` may be empty; `score` lies in [0, 1]."""

    mask: np.ndarray  # (height, width) bool
    label: str
    score: float


class Segmenter(Protocol):
    def segment(self, frame: np.ndarray, prompt: Prompt) -> np.ndarray:
        """The mask `(height, width)` bool of what is meant in `frame (height, width, 3)` uint8."""


class Detector(Protocol):
    def detect(self, frame: np.ndarray, text: str = "") -> list[Candidate]:
        """Things in a frame, the likeliest first: those that `text` ("dog. piano.") names, where
        it is given."""


class Tracker(Protocol):
    def track(
        self, frames: Sequence[np.ndarray], pivot: int, masks: dict[int, np.ndarray]
    ) -> Iterator[tuple[int, dict[int, np.ndarray]]]:
        """Objects of one frame in all others of their shot.

        Args:
            frames: of one shot, in order, `(height, width, 3)` uint8 each.
            pivot: the place in `frames` of the one whose masks are known.
            masks: fid -> `(height, width)` bool in that frame.

        Yields:
            (place, masks by fid) of each other frame, in any order; each mask empty where the
            object is not to be seen.
        """


class SoundProposer(Protocol):
    def propose(self, samples: np.ndarray, category: str) -> list[tuple[float, float]]:
        """Intervals (start, end) in s of `samples (n,)` at 16 kHz in which the category may be
        heard, in order and apart."""


@dataclass(frozen=True)
class AnnotationModels:
    """What the page works with. Without a detector there are no candidates, and so on."""

    segmenter: Segmenter
    tracker: Tracker
    detector: Detector | None = None
    sound: SoundProposer | None = None
