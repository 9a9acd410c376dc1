"""Two backbones as one: of the first the finer maps, which show where objects end; of the second
the coarsest, which says what they are."""

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import AutoBackbone, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.modeling_outputs import BackboneOutput
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from .efficientnet_lite_refavs import RefAVSEfficientNetLiteConfig
from .tiny_vit_refavs import RefAVSTinyVitConfig


STAGE_NAMES = ["stem", "stage1", "stage2", "stage3", "head"]  # as EfficientNet-Lite's are called


@strict
class RefAVSPairedBackboneConfig(BackboneConfigMixin, PreTrainedConfig):
    """
    Args:
        fine_config: of any backbone; its maps become `stage1` to `stage3`, and it must give three.
            Default: MobileSAM's encoder, with strides 4, 8 and 16.
        coarse_config: of any backbone; its last map becomes `head`. Default: EfficientNet-Lite0,
            with `head`, what its classifier reads.
        pixel_scale, pixel_shift: of each colour. Frames are as `coarse_config` wants them; times
            the scale, plus the shift, they are as `fine_config` does.
    """

    model_type = "refavs_paired_backbone"
    sub_configs = {"fine_config": AutoConfig, "coarse_config": AutoConfig}  # noqa: RUF012, transformers' form

    fine_config: dict | PreTrainedConfig | None = None
    coarse_config: dict | PreTrainedConfig | None = None
    pixel_scale: list[float] | tuple[float, ...] = (1.0, 1.0, 1.0)
    pixel_shift: list[float] | tuple[float, ...] = (0.0, 0.0, 0.0)

    def __post_init__(self, **kwargs):
        for name, default in (
            ("fine_config", RefAVSTinyVitConfig(out_features=["stage1", "stage2", "neck"])),
            ("coarse_config", RefAVSEfficientNetLiteConfig(out_features=["head"])),
        ):
            given = getattr(self, name)
            if given is None:
                given = default
            elif isinstance(given, dict):
                given = CONFIG_MAPPING[given["model_type"]](**given)
            setattr(self, name, given)
        self.stage_names = list(STAGE_NAMES)
        kwargs.pop("stage_names", None)
        kwargs.pop("out_features", None)
        kwargs.pop("out_indices", None)
        self.set_output_features_output_indices(STAGE_NAMES[1:], None)
        super().__post_init__(**kwargs)
        if len(self.fine_config.out_features) != 3:
            raise ValueError(
                f"fine_config must give three maps, got {self.fine_config.out_features}"
            )


class RefAVSPairedBackbone(BackboneMixin, PreTrainedModel):
    """Four maps, those of a pyramid if the two backbones' strides make one."""

    config_class = RefAVSPairedBackboneConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    has_attentions = False

    def __init__(self, config: RefAVSPairedBackboneConfig):
        super().__init__(config)
        self.fine = AutoBackbone.from_config(config.fine_config)
        self.coarse = AutoBackbone.from_config(config.coarse_config)
        channels = [*self.fine.channels, self.coarse.channels[-1]]
        self.num_features = [channels[0], *channels]
        for name in ("pixel_scale", "pixel_shift"):
            values = torch.tensor(getattr(config, name))[:, None, None]
            self.register_buffer(name, values)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """What reads the pixels for the finer maps."""
        return self.fine.get_input_embeddings()

    def forward(
        self, pixel_values: torch.Tensor, output_hidden_states: bool | None = None, **kwargs
    ) -> BackboneOutput:
        """
        Args:
            pixel_values: `(N, 3, H, W)` frames, as the coarse backbone wants them.
            output_hidden_states: also return the maps as hidden states.

        Returns:
            `feature_maps`: `(N, C, h, w)`, four.
        """
        fine = self.fine(pixel_values * self.pixel_scale + self.pixel_shift).feature_maps
        maps = (*fine, self.coarse(pixel_values).feature_maps[-1])
        return BackboneOutput(
            feature_maps=maps, hidden_states=maps if output_hidden_states else None
        )


if RefAVSPairedBackboneConfig.model_type not in CONFIG_MAPPING:
    AutoConfig.register(RefAVSPairedBackboneConfig.model_type, RefAVSPairedBackboneConfig)
AutoBackbone.register(RefAVSPairedBackboneConfig, RefAVSPairedBackbone, exist_ok=True)
RefAVSPairedBackboneConfig.register_for_auto_class()
RefAVSPairedBackbone.register_for_auto_class("AutoBackbone")


__all__ = ["RefAVSPairedBackbone", "RefAVSPairedBackboneConfig"]
