"""The model that the Ref-AVS authors released: another one than the paper's, and the only one with
trained weights.

Modules bear the names that they have in the released checkpoint. "Quirk n" is explained in
docs/released.md.
"""

import math

import torch
from torch import nn
from transformers import Mask2FormerConfig, Mask2FormerModel, PreTrainedModel, RobertaModel
from transformers import initialization as init
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerMaskedAttentionDecoderOutput,
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention,
    Mask2FormerTransformerModule,
)
from transformers.utils import can_return_tuple

from .checkpoint_refavs import StrictLoadingMixin
from .configuration_refavs_released import RefAVSReleasedConfig
from .encoders_refavs import RefAVSEncodersMixin
from .feature_extraction_refavs import LOG_OFFSET
from .mask2former_refavs import rows_of
from .modeling_outputs_refavs import (
    RefAVSClipFeatures,
    RefAVSSegmentationOutput,
    count_expressions,
    of_expressions,
)
from .modeling_vggish import RefAVSVggishModel


TRAINED = (
    "audio_proj",
    "text_proj",
    "prompt_proj",
    "avs_adapt",
    "ref_avs_attn",
)  # the rest is frozen (quirk 1)
ENCODERS = ("text_encoder", "audio_encoder")
READOUT_SIZE, MASK_SIZE = (
    384,
    256,
)  # pixels; a map is resized to the one, then to the other (quirk 10)


def read_out(
    masks_queries_logits: torch.Tensor, class_queries_logits: torch.Tensor
) -> torch.Tensor:
    """Quirk 10: each query's raw mask logits, weighted by p(class 0 rather than no object), summed.

    Args:
        masks_queries_logits: `(steps, num_queries, h, w)`.
        class_queries_logits: `(steps, num_queries, 2)`.

    Returns:
        `mask_logits (steps, 256, 256)`.
    """
    weights = class_queries_logits.softmax(dim=-1)[..., 0]
    mask_logits = torch.einsum("nq,nqhw->nhw", weights, masks_queries_logits).unsqueeze(1)
    for size in (
        READOUT_SIZE,
        MASK_SIZE,
    ):  # linear, so summing before resizing changes nothing but the cost
        mask_logits = nn.functional.interpolate(mask_logits, size=(size, size), mode="bilinear")
    return mask_logits.squeeze(1)


def set_off(cues: torch.Tensor) -> torch.Tensor:
    """Quirk 5: `2 F - mean(F up to here)` along the tokens, the current one included. `(E, tokens,
    D)` -> the same."""
    positions = torch.arange(1, cues.shape[1] + 1, device=cues.device, dtype=cues.dtype)
    return 2 * cues - cues.cumsum(dim=1) / positions[:, None]


def fill_up(steps: torch.Tensor, frame_mask: torch.Tensor, num_frames: int) -> torch.Tensor:
    """A clip that is too short goes on with its last real step. `(clips, frames, ...)` -> `(clips,
    num_frames, ...)`."""
    last = frame_mask.sum(dim=1, keepdim=True) - 1
    index = torch.arange(num_frames, device=steps.device).minimum(last)
    return steps[torch.arange(len(steps), device=steps.device)[:, None], index]


class RefAVSReleasedDeformableAttention(
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention
):
    """Deformable attention whose output the adapter replaces: there is no residual around it (quirk
    9)."""

    def __init__(self, config: Mask2FormerConfig, adapter_size: int):
        super().__init__(config.feature_size, config.num_attention_heads, n_levels=3, n_points=4)
        self.avs_adapt = _two_layers(config.feature_size, adapter_size, config.feature_size)

    def forward(self, *args, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        output, attention_weights = super().forward(*args, **kwargs)
        return self.avs_adapt(output), attention_weights


class RefAVSReleasedCrossAttention(nn.Module):
    """CATF: one attention to the cues, and their mean, each behind a learned gate (quirk 8)."""

    def __init__(self, hidden_size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.query_embedding = nn.Linear(hidden_size, hidden_size)
        self.key_embedding = nn.Linear(hidden_size, hidden_size)
        self.value_embedding = nn.Linear(hidden_size, hidden_size)
        self.out_projection = nn.Linear(hidden_size, hidden_size)
        self.beta_source_attn = nn.Parameter(torch.ones(1))
        self.beta_source_pool = nn.Parameter(torch.ones(1))

    def forward(self, queries: torch.Tensor, cues: torch.Tensor) -> torch.Tensor:
        """q `(steps, num_queries, D)` and Q_m `(steps, M, D)` -> q_Q `(steps, num_queries, D)`."""
        attended = nn.functional.scaled_dot_product_attention(
            self._split_heads(self.query_embedding(queries)),
            self._split_heads(self.key_embedding(cues)),
            self._split_heads(self.value_embedding(cues)),
        )
        attended = self.out_projection(
            attended.transpose(1, 2).flatten(2)
        )  # (N, heads, Q, d) -> (N, Q, D)
        pooled = cues.mean(dim=1, keepdim=True)
        return (
            queries
            + self.beta_source_attn.sigmoid() * attended
            + self.beta_source_pool.sigmoid() * pooled
        )

    def _split_heads(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states.unflatten(-1, (self.num_heads, -1)).transpose(
            1, 2
        )  # (N, L, D) -> (N, heads, L, d)


class RefAVSReleasedMaskDecoder(Mask2FormerTransformerModule):
    """Mask2Former's transformer decoder as transformers has it, started from queries that are given
    to it."""

    def forward(
        self,
        queries: torch.Tensor,
        multi_scale_features: tuple[torch.Tensor, ...],
        mask_features: torch.Tensor,
    ) -> Mask2FormerMaskedAttentionDecoderOutput:
        """
        Args:
            queries: `(steps, num_queries, D)`, q_Q.
            multi_scale_features: the pixel decoder's maps, `(steps, C, h, w)` at strides 32, 16 and
                8.
            mask_features: `(steps, C, H/4, W/4)`.

        Returns:
            Per layer `intermediate_hidden_states (num_queries, steps, D)` and
            `masks_queries_logits (steps, num_queries, H/4, W/4)`.
        """
        features, positions = [], []
        for level, feature in enumerate(multi_scale_features):
            position = self.position_embedder(feature.shape, feature.device, feature.dtype)
            projected = (
                self.input_projections[level](feature).flatten(2)
                + rows_of(self.level_embed, feature.device)[level][None, :, None]
            )
            features.append(projected.permute(2, 0, 1))  # (steps, D, h*w) -> (h*w, steps, D)
            positions.append(position.flatten(2).permute(2, 0, 1))
        return self.decoder(
            inputs_embeds=queries.transpose(0, 1),
            multi_stage_positional_embeddings=positions,
            pixel_embeddings=mask_features,
            encoder_hidden_states=features,
            query_position_embeddings=rows_of(self.queries_embedder, queries.device)
            .unsqueeze(1)
            .expand(-1, queries.shape[0], -1),
            feature_size_list=[feature.shape[-2:] for feature in multi_scale_features],
            return_dict=True,
        )


class RefAVSReleasedMask2FormerModel(Mask2FormerModel):
    """Mask2Former in two halves, as [`RefAVSMask2FormerModel`], with the released adapters and
    CATF."""

    def __init__(self, config: Mask2FormerConfig, adapter_size: int, num_catf_heads: int):
        super().__init__(config)
        for layer in self.pixel_level_module.decoder.encoder.layers:
            layer.self_attn = RefAVSReleasedDeformableAttention(config, adapter_size)
        self.transformer_module = RefAVSReleasedMaskDecoder(config.feature_size, config)
        self.transformer_module.ref_avs_attn = RefAVSReleasedCrossAttention(
            config.hidden_dim, num_catf_heads
        )
        self.post_init()

    @classmethod
    def is_custom_code(cls) -> bool:
        """See [`RefAVSMask2FormerModel.is_custom_code`]."""
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, RefAVSReleasedCrossAttention):
            init.ones_(module.beta_source_attn)
            init.ones_(module.beta_source_pool)

    def forward(self, *args, **kwargs):
        raise NotImplementedError(
            "call pixel_level_module on the frames, then transformer_module on queries and features"
        )


class RefAVSReleasedForSegmentation(StrictLoadingMixin, RefAVSEncodersMixin, PreTrainedModel):
    """The released model with the interface of [`RefAVSForSegmentation`], for clips of at most ten
    frames.

    It is not causal: a clip is answered as a whole, and there is no `memory` from one clip to the
        next.
    """

    config_class = RefAVSReleasedConfig
    main_input_name = "pixel_values"
    input_modalities = ("video", "audio", "text")
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # the loss is a mean: Trainer must not rescale it
    _keys_to_ignore_on_load_missing = (r"\.swin\.layernorm\.",)  # a backbone does not use it

    def __init__(self, config: RefAVSReleasedConfig):
        super().__init__(config)
        size, mask2former = config.hidden_size, config.mask2former_config
        self.mask2former = RefAVSReleasedMask2FormerModel(
            mask2former, config.adapter_size, config.num_catf_heads
        )
        self.class_predictor = nn.Linear(mask2former.hidden_dim, mask2former.num_labels + 1)
        self.audio_proj = _two_layers(config.audio_feature_size, config.intermediate_size, size)
        self.text_proj = _two_layers(config.text_feature_size, config.intermediate_size, size)
        self.prompt_proj = _two_layers(
            size, config.intermediate_size, mask2former.hidden_dim
        )  # quirk 2
        self.mha_A_T = nn.MultiheadAttention(size, config.num_attention_heads, batch_first=True)
        self.mha_V_T = nn.MultiheadAttention(size, config.num_attention_heads, batch_first=True)
        self.mha_mm = nn.MultiheadAttention(
            size, config.num_attention_heads
        )  # sequence first (quirk 7)
        self.text_encoder = self.audio_encoder = None
        if config.text_config is not None:
            self.text_encoder = RobertaModel(config.text_config, add_pooling_layer=False)
        if config.audio_config is not None:
            self.audio_encoder = RefAVSVggishModel(config.audio_config)
        self.post_init()
        self._freeze(
            {name for name, _ in self.named_modules() if name.startswith(ENCODERS)},
            {name for name, _ in self.named_parameters() if not any(p in name for p in TRAINED)},
        )

    @classmethod
    def is_custom_code(cls) -> bool:
        """See [`RefAVSMask2FormerModel.is_custom_code`]: the outermost model decides for all its
        parts."""
        return False

    def get_input_embeddings(self) -> nn.Module:
        """Of the main input, pixels: Swin's patches."""
        return self.mask2former.pixel_level_module.encoder.get_input_embeddings()

    def encode_clips(
        self,
        pixel_values: torch.Tensor,
        input_features: torch.Tensor | None = None,
        input_features_mask: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        audio_features: torch.Tensor | None = None,
    ) -> RefAVSClipFeatures:
        """Once a clip: Mask2Former's first half, which the released code runs twice (quirk 11), and
        VGGish.

        Args:
            pixel_values: `(clips, frames, 3, H, W)`, at most ten frames.
            input_features: `(clips, frames, 96, 64)` log-mel examples; None if there is no sound at
                all.
            input_features_mask: accepted and not used: the model cannot leave sound out, it hears
                silence instead.
            frame_mask: `(clips, frames)`, 0 where a frame is padding, which comes after the real
                ones.
            audio_features: `(clips, frames, 128)`, in place of `input_features`.
        """
        if pixel_values.dim() != 5:
            raise ValueError(
                "pixel_values must be (clips, frames, 3, height, width), got "
                f"{tuple(pixel_values.shape)}"
            )
        steps = pixel_values.shape[:2]
        if steps[1] > self.config.num_frames:
            raise ValueError(
                f"the released model sees clips of {self.config.num_frames} frames, got "
                f"{steps[1]}: "
                f"cut the video in pieces of {self.config.num_frames}"
            )
        pixels = self.mask2former.pixel_level_module(
            pixel_values.flatten(0, 1)
        )  # (B, T, ...) -> (B*T, ...)
        if frame_mask is None:
            frame_mask = torch.ones(steps, device=pixel_values.device)
        return RefAVSClipFeatures(
            frame_features=pixels.encoder_last_hidden_state.unflatten(0, steps),
            mask_features=pixels.decoder_last_hidden_state.unflatten(0, steps),
            multi_scale_features=tuple(
                level.unflatten(0, steps) for level in pixels.decoder_hidden_states
            ),
            audio_features=self._encode_audio(steps, input_features, audio_features),
            frame_mask=frame_mask.bool(),
        )

    def segment(
        self,
        clip_features: RefAVSClipFeatures,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        clip_index: torch.Tensor | None = None,
        text_features: torch.Tensor | None = None,
        mask_labels: torch.Tensor | None = None,
        memory: None = None,
    ) -> RefAVSSegmentationOutput:
        """Once a sentence.

        Args:
            clip_features: what `encode_clips` returned.
            input_ids: `(expressions, L)` tokens, at most 25; `attention_mask (expressions, L)`, 0
                where one is padding.
            clip_index: `(expressions,)`, the clip that each sentence is asked of; None: sentence n
                of clip n.
            text_features: `(expressions, 25, 768)`, F_T in place of `input_ids`.
            mask_labels: `(expressions, frames, h, w)` in {0, 1}, of any size.
            memory: there is none; accepted so that a caller need not know which model this is.

        Returns:
            `mask_logits (expressions, frames, 256, 256)`; `presence_logits`, the highest of them in
            each frame; and
            `class_queries_logits (expressions, frames, num_queries, 2)`, of class 0 and of no
            object.
        """
        count_expressions(clip_features, input_ids, text_features, clip_index)
        text = self.text_proj(self._encode_text(input_ids, attention_mask, text_features))
        clips = RefAVSClipFeatures(
            **{name: of_expressions(value, clip_index) for name, value in clip_features.items()}
        )
        cues = self.prompt_proj(self._gather_cues(clips, text)).flatten(
            0, 1
        )  # (E, T, M, D) -> (E*T, M, 256)
        decoder, steps = self.mask2former.transformer_module, clips.frame_mask.shape
        queries = rows_of(decoder.queries_features, cues.device).expand(len(cues), -1, -1)
        decoded = decoder(
            decoder.ref_avs_attn(queries, cues),
            tuple(level.flatten(0, 1) for level in clips.multi_scale_features),
            clips.mask_features.flatten(0, 1),
        )
        masks_queries_logits = decoded.masks_queries_logits[-1]
        queries = decoded.intermediate_hidden_states[-1].transpose(
            0, 1
        )  # (num_queries, E*T, D) -> (E*T, ...)
        class_queries_logits = self.class_predictor(queries)[..., [0, -1]]
        mask_logits = read_out(masks_queries_logits, class_queries_logits).unflatten(0, steps)
        loss = (
            None
            if mask_labels is None
            else _compute_loss(mask_logits, mask_labels, clips.frame_mask)
        )
        nothing = torch.finfo(mask_logits.dtype).min  # in a frame that is only padding
        mask_logits = mask_logits.masked_fill(~clips.frame_mask[..., None, None], nothing)
        return RefAVSSegmentationOutput(
            loss=loss,
            mask_logits=mask_logits,
            presence_logits=mask_logits.amax(dim=(-2, -1)),
            masks_queries_logits=masks_queries_logits.unflatten(0, steps),
            class_queries_logits=class_queries_logits.unflatten(0, steps),
            loss_parts=None if loss is None else {"loss_mask": loss.detach()},
            cue_hidden_states=cues.unflatten(0, steps),
        )

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        input_features: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        clip_index: torch.Tensor | None = None,
        audio_features: torch.Tensor | None = None,
        text_features: torch.Tensor | None = None,
        mask_labels: torch.Tensor | None = None,
        input_features_mask: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        memory: None = None,
    ) -> RefAVSSegmentationOutput:
        """`encode_clips`, then `segment`; their arguments."""
        clip_features = self.encode_clips(
            pixel_values, input_features, input_features_mask, frame_mask, audio_features
        )
        return self.segment(
            clip_features, input_ids, attention_mask, clip_index, text_features, mask_labels, memory
        )

    def _gather_cues(self, clips: RefAVSClipFeatures, text: torch.Tensor) -> torch.Tensor:
        """F_A, F_V and F'_T of each sentence's clip to its cues, `(E, frames, 10 + 1 + 144 + 1 +
        25, D)`."""
        audio, visual = (
            fill_up(features, clips.frame_mask, self.config.num_frames)
            for features in (clips.audio_features, clips.frame_features)
        )
        # (E, 10, D, h, w) -> (E, 10*h*w, D) without a permute: a token mixes channels, places and
        # times (quirk 3)
        visual = visual.reshape(len(text), -1, self.config.hidden_size)
        audio, text_of_audio = _fuse(self.mha_A_T, self.audio_proj(audio), text)
        visual, text_of_visual = _fuse(self.mha_V_T, visual, text)
        text = (text + text_of_audio + text_of_visual) / 3  # Q_T
        audio, visual = set_off(audio), set_off(visual)
        steps = clips.frame_mask.shape
        visual = visual.unflatten(1, (self.config.num_frames, -1))[
            :, : steps[1]
        ]  # -> (E, frames, h*w, D)
        audio_tag, visual_tag = (
            torch.zeros_like(visual[:, :, :1]),
            torch.ones_like(visual[:, :, :1]),
        )  # quirk 6
        audio, text = (cue.unsqueeze(1).expand(-1, steps[1], -1, -1) for cue in (audio, text))
        return self._integrate(torch.cat([audio, audio_tag, visual, visual_tag, text], dim=2))

    def _integrate(self, cues: torch.Tensor) -> torch.Tensor:
        """Quirk 7: no token attends to another of its own sentence. `(E, frames, M, D)` -> the
        same."""
        sentences = cues.flatten(
            1, 2
        )  # -> (E, frames*M, D), which `mha_mm` takes for (sequence, batch, D)
        if not self.config.attend_across_clips:
            sentences = sentences.flatten(0, 1).unsqueeze(
                0
            )  # -> (1, E*frames*M, D): sequences of one
        return self.mha_mm(sentences, sentences, sentences, need_weights=False)[0].view(cues.shape)

    def _encode_audio(
        self,
        steps: torch.Size,
        input_features: torch.Tensor | None,
        audio_features: torch.Tensor | None,
    ) -> torch.Tensor:
        """F_A `(clips, frames, 128)`; silence where there is no sound."""
        if audio_features is None:
            if self.audio_encoder is None:
                raise ValueError(
                    "this checkpoint has no VGGish: pass audio_features (clips, frames, 128)"
                )
            if input_features is None:
                audio = self.config.audio_config
                silence = torch.full(
                    (audio.num_mel_frames, audio.num_mel_bands), math.log(LOG_OFFSET)
                )
                input_features = silence.to(self.device, self.dtype).expand(*steps, -1, -1)
            audio_features = self.audio_encoder(input_features).last_hidden_state
        if audio_features.shape[:2] != steps:
            raise ValueError(
                f"each frame needs one second of sound: got {tuple(steps)} (clips, frames) "
                f"and {tuple(audio_features.shape[:2])} (clips, log-mel examples)"
            )
        return audio_features

    def _encode_text(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        text_features: torch.Tensor | None,
    ) -> torch.Tensor:
        """F_T `(E, 25, 768)`: padding has features too, and nothing after this hides them (quirk
        4)."""
        length = self.config.text_length
        if text_features is None:
            if self.text_encoder is None:
                raise ValueError(
                    "this checkpoint has no text encoder: pass text_features (expressions, "
                    f"{length}, D)"
                )
            attention_mask = (
                torch.ones_like(input_ids) if attention_mask is None else attention_mask
            )
            missing = (0, max(length - input_ids.shape[1], 0))
            input_ids = nn.functional.pad(
                input_ids, missing, value=self.config.text_config.pad_token_id
            )
            attention_mask = nn.functional.pad(attention_mask, missing)
            text_features = self.text_encoder(
                input_ids, attention_mask=attention_mask
            ).last_hidden_state
        if text_features.shape[1] != length:
            raise ValueError(
                f"a sentence must have {length} tokens, padding included, got "
                f"{text_features.shape[1]}"
            )
        return text_features


def _two_layers(input_size: int, hidden_size: int, output_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(input_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, output_size)
    )


def _fuse(
    attention: nn.MultiheadAttention, tokens: torch.Tensor, text: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Over the whole clip at once (quirk 4): `(E, tokens, D)` and `(E, 25, D)`, each after
    attending to both."""
    both = torch.cat([tokens, text], dim=1)
    fused, _ = attention(both, both, both, need_weights=False)
    return fused.split([tokens.shape[1], text.shape[1]], dim=1)


def _compute_loss(
    mask_logits: torch.Tensor, mask_labels: torch.Tensor, frame_mask: torch.Tensor
) -> torch.Tensor:
    """BCE with logits over the pixels of all real frames (quirk 10), in float32. Labels are resized
    as released."""
    if mask_labels.shape[:2] != frame_mask.shape:
        raise ValueError(
            f"mask_labels must be (expressions, frames, h, w) with {tuple(frame_mask.shape)} "
            "(expressions, frames), "
            f"got {tuple(mask_labels.shape)}"
        )
    labels = (
        nn.functional.interpolate(mask_labels.float(), size=mask_logits.shape[-2:], mode="bilinear")
        > 0
    )
    return nn.functional.binary_cross_entropy_with_logits(
        mask_logits[frame_mask].float(), labels[frame_mask].float()
    )


RefAVSReleasedForSegmentation.register_for_auto_class("AutoModel")


__all__ = ["RefAVSReleasedForSegmentation"]
