"""Masked attention of Mask2Former's transformer decoder (arXiv 2112.01527, Sec. 3.2.1), of which only what is asked for is computed.

transformers predicts every layer's masks at full size, brings them to the size of the next layer's map, copies them for each head and keeps
the attention weights. A bilinear map of a product is the product of the map: here the pixels are brought to that size, once.
"""

import torch
from torch import nn
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerMaskedAttentionDecoder,
    Mask2FormerMaskedAttentionDecoderOutput,
)


class RefAVSMaskedCrossAttention(nn.MultiheadAttention):
    """Parameters of torch's class; sequences come first."""

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = False,
        attn_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, None]:
        """
        Args:
            query: `(queries, steps, D)`; key, value: `(pixels, steps, D)`.
            attn_mask: `(steps, queries, pixels)` bool, True where a query does not look.

        Returns:
            `(queries, steps, D)`, and no weights.
        """
        if key_padding_mask is not None or need_weights:
            raise ValueError("masked attention knows no padding and keeps no weights")
        parts = zip((query, key, value), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
        queries, keys, values = (
            nn.functional.linear(states, weight, bias).unflatten(-1, (self.num_heads, -1)).permute(1, 2, 0, 3)
            for states, weight, bias in parts
        )  # (steps, heads, S, d)
        attended = nn.functional.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=None if attn_mask is None else ~attn_mask.unsqueeze(1),
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out_proj(attended.permute(2, 0, 1, 3).flatten(2)), None


class RefAVSMaskedAttentionDecoder(Mask2FormerMaskedAttentionDecoder):
    """Parameters and results of transformers' class, but that no layer is ever dropped: no published Mask2Former has dropout."""

    def forward(
        self,
        inputs_embeds: torch.Tensor,
        multi_stage_positional_embeddings: list[torch.Tensor],
        pixel_embeddings: torch.Tensor,
        encoder_hidden_states: list[torch.Tensor],
        query_position_embeddings: torch.Tensor,
        feature_size_list: list[torch.Size],
        every_mask: bool = True,
        return_dict: bool = True,
    ) -> Mask2FormerMaskedAttentionDecoderOutput:
        """
        Args:
            every_mask: masks of every layer at full size, which a loss needs; else of the last layer alone.
        """
        levels = len(feature_size_list)
        coarse = None if every_mask else [_resize(pixel_embeddings, size) for size in feature_size_list]
        states, masks, hidden_states = (), (), inputs_embeds
        for index in range(len(self.layers) + 1):
            states += (self.layernorm(hidden_states),)
            embeddings = self.mask_predictor.mask_embedder(states[-1].transpose(0, 1))  # (steps, queries, C)
            if every_mask or index == len(self.layers):
                masks += (_predict(embeddings, pixel_embeddings),)
            if index == len(self.layers):
                break
            level = index % levels
            looks = _resize(masks[-1], feature_size_list[level]) if every_mask else _predict(embeddings, coarse[level])
            hidden_states = self.layers[index](
                hidden_states,
                level,
                None,
                multi_stage_positional_embeddings,
                query_position_embeddings,
                encoder_hidden_states,
                encoder_attention_mask=_hide(looks),
            )[0]
        return Mask2FormerMaskedAttentionDecoderOutput(
            last_hidden_state=hidden_states.transpose(0, 1),
            intermediate_hidden_states=states,
            masks_queries_logits=masks,
        )


def _predict(embeddings: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """`(steps, queries, C)` and `(steps, C, h, w)` -> mask logits `(steps, queries, h, w)`."""
    return torch.einsum("bqc,bchw->bqhw", embeddings, pixels)


def _resize(maps: torch.Tensor, size: torch.Size) -> torch.Tensor:
    return nn.functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)


@torch.no_grad()
def _hide(logits: torch.Tensor) -> torch.Tensor:
    """`(steps, queries, h, w)` -> `(steps, queries, h * w)` bool: a query looks at its own mask, or everywhere if that is empty."""
    hidden = logits.flatten(2) < 0
    return hidden & ~hidden.all(dim=-1, keepdim=True)


__all__ = ["RefAVSMaskedAttentionDecoder", "RefAVSMaskedCrossAttention"]
