"""Projection of every modality to d_V (paper, Sec. 4.3): F'_A, F'_V and F'_T."""

import torch
from torch import nn
from transformers.models.mask2former.modeling_mask2former import Mask2FormerSinePositionEmbedding

from .configuration_refavs import RefAVSConfig


class RefAVSCueProjection(nn.Module):
    """One linear map a modality; the picture is pooled to a grid of visual tokens that know their place."""

    def __init__(self, config: RefAVSConfig):
        super().__init__()
        self.grid_size = config.visual_grid_size
        self.visual = nn.Linear(config.mask2former_config.backbone_config.hidden_size, config.hidden_size)
        # Without a place on each token no sentence about left and right could be understood.
        self.position = Mask2FormerSinePositionEmbedding(config.hidden_size // 2, normalize=True)
        self.audio = self.text = None
        if config.use_audio_cues:
            self.audio = nn.Linear(config.audio_config.embedding_size, config.hidden_size)
        if config.use_text_cues:
            self.text = nn.Linear(config.text_config.hidden_size, config.hidden_size)

    def project_audio(self, audio_features: torch.Tensor) -> torch.Tensor:
        """F_A `(clips, steps, 128)` -> F'_A `(clips, steps, 1, D)`."""
        return self.audio(audio_features).unsqueeze(2)

    def project_frames(self, frame_features: torch.Tensor) -> torch.Tensor:
        """F_V `(clips, steps, C, h, w)` -> F'_V `(clips, steps, 64, D)`."""
        clips = frame_features.shape[0]
        pooled = nn.functional.adaptive_avg_pool2d(frame_features.flatten(0, 1), self.grid_size)
        tokens = self.visual(pooled.flatten(2).transpose(1, 2))  # (steps, C, 8, 8) -> (steps, 64, D)
        position = self.position((1, 0, self.grid_size, self.grid_size), tokens.device, tokens.dtype)
        return (tokens + position.flatten(2).transpose(1, 2)).unflatten(0, (clips, -1))

    def project_text(self, text_features: torch.Tensor) -> torch.Tensor:
        """F_T `(expressions, L, 768)` -> F'_T before it is repeated over time, `(expressions, L, D)`."""
        return self.text(text_features)


__all__ = ["RefAVSCueProjection"]
