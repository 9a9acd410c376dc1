"""Mask2Former's pixel decoder (arXiv 2112.01527, Sec. 3.2.1), with an adapter after each of its layers.

What depends on the size of the maps alone, positions and where a pixel looks first, is the same for all frames and made once; in single
precision, whatever the model's. Nothing is sent to an accelerator in between, so that it never waits.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoder,
    Mask2FormerPixelDecoderEncoderLayer,
)

from .deformable_attention import RefAVSDeformableAttention
from .mask_decoder import RefAVSAdapter


class RefAVSPixels(NamedTuple):
    """Of frames: `multi_scale_features`, three maps `(frames, C, h, w)` at strides 32, 16 and 8; `mask_features (frames, C, H/4, W/4)`."""

    multi_scale_features: tuple[torch.Tensor, ...]
    mask_features: torch.Tensor


class RefAVSPixelDecoderLayer(Mask2FormerPixelDecoderEncoderLayer):
    """Mask2Former's deformable attention layer, then an adapter. Parameters of transformers' class."""

    def __init__(self, config: Mask2FormerConfig, adapter_size: int):
        super().__init__(config)
        plain = self.self_attn
        self.self_attn = RefAVSDeformableAttention(plain.d_model, plain.n_heads, plain.n_levels, plain.n_points)
        self.adapter = RefAVSAdapter(config.feature_size, adapter_size)

    def forward(
        self,
        tokens: torch.Tensor,
        position: torch.Tensor,
        reference_points: torch.Tensor,
        shapes: list[tuple[int, int]],
    ) -> torch.Tensor:
        """`(frames, pixels, D)` to the same; arguments of [`RefAVSDeformableAttention`]."""
        attended = self.self_attn(tokens, position, reference_points, shapes)
        tokens = self.self_attn_layer_norm(tokens + self._drop(attended))
        inner = nn.functional.dropout(self.activation_fn(self.fc1(tokens)), self.activation_dropout, self.training)
        return self.adapter(self.final_layer_norm(tokens + self._drop(self.fc2(inner))))

    def _drop(self, states: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(states, self.dropout, self.training)


class RefAVSPixelDecoder(Mask2FormerPixelDecoder):
    """Parameters of transformers' class."""

    def __init__(self, config: Mask2FormerConfig, feature_channels: list[int], adapter_size: int):
        super().__init__(config, feature_channels)
        self.encoder.layers = nn.ModuleList(
            RefAVSPixelDecoderLayer(config, adapter_size) for _ in range(config.encoder_layers)
        )

    def forward(self, stages: Sequence[torch.Tensor]) -> RefAVSPixels:
        """Swin's four stages `(frames, C, h, w)` to maps."""
        coarse_first = stages[: -len(self.input_projections) - 1 : -1]
        maps = [project(stage) for project, stage in zip(self.input_projections, coarse_first, strict=True)]
        shapes = [tuple(level.shape[-2:]) for level in maps]
        tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)
        position, places = self._position(shapes, tokens), reference_points(shapes, tokens.device)
        for layer in self.encoder.layers:
            tokens = layer(tokens, position, places, shapes)
        split = tokens.split([height * width for height, width in shapes], dim=1)
        maps = [level.transpose(1, 2).unflatten(2, shape) for level, shape in zip(split, shapes, strict=True)]
        finest_last = stages[: self.num_fpn_levels][::-1]
        for lateral, blend, stage in zip(
            self.lateral_convolutions, self.output_convolutions, finest_last, strict=True
        ):
            beside = lateral(stage)
            larger = nn.functional.interpolate(maps[-1], beside.shape[-2:], mode="bilinear", align_corners=False)
            maps.append(blend(beside + larger))
        return RefAVSPixels(tuple(maps[: len(shapes)]), self.mask_projection(maps[-1]))

    def _position(self, shapes: list[tuple[int, int]], like: torch.Tensor) -> torch.Tensor:
        """`(pixels, D)`: where a pixel is in its level, and which level that is."""
        levels = [
            self.position_embedding((1, 0, *shape), like.device, torch.float32).flatten(2)[0].T + embedding
            for shape, embedding in zip(shapes, self.level_embed, strict=True)
        ]
        return torch.cat(levels).to(like.dtype)


def reference_points(shapes: list[tuple[int, int]], device: torch.device) -> torch.Tensor:
    """Where each pixel looks first, its own place: `(1, pixels, levels, 2)` float32, x and y from 0 to 1, the same for each level."""
    places = []
    for height, width in shapes:
        y, x = ((torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size for size in (height, width))
        places.append(torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=-1))
    return torch.cat(places)[None, :, None].expand(-1, -1, len(shapes), -1)


__all__ = ["RefAVSPixelDecoder", "RefAVSPixels"]
