"""TinyViT (arXiv 2207.10666) as MobileSAM (arXiv 2306.14289) has it: the encoder of a model that
segments anything. A frame in, feature maps at strides 4, 8, 16, 16, 16 out."""

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import AutoBackbone, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.modeling_outputs import BackboneOutput
from transformers.models.auto.configuration_auto import CONFIG_MAPPING


STAGE_NAMES = ["stem", "stage1", "stage2", "stage3", "stage4", "neck"]
STRIDES = (2, 2, 1)  # from each stage to the next: MobileSAM's last one is not halved
LAYER_NORM_EPS, NECK_NORM_EPS = 1e-5, 1e-6


@strict
class RefAVSTinyVitConfig(BackboneConfigMixin, PreTrainedConfig):
    """Default: MobileSAM's encoder.

    Args:
        hidden_sizes, depths, num_heads, window_sizes: of the four stages; the first one has
            convolutions and no heads or windows.
        mlp_ratio, expansion: of the transformer blocks, and of the convolutions of the first stage.
        neck_size: channels of `neck`, what MobileSAM's decoder reads.
        out_features, out_indices: which of `stem` (stride 4), `stage1` to `stage4` (strides 4, 8,
            16, 16) and `neck` (stride 16) the backbone gives. Default: `stage1` to `stage4`.

    Frames are of ImageNet's mean and deviation.
    """

    model_type = "refavs_tiny_vit"

    num_channels: int = 3
    hidden_sizes: list[int] | tuple[int, ...] = (64, 128, 160, 320)
    depths: list[int] | tuple[int, ...] = (2, 2, 6, 2)
    num_heads: list[int] | tuple[int, ...] = (0, 4, 5, 10)
    window_sizes: list[int] | tuple[int, ...] = (0, 7, 14, 7)
    mlp_ratio: int = 4
    expansion: int = 4
    neck_size: int = 256
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
        sizes = zip(self.hidden_sizes[1:], self.num_heads[1:], strict=True)
        if any(size % heads for size, heads in sizes):
            raise ValueError(
                f"hidden_sizes {self.hidden_sizes} must be multiples of num_heads {self.num_heads}"
            )


def _convolution(
    in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    # TinyViT's batch norms are part of the weights: it is frozen, and MobileSAM's come without
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, 1, groups)


class RefAVSTinyVitConvolutions(nn.Module):
    """Expand, a convolution a channel, project: to the next stage, or within the first."""

    def __init__(self, in_channels: int, channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.expand = _convolution(in_channels, channels)
        self.depthwise = _convolution(channels, channels, 3, stride, groups=channels)
        self.project = _convolution(channels, out_channels)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W) -> (N, C', H / stride, W / stride)`."""
        inner = F.gelu(self.depthwise(F.gelu(self.expand(hidden_states))))
        return self.project(inner)


class RefAVSTinyVitConvolutionBlock(RefAVSTinyVitConvolutions):
    """Of the first stage."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W)` to the same."""
        return F.gelu(hidden_states + super().forward(hidden_states))


class RefAVSTinyVitBlock(nn.Module):
    """Attention within windows, with a learned bias for each distance, a convolution a channel, and
    a feed-forward part."""

    def __init__(self, hidden_size: int, num_heads: int, window_size: int, mlp_ratio: int):
        super().__init__()
        self.num_heads, self.window_size = num_heads, window_size
        self.attention_norm = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.attention_bias = nn.Parameter(torch.zeros(num_heads, window_size, window_size))
        self.output = nn.Linear(hidden_size, hidden_size)
        self.local = _convolution(hidden_size, hidden_size, 3, groups=hidden_size)
        self.mlp_norm = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)
        self.mlp_in = nn.Linear(hidden_size, mlp_ratio * hidden_size)
        self.mlp_out = nn.Linear(mlp_ratio * hidden_size, hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W)` to the same."""
        hidden_states = hidden_states + self._attend(hidden_states)
        hidden_states = self.local(hidden_states)
        tokens = hidden_states.permute(0, 2, 3, 1)
        tokens = self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(tokens))))
        return hidden_states + tokens.permute(0, 3, 1, 2)

    def _attend(self, hidden_states: torch.Tensor) -> torch.Tensor:
        height, width = hidden_states.shape[-2:]
        size = self.window_size
        rows, columns = -(-height // size), -(-width // size)
        padded = F.pad(hidden_states, (0, columns * size - width, 0, rows * size - height))
        # (N, C, rows * size, columns * size) -> (N, rows, columns, size, size, C) -> windows
        windows = padded.unflatten(3, (columns, size)).unflatten(2, (rows, size))
        windows = windows.permute(0, 2, 4, 3, 5, 1).flatten(3, 4)
        shape = windows.shape[:3]
        windows = self.qkv(self.attention_norm(windows.flatten(0, 2)))
        query, key, value = (
            windows.unflatten(-1, (self.num_heads, 3, -1)).permute(3, 0, 2, 1, 4).unbind(0)
        )  # each (windows, heads, size * size, d)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=self._bias())
        attended = self.output(attended.transpose(1, 2).flatten(2))
        attended = attended.unflatten(0, shape).unflatten(3, (size, size))
        attended = attended.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        return attended[..., :height, :width]

    def _bias(self) -> torch.Tensor:
        """`(heads, size * size, size * size)`: of each pair of places, by how far apart they are
        vertically and horizontally."""
        place = torch.arange(self.window_size, device=self.attention_bias.device)
        apart = (place[:, None] - place).abs()  # (size, size)
        return (
            self.attention_bias[:, apart[:, None, :, None], apart[None, :, None, :]]
            .flatten(3, 4)
            .flatten(1, 2)
        )


class RefAVSChannelNorm(nn.LayerNorm):
    """Over the channels of a map `(N, C, H, W)`."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden_states.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class RefAVSTinyVitPreTrainedModel(PreTrainedModel):
    config_class = RefAVSTinyVitConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, RefAVSTinyVitBlock):
            init.zeros_(module.attention_bias)


class RefAVSTinyVitBackbone(BackboneMixin, RefAVSTinyVitPreTrainedModel):
    """The feature maps; MobileSAM's have 64, 128, 160, 320 and 256 channels."""

    has_attentions = False
    _no_split_modules = ("RefAVSTinyVitBlock",)

    def __init__(self, config: RefAVSTinyVitConfig):
        super().__init__(config)
        sizes = list(config.hidden_sizes)
        self.num_features = [sizes[0], *sizes, config.neck_size]
        self.stem = nn.Sequential(
            _convolution(config.num_channels, sizes[0] // 2, 3, 2),
            nn.GELU(),
            _convolution(sizes[0] // 2, sizes[0], 3, 2),
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(self._make_block(stage) for _ in range(depth))
            for stage, depth in enumerate(config.depths)
        )
        self.downsamplings = nn.ModuleList(
            RefAVSTinyVitConvolutions(before, after, after, stride)
            for before, after, stride in zip(sizes[:-1], sizes[1:], STRIDES, strict=True)
        )
        self.neck = None
        if "neck" in self.out_features:
            self.neck = nn.Sequential(
                nn.Conv2d(sizes[-1], config.neck_size, 1, bias=False),
                RefAVSChannelNorm(config.neck_size, eps=NECK_NORM_EPS),
                nn.Conv2d(config.neck_size, config.neck_size, 3, padding=1, bias=False),
                RefAVSChannelNorm(config.neck_size, eps=NECK_NORM_EPS),
            )
        self.post_init()

    def _make_block(self, stage: int) -> nn.Module:
        config, size = self.config, self.config.hidden_sizes[stage]
        if stage == 0:
            return RefAVSTinyVitConvolutionBlock(size, size * config.expansion, size)
        heads, window = config.num_heads[stage], config.window_sizes[stage]
        return RefAVSTinyVitBlock(size, heads, window, config.mlp_ratio)

    def get_input_embeddings(self) -> nn.Module:
        """What reads the pixels."""
        return self.stem

    def forward(
        self, pixel_values: torch.Tensor, output_hidden_states: bool | None = None, **kwargs
    ) -> BackboneOutput:
        """
        Args:
            pixel_values: `(N, 3, H, W)` frames, of ImageNet's mean and deviation.
            output_hidden_states: also return the maps of all stages.

        Returns:
            `feature_maps`: `(N, C, H / stride, W / stride)`, rounded up, for each of
                `out_features`.
        """
        hidden_states = self.stem(pixel_values)
        stages = [hidden_states]
        for index, blocks in enumerate(self.stages):
            if index:
                hidden_states = self.downsamplings[index - 1](hidden_states)
            for block in blocks:
                hidden_states = block(hidden_states)
            stages.append(hidden_states)
        if self.neck is not None:
            stages.append(self.neck(hidden_states))
        maps = dict(zip(self.stage_names, stages, strict=False))
        return BackboneOutput(
            feature_maps=tuple(maps[name] for name in self.out_features),
            hidden_states=tuple(stages) if output_hidden_states else None,
        )


# A model that has this as a part finds it by its type. Where the package is installed its classes
# come first.
if RefAVSTinyVitConfig.model_type not in CONFIG_MAPPING:
    AutoConfig.register(RefAVSTinyVitConfig.model_type, RefAVSTinyVitConfig)
AutoBackbone.register(RefAVSTinyVitConfig, RefAVSTinyVitBackbone, exist_ok=True)
RefAVSTinyVitConfig.register_for_auto_class()
RefAVSTinyVitBackbone.register_for_auto_class("AutoBackbone")


__all__ = ["RefAVSTinyVitBackbone", "RefAVSTinyVitConfig"]
