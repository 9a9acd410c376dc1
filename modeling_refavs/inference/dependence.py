"""What an answer depends on: the same question with a word masked, a second muted, the sound taken
away or its halves swapped, or the memory emptied, and how far the answer falls."""

from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any

import numpy as np
import torch

from ..eemc import RefAVSMemory
from ..feature_extraction_refavs import SAMPLING_RATE
from ..modeling_outputs_refavs import RefAVSClipFeatures, RefAVSSegmentationOutput
from ..video_refavs import VideoSource, read_steps


STEPS_AT_ONCE = 10  # of those before the first that is explained


@dataclass(frozen=True)
class Answer:
    """Masks `(variants, steps, h, w)` bool, at the model's resolution and empty where the object is
    not present, presence `(variants, steps)`, and of the same shape the IoU that the model predicts
    for its masks, where it does; of one clip."""

    masks: np.ndarray
    presence: np.ndarray
    iou_scores: np.ndarray | None = None

    def loss(self, other: "Answer") -> np.ndarray:
        """How far each of the `other` variants falls from this one: `(variants, steps)` in [0, 1],
        the loss of IoU or of presence, whichever is more. Two empty masks are the same."""
        both = (self.masks & other.masks).sum(axis=(2, 3))
        union = (self.masks | other.masks).sum(axis=(2, 3))
        lost = 1 - np.where(union, both / np.maximum(union, 1), 1.0)
        return np.maximum(lost, np.abs(self.presence - other.presence))


@dataclass(frozen=True)
class Dependence:
    """The answer to one expression, and the mean loss over its steps (see [`Answer.loss`]) when
    something is missing.

    Args:
        words: of the expression, as the tokenizer splits it.
        by_word: `(words,)`, each masked in turn.
        by_second: `(steps,)`, each second of sound muted in turn; the loss of later steps counts,
            since they remember it. 0 for a step without sound.
        no_sound, swapped_sound, no_memory: without any sound; with the first and the second half of
            the sound swapped; each step without the past.
        answer: of one variant.
        grounding: `(steps, grid, grid)` in [0, 1], how far the object covers each part of the
            frame, as the cues say before any mask; None for a model without that head.
    """

    words: tuple[str, ...]
    by_word: np.ndarray
    by_second: np.ndarray
    no_sound: float
    swapped_sound: float
    no_memory: float
    answer: Answer
    grounding: np.ndarray | None


class Question:
    """One expression asked of one clip, as it is and changed.

    Args:
        model, processor: see [`segment_video`].
        clip: features of one clip.
        expression: a sentence.
        memory: of the steps before.
        threshold: of both probabilities.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        clip: RefAVSClipFeatures,
        expression: str,
        memory: RefAVSMemory | None = None,
        threshold: float = 0.5,
    ):
        self.model, self.processor, self.clip = model, processor, clip
        self.memory, self.threshold, self.expression = memory, threshold, expression
        self.tokens = dict(processor(text=[expression], device=model.device))

    @property
    def num_steps(self) -> int:
        return self.clip.frame_features.shape[1]

    def ask(self, clip: RefAVSClipFeatures | None = None) -> Answer:
        """The answer, of a changed clip if one is given."""
        return self._answer(self.clip if clip is None else clip, **self.tokens, memory=self.memory)

    def words(self) -> tuple[tuple[str, ...], list[list[int]]]:
        """The words, and the places of each one's tokens."""
        encoded = self.processor.tokenize([self.expression])
        text = self.processor.normalize_text(self.expression)
        places = range(self.tokens["input_ids"].shape[1])
        words, tokens = [], []
        for word, group in groupby(places, key=encoded.word_ids(0).__getitem__):
            if word is not None:
                span = encoded.word_to_chars(0, word)
                words.append(text[span.start : span.end].strip())
                tokens.append(list(group))
        return tuple(words), tokens

    def ask_without_words(self, tokens: list[list[int]]) -> Answer:
        """A variant for each of `tokens`, which is masked out: no attention reads it."""
        ids = self.tokens["input_ids"].expand(len(tokens), -1)
        mask = self.tokens["attention_mask"].repeat(len(tokens), 1)
        for row, places in enumerate(tokens):
            mask[row, places] = 0
        memory = self.memory and self.memory.map(
            lambda rows: rows.expand(len(ids), *rows.shape[1:])
        )
        index = torch.zeros(len(ids), dtype=torch.long, device=self.model.device)
        return self._answer(self.clip, ids, mask, clip_index=index, memory=memory)

    def ask_muted(self, second: int) -> Answer:
        """With silence, which is a sound too, in one second."""
        features = self.clip.audio_features.clone()
        features[:, second] = self.silence
        return self.ask(replace(self.clip, audio_features=features))

    def ask_without_sound(self) -> Answer:
        """As a video without a sound track."""
        mask = torch.zeros_like(self.clip.audio_mask)
        return self.ask(replace(self.clip, audio_mask=mask))

    def ask_with_sound_swapped(self) -> Answer:
        """With the second half of the sound first."""
        half = self.num_steps // 2
        return self.ask(
            replace(
                self.clip,
                audio_features=self.clip.audio_features.roll(half, 1),
                audio_mask=self.clip.audio_mask.roll(half, 1),
            )
        )

    def ask_without_memory(self) -> Answer:
        """Each step as a clip of its own."""
        steps = {
            name: value.transpose(0, 1)  # (1, steps, ...) -> (steps, 1, ...)
            for name, value in self.clip.items()
            if isinstance(value, torch.Tensor)
        }
        levels = tuple(level.transpose(0, 1) for level in self.clip.multi_scale_features)
        clips = replace(self.clip, **steps, multi_scale_features=levels)
        tokens = {key: value.expand(self.num_steps, -1) for key, value in self.tokens.items()}
        answer = self._answer(clips, **tokens)
        return Answer(answer.masks.swapaxes(0, 1), answer.presence.swapaxes(0, 1))

    @property
    def silence(self) -> torch.Tensor:
        """F_A of a silent second, `(D,)`."""
        inputs = self.processor(
            audio=np.zeros(SAMPLING_RATE, np.float32), sampling_rate=SAMPLING_RATE
        )
        features = inputs["input_features"].to(self.model.device, self.model.dtype)
        steps = features.shape[:2]
        return self.model.base_model._encode_audio(steps, features, None, None)[0][0, 0]

    @torch.inference_mode()
    def _answer(self, clip: RefAVSClipFeatures, *args: Any, **kwargs: Any) -> Answer:
        return self._read(self.model.segment(clip, *args, **kwargs))

    def _read(self, outputs: RefAVSSegmentationOutput) -> Answer:
        presence = outputs.presence_logits.float().sigmoid().cpu().numpy()
        masks = outputs.mask_logits.float().sigmoid().cpu().numpy() > self.threshold
        iou_scores = outputs.iou_scores
        return Answer(
            masks & (presence > self.threshold)[..., None, None],
            presence,
            None if iou_scores is None else iou_scores.float().cpu().numpy(),
        )


def measure_dependence(question: Question) -> Dependence:
    """Ask a question in all its variants."""
    grounding: list[torch.Tensor] = []
    head = getattr(question.model, "cue_predictor", None)
    hook = head and head.register_forward_hook(lambda *call: grounding.append(call[-1]))
    try:
        answer = question.ask()
    finally:
        if hook:
            hook.remove()
    words, tokens = question.words()
    has_sound = question.clip.audio_features is not None and question.clip.audio_mask.any()
    heard = question.clip.audio_mask[0].tolist() if has_sound else [False] * question.num_steps
    by_second = [
        answer.loss(question.ask_muted(second)).mean() if there else 0.0
        for second, there in enumerate(heard)
    ]
    map_of = None
    if grounding:
        grid = round(grounding[0].shape[-1] ** 0.5)
        map_of = grounding[0][0].float().sigmoid().unflatten(-1, (grid, grid)).cpu().numpy()
    return Dependence(
        words=words,
        by_word=answer.loss(question.ask_without_words(tokens)).mean(axis=1),
        by_second=np.array(by_second),
        no_sound=float(answer.loss(question.ask_without_sound()).mean()) if has_sound else 0.0,
        swapped_sound=float(answer.loss(question.ask_with_sound_swapped()).mean())
        if has_sound
        else 0.0,
        no_memory=float(answer.loss(question.ask_without_memory()).mean()),
        answer=answer,
        grounding=map_of,
    )


@dataclass(frozen=True)
class ClipSteps:
    """Of some steps of a video the frames, and the sound, None without a sound track; and the
    [`Question`] that is asked of them."""

    frames: list[np.ndarray]
    audio: list[np.ndarray | None]
    question: Question


@torch.inference_mode()
def ask_video(
    model: Any,
    processor: Any,
    video: VideoSource,
    expression: str,
    start: int = 0,
    num_steps: int = 10,
    threshold: float = 0.5,
) -> ClipSteps:
    """Read a video up to the last of the steps that are to be explained.

    Args:
        model, processor: see [`segment_video`].
        video: see [`probe_video`].
        expression: one sentence.
        start, num_steps: the steps; the ones before feed the memory.
        threshold: of both probabilities.

    Raises:
        ValueError: the video is over before `start`, or the model is of another kind.
    """
    if model.config.model_type != "refavs":
        raise ValueError(f"a model of type refavs is needed, got {model.config.model_type}")
    steps = read_steps(video, SAMPLING_RATE)
    memory, before = None, islice(steps, start)
    while chunk := list(islice(before, STEPS_AT_ONCE)):
        inputs = _inputs(model, processor, chunk)
        tokens = processor(text=[expression], device=model.device)
        memory = model(**inputs, **tokens, memory=memory).memory
    chosen = list(islice(steps, num_steps))
    if not chosen:
        raise ValueError(f"{video}: it is over before {start} s: choose an earlier start")
    clip = model.encode_clips(**_inputs(model, processor, chosen))
    return ClipSteps(
        [step.frame for step in chosen],
        [step.audio for step in chosen],
        Question(model, processor, clip, expression, memory, threshold),
    )


def _inputs(model: Any, processor: Any, steps: list[Any]) -> Any:
    has_sound = steps[0].audio is not None
    inputs = processor(
        frames=[processor.resize_frames([step.frame])[0] for step in steps],
        audio=np.concatenate([step.audio for step in steps]) if has_sound else None,
        sampling_rate=SAMPLING_RATE,
        device=model.device,
    )
    return inputs.to(dtype=model.dtype)
