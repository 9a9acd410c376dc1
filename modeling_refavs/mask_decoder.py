"""Mask2Former's transformer decoder (arXiv 2112.01527, Sec. 3.2), started from prompted queries, of which only what is asked for is computed.

transformers repeats a clip's maps for each sentence, predicts every layer's masks at full size, brings them to the size of the next
layer's map, copies them for each head and keeps the attention weights. Here the sentences of a clip are so many queries more, and the
pixels are brought to that size, once: a bilinear map of a product is the product of the map.
"""

from typing import NamedTuple

import torch
from torch import nn
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerMaskedAttentionDecoderLayer,
    Mask2FormerTransformerModule,
)


class RefAVSAdapter(nn.Module):
    """A residual bottleneck whose last layer starts at zero: before training it changes nothing."""

    def __init__(self, hidden_size: int, adapter_size: int):
        super().__init__()
        self.down = nn.Linear(hidden_size, adapter_size)
        self.up = nn.Linear(adapter_size, hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states + self.up(nn.functional.relu(self.down(hidden_states)))


class RefAVSMapTokens(NamedTuple):
    """One of the pixel decoder's maps: `tokens (clips, steps, pixels, D)` and where they are, `position (pixels, D)`."""

    tokens: torch.Tensor
    position: torch.Tensor


class RefAVSMaskDecoderOutput(NamedTuple):
    """`states`: per layer and before the first, `(expressions * steps, queries, D)`, normalised; `masks_queries_logits (expressions * steps,
    queries, h, w)` of the last layer."""

    states: tuple[torch.Tensor, ...]
    masks_queries_logits: torch.Tensor


class RefAVSMaskedCrossAttention(nn.MultiheadAttention):
    """Queries of all sentences of a clip look at its map. Parameters of torch's class."""

    def forward(self, queries: torch.Tensor, level: RefAVSMapTokens, hidden: torch.Tensor) -> torch.Tensor:
        """
        Args:
            queries: `(expressions * steps, queries, D)`, the expressions of a clip one after the other, as many of each.
            hidden: `(clips, steps, expressions of a clip * queries, pixels)` bool, True where a query does not look.

        Returns:
            `(expressions * steps, queries, D)`.
        """
        clips, size = level.tokens.shape[:2], self.embed_dim
        weight, bias = self.in_proj_weight, self.in_proj_bias
        asking = fold(nn.functional.linear(queries, weight[:size], bias[:size]), clips)
        keys, values = nn.functional.linear(level.tokens, weight[size:], bias[size:]).chunk(2, dim=-1)
        keys = keys + nn.functional.linear(level.position, weight[size : 2 * size])
        attended = nn.functional.scaled_dot_product_attention(
            *(self._split_heads(states.flatten(0, 1)) for states in (asking, keys, values)),
            attn_mask=~hidden.flatten(0, 1).unsqueeze(1),
            dropout_p=self.dropout if self.training else 0.0,
        )
        attended = attended.transpose(1, 2).flatten(2).unflatten(0, clips)  # (clips, steps, E * Q, D)
        return self.out_proj(unfold(attended, queries.shape[1]))

    def _split_heads(self, states: torch.Tensor) -> torch.Tensor:
        return states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (N, S, D) -> (N, heads, S, d)


class RefAVSMaskDecoderLayer(Mask2FormerMaskedAttentionDecoderLayer):
    """Mask2Former's masked attention layer, then an adapter. Parameters of transformers' class."""

    def __init__(self, config: Mask2FormerConfig, adapter_size: int):
        super().__init__(config)
        self.cross_attn = RefAVSMaskedCrossAttention(config.hidden_dim, config.num_attention_heads, config.dropout)
        self.adapter = RefAVSAdapter(config.hidden_dim, adapter_size)

    def forward(
        self, queries: torch.Tensor, position: torch.Tensor, level: RefAVSMapTokens, hidden: torch.Tensor
    ) -> torch.Tensor:
        """
        Args:
            queries: `(expressions * steps, queries, D)`; `position (queries, D)` is learned.
            level, hidden: see [`RefAVSMaskedCrossAttention`].
        """
        changes = (
            (self.cross_attn_layer_norm, lambda states: self.cross_attn(states + position, level, hidden)),
            (self.self_attn_layer_norm, lambda states: self._attend_to_each_other(states, position)),
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
        attended = nn.functional.scaled_dot_product_attention(
            *(states.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for states in projected),
            dropout_p=attention.dropout if self.training else 0.0,
        )
        return attention.out_proj(attended.transpose(1, 2).flatten(2))

    def _feed_forward(self, queries: torch.Tensor) -> torch.Tensor:
        inner = nn.functional.dropout(self.activation_fn(self.fc1(queries)), self.activation_dropout, self.training)
        return self.fc2(inner)

    def _drop(self, states: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(states, self.dropout, self.training)


class RefAVSMaskDecoder(Mask2FormerTransformerModule):
    """Parameters of transformers' class. No layer is ever dropped: no published Mask2Former has dropout."""

    def __init__(self, config: Mask2FormerConfig, adapter_size: int):
        super().__init__(config.feature_size, config)
        self.decoder.layers = nn.ModuleList(
            RefAVSMaskDecoderLayer(config, adapter_size) for _ in range(config.decoder_layers - 1)
        )

    def forward(
        self, queries: torch.Tensor, multi_scale_features: tuple[torch.Tensor, ...], mask_features: torch.Tensor
    ) -> RefAVSMaskDecoderOutput:
        """
        Args:
            queries: `(expressions * steps, queries, D)`, q_Q, the expressions of a clip one after the other, as many of each.
            multi_scale_features: the pixel decoder's maps, `(clips, steps, C, h, w)` at strides 32, 16 and 8.
            mask_features: `(clips, steps, C, H/4, W/4)`.
        """
        levels = [self._tokens(number, maps) for number, maps in enumerate(multi_scale_features)]
        with torch.no_grad():
            coarse = [shrink(mask_features, maps.shape[-2:]) for maps in multi_scale_features]
        states = (self.decoder.layernorm(queries),)
        for index, layer in enumerate(self.decoder.layers):
            number = index % len(levels)
            hidden = self._hide(states[-1], coarse[number])
            queries = layer(queries, self.queries_embedder.weight, levels[number], hidden)
            states += (self.decoder.layernorm(queries),)
        return RefAVSMaskDecoderOutput(states, self.predict_masks(states[-1], mask_features))

    def predict_masks(
        self, states: torch.Tensor, mask_features: torch.Tensor, chosen: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Args:
            states: of one layer, `(expressions * steps, queries, D)`.
            mask_features: `(clips, steps, C, h, w)`.
            chosen: `(expressions * steps,)`, one query of each; None: all.

        Returns:
            Mask logits `(expressions * steps, queries, h, w)`, or `(expressions * steps, h, w)` of those chosen.
        """
        if chosen is not None:
            states = states[torch.arange(len(chosen), device=chosen.device), chosen].unsqueeze(1)
        masks = unfold(self._multiply(states, mask_features), states.shape[1])
        masks = masks.unflatten(-1, mask_features.shape[-2:])
        return masks if chosen is None else masks.squeeze(1)

    def _multiply(self, states: torch.Tensor, mask_features: torch.Tensor) -> torch.Tensor:
        """`(clips, steps, expressions of a clip * queries, pixels)` mask logits."""
        embeddings = fold(self.decoder.mask_predictor.mask_embedder(states), mask_features.shape[:2])
        return embeddings @ mask_features.flatten(3)

    def _tokens(self, number: int, maps: torch.Tensor) -> RefAVSMapTokens:
        projected = self.input_projections[number](maps.flatten(0, 1)).flatten(2).transpose(1, 2).contiguous()
        position = self.position_embedder((1, 0, *maps.shape[-2:]), maps.device, maps.dtype)
        tokens = (projected + self.level_embed.weight[number]).unflatten(0, maps.shape[:2])
        return RefAVSMapTokens(tokens, position.flatten(2)[0].transpose(0, 1))

    @torch.no_grad()
    def _hide(self, states: torch.Tensor, mask_features: torch.Tensor) -> torch.Tensor:
        """`(clips, steps, E * Q, pixels)` bool: a query looks at its own mask, or everywhere if that is empty."""
        hidden = self._multiply(states, mask_features) < 0
        return hidden & ~hidden.all(dim=-1, keepdim=True)


def fold(states: torch.Tensor, clips: torch.Size) -> torch.Tensor:
    """`(expressions * steps, queries, D)` -> `(clips, steps, expressions of a clip * queries, D)`."""
    return states.unflatten(0, (clips[0], -1, clips[1])).transpose(1, 2).flatten(2, 3)


def unfold(states: torch.Tensor, queries: int) -> torch.Tensor:
    """The inverse of [`fold`]."""
    return states.unflatten(2, (-1, queries)).transpose(1, 2).flatten(0, 2)


def shrink(maps: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """`(clips, steps, C, H, W)` -> `(clips, steps, C, h, w)`, bilinear. To an even part of its size, as it usually is, that is the mean of
    the four pixels in the middle of each block."""
    flat = maps.flatten(0, 1)
    (height, width), (ratio, rest) = size, divmod(maps.shape[-1], size[-1])
    if rest or ratio % 2 or maps.shape[-2] != height * ratio:
        smaller = nn.functional.interpolate(flat, size=(height, width), mode="bilinear", align_corners=False)
    else:
        start = ratio // 2 - 1
        smaller = nn.functional.avg_pool2d(flat[..., start:, start:], kernel_size=2, stride=ratio)
    return smaller.unflatten(0, maps.shape[:2])


__all__ = ["RefAVSAdapter", "RefAVSMaskDecoder"]
