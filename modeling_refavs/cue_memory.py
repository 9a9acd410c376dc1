"""Cached memory (paper, Sec. 4.3, Eq. 2-3): each step is set off against the mean of the steps before it.

The mean of the past is the only tie between steps, so a running sum and a count carry a clip of any length.
"""

from typing import NamedTuple

import torch
from torch import nn


class RefAVSCueMemory(NamedTuple):
    """What one modality remembers: `total (expressions, S, D)`, the sum of F^_M over past steps, and `count (expressions,)`."""

    total: torch.Tensor
    count: torch.Tensor


class RefAVSMemory(NamedTuple):
    """The whole state between two calls of the model."""

    audio: RefAVSCueMemory | None
    visual: RefAVSCueMemory


class RefAVSCachedMemory(nn.Module):
    """`C_M(t)` = mean of F^_M over the steps before t, 0 at the first; `Q_M(t) = (beta + 1) F^_M(t) - beta C_M(t)`."""

    def __init__(self, beta: float):
        super().__init__()
        self.beta = beta

    def forward(
        self, cues: torch.Tensor, step_mask: torch.Tensor, memory: RefAVSCueMemory | None = None
    ) -> tuple[torch.Tensor, RefAVSCueMemory]:
        """
        Args:
            cues: `(expressions, steps, S, D)`, F^_M of a whole clip, of some of its steps, or of one.
            step_mask: `(expressions, steps)` bool; a step that is padding is not remembered.
            memory: what the steps before these left; None at the start of a clip.

        Returns:
            Q_M `(expressions, steps, S, D)` and the memory after the last step.
        """
        memory = memory or RefAVSCueMemory(torch.zeros_like(cues[:, 0]), cues.new_zeros(cues.shape[0]))
        weights = step_mask.to(cues.dtype)
        kept = cues * weights[:, :, None, None]
        totals = memory.total.unsqueeze(1) + kept.cumsum(dim=1)  # the current step included
        counts = memory.count.unsqueeze(1) + weights.cumsum(dim=1)
        past = (totals - kept) / (counts - weights).clamp(min=1)[:, :, None, None]
        return (self.beta + 1) * cues - self.beta * past, RefAVSCueMemory(totals[:, -1], counts[:, -1])


__all__ = ["RefAVSCachedMemory", "RefAVSCueMemory", "RefAVSMemory"]
