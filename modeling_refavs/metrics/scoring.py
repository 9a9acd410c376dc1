"""One sentence's masks to the few numbers that J, F and S of any set of sentences are made of."""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dataset_script.taxonomy import NULL_CATEGORY

from ..utils.files import whole_file
from .refavs_fscore.refavs_fscore import score_frames as fscore_curves
from .refavs_jaccard.refavs_jaccard import EMPTY_TRUTHS
from .refavs_jaccard.refavs_jaccard import score_frames as jaccard_frames
from .refavs_noref.refavs_noref import is_answered
from .refavs_null.refavs_null import score_frames as predicted_shares


NUM_BINS = 15  # of a calibration error, as in Guo et al., ICML 2017


@dataclass(frozen=True)
class Conventions:
    """How a mask is scored.

    Args:
        mask_size: masks are scored at this height and width, as the published ones were; None: at
            the truth's own.
        threshold: of J; `null_threshold` of S.
        empty_truth: what a frame without the object scores in J, see [`RefavsJaccard`].
    """

    mask_size: int | None = 256
    threshold: float = 0.4
    null_threshold: float = 0.5
    empty_truth: str = "true_negatives"

    def __post_init__(self) -> None:
        for threshold in (self.threshold, self.null_threshold):
            if not 0 <= threshold < 1:
                raise ValueError(f"a threshold must lie in [0, 1), got {threshold}")
        if self.mask_size is not None and self.mask_size < 1:
            raise ValueError(f"the mask size must be at least 1 pixel, got {self.mask_size}")
        if self.empty_truth not in EMPTY_TRUTHS:
            raise ValueError(
                f"empty_truth must be one of {', '.join(EMPTY_TRUTHS)}, got {self.empty_truth!r}"
            )


@dataclass(frozen=True)
class Truth:
    """`masks (frames, height, width)` bool at the size they are scored at; `file_size` (height,
    width) on disk."""

    masks: np.ndarray
    file_size: tuple[int, int]


@dataclass(frozen=True)
class Prediction:
    """What is predicted for a sentence.

    Args:
        probabilities: `(frames, height, width)` float32 in [0, 1], that a pixel is of the object.
        presence: `(frames,)` in [0, 1], that a frame shows the object; None if it is not said.
        iou: the IoU that the model expects of its masks, in [0, 1]; None if it is not said.
    """

    probabilities: np.ndarray
    presence: np.ndarray | None = None
    iou: float | None = None


@dataclass(frozen=True)
class SentenceScore:
    """What is kept of a sentence; sums run over its frames.

    Args:
        jaccard, jaccard_frames: the sum of J, and the frames that count.
        fscore, object_frames: the sum of the F curves, 255 numbers, and the frames that show the
            object.
        predicted, frames: the sum of the predicted parts of the frames (for S), and all frames.
        answered: whether any pixel of any frame is predicted, at the threshold of S.
        presence, shown: of each frame the probability that it shows the object, None if it is not
            said; and whether it does.
        iou: that the model expects; None if it does not say.
    """

    uid: str
    expression: str
    category: str
    jaccard: float
    jaccard_frames: int
    fscore: tuple[float, ...]
    object_frames: int
    predicted: float
    frames: int
    answered: bool
    presence: tuple[float, ...] | None
    shown: tuple[bool, ...]
    iou: float | None

    @property
    def is_null(self) -> bool:
        """The sentence refers to nothing: it counts for S, and not for J and F."""
        return self.category == NULL_CATEGORY


def score_sentence(
    sentence: dict[str, Any], prediction: Prediction, masks: np.ndarray, conventions: Conventions
) -> SentenceScore:
    """
    Args:
        sentence: a row's `uid`, `expression` and `category`.
        masks: `(frames, height, width)` bool, the truth.
    """
    probabilities, presence = prediction.probabilities, prediction.presence
    jaccard = jaccard_frames(probabilities, masks, conventions.threshold, conventions.empty_truth)
    curves = fscore_curves(probabilities, masks)
    return SentenceScore(
        uid=sentence["uid"],
        expression=sentence["expression"],
        category=sentence["category"],
        jaccard=float(np.nansum(jaccard)),
        jaccard_frames=int(np.isfinite(jaccard).sum()),
        fscore=tuple(curves.sum(axis=0).tolist()),
        object_frames=len(curves),
        predicted=float(predicted_shares(probabilities, conventions.null_threshold).sum()),
        frames=len(masks),
        answered=is_answered(probabilities, conventions.null_threshold),
        presence=None if presence is None else tuple(presence.tolist()),
        shown=tuple(masks.any(axis=(1, 2)).tolist()),
        iou=prediction.iou,
    )


def score_clip(
    clip: dict[str, Any],
    truths: list[Truth],
    predictions: Iterable[Prediction],
    conventions: Conventions,
) -> tuple[list[dict[str, Any]], float]:
    """The scores of a clip's sentences as JSON takes them, and the seconds spent on them alone."""
    scores, seconds = [], 0.0
    for sentence, truth, prediction in zip(clip["expressions"], truths, predictions, strict=True):
        start = time.perf_counter()
        scores.append(asdict(score_sentence(sentence, prediction, truth.masks, conventions)))
        seconds += time.perf_counter() - start
    return scores, seconds


def true_masks(clip: dict[str, Any], mask_size: int | None) -> list[Truth]:
    """Of each sentence of a row of configuration `clips` the true masks; sentences about one object
    share an array."""
    by_fid = {}
    for thing in clip["objects"]:
        width, height = thing["masks"][0].size
        size = (height, width) if mask_size is None else (mask_size, mask_size)
        by_fid[thing["fid"]] = Truth(
            np.stack([to_mask(mask, size) for mask in thing["masks"]]), (height, width)
        )
    return [by_fid[sentence["fid"]] for sentence in clip["expressions"]]


def to_mask(picture: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """A mask file as bool `size` (height, width), the nearest pixel's value: above 0 is
    the object."""
    return np.asarray(picture.convert("L").resize(size[::-1], Image.Resampling.NEAREST)) > 0


Record = dict[str, Any]


class Journal:
    """`folder/request.json`, what is evaluated, and `folder/scores-<process>.jsonl`, a line a clip.

    Each process appends to a file of its own. A line counts once it has its end: one that was cut
    short is evaluated anew. The number of processes may change from one run to the next.

    Args:
        folder: made if it is not there.
        request: what the scores depend on, in types that JSON has.
        process: the number of this process.

    Raises:
        ValueError: the folder holds the scores of another request.
    """

    def __init__(self, folder: str | Path, request: dict[str, Any], process: int = 0):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._claim(request)
        self.done = {(record["split"], record["index"]) for record in self.read()}
        path = self.folder / f"scores-{process}.jsonl"
        _cut_torn_line(path)
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error) -> None:
        self._file.close()

    def append(self, record: Record) -> None:
        """Add a clip: its `split`, its `index` there, and whatever else is known of it."""
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._file.flush()

    def read(self) -> Iterator[Record]:
        """See [`read_records`]."""
        return read_records(self.folder)

    def of_splits(self, clips: Mapping[str, int]) -> Iterator[Record]:
        """As [`Journal.read`], of each split in `clips` so many of its first clips alone."""
        for record in self.read():
            if record["index"] < clips.get(record["split"], 0):
                yield record

    def _claim(self, request: dict[str, Any]) -> None:
        path = self.folder / "request.json"
        if not path.exists():
            with whole_file(path) as unfinished:
                unfinished.write_text(json.dumps(request, indent=2) + "\n", encoding="utf-8")
        earlier = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name, value in request.items() if earlier.get(name) != value]
        if changed:
            raise ValueError(
                f"{self.folder} holds scores of another evaluation ({', '.join(changed)} differ): "
                "give another --output, or remove it"
            )


def read_records(folder: str | Path) -> Iterator[Record]:
    """All clips that the processes of an evaluation scored, one at a time, in no order."""
    for path in sorted(Path(folder).glob("scores-*.jsonl")):
        with path.open(encoding="utf-8") as file:
            yield from (json.loads(line) for line in file if line.endswith("\n"))


def _cut_torn_line(path: Path) -> None:
    if path.exists() and (text := path.read_bytes()) and not text.endswith(b"\n"):
        os.truncate(path, text.rfind(b"\n") + 1)


def roc_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """The area under the ROC curve: how often a positive has the higher score than a negative; a
    tie counts one half. NaN unless there are both.

    Args:
        scores: `(n,)`.
        labels: `(n,)` bool.
    """
    positives = np.count_nonzero(labels)
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    _, place, ties = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[place]  # from 1; the mean rank of what is equal
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / positives / negatives)


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, num_bins: int = NUM_BINS
) -> float:
    """The mean distance between the probability and the share of positives, over bins of equal
    width weighted by what falls into them (Guo et al., ICML 2017, Eq. 3). NaN for nothing.

    Args:
        probabilities: `(n,)` in [0, 1].
        labels: `(n,)` bool.
    """
    if not len(labels):
        return float("nan")
    bins = np.minimum((probabilities * num_bins).astype(int), num_bins - 1)
    excess = np.bincount(bins, probabilities - labels, num_bins)
    return float(np.abs(excess).sum() / len(labels))
