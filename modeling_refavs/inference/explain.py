"""What the mask queries read: CATF's attention (Eq. 5) over the cue tokens of each second, by
modality and by word."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..eemc import RefAVSAttention
from ..feature_extraction_refavs import SAMPLING_RATE
from ..modeling_outputs_refavs import RefAVSSegmentationOutput
from ..video_refavs import read_steps


if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class CueAttention:
    """How a second's attention is divided among the cues of one sentence. All of a second's shares
    sum up to 1.

    The query that claims the object counts most: queries are weighted with p(query is the object).
        Layers and heads are
    averaged. Cues are named by where they come from; fusion and integration (Eq. 1 and 4) have
    mixed them already, so a share says where the queries look, not which input they would miss.

    Args:
        words: of the sentence, as the tokenizer cuts them.
        audio: `(steps,)`, the token of sound, 0 in a second without; with `use_audio_memory_cue`
            that of the past too.
        visual: `(steps, grid, grid)`, the places of the picture.
        text: `(steps, words)`.
        ends: `(steps,)`, the tokens that begin and end the sentence.
        tags: `(steps,)`, the learned `[aud]` and `[vis]`.
        even: of `sound`, `picture`, `words` and `tags`, what each would get if every token got the
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
def attend(model: Any, **inputs: Any) -> tuple[RefAVSSegmentationOutput, torch.Tensor]:
    """The model's answer to some steps of one sentence, and how much each cue token was read:
    `(steps, M)`, rows of sum 1.

    Args:
        model: [`RefAVSForSegmentation`].
        inputs: of its `forward`, for one sentence.

    Raises:
        ValueError: another kind of model.
    """
    if model.config.model_type != "refavs":
        raise ValueError(
            f"attention is read from a model of type refavs, got {model.config.model_type}"
        )
    with record_attention([layer.attention for layer in model.base_model.catf.layers]) as recorded:
        outputs = model(**inputs)
    weights = (
        torch.stack(recorded).float().mean(dim=(0, 2))
    )  # (layers, steps, heads, queries, M) -> (steps, queries, M)
    claims = (
        outputs.class_queries_logits[0].float().diff(dim=-1).neg().sigmoid()
    )  # (steps, queries, 1)
    return outputs, (weights * claims / claims.sum(dim=1, keepdim=True)).sum(dim=1)


def divide_attention(
    model: Any, processor: Any, expression: str, weights: np.ndarray
) -> CueAttention:
    """Name the tokens: `weights (steps, M)` of [`attend`] to the shares of sound, places, words and
    tags."""
    config, steps = model.config, len(weights)
    grid = config.visual_grid_size
    num_tags = config.use_modality_encoding * (1 + config.use_audio_cues)
    sizes = {
        "sound": config.num_audio_tokens,
        "aud": num_tags // 2,
        "picture": grid**2,
        "vis": num_tags - num_tags // 2,
    }
    parts = np.split(weights, np.cumsum(list(sizes.values())), axis=1)
    audio, aud, visual, vis, tokens = parts
    words, ends, text = (
        _by_word(processor, expression, tokens)
        if config.use_text_cues
        else ((), 0.0, tokens[:, :0])
    )
    numbers = {
        "sound": sizes["sound"],
        "picture": grid**2,
        "words": tokens.shape[1],
        "tags": num_tags,
    }
    return CueAttention(
        words=words,
        audio=audio.sum(axis=1),
        visual=visual.reshape(steps, grid, grid),
        text=text,
        ends=np.broadcast_to(ends, steps),
        tags=aud.sum(axis=1) + vis.sum(axis=1),
        even={name: number / weights.shape[1] for name, number in numbers.items()},
    )


def _by_word(
    processor: Any, expression: str, tokens: np.ndarray
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """`tokens (steps, L)` to the words, `(steps,)` of what is no word, and `(steps, words)`."""
    sentence = " ".join(expression.split())
    encoded = processor.tokenizer(sentence, truncation=True, max_length=processor.max_text_length)
    words, shares, ends = [], [], np.zeros(len(tokens))
    for word, group in groupby(range(tokens.shape[1]), key=encoded.word_ids().__getitem__):
        places = list(group)
        share = tokens[:, places].sum(axis=1)
        if word is None:
            ends = ends + share
        else:
            span = encoded.word_to_chars(word)
            words.append(sentence[span.start : span.end].strip())
            shares.append(share)
    return tuple(words), ends, np.stack(shares, axis=1) if shares else tokens[:, :0]


LONGER_SIDE = 400  # pixels of a picture; more would not be seen


@dataclass
class Seen:
    """What is known of the seconds that are drawn; each list has one entry a second."""

    frames: list[np.ndarray] = field(default_factory=list)
    audio: list[np.ndarray | None] = field(default_factory=list)
    masks: list[np.ndarray] = field(default_factory=list)
    presence: list[float] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)


def look(
    model: Any,
    processor: Any,
    path: str | Path,
    expression: str,
    start: int,
    num_steps: int,
    threshold: float,
) -> Seen:
    """Run a video's seconds through the model, up to the last one that is drawn."""
    seen, memory = Seen(), None
    for index, step in enumerate(islice(read_steps(path, SAMPLING_RATE), start + num_steps)):
        inputs = processor(
            text=[expression], frames=[step.frame], audio=step.audio, sampling_rate=SAMPLING_RATE
        )
        outputs, weights = attend(model, **inputs.to(model.device, model.dtype), memory=memory)
        memory = outputs.memory
        if index >= start:
            stride = -(-max(step.frame.shape) // LONGER_SIDE)
            frame = step.frame[::stride, ::stride]
            presence = outputs.presence_logits[0, 0].float().sigmoid().item()
            (mask,) = processor.post_process_masks(outputs, frame.shape[:2], threshold)
            seen.frames.append(frame)
            seen.audio.append(step.audio)
            seen.masks.append(mask[0] & (presence > threshold))
            seen.presence.append(presence)
            seen.weights.append(weights[0].cpu().numpy())
    if not seen.frames:
        raise ValueError(f"{path}: it is over before {start} s: choose an earlier start")
    return seen
