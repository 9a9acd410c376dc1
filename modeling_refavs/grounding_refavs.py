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
from .modeling_outputs_refavs import RefAVSModelOutput


MIN_COVER = 1e-6  # of a token, below which a mask or an object counts as empty


class RefAVSGroundingHead(nn.Linear):
    """Visual tokens of Q_m to grounding logits."""

    def __init__(self, config: RefAVSConfig):
        super().__init__(config.hidden_size, 1)

    def forward(self, outputs: RefAVSModelOutput) -> torch.Tensor:
        """What [`RefAVSModel`] returned to `(expressions, frames, tokens)`; the sigmoid is how far
        the object covers a token."""
        logits = super().forward(outputs.visual_cues).squeeze(-1)
        return logits if outputs.alignment_logits is None else logits + outputs.alignment_logits


class RefAVSAlignmentHead(nn.Module):
    """How near each visual token F'_V is to what the expression says and to the sound of its step,
    where the projections share one space (`projection_init`): it is added to the grounding logits,
    so that the cue transformers need not learn to compare. The expression says how much of either
    counts; at the start it is the words alone."""

    def __init__(self, config: RefAVSConfig):
        super().__init__()
        self.gates = nn.Linear(config.hidden_size, 2)

    def forward(
        self,
        visual: torch.Tensor,
        text: torch.Tensor,
        text_mask: torch.Tensor,
        audio: torch.Tensor | None,
        audio_mask: torch.Tensor,
    ) -> torch.Tensor:
        """
        Args:
            visual: F'_V `(expressions, frames, tokens, D)`.
            text, text_mask: F'_T `(expressions, L, D)`, and which tokens are real.
            audio, audio_mask: F'_A `(expressions, frames, 1, D)`, and which seconds have sound.

        Returns:
            `(expressions, frames, tokens)`.
        """
        expression = normalise(mean_token(text, text_mask))
        gates = self.gates(expression)[:, None, :, None]  # (E, 2) -> (E, 1, 2, 1)
        wanted = (1 + gates[:, :, 0]) * expression[:, None]
        if audio is not None:
            heard = normalise(audio.squeeze(2)) * audio_mask[..., None].to(audio.dtype)
            wanted = wanted + gates[:, :, 1] * heard
        return (normalise(visual) * wanted[:, :, None]).sum(-1) / visual.shape[-1] ** 0.5


class RefAVSNamingHead(nn.Module):
    """How surely each visual token shows what the expression names, by the vocabulary of a
    classifier of pictures: the probabilities of its classes, each by how far the expression names
    that class. It is added to the grounding logits too, and frozen: a name that no training
    sentence holds names classes all the same."""

    def __init__(self, config: RefAVSConfig, visual_channels: int):
        super().__init__()
        classes = config.grounding_config.vocabulary_size
        self.grid_size = config.visual_grid_size
        self.classifier = nn.Linear(visual_channels, classes)
        self.naming = nn.Linear(config.text_config.hidden_size, classes)

    def classify(self, frame_features: torch.Tensor) -> torch.Tensor:
        """F_V `(clips, frames, C, h, w)` to class probabilities `(clips, frames, tokens,
        classes)`."""
        pooled = nn.functional.adaptive_avg_pool2d(frame_features.flatten(0, 1), self.grid_size)
        logits = self.classifier(pooled.flatten(2).transpose(1, 2))
        return logits.softmax(-1).unflatten(0, frame_features.shape[:2])

    def forward(
        self, probabilities: torch.Tensor, text_features: torch.Tensor, text_mask: torch.Tensor
    ) -> torch.Tensor:
        """
        Args:
            probabilities: of `classify`, `(expressions, frames, tokens, classes)`.
            text_features, text_mask: F_T `(expressions, L, C_T)`, and which tokens are real.

        Returns:
            `(expressions, frames, tokens)`.
        """
        named = self.naming(mean_token(text_features, text_mask))
        return (probabilities @ named[:, None, :, None]).squeeze(-1)


def mean_token(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`(..., L, D)` and which are real `(..., L)` to their mean `(..., D)`."""
    real = mask[..., None].to(tokens.dtype)
    return (tokens * real).sum(-2) / real.sum(-2).clamp(min=1)


def normalise(tokens: torch.Tensor) -> torch.Tensor:
    """To mean 0 and deviation 1 over the last dimension."""
    return nn.functional.layer_norm(tokens, tokens.shape[-1:])


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


__all__ = [
    "RefAVSAlignmentHead",
    "RefAVSGroundingHead",
    "RefAVSNamingHead",
    "grounding_criterion",
    "mean_token",
    "normalise",
    "score_masks_by_grounding",
]
