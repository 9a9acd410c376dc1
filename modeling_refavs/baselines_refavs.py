"""What the methods of the paper's Table 3 share here: EEMC's frozen encoders (Supp. B.3), its
inputs and its outputs.

A method lacks a modality that the task needs; the paper brings it to the width of one that the
method has by a linear projection and adds it. Each method has a file of its own
(`avsegformer_refavs.py`, `referformer_refavs.py`, `tpavi_refavs.py`) and is built from the facts of
its publication; docs/baselines.md says where it departs from it.
"""

import math
from dataclasses import field
from typing import Any, Literal, NamedTuple

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import (
    AutoBackbone,
    AutoConfig,
    DeformableDetrConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.models.deformable_detr.modeling_deformable_detr import (
    DeformableDetrEncoderLayer,
    DeformableDetrMultiscaleDeformableAttention,
)
from transformers.utils import can_return_tuple

from .checkpoint_refavs import StrictLoadingMixin
from .configuration_refavs import RefAVSSegmentationConfig, use_four_stages
from .deformable_attention import RefAVSDeformableAttention
from .encoders_refavs import (
    RefAVSEncodersMixin,
    RefAVSSimplePyramid,
    audio_config_of,
    audio_encoder_class,
    make_text_encoder,
    text_config_of,
)
from .grounding_refavs import mean_token
from .loss_refavs import RefAVSLossCounts, count_masks
from .mask2former_refavs import RefAVSMask2FormerModel, RefAVSPixels, reference_points
from .modeling_outputs_refavs import (
    RefAVSClipFeatures,
    RefAVSSegmentationOutput,
    count_expressions,
    of_expressions,
    of_steps,
)


NUM_GROUPS = 32  # of the group norms after projections of the stages
ENCODERS = ("vision", "text", "audio")


@strict
class RefAVSBaselineConfig(RefAVSSegmentationConfig):
    """
    Args:
        hidden_size, num_attention_heads, intermediate_size, dropout: of the method's transformers.
        use_text, use_audio: the modality that the method lacks is added; its own cannot be off.
        sentence_pooling: what stands for a sentence: RoBERTa's first token, or the mean token.
        freeze_vision_encoder, freeze_text_encoder, freeze_audio_encoder: no gradient, no dropout
            and no drop path, in `train()` too, as in EEMC.
        vision_config, text_config, audio_config: of any encoders (docs/encoders.md). Default:
            Swin-base, RoBERTa-base and VGGish.
    """

    keys_to_ignore_at_inference = ["memory"]  # noqa: RUF012, a list to Trainer
    sub_configs = dict.fromkeys((f"{part}_config" for part in ENCODERS), AutoConfig)
    own_modality = "audio"

    architectures: list[str] | None = field(default_factory=list)  # over None AutoModel stumbles

    hidden_size: int = 256
    num_attention_heads: int = 8
    intermediate_size: int = 2048
    dropout: float = 0.1
    use_text: bool = True
    use_audio: bool = True
    sentence_pooling: Literal["first", "mean"] = "first"

    freeze_vision_encoder: bool = True
    freeze_text_encoder: bool = True
    freeze_audio_encoder: bool = True

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    audio_config: dict | PreTrainedConfig | None = None

    @property
    def use_text_cues(self) -> bool:  # EEMC's name for it
        return self.use_text

    @property
    def use_audio_cues(self) -> bool:
        return self.use_audio

    def __post_init__(self, **kwargs):
        kwargs.pop("custom_pipelines", None)
        self._make_sub_configs()
        super().__post_init__(**kwargs)
        self.vision_config.dtype = None  # as in RefAVSConfig
        use_four_stages(self.vision_config)
        if not getattr(self, f"use_{self.own_modality}"):
            raise ValueError(
                f"use_{self.own_modality} cannot be off: {self.own_modality} is this method's own"
            )
        for divisor in (self.num_attention_heads, NUM_GROUPS):
            if self.hidden_size % divisor:
                raise ValueError(
                    f"hidden_size must be a multiple of num_attention_heads and of {NUM_GROUPS}, "
                    f"got {self.hidden_size}"
                )


class RefAVSPrediction(NamedTuple):
    """What a method makes of every frame of every expression, and what its loss is computed from.

    Args:
        mask_logits: `(expressions, frames, h, w)`.
        presence_logits: `(expressions, frames)`.
        masks_queries_logits, class_queries_logits: see [`RefAVSSegmentationOutput`].
        for_loss: the method's own: tensors in tuples, whose rows are expressions.
    """

    mask_logits: torch.Tensor
    presence_logits: torch.Tensor
    masks_queries_logits: torch.Tensor | None = None
    class_queries_logits: torch.Tensor | None = None
    for_loss: Any = None


class RefAVSBaseline(StrictLoadingMixin, RefAVSEncodersMixin, PreTrainedModel):
    """A method says what it makes of the four stages, of a sentence, and of both the loss."""

    config_class = RefAVSBaselineConfig
    main_input_name = "pixel_values"
    input_modalities = ("video", "audio", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    accepts_loss_kwargs = False  # the loss is a mean: Trainer must not rescale it
    loss_names: tuple[str, ...] = ()

    def __init__(self, config: RefAVSBaselineConfig):
        super().__init__(config)
        self.vision_encoder = AutoBackbone.from_config(config.vision_config)
        self.text_encoder = self.audio_encoder = self.pyramid = None
        if config.use_text:
            self.text_encoder = make_text_encoder(config.text_config)
        if config.use_audio:
            self.audio_encoder = audio_encoder_class(config.audio_config)(config.audio_config)
        self.channels = self.vision_encoder.channels[-4:]
        if RefAVSSimplePyramid.is_needed(self.channels):
            self.pyramid = RefAVSSimplePyramid(self.channels[0])

    def decode_stages(self, stages: list[torch.Tensor]) -> RefAVSPixels:
        """What does not depend on the sentence: of the four stages `(frames, C, h, w)`, from
        fine to coarse, maps that `predict` goes on from."""
        raise NotImplementedError

    def predict(
        self, clips: RefAVSClipFeatures, words: torch.Tensor | None, word_mask: torch.Tensor | None
    ) -> RefAVSPrediction:
        """
        Args:
            clips: a row for each expression.
            words: F_T `(expressions, L, D)`, `word_mask (expressions, L)` bool; None without text.
        """
        raise NotImplementedError

    def compute_losses(
        self,
        prediction: RefAVSPrediction,
        mask_labels: torch.Tensor,
        frame_mask: torch.Tensor,
        counts: RefAVSLossCounts,
    ) -> dict[str, torch.Tensor]:
        """The weighted parts of the loss, by `loss_names`.

        Args:
            mask_labels: `(expressions, frames, h, w)` in [0, 1], of any size.
            frame_mask: `(expressions, frames)` bool, False where a frame is padding.
        """
        raise NotImplementedError

    @classmethod
    def is_custom_code(cls) -> bool:
        """See [`RefAVSMask2FormerModel.is_custom_code`]: the outermost model decides for all its
        parts."""
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        elif isinstance(module, RefAVSDeformableEncoder):
            init.normal_(module.level_embed)
        elif isinstance(
            module, (RefAVSDeformableAttention, DeformableDetrMultiscaleDeformableAttention)
        ):
            init.zeros_(module.sampling_offsets.weight)
            init.copy_(module.sampling_offsets.bias, sampling_ring(module).flatten())
            init.zeros_(module.attention_weights.weight)

    @classmethod
    def from_backbones(
        cls,
        mask2former: str | None = None,
        text_model: str | None = None,
        audio_model: str | None = None,
        *,
        vision: str | None = None,
        **config_fields,
    ) -> "RefAVSBaseline":
        """The start of training: pretrained encoders, and the rest new.

        Args:
            mask2former: Hub id or local folder of a Mask2Former, whose backbone is taken.
            text_model, audio_model, vision: as in [`RefAVSPreTrainedModel.from_backbones`].
            config_fields: fields of the configuration; in `vision_config` a dict of the fields
                that differ from the pretrained one's.

        Raises:
            ValueError: not exactly one of `mask2former` and `vision` is given.
        """
        if (mask2former is None) == (vision is None):
            raise ValueError("pass vision, or mask2former, whose backbone is taken")
        changed = config_fields.pop("vision_config", {})
        if vision is None:
            pretrained = RefAVSMask2FormerModel.from_pretrained(mask2former)
            backbone = pretrained.config.backbone_config
        else:
            backbone = AutoConfig.from_pretrained(vision, **changed)
        config = cls.config_class(
            vision_config=backbone,
            text_config=text_config_of(AutoConfig.from_pretrained(text_model)),
            audio_config=audio_config_of(AutoConfig.from_pretrained(audio_model)),
            **config_fields,
        )
        model = cls(config)
        if vision is None:
            model.vision_encoder = pretrained.pixel_level_module.encoder
        else:
            kind = type(model.vision_encoder)
            model.vision_encoder = kind.from_pretrained(vision, config=config.vision_config)
        if model.text_encoder is not None:
            model.text_encoder = make_text_encoder(config.text_config, text_model)
        if model.audio_encoder is not None:
            kind = type(model.audio_encoder)
            model.audio_encoder = kind.from_pretrained(audio_model, config=config.audio_config)
        return model.eval()

    def get_input_embeddings(self) -> nn.Module:
        """Of the main input, pixels: the vision encoder's patches."""
        return self.vision_encoder.get_input_embeddings()

    def encode_clips(
        self,
        pixel_values: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        input_features_mask: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        audio_features: torch.Tensor | None = None,
        vision_features: tuple[torch.Tensor, ...] | None = None,
        frame_features: None = None,
        step_index: torch.Tensor | None = None,
    ) -> RefAVSClipFeatures:
        """Everything that does not depend on a sentence, once a clip; see [`RefAVSClipInputs`].

        Args:
            frame_features: cannot be used.
            step_index: `(n,)`, the only steps that are seen at all: there is no memory of others.
        """
        if frame_features is not None:
            raise ValueError(
                "frame_features stand for frames in the cues of EEMC alone: leave out cache_cues"
            )
        if (pixel_values is None) == (vision_features is None):
            raise ValueError("frames are needed: pass pixel_values or vision_features, one of them")

        def seen(value: torch.Tensor | None) -> torch.Tensor | None:
            return None if value is None else of_steps(value, step_index)

        stages = (
            self._encode_frames(seen(pixel_values))
            if vision_features is None
            else tuple(map(seen, vision_features))
        )
        steps = stages[0].shape[:2]
        audio_features, audio_mask = self._encode_audio(
            steps, seen(input_features), seen(input_features_mask), seen(audio_features)
        )
        everything = torch.ones(steps, dtype=torch.bool, device=stages[0].device)
        frame_mask = everything if frame_mask is None else seen(frame_mask).bool()
        audio_mask = frame_mask if audio_mask is None else audio_mask & frame_mask
        if audio_features is not None:  # where there is no sound, F_A is 0
            audio_features = audio_features * audio_mask.unsqueeze(-1).to(audio_features.dtype)
        maps = [stage.flatten(0, 1) for stage in stages]
        pixels = self.decode_stages(maps if self.pyramid is None else self.pyramid(maps))
        return RefAVSClipFeatures(
            frame_features=stages[-1],
            mask_features=None
            if pixels.mask_features is None
            else pixels.mask_features.unflatten(0, steps),
            multi_scale_features=tuple(
                level.unflatten(0, steps) for level in pixels.multi_scale_features
            ),
            audio_features=audio_features,
            audio_mask=audio_mask,
            frame_mask=frame_mask,
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
        loss_counts: RefAVSLossCounts | None = None,
    ) -> RefAVSSegmentationOutput:
        """Once a sentence; arguments as in [`RefAVSForSegmentation.segment`].

        Args:
            memory: there is none; accepted so that a caller need not know which model this is.
        """
        count_expressions(clip_features, input_ids, text_features, clip_index)
        words, word_mask = self.encode_text(input_ids, attention_mask, text_features)
        if self.config.use_text:
            clips = clip_features.of_expressions(clip_index)
            prediction = self.predict(clips, words, word_mask)
        else:  # all expressions of a clip have the same answer
            prediction = self.predict(clip_features, None, None)
            prediction = RefAVSPrediction(*of_expressions(tuple(prediction), clip_index))
        frame_mask = of_expressions(clip_features.frame_mask, clip_index)
        loss = parts = None
        if mask_labels is not None:
            if mask_labels.shape[:2] != frame_mask.shape:
                raise ValueError(
                    "mask_labels must be (expressions, frames, h, w) with "
                    f"{tuple(frame_mask.shape)} (expressions, frames), got "
                    f"{tuple(mask_labels.shape)}"
                )
            counts = loss_counts or count_masks(mask_labels[frame_mask])
            parts = self.compute_losses(prediction, mask_labels.float(), frame_mask, counts)
            loss = sum(parts.values())
            parts = {name: part.detach() for name, part in parts.items()}
        lowest = torch.finfo(prediction.mask_logits.dtype).min  # in a frame that is only padding
        return RefAVSSegmentationOutput(
            loss=loss,
            mask_logits=prediction.mask_logits.masked_fill(~frame_mask[..., None, None], lowest),
            presence_logits=prediction.presence_logits.masked_fill(~frame_mask, lowest),
            masks_queries_logits=prediction.masks_queries_logits,
            class_queries_logits=prediction.class_queries_logits,
            loss_parts=parts,
        )

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        clip_index: torch.Tensor | None = None,
        audio_features: torch.Tensor | None = None,
        text_features: torch.Tensor | None = None,
        mask_labels: torch.Tensor | None = None,
        input_features_mask: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        vision_features: tuple[torch.Tensor, ...] | None = None,
        frame_features: None = None,
        step_index: torch.Tensor | None = None,
        memory: None = None,
        loss_counts: RefAVSLossCounts | None = None,
    ) -> RefAVSSegmentationOutput:
        """`encode_clips`, then `segment`; their arguments."""
        clip_features = self.encode_clips(
            pixel_values,
            input_features,
            input_features_mask,
            frame_mask,
            audio_features,
            vision_features,
            frame_features,
            step_index,
        )
        return self.segment(
            clip_features,
            input_ids,
            attention_mask,
            clip_index,
            text_features,
            mask_labels,
            memory,
            loss_counts,
        )

    def pool_words(self, words: torch.Tensor, word_mask: torch.Tensor) -> torch.Tensor:
        """What stands for each sentence: `(expressions, L, D)` -> `(expressions, D)`."""
        if self.config.sentence_pooling == "first":
            return words[:, 0]
        return mean_token(words, word_mask)

    def _freeze_encoders(self) -> None:
        frozen = tuple(
            f"{part}_encoder."
            for part in ENCODERS
            if getattr(self.config, f"freeze_{part}_encoder")
        )
        self._freeze(
            {name for name, _ in self.named_modules() if f"{name}.".startswith(frozen)},
            {name for name, _ in self.named_parameters() if name.startswith(frozen)},
        )


class RefAVSDeformableLayer(DeformableDetrEncoderLayer):
    """Deformable DETR's encoder layer, with our sampling. Parameters of transformers' class."""

    def __init__(self, config: DeformableDetrConfig):
        super().__init__(config)
        self.self_attn = RefAVSDeformableAttention(
            config.d_model,
            config.encoder_attention_heads,
            config.num_feature_levels,
            config.encoder_n_points,
        )

    def forward(
        self,
        tokens: torch.Tensor,
        position: torch.Tensor,
        places: torch.Tensor,
        shapes: list[tuple[int, int]],
    ) -> torch.Tensor:
        """`(frames, pixels, D)` to the same; arguments of [`RefAVSDeformableAttention`]."""
        attended = self.self_attn(tokens, position, places, shapes)
        attended = nn.functional.dropout(attended, self.dropout, self.training)
        tokens = self.self_attn_layer_norm(tokens + attended)
        return self.final_layer_norm(tokens + self.mlp(tokens))


class RefAVSDeformableEncoder(nn.Module):
    """Deformable DETR's encoder (arXiv 2010.04159): the pixels of a frame's levels attend to each
    other.

    Args:
        config: of its layers.
        position: makes the sine position of a map, as transformers' classes do.
    """

    def __init__(self, config: DeformableDetrConfig, position: nn.Module):
        super().__init__()
        self.position = position
        self.level_embed = nn.Parameter(torch.zeros(config.num_feature_levels, config.d_model))
        self.layers = nn.ModuleList(
            RefAVSDeformableLayer(config) for _ in range(config.encoder_layers)
        )

    def place(
        self, shape: tuple[int, int], device: torch.device, dtype: torch.dtype
    ) -> torch.Tensor:
        """Sine position of a map, `(1, D, h, w)`; in bfloat16 it would not tell columns apart."""
        exact = torch.promote_types(dtype, torch.float32)
        return self.position((1, 0, *shape), device, exact).to(dtype)

    def forward(self, maps: list[torch.Tensor]) -> tuple[torch.Tensor, list[tuple[int, int]]]:
        """Maps `(frames, D, h, w)` -> tokens `(frames, pixels, D)`, the levels one after the
        other, and height and width of each."""
        shapes = [tuple(level.shape[-2:]) for level in maps]
        tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)
        position = torch.cat(
            [
                self.place(shape, tokens.device, tokens.dtype).flatten(2)[0].T + embedding
                for shape, embedding in zip(shapes, self.level_embed, strict=True)
            ]
        )
        places = reference_points(shapes, tokens.device)
        for layer in self.layers:
            tokens = layer(tokens, position, places, shapes)
        return tokens, shapes


def detr_config(config: RefAVSBaselineConfig, **fields) -> DeformableDetrConfig:
    """Of transformers' Deformable DETR layers, from the fields that all methods have."""
    return DeformableDetrConfig(
        use_timm_backbone=False,
        d_model=config.hidden_size,
        encoder_attention_heads=config.num_attention_heads,
        decoder_attention_heads=config.num_attention_heads,
        encoder_ffn_dim=config.intermediate_size,
        decoder_ffn_dim=config.intermediate_size,
        dropout=config.dropout,
        attention_dropout=config.dropout,
        activation_dropout=config.dropout,
        attn_implementation="sdpa",
        **fields,
    )


def sampling_ring(attention: nn.Module) -> torch.Tensor:
    """Where deformable attention samples at the start: `(heads, levels, points, 2)`, one direction
    a head, 1, 2, ... pixels away on a square (arXiv 2010.04159)."""
    angles = torch.arange(attention.n_heads) * (2 * math.pi / attention.n_heads)
    directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
    directions = directions / directions.abs().amax(dim=-1, keepdim=True)
    distances = torch.arange(1, attention.n_points + 1)[:, None]
    return (directions[:, None, None] * distances).expand(-1, attention.n_levels, -1, -1)


def split_levels(tokens: torch.Tensor, shapes: list[tuple[int, int]]) -> tuple[torch.Tensor, ...]:
    """Tokens `(frames, pixels, D)` of several levels -> maps `(frames, D, h, w)`."""
    parts = tokens.split([height * width for height, width in shapes], dim=1)
    return tuple(
        part.transpose(1, 2).unflatten(2, shape) for part, shape in zip(parts, shapes, strict=True)
    )


def project_stage(channels: int, hidden_size: int, **convolution) -> nn.Sequential:
    """A convolution, 1x1 unless said otherwise, and a group norm."""
    convolution = {"kernel_size": 1, **convolution}
    return nn.Sequential(
        nn.Conv2d(channels, hidden_size, **convolution), nn.GroupNorm(NUM_GROUPS, hidden_size)
    )


def labels_at(mask_labels: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """`(expressions, frames, H, W)` sampled in the middle of the pixels of maps of `size`, which
    at a stride of 4 are the pixels 2, 6, 10, ..."""
    return nn.functional.interpolate(mask_labels, size=size, mode="nearest-exact")


__all__ = ["RefAVSBaseline", "RefAVSBaselineConfig"]
