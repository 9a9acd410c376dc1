"""AVSegFormer (AAAI 2024, arXiv 2307.01146) with text: audio-guided queries, one frame at a time.

Nothing passes from one frame to another. The text joins by the sentence's vector, projected and
added to the frame's audio token, which is all that the method knows beside the frame.
"""

from typing import Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers.models.deformable_detr.modeling_deformable_detr import (
    DeformableDetrSinePositionEmbedding,
)

from .baselines_refavs import (
    NUM_GROUPS,
    RefAVSBaseline,
    RefAVSBaselineConfig,
    RefAVSDeformableEncoder,
    RefAVSPrediction,
    detr_config,
    labels_at,
    project_stage,
    split_levels,
)
from .encoders_refavs import audio_size
from .loss_refavs import RefAVSLossCounts, binary_cross_entropy
from .mask2former_refavs import RefAVSPixels, rows_of
from .modeling_outputs_refavs import RefAVSClipFeatures


DICE_CONSTANT = 2e-3  # of the released code: 0.001 for each of the two sums


@strict
class RefAVSAVSegFormerConfig(RefAVSBaselineConfig):
    """AVSegFormer: the published sizes are the defaults.

    Args:
        num_queries, num_layers: of the query generator, the encoder and the decoder.
        generator_size: feed-forward width of the query generator.
        query_mixer_size: width of the MLP that turns the maps of the queries into channels.
        upsampling: of the mask feature before the last layers.
        mask_head_size: channels of the last layers but one, whose two convolutions take most of the
            time where the rest is narrow.
        words_as_keys: ours: words are keys of the query generator beside the audio token. Without
            them its cross-attention has one key, and so is a constant (docs/baselines.md).
        loss: "dice" is published: where a frame shows no object its gradient is 0, so that null
            references teach nothing; "dice+bce", ours, adds the cross-entropy of the mask.
        mix_weight: of the loss of the mask feature's mean channel.
    """

    model_type = "refavs_avsegformer"
    own_modality = "audio"

    num_queries: int = 300
    num_layers: int = 6
    generator_size: int = 1024
    query_mixer_size: int = 2048
    upsampling: int = 4
    mask_head_size: int = 128
    words_as_keys: bool = False
    loss: Literal["dice", "dice+bce"] = "dice"
    mix_weight: float = 0.1


class RefAVSQueryGeneratorLayer(nn.Module):
    """Queries attend to each other, then to the frame's tokens; post-norm, attention without
    bias."""

    def __init__(self, config: RefAVSAVSegFormerConfig):
        super().__init__()
        size, heads = config.hidden_size, config.num_attention_heads
        self.self_attention = nn.MultiheadAttention(size, heads, bias=False, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(size, heads, bias=False, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.Linear(size, config.generator_size),
            nn.GELU(),
            nn.Linear(config.generator_size, size),
        )
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(3))

    def forward(
        self, queries: torch.Tensor, tokens: torch.Tensor, hidden: torch.Tensor | None
    ) -> torch.Tensor:
        """`(frames, queries, D)` to the same; `tokens (frames, S, D)`, `hidden (frames, S)` bool,
        True where a token is padding."""
        after_self, after_cross, after_feed_forward = self.norms
        attended, _ = self.self_attention(queries, queries, queries, need_weights=False)
        queries = after_self(queries + attended)
        attended, _ = self.cross_attention(
            queries, tokens, tokens, key_padding_mask=hidden, need_weights=False
        )
        queries = after_cross(queries + attended)
        return after_feed_forward(queries + self.feed_forward(queries))


class RefAVSChannelMixer(nn.Module):
    """The audio token attends to the pixels; what it finds is a gate for each channel."""

    def __init__(self, hidden_size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.query_projection = nn.Linear(hidden_size, hidden_size, bias=False)
        self.key_value_projection = nn.Linear(hidden_size, 2 * hidden_size, bias=False)
        self.output_projection = nn.Linear(hidden_size, hidden_size)

    def forward(self, maps: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
        """`maps (frames, D, h, w)`, `token (frames, 1, D)` -> maps."""
        pixels = maps.flatten(2).transpose(1, 2)
        keys, values = self.key_value_projection(pixels).chunk(2, dim=-1)
        attended = nn.functional.scaled_dot_product_attention(
            *(
                states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
                for states in (self.query_projection(token), keys, values)
            )
        )
        # (frames, heads, 1, d) -> (frames, D, 1, 1)
        gates = self.output_projection(attended.flatten(1)).sigmoid()
        return maps * gates[..., None, None]


class RefAVSMaskHead(nn.Sequential):
    """A map of features to one of mask logits, `upsampling` times as large.

    Args:
        size: channels after the first convolution, 128 as published; after the second a quarter.
    """

    def __init__(self, channels: int, size: int, upsampling: int, bias: bool = False):
        super().__init__(
            nn.Conv2d(channels, size, kernel_size=3, padding=1),
            nn.Upsample(scale_factor=upsampling, mode="bilinear"),
            nn.Conv2d(size, size // 4, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(size // 4, 1, kernel_size=1, bias=bias),
        )


class RefAVSAVSegFormerForSegmentation(RefAVSBaseline):
    """AVSegFormer + text: each frame with its second of sound and the sentence, alone."""

    config_class = RefAVSAVSegFormerConfig

    def __init__(self, config: RefAVSAVSegFormerConfig):
        super().__init__(config)
        size, heads = config.hidden_size, config.num_attention_heads
        self.audio_projection = nn.Linear(audio_size(config.audio_config), size)
        self.text_projection = self.word_projection = None
        if config.use_text:
            self.text_projection = nn.Linear(config.text_config.hidden_size, size)
            if config.words_as_keys:
                self.word_projection = nn.Linear(config.text_config.hidden_size, size)
        self.input_projections = nn.ModuleList(
            project_stage(channels, size) for channels in self.channels
        )
        layers = detr_config(
            config,
            num_feature_levels=3,
            encoder_layers=config.num_layers,
            activation_function="gelu",
        )
        self.encoder = RefAVSDeformableEncoder(
            layers, DeformableDetrSinePositionEmbedding(size // 2)
        )
        self.lateral = project_stage(size, size)
        self.output_convolution = nn.Sequential(
            nn.Conv2d(size, size, kernel_size=3, padding=1),
            nn.GroupNorm(NUM_GROUPS, size),
            nn.ReLU(),
        )
        self.generator_queries = nn.Embedding(config.num_queries, size)
        self.generator = nn.ModuleList(
            RefAVSQueryGeneratorLayer(config) for _ in range(config.num_layers)
        )
        self.learned_queries = nn.Embedding(config.num_queries, size)
        self.decoder = nn.ModuleList(
            nn.TransformerDecoderLayer(
                size,
                heads,
                config.intermediate_size,
                config.dropout,
                activation="gelu",
                batch_first=True,
            )
            for _ in range(config.num_layers)
        )
        self.channel_mixer = RefAVSChannelMixer(size, heads)
        self.query_mixer = nn.Sequential(
            nn.Conv2d(config.num_queries, config.query_mixer_size, kernel_size=1),
            nn.ReLU(),
            nn.Conv2d(config.query_mixer_size, config.query_mixer_size, kernel_size=1),
            nn.ReLU(),
            nn.Conv2d(config.query_mixer_size, size, kernel_size=1),
        )
        self.mask_head = RefAVSMaskHead(size, config.mask_head_size, config.upsampling)
        self.loss_names = ("loss_dice", "loss_mix")
        if config.loss == "dice+bce":
            self.loss_names += ("loss_mask",)
        self.post_init()
        self._freeze_encoders()

    def decode_stages(self, stages: list[torch.Tensor]) -> RefAVSPixels:
        """The encoder's three maps, at strides 8, 16 and 32, and the mask feature at stride 4,
        before the sound acts on it."""
        maps = [
            project(stage) for project, stage in zip(self.input_projections, stages, strict=True)
        ]
        levels = split_levels(*self.encoder(maps[1:]))
        beside = self.lateral(maps[0])
        larger = nn.functional.interpolate(levels[0], beside.shape[-2:], mode="bilinear")
        return RefAVSPixels(levels, self.output_convolution(beside + larger))

    def predict(
        self, clips: RefAVSClipFeatures, words: torch.Tensor | None, word_mask: torch.Tensor | None
    ) -> RefAVSPrediction:
        steps = clips.frame_mask.shape
        token = self.audio_projection(clips.audio_features)  # (expressions, frames, D)
        if words is not None:
            token = token + self.text_projection(self.pool_words(words, word_mask)).unsqueeze(1)
        token = token.flatten(0, 1).unsqueeze(1)
        keys, hidden = token, None
        if self.word_projection is not None:
            # the same words at every frame: (expressions, L, D) -> (expressions * frames, L, D)
            every = self.word_projection(words).repeat_interleave(steps[1], dim=0)
            keys = torch.cat([token, every], dim=1)
            hidden = ~word_mask.repeat_interleave(steps[1], dim=0)
            hidden = torch.cat([hidden.new_zeros(len(hidden), 1), hidden], dim=1)
        queries = rows_of(self.generator_queries, token.device).expand(len(token), -1, -1)
        for layer in self.generator:
            queries = layer(queries, keys, hidden)
        queries = queries + rows_of(self.learned_queries, token.device)
        pixels = torch.cat(
            [level.flatten(0, 1).flatten(2) for level in clips.multi_scale_features], dim=2
        ).transpose(1, 2)
        for layer in self.decoder:
            queries = layer(queries, pixels)
        features = self.channel_mixer(clips.mask_features.flatten(0, 1), token)
        maps = torch.einsum("nqc,nchw->nqhw", queries, features)
        mask_logits = self.mask_head(features + self.query_mixer(maps)).squeeze(1)
        mask_logits = mask_logits.unflatten(0, steps)
        return RefAVSPrediction(
            mask_logits=mask_logits,
            presence_logits=mask_logits.amax(dim=(-2, -1)),
            for_loss=features.mean(dim=1).unflatten(0, steps),
        )

    def compute_losses(
        self,
        prediction: RefAVSPrediction,
        mask_labels: torch.Tensor,
        frame_mask: torch.Tensor,
        counts: RefAVSLossCounts,
    ) -> dict[str, torch.Tensor]:
        logits = prediction.mask_logits.float()[frame_mask].flatten(1)
        labels = labels_at(mask_labels, prediction.mask_logits.shape[-2:])[frame_mask].flatten(1)
        mixed = nn.functional.interpolate(
            prediction.for_loss.float(),
            prediction.mask_logits.shape[-2:],
            mode="bilinear",
        )[frame_mask].flatten(1)
        losses = {
            "loss_dice": squared_dice_loss(logits, labels),
            "loss_mix": self.config.mix_weight * squared_dice_loss(mixed, labels),
        }
        if self.config.loss == "dice+bce":  # not of the mixed map: a ReLU keeps it above 0
            losses["loss_mask"] = binary_cross_entropy(logits, labels)
        return {name: values.sum() / counts.frames for name, values in losses.items()}


def squared_dice_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """`(frames, pixels)` -> `(frames,)`: `1 - 2 sum(p g) / (sum p^2 + sum g^2 + 0.002)`. Where the
    labels are all 0 it is 1, whatever is predicted."""
    probabilities = logits.sigmoid()
    both = 2 * (probabilities * labels).sum(dim=-1)
    return 1 - both / (
        probabilities.square().sum(dim=-1) + labels.square().sum(dim=-1) + DICE_CONSTANT
    )


RefAVSAVSegFormerConfig.register_for_auto_class()
RefAVSAVSegFormerForSegmentation.register_for_auto_class("AutoModel")


__all__ = ["RefAVSAVSegFormerConfig", "RefAVSAVSegFormerForSegmentation"]
