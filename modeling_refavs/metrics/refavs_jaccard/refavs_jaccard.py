"""J of Ref-AVS (ECCV 2024, arXiv 2407.10957): the Jaccard index of predicted and true masks, frame
by frame."""

import inspect
from typing import Any

import datasets
import evaluate
import numpy as np


_DESCRIPTION = """
J, the Jaccard index (intersection over union) of predicted and true masks, averaged over frames. It says which convention
it uses: pooled over the data set (default), or over batches as the code released with Ref-AVS pools it.
"""  # noqa: E501

_CITATION = """
@inproceedings{wang2024refavs,
  title = {Ref-AVS: Refer and Segment Objects in Audio-Visual Scenes},
  author = {Wang, Yaoting and Sun, Peiwen and Zhou, Dongzhan and Li, Guangyao and Zhang, Honggang and Hu, Di},
  booktitle = {European Conference on Computer Vision},
  year = {2024}
}
"""  # noqa: E501

_KWARGS_DESCRIPTION = """
Args:
    predictions: one entry a sentence, `(frames, height, width)`, or `(height, width)` for a single frame. Floats are
        probabilities in [0, 1], or logits if the metric was loaded with `logits=True`; booleans and integers are masks,
        where any value above 0 is the object. Sentences may differ in size.
    references: true masks, alike; any value above 0 is the object.
    pooling: "dataset": every frame weighs the same, whatever the batches. "released": the mean over batches of
        `batch_size` sentences in the order given, so that a small last batch weighs as much as a full one.
    batch_size: sentences in a batch of the released pooling (the released code evaluates 4).

Loaded with:
    threshold: a pixel is predicted if its probability is above it (0.4 in the released code).
    logits: floats are logits.
    empty_truth: what a frame without the object scores. "true_negatives": the part of its pixels that is not predicted
        (released code, the default); "exact": 1 if nothing is predicted, else 0; "skip": nothing, it is left out.
    A frame with the object and without prediction scores 0.

Returns:
    refavs_jaccard: in [0, 1], higher is better; NaN if no frame counts.

Examples:
    >>> metric = evaluate.load("refavs_jaccard")
    >>> prediction = [[0.9, 0.1], [0.8, 0.1]]
    >>> truth = [[1, 0], [0, 0]]
    >>> metric.compute(predictions=[prediction], references=[truth])
    {'refavs_jaccard': 0.5}
"""  # noqa: E501

POOLINGS = ("dataset", "released")
EMPTY_TRUTHS = ("true_negatives", "exact", "skip")


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


def score_frames(
    probabilities: np.ndarray,
    masks: np.ndarray,
    threshold: float = 0.4,
    empty_truth: str = "true_negatives",
) -> np.ndarray:
    """J of each frame, `(frames,)` float64; NaN where a frame is left out.

    Args:
        probabilities: `(frames, height, width)` float.
        masks: `(frames, height, width)` bool, the truth.
        threshold, empty_truth: as documented above.
    """
    predicted = probabilities > threshold
    intersection = (predicted & masks).sum(axis=(1, 2))
    union = (predicted | masks).sum(axis=(1, 2))
    background = 1 - predicted.mean(axis=(1, 2))
    empty = {"true_negatives": background, "exact": background == 1, "skip": np.nan}[empty_truth]
    return np.where(masks.any(axis=(1, 2)), intersection / np.maximum(union, 1), empty)


def pool(
    sums: np.ndarray, counts: np.ndarray, pooling: str = "dataset", batch_size: int = 4
) -> float:
    """J of many sentences; NaN if no frame counts.

    Args:
        sums: `(sentences,)`, of each the sum of its frames' J.
        counts: `(sentences,)`, of each the frames that count.
    """
    check_pooling(pooling, batch_size)
    size = batch_size if pooling == "released" else max(len(counts), 1)
    batches = [slice(start, start + size) for start in range(0, len(counts), size)]
    values = [sums[batch].sum() / counts[batch].sum() for batch in batches if counts[batch].any()]
    return float(np.mean(values)) if values else float("nan")


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
class RefavsJaccard(evaluate.Metric):
    def __init__(
        self,
        config_name: str | None = None,
        *,
        threshold: float = 0.4,
        logits: bool = False,
        empty_truth: str = "true_negatives",
        **kwargs,
    ):
        check_options(kwargs)
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold must lie in [0, 1), got {threshold}")
        if empty_truth not in EMPTY_TRUTHS:
            raise ValueError(
                f"empty_truth must be one of {', '.join(EMPTY_TRUTHS)}, got {empty_truth!r}"
            )
        self.threshold, self.logits, self.empty_truth = threshold, logits, empty_truth
        super().__init__(config_name, **kwargs)

    def _info(self) -> evaluate.MetricInfo:
        # What is kept of a sentence, on disk: the sum of its frames' scores, and the number of
        # frames.
        features = {"predictions": datasets.Value("float64"), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(features),
            format="numpy",
            reference_urls=["https://arxiv.org/abs/2407.10957"],
        )

    def add_batch(self, *, predictions=None, references=None):
        """Score a batch of sentences; only a sum and a count of each are kept."""
        if len(predictions) != len(references):
            raise ValueError(f"{len(predictions)} predictions, but {len(references)} references")
        sums, counts = [], []
        for prediction, reference in zip(predictions, references, strict=True):
            probabilities = to_probabilities(prediction, self.logits)
            masks = to_masks(reference, probabilities.shape)
            scores = score_frames(probabilities, masks, self.threshold, self.empty_truth)
            sums.append(np.nansum(scores))
            counts.append(np.isfinite(scores).sum())
        super().add_batch(predictions=sums, references=counts)

    def add(self, *, prediction=None, reference=None, predictions=None, references=None):
        """Score one sentence; `evaluate.combine` passes it under the names in the plural."""
        prediction, reference = (
            (predictions, references) if prediction is None else (prediction, reference)
        )
        self.add_batch(predictions=[prediction], references=[reference])

    def _compute(self, predictions, references, pooling="dataset", batch_size=4):
        return {"refavs_jaccard": pool(predictions, references, pooling, batch_size)}
