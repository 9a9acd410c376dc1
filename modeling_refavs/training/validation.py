"""J and S of the validation split, gathered as a few numbers a clip."""

from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import EvalPrediction

from ..metrics.refavs_jaccard.refavs_jaccard import pool as pool_jaccard
from ..metrics.refavs_jaccard.refavs_jaccard import score_frames as jaccard_frames
from ..metrics.refavs_null.refavs_null import pool as pool_null
from ..metrics.refavs_null.refavs_null import score_frames as predicted_shares


SUMS = 4  # numbers of a clip


def score_clips(
    mask_logits: torch.Tensor, mask_labels: torch.Tensor, clip_index: torch.Tensor, clips: int
) -> torch.Tensor:
    """
    Args:
        mask_logits: `(expressions, frames, h, w)`.
        mask_labels: `(expressions, frames, H, W)` bool; scores are of this size. A sentence whose labels are all empty is
            a null reference.
        clip_index: `(expressions,)`; `clips` is how many there are.

    Returns:
        `(clips, 4)` float64: the sum of J and the frames that count, the sum of the predicted parts of null references'
        frames and their number.
    """
    size = mask_labels.shape[-2:]
    sums = torch.zeros(clips, SUMS, dtype=torch.float64)
    for logits, labels, clip in zip(mask_logits.float(), mask_labels, clip_index.tolist(), strict=True):
        probabilities = nn.functional.interpolate(logits[None], size=size, mode="bilinear")[0].sigmoid().cpu().numpy()
        masks = labels.cpu().numpy()
        if masks.any():
            scores = jaccard_frames(probabilities, masks)
            sums[clip, :2] += torch.tensor([np.nansum(scores), np.isfinite(scores).sum()])
        else:
            shares = predicted_shares(probabilities)
            sums[clip, 2:] += torch.tensor([shares.sum(), len(shares)])
    return sums


class ValidationScores:
    """`compute_metrics` of a Trainer with `batch_eval_metrics`: `jaccard` and `null` once the last batch is in."""

    def __init__(self) -> None:
        self.sums = np.zeros(SUMS)

    def __call__(self, batch: EvalPrediction, compute_result: bool) -> dict[str, Any]:
        sums = torch.as_tensor(batch.predictions).cpu().double().numpy()  # of one batch, from where it was made
        self.sums += sums.reshape(-1, SUMS).sum(axis=0)
        if not compute_result:
            return {}
        jaccard, frames, predicted, null_frames = np.split(self.sums, SUMS)
        self.sums = np.zeros(SUMS)
        scores = {"jaccard": pool_jaccard(jaccard, frames)}
        if null_frames:
            scores["null"] = pool_null(predicted, null_frames)
        return scores
