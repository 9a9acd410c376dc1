"""ReferFormer (CVPR 2022, arXiv 2201.00487) with audio: a few queries made of the sentence, each a
trajectory through the clip, with dynamic convolutions for masks.

The audio of each second joins by a linear projection, added to the sentence's vector of that frame
or to the words.
"""

import math
from typing import Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import initialization as init
from transformers.models.deformable_detr.modeling_deformable_detr import (
    DeformableDetrDecoderLayer,
    DeformableDetrMLPPredictionHead,
    DeformableDetrSinePositionEmbedding,
    inverse_sigmoid,
)

from .baselines_refavs import (
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
from .loss_refavs import RefAVSLossCounts
from .mask2former_refavs import RefAVSPixels, rows_of
from .modeling_outputs_refavs import MIN_PROBABILITY, RefAVSClipFeatures


MASK_STRIDE = 4  # pixels of a frame to one of the mask feature
FPN_GROUPS = 8  # of the group norms in the feature pyramid
KEY_STRIDE = 32  # pixels; at every level the pyramid attends to one pixel in so many
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
PRIOR = 0.01  # probability of the referred object that the class heads start with
TINY = 1e-8  # of the logarithms in the class cost


@strict
class RefAVSReferFormerConfig(RefAVSBaselineConfig):
    """ReferFormer: the published sizes and loss weights are the defaults.

    Args:
        num_queries: each is one trajectory through a clip.
        num_layers: of the encoder and of the decoder.
        num_feature_levels: strides 8, 16 and 32, and further ones by convolutions.
        dynamic_channels: of the convolutions that each query brings along.
        audio_to: what the audio is added to: "query", the sentence's vector of that frame, from
            which the queries start; or "words", of the whole clip its mean.
        min_object_score: masks are given where the mean object score of the best query over the
            clip is at least this. 0: always, as published; it is chosen on a validation split.
        learn_null_rows: ours: of clips that do not show the object no query is the object. Without
            it they teach nothing: the published data hold none.
        learn_hidden_boxes: published: where a frame does not show the object, its box is all 0 and
            is learned.
        class_weight, box_weight, giou_weight, mask_weight, dice_weight: of the losses and of the
            costs of the matching.
    """

    model_type = "refavs_referformer"
    own_modality = "text"

    num_queries: int = 5
    num_layers: int = 4
    num_feature_levels: int = 4
    dynamic_channels: int = 8
    audio_to: Literal["query", "words"] = "query"
    min_object_score: float = 0.0
    learn_null_rows: bool = True
    learn_hidden_boxes: bool = False

    class_weight: float = 2.0
    box_weight: float = 5.0
    giou_weight: float = 2.0
    mask_weight: float = 2.0
    dice_weight: float = 5.0

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.num_feature_levels < 3:
            raise ValueError(
                "num_feature_levels must be at least 3, for strides 8, 16 and 32, got "
                f"{self.num_feature_levels}"
            )


class RefAVSTextResizer(nn.Module):
    """Words and sentences to the width of the method."""

    def __init__(self, text_size: int, hidden_size: int, dropout: float):
        super().__init__()
        self.projection = nn.Linear(text_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.norm(self.projection(text)))


class RefAVSCrossModalBlock(nn.Module):
    """The pixels of a whole clip attend to each other, then to the words; post-norm.

    Args:
        stride: the first attention is among one pixel in so many, along each axis.
    """

    def __init__(self, config: RefAVSReferFormerConfig, stride: int):
        super().__init__()
        size, heads = config.hidden_size, config.num_attention_heads
        self.stride = stride
        self.self_attention = nn.MultiheadAttention(
            size, heads, dropout=config.dropout, batch_first=True
        )
        self.cross_attention = nn.MultiheadAttention(
            size, heads, dropout=config.dropout, batch_first=True
        )
        self.feed_forward = nn.Sequential(
            nn.Linear(size, config.intermediate_size),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.intermediate_size, size),
        )
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(3))
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        maps: torch.Tensor,
        position: torch.Tensor,
        words: torch.Tensor,
        word_position: torch.Tensor,
        word_mask: torch.Tensor,
        frame_mask: torch.Tensor,
    ) -> torch.Tensor:
        """
        Args:
            maps: `(expressions * frames, D, h, w)`, `position (1, D, h, w)`.
            words, word_position: `(expressions, L, D)`, `word_mask (expressions, L)` bool.
            frame_mask: `(expressions, frames)` bool; frames of padding are not attended to.

        Returns:
            Maps.
        """
        after_self, after_cross, after_feed_forward = self.norms
        steps, size = frame_mask.shape, maps.shape[-2:]
        few = tuple(max(1, length // self.stride) for length in size)

        def pixels_of(maps: torch.Tensor) -> torch.Tensor:
            """-> `(expressions, frames * h * w, D)`."""
            return maps.unflatten(0, steps).flatten(3).transpose(2, 3).flatten(1, 2)

        def maps_of(pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
            return (
                pixels.transpose(1, 2).unflatten(2, (steps[1], *size)).transpose(1, 2).flatten(0, 1)
            )

        placed, values = (
            pixels_of(nn.functional.interpolate(states, few, mode="nearest"))
            for states in (maps + position, maps)
        )
        hidden = ~frame_mask.repeat_interleave(few[0] * few[1], dim=1)
        attended, _ = self.self_attention(
            placed, placed, values, key_padding_mask=hidden, need_weights=False
        )
        attended = nn.functional.interpolate(maps_of(attended, few), size, mode="bilinear")
        pixels = after_self(pixels_of(maps + self.dropout(attended)))
        placed = pixels + pixels_of(position.expand_as(maps))
        attended, _ = self.cross_attention(
            placed,
            words + word_position,
            words,
            key_padding_mask=~word_mask,
            need_weights=False,
        )
        pixels = after_cross(pixels + self.dropout(attended))
        pixels = after_feed_forward(pixels + self.dropout(self.feed_forward(pixels)))
        return maps_of(pixels, size)


class RefAVSCrossModalPyramid(nn.Module):
    """From the encoder's maps and the finest stage to the mask feature. Here alone frames meet."""

    def __init__(self, config: RefAVSReferFormerConfig, channels: int):
        super().__init__()
        size = config.hidden_size

        def convolution(channels: int, kernel_size: int) -> list[nn.Module]:
            return [
                nn.Conv2d(channels, size, kernel_size, padding=kernel_size // 2, bias=False),
                nn.GroupNorm(FPN_GROUPS, size),
            ]

        # from strides 4 to 32
        self.laterals = nn.ModuleList(
            nn.Sequential(*convolution(width, 1)) for width in (channels, size, size, size)
        )
        self.blocks = nn.ModuleList(
            RefAVSCrossModalBlock(config, KEY_STRIDE // stride) for stride in (4, 8, 16, 32)
        )
        self.outputs = nn.ModuleList(
            nn.Sequential(*convolution(size, 3), nn.ReLU()) for _ in range(4)
        )
        self.projection = nn.Conv2d(size, size, kernel_size=3, padding=1)

    def forward(
        self, maps: list[torch.Tensor], positions: list[torch.Tensor], *context: torch.Tensor
    ) -> torch.Tensor:
        """`maps (expressions * frames, C, h, w)` at strides 4 to 32; the rest as in
        [`RefAVSCrossModalBlock`]. Returns the mask feature `(expressions * frames, D, h, w)`."""
        finer = None
        for number in (3, 2, 1, 0):  # from coarse to fine
            level = self.laterals[number](maps[number])
            level = self.blocks[number](level, positions[number], *context)
            if finer is not None:
                level = level + nn.functional.interpolate(finer, level.shape[-2:], mode="nearest")
            finer = self.outputs[number](level)
        return self.projection(finer)


class RefAVSReferFormerForSegmentation(RefAVSBaseline):
    """ReferFormer + audio: of a few trajectories the one that the sentence means."""

    config_class = RefAVSReferFormerConfig
    loss_names = ("loss_class", "loss_box", "loss_giou", "loss_mask", "loss_dice")

    def __init__(self, config: RefAVSReferFormerConfig):
        super().__init__(config)
        size, layers = config.hidden_size, range(config.num_layers)
        self.text_resizer = RefAVSTextResizer(config.text_config.hidden_size, size, config.dropout)
        self.audio_projection = None
        if config.use_audio:
            self.audio_projection = nn.Linear(audio_size(config.audio_config), size)
        coarse = self.channels[1:]
        self.input_projections = nn.ModuleList(project_stage(width, size) for width in coarse)
        for number in range(config.num_feature_levels - len(coarse)):
            width = size if number else coarse[-1]
            self.input_projections.append(
                project_stage(width, size, kernel_size=3, stride=2, padding=1)
            )
        self.early_fusion = nn.MultiheadAttention(
            size, config.num_attention_heads, batch_first=True
        )
        detr = detr_config(
            config,
            num_feature_levels=config.num_feature_levels,
            encoder_layers=config.num_layers,
            decoder_layers=config.num_layers,
        )
        position = DeformableDetrSinePositionEmbedding(size // 2, normalize=True)
        self.encoder = RefAVSDeformableEncoder(detr, position)
        self.queries = nn.Embedding(config.num_queries, size)
        self.reference_points = nn.Linear(size, 2)
        self.decoder = nn.ModuleList(DeformableDetrDecoderLayer(detr) for _ in layers)
        self.class_heads = nn.ModuleList(nn.Linear(size, 1) for _ in layers)
        self.box_heads = nn.ModuleList(
            DeformableDetrMLPPredictionHead(size, size, 4, 3) for _ in layers
        )
        self.pyramid_decoder = RefAVSCrossModalPyramid(config, self.channels[0])
        width = config.dynamic_channels
        self.dynamic_shapes = ((width, size + 2), (width, width), (1, width))
        count = sum(rows * columns + rows for rows, columns in self.dynamic_shapes)
        self.controller = DeformableDetrMLPPredictionHead(size, size, count, 3)
        self.post_init()
        self._freeze_encoders()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, RefAVSCrossModalPyramid):
            for part in module.modules():
                if isinstance(part, nn.Conv2d):
                    init.kaiming_uniform_(part.weight, a=1)
        elif isinstance(module, RefAVSReferFormerForSegmentation):
            for head in module.class_heads:
                init.constant_(head.bias, -math.log(1 / PRIOR - 1))
            for number, head in enumerate(module.box_heads):
                init.zeros_(head.layers[-1].weight)
                wide = torch.tensor([0.0, 0.0, 0.0, 0.0] if number else [0.0, 0.0, -2.0, -2.0])
                init.copy_(head.layers[-1].bias, wide)

    def decode_stages(self, stages: list[torch.Tensor]) -> RefAVSPixels:
        """The four stages as they are: all else depends on the sentence."""
        return RefAVSPixels(tuple(stages), None)

    def predict(
        self, clips: RefAVSClipFeatures, words: torch.Tensor | None, word_mask: torch.Tensor | None
    ) -> RefAVSPrediction:
        steps = clips.frame_mask.shape
        sentence = self.text_resizer(self.pool_words(words, word_mask))
        words = self.text_resizer(words)
        content = sentence.unsqueeze(1).expand(-1, steps[1], -1)  # (expressions, frames, D)
        if self.audio_projection is not None:
            audio = self.audio_projection(clips.audio_features)
            if self.config.audio_to == "query":
                content = content + audio
            else:
                heard = clips.audio_mask.to(audio.dtype).unsqueeze(-1)
                mean = (audio * heard).sum(dim=1) / heard.sum(dim=1).clamp(min=1)
                words = words + mean.unsqueeze(1)
        word_position = word_positions(word_mask, words.shape[-1], words.dtype)
        stages = [stage.flatten(0, 1) for stage in clips.multi_scale_features]
        maps = self._fuse_early(stages, words, word_position, word_mask)
        tokens, shapes = self.encoder(maps)
        layers = self._decode(content, tokens, shapes)
        levels = [stages[0], *split_levels(tokens, shapes)[:3]]
        positions = [
            self.encoder.place(level.shape[-2:], level.device, level.dtype) for level in levels
        ]
        features = self.pyramid_decoder(
            levels, positions, words, word_position, word_mask, clips.frame_mask
        ).unflatten(0, steps)
        layers = tuple(tuple(part.unflatten(0, steps) for part in layer) for layer in layers)
        return self._choose(features, layers, clips.frame_mask)

    def draw_masks(
        self, features: torch.Tensor, states: torch.Tensor, centres: torch.Tensor
    ) -> torch.Tensor:
        """Three dynamic 1x1 convolutions for each query and frame, on the mask feature and on how
        far a pixel is from the query's centre, in pixels of the frame.

        Args:
            features: `(expressions, frames, D, h, w)`.
            states: `(expressions, frames, queries, D)`.
            centres: `(expressions, frames, queries, 2)`, x and y from 0 to 1.

        Returns:
            `(expressions, frames, queries, h, w)` mask logits.
        """
        height, width = features.shape[-2:]
        parameters = self.controller(states)
        counts = [rows * columns for rows, columns in self.dynamic_shapes]
        counts += [rows for rows, _ in self.dynamic_shapes]
        parts = parameters.split(counts, dim=-1)
        weights = [
            part.unflatten(-1, shape)
            for part, shape in zip(parts[:3], self.dynamic_shapes, strict=True)
        ]
        first, second, third = (bias[..., None, None] for bias in parts[3:])
        y, x = (
            (torch.arange(size, device=states.device, dtype=states.dtype) + 0.5) * MASK_STRIDE
            for size in (height, width)
        )
        centre_x, centre_y = (MASK_STRIDE * centres).unbind(dim=-1)
        across = (centre_x * width)[..., None] - x  # (expressions, frames, queries, w)
        down = (centre_y * height)[..., None] - y
        to_x, to_y = weights[0][..., -2:].unbind(dim=-1)  # (expressions, frames, queries, 8)
        hidden = torch.einsum("etqoc,etchw->etqohw", weights[0][..., :-2], features)
        hidden = hidden + torch.einsum("etqo,etqw->etqow", to_x, across).unsqueeze(-2)
        hidden = hidden + torch.einsum("etqo,etqh->etqoh", to_y, down).unsqueeze(-1)
        hidden = (hidden + first).relu()
        hidden = (torch.einsum("etqoc,etqchw->etqohw", weights[1], hidden) + second).relu()
        return (torch.einsum("etqoc,etqchw->etqohw", weights[2], hidden) + third).squeeze(-3)

    def _fuse_early(
        self,
        stages: list[torch.Tensor],
        words: torch.Tensor,
        word_position: torch.Tensor,
        word_mask: torch.Tensor,
    ) -> list[torch.Tensor]:
        """The levels at strides 8, 16, 32 and 64, each times what its pixels find in the words:
        `(expressions * frames, D, h, w)`."""
        sources, maps = list(stages[1:]), []
        for number, project in enumerate(self.input_projections):
            if number >= len(sources):
                sources.append(stages[-1] if number == 3 else maps[-1])
            level = project(sources[number])
            # (expressions * frames, D, h, w) -> (expressions, frames * h * w, D)
            pixels = level.unflatten(0, (len(words), -1)).flatten(3).transpose(2, 3)
            attended, _ = self.early_fusion(
                pixels.flatten(1, 2),
                words + word_position,
                words,
                key_padding_mask=~word_mask,
                need_weights=False,
            )
            attended = attended.view_as(pixels).transpose(2, 3).reshape(level.shape)
            maps.append(level * attended)
        return maps

    def _decode(
        self, content: torch.Tensor, tokens: torch.Tensor, shapes: list[tuple[int, int]]
    ) -> list[tuple[torch.Tensor, ...]]:
        """The queries of each frame through the decoder, whose layers refine boxes.

        Args:
            content: `(expressions, frames, D)`.
            tokens: `(expressions * frames, pixels, D)`.

        Returns:
            Of each layer states `(expressions * frames, queries, D)`, class logits `(..., 1)` and
            boxes `(..., 4)`, centre and size from 0 to 1.
        """
        position = rows_of(self.queries, tokens.device).expand(len(tokens), -1, -1)
        states = content.flatten(0, 1).unsqueeze(1).expand_as(position)
        places = self.reference_points(position).sigmoid()
        sizes = torch.tensor(shapes, device=tokens.device)
        starts = torch.cat([sizes.new_zeros(1), sizes.prod(dim=1).cumsum(dim=0)[:-1]])
        layers = []
        for layer, class_head, box_head in zip(
            self.decoder, self.class_heads, self.box_heads, strict=True
        ):
            states = layer(
                states,
                object_queries_position_embeddings=position,
                reference_points=places.unsqueeze(2).expand(-1, -1, len(shapes), -1),
                spatial_shapes=sizes,
                spatial_shapes_list=shapes,
                level_start_index=starts,
                encoder_hidden_states=tokens,
            )
            change, before = box_head(states), inverse_sigmoid(places)
            missing = change.shape[-1] - before.shape[-1]  # the first places have no size
            boxes = (change + nn.functional.pad(before, (0, missing))).sigmoid()
            layers.append((states, class_head(states), boxes))
            places = boxes.detach()
        return layers

    def _choose(
        self,
        features: torch.Tensor,
        layers: tuple[tuple[torch.Tensor, ...], ...],
        frame_mask: torch.Tensor,
    ) -> RefAVSPrediction:
        """The best query is one for the whole clip; without `min_object_score` it is always
        drawn."""
        states, classes, boxes = layers[-1]
        masks = self.draw_masks(features, states, boxes.detach()[..., :2])
        real = frame_mask[..., None].to(classes.dtype)
        scores = (classes.squeeze(-1).sigmoid() * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
        score, best = scores.max(dim=-1)  # (expressions,)
        mask_logits = masks.take_along_dim(best[:, None, None, None, None], dim=2).squeeze(2)
        presence_logits = mask_logits.amax(dim=(-2, -1))
        rejected = score < self.config.min_object_score
        nothing = math.log(MIN_PROBABILITY)
        return RefAVSPrediction(
            mask_logits=mask_logits.masked_fill(rejected[:, None, None, None], nothing),
            presence_logits=presence_logits.masked_fill(rejected[:, None], nothing),
            masks_queries_logits=masks,
            class_queries_logits=torch.cat([classes, torch.zeros_like(classes)], dim=-1),
            for_loss=(features, layers),
        )

    def compute_losses(
        self,
        prediction: RefAVSPrediction,
        mask_labels: torch.Tensor,
        frame_mask: torch.Tensor,
        counts: RefAVSLossCounts,
    ) -> dict[str, torch.Tensor]:
        """Of every layer of the decoder, each with a matching of its own, added up."""
        features, layers = prediction.for_loss
        boxes = boxes_of(mask_labels)
        labels = labels_at(mask_labels, features.shape[-2:])
        losses = dict.fromkeys(self.loss_names, 0.0)
        for states, classes, predicted in layers:
            masks = self.draw_masks(features, states, predicted.detach()[..., :2])
            parts = sequence_criterion(
                masks.float(),
                classes.float().squeeze(-1),
                predicted.float(),
                labels,
                boxes,
                frame_mask,
                self.config,
            )
            losses = {name: losses[name] + part for name, part in parts.items()}
        return {name: part / counts.masks.clamp(min=1) for name, part in losses.items()}


def word_positions(word_mask: torch.Tensor, size: int, dtype: torch.dtype) -> torch.Tensor:
    """Sine positions of words, from 0 to 2 pi over a sentence: `(expressions, L)` bool ->
    `(expressions, L, D)`."""
    places = word_mask.cumsum(dim=1, dtype=torch.promote_types(dtype, torch.float32))
    places = places / (places[:, -1:] + 1e-6) * (2 * math.pi)
    pairs = torch.arange(size, device=word_mask.device) // 2
    angles = places[..., None] / 10_000 ** (2 * pairs / size)
    position = torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1)
    return position.flatten(2).to(dtype)


def boxes_of(masks: torch.Tensor) -> torch.Tensor:
    """`(..., H, W)` -> `(..., 4)`: centre x and y, width and height, in parts of the map; all 0 of
    an empty mask."""
    sides = []
    for shown in ((masks > 0).any(dim=-2), (masks > 0).any(dim=-1)):  # columns, rows
        size, numbers = shown.shape[-1], torch.arange(shown.shape[-1], device=masks.device)
        first = numbers.where(shown, size).amin(dim=-1)
        end = (numbers + 1).where(shown, 0).amax(dim=-1)
        first = first.where(end > 0, 0)
        sides.append((first / size, end / size))
    (left, right), (top, bottom) = sides
    return torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], dim=-1)


def sequence_criterion(
    masks: torch.Tensor,
    classes: torch.Tensor,
    boxes: torch.Tensor,
    mask_labels: torch.Tensor,
    box_labels: torch.Tensor,
    frame_mask: torch.Tensor,
    config: RefAVSReferFormerConfig,
) -> dict[str, torch.Tensor]:
    """The loss of one layer of the decoder, summed over the expressions. A clip shows one object at
    most, so that the matching is a minimum over the queries.

    Args:
        masks: `(expressions, frames, queries, h, w)` logits.
        classes: `(expressions, frames, queries)` logits, `boxes (..., 4)`.
        mask_labels: `(expressions, frames, h, w)`, `box_labels (expressions, frames, 4)`.
        frame_mask: `(expressions, frames)` bool, False where a frame is padding.
    """
    shown = (box_labels[..., 2] > 0) & frame_mask
    referred = shown.any(dim=1).float()  # (expressions,)
    boxed = (frame_mask if config.learn_hidden_boxes else shown).float()[..., None]
    real = frame_mask.float()[..., None]
    focal, overlap = mask_terms(masks, mask_labels[:, :, None], real)
    distance = (boxes - box_labels[:, :, None]).abs().sum(dim=-1)
    giou = generalized_iou(boxes, box_labels[:, :, None])
    # every term (expressions, queries), those of frames summed over them
    distance, outside = (distance * boxed).sum(dim=1), ((1 - giou) * boxed).sum(dim=1)
    with torch.no_grad():
        seen = shown.float()[..., None]
        class_cost = (class_costs(classes) * seen).sum(dim=1) / seen.sum(dim=1).clamp(min=1)
        frames = boxed.sum(dim=1).clamp(min=1)
        best = (
            config.class_weight * class_cost
            + (config.box_weight * distance + config.giou_weight * outside) / frames
            + config.mask_weight * focal
            + config.dice_weight * overlap
        ).argmin(dim=1, keepdim=True)
    is_best = torch.zeros_like(focal).scatter(1, best, 1.0)
    is_object = is_best[:, None] * shown.float()[..., None]
    class_loss = focal_loss(classes, is_object) * real
    if not config.learn_null_rows:
        class_loss = class_loss * referred[:, None, None]
    matched = is_best * referred[:, None]
    return {
        "loss_class": config.class_weight * class_loss.sum(),
        "loss_box": config.box_weight * (distance * matched).sum(),
        "loss_giou": config.giou_weight * (outside * matched).sum(),
        "loss_mask": config.mask_weight * (focal * matched).sum(),
        "loss_dice": config.dice_weight * (overlap * matched).sum(),
    }


def mask_terms(
    masks: torch.Tensor, labels: torch.Tensor, real: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Focal and Dice loss of the volume of each query, `(expressions, queries)`: means and sums go
    over all pixels of all real frames."""
    focal = (focal_loss(masks, labels).mean(dim=(-2, -1)) * real).sum(dim=1) / real.sum(dim=1)
    probabilities = masks.sigmoid()
    both, predicted, true = (
        (values.sum(dim=(-2, -1)) * real).sum(dim=1)
        for values in (probabilities * labels, probabilities, labels)
    )
    return focal, 1 - (2 * both + 1) / (predicted + true + 1)


def focal_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Element by element (RetinaNet, arXiv 1708.02002)."""
    labels = labels.expand_as(logits)
    probabilities = logits.sigmoid()
    wrong = probabilities + labels - 2 * probabilities * labels
    weights = FOCAL_ALPHA * labels + (1 - FOCAL_ALPHA) * (1 - labels)
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return weights * entropy * wrong**FOCAL_GAMMA


def class_costs(logits: torch.Tensor) -> torch.Tensor:
    """What it would cost more to call a query the object than to call it nothing."""
    probabilities = logits.sigmoid()
    as_object = -FOCAL_ALPHA * (1 - probabilities) ** FOCAL_GAMMA * (probabilities + TINY).log()
    as_nothing = -(1 - FOCAL_ALPHA) * probabilities**FOCAL_GAMMA * (1 - probabilities + TINY).log()
    return as_object - as_nothing


def generalized_iou(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Of pairs of boxes, centre and size `(..., 4)`: `(...)` from -1 to 1 (arXiv 1902.09630)."""
    (low, high), (other_low, other_high) = (
        (box[..., :2] - box[..., 2:] / 2, box[..., :2] + box[..., 2:] / 2)
        for box in (boxes, others)
    )
    both = (high.minimum(other_high) - low.maximum(other_low)).clamp(min=0).prod(dim=-1)
    around = (high.maximum(other_high) - low.minimum(other_low)).prod(dim=-1)
    union = boxes[..., 2:].prod(dim=-1) + others[..., 2:].prod(dim=-1) - both
    return both / union - (around - union) / around


RefAVSReferFormerConfig.register_for_auto_class()
RefAVSReferFormerForSegmentation.register_for_auto_class("AutoModel")


__all__ = ["RefAVSReferFormerConfig", "RefAVSReferFormerForSegmentation"]
