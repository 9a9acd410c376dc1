"""YAMNet: one log-mel example (0.96 s of sound) in, one vector out; a MobileNet v1 that was trained
on AudioSet's 521 classes (Plakal and Ellis, TensorFlow models)."""

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from .efficientnet_lite_refavs import RefAVSSameConvolution


BATCH_NORM_EPS, BATCH_NORM_MOMENTUM = 1e-4, 0.01


@strict
class RefAVSYamnetConfig(PreTrainedConfig):
    """YAMNet.

    Args:
        num_mel_frames, num_mel_bands: size of one log-mel example; 96 x 10 ms, 64 bands.
        log_offset: what the front end adds to a mel magnitude before the logarithm.
        hidden_sizes: channels of the first convolution and of each separable one after it; the last
            is the length of the vector that stands for one second of sound.
        strides: of the same layers.
    """

    model_type = "refavs_yamnet"
    base_config_key = "audio_config"

    num_mel_frames: int = 96
    num_mel_bands: int = 64
    log_offset: float = 0.001
    hidden_sizes: list[int] | tuple[int, ...] = (
        *(32, 64, 128, 128, 256, 256),
        *(512, 512, 512, 512, 512, 512, 1024, 1024),
    )
    strides: list[int] | tuple[int, ...] = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if len(self.hidden_sizes) != len(self.strides):
            raise ValueError(
                "hidden_sizes and strides describe the same layers, got "
                f"{len(self.hidden_sizes)} and {len(self.strides)}"
            )

    @property
    def hidden_size(self) -> int:
        return self.hidden_sizes[-1]


def _convolution(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        RefAVSSameConvolution(in_channels, out_channels, kernel_size, stride, groups),
        nn.BatchNorm2d(out_channels, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM),
        nn.ReLU(),
    )


class RefAVSYamnetPreTrainedModel(PreTrainedModel):
    config_class = RefAVSYamnetConfig
    base_model_prefix = "audio_encoder"
    main_input_name = "input_features"
    input_modalities = ("audio",)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.num_batches_tracked)
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=0.01)
            init.zeros_(module.bias)


class RefAVSYamnetModel(RefAVSYamnetPreTrainedModel):
    """The mean of the last feature map, YAMNet's embedding."""

    _keys_to_ignore_on_load_unexpected = [r"^classifier\."]  # noqa: RUF012, transformers' form

    def __init__(self, config: RefAVSYamnetConfig):
        super().__init__(config)
        channels, *sizes = config.hidden_sizes
        stride, *strides = config.strides
        layers = [_convolution(1, channels, 3, stride)]
        for size, stride in zip(sizes, strides, strict=True):
            layers.append(_convolution(channels, channels, 3, stride, groups=channels))
            layers.append(_convolution(channels, size, 1))
            channels = size
        self.layers = nn.Sequential(*layers)
        self.post_init()

    def forward(self, input_features: torch.Tensor, **kwargs) -> BaseModelOutput:
        """
        Args:
            input_features: `(..., 96, 64)` log-mel examples, time before band, with
                `config.log_offset`.

        Returns:
            `last_hidden_state (..., 1024)`, one vector an example.
        """
        leading = input_features.shape[:-2]
        # (N, 1, 96, 64) -> (N, 1024, 3, 2)
        maps = self.layers(input_features.flatten(0, -3).unsqueeze(1))
        return BaseModelOutput(last_hidden_state=maps.mean(dim=(2, 3)).unflatten(0, leading))


class RefAVSYamnetForAudioClassification(RefAVSYamnetPreTrainedModel):
    """The classes of `config.id2label`, each with a probability of its own; the published weights
    know AudioSet's 521."""

    def __init__(self, config: RefAVSYamnetConfig):
        super().__init__(config)
        self.audio_encoder = RefAVSYamnetModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self, input_features: torch.Tensor, labels: torch.Tensor | None = None, **kwargs
    ) -> SequenceClassifierOutput:
        """
        Args:
            input_features: `(..., 96, 64)` log-mel examples.
            labels: `(..., classes)` of 0 and 1; the loss is binary cross-entropy.

        Returns:
            `logits (..., classes)`, before the sigmoid.
        """
        logits = self.classifier(self.audio_encoder(input_features).last_hidden_state)
        loss = None
        if labels is not None:
            loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        return SequenceClassifierOutput(loss=loss, logits=logits)


# As in `efficientnet_lite_refavs.py`: found by its type, and what is installed comes first.
if RefAVSYamnetConfig.model_type not in CONFIG_MAPPING:
    AutoConfig.register(RefAVSYamnetConfig.model_type, RefAVSYamnetConfig)
AutoModel.register(RefAVSYamnetConfig, RefAVSYamnetModel, exist_ok=True)
AutoModelForAudioClassification.register(
    RefAVSYamnetConfig, RefAVSYamnetForAudioClassification, exist_ok=True
)
RefAVSYamnetConfig.register_for_auto_class()
RefAVSYamnetModel.register_for_auto_class("AutoModel")
RefAVSYamnetForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")


__all__ = ["RefAVSYamnetConfig", "RefAVSYamnetForAudioClassification", "RefAVSYamnetModel"]
