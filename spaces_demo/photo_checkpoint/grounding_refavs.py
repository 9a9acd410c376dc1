"""Ours, not the paper's: the visual tokens of Q_m (Eq. 4) also point at the referred object.

A head reads from each visual token a grounding logit, how far the object covers that part of the
frame. Its loss is auxiliary, and a query's object score may take in the grounding logits under the
query's mask. Another head predicts how good each mask is. `RefAVSGroundingConfig` switches all of
it on; in the paper there is none.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from .configuration_refavs import RefAVSConfig
from .encoders_refavs import audio_size
from .loss_refavs import RefAVSLossCounts, binary_cross_entropy, count_masks
from .modeling_outputs_refavs import RefAVSModelOutput


NAMING_SIZE = 512  # between a word and what it names
VERBS_SIZE = 128  # and the sounds that it is of
MANY, BREADTH = 10, 0.15  # classes, and how much less a word tells that names more of them
MIN_HEARD = 1e-6  # below which no class makes the sound
MIN_COVER = 1e-6  # of a token, below which a mask or an object counts as empty
NUM_FACTS = 6  # of an answer, see `describe_answer`
MAX_LOGIT = 14.0  # surer than that is as sure
LOGIT_SCALE = 5.0  # brings logits to unit size


class RefAVSGroundingHead(nn.Linear):
    """Visual tokens of Q_m to grounding logits."""

    def __init__(self, config: RefAVSConfig):
        super().__init__(config.hidden_size, 1)

    def forward(self, outputs: RefAVSModelOutput) -> torch.Tensor:
        """What [`RefAVSModel`] returned to `(expressions, frames, tokens)`; the sigmoid is how far
        the object covers a token."""
        logits = super().forward(outputs.visual_cues).squeeze(-1)
        return logits if outputs.alignment_logits is None else logits + outputs.alignment_logits


class RefAVSAlignmentHead(nn.Module):
    """How near each visual token F'_V is to what the expression says and to the sound of its step,
    where the projections share one space (`projection_init`): it is added to the grounding logits,
    so that the cue transformers need not learn to compare. The expression says how much of either
    counts; at the start it is the words alone."""

    def __init__(self, config: RefAVSConfig):
        super().__init__()
        self.gates = nn.Linear(config.hidden_size, 2)
        self.scale = config.grounding_config.alignment_weight / config.hidden_size**0.5

    def forward(
        self,
        visual: torch.Tensor,
        text: torch.Tensor,
        text_mask: torch.Tensor,
        audio: torch.Tensor | None,
        audio_mask: torch.Tensor,
    ) -> torch.Tensor:
        """
        Args:
            visual: F'_V `(expressions, frames, tokens, D)`.
            text, text_mask: F'_T `(expressions, L, D)`, and which tokens are real.
            audio, audio_mask: F'_A `(expressions, frames, 1, D)`, and which seconds have sound.

        Returns:
            `(expressions, frames, tokens)`.
        """
        expression = normalise(mean_token(text, text_mask))
        gates = self.gates(expression)[:, None, :, None]  # (E, 2) -> (E, 1, 2, 1)
        wanted = (1 + gates[:, :, 0]) * expression[:, None]
        if audio is not None:
            heard = normalise(audio.squeeze(2)) * audio_mask[..., None].to(audio.dtype)
            wanted = wanted + gates[:, :, 1] * heard
        return self.scale * (normalise(visual) * wanted[:, :, None]).sum(-1)


class RefAVSNamingHead(nn.Module):
    """How surely a query's mask shows what the expression names, by the vocabulary of a classifier
    of pictures: what it makes of F_V under the mask (as FC-CLIP, arXiv 2308.02487, pools a frozen
    CLIP), each class by how surely a word names it. It is added to the object scores, and frozen: a
    name that no training sentence holds names classes all the same.

    With `sound_classes` it also knows which of its classes make a sound, by the vocabulary of a
    classifier of sounds, and which of these sounds a word is of: "barking".
    """

    def __init__(self, config: RefAVSConfig, visual_channels: int):
        super().__init__()
        grounding = config.grounding_config
        classes, sound_classes = grounding.vocabulary_size, grounding.sound_classes
        words = config.text_config.hidden_size
        self.classifier = nn.Linear(visual_channels, classes)
        self.naming = nn.Sequential(
            nn.Linear(words, NAMING_SIZE), nn.GELU(), nn.Linear(NAMING_SIZE, classes)
        )
        self.sounds = self.makers = self.verbs = None
        if sound_classes:
            self.sounds = nn.Linear(audio_size(config.audio_config), sound_classes)
            self.makers = nn.Linear(sound_classes, classes, bias=False)
            self.verbs = nn.Sequential(
                nn.Linear(words, VERBS_SIZE), nn.GELU(), nn.Linear(VERBS_SIZE, sound_classes)
            )
        self.weight = grounding.naming_weight

    def forward(self, features: torch.Tensor, named: torch.Tensor) -> torch.Tensor:
        """
        Args:
            features: F_V under each query's mask, `(frames, num_queries, C)`.
            named: what each frame's expression names, `(frames, classes)`, see `read`.

        Returns:
            `(frames, num_queries)`.
        """
        return self.weight * (self.classify(features) @ named.unsqueeze(-1)).squeeze(-1)

    def name(self, text_features: torch.Tensor) -> torch.Tensor:
        """F_T `(..., C)` to how surely a word names each class, `(..., classes)`; less where it
        names many, since something else is taken for one of these more often."""
        named = self.naming(text_features).sigmoid()
        return named / (named.sum(-1, keepdim=True) / MANY).clamp(min=1) ** BREADTH

    def read(self, text_features: torch.Tensor, text_mask: torch.Tensor) -> torch.Tensor:
        """F_T `(rows, L, C)` to how surely some word names each class, `(rows, classes)`."""
        return (self.name(text_features) * text_mask[..., None]).amax(1)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """`(..., C)` to the probabilities of the classes, `(..., classes)`."""
        return self.classifier(features).softmax(-1)

    def find_makers(self, audio_features: torch.Tensor) -> torch.Tensor:
        """F_A `(..., C)` to how surely each class makes the sound, `(..., classes)`, the likeliest
        1; 0 without `sound_classes`. A sound that few classes make tells more than one that many
        do, and one that is heard surely much more than one that is guessed."""
        if self.sounds is None:
            classes = self.classifier.out_features
            return audio_features.new_zeros(*audio_features.shape[:-1], classes)
        made = self.makers(self.hear(audio_features).square())
        return made / made.amax(-1, keepdim=True).clamp(min=MIN_HEARD)

    def hear(self, audio_features: torch.Tensor) -> torch.Tensor:
        """F_A `(..., C)` to how surely each sound is heard, `(..., sound_classes)`; without
        `sound_classes` to one that is not."""
        if self.sounds is None:
            return audio_features.new_zeros(*audio_features.shape[:-1], 1)
        return self.sounds(audio_features).sigmoid()

    def read_verbs(self, text_features: torch.Tensor, text_mask: torch.Tensor) -> torch.Tensor:
        """F_T `(rows, L, C)` to how surely some word is of each sound, `(rows, sound_classes)`."""
        if self.verbs is None:
            return text_features.new_zeros(len(text_features), 1)
        return (self.verbs(text_features).sigmoid() * text_mask[..., None]).amax(1)


@dataclass
class RefAVSEvidence:
    """What object scores take in beside what a query says of itself; a row for each frame of each
    expression.

    Args:
        grounding_logits: `(rows, tokens)`; None without the head for them. `grounding_weight` says
            how much of them is taken in.
        frame_tokens: F_V `(rows, tokens, C)`, and `named_classes (rows, classes)`: None without
            `naming`.
    """

    grounding_logits: torch.Tensor | None = None
    frame_tokens: torch.Tensor | None = None
    named_classes: torch.Tensor | None = None
    grounding_weight: float = 0.0
    naming: RefAVSNamingHead | None = None

    def of_rows(self, rows: torch.Tensor | slice) -> "RefAVSEvidence":
        parts = (self.grounding_logits, self.frame_tokens, self.named_classes)
        parts = (None if part is None else part[rows] for part in parts)
        return RefAVSEvidence(*parts, self.grounding_weight, self.naming)

    def add_to(self, class_logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Object scores `(rows, num_queries, 2)` with what else speaks for each query's mask, of
        `masks (rows, num_queries, h, w)`."""
        added = []
        if self.grounding_weight:
            pooled = pool_under_masks(masks, self.grounding_logits.unsqueeze(-1))
            added.append(self.grounding_weight * pooled.squeeze(-1))
        if self.naming is not None:
            shown = pool_under_masks(masks, self.frame_tokens)
            added.append(self.naming(shown, self.named_classes))
        if not added:
            return class_logits
        added = sum(added)
        return class_logits + torch.stack([added, torch.zeros_like(added)], dim=-1)


class RefAVSIoUHead(nn.Module):
    """How good a mask is: its IoU with the truth, predicted as in SAM (arXiv 2304.02643), but from
    a few facts that say how sure the scores and the mask are. It has no part in any mask.

    A mask is what has more than half the probability, in one frame. The IoU of two empty masks is
    1: to a sentence that means nothing in the frame an empty mask is the right answer, and any
    other has IoU 0.
    """

    def __init__(self, config: RefAVSConfig):
        super().__init__()
        self.hidden = nn.Linear(NUM_FACTS, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, 1)

    def forward(self, *answer: torch.Tensor) -> torch.Tensor:
        """What [`describe_answer`] takes to `(...)` in [0, 1]."""
        facts = describe_answer(*answer).to(self.hidden.weight.dtype)
        return self.output(nn.functional.relu(self.hidden(facts))).squeeze(-1).sigmoid()


@torch.no_grad()
def describe_answer(
    masks_queries_logits: torch.Tensor,
    class_queries_logits: torch.Tensor,
    mask_logits: torch.Tensor,
    presence_logits: torch.Tensor,
) -> torch.Tensor:
    """Six facts that tell a good answer from a bad one, each of about unit size: the presence, the
    highest object score, and the highest one of a query that shows something else, with at most
    half of its mask inside the answer's; and of the answer's mask the mean probability, the
    stability ([`mask_stability`]), and the root of its share of the frame.

    Args:
        masks_queries_logits, class_queries_logits: what [`combine_queries`] takes, `(...,
            num_queries, h, w)` and `(..., num_queries, 2)`.
        mask_logits, presence_logits: and what it makes of them, `(..., h, w)` and `(...)`.

    Returns:
        `(..., 6)` float32, without gradient.
    """
    logits = mask_logits.float().flatten(-2)  # (..., h * w)
    answer = (logits > 0).float()
    size = answer.sum(dim=-1)
    covers = (masks_queries_logits > 0).float().flatten(-2)  # (..., num_queries, h * w)
    shows_same = 2 * (covers @ answer.unsqueeze(-1)).squeeze(-1) > covers.sum(dim=-1)
    referred, nothing = class_queries_logits.float().unbind(-1)
    scores = (referred - nothing).clamp(-MAX_LOGIT, MAX_LOGIT)
    facts = [
        presence_logits.float() / LOGIT_SCALE,
        scores.amax(dim=-1) / LOGIT_SCALE,
        scores.masked_fill(shows_same, -MAX_LOGIT).amax(dim=-1) / LOGIT_SCALE,
        (logits.sigmoid() * answer).sum(dim=-1) / size.clamp(min=1),
        mask_stability(mask_logits),
        (size / logits.shape[-1]).sqrt(),
    ]
    return torch.stack(facts, dim=-1)


def mask_stability(mask_logits: torch.Tensor) -> torch.Tensor:
    """How little a mask depends on where it is cut (SAM, arXiv 2304.02643, Sec. 5): its pixels with
    logits above 1 for each above -1, `(..., h, w)` to `(...)` in [0, 1]; 0 where there are none."""
    logits = mask_logits.flatten(-2)
    return (logits > 1).sum(dim=-1) / (logits > -1).sum(dim=-1).clamp(min=1)


def mask_iou(mask_logits: torch.Tensor, mask_labels: torch.Tensor) -> torch.Tensor:
    """The IoU of each mask with the truth, at the truth's size; 1 where both are empty.

    Args:
        mask_logits: `(expressions, frames, h, w)`.
        mask_labels: `(expressions, frames, H, W)` in [0, 1].

    Returns:
        `(expressions, frames)` float32.
    """
    size = mask_labels.shape[-2:]
    resized = nn.functional.interpolate(mask_logits.float(), size=size, mode="bilinear")
    found, true = (resized > 0).flatten(2), (mask_labels > 0.5).flatten(2)
    union = (found | true).sum(dim=-1)
    return torch.where(union > 0, (found & true).sum(dim=-1) / union.clamp(min=1), 1.0)


def iou_criterion(
    iou_scores: torch.Tensor,
    mask_logits: torch.Tensor,
    mask_labels: torch.Tensor,
    frame_mask: torch.Tensor,
    counts: RefAVSLossCounts | None = None,
) -> torch.Tensor:
    """The squared error of predicted IoUs `(expressions, frames)`, its mean over the frames that
    `frame_mask` has; the other arguments as in [`mask_iou`] and [`grounding_criterion`]."""
    with torch.no_grad():
        truth = mask_iou(mask_logits, mask_labels)
    errors = (iou_scores.float() - truth).square() * frame_mask
    return errors.sum() / (frame_mask.sum() if counts is None else counts.frames)


def mean_token(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`(..., L, D)` and which are real `(..., L)` to their mean `(..., D)`."""
    real = mask[..., None].to(tokens.dtype)
    return (tokens * real).sum(-2) / real.sum(-2).clamp(min=1)


def normalise(tokens: torch.Tensor) -> torch.Tensor:
    """To mean 0 and deviation 1 over the last dimension."""
    return nn.functional.layer_norm(tokens, tokens.shape[-1:])


def pool_under_masks(masks_queries_logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The mean of the tokens that each mask covers, each weighted by the square of its cover; 0 for
    an empty mask.

    Args:
        masks_queries_logits: `(frames, num_queries, h, w)`.
        tokens: `(frames, tokens, C)`, of a square grid.

    Returns:
        `(frames, num_queries, C)`.
    """
    grid = math.isqrt(tokens.shape[1])
    masks = (masks_queries_logits > 0).to(tokens.dtype)
    cover = nn.functional.adaptive_avg_pool2d(masks, grid).flatten(2).square()
    return (cover @ tokens) / cover.sum(dim=-1, keepdim=True).clamp(min=MIN_COVER)


def grounding_criterion(
    grounding_logits: torch.Tensor,
    mask_labels: torch.Tensor,
    counts: RefAVSLossCounts | None = None,
) -> torch.Tensor:
    """Binary cross-entropy of the grounding logits with the object's cover of each token.

    Args:
        grounding_logits: `(frames, tokens)`, of a square grid.
        mask_labels: `(frames, H, W)` in [0, 1].
        counts: of more frames than these, if an update is gathered from several calls.

    Returns:
        The sum over tokens, its mean over frames. The cover is relative to the token that the
        object covers most.
    """
    counts = counts or count_masks(mask_labels)
    grid = math.isqrt(grounding_logits.shape[1])
    covered = nn.functional.adaptive_avg_pool2d(mask_labels.float().unsqueeze(1), grid).flatten(1)
    covered = covered / covered.amax(dim=1, keepdim=True).clamp(min=MIN_COVER)
    return binary_cross_entropy(grounding_logits.float(), covered).sum() / counts.frames


__all__ = [
    "RefAVSAlignmentHead",
    "RefAVSEvidence",
    "RefAVSGroundingHead",
    "RefAVSIoUHead",
    "RefAVSNamingHead",
    "grounding_criterion",
    "iou_criterion",
    "mask_iou",
    "mask_stability",
    "mean_token",
    "normalise",
    "pool_under_masks",
]
