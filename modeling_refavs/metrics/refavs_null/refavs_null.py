"""S of Ref-AVS (ECCV 2024, arXiv 2407.10957): how much is predicted where a sentence refers to
nothing."""

import inspect
from typing import Any

import datasets
import evaluate
import numpy as np


_DESCRIPTION = """
S, of null references: sentences that are true of nothing in their clip, so that every predicted pixel is wrong. The square
root of the part of all pixels that is predicted. It says which convention it uses: pooled over the data set (default), or
over batches as the code released with Ref-AVS pools it.
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
        where any value above 0 is the object. Sentences may differ in size: every frame weighs the same.
    references: true masks, alike, or None: all sentences are null references. With them, a sentence whose object is
        seen in any frame is no null reference and is left out, so that S may stand beside J and F over a whole data set.
    pooling: "dataset": the square root over all frames, whatever the batches. "released": the mean over batches of
        `batch_size` sentences in the order given, of the square root over each; one without null references is left out.
    batch_size: sentences in a batch of the released pooling (the released code evaluates 4).

Loaded with:
    threshold: a pixel is predicted if its probability is above it (0.5 in the released code).
    logits: floats are logits.

Returns:
    refavs_null: in [0, 1], lower is better, 0 for empty predictions; NaN if there is no null reference.

Examples:
    >>> metric = evaluate.load("refavs_null")
    >>> metric.compute(predictions=[[[0.9, 0.1], [0.2, 0.1]]])
    {'refavs_null': 0.5}
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


def score_frames(probabilities: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """The part of each frame `(frames, height, width)` that is predicted, `(frames,)` float64."""
    return (probabilities > threshold).mean(axis=(1, 2))


def pool(
    sums: np.ndarray, counts: np.ndarray, pooling: str = "dataset", batch_size: int = 4
) -> float:
    """S of many sentences; NaN if no frame counts.

    Args:
        sums: `(sentences,)`, of each the sum of its frames' predicted parts.
        counts: `(sentences,)`, of each the frames that count.
    """
    check_pooling(pooling, batch_size)
    size = batch_size if pooling == "released" else max(len(counts), 1)
    batches = [slice(start, start + size) for start in range(0, len(counts), size)]
    values = [
        np.sqrt(sums[batch].sum() / counts[batch].sum()) for batch in batches if counts[batch].any()
    ]
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
class RefavsNull(evaluate.Metric):
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
        # What is kept of a sentence, on disk: the sum of its frames' predicted parts, and the
        # number of frames.
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
        if references is not None and len(predictions) != len(references):
            raise ValueError(f"{len(predictions)} predictions, but {len(references)} references")
        sums, counts = [], []
        for index, prediction in enumerate(predictions):
            probabilities = to_probabilities(prediction, self.logits)
            is_null = (
                references is None or not to_masks(references[index], probabilities.shape).any()
            )
            scores = score_frames(probabilities, self.threshold) if is_null else np.zeros(0)
            sums.append(scores.sum())
            counts.append(len(scores))
        super().add_batch(predictions=sums, references=counts)

    def add(self, *, prediction=None, reference=None, predictions=None, references=None):
        """Score one sentence; `evaluate.combine` passes it under the names in the plural."""
        prediction, reference = (
            (predictions, references) if prediction is None else (prediction, reference)
        )
        self.add_batch(
            predictions=[prediction], references=None if reference is None else [reference]
        )

    def _compute(self, predictions, references, pooling="dataset", batch_size=4):
        return {"refavs_null": pool(predictions, references, pooling, batch_size)}
