"""Loss of EEMC (paper, Supp. B.1): Mask2Former's set criterion, where a frame shows the referred
object or does not.

With one object at most, the best assignment is a minimum over the queries: all frames are matched
at once. Mask2Former samples 12,544 random points of a map; here every pixel counts, at 384x384
only 9,216 of them, and the loss is the same each time.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from transformers import Mask2FormerConfig


class RefAVSLossCounts(NamedTuple):
    """What the loss is a mean over: masks that are not empty, and frames, of one call or of all
    calls of an update."""

    masks: torch.Tensor
    frames: torch.Tensor


def set_criterion(
    masks_queries_logits: torch.Tensor,
    class_queries_logits: torch.Tensor,
    mask_labels: torch.Tensor,
    config: Mask2FormerConfig,
    counts: RefAVSLossCounts | None = None,
    predict: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> dict[str, torch.Tensor]:
    """The weighted parts of the loss for the predictions of one decoder layer.

    Args:
        masks_queries_logits: `(frames, num_queries, h, w)`.
        class_queries_logits: `(frames, num_queries, 2)`: the referred object, or nothing.
        mask_labels: `(frames, H, W)` in [0, 1], of any size; all 0 where the object is not there.
        config: `mask_weight`, `dice_weight`, `class_weight` and `no_object_weight`.
        counts: of more frames than these, if an update is gathered from several calls.
        predict: makes the logits `(frames, h, w)` of one query of each frame, `(frames,)`, once
            more. Only these need a gradient: with
            `predict` the maps above may come without.

    Returns:
        `loss_mask`, `loss_dice` and `loss_cross_entropy`.
    """
    shown = mask_labels.flatten(1).any(dim=1)
    counts = counts or count_masks(mask_labels)
    size = masks_queries_logits.shape[-2:]
    labels = nn.functional.interpolate(
        mask_labels.float().unsqueeze(1), size=size, mode="area"
    ).flatten(1)
    logits = masks_queries_logits.float().flatten(2)  # (N, Q, h, w) -> (N, Q, h*w)
    class_logits = class_queries_logits.float()
    frames = torch.arange(len(labels), device=labels.device)
    with torch.no_grad():
        one_by_one = logits.device.type == "cpu" and not torch.compiler.is_compiling()
        at_once = 1 if one_by_one else len(logits)  # what one frame's maps need stays in the caches
        parts = zip(logits.split(at_once), labels.split(at_once), strict=True)
        cost = torch.cat([matching_cost(*part, config) for part in parts])
        cost -= config.class_weight * class_logits.softmax(dim=-1)[..., 0]
        best = cost.argmin(dim=1)
    matched = logits[frames, best] if predict is None else predict(best).float().flatten(1)
    classes = torch.ones(class_logits.shape[:2], dtype=torch.long, device=labels.device)
    classes[frames[shown], best[shown]] = 0
    class_weights = torch.tensor([1.0, config.no_object_weight], device=labels.device)
    cross_entropy = nn.functional.cross_entropy(
        class_logits.flatten(0, 1), classes.flatten(), class_weights, reduction="sum"
    )
    masks = counts.masks.clamp(min=1)
    num_queries = class_logits.shape[1]
    total_weight = counts.masks + config.no_object_weight * (
        counts.frames * num_queries - counts.masks
    )
    return {
        "loss_mask": config.mask_weight
        * (binary_cross_entropy(matched, labels) * shown).sum()
        / masks,
        "loss_dice": config.dice_weight * (dice_loss(matched, labels) * shown).sum() / masks,
        "loss_cross_entropy": config.class_weight * cross_entropy / total_weight,
    }


def matching_cost(
    logits: torch.Tensor, labels: torch.Tensor, config: Mask2FormerConfig
) -> torch.Tensor:
    """Weighted BCE and Dice of every query `(frames, num_queries, pixels)` with its frame's mask
    `(frames, pixels)`, as `(frames,
    num_queries)`; what is common to both is one matrix product."""
    labels, pixels = labels.unsqueeze(-1), labels.shape[-1]
    probabilities = logits.sigmoid()
    both, predicted = (probabilities @ labels).squeeze(-1), probabilities.sum(dim=-1)
    entropy = (nn.functional.softplus(logits).sum(dim=-1) - (logits @ labels).squeeze(-1)) / pixels
    dice = 1 - (2 * both + 1) / (predicted + labels.sum(dim=1) + 1)
    return config.mask_weight * entropy + config.dice_weight * dice


def count_masks(mask_labels: torch.Tensor) -> RefAVSLossCounts:
    """Of `(frames, H, W)`."""
    shown = mask_labels.flatten(1).any(dim=1).sum()
    return RefAVSLossCounts(shown, torch.full_like(shown, len(mask_labels)))


def binary_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """`(..., pixels)` -> `(...)`, the mean over pixels."""
    return nn.functional.softplus(logits).mean(dim=-1) - (logits * labels).mean(dim=-1)


def dice_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """`(..., pixels)` -> `(...)`: 1 - (2 |A and B| + 1) / (|A| + |B| + 1)."""
    probabilities = logits.sigmoid()
    both = (probabilities * labels).sum(dim=-1)
    return 1 - (2 * both + 1) / (probabilities.sum(dim=-1) + labels.sum(dim=-1) + 1)


__all__ = ["RefAVSLossCounts", "count_masks", "set_criterion"]
