"""Temporal bi-modal transformers (paper, Sec. 4.3, Eq. 1): sound and picture each meet the sentence, step by step."""

import torch
from torch import nn

from .configuration_refavs import RefAVSConfig
from .transformer_layer import RefAVSTransformerLayer


class RefAVSTemporalBimodalTransformer(nn.Module):
    """`[F^_M ; F^_T_M] = SelfAttn([F'_M ; F'_T])`, one stack for each modality M in {A, V}."""

    def __init__(self, config: RefAVSConfig):
        super().__init__()
        self.layers = nn.ModuleList(RefAVSTransformerLayer(config) for _ in range(config.num_cue_layers))

    def forward(
        self,
        cues: torch.Tensor,
        text: torch.Tensor | None = None,
        cue_mask: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Args:
            cues: `(steps, S, D)`, F'_M: 1 audio token or 64 visual tokens a step.
            text: `(steps, L, D)`, F'_T; None in the ablation without text.
            cue_mask, text_mask: `(steps, S)` and `(steps, L)` bool, False where a token is padding.

        Returns:
            F^_M `(steps, S, D)` and F^_T_M `(steps, L, D)`, or None without text.
        """
        if text is None:
            return self._attend(cues, None), None
        mask = None
        if text_mask is not None:
            cue_mask = text_mask.new_ones(cues.shape[:2]) if cue_mask is None else cue_mask
            mask = torch.cat([cue_mask, text_mask], dim=1)
        fused = self._attend(torch.cat([cues, text], dim=1), mask)
        return fused[:, : cues.shape[1]], fused[:, cues.shape[1] :]

    def _attend(self, hidden_states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        for layer in self.layers:
            hidden_states = layer(hidden_states, context_mask=mask)
        return hidden_states


__all__ = ["RefAVSTemporalBimodalTransformer"]
