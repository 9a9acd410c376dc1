"""Mask2Former (arXiv 2112.01527) as Sec. 4.4 of the paper uses it: adapters in the pixel decoder
and in the
transformer decoder (Fig. 3), and mask queries that come prompted by the cues.

Every parameter is transformers' own but those of the adapters. The computation is arranged anew,
with equal results. What depends on the size of the maps alone, positions and reference points, is
made once for all frames, in single precision. The expressions of a clip are so many more queries on
its maps, where transformers repeats the maps for each; the mask features are brought to the size of
a layer's map before the product with the queries and not after it, since a bilinear map of a
product is the product of the map. Nothing is sent to an accelerator in between, so that it never
waits.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from transformers import Mask2FormerConfig, Mask2FormerModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerMaskedAttentionDecoderLayer,
    Mask2FormerPixelDecoder,
    Mask2FormerPixelDecoderEncoderLayer,
    Mask2FormerTransformerModule,
)

from .deformable_attention import RefAVSDeformableAttention
from .eemc import choose_attention
from .encoders_refavs import RefAVSSimplePyramid, encode_frames, frames_at_once, join_parts


POSITIONS_AT_ONCE = 2 * 96**2  # of Swin's first stage, see [`frames_at_once`]


class RefAVSAdapter(nn.Module):
    """A residual bottleneck whose last layer starts at zero: before training it changes nothing."""

    def __init__(self, hidden_size: int, adapter_size: int):
        super().__init__()
        self.down = nn.Linear(hidden_size, adapter_size)
        self.up = nn.Linear(adapter_size, hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states + self.up(nn.functional.relu(self.down(hidden_states)))


class RefAVSPixels(NamedTuple):
    """Of frames: `multi_scale_features`, three maps `(frames, C, h, w)` at strides 32, 16 and 8;
    `mask_features (frames, C, H/4, W/4)`."""

    multi_scale_features: tuple[torch.Tensor, ...]
    mask_features: torch.Tensor


class RefAVSPixelDecoderLayer(Mask2FormerPixelDecoderEncoderLayer, GradientCheckpointingLayer):
    """Mask2Former's deformable attention layer, then an adapter. Parameters of transformers'
    class."""

    def __init__(self, config: Mask2FormerConfig, adapter_size: int):
        super().__init__(config)
        plain = self.self_attn
        self.self_attn = RefAVSDeformableAttention(
            plain.d_model, plain.n_heads, plain.n_levels, plain.n_points
        )
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
        inner = nn.functional.dropout(
            self.activation_fn(self.fc1(tokens)), self.activation_dropout, self.training
        )
        return self.adapter(self.final_layer_norm(tokens + self._drop(self.fc2(inner))))

    def _drop(self, states: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(states, self.dropout, self.training)


class RefAVSPixelDecoder(Mask2FormerPixelDecoder):
    """Mask2Former's pixel decoder (Sec. 3.2.1 of arXiv 2112.01527). Parameters of transformers'
    class."""

    def __init__(self, config: Mask2FormerConfig, feature_channels: list[int], adapter_size: int):
        super().__init__(config, feature_channels)
        self.encoder.layers = nn.ModuleList(
            RefAVSPixelDecoderLayer(config, adapter_size) for _ in range(config.encoder_layers)
        )
        self.pyramid = None
        if RefAVSSimplePyramid.is_needed(feature_channels):
            self.pyramid = RefAVSSimplePyramid(feature_channels[0])

    def forward(self, stages: Sequence[torch.Tensor]) -> RefAVSPixels:
        """The vision encoder's four stages `(frames, C, h, w)` to maps."""
        if self.pyramid is not None:
            stages = self.pyramid(stages)
        coarse_first = stages[: -len(self.input_projections) - 1 : -1]
        maps = [
            project(stage)
            for project, stage in zip(self.input_projections, coarse_first, strict=True)
        ]
        shapes = [tuple(level.shape[-2:]) for level in maps]
        tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)
        position, places = self._position(shapes, tokens), reference_points(shapes, tokens.device)
        for layer in self.encoder.layers:
            tokens = layer(tokens, position, places, shapes)
        split = tokens.split([height * width for height, width in shapes], dim=1)
        maps = [
            level.transpose(1, 2).unflatten(2, shape)
            for level, shape in zip(split, shapes, strict=True)
        ]
        finest_last = stages[: self.num_fpn_levels][::-1]
        for lateral, blend, stage in zip(
            self.lateral_convolutions, self.output_convolutions, finest_last, strict=True
        ):
            beside = lateral(stage)
            larger = nn.functional.interpolate(
                maps[-1], beside.shape[-2:], mode="bilinear", align_corners=False
            )
            maps.append(blend(beside + larger))
        return RefAVSPixels(tuple(maps[: len(shapes)]), self.mask_projection(maps[-1]))

    def _position(self, shapes: list[tuple[int, int]], like: torch.Tensor) -> torch.Tensor:
        """`(pixels, D)`: where a pixel is in its level, and which level that is."""
        levels = [
            self.position_embedding((1, 0, *shape), like.device, torch.float32).flatten(2)[0].T
            + embedding
            for shape, embedding in zip(shapes, self.level_embed, strict=True)
        ]
        return torch.cat(levels).to(like.dtype)


def reference_points(shapes: list[tuple[int, int]], device: torch.device) -> torch.Tensor:
    """Where each pixel samples first, its own place: `(1, pixels, levels, 2)` float32, x and y from
    0
    to 1, the same for each level."""
    places = []
    for height, width in shapes:
        y, x = (
            (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
            for size in (height, width)
        )
        places.append(torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=-1))
    return torch.cat(places)[None, :, None].expand(-1, -1, len(shapes), -1)


class RefAVSMapTokens(NamedTuple):
    """One of the pixel decoder's maps: `tokens (clips, steps, pixels, D)` and where they are,
    `position (pixels, D)`."""

    tokens: torch.Tensor
    position: torch.Tensor


class RefAVSMaskDecoderOutput(NamedTuple):
    """Args:
    states: per layer and before the first, `(expressions * steps, queries, D)`, normalised.
    masks_queries_logits: `(expressions * steps, queries, h, w)` of the last layer.
    """

    states: tuple[torch.Tensor, ...]
    masks_queries_logits: torch.Tensor


class RefAVSMaskedCrossAttention(nn.Module):
    """The queries of all expressions of a clip attend to its map. Parameters of torch's
    MultiheadAttention, but none itself: LoRA takes each of those for one of torch's arguments."""

    def __init__(self, config: Mask2FormerConfig):
        super().__init__()
        self.config = config
        self.num_heads, self.dropout = config.num_attention_heads, config.dropout
        plain = nn.MultiheadAttention(config.hidden_dim, self.num_heads, self.dropout)
        self.in_proj_weight, self.in_proj_bias = plain.in_proj_weight, plain.in_proj_bias
        self.out_proj = plain.out_proj

    def forward(
        self,
        queries: torch.Tensor,
        tokens: torch.Tensor,
        token_position: torch.Tensor,
        hidden: torch.Tensor,
    ) -> torch.Tensor:
        """
        Args:
            queries: `(expressions * steps, queries, D)`, the expressions of a clip one after the
                other, as many of each.
            tokens, token_position: see [`RefAVSMapTokens`].
            hidden: `(clips, steps, expressions of a clip * queries, pixels)` bool, True where a
                query does not attend.

        Returns:
            `(expressions * steps, queries, D)`.
        """
        clips, size = tokens.shape[:2], tokens.shape[-1]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        asking = fold(nn.functional.linear(queries, weight[:size], bias[:size]), clips)
        keys, values = nn.functional.linear(tokens, weight[size:], bias[size:]).chunk(2, dim=-1)
        keys = keys + nn.functional.linear(token_position, weight[size : 2 * size])
        attended, _ = choose_attention(self.config)(
            self,
            *(self._split_heads(states.flatten(0, 1)) for states in (asking, keys, values)),
            ~hidden.flatten(0, 1).unsqueeze(1),
            dropout=self.dropout if self.training else 0.0,
            is_causal=False,
        )
        # (clips, steps, E * Q, D)
        attended = attended.flatten(2).unflatten(0, clips)
        return self.out_proj(unfold(attended, queries.shape[1]))

    def _split_heads(self, states: torch.Tensor) -> torch.Tensor:
        # (N, S, D) -> (N, heads, S, d)
        return states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class RefAVSMaskDecoderLayer(Mask2FormerMaskedAttentionDecoderLayer):
    """Mask2Former's masked attention layer, then an adapter. Parameters of transformers' class."""

    def __init__(self, config: Mask2FormerConfig, adapter_size: int):
        super().__init__(config)
        self.config = config
        self.cross_attn = RefAVSMaskedCrossAttention(config)
        self.adapter = RefAVSAdapter(config.hidden_dim, adapter_size)

    def forward(
        self,
        queries: torch.Tensor,
        position: torch.Tensor,
        tokens: torch.Tensor,
        token_position: torch.Tensor,
        hidden: torch.Tensor,
    ) -> torch.Tensor:
        """
        Args:
            queries: `(expressions * steps, queries, D)`; `position (queries, D)` is learned.
            tokens, token_position, hidden: see [`RefAVSMaskedCrossAttention`].
        """
        changes = (
            (
                self.cross_attn_layer_norm,
                lambda states: self.cross_attn(states + position, tokens, token_position, hidden),
            ),
            (
                self.self_attn_layer_norm,
                lambda states: self._attend_to_each_other(states, position),
            ),
            (self.final_layer_norm, self._feed_forward),
        )
        for norm, change in changes:
            if self.pre_norm:
                queries = queries + self._drop(change(norm(queries)))
            else:
                queries = norm(queries + self._drop(change(queries)))
        return self.adapter(queries)

    def _attend_to_each_other(self, queries: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        attention, placed = self.self_attn, queries + position
        projected = (attention.q_proj(placed), attention.k_proj(placed), attention.v_proj(queries))
        attended, _ = choose_attention(self.config)(
            self,
            *(
                states.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
                for states in projected
            ),
            None,
            dropout=attention.dropout if self.training else 0.0,
            is_causal=False,
        )
        return attention.out_proj(attended.flatten(2))

    def _feed_forward(self, queries: torch.Tensor) -> torch.Tensor:
        inner = nn.functional.dropout(
            self.activation_fn(self.fc1(queries)), self.activation_dropout, self.training
        )
        return self.fc2(inner)

    def _drop(self, states: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(states, self.dropout, self.training)


class RefAVSMaskDecoder(Mask2FormerTransformerModule):
    """Mask2Former's transformer decoder (Sec. 3.2 of arXiv 2112.01527). Parameters of transformers'
    class. No layer is ever dropped: no published Mask2Former has dropout."""

    def __init__(self, config: Mask2FormerConfig, adapter_size: int):
        super().__init__(config.feature_size, config)
        self.decoder.layers = nn.ModuleList(
            RefAVSMaskDecoderLayer(config, adapter_size) for _ in range(config.decoder_layers - 1)
        )

    def forward(
        self,
        queries: torch.Tensor,
        multi_scale_features: tuple[torch.Tensor, ...],
        mask_features: torch.Tensor,
    ) -> RefAVSMaskDecoderOutput:
        """
        Args:
            queries: `(expressions * steps, queries, D)`, q_Q, the expressions of a clip one after
                the other, as many of each.
            multi_scale_features: the pixel decoder's maps, `(clips, steps, C, h, w)` at strides 32,
                16 and 8.
            mask_features: `(clips, steps, C, H/4, W/4)`.
        """
        levels = [self._tokens(number, maps) for number, maps in enumerate(multi_scale_features)]
        with torch.no_grad():
            coarse = [shrink(mask_features, maps.shape[-2:]) for maps in multi_scale_features]
        states = (self.decoder.layernorm(queries),)
        position = rows_of(self.queries_embedder, queries.device)
        for index, layer in enumerate(self.decoder.layers):
            number = index % len(levels)
            hidden = self._hide(states[-1], coarse[number])
            queries = layer(queries, position, *levels[number], hidden)
            states += (self.decoder.layernorm(queries),)
        return RefAVSMaskDecoderOutput(states, self.predict_masks(states[-1], mask_features))

    def start_queries(self, count: int, device: torch.device) -> torch.Tensor:
        """Mask2Former's own queries, `(count, num_queries, D)`."""
        return rows_of(self.queries_features, device).expand(count, -1, -1)

    def predict_masks(
        self, states: torch.Tensor, mask_features: torch.Tensor, chosen: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Args:
            states: of one layer, `(expressions * steps, queries, D)`.
            mask_features: `(clips, steps, C, h, w)`.
            chosen: `(expressions * steps,)`, one query of each; None: all.

        Returns:
            Mask logits `(expressions * steps, queries, h, w)`, or `(expressions * steps, h, w)` of
            those chosen.
        """
        if chosen is not None:
            states = states[torch.arange(len(chosen), device=chosen.device), chosen].unsqueeze(1)
        masks = unfold(self._multiply(states, mask_features), states.shape[1])
        masks = masks.unflatten(-1, mask_features.shape[-2:])
        return masks if chosen is None else masks.squeeze(1)

    def _multiply(self, states: torch.Tensor, mask_features: torch.Tensor) -> torch.Tensor:
        """`(clips, steps, expressions of a clip * queries, pixels)` mask logits."""
        embeddings = fold(
            self.decoder.mask_predictor.mask_embedder(states), mask_features.shape[:2]
        )
        return embeddings @ mask_features.flatten(3)

    def _tokens(self, number: int, maps: torch.Tensor) -> RefAVSMapTokens:
        projected = (
            self.input_projections[number](maps.flatten(0, 1))
            .flatten(2)
            .transpose(1, 2)
            .contiguous()
        )
        position = self.position_embedder((1, 0, *maps.shape[-2:]), maps.device, maps.dtype)
        level = rows_of(self.level_embed, maps.device)[number]
        tokens = (projected + level).unflatten(0, maps.shape[:2])
        return RefAVSMapTokens(tokens, position.flatten(2)[0].transpose(0, 1))

    @torch.no_grad()
    def _hide(self, states: torch.Tensor, mask_features: torch.Tensor) -> torch.Tensor:
        """`(clips, steps, E * Q, pixels)` bool: a query attends to its own mask, or everywhere if
        that is empty."""
        hidden = self._multiply(states, mask_features) < 0
        return hidden & ~hidden.all(dim=-1, keepdim=True)


def rows_of(embedding: nn.Embedding, device: torch.device) -> torch.Tensor:
    """All rows, out of the embedding's own forward: there its weights are, though they lie on a
    disk or another device in between."""
    return embedding(torch.arange(embedding.num_embeddings, device=device))


def fold(states: torch.Tensor, clips: torch.Size) -> torch.Tensor:
    """`(expressions * steps, queries, D)` -> `(clips, steps, expressions of a clip * queries,
    D)`."""
    return states.unflatten(0, (clips[0], -1, clips[1])).transpose(1, 2).flatten(2, 3)


def unfold(states: torch.Tensor, queries: int) -> torch.Tensor:
    """The inverse of [`fold`]."""
    return states.unflatten(2, (-1, queries)).transpose(1, 2).flatten(0, 2)


def shrink(maps: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """`(clips, steps, C, H, W)` -> `(clips, steps, C, h, w)`, bilinear.

    Where the size is an even part of the map's, as it usually is, that is the mean of the four
    pixels in the middle of each block.
    """
    flat = maps.flatten(0, 1)
    height, width = size
    ratio = maps.shape[-1] // width
    if ratio % 2 or maps.shape[-2] != height * ratio or maps.shape[-1] != width * ratio:
        smaller = nn.functional.interpolate(
            flat, size=(height, width), mode="bilinear", align_corners=False
        )
    else:
        start = ratio // 2 - 1
        smaller = nn.functional.avg_pool2d(flat[..., start:, start:], kernel_size=2, stride=ratio)
    return smaller.unflatten(0, maps.shape[:2])


class RefAVSMask2FormerModel(Mask2FormerModel):
    """`Mask2FormerModel` with adapters, in two halves: `encode_frames` and `decode_pixels` run once
    a clip, `transformer_module` runs once for its expressions.

    On a CPU a few frames pass through the first half at a time, so that its caches hold what one
    layer hands to the next.

    Every parameter of Mask2Former keeps its name, so `from_pretrained` takes any Mask2Former;
    adapters are added.
    """

    _supports_sdpa = True

    def __init__(self, config: Mask2FormerConfig, adapter_size: int = 64):
        super().__init__(config)
        channels = self.pixel_level_module.encoder.channels
        self.pixel_level_module.decoder = RefAVSPixelDecoder(config, channels, adapter_size)
        self.transformer_module = RefAVSMaskDecoder(config, adapter_size)
        self.post_init()

    @classmethod
    def is_custom_code(cls) -> bool:
        """Names and initialisation are transformers' own: in custom code it would neither rename
        the
        keys of a checkpoint nor initialise modules without parameters of their own, such as
        deformable attention."""
        return False

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        """By [`choose_attention`], where transformers, which searches this file, does not see
        it."""
        return True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # after the layer's own Xavier
        if isinstance(module, (RefAVSPixelDecoderLayer, RefAVSMaskDecoderLayer)):
            init.zeros_(module.adapter.up.weight)
            init.zeros_(module.adapter.up.bias)

    def encode_frames(self, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """`(frames, 3, H, W)` -> the encoder's four stages, `(frames, C, h, w)` each."""
        return encode_frames(self.pixel_level_module.encoder, frames)

    def decode_pixels(self, stages: Sequence[torch.Tensor]) -> RefAVSPixels:
        """The encoder's four stages to the pixel decoder's maps."""
        count = frames_at_once(stages[0], POSITIONS_AT_ONCE)
        split = zip(*(stage.split(count) for stage in stages), strict=True)
        parts = [self.pixel_level_module.decoder(list(part)) for part in split]
        levels, masks = zip(*parts, strict=True)
        return RefAVSPixels(tuple(map(join_parts, zip(*levels, strict=True))), join_parts(masks))

    def forward(self, *args, **kwargs):
        raise NotImplementedError(
            "call encode_frames, decode_pixels, then transformer_module on queries and features"
        )


__all__ = [
    "RefAVSAdapter",
    "RefAVSMask2FormerModel",
    "RefAVSMaskDecoder",
    "RefAVSPixelDecoder",
    "RefAVSPixels",
]
