"""Whether predicted IoUs ([`RefAVSIoUHead`]) can be trusted: how they go with the true ones."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dataset_script.builder_refavs import load_refavs

from ..grounding_refavs import mask_iou
from ..metrics.scoring import true_masks
from ..modeling_outputs_refavs import mask_scores
from ..modeling_refavs import RefAVSForSegmentation
from ..processing_refavs import RefAVSProcessor
from ..video_refavs import read_wav


NUM_BINS = 10  # of predicted IoU, equally wide


@dataclass(frozen=True)
class Calibration:
    """
    Args:
        masks: how many.
        predicted, true: mean IoU.
        correlation: of the two, Pearson's; NaN where one of them is constant.
        calibration_error: expected calibration error: |mean predicted - mean true| of the masks of
            each tenth of the range of predictions, weighted by their number.
    """

    masks: int
    predicted: float
    true: float
    correlation: float
    calibration_error: float


def calibrate(predicted: np.ndarray, true: np.ndarray) -> Calibration:
    """Of predicted and true IoUs, `(masks,)` each, at least one."""
    bins = np.minimum((predicted * NUM_BINS).astype(int), NUM_BINS - 1)
    differences = np.bincount(bins, predicted - true, minlength=NUM_BINS)
    varies = np.ptp(predicted) > 0 and np.ptp(true) > 0
    return Calibration(
        masks=len(predicted),
        predicted=float(predicted.mean()),
        true=float(true.mean()),
        correlation=float(np.corrcoef(predicted, true)[0, 1]) if varies else float("nan"),
        calibration_error=float(np.abs(differences).sum() / len(predicted)),
    )


@torch.no_grad()
def measure_mask_quality(
    model: RefAVSForSegmentation,
    processor: RefAVSProcessor,
    data: str | Path,
    split: str = "val",
    max_clips: int | None = None,
    steps_per_clip: int | None = None,
) -> dict[str, Calibration]:
    """Of all masks of a split (`all`), of those that are not empty (`found`), if there are any, and
    of these with their mean probability in place of the predicted IoU (`found_by_score`).

    Args:
        model, processor: with an IoU head.
        data: what `load_refavs` reads.
        max_clips, steps_per_clip: spread evenly; None: all. The steps before them are seen all the
            same.

    Raises:
        ValueError: the model has no IoU head.
    """
    if model.iou_predictor is None:
        raise ValueError("this model predicts no IoU: it needs grounding_config.use_iou_head")
    clips = load_refavs(data, "clips", split)
    columns = []
    for index in _spread(len(clips), max_clips):
        clip = clips[index]
        inputs = processor(
            text=[sentence["expression"] for sentence in clip["expressions"]],
            frames=clip["frames"],
            audio=read_wav(clip["audio"]),
            sampling_rate=clip["sampling_rate"],
            device=model.device,
        ).to(dtype=model.dtype)
        steps = _spread(len(clip["frames"]), steps_per_clip)
        truth = np.stack([truth.masks[steps] for truth in true_masks(clip, None)])
        outputs = model(**inputs, step_index=torch.tensor(steps, device=model.device))
        true = mask_iou(outputs.mask_logits, torch.from_numpy(truth).to(model.device).float())
        scores = mask_scores(outputs.mask_logits.float().flatten(0, 1), 0.5)
        column = torch.stack([outputs.iou_scores.float().flatten(), true.flatten(), scores])
        columns.append(column.cpu().double().numpy())
    predicted, true, scores = np.concatenate(columns, axis=1)
    found = scores > 0
    measured = {"all": calibrate(predicted, true)}
    if found.any():
        measured["found"] = calibrate(predicted[found], true[found])
        measured["found_by_score"] = calibrate(scores[found], true[found])
    return measured


def _spread(length: int, wanted: int | None) -> list[int]:
    return np.linspace(0, length - 1, min(wanted or length, length)).round().astype(int).tolist()
