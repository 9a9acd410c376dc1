"""Modality encoding and the multimodal integration transformer (paper, Sec. 4.3, Eq. 4)."""

import torch
from torch import nn

from .configuration_refavs import RefAVSConfig
from .transformer_layer import RefAVSTransformerLayer


class RefAVSMultimodalIntegration(nn.Module):
    """`Q_m = SelfAttn([Q_A ; [aud] ; Q_V ; [vis] ; Q_T])`, inside one step; ours, on request: C_A after Q_A."""

    def __init__(self, config: RefAVSConfig):
        super().__init__()
        self.num_audio_tokens = config.num_audio_tokens
        self.past_encoding = None
        if config.has_audio_memory_cue:  # which of the two sounds is the past's
            self.past_encoding = nn.Parameter(torch.zeros(1, config.hidden_size))
        self.audio_tag = self.visual_tag = None
        if config.use_modality_encoding:
            self.visual_tag = nn.Parameter(torch.zeros(1, config.hidden_size))
            if config.use_audio_cues:
                self.audio_tag = nn.Parameter(torch.zeros(1, config.hidden_size))
        self.layers = nn.ModuleList(RefAVSTransformerLayer(config) for _ in range(config.num_cue_layers))

    def visual_tokens(self, cues: torch.Tensor, num_text_tokens: int) -> torch.Tensor:
        """The visual segment of Q_m `(..., M, D)`."""
        start = int(self.audio_tag is not None) + self.num_audio_tokens
        return cues[..., start : cues.shape[-2] - int(self.visual_tag is not None) - num_text_tokens, :]

    def forward(
        self,
        audio_cues: torch.Tensor | None,
        visual_cues: torch.Tensor,
        text_cues: torch.Tensor | None,
        audio_mask: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
        past_sound: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            audio_cues, visual_cues, text_cues: Q_A `(steps, 1, D)`, Q_V `(steps, 64, D)`, Q_T `(steps, L, D)`; None where
                an ablation leaves a modality out.
            audio_mask, text_mask: `(steps, 1)` and `(steps, L)` bool, False where a token is padding.
            past_sound: C_A `(steps, 1, D)`, with `use_audio_memory_cue`.

        Returns:
            Q_m `(steps, M, D)`, M = 1 + 1 + 64 + 1 + L (and 1 with C_A), and which of its tokens are real, `(steps, M)` bool.
        """
        segments = [
            (audio_cues, audio_mask),
            (None if self.past_encoding is None else past_sound + self.past_encoding, None),
            (self._tag(self.audio_tag, visual_cues), None),
            (visual_cues, None),
            (self._tag(self.visual_tag, visual_cues), None),
            (text_cues, text_mask),
        ]
        present = [(tokens, mask) for tokens, mask in segments if tokens is not None]
        cues = torch.cat([tokens for tokens, _ in present], dim=1)
        everything = [tokens.new_ones(tokens.shape[:2], dtype=torch.bool) for tokens, _ in present]
        cue_mask = torch.cat(
            [ones if mask is None else mask for ones, (_, mask) in zip(everything, present, strict=True)],
            dim=1,
        )
        for layer in self.layers:
            cues = layer(cues, context_mask=cue_mask)
        return cues, cue_mask

    @staticmethod
    def _tag(tag: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor | None:
        return None if tag is None else tag.expand(like.shape[0], -1, -1)


__all__ = ["RefAVSMultimodalIntegration"]
