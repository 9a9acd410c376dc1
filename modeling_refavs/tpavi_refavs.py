"""TPAVI of AVSBench (ECCV 2022, arXiv 2207.05042) with text: the pixels of a clip attend to its
sounds.

Non-local attention of every pixel of a clip to every other one, whose keys are the sounds. All
pixels of a frame have the same key, so that the T frames are the keys and the result is the same
(see [`RefAVSTPAVI`]). The text joins by the sentence's vector, projected and added to each second's
audio vector.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import initialization as init

from .avsegformer_refavs import RefAVSMaskHead
from .baselines_refavs import RefAVSBaseline, RefAVSBaselineConfig, RefAVSPrediction, labels_at
from .encoders_refavs import audio_size
from .loss_refavs import RefAVSLossCounts, binary_cross_entropy
from .mask2former_refavs import RefAVSPixels
from .modeling_outputs_refavs import RefAVSClipFeatures


DILATIONS = (3, 6, 12, 18)


@strict
class RefAVSTPAVIConfig(RefAVSBaselineConfig):
    """AVSBench's model: the published sizes are the defaults.

    Args:
        matching_weight: lambda of the loss by which the mean feature under the predicted mask is to
            resemble the sound; 0.5 is of the setting with several sources.
        upsampling, mask_head_size: as in [`RefAVSAVSegFormerConfig`], of the map that has twice the
            height and width of the finest level.
    """

    model_type = "refavs_tpavi"
    own_modality = "audio"

    matching_weight: float = 0.5
    upsampling: int = 2
    mask_head_size: int = 128


class RefAVSDilatedNeck(nn.ModuleList):
    """The sum of four dilated convolutions."""

    def __init__(self, channels: int, hidden_size: int):
        super().__init__(
            nn.Conv2d(channels, hidden_size, kernel_size=3, padding=rate, dilation=rate)
            for rate in DILATIONS
        )

    def forward(self, stage: torch.Tensor) -> torch.Tensor:
        return sum(convolution(stage) for convolution in self)


class RefAVSTPAVI(nn.Module):
    """The audio-visual block of a level: `y_i = 1/N sum_j (theta(x_i) . phi(a_j)) g(x_j)` over all
    N pixels j of the clip, without a softmax; then a projection that starts at 0, a residual and a
    norm.

    The key phi(a_j) depends on the frame of j alone. So the sum over the pixels of a frame can come
    first: `y_i = 1/N sum_t (theta(x_i) . phi(a_t)) G_t`, where G_t is the sum of g in frame t. That
    needs T keys in place of T*h*w, and is the same to rounding.
    """

    def __init__(self, hidden_size: int, audio_size: int):
        super().__init__()
        inner = hidden_size // 2
        self.audio_projection = nn.Linear(audio_size, hidden_size)
        self.theta = nn.Linear(hidden_size, inner)
        self.phi = nn.Linear(hidden_size, inner)
        self.g = nn.Linear(hidden_size, inner)
        self.output_projection = nn.Linear(inner, hidden_size)
        self.batch_norm = nn.BatchNorm1d(hidden_size)
        self.norm = nn.LayerNorm(hidden_size)

    def forward(
        self, maps: torch.Tensor, sound: torch.Tensor, frame_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            maps: `(expressions, frames, D, h, w)`.
            sound: `(expressions, frames, D of the audio encoder)`.
            frame_mask: `(expressions, frames)` bool; frames of padding are not attended to.

        Returns:
            Maps, and the sound at their width, `(expressions, frames, D)`.
        """
        size = maps.shape[-2:]
        pixels = maps.flatten(3).transpose(2, 3)  # (expressions, frames, h * w, D)
        sound = self.audio_projection(sound)
        real = frame_mask.to(pixels.dtype)
        sums = self.g(pixels).sum(dim=2) * real[..., None]  # G_t, (expressions, frames, D / 2)
        queries = self.theta(pixels).flatten(1, 2)
        count = real.sum(dim=1) * pixels.shape[2]
        weights = queries @ self.phi(sound).transpose(1, 2) / count[:, None, None]
        update = self.output_projection(weights @ sums)  # (expressions, frames * h * w, D)
        update = self.batch_norm(update.flatten(0, 1)).view_as(pixels)
        pixels = self.norm(pixels + update)
        return pixels.transpose(2, 3).unflatten(3, size), sound


class RefAVSResidualUnit(nn.Module):
    """RefineNet's residual unit. The published one works in place, so that what is added is not the
    input but its ReLU; so it is here."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(hidden_size, hidden_size, kernel_size=3, padding=1) for _ in range(2)
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        first, second = self.convolutions
        maps = maps.relu()
        return second(first(maps).relu()) + maps


class RefAVSFusionBlock(nn.Module):
    """Adds a level to the coarser ones, refines the sum and enlarges it.

    Args:
        is_first: there is nothing coarser.
    """

    def __init__(self, hidden_size: int, is_first: bool):
        super().__init__()
        self.of_level = None if is_first else RefAVSResidualUnit(hidden_size)
        self.of_sum = RefAVSResidualUnit(hidden_size)

    def forward(
        self, level: torch.Tensor, coarser: torch.Tensor | None, size: tuple[int, int]
    ) -> torch.Tensor:
        maps = level if coarser is None else coarser + self.of_level(level)
        return nn.functional.interpolate(
            self.of_sum(maps), size, mode="bilinear", align_corners=True
        )


class RefAVSTPAVIForSegmentation(RefAVSBaseline):
    """AVSBench's model + text: the frames of a clip meet in the sounds that they are weighed by."""

    config_class = RefAVSTPAVIConfig
    loss_names = ("loss_mask", "loss_matching")

    def __init__(self, config: RefAVSTPAVIConfig):
        super().__init__(config)
        size, sound = config.hidden_size, audio_size(config.audio_config)
        self.text_projection = None
        if config.use_text:
            self.text_projection = nn.Linear(config.text_config.hidden_size, sound)
        self.necks = nn.ModuleList(RefAVSDilatedNeck(channels, size) for channels in self.channels)
        self.blocks = nn.ModuleList(RefAVSTPAVI(size, sound) for _ in self.channels)
        self.fusion_blocks = nn.ModuleList(
            RefAVSFusionBlock(size, is_first=number == 3) for number in range(4)
        )
        self.mask_head = RefAVSMaskHead(size, config.mask_head_size, config.upsampling, bias=True)
        self.post_init()
        self._freeze_encoders()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, RefAVSDilatedNeck):
            for convolution in module:
                init.normal_(convolution.weight, std=0.01)
        elif isinstance(module, RefAVSTPAVI):
            init.zeros_(module.batch_norm.weight)

    def decode_stages(self, stages: list[torch.Tensor]) -> RefAVSPixels:
        """The four levels at strides 4 to 32, before the sound acts on them."""
        maps = (neck(stage) for neck, stage in zip(self.necks, stages, strict=True))
        return RefAVSPixels(tuple(maps), None)

    def predict(
        self, clips: RefAVSClipFeatures, words: torch.Tensor | None, word_mask: torch.Tensor | None
    ) -> RefAVSPrediction:
        steps, sound = clips.frame_mask.shape, clips.audio_features
        if words is not None:
            sound = sound + self.text_projection(self.pool_words(words, word_mask)).unsqueeze(1)
        attended = [
            block(level, sound, clips.frame_mask)
            for block, level in zip(self.blocks, clips.multi_scale_features, strict=True)
        ]
        maps, sounds = zip(*attended, strict=True)
        refined = None
        for number in (3, 2, 1, 0):  # from coarse to fine
            height, width = maps[max(number - 1, 0)].shape[-2:]
            size = (height, width) if number else (2 * height, 2 * width)
            refined = self.fusion_blocks[number](maps[number].flatten(0, 1), refined, size)
        mask_logits = self.mask_head(refined).squeeze(1).unflatten(0, steps)
        return RefAVSPrediction(
            mask_logits=mask_logits,
            presence_logits=mask_logits.amax(dim=(-2, -1)),
            for_loss=(maps, sounds),
        )

    def compute_losses(
        self,
        prediction: RefAVSPrediction,
        mask_labels: torch.Tensor,
        frame_mask: torch.Tensor,
        counts: RefAVSLossCounts,
    ) -> dict[str, torch.Tensor]:
        logits = prediction.mask_logits.float()[frame_mask]
        labels = labels_at(mask_labels, logits.shape[-2:])[frame_mask]
        entropy = binary_cross_entropy(logits.flatten(1), labels.flatten(1))
        matching = [
            matching_loss(logits, level.float()[frame_mask], sound.float()[frame_mask])
            for level, sound in zip(*prediction.for_loss, strict=True)
        ]
        return {
            "loss_mask": entropy.sum() / counts.frames,
            "loss_matching": self.config.matching_weight * sum(matching) / len(matching),
        }


def matching_loss(
    mask_logits: torch.Tensor, maps: torch.Tensor, sound: torch.Tensor
) -> torch.Tensor:
    """How far the mean feature under the predicted mask is from the sound: the sum over frames of
    the Kullback-Leibler divergence between the softmax of one and of the other, both normalised.

    Args:
        mask_logits: `(frames, H, W)`, `maps (frames, D, h, w)`, `sound (frames, D)`. Of the maps
            the ReLU counts, to which the published residual units turn them in place.
    """
    masks = nn.functional.adaptive_avg_pool2d(mask_logits, maps.shape[-2:]).sigmoid()
    pooled = (maps.relu() * masks.unsqueeze(1)).mean(dim=(-2, -1))
    pooled, sound = (nn.functional.normalize(vectors, dim=-1) for vectors in (pooled, sound))
    return nn.functional.kl_div(pooled.log_softmax(dim=-1), sound.softmax(dim=-1), reduction="sum")


RefAVSTPAVIConfig.register_for_auto_class()
RefAVSTPAVIForSegmentation.register_for_auto_class("AutoModel")


__all__ = ["RefAVSTPAVIConfig", "RefAVSTPAVIForSegmentation"]
