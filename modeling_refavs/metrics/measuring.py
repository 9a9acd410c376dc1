"""J, F and S of sets of sentences, with confidence intervals over clips."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from .refavs_fscore.refavs_fscore import pool as pool_fscore
from .refavs_jaccard.refavs_jaccard import check_pooling
from .refavs_jaccard.refavs_jaccard import pool as pool_jaccard
from .refavs_null.refavs_null import pool as pool_null


LEVEL = 0.95  # of confidence
SEED = 0  # of the bootstrap

Pool = Callable[[np.ndarray, np.ndarray, str, int], float]


@dataclass(frozen=True)
class Pooling:
    """How sentences become one number; `num_draws` of clips tell how sure it is."""

    name: str = "dataset"
    batch_size: int = 4
    num_draws: int = 1000

    def __post_init__(self) -> None:
        check_pooling(self.name, self.batch_size)
        if self.num_draws < 1:
            raise ValueError(f"the number of bootstrap draws must be at least 1, got {self.num_draws}")


@dataclass(frozen=True)
class Estimate:
    """A value, and the value in each bootstrap draw; NaN where nothing counts."""

    value: float
    draws: np.ndarray

    @property
    def interval(self) -> tuple[float, float]:
        """The middle 95 % of the draws."""
        tail = (1 - LEVEL) / 2
        known = self.draws[np.isfinite(self.draws)]
        return tuple(np.quantile(known, [tail, 1 - tail]).tolist()) if len(known) else (float("nan"), float("nan"))


def mean_of(estimates: Iterable[Estimate]) -> Estimate:
    """The plain mean: Mix of Seen and Unseen, J&F of J and F."""
    estimates = list(estimates)
    value = sum(estimate.value for estimate in estimates) / len(estimates)
    return Estimate(value, np.mean([estimate.draws for estimate in estimates], axis=0))


@dataclass(frozen=True)
class Sentences:
    """Scores of sentences in the order of the data, column by column: see [`SentenceScore`].

    Args:
        clips: `(sentences,)`, a number for each clip, ascending.
        is_null: `(sentences,)` bool.
        jaccard, fscore, predicted: sums `(sentences,)`, `(sentences, thresholds)`, `(sentences,)`.
        jaccard_frames, object_frames, frames: `(sentences,)`, what they are sums of.
    """

    clips: np.ndarray
    is_null: np.ndarray
    jaccard: np.ndarray
    jaccard_frames: np.ndarray
    fscore: np.ndarray
    object_frames: np.ndarray
    predicted: np.ndarray
    frames: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> "Sentences":
        return Sentences(**{name: column[rows] for name, column in vars(self).items()})

    def measure(self, pooling: Pooling) -> dict[str, Estimate]:
        """`jaccard` and `fscore` of the sentences that refer to something, `null` of those that do not."""
        real, null = self[~self.is_null], self[self.is_null]
        return {
            "jaccard": _estimate(pool_jaccard, real.jaccard, real.jaccard_frames, real.clips, pooling),
            "fscore": _estimate(pool_fscore, real.fscore, real.object_frames, real.clips, pooling),
            "null": _estimate(pool_null, null.predicted, null.frames, null.clips, pooling),
        }


def _estimate(pool: Pool, sums: np.ndarray, counts: np.ndarray, clips: np.ndarray, pooling: Pooling) -> Estimate:
    """Bootstrap over clips, since sentences about one clip stand or fall together."""
    if not len(counts):
        return Estimate(float("nan"), np.full(pooling.num_draws, np.nan))
    pool = partial(pool, pooling=pooling.name, batch_size=pooling.batch_size)
    value = pool(sums, counts)
    starts = np.flatnonzero(np.diff(clips, prepend=-1))
    if pooling.name == "dataset":  # sums of clips say as much as sums of sentences, and are fewer
        sums, counts, starts = np.add.reduceat(sums, starts), np.add.reduceat(counts, starts), np.arange(len(starts))
    members = np.split(np.arange(len(counts)), starts[1:])
    drawn = np.random.default_rng(SEED).integers(len(members), size=(pooling.num_draws, len(members)))
    rows = (np.concatenate([members[clip] for clip in draw]) for draw in drawn)
    return Estimate(value, np.array([pool(sums[chosen], counts[chosen]) for chosen in rows]))
