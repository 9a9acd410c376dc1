"""What EEMC returns, and the pure functions between its tensors."""

import math

import torch
from torch import nn

from .loss_refavs import RefAVSLossCounts, binary_cross_entropy, count_masks
from .modeling_outputs_refavs import LEAST


def light_on_masks(masks_queries_logits: torch.Tensor, cue_logits: torch.Tensor) -> torch.Tensor:
    """How much the visual cues light up what each query shows: the mean logit of the tokens that
    its mask covers, each by the square
    of its cover; 0 for an empty mask.

    Args:
        masks_queries_logits: `(frames, num_queries, h, w)`.
        cue_logits: `(frames, tokens)`, of a square grid.

    Returns:
        `(frames, num_queries)`.
    """
    grid = math.isqrt(cue_logits.shape[-1])
    cover = (
        nn.functional.adaptive_avg_pool2d((masks_queries_logits > 0).to(cue_logits.dtype), grid)
        .flatten(2)
        .square()
    )
    return (cover @ cue_logits.unsqueeze(-1)).squeeze(-1) / cover.sum(dim=-1).clamp(min=LEAST)


def cue_criterion(
    cue_logits: torch.Tensor, mask_labels: torch.Tensor, counts: RefAVSLossCounts | None = None
) -> torch.Tensor:
    """Ours, not the paper's: do the visual tokens of Q_m tell where the referred object is?

    Args:
        cue_logits: `(frames, tokens)`, of a square grid of tokens.
        mask_labels: `(frames, H, W)` in [0, 1].

    Returns:
        Binary cross-entropy with each token's part of the object's cover, relative to the token
        that it covers most.
    """
    counts = counts or count_masks(mask_labels)
    grid = math.isqrt(cue_logits.shape[1])
    covered = nn.functional.adaptive_avg_pool2d(mask_labels.float().unsqueeze(1), grid).flatten(1)
    covered = covered / covered.amax(dim=1, keepdim=True).clamp(min=1e-6)
    return binary_cross_entropy(cue_logits.float(), covered).sum() / counts.frames


__all__ = ["cue_criterion"]
