"""What the mask queries read: CATF's attention (Eq. 5) over the cue tokens of each second, by
modality and by word."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..eemc import RefAVSAttention
from ..feature_extraction_refavs import SAMPLING_RATE
from ..modeling_outputs_refavs import RefAVSSegmentationOutput
from ..video_refavs import read_steps


MAX_FRAME_SIDE = 400  # pixels, at which a frame is drawn


@dataclass(frozen=True)
class CueAttention:
    """How the attention of a step is divided among the cues of one expression; a step's shares sum
    to 1.

    Queries are weighted with p(query is the object), so that the top query counts most. Layers and
    heads are averaged. Cues are named by where they come from; fusion and integration (Eq. 1 and 4)
    have mixed them already, so a share says where the queries attend, not which input they depend
    on.

    Args:
        words: of the expression, as the tokenizer splits it.
        audio: `(steps,)`, the token of sound, 0 in a step without; with `use_audio_memory_cue` that
            of the past too.
        visual: `(steps, grid, grid)`, the places of the frame.
        text: `(steps, words)`.
        ends: `(steps,)`, the tokens that begin and end the expression.
        tags: `(steps,)`, the learned `[aud]` and `[vis]`.
        even: of `sound`, `picture`, `words` and `tags`, the share of each if all tokens had the
            same.
    """

    words: tuple[str, ...]
    audio: np.ndarray
    visual: np.ndarray
    text: np.ndarray
    ends: np.ndarray
    tags: np.ndarray
    even: dict[str, float]

    @property
    def by_modality(self) -> dict[str, np.ndarray]:
        """`(steps,)` each, `sound`, `picture`, `words` and `tags`; together 1."""
        return {
            "sound": self.audio,
            "picture": self.visual.sum(axis=(1, 2)),
            "words": self.text.sum(axis=1) + self.ends,
            "tags": self.tags,
        }


@contextmanager
def record_attention(attentions: Sequence[RefAVSAttention]) -> Iterator[list[torch.Tensor]]:
    """A list to which each call of one of `attentions` adds its weights `(N, heads, queries,
    keys)`, in order.

    They are computed beside the layer, from its own inputs; the layer runs as always.
    """
    recorded: list[torch.Tensor] = []

    def record(attention: RefAVSAttention, args: tuple, kwargs: dict, output: torch.Tensor) -> None:
        recorded.append(attention.weights(*args, **kwargs))

    with ExitStack() as hooks:
        for attention in attentions:
            hooks.callback(attention.register_forward_hook(record, with_kwargs=True).remove)
        yield recorded


@torch.no_grad()
def attend(
    model: Any, **inputs: Any
) -> tuple[RefAVSSegmentationOutput, torch.Tensor, dict[str, slice]]:
    """The model's answer to some steps of one expression, and how much attention each cue token
    gets.

    Args:
        model: [`RefAVSForSegmentation`].
        inputs: of its `forward`, for one expression.

    Returns:
        Its output; `(steps, M)`, rows of sum 1; and where in M each segment of Q_m lies, see
        [`RefAVSMultimodalIntegration`].

    Raises:
        ValueError: another kind of model.
    """
    if model.config.model_type != "refavs":
        raise ValueError(
            f"attention is read from a model of type refavs, got {model.config.model_type}"
        )
    segments: dict[str, slice] = {}
    layers = [layer.attention for layer in model.base_model.catf.layers]
    integration = model.base_model.integration
    hook = integration.register_forward_hook(lambda *call: segments.update(call[-1][2]))
    try:
        with record_attention(layers) as recorded:
            outputs = model(**inputs)
    finally:
        hook.remove()
    # (layers, steps, heads, queries, M) -> (steps, queries, M)
    weights = torch.stack(recorded).float().mean(dim=(0, 2))
    # (steps, queries, 1)
    scores = outputs.class_queries_logits[0].float().diff(dim=-1).neg().sigmoid()
    return outputs, (weights * scores / scores.sum(dim=1, keepdim=True)).sum(dim=1), segments


def divide_attention(
    processor: Any, expression: str, weights: np.ndarray, segments: dict[str, slice]
) -> CueAttention:
    """`weights (steps, M)` and `segments` of [`attend`] as the shares of sound, places, words and
    tags."""
    parts = {
        name: weights[:, segments.get(name, slice(0, 0))]
        for name in ("audio", "audio_memory", "audio_tag", "visual", "visual_tag", "text")
    }
    grid = math.isqrt(parts["visual"].shape[1])
    words, ends, text = _divide_by_word(processor, expression, parts["text"])
    groups = {
        "sound": ("audio", "audio_memory"),
        "picture": ("visual",),
        "words": ("text",),
        "tags": ("audio_tag", "visual_tag"),
    }
    summed = {
        name: sum(parts[part].sum(axis=1) for part in group) for name, group in groups.items()
    }
    counts = {name: sum(parts[part].shape[1] for part in group) for name, group in groups.items()}
    return CueAttention(
        words=words,
        audio=summed["sound"],
        visual=parts["visual"].reshape(-1, grid, grid),
        text=text,
        ends=ends,
        tags=summed["tags"],
        even={name: count / weights.shape[1] for name, count in counts.items()},
    )


def _divide_by_word(
    processor: Any, expression: str, tokens: np.ndarray
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """`tokens (steps, L)` to the words, `(steps,)` of what is no word, and `(steps, words)`.

    There are no tokens in the ablation without text.
    """
    encoded, text = processor.tokenize([expression]), processor.normalize_text(expression)
    words, shares, ends = [], [], np.zeros(len(tokens))
    for word, group in groupby(range(tokens.shape[1]), key=encoded.word_ids(0).__getitem__):
        share = tokens[:, list(group)].sum(axis=1)
        if word is None:
            ends = ends + share
        else:
            span = encoded.word_to_chars(0, word)
            words.append(text[span.start : span.end].strip())
            shares.append(share)
    return tuple(words), ends, np.stack(shares, axis=1) if shares else tokens[:, :0]


@dataclass
class ExplainedSteps:
    """What is drawn of some steps; each list has one entry a step."""

    frames: list[np.ndarray] = field(default_factory=list)
    audio: list[np.ndarray | None] = field(default_factory=list)
    masks: list[np.ndarray] = field(default_factory=list)
    presence: list[float] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)
    segments: dict[str, slice] = field(default_factory=dict)


def explain_steps(
    model: Any,
    processor: Any,
    path: str | Path,
    expression: str,
    start: int,
    num_steps: int,
    threshold: float,
) -> ExplainedSteps:
    """Run a video's steps through the model, up to the last one that is drawn."""
    explained, memory = ExplainedSteps(), None
    for index, step in enumerate(islice(read_steps(path, SAMPLING_RATE), start + num_steps)):
        inputs = processor(
            text=[expression], frames=[step.frame], audio=step.audio, sampling_rate=SAMPLING_RATE
        )
        outputs, weights, explained.segments = attend(
            model, **inputs.to(model.device, model.dtype), memory=memory
        )
        memory = outputs.memory
        if index >= start:
            stride = -(-max(step.frame.shape) // MAX_FRAME_SIDE)
            frame = step.frame[::stride, ::stride]
            presence = outputs.presence_logits[0, 0].float().sigmoid().item()
            (mask,) = processor.post_process_masks(outputs, frame.shape[:2], threshold)
            explained.frames.append(frame)
            explained.audio.append(step.audio)
            explained.masks.append(mask[0] & (presence > threshold))
            explained.presence.append(presence)
            explained.weights.append(weights[0].cpu().numpy())
    if not explained.frames:
        raise ValueError(f"{path}: it is over before {start} s: choose an earlier start")
    return explained
