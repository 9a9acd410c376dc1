"""What EEMC takes and returns, and the pure functions between its tensors."""

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from transformers.utils import ModelOutput

from .eemc import RefAVSMemory


MIN_PROBABILITY = 1e-6  # what is nearer to 0 or to 1 counts as they do


class RefAVSClipInputs(TypedDict, total=False):
    """What [`RefAVSModel.encode_clips`] takes; none of it depends on a sentence.

    Args:
        pixel_values: `(clips, frames, 3, H, W)`.
        input_features: `(clips, frames, 96, 64)` log-mel examples; None if there is no sound at
            all.
        input_features_mask: `(clips, frames, 96)`, 0 where a mel frame is padding.
        frame_mask: `(clips, frames)`, 0 where a frame is padding.
        audio_features: `(clips, frames, 128)`, F_A in place of `input_features`.
        vision_features: the four stages of Swin, `(clips, frames, C, h, w)` each, in place of
            `pixel_values`.
        frame_features: `(clips, frames, C, h, w)`, F_V of all steps, Swin's last stage.
            `pixel_values` or `vision_features` then hold only the steps of `step_index`.
        step_index: `(n,)`, the steps whose masks are wanted; the others only feed the memory. None:
            all.
    """

    pixel_values: torch.Tensor | None
    input_features: torch.Tensor | None
    input_features_mask: torch.Tensor | None
    frame_mask: torch.Tensor | None
    audio_features: torch.Tensor | None
    vision_features: tuple[torch.Tensor, ...] | None
    frame_features: torch.Tensor | None
    step_index: torch.Tensor | None


class RefAVSTextInputs(TypedDict, total=False):
    """What [`RefAVSModel.segment`] takes beside encoded clips.

    Args:
        input_ids: `(expressions, L)` tokens.
        attention_mask: `(expressions, L)`, 0 where a token is padding.
        clip_index: `(expressions,)`, the clip that each expression is asked of; None: expression n
            of clip n.
        text_features: `(expressions, L, 768)`, F_T in place of `input_ids`.
    """

    input_ids: torch.Tensor | None
    attention_mask: torch.Tensor | None
    clip_index: torch.Tensor | None
    text_features: torch.Tensor | None


class RefAVSInputs(RefAVSClipInputs, RefAVSTextInputs, total=False):
    """What every `forward` of EEMC takes: [`RefAVSClipInputs`] and [`RefAVSTextInputs`].

    Args:
        memory: what the previous piece of the same clips left; None at the start.
    """

    memory: RefAVSMemory | None


def split_inputs(inputs: RefAVSInputs) -> tuple[RefAVSClipInputs, RefAVSTextInputs]:
    """The inputs of a `forward` as those of `encode_clips` and those of `segment`.

    Raises:
        TypeError: a name is neither's.
    """
    clip_names, text_names = RefAVSClipInputs.__annotations__, RefAVSTextInputs.__annotations__
    if unknown := [name for name in inputs if name not in clip_names and name not in text_names]:
        raise TypeError(f"forward() got an unexpected keyword argument {unknown[0]!r}")
    return (
        {name: value for name, value in inputs.items() if name in clip_names},
        {name: value for name, value in inputs.items() if name in text_names},
    )


@dataclass
class RefAVSClipFeatures(ModelOutput):
    """Features of clips, before any expression is asked.

    Args:
        frame_features: `(clips, frames, C, H/32, W/32)`, F_V: the last Swin stage.
        mask_features: `(clips, frames, C, H/4, W/4)`, Mask2Former's per-pixel embedding.
        multi_scale_features: the pixel decoder's three maps, `(clips, frames, C, h, w)` at strides
            32, 16 and 8.
        pictures: `(clips, frames, 3, H/4, W/4)`, the frames themselves, by which masks are refined
            (`refine_masks`); else None.
        audio_features: `(clips, frames, 128)`, F_A; None in the ablation without audio.
        audio_mask: `(clips, frames)` bool, False where a step has no sound track.
        frame_mask: `(clips, frames)` bool, False where a frame only fills up a shorter clip.
        step_index: `(n,)`, the steps that `mask_features`, `multi_scale_features` and `pictures`
            hold; None: all.
    """

    frame_features: torch.FloatTensor | None = None
    mask_features: torch.FloatTensor | None = None
    multi_scale_features: tuple[torch.FloatTensor, ...] | None = None
    pictures: torch.FloatTensor | None = None
    audio_features: torch.FloatTensor | None = None
    audio_mask: torch.BoolTensor | None = None
    frame_mask: torch.BoolTensor | None = None
    step_index: torch.LongTensor | None = None

    def of_expressions(self, clip_index: torch.Tensor | None) -> "RefAVSClipFeatures":
        """A row for each expression in place of one for each clip."""
        rows = {
            name: of_expressions(value, clip_index)
            for name, value in self.items()
            if name != "step_index"
        }
        return RefAVSClipFeatures(**rows, step_index=self.step_index)


@dataclass
class RefAVSModelOutput(ModelOutput):
    """What [`RefAVSModel`] returns.

    Args:
        query_hidden_states: per decoder layer `(expressions * frames, num_queries, D)`, normalised.
        masks_queries_logits: of the last decoder layer, `(expressions * frames, num_queries, H/4,
            W/4)`.
        mask_features: those of the clips, or of the expressions where clips have not as many of
            them each: `(clips, frames, C, H/4, W/4)`.
        cue_hidden_states: `(expressions, frames, M, D)`, Q_m of Eq. 4; `cue_mask (expressions,
            frames, M)`.
        visual_cues: `(expressions, frames, 64, D)`, its visual tokens.
        alignment_logits: `(expressions, frames, 64)`, see [`RefAVSAlignmentHead`]; None without it.
        named_classes: `(expressions, classes)`, see [`RefAVSNamingHead`]; None without it.
        memory: the cached memory after the last frame, for the next piece of the same clips.
        hidden_states: with `output_hidden_states`, of the multimodal integration transformer (Eq.
            4) what goes into its first layer and comes out of each, `(expressions * frames, M, D)`.
        attentions: with `output_attentions` and `attn_implementation="eager"`, of each of its
            layers, `(expressions * frames, heads, M, M)`.
        cross_attentions: likewise of CATF (Eq. 5), `(expressions * frames, heads, num_queries, M)`.
    """

    query_hidden_states: tuple[torch.FloatTensor, ...] | None = None
    masks_queries_logits: torch.FloatTensor | None = None
    mask_features: torch.FloatTensor | None = None
    cue_hidden_states: torch.FloatTensor | None = None
    visual_cues: torch.FloatTensor | None = None
    alignment_logits: torch.FloatTensor | None = None
    named_classes: torch.FloatTensor | None = None
    cue_mask: torch.LongTensor | None = None
    memory: RefAVSMemory | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
    cross_attentions: tuple[torch.FloatTensor, ...] | None = None


@dataclass
class RefAVSSegmentationOutput(ModelOutput):
    """What [`RefAVSForSegmentation`] returns.

    Args:
        loss: `5 BCE + 5 Dice + 2 class`, summed over the decoder's layers (Supp. B.1); only with
            `mask_labels`.
        mask_logits: `(expressions, frames, H/4, W/4)`; the sigmoid is the probability that a pixel
            belongs to the object that the sentence refers to.
        presence_logits: `(expressions, frames)`; the sigmoid is the probability that the frame
            shows that object.
        masks_queries_logits: `(expressions, frames, num_queries, H/4, W/4)`, Mask2Former's own
            masks.
        class_queries_logits: `(expressions, frames, num_queries, 2)`: the referred object, or
            nothing.
        iou_scores: `(expressions, frames)` in [0, 1], the predicted IoU of each mask with the
            truth, see [`RefAVSIoUHead`]; 0 in padding, None without that head.
        loss_parts: the weighted parts of `loss`: `loss_mask`, `loss_dice`, `loss_cross_entropy`,
            `loss_cue` with a grounding head, `loss_object` with an object head, and `loss_iou` with
            an IoU head.
        cue_hidden_states, cue_mask, memory, hidden_states, attentions, cross_attentions: as in
            [`RefAVSModelOutput`].
    """

    loss: torch.FloatTensor | None = None
    mask_logits: torch.FloatTensor | None = None
    presence_logits: torch.FloatTensor | None = None
    masks_queries_logits: torch.FloatTensor | None = None
    class_queries_logits: torch.FloatTensor | None = None
    iou_scores: torch.FloatTensor | None = None
    loss_parts: dict[str, torch.FloatTensor] | None = None
    cue_hidden_states: torch.FloatTensor | None = None
    cue_mask: torch.LongTensor | None = None
    memory: RefAVSMemory | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
    cross_attentions: tuple[torch.FloatTensor, ...] | None = None


@dataclass(frozen=True)
class RefAVSStreamOutput:
    """What the expressions mean in one step.

    Args:
        step: its number in the stream, from 0.
        expressions: what was asked in it, one for each row below.
        masks: `(expressions, height, width)` bool, of the frame's size.
        presence: `(expressions,)`, the probability that the frame shows the object.
        scores: `(expressions,)`, see [`mask_scores`].
        mask_logits: `(expressions, H/4, W/4)` on the CPU, at the model's resolution; in single
            precision or the model's own, if that is finer.
        iou_scores: `(expressions,)`, see [`RefAVSSegmentationOutput`]; None without an IoU head.
    """

    step: int
    expressions: tuple[str, ...]
    masks: np.ndarray
    presence: np.ndarray
    scores: np.ndarray
    mask_logits: torch.Tensor
    iou_scores: np.ndarray | None = None


def combine_queries(
    masks_queries_logits: torch.Tensor,
    class_queries_logits: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One map and one presence for each frame: a sentence means one object, if any.

    A query gives a pixel the probability `p(query is the referred object) * p(pixel is in its
    mask)`. The top query, of the highest object score, says which object it is; the probabilities
    of all queries that show the same one, with more than half of their mask inside its mask, are
    added up, to 1 at most. Other objects get none.

    Args:
        masks_queries_logits: `(..., num_queries, h, w)`.
        class_queries_logits: `(..., num_queries, 2)`.

    Returns:
        `mask_logits (..., h, w)` and `presence_logits (...)`.
    """
    wide = torch.promote_types(masks_queries_logits.dtype, torch.float32)
    masks = masks_queries_logits.to(wide).flatten(-2)  # (..., num_queries, h * w)
    referred = class_queries_logits.to(wide).softmax(dim=-1)[..., 0]
    top_query = referred.argmax(dim=-1, keepdim=True)
    top_mask = (masks.take_along_dim(top_query[..., None], dim=-2) > 0).to(wide)  # (..., 1, h * w)
    inside = (masks > 0).to(wide)
    shows_same = 2 * (inside @ top_mask.mT).squeeze(-1) > inside.sum(dim=-1)
    referred = referred * shows_same.scatter(-1, top_query, True)
    presence = referred.sum(dim=-1)
    weights = referred / presence.clamp(min=1)[..., None]
    weights = weights[..., None, :]
    combined = (weights @ masks.sigmoid()).squeeze(-2)
    # not 1 - combined: where that is small, rounding would be most of it
    others = (weights @ (-masks).sigmoid()).squeeze(-2) + (1 - presence).clamp(min=0)[..., None]
    mask_logits = (
        combined.clamp(min=MIN_PROBABILITY).log() - others.clamp(min=MIN_PROBABILITY).log()
    ).unflatten(-1, masks_queries_logits.shape[-2:])
    presence_logits = torch.logit(presence, eps=MIN_PROBABILITY)
    return mask_logits.to(masks_queries_logits.dtype), presence_logits.to(
        class_queries_logits.dtype
    )


def mask_scores(mask_logits: torch.Tensor, threshold: float) -> torch.Tensor:
    """Mask2Former's score: the mean probability of the pixels inside a mask; 0 if there are none.

    Args:
        mask_logits: `(expressions, ...)`; a mask may span frames.
        threshold: a pixel is inside if its probability is above this.

    Returns:
        `(expressions,)`.
    """
    probabilities = mask_logits.flatten(1).sigmoid()
    inside = probabilities > threshold
    return (probabilities * inside).sum(dim=1) / inside.sum(dim=1).clamp(min=1)


def is_regular(clip_index: torch.Tensor | None, clips: int) -> bool:
    """Whether each clip is asked as many expressions as the others, one clip after the other. False
    too while a CUDA graph is recorded, when the index cannot be read."""
    if clip_index is None or clips == 1:
        return True
    if clip_index.is_cuda and torch.cuda.is_current_stream_capturing():
        return False
    each = len(clip_index) // clips
    return each * clips == len(clip_index) and torch.equal(
        clip_index, torch.arange(clips, device=clip_index.device).repeat_interleave(each)
    )


def count_expressions(
    clips: RefAVSClipFeatures,
    input_ids: torch.Tensor | None,
    text_features: torch.Tensor | None,
    clip_index: torch.Tensor | None,
) -> int:
    """How many expressions are asked; `ValueError` if it is not clear of which clips."""
    if input_ids is None and text_features is None:
        raise ValueError("a sentence is needed: pass input_ids or text_features")
    expressions = len(input_ids if text_features is None else text_features)
    num_clips = len(clips.frame_mask)
    if clip_index is None and expressions != num_clips:
        raise ValueError(
            f"{expressions} sentences on {num_clips} clips: pass clip_index (expressions,) to say "
            "which clip each is asked of"
        )
    if clip_index is not None and len(clip_index) != expressions:
        raise ValueError(
            f"clip_index needs one entry for each of {expressions} sentences, got {len(clip_index)}"
        )
    return expressions


def of_expressions(value, clip_index: torch.Tensor | None):
    """Rows of clips -> rows of expressions."""
    if value is None or clip_index is None:
        return value
    if isinstance(value, tuple):
        return tuple(of_expressions(item, clip_index) for item in value)
    return value.index_select(0, clip_index)


def of_steps(value: torch.Tensor, step_index: torch.Tensor | None) -> torch.Tensor:
    """`(rows, steps, ...)` -> `(rows, n, ...)`."""
    return value if step_index is None else value.index_select(1, step_index)


__all__ = [
    "RefAVSClipFeatures",
    "RefAVSClipInputs",
    "RefAVSInputs",
    "RefAVSModelOutput",
    "RefAVSSegmentationOutput",
    "RefAVSStreamOutput",
    "RefAVSTextInputs",
    "combine_queries",
    "count_expressions",
    "mask_scores",
    "of_expressions",
    "of_steps",
]
