"""F of Ref-AVS (ECCV 2024, arXiv 2407.10957): the F measure of predicted and true masks at the best
of many thresholds."""

import inspect
from functools import cache
from typing import Any

import datasets
import evaluate
import numpy as np


_DESCRIPTION = """
F, the F measure of predicted and true masks: a curve over thresholds for each frame, the mean curve of all frames, and its
maximum. It says which convention it uses: pooled over the data set (default), or over batches as the code released with
Ref-AVS pools it.
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
    references: true masks, alike; any value above 0 is the object. A frame without the object is left out.
    pooling: "dataset": every frame weighs the same, whatever the batches, and one threshold is best for all. "released":
        the mean over batches of `batch_size` sentences in the order given, each with its own best threshold; a batch
        without any object scores 0.
    batch_size: sentences in a batch of the released pooling (the released code evaluates 4).

Loaded with:
    num_thresholds: from 0 to 1, evenly; a pixel is predicted if its probability is at or above (255 in the released code).
    beta2: beta squared, the weight of recall against precision (0.3 in the released code).
    logits: floats are logits.
    At threshold 0 every pixel is predicted: an empty prediction scores what "everything" would, not 0.

Returns:
    refavs_fscore: in [0, 1], higher is better. Without any object: NaN, or 0 in the released pooling.

Examples:
    >>> metric = evaluate.load("refavs_fscore")
    >>> prediction = [[0.9, 0.6], [0.8, 0.1]]
    >>> truth = [[1, 0], [1, 0]]
    >>> metric.compute(predictions=[prediction], references=[truth])
    {'refavs_fscore': 1.0}
"""  # noqa: E501

POOLINGS = ("dataset", "released")
NUM_THRESHOLDS = 255
BETA2 = 0.3


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
    num_thresholds: int = NUM_THRESHOLDS,
    beta2: float = BETA2,
) -> np.ndarray:
    """The F curve of each frame that shows the object, `(frames with it, num_thresholds)` float64.

    Args:
        probabilities: `(frames, height, width)` float32 in [0, 1].
        masks: `(frames, height, width)` bool, the truth.
        num_thresholds, beta2: as documented above.
    """
    shown = masks.any(axis=(1, 2))
    probabilities, masks = probabilities[shown], masks[shown]
    levels = _levels(probabilities, num_thresholds)
    levels += (
        num_thresholds * np.arange(len(levels))[:, None, None]
    )  # each frame has a row of bins of its own
    predicted = _at_or_above(levels, len(levels), num_thresholds)
    hits = _at_or_above(levels[masks], len(levels), num_thresholds)
    precision = hits / np.maximum(predicted, 1)
    recall = hits / masks.sum(axis=(1, 2))[:, None]
    # No hit: precision and recall are 0, and so is F.
    return (1 + beta2) * precision * recall / np.where(hits, beta2 * precision + recall, 1)


@cache
def thresholds(num_thresholds: int = NUM_THRESHOLDS) -> np.ndarray:
    """0 ... 1 in float32, to the last bit what `torch.linspace(0, 1 - 1e-10, num_thresholds)` gives
    the released code.

    It counts from both ends in steps of float32, each product and sum rounded once; and 1 - 1e-10
    is 1 in float32.
    """
    step = np.float64(np.float32(1) / np.float32(num_thresholds - 1))
    steps = np.arange(num_thresholds)
    values = np.where(steps < num_thresholds // 2, steps * step, 1 - steps[::-1] * step).astype(
        np.float32
    )
    values.flags.writeable = False
    return values


def _levels(probabilities: np.ndarray, num_thresholds: int) -> np.ndarray:
    """The number of the highest threshold that each pixel reaches, an int64 array."""
    steps = thresholds(num_thresholds)
    levels = (probabilities * (num_thresholds - 1)).astype(
        np.int64
    )  # right, or one off where rounding decides
    levels -= probabilities < steps[levels]
    levels += (probabilities >= steps[np.minimum(levels + 1, num_thresholds - 1)]) & (
        levels < num_thresholds - 1
    )
    return levels


def _at_or_above(levels: np.ndarray, frames: int, num_thresholds: int) -> np.ndarray:
    """Of each frame the pixels that reach each threshold, `(frames, num_thresholds)`."""
    counts = np.bincount(levels.ravel(), minlength=frames * num_thresholds).reshape(
        frames, num_thresholds
    )
    return counts[:, ::-1].cumsum(axis=1)[:, ::-1]


def pool(
    sums: np.ndarray, counts: np.ndarray, pooling: str = "dataset", batch_size: int = 4
) -> float:
    """F of many sentences; without any object NaN, or 0 in the released pooling.

    Args:
        sums: `(sentences, num_thresholds)`, of each the sum of its frames' curves.
        counts: `(sentences,)`, of each the frames that show the object.
    """
    check_pooling(pooling, batch_size)
    if pooling == "dataset" and not counts.any():
        return float("nan")
    size = batch_size if pooling == "released" else max(len(counts), 1)
    batches = [slice(start, start + size) for start in range(0, len(counts), size)]
    return float(
        np.mean(
            [(sums[batch].sum(axis=0) / max(counts[batch].sum(), 1)).max() for batch in batches]
        )
    )


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
class RefavsFscore(evaluate.Metric):
    def __init__(
        self,
        config_name: str | None = None,
        *,
        num_thresholds: int = NUM_THRESHOLDS,
        beta2: float = BETA2,
        logits: bool = False,
        **kwargs,
    ):
        check_options(kwargs)
        if num_thresholds < 2 or beta2 <= 0:
            raise ValueError(
                f"num_thresholds must be at least 2 and beta2 above 0, got {num_thresholds} and "
                f"{beta2}"
            )
        self.num_thresholds, self.beta2, self.logits = num_thresholds, beta2, logits
        super().__init__(config_name, **kwargs)

    def _info(self) -> evaluate.MetricInfo:
        # What is kept of a sentence, on disk: the sum of its frames' curves, and the number of
        # frames with the object.
        curve = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": curve, "references": datasets.Value("int64")}
            ),
            reference_urls=["https://arxiv.org/abs/2407.10957"],
        )

    def add_batch(self, *, predictions=None, references=None):
        """Score a batch of sentences; only a curve and a count of each are kept."""
        if len(predictions) != len(references):
            raise ValueError(f"{len(predictions)} predictions, but {len(references)} references")
        sums, counts = [], []
        for prediction, reference in zip(predictions, references, strict=True):
            probabilities = to_probabilities(prediction, self.logits)
            masks = to_masks(reference, probabilities.shape)
            curves = score_frames(probabilities, masks, self.num_thresholds, self.beta2)
            sums.append(curves.sum(axis=0))
            counts.append(len(curves))
        super().add_batch(predictions=sums, references=counts)

    def add(self, *, prediction=None, reference=None, predictions=None, references=None):
        """Score one sentence; `evaluate.combine` passes it under the names in the plural."""
        prediction, reference = (
            (predictions, references) if prediction is None else (prediction, reference)
        )
        self.add_batch(predictions=[prediction], references=[reference])

    def _compute(self, predictions, references, pooling="dataset", batch_size=4):
        return {
            "refavs_fscore": pool(
                np.asarray(predictions), np.asarray(references), pooling, batch_size
            )
        }
