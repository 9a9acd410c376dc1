"""EfficientNet-Lite: EfficientNet (Tan and Le, 2019) without squeeze-and-excitation and with ReLU6,
as Google's `efficientnet/lite` defines it. A frame in, feature maps at strides 4, 8, 16, 32 out."""

import math

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import (
    AutoBackbone,
    AutoConfig,
    AutoModelForImageClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.modeling_outputs import BackboneOutput, ImageClassifierOutputWithNoAttention
from transformers.models.auto.configuration_auto import CONFIG_MAPPING


# Of lite0: blocks, kernel size, stride, expansion, channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STAGE_NAMES = ["stem", "stage1", "stage2", "stage3", "stage4", "head"]
CHANNEL_MULTIPLE = 8
BATCH_NORM_EPS, BATCH_NORM_MOMENTUM = 1e-3, 0.01  # TensorFlow's momentum of 0.99


@strict
class RefAVSEfficientNetLiteConfig(BackboneConfigMixin, PreTrainedConfig):
    """EfficientNet-Lite of any size. Default: lite0.

    Args:
        width_coefficient: multiplies the channels of every stage, rounded to a multiple of 8; 1.0
            for lite0 and lite1, 1.1 for lite2.
        depth_coefficient: multiplies the blocks of every stage but the first and the last, rounded
            up; 1.0, 1.1 and 1.2 for lite0, lite1 and lite2.
        stem_size, head_size: channels of the first convolution, and of the one before the
            classifier; the coefficients leave both as they are.
        image_size: height and width that it was trained at, in pixels; it takes any.
        out_features, out_indices: which of `stem` (stride 2), `stage1` to `stage4` (strides 4, 8,
            16, 32) and `head` (stride 32, what the classifier reads) the backbone gives. Default:
            `stage1` to `stage4`.

    Frames are `(x - 127) / 128` of RGB 0..255: rescaled to 0..1, mean 127/255 and deviation
    128/255.
    """

    model_type = "refavs_efficientnet_lite"

    num_channels: int = 3
    width_coefficient: float = 1.0
    depth_coefficient: float = 1.0
    stem_size: int = 32
    head_size: int = 1280
    image_size: int = 224
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def __post_init__(self, **kwargs):
        self.stage_names = list(STAGE_NAMES)
        kwargs.pop("stage_names", None)
        out_features = kwargs.pop("out_features", None)
        out_indices = kwargs.pop("out_indices", None)
        if out_features is None and out_indices is None:
            out_features = STAGE_NAMES[1:5]
        self.set_output_features_output_indices(out_features, out_indices)
        super().__post_init__(**kwargs)
        if not (self.width_coefficient > 0 and self.depth_coefficient > 0):
            raise ValueError(
                "width_coefficient and depth_coefficient must be above 0, got "
                f"{self.width_coefficient} and {self.depth_coefficient}"
            )

    @property
    def block_settings(self) -> list[tuple[int, int, int, int, int]]:
        """Kernel size, stride, expansion, channels that come, channels that go, of every block."""
        settings, channels = [], self.stem_size
        for index, (depth, kernel_size, stride, expansion, base_size) in enumerate(STAGES):
            size = round_channels(base_size * self.width_coefficient)
            if 0 < index < len(STAGES) - 1:
                depth = math.ceil(depth * self.depth_coefficient)
            for position in range(depth):
                block_stride = 1 if position else stride
                settings.append((kernel_size, block_stride, expansion, channels, size))
                channels = size
        return settings


def round_channels(channels: float) -> int:
    """To the nearest multiple of 8 that loses no more than a tenth, and at least 8."""
    rounded = int(channels + CHANNEL_MULTIPLE / 2) // CHANNEL_MULTIPLE * CHANNEL_MULTIPLE
    rounded = max(rounded, CHANNEL_MULTIPLE)
    return rounded + CHANNEL_MULTIPLE if rounded < 0.9 * channels else rounded


class RefAVSSameConvolution(nn.Conv2d):
    """Without bias, padded as TensorFlow's "same": an odd row or column is added below and right.

    `(N, C, H, W) -> (N, C', ceil(H / stride), ceil(W / stride))`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
    ):
        super().__init__(
            in_channels, out_channels, kernel_size, stride=stride, groups=groups, bias=False
        )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        padding = []  # left, right, top, bottom: the last axis first
        for axis in (1, 0):
            size, kernel_size, stride = (
                hidden_states.shape[axis - 2],
                self.kernel_size[axis],
                self.stride[axis],
            )
            total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
            padding += [total // 2, total - total // 2]
        if padding[0] == padding[1] and padding[2] == padding[3]:
            return F.conv2d(
                hidden_states,
                self.weight,
                stride=self.stride,
                padding=(padding[2], padding[0]),
                groups=self.groups,
            )
        return super().forward(F.pad(hidden_states, padding))


def _convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    stride: int = 1,
    groups: int = 1,
    activate: bool = True,
) -> nn.Sequential:
    layers = [
        RefAVSSameConvolution(in_channels, out_channels, kernel_size, stride, groups),
        nn.BatchNorm2d(out_channels, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM),
    ]
    return nn.Sequential(*layers, nn.ReLU6()) if activate else nn.Sequential(*layers)


class RefAVSEfficientNetLiteBlock(nn.Module):
    """Inverted bottleneck: expand, a convolution a channel, project; added to what came where the
    shapes are equal."""

    def __init__(
        self, kernel_size: int, stride: int, expansion: int, in_channels: int, out_channels: int
    ):
        super().__init__()
        channels = in_channels * expansion
        self.expand = _convolution(in_channels, channels) if expansion > 1 else nn.Identity()
        self.depthwise = _convolution(channels, channels, kernel_size, stride, groups=channels)
        self.project = _convolution(channels, out_channels, activate=False)
        self.is_residual = stride == 1 and in_channels == out_channels

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W) -> (N, C', H / stride, W / stride)`."""
        projected = self.project(self.depthwise(self.expand(hidden_states)))
        return hidden_states + projected if self.is_residual else projected


class RefAVSEfficientNetLitePreTrainedModel(PreTrainedModel):
    config_class = RefAVSEfficientNetLiteConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.BatchNorm2d):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.num_batches_tracked)
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=0.01)
            init.zeros_(module.bias)


class RefAVSEfficientNetLiteBackbone(BackboneMixin, RefAVSEfficientNetLitePreTrainedModel):
    """The feature maps; lite0's have 24, 40, 112 and 320 channels at strides 4, 8, 16 and 32."""

    has_attentions = False
    _keys_to_ignore_on_load_unexpected = [r"^head\.", r"^classifier\."]  # noqa: RUF012, transformers' form

    def __init__(self, config: RefAVSEfficientNetLiteConfig):
        super().__init__(config)
        settings = config.block_settings
        self.stem = _convolution(config.num_channels, config.stem_size, kernel_size=3, stride=2)
        self.blocks = nn.ModuleList(RefAVSEfficientNetLiteBlock(*setting) for setting in settings)
        # A stage ends before the next halving, the last one with the last block.
        halvings = [index for index, setting in enumerate(settings) if setting[1] == 2]
        self.stage_ends = [index - 1 for index in halvings] + [len(settings) - 1]
        sizes = [settings[index][4] for index in self.stage_ends]
        self.num_features = [*sizes, config.head_size]
        self.head = (
            _convolution(sizes[-1], config.head_size) if "head" in self.out_features else None
        )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """What reads the pixels."""
        return self.stem

    def forward(
        self,
        pixel_values: torch.Tensor,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> BackboneOutput:
        """
        Args:
            pixel_values: `(N, 3, H, W)` frames, `(x - 127) / 128`.
            output_hidden_states: also return the maps of all stages.

        Returns:
            `feature_maps`: `(N, C, H / stride, W / stride)`, rounded up, for each of
                `out_features`.
        """
        hidden_states = self.stem(pixel_values)
        stages = []
        for index, block in enumerate(self.blocks):
            hidden_states = block(hidden_states)
            if index in self.stage_ends:
                stages.append(hidden_states)
        if self.head is not None:
            stages.append(self.head(hidden_states))
        maps = dict(zip(self.stage_names, stages, strict=False))
        return BackboneOutput(
            feature_maps=tuple(maps[name] for name in self.out_features),
            hidden_states=tuple(stages) if output_hidden_states else None,
        )


class RefAVSEfficientNetLiteForImageClassification(RefAVSEfficientNetLitePreTrainedModel):
    """The classes of `config.id2label`; the published weights know ImageNet's 1000."""

    def __init__(self, config: RefAVSEfficientNetLiteConfig):
        super().__init__(config)
        self.backbone = RefAVSEfficientNetLiteBackbone(config)
        self.head = _convolution(self.backbone.num_features[-2], config.head_size)
        self.classifier = nn.Linear(config.head_size, config.num_labels)
        self.post_init()

    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None, **kwargs
    ) -> ImageClassifierOutputWithNoAttention:
        """
        Args:
            pixel_values: `(N, 3, H, W)` frames, `(x - 127) / 128`.
            labels: `(N,)` class indices; the loss is cross-entropy.

        Returns:
            `logits (N, classes)`.
        """
        stages = self.backbone(pixel_values, output_hidden_states=True).hidden_states
        logits = self.classifier(self.head(stages[4]).mean(dim=(2, 3)))
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits)


# A model that has this as a part finds it by its type. Where the package is installed its classes
# come first.
if RefAVSEfficientNetLiteConfig.model_type not in CONFIG_MAPPING:
    AutoConfig.register(RefAVSEfficientNetLiteConfig.model_type, RefAVSEfficientNetLiteConfig)
AutoBackbone.register(RefAVSEfficientNetLiteConfig, RefAVSEfficientNetLiteBackbone, exist_ok=True)
AutoModelForImageClassification.register(
    RefAVSEfficientNetLiteConfig, RefAVSEfficientNetLiteForImageClassification, exist_ok=True
)
RefAVSEfficientNetLiteConfig.register_for_auto_class()
RefAVSEfficientNetLiteBackbone.register_for_auto_class("AutoBackbone")
RefAVSEfficientNetLiteForImageClassification.register_for_auto_class(
    "AutoModelForImageClassification"
)


__all__ = [
    "RefAVSEfficientNetLiteBackbone",
    "RefAVSEfficientNetLiteConfig",
    "RefAVSEfficientNetLiteForImageClassification",
]
