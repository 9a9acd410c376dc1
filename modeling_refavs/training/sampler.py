"""Which clips are seen in which order, and what is drawn of each.

Every draw follows from the seed, the epoch and the place in it alone. So a run that was stopped
goes on with the draws that it would have made, whatever the number of processes, data loader
workers or accumulation steps.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from .dataset import PreparedClip, Sentence


HARDEST = 5  # grade


class Draw(NamedTuple):
    """One clip, seen at one place of the training. `grade` is the highest that its sentences may
    have, `families` those that they
    may be of; None: any."""

    clip: int
    seed: int
    epoch: int
    place: int
    grade: int | None
    families: frozenset[str] | None = None

    def may_ask(self, sentence: Sentence) -> bool:
        graded = self.grade is None or sentence.grade <= self.grade
        return graded and (self.families is None or sentence.family in self.families)

    def generator(self, purpose: int) -> np.random.Generator:
        """`purpose` tells apart what is drawn for one clip."""
        return np.random.default_rng([self.seed, self.epoch, self.place, purpose])


class ClipSampler(Sampler[Draw]):
    """All clips in a new order each epoch.

    Args:
        clips: of the training split.
        seed: of all draws.
        null_share: clips of null references are seen again until they are this share; None: as
            often as others.
        curriculum: `(share of the training, highest grade)` from easy to hard. A clip with no
            sentence so easy is replaced by another one.
        families: of sentences, see `dataset_script.synthetic.templates`; others are not asked.
        num_draws: clips seen in the whole training, which the shares of the curriculum are of.
    """

    def __init__(
        self,
        clips: Sequence[PreparedClip],
        seed: int,
        null_share: float | None = None,
        curriculum: list[tuple[float, int]] | None = None,
        families: Collection[str] | None = None,
        num_draws: int | None = None,
    ):
        self.seed, self.curriculum, self.num_draws, self.epoch = seed, curriculum, num_draws, 0
        self.families = frozenset(families) if families else None
        is_null = np.array([clip.is_null for clip in clips])
        self.once, self.nulls = np.arange(len(clips)), np.flatnonzero(is_null)
        self.num_again = 0
        if null_share is not None:
            self.num_again = _num_again(len(self.nulls), len(clips), null_share)
        if curriculum or families:
            self.easiest = np.array([self._easiest(clip) for clip in clips])
            lowest = curriculum[0][1] if curriculum else HARDEST
            if not (self.easiest <= lowest).any():
                raise ValueError(
                    f"curriculum and families: no clip has such a sentence of grade {lowest} or less"
                )

    def __len__(self) -> int:
        return len(self.once) + self.num_again

    def __iter__(self) -> Iterator[Draw]:
        rng = np.random.default_rng([self.seed, self.epoch])
        again = [
            rng.permutation(self.nulls)
            for _ in range(math.ceil(self.num_again / max(len(self.nulls), 1)))
        ]
        clips = rng.permutation(np.concatenate([self.once, *again])[: len(self)])
        for place, clip in enumerate(clips.tolist()):
            grade = self._grade(place)
            if grade is not None and self.easiest[clip] > grade:
                clip = int(rng.choice(np.flatnonzero(self.easiest <= grade)))
            yield Draw(clip, self.seed, self.epoch, place, grade, self.families)

    def _easiest(self, clip: PreparedClip) -> float:
        asked = (
            sentence
            for sentence in clip.sentences
            if self.families is None or sentence.family in self.families
        )
        return min((sentence.grade for sentence in asked), default=math.inf)

    def _grade(self, place: int) -> int | None:
        if not self.curriculum:
            return HARDEST if self.families else None
        done = (self.epoch * len(self) + place) / (self.num_draws or len(self))
        return [grade for share, grade in self.curriculum if share <= done][-1]


def _num_again(nulls: int, clips: int, share: float) -> int:
    """How many clips of null references must be seen again so that they are this share of all."""
    if not nulls and share:
        raise ValueError("null_share: the training split has no clip of null references")
    return max(0, round(share * (clips - nulls) / (1 - share)) - nulls)
