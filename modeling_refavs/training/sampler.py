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


class Draw(NamedTuple):
    """One clip, seen at one place of the training. `families` are those that its sentences may be
    of; None: any."""

    clip: int
    seed: int
    epoch: int
    place: int
    families: frozenset[str] | None = None

    def may_ask(self, sentence: Sentence) -> bool:
        return self.families is None or sentence.family in self.families

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
        families: of sentences, see `dataset_script.synthetic.sentences`; others are not asked. A
            clip with no such sentence is replaced by another one.
    """

    def __init__(
        self,
        clips: Sequence[PreparedClip],
        seed: int,
        null_share: float | None = None,
        families: Collection[str] | None = None,
    ):
        self.seed, self.epoch = seed, 0
        self.families = frozenset(families) if families else None
        is_null = np.array([clip.is_null for clip in clips])
        self.once, self.nulls = np.arange(len(clips)), np.flatnonzero(is_null)
        self.num_again = 0
        if null_share is not None:
            self.num_again = _num_again(len(self.nulls), len(clips), null_share)
        self.askable = np.array([self._is_askable(clip) for clip in clips])
        if not self.askable.any():
            raise ValueError(f"families: no clip has a sentence of {', '.join(families)}")

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
            if not self.askable[clip]:
                clip = int(rng.choice(np.flatnonzero(self.askable)))
            yield Draw(clip, self.seed, self.epoch, place, self.families)

    def _is_askable(self, clip: PreparedClip) -> bool:
        return self.families is None or any(
            sentence.family in self.families for sentence in clip.sentences
        )


def _num_again(nulls: int, clips: int, share: float) -> int:
    """How many clips of null references must be seen again so that they are this share of all."""
    if not nulls and share:
        raise ValueError("null_share: the training split has no clip of null references")
    return max(0, round(share * (clips - nulls) / (1 - share)) - nulls)
