"""Ours, not the paper's: the visual tokens of Q_m (Eq. 4) also point at the referred object.

A head reads from each visual token a grounding logit, how far the object covers that part of the
frame. Its loss is auxiliary, and a query's object score may take in the grounding logits under the
query's mask. `RefAVSGroundingConfig` switches all of it on; in the paper there is none.
"""

import math

import torch
from torch import nn

from .configuration_refavs import RefAVSConfig
from .loss_refavs import RefAVSLossCounts, binary_cross_entropy, count_masks


MIN_COVER = 1e-6  # of a token, below which a mask or an object counts as empty


class RefAVSGroundingHead(nn.Linear):
    """Visual tokens of Q_m to grounding logits."""

    def __init__(self, config: RefAVSConfig):
        super().__init__(config.hidden_size, 1)

    def forward(self, visual_cues: torch.Tensor) -> torch.Tensor:
        """`(..., tokens, D)` -> `(..., tokens)`; the sigmoid tells how far the object covers a
        token."""
        return super().forward(visual_cues).squeeze(-1)


def score_masks_by_grounding(
    masks_queries_logits: torch.Tensor, grounding_logits: torch.Tensor
) -> torch.Tensor:
    """The mean grounding logit of the tokens that each mask covers, each weighted by the square of
    its
    cover; 0 for an empty mask.

    Args:
        masks_queries_logits: `(frames, num_queries, h, w)`.
        grounding_logits: `(frames, tokens)`, of a square grid.

    Returns:
        `(frames, num_queries)`.
    """
    grid = math.isqrt(grounding_logits.shape[-1])
    masks = (masks_queries_logits > 0).to(grounding_logits.dtype)
    cover = nn.functional.adaptive_avg_pool2d(masks, grid).flatten(2).square()
    summed = (cover @ grounding_logits.unsqueeze(-1)).squeeze(-1)
    return summed / cover.sum(dim=-1).clamp(min=MIN_COVER)


def grounding_criterion(
    grounding_logits: torch.Tensor,
    mask_labels: torch.Tensor,
    counts: RefAVSLossCounts | None = None,
) -> torch.Tensor:
    """Binary cross-entropy of the grounding logits with the object's cover of each token.

    Args:
        grounding_logits: `(frames, tokens)`, of a square grid.
        mask_labels: `(frames, H, W)` in [0, 1].
        counts: of more frames than these, if an update is gathered from several calls.

    Returns:
        The sum over tokens, its mean over frames. The cover is relative to the token that the
        object covers most.
    """
    counts = counts or count_masks(mask_labels)
    grid = math.isqrt(grounding_logits.shape[1])
    covered = nn.functional.adaptive_avg_pool2d(mask_labels.float().unsqueeze(1), grid).flatten(1)
    covered = covered / covered.amax(dim=1, keepdim=True).clamp(min=MIN_COVER)
    return binary_cross_entropy(grounding_logits.float(), covered).sum() / counts.frames


__all__ = ["RefAVSGroundingHead", "grounding_criterion", "score_masks_by_grounding"]
