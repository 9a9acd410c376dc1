"""Configuration of EEMC, the model of Ref-AVS (ECCV 2024, arXiv 2407.10957): the paper's values are
the defaults."""

import copy
import difflib
import math
from contextvars import ContextVar
from dataclasses import field, fields
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, GenerationConfig, Mask2FormerConfig, PreTrainedConfig
from transformers.utils import logging

# These register themselves, so that a saved configuration that names their types loads.
from .efficientnet_lite_refavs import RefAVSEfficientNetLiteConfig  # noqa: F401
from .modeling_yamnet import RefAVSYamnetConfig  # noqa: F401
from .paired_backbone_refavs import RefAVSPairedBackboneConfig  # noqa: F401


logger = logging.get_logger(__name__)

# What transformers itself passes to a configuration beside its fields.
SERVICE_KEYS = {
    "_attn_implementation",
    "_commit_hash",
    "_name_or_path",
    "add_cross_attention",
    "attn_implementation",
    "auto_map",
    "bos_token_id",
    "custom_pipelines",
    "decoder_start_token_id",
    "eos_token_id",
    "experts_implementation",
    "is_decoder",
    "model_type",
    "name_or_path",
    "num_labels",
    "output_attentions",
    "pad_token_id",
    "per_layer_config",
    "quantization_config",
    "sep_token_id",
    "tie_last_hidden_states",
    "tie_word_embeddings",
    "tokenizer_class",
    "torch_dtype",
    *GenerationConfig._get_default_generation_params(),  # such as use_cache
}

# Swin-base at 384x384, as in `facebook/mask2former-swin-base-ade-semantic` (paper, Sec. 5.1).
SWIN_BASE = {
    "model_type": "swin",
    "image_size": 384,
    "embed_dim": 128,
    "depths": [2, 2, 18, 2],
    "num_heads": [4, 8, 16, 32],
    "window_size": 12,
    "drop_path_rate": 0.3,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
ROBERTA_BASE = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
LABELS = {0: "the referred object"}  # Mask2Former's class head: this, or nothing
TASK = "referring-audio-visual-segmentation"
PIPELINE_TYPES = ("refavs", "refavs_avsegformer", "refavs_referformer", "refavs_tpavi")
PIPELINE = {"impl": "pipeline_refavs.RefAVSPipeline", "pt": ["AutoModel"], "type": "multimodal"}
PAPER = {
    "mask2former_config": {"backbone_config": SWIN_BASE, "id2label": LABELS},
    "vision_config": SWIN_BASE,
    "text_config": ROBERTA_BASE,
}
# What a configuration of an encoder that names no `model_type` is of
ENCODER_TYPES = {
    "vision_config": "swin",
    "text_config": "roberta",
    "audio_config": "refavs_vggish",
}
NUM_STAGES = 4  # maps of the vision encoder


# Fields of older versions -> of `grounding_config`; None: it only said how weights were drawn.
LEGACY_FIELDS = {
    "cue_loss_weight": "loss_weight",
    "claim_from_cues": "grounding_weight",
    "claim_bias": "object_score_bias",
    "use_audio_memory_cue": "use_audio_memory_cue",
    "cue_tied_start": None,
}


def rename_legacy_fields(values: dict[str, Any]) -> dict[str, Any]:
    """Fields of [`RefAVSConfig`] with those of older versions as they are called now."""
    renamed = {name: value for name, value in values.items() if name not in LEGACY_FIELDS}
    moved = {
        field: values[name] for name, field in LEGACY_FIELDS.items() if field and name in values
    }
    if moved:
        given = renamed.get("grounding_config") or {}
        given = given if isinstance(given, dict) else given.to_diff_dict()
        renamed["grounding_config"] = {**given, **moved}
    if renamed.get("cue_pre_norm", False) is None:  # as Mask2Former's decoder
        mask2former = renamed.get("mask2former_config") or {}
        renamed["cue_pre_norm"] = bool(mask2former.get("pre_norm", False))
    return renamed


_loading: ContextVar[bool] = ContextVar("loading", default=False)
NEAR = 0.85  # of difflib: as alike as a word and the same with a letter missing


class RefAVSPreTrainedConfig(PreTrainedConfig):
    """transformers accepts a misspelt key in silence; here it is an error that names the nearest
    field. What was saved loads all the same, since any tool may write a note into a configuration;
    a key that nearly is one of the fields gets a warning then."""

    def __post_init__(self, **kwargs):
        self._refuse_unknown_keys(kwargs)
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        for name, changes in kwargs.items():  # a person passed these
            part = cls.sub_configs.get(name)
            if isinstance(changes, dict) and issubclass(part or dict, RefAVSPreTrainedConfig):
                part._refuse_unknown_keys(changes)
        token = _loading.set(True)
        try:
            return super().from_dict(config_dict, **kwargs)
        finally:
            _loading.reset(token)

    @classmethod
    def _refuse_unknown_keys(cls, keys: dict[str, Any]) -> None:
        own = {field.name for field in fields(cls)}
        for key in keys.keys() - own - SERVICE_KEYS:
            nearest = difflib.get_close_matches(key, own, n=1, cutoff=0.0)[0]
            message = f"{cls.__name__} has no field `{key}`: did you mean `{nearest}`?"
            if not _loading.get():
                raise ValueError(message)
            if difflib.SequenceMatcher(None, key, nearest).ratio() > NEAR:
                logger.warning(message)


class RefAVSSegmentationConfig(RefAVSPreTrainedConfig):
    """What the configurations of EEMC and of the methods that it is compared with share."""

    @property
    def custom_pipelines(self) -> dict[str, dict]:
        """Tells `pipeline` which class of a saved folder does the task; nothing where the installed
        package is registered."""
        from transformers.pipelines import PIPELINE_REGISTRY  # late: it imports every Auto class

        return {} if TASK in PIPELINE_REGISTRY.get_supported_tasks() else {TASK: dict(PIPELINE)}

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "custom_pipelines": {TASK: dict(PIPELINE)}}

    def _make_sub_configs(self) -> None:
        """Dicts become configurations, and what is not given the paper's."""
        for name, config_class in self.sub_configs.items():
            given = getattr(self, name)
            if given is None:
                given = PAPER.get(name, {})
            if isinstance(given, dict):
                if name in ENCODER_TYPES:
                    given = config_class.for_model(**{"model_type": ENCODER_TYPES[name], **given})
                else:
                    given = config_class(**given)
                setattr(self, name, given)


@strict
class RefAVSAudioConfig(RefAVSPreTrainedConfig):
    """VGGish (Hershey et al., 2017), the audio encoder of Sec. 4.2.

    Args:
        num_mel_frames, num_mel_bands: size of one log-mel example; 96 x 10 ms, 64 bands.
        hidden_sizes, depths: channels of each stage and its number of 3x3 convolutions; a 2x2 max
            pool ends a stage.
        intermediate_size: width of the two fully connected layers.
        embedding_size: length of the vector that stands for one second of sound.
    """

    model_type = "refavs_vggish"
    base_config_key = "audio_config"

    num_mel_frames: int = 96
    num_mel_bands: int = 64
    hidden_sizes: list[int] | tuple[int, ...] = (64, 128, 256, 512)
    depths: list[int] | tuple[int, ...] = (1, 1, 2, 2)
    intermediate_size: int = 4096
    embedding_size: int = 128

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if len(self.hidden_sizes) != len(self.depths):
            raise ValueError(
                "hidden_sizes and depths describe the same stages, got "
                f"{len(self.hidden_sizes)} and {len(self.depths)}"
            )


@strict
class RefAVSGroundingConfig(RefAVSPreTrainedConfig):
    """Ours, not the paper's: the visual tokens of Q_m also learn to point at the referred object.

    Args:
        loss_weight: of the auxiliary loss of that pointing, see [`grounding_criterion`]; 0: there
            is none, and no head for it.
        grounding_weight: how much of the grounding logits under a query's mask is added to the
            query's object score; needs `loss_weight` above 0.
        object_score_bias: added to the object score of every query, but not in the loss: above 0 an
            object is found more readily, which buys J with S. It is chosen on a validation split.
        use_audio_memory_cue: C_A, the mean of the sounds before, is a cue token of its own beside
            Q_A, in which Eq. 2 mixes it with the sound of the step. It has no effect where
            `use_audio_cues` or `use_cached_memory` is off.
        use_alignment: the likeness of F'_V with F'_T and F'_A is added to the grounding logits, see
            [`RefAVSAlignmentHead`]; needs `loss_weight` above 0 and text cues.
        vocabulary_size: number of classes of a classifier of F_V, by whose names it is told what
            queries' masks show, see [`RefAVSNamingHead`]; 0: there is none. It needs
            `use_alignment`.
        sound_classes: number of classes of a classifier of F_A, by which it is told which classes
            of `vocabulary_size` make a sound; 0: it is not. It needs `vocabulary_size`.
        alignment_weight, naming_weight: how much that likeness and those names count, chosen on a
            validation split as the bias is.
        object_head_size: width of [`RefAVSObjectHead`], which chooses among the queries in place of
            the object scores that the fields above weigh; the bias is added to its logits, but for
            that of nothing, and `grounding_weight` weighs the choice alone; 0: there is none. It
            needs `vocabulary_size`, and has no effect where `use_text_cues` or `use_audio_cues` is
            off.
        refine_masks: the colours of the picture say where the chosen mask ends, see
            [`refine_masks`]; needs `object_head_size`, and frames as pixels, no `vision_features`.
        use_iou_head: the IoU of each mask with the truth is predicted, see [`RefAVSIoUHead`]. It
            changes no mask.
    """

    model_type = "refavs_grounding"
    base_config_key = "grounding_config"

    loss_weight: float = 0.0
    grounding_weight: float = 0.0
    object_score_bias: float = 0.0
    use_audio_memory_cue: bool = False
    use_alignment: bool = False
    vocabulary_size: int = 0
    sound_classes: int = 0
    alignment_weight: float = 1.0
    naming_weight: float = 1.0
    object_head_size: int = 0
    refine_masks: bool = False
    use_iou_head: bool = False

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        for name in ("object_score_bias", "alignment_weight", "naming_weight"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be a finite number, got {getattr(self, name)}")
        for name in ("grounding_weight", "use_alignment"):
            if getattr(self, name) and not self.loss_weight:
                raise ValueError(
                    f"{name} needs a head that has learned to point: set loss_weight above 0"
                )
        if self.vocabulary_size and not self.use_alignment:
            raise ValueError("vocabulary_size needs use_alignment")
        for name in ("sound_classes", "object_head_size"):
            if getattr(self, name) and not self.vocabulary_size:
                raise ValueError(f"{name} needs vocabulary_size")
        if self.refine_masks and not self.object_head_size:
            raise ValueError("refine_masks needs object_head_size")


def use_four_stages(backbone: PreTrainedConfig) -> None:
    """Let a backbone that would give fewer maps give four, spread over its depth; the last is the
    last.

    Raises:
        ValueError: it has not so many.
    """
    if len(backbone.out_features) >= NUM_STAGES:
        return
    names = [name for name in backbone.stage_names if name != "stem"]
    if len(names) < NUM_STAGES:
        raise ValueError(
            f"vision_config must give {NUM_STAGES} maps, and {backbone.model_type} here has "
            f"{len(names)} stages"
        )
    steps = range(1, NUM_STAGES + 1)
    backbone.out_features = [names[len(names) * step // NUM_STAGES - 1] for step in steps]


class RefAVSMask2FormerConfig(Mask2FormerConfig):
    """Mask2Former's; any backbone will do, where transformers warns of all but Swin."""

    def validate_architecture(self) -> None:
        PreTrainedConfig.validate_architecture(self)


@strict
class RefAVSConfig(RefAVSSegmentationConfig):
    """EEMC: Expression Enhancing with Multimodal Cues.

    Args:
        mask2former_config: `Mask2FormerConfig`. Default: of Swin-base, with 100 queries. Its
            `class_weight`, `mask_weight` and `dice_weight` are the loss weights: 2, 5 and 5 (Supp.
            B.1).
        vision_config: of any backbone that `AutoBackbone` knows; it becomes
            `mask2former_config.backbone_config` and can be read here too. Default: Swin-base.
        text_config: of any text encoder. Default: RoBERTa-base.
        audio_config: of any audio encoder (docs/encoders.md). Default: VGGish.
        grounding_config: `RefAVSGroundingConfig`, ours. Default: all of it off, as in the paper.
        hidden_size: d_V, the width of every cue token; the width of Mask2Former's queries.
        num_cue_layers: N_L, the layers of each of the three cue transformers.
        visual_grid_size: the last Swin stage is pooled to this many rows and columns of visual cue
            tokens.
        memory_beta: beta of Eq. 2, how strongly a step is set off against the past.
        adapter_size: bottleneck of the adapters in the pixel decoder and the transformer decoder
            (Fig. 3).
        cue_pre_norm: layers of the cue transformers normalise before attention and feed-forward,
            and not after them as Mask2Former's decoder does.
        use_text_cues, use_audio_cues, use_cached_memory, use_modality_encoding: the ablations of
            Table 4.
        freeze_vision_encoder, freeze_text_encoder, freeze_audio_encoder: no gradient, no dropout
            and no drop path, in `train()` too (Sec. 4.2).
        freeze_pixel_decoder: leave the pixel decoder as it was pretrained, its adapters too.
        freeze_mask_decoder: train only adapters and class head of Mask2Former's two decoders.
        freeze_cue_projection: leave F'_A, F'_V and F'_T as they start.

    Configurations that were saved with the fields of older versions load: see [`LEGACY_FIELDS`].
    """

    model_type = "refavs"
    keys_to_ignore_at_inference = ["memory", "cue_hidden_states", "cue_mask"]  # noqa: RUF012, a list to Trainer
    sub_configs = {  # noqa: RUF012, the name and form are transformers'
        "mask2former_config": RefAVSMask2FormerConfig,
        "text_config": AutoConfig,
        "audio_config": AutoConfig,
        "grounding_config": RefAVSGroundingConfig,
    }

    architectures: list[str] | None = field(default_factory=list)  # over None AutoModel stumbles

    # Cue transformers: sizes of Sec. 4.3 and 5.1
    hidden_size: int = 256
    num_cue_layers: int = 4
    visual_grid_size: int = 8
    memory_beta: float = 1.0

    # Unstated in the paper: as in Mask2Former's own layers
    num_attention_heads: int = 8
    intermediate_size: int = 1024
    dropout: float = 0.0
    adapter_size: int = 64
    initializer_range: float = 0.02
    cue_pre_norm: bool = False

    # Ablations (Table 4)
    use_text_cues: bool = True
    use_audio_cues: bool = True
    use_cached_memory: bool = True
    use_modality_encoding: bool = True

    # What is not trained: the encoders (Sec. 4.2); of the decoders the paper says nothing
    freeze_vision_encoder: bool = True
    freeze_text_encoder: bool = True
    freeze_audio_encoder: bool = True
    freeze_pixel_decoder: bool = False
    freeze_mask_decoder: bool = False
    freeze_cue_projection: bool = False

    # Encoders and decoders (Sec. 4.2, 4.4), and what is ours
    mask2former_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    audio_config: dict | PreTrainedConfig | None = None
    grounding_config: dict | PreTrainedConfig | None = None

    @property
    def vision_config(self) -> PreTrainedConfig:
        return self.mask2former_config.backbone_config

    @property
    def has_audio_memory_cue(self) -> bool:
        wanted = self.grounding_config.use_audio_memory_cue
        return wanted and self.use_audio_cues and self.use_cached_memory

    @property
    def has_object_head(self) -> bool:
        wanted = self.grounding_config.object_head_size > 0
        return wanted and self.use_text_cues and self.use_audio_cues

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """See [`LEGACY_FIELDS`]; both what was saved and what wins over it may have them."""
        return super().from_dict(rename_legacy_fields(config_dict), **rename_legacy_fields(kwargs))

    def __post_init__(self, **kwargs):
        if legacy := {name: kwargs.pop(name) for name in LEGACY_FIELDS if name in kwargs}:
            given = {"grounding_config": self.grounding_config or {}, **legacy}
            self.grounding_config = rename_legacy_fields(given)["grounding_config"]
        vision_config = kwargs.pop("vision_config", None)
        kwargs.pop("custom_pipelines", None)
        self._make_sub_configs()
        if vision_config is not None:
            if isinstance(vision_config, dict):
                vision_config = AutoConfig.for_model(**vision_config)
            self.mask2former_config = copy.deepcopy(self.mask2former_config)
            self.mask2former_config.backbone_config = vision_config
        super().__post_init__(**kwargs)
        # The vision encoder is of the precision in which the whole model is loaded, not of that in
        # which it was saved
        self.vision_config.dtype = None
        use_four_stages(self.vision_config)
        if self.mask2former_config.id2label != LABELS:  # a backbone trained on other classes
            self.mask2former_config = copy.deepcopy(self.mask2former_config)
            self.mask2former_config.id2label = dict(LABELS)
            self.mask2former_config.label2id = {label: index for index, label in LABELS.items()}
        self._check()

    def _check(self) -> None:
        for name in (
            "hidden_size",
            "num_cue_layers",
            "visual_grid_size",
            "num_attention_heads",
            "adapter_size",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.hidden_size != self.mask2former_config.hidden_dim:
            raise ValueError(
                "hidden_size must equal mask2former_config.hidden_dim, since the cues prompt its "
                f"queries (Eq. 5): got {self.hidden_size} and {self.mask2former_config.hidden_dim}"
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                "hidden_size must be a multiple of num_attention_heads, got "
                f"{self.hidden_size} and {self.num_attention_heads}"
            )
        if self.grounding_config.object_head_size % self.num_attention_heads:
            raise ValueError(
                "grounding_config.object_head_size must be a multiple of num_attention_heads, got "
                f"{self.grounding_config.object_head_size} and {self.num_attention_heads}"
            )
        if self.hidden_size % 4:
            raise ValueError(
                f"hidden_size must be a multiple of 4 (2-D sine position), got {self.hidden_size}"
            )


# Known to transformers as soon as they are defined, since a saved configuration names them.
AutoConfig.register(RefAVSAudioConfig.model_type, RefAVSAudioConfig, exist_ok=True)

# Saved checkpoints carry the code, for `trust_remote_code`.
RefAVSConfig.register_for_auto_class()
RefAVSAudioConfig.register_for_auto_class()


__all__ = [
    "RefAVSAudioConfig",
    "RefAVSConfig",
    "RefAVSGroundingConfig",
    "RefAVSSegmentationConfig",
]
