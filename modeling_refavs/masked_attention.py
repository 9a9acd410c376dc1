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
    """Parameters of transformers' class and its results, of the masks those of the last layer. No layer is ever dropped: no published
    Mask2Former has dropout."""

    def forward(
        self,
        inputs_embeds: torch.Tensor,
        multi_stage_positional_embeddings: list[torch.Tensor],
        pixel_embeddings: torch.Tensor,
        encoder_hidden_states: list[torch.Tensor],
        query_position_embeddings: torch.Tensor,
        feature_size_list: list[torch.Size],
        return_dict: bool = True,
    ) -> Mask2FormerMaskedAttentionDecoderOutput:
        with torch.no_grad():
            coarse = [
                nn.functional.interpolate(pixel_embeddings, size=size, mode="bilinear", align_corners=False)
                for size in feature_size_list
            ]
        states, hidden_states = (self.layernorm(inputs_embeds),), inputs_embeds
        for index, layer in enumerate(self.layers):
            level = index % len(coarse)
            hidden_states = layer(
                hidden_states,
                level,
                None,
                multi_stage_positional_embeddings,
                query_position_embeddings,
                encoder_hidden_states,
                encoder_attention_mask=self._hide(states[-1], coarse[level]),
            )[0]
            states += (self.layernorm(hidden_states),)
        return Mask2FormerMaskedAttentionDecoderOutput(
            last_hidden_state=hidden_states.transpose(0, 1),
            intermediate_hidden_states=states,
            masks_queries_logits=(self.predict_masks(states[-1], pixel_embeddings),),
        )

    def predict_masks(
        self, states: torch.Tensor, pixel_embeddings: torch.Tensor, chosen: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Args:
            states: of one layer, `(queries, steps, D)`.
            pixel_embeddings: `(steps, C, h, w)`.
            chosen: `(steps,)`, one query of each step; None: all.

        Returns:
            Mask logits `(steps, queries, h, w)`, or `(steps, h, w)` of those chosen.
        """
        if chosen is not None:
            picked = states[chosen, torch.arange(len(chosen), device=chosen.device)]
            return torch.einsum("bc,bchw->bhw", self.mask_predictor.mask_embedder(picked), pixel_embeddings)
        embeddings = self.mask_predictor.mask_embedder(states.transpose(0, 1))
        return torch.einsum("bqc,bchw->bqhw", embeddings, pixel_embeddings)

    @torch.no_grad()
    def _hide(self, states: torch.Tensor, pixel_embeddings: torch.Tensor) -> torch.Tensor:
        """`(steps, queries, h * w)` bool: a query looks at its own mask, or everywhere if that is empty."""
        hidden = self.predict_masks(states, pixel_embeddings).flatten(2) < 0
        return hidden & ~hidden.all(dim=-1, keepdim=True)


__all__ = ["RefAVSMaskedAttentionDecoder", "RefAVSMaskedCrossAttention"]
