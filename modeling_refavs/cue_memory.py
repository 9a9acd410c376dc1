"""Cached memory (paper, Sec. 4.3, Eq. 2-3): each step is set off against the mean of the steps before it.

The mean of the past is the only tie between steps, so a running sum and a count carry a clip of any length.
"""

from collections.abc import Callable
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

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "RefAVSMemory":
        """The memory with `change` done to each of its tensors, whose rows are expressions."""
        return RefAVSMemory(*(part and RefAVSCueMemory(*map(change, part)) for part in self))

    def to_dict(self) -> dict[str, torch.Tensor]:
        """Its tensors by name, such as `visual.total`."""
        parts = {modality: part._asdict() for modality, part in self._asdict().items() if part is not None}
        return {f"{modality}.{name}": value for modality, part in parts.items() for name, value in part.items()}

    @classmethod
    def from_dict(cls, tensors: dict[str, torch.Tensor]) -> "RefAVSMemory | None":
        """The inverse of `to_dict`; None if there is nothing to remember."""
        parts = (
            [tensors[f"{modality}.{name}"] for name in RefAVSCueMemory._fields]
            if f"{modality}.total" in tensors
            else None
            for modality in cls._fields
        )
        return cls(*(part and RefAVSCueMemory(*part) for part in parts)) if tensors else None


class RefAVSCachedMemory(nn.Module):
    """`C_M(t)` = mean of F^_M over the steps before t, 0 at the first; `Q_M(t) = (beta + 1) F^_M(t) - beta C_M(t)`."""

    def __init__(self, beta: float):
        super().__init__()
        self.beta = beta

    def forward(
        self, cues: torch.Tensor, step_mask: torch.Tensor, memory: RefAVSCueMemory | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, RefAVSCueMemory]:
        """
        Args:
            cues: `(expressions, steps, S, D)`, F^_M of a whole clip, of some of its steps, or of one.
            step_mask: `(expressions, steps)` bool; a step that is padding is not remembered.
            memory: what the steps before these left; None at the start of a clip.

        Returns:
            Q_M and C_M, `(expressions, steps, S, D)` each, and the memory after the last step.
        """
        wide = torch.promote_types(cues.dtype, torch.float32)  # bfloat16 cannot count beyond 256 steps
        if memory is None:
            memory = RefAVSCueMemory(torch.zeros_like(cues[:, 0], dtype=wide), cues.new_zeros(len(cues), dtype=wide))
        weights = step_mask.to(wide)
        kept = cues * weights[:, :, None, None]
        totals = memory.total.unsqueeze(1) + kept.cumsum(dim=1)  # the current step included
        counts = memory.count.unsqueeze(1) + weights.cumsum(dim=1)
        past = (totals - kept) / (counts - weights).clamp(min=1)[:, :, None, None]
        recalled = (self.beta + 1) * cues - self.beta * past
        return recalled.to(cues.dtype), past.to(cues.dtype), RefAVSCueMemory(totals[:, -1], counts[:, -1])


__all__ = ["RefAVSCachedMemory", "RefAVSCueMemory", "RefAVSMemory"]
