"""N-acc and T-acc of GRES (CVPR 2023, arXiv 2306.00968), for videos: which sentences are
answered."""

import inspect
from typing import Any

import datasets
import evaluate
import numpy as np


_DESCRIPTION = """
N-acc, the share of null references (sentences that are true of nothing in their clip) that are left empty, and T-acc, the
share of the other sentences that are answered. A sentence is answered if any pixel of any of its frames is predicted. A
model that never answers has the best S and N-acc, and T-acc 0.
"""  # noqa: E501

_CITATION = """
@inproceedings{liu2023gres,
  title = {{GRES}: Generalized Referring Expression Segmentation},
  author = {Liu, Chang and Ding, Henghui and Jiang, Xudong},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2023}
}
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: one entry a sentence, `(frames, height, width)`, or `(height, width)` for a single frame. Floats are
        probabilities in [0, 1], or logits if the metric was loaded with `logits=True`; booleans and integers are masks,
        where any value above 0 is the object. Sentences may differ in size: every sentence weighs the same.
    references: true masks, alike, or None: all sentences are null references. With them, a sentence whose object is
        seen in no frame is a null reference, and any other is not.
    pooling, batch_size: as the other metrics of Ref-AVS have them, so that `evaluate.combine` can give all the same. They
        change nothing: a share of sentences has no batches.

Loaded with:
    threshold: a pixel is predicted if its probability is above it (0.5, as for S).
    logits: floats are logits.

Returns:
    n_acc: in [0, 1], the share of null references left empty; NaN if there are none.
    t_acc: in [0, 1], the share of other sentences answered, rightly or wrongly; NaN if there are none.

Examples:
    >>> metric = evaluate.load("refavs_noref")
    >>> metric.compute(predictions=[[[0.9, 0.1]], [[0.2, 0.1]]], references=[[[1, 0]], [[0, 0]]])
    {'n_acc': 1.0, 't_acc': 1.0}
"""  # noqa: E501

POOLINGS = ("dataset", "released")


def to_probabilities(predictions: Any, logits: bool = False) -> np.ndarray:
    """`(frames, height, width)` float32 in [0, 1], as `predictions` is documented above; a new
    array."""
    values = np.asarray(predictions)
    if values.ndim not in (2, 3) or not values.size:
        raise ValueError(
            f"predictions of a sentence must be (frames, height, width), got {values.shape}"
        )
    values = values.reshape(-1, *values.shape[-2:])  # (height, width) -> (1, height, width)
    if not logits and values.dtype.kind in "bui":
        return (values > 0).astype(np.float32)
    values = values.astype(np.float32)
    if np.isnan(values).any():
        raise ValueError("predictions hold NaN")
    if logits:
        with np.errstate(
            over="ignore"
        ):  # exp(90) is infinite in float32, and 1 / infinity is the 0 that is meant
            return 1 / (1 + np.exp(-values))
    if values.min() < 0 or values.max() > 1:
        raise ValueError(
            f"probabilities must lie in [0, 1], got {values.min():g} to {values.max():g}: load "
            "with logits=True"
        )
    return values


def to_masks(references: Any, shape: tuple[int, ...]) -> np.ndarray:
    """`(frames, height, width)` bool of the size of the predictions; a new array."""
    masks = np.asarray(references) > 0
    masks = masks.reshape(-1, *masks.shape[-2:]) if masks.ndim == 2 else masks
    if masks.shape != shape:
        raise ValueError(
            f"references of a sentence must have the size of its predictions, {shape}, got "
            f"{masks.shape}"
        )
    return masks


def is_answered(probabilities: np.ndarray, threshold: float = 0.5) -> bool:
    """Whether any pixel of `(frames, height, width)` is predicted."""
    return bool((probabilities > threshold).any())


def pool(
    right: np.ndarray, counts: np.ndarray, pooling: str = "dataset", batch_size: int = 4
) -> float:
    """N-acc or T-acc of many sentences; NaN if none counts.

    Args:
        right: `(sentences,)`, 1 for a null reference left empty, or for another that is answered.
        counts: `(sentences,)`, 1 for each that counts.
    """
    check_pooling(pooling, batch_size)
    return float(right.sum() / counts.sum()) if counts.any() else float("nan")


def check_pooling(pooling: str, batch_size: int) -> None:
    if pooling not in POOLINGS:
        raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")


def check_options(options: dict[str, Any]) -> None:
    """`evaluate` drops what it does not know without a word."""
    known = inspect.signature(evaluate.Metric.__init__).parameters
    for name in options:
        if name in ("pooling", "batch_size"):
            raise ValueError(f"{name} is an argument of compute(), not of load()")
        if name not in known:
            raise ValueError(f"there is no option {name!r}: see the metric's documentation")


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class RefavsNoref(evaluate.Metric):
    def __init__(
        self,
        config_name: str | None = None,
        *,
        threshold: float = 0.5,
        logits: bool = False,
        **kwargs,
    ):
        check_options(kwargs)
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold must lie in [0, 1), got {threshold}")
        self.threshold, self.logits = threshold, logits
        super().__init__(config_name, **kwargs)

    def _info(self) -> evaluate.MetricInfo:
        # What is kept of a sentence, on disk: whether it is answered, and whether its object is
        # seen.
        features = {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(features),
            format="numpy",
            reference_urls=["https://arxiv.org/abs/2306.00968"],
        )

    def add_batch(self, *, predictions=None, references=None):
        """Score a batch of sentences; only two bits of each are kept."""
        if references is not None and len(predictions) != len(references):
            raise ValueError(f"{len(predictions)} predictions, but {len(references)} references")
        answered, seen = [], []
        for index, prediction in enumerate(predictions):
            probabilities = to_probabilities(prediction, self.logits)
            answered.append(int(is_answered(probabilities, self.threshold)))
            seen.append(
                0
                if references is None
                else int(to_masks(references[index], probabilities.shape).any())
            )
        super().add_batch(predictions=answered, references=seen)

    def add(self, *, prediction=None, reference=None, predictions=None, references=None):
        """Score one sentence; `evaluate.combine` passes it under the names in the plural."""
        prediction, reference = (
            (predictions, references) if prediction is None else (prediction, reference)
        )
        self.add_batch(
            predictions=[prediction], references=None if reference is None else [reference]
        )

    def _compute(self, predictions, references, pooling="dataset", batch_size=4):
        seen = references.astype(bool)
        return {
            "n_acc": pool(1 - predictions[~seen], 1 - references[~seen], pooling, batch_size),
            "t_acc": pool(predictions[seen], references[seen], pooling, batch_size),
        }
