"""Which answers of the model make the masks of which moment."""

import math
from dataclasses import dataclass

import numpy as np

from .opening import VideoInfo


SMOOTHING = 0.12  # s, of masks at the video's frame rate: see benchmarks/dense.py
FASTEST = 120.0  # pictures a second; a file that declares more has no meaningful frame rate
ROUNDING = 0.05  # of a step: time stamps are rounded, in Matroska to milliseconds


@dataclass(frozen=True)
class Timeline:
    """Masks are on display `rate` times a second; the model answered `looks` times a second.

    Masks between two answers, and with smoothing all masks, are means of logits, weighted with a triangle in time.

    Args:
        rate: of masks, per second: 1, or the video's frame rate.
        looks: of answers, per second; answer k is of the picture at k / looks s.
        smoothing: s, half the triangle's width; between answers it is never narrower than their distance. 0: none.
    """

    rate: float = 1.0
    looks: float = 1.0
    smoothing: float = 0.0

    @property
    def reach(self) -> float:
        """s; an answer nearer than that has its part in a mask. 0: the last answer alone counts."""
        return 0.0 if self.rate == 1 and not self.smoothing else max(self.smoothing, 1 / self.looks)

    def num_steps(self, duration: float, num_answers: int) -> int:
        """How many masks cover a video of `duration` s."""
        return num_answers if self.rate == self.looks else max(1, math.ceil(duration * self.rate - ROUNDING))

    def step_at(self, time: float) -> int:
        """The step on display at `time` (s)."""
        return int(time * self.rate + (ROUNDING if self.rate != 1 else 0))

    def time_of(self, step: int) -> float:
        """When a step begins, s."""
        return step / self.rate

    def answers(self, step: int, num_answers: int) -> tuple[np.ndarray, np.ndarray]:
        """The answers that make the masks of `step`, and the weight of each; weights sum up to 1."""
        place = self.time_of(step) * self.looks  # in answers
        if not self.reach:
            return np.array([min(int(place + ROUNDING), num_answers - 1)]), np.ones(1)
        reach = self.reach * self.looks
        first, last = max(0, math.floor(place - reach) + 1), min(num_answers - 1, math.ceil(place + reach) - 1)
        indices = np.arange(min(first, last), last + 1)  # beyond the last answer, that one
        weights = np.maximum(1 - np.abs(indices - place) / reach, 1e-6)
        return indices, weights / weights.sum()


def make_timeline(info: VideoInfo, rate: float | str, smoothing: float | None) -> Timeline:
    """Of what [`segment_video`] is asked for; no more looks than the video has pictures."""
    looks = min(info.frame_rate, FASTEST) if rate == "video" else min(float(rate), info.frame_rate, FASTEST)
    if looks <= 1:
        return Timeline(smoothing=smoothing or 0.0)
    return Timeline(min(info.frame_rate, FASTEST), looks, SMOOTHING if smoothing is None else smoothing)
