"""Configuration of the model that the Ref-AVS authors released, which is not the paper's: see
docs/released.md."""

from huggingface_hub.dataclasses import strict
from transformers import Mask2FormerConfig, PreTrainedConfig, RobertaConfig

from .configuration_refavs import SWIN_BASE, RefAVSAudioConfig, RefAVSPreTrainedConfig


# The two passes of one training step saw different features (quirk 13): here a frozen Swin drops no
# path.
RELEASED_SWIN = {**SWIN_BASE, "drop_path_rate": 0.0}


@strict
class RefAVSReleasedConfig(RefAVSPreTrainedConfig):
    """The released checkpoint's model. What its code fixes is fixed here too: no field changes it.

    Args:
        mask2former_config: `Mask2FormerConfig`. Default:
            `facebook/mask2former-swin-base-ade-semantic`, 150 classes.
        text_config: `RobertaConfig` of `distilbert/distilroberta-base`; None: `text_features` are
            given to the model.
        audio_config: `RefAVSAudioConfig`; None: `audio_features` are given to the model.
        audio_feature_size, text_feature_size: width of F_A and F_T.
        hidden_size: width of the cue tokens, which is the last Swin stage's.
        intermediate_size: width between the two layers of each projection.
        num_attention_heads: heads of the three fusing attentions; `num_catf_heads` those of CATF.
        adapter_size: bottleneck of the adapters in the pixel decoder.
        num_frames: steps of a clip; a shorter clip is filled up with its last step.
        text_length: tokens of a sentence, padding included: the model attends to padding.
        attend_across_clips: let the sentences of a batch attend to one another, as the released
            code does (quirk 7).
            False: an answer depends on its own clip and sentence alone.
    """

    model_type = "refavs_released"
    keys_to_ignore_at_inference = ["cue_hidden_states"]  # noqa: RUF012, a list to Trainer
    sub_configs = {  # noqa: RUF012, the name and form are transformers'
        "mask2former_config": Mask2FormerConfig,
        "text_config": RobertaConfig,
        "audio_config": RefAVSAudioConfig,
    }

    mask2former_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    audio_config: dict | PreTrainedConfig | None = None

    # Read from a checkpoint's shapes
    audio_feature_size: int = 128
    text_feature_size: int = 768
    hidden_size: int = 1024
    intermediate_size: int = 2048
    adapter_size: int = 64

    # Shapes do not tell these: the released code's values
    num_attention_heads: int = 8
    num_catf_heads: int = 4
    num_frames: int = 10
    text_length: int = 25

    attend_across_clips: bool = False

    def __post_init__(self, **kwargs):
        if self.mask2former_config is None:
            self.mask2former_config = Mask2FormerConfig(
                backbone_config=RELEASED_SWIN, num_labels=150
            )
        for name, config_class in self.sub_configs.items():
            if isinstance(fields := getattr(self, name), dict):
                setattr(self, name, config_class(**fields))
        super().__post_init__(**kwargs)
        self.mask2former_config.backbone_config.dtype = None  # as in RefAVSConfig
        self._check()

    def _check(self) -> None:
        if self.hidden_size != (stage := self.mask2former_config.backbone_config.hidden_size):
            raise ValueError(
                f"hidden_size must be the last Swin stage's, {stage}, got {self.hidden_size}"
            )
        for name, size, heads in (
            ("hidden_size", self.hidden_size, self.num_attention_heads),
            (
                "mask2former_config.hidden_dim",
                self.mask2former_config.hidden_dim,
                self.num_catf_heads,
            ),
        ):
            if size % heads:
                raise ValueError(
                    f"{name} must be a multiple of its number of heads, got {size} and {heads}"
                )
        for encoder, size, name in (
            (self.text_config and self.text_config.hidden_size, self.text_feature_size, "text"),
            (
                self.audio_config and self.audio_config.embedding_size,
                self.audio_feature_size,
                "audio",
            ),
        ):
            if encoder and encoder != size:
                raise ValueError(
                    f"{name}_feature_size must be the {name} encoder's, {encoder}, got {size}"
                )


RefAVSReleasedConfig.register_for_auto_class()


__all__ = ["RefAVSReleasedConfig"]
