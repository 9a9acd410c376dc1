"""CATF (paper, Eq. 5) and the Mask2Former that it prompts, with adapters in both of its decoders (Sec. 4.4, Fig. 3)."""

import torch
from torch import nn
from transformers import Mask2FormerConfig, Mask2FormerModel
from transformers import initialization as init
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerMaskedAttentionDecoderLayer,
    Mask2FormerMaskedAttentionDecoderOutput,
    Mask2FormerPixelDecoderEncoderLayer,
    Mask2FormerTransformerModule,
)

from .configuration_refavs import RefAVSConfig
from .deformable_attention import RefAVSDeformableAttention
from .masked_attention import RefAVSMaskedAttentionDecoder, RefAVSMaskedCrossAttention
from .transformer_layer import RefAVSTransformerLayer


class RefAVSCrossAttentionTransformer(nn.Module):
    """CATF, `q_Q = CATF(query = q, key = Q_m, value = Q_m)`: the mask queries, updated by the cues of their step.

    The update is added through a projection that starts at zero: before training the queries are Mask2Former's own.
    """

    def __init__(self, config: RefAVSConfig):
        super().__init__()
        self.layers = nn.ModuleList(RefAVSTransformerLayer(config) for _ in range(config.num_cue_layers))
        self.update_projection = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, queries: torch.Tensor, cues: torch.Tensor, cue_mask: torch.Tensor) -> torch.Tensor:
        """
        Args:
            queries: `(steps, num_queries, D)`, q.
            cues: `(steps, M, D)`, Q_m; `cue_mask (steps, M)` says which of them are real.

        Returns:
            q_Q, `(steps, num_queries, D)`.
        """
        updated = queries
        for layer in self.layers:
            updated = layer(updated, context=cues, context_mask=cue_mask)
        return queries + self.update_projection(updated)


class RefAVSAdapter(nn.Module):
    """A residual bottleneck whose last layer starts at zero: before training it changes nothing."""

    def __init__(self, hidden_size: int, adapter_size: int):
        super().__init__()
        self.down = nn.Linear(hidden_size, adapter_size)
        self.up = nn.Linear(adapter_size, hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states + self.up(nn.functional.relu(self.down(hidden_states)))


class RefAVSPixelDecoderLayer(Mask2FormerPixelDecoderEncoderLayer):
    """Mask2Former's deformable attention layer, then an adapter."""

    def __init__(self, config: Mask2FormerConfig, adapter_size: int):
        super().__init__(config)
        plain = self.self_attn
        self.self_attn = RefAVSDeformableAttention(plain.d_model, plain.n_heads, plain.n_levels, plain.n_points)
        self.adapter = RefAVSAdapter(config.feature_size, adapter_size)

    def forward(self, *args, **kwargs) -> tuple[torch.Tensor, ...]:
        hidden_states, *attentions = super().forward(*args, **kwargs)
        return self.adapter(hidden_states), *attentions


class RefAVSMaskDecoderLayer(Mask2FormerMaskedAttentionDecoderLayer):
    """Mask2Former's masked attention layer, then an adapter."""

    def __init__(self, config: Mask2FormerConfig, adapter_size: int):
        super().__init__(config)
        self.cross_attn = RefAVSMaskedCrossAttention(config.hidden_dim, config.num_attention_heads, config.dropout)
        self.adapter = RefAVSAdapter(config.hidden_dim, adapter_size)

    def forward(self, *args, **kwargs) -> tuple[torch.Tensor, ...]:
        hidden_states, *attentions = super().forward(*args, **kwargs)
        return self.adapter(hidden_states), *attentions


class RefAVSMaskDecoder(Mask2FormerTransformerModule):
    """Mask2Former's transformer decoder, started from queries that are given to it."""

    def forward(
        self,
        queries: torch.Tensor,
        multi_scale_features: tuple[torch.Tensor, ...],
        mask_features: torch.Tensor,
    ) -> Mask2FormerMaskedAttentionDecoderOutput:
        """
        Args:
            queries: `(steps, num_queries, D)`, q_Q.
            multi_scale_features: the pixel decoder's maps, `(steps, C, h, w)` at strides 32, 16 and 8.
            mask_features: `(steps, C, H/4, W/4)`.

        Returns:
            Per layer `intermediate_hidden_states (num_queries, steps, D)`; and `masks_queries_logits (steps, num_queries, H/4, W/4)` of
            the last, or of each where the decoder is transformers' own.
        """
        features, positions = [], []
        for level, feature in enumerate(multi_scale_features):
            position = self.position_embedder(feature.shape, feature.device, feature.dtype)
            projected = (
                self.input_projections[level](feature).flatten(2) + self.level_embed.weight[level][None, :, None]
            )
            features.append(projected.permute(2, 0, 1))  # (steps, D, h*w) -> (h*w, steps, D)
            positions.append(position.flatten(2).permute(2, 0, 1))
        return self.decoder(
            inputs_embeds=queries.transpose(0, 1),
            multi_stage_positional_embeddings=positions,
            pixel_embeddings=mask_features,
            encoder_hidden_states=features,
            query_position_embeddings=self.queries_embedder.weight.unsqueeze(1).expand(-1, queries.shape[0], -1),
            feature_size_list=[feature.shape[-2:] for feature in multi_scale_features],
            return_dict=True,
        )


class RefAVSMask2FormerModel(Mask2FormerModel):
    """`Mask2FormerModel` with adapters, in two halves: `pixel_level_module` once a clip, `transformer_module` once a sentence.

    Every parameter of Mask2Former keeps its name, so `from_pretrained` takes any Mask2Former; adapters are added.
    """

    def __init__(self, config: Mask2FormerConfig, adapter_size: int = 64):
        super().__init__(config)
        self.pixel_level_module.decoder.encoder.layers = nn.ModuleList(
            RefAVSPixelDecoderLayer(config, adapter_size) for _ in range(config.encoder_layers)
        )
        self.transformer_module = RefAVSMaskDecoder(config.feature_size, config)
        self.transformer_module.decoder = RefAVSMaskedAttentionDecoder(config)
        self.transformer_module.decoder.layers = nn.ModuleList(
            RefAVSMaskDecoderLayer(config, adapter_size) for _ in range(config.decoder_layers - 1)
        )
        self.post_init()

    @classmethod
    def is_custom_code(cls) -> bool:
        """Names and initialisation are transformers': of custom code it would neither rename the keys of a checkpoint nor
        initialise modules without parameters of their own, such as deformable attention."""
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, (RefAVSPixelDecoderLayer, RefAVSMaskDecoderLayer)):  # after the layer's own Xavier
            init.zeros_(module.adapter.up.weight)
            init.zeros_(module.adapter.up.bias)

    def forward(self, *args, **kwargs):
        raise NotImplementedError(
            "call pixel_level_module on the frames, then transformer_module on queries and features"
        )


__all__ = ["RefAVSAdapter", "RefAVSCrossAttentionTransformer", "RefAVSMask2FormerModel"]
