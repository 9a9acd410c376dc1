"""What the model says of a video: of the first picture of each second, or of every picture.

The latter takes the cues of each second and the pixels of each picture. Cues (Eq. 1 to 4) come once a second, from its first picture and
its sound, as in the paper; with them the decoder (Eq. 5, Sec. 4.4) looks at every picture of that second. Passes that are shifted by
parts of a second would hear sounds that are cut elsewhere, and cost more: `benchmarks/dense.py` compares.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature

from ..cue_memory import RefAVSMemory
from ..modeling_outputs_refavs import RefAVSClipFeatures, RefAVSSegmentationOutput
from .ahead import read_ahead
from .frames import read_frames
from .opening import VideoInfo, probe_video
from .steps import read_steps, sound_by_second
from .timeline import ROUNDING


SAMPLING_RATE = 16000  # Hz, what VGGish hears
Answer = tuple[torch.Tensor, torch.Tensor, RefAVSMemory | None, float]
"""Mask logits `(expressions, looks, h, w)`, presence logits `(expressions, looks)`, the memory after them, their length in s."""


@dataclass(frozen=True)
class Request:
    """What is asked of a video that may have been begun.

    Args:
        looks: a second.
        group_size: looks that go through the model together.
        skip: looks that are answered already, whole seconds.
        memory: what they left.
    """

    looks: float
    group_size: int
    skip: int
    memory: RefAVSMemory | None


@dataclass(frozen=True)
class Look:
    """A picture that the model sees.

    Args:
        frame: `(height, width, 3)` uint8 RGB.
        second: in which it is.
        audio: `(samples,)` float32, the sound of that second; None without a sound track.
        end: s, when the next look begins or the video ends.
    """

    frame: np.ndarray
    second: int
    audio: np.ndarray | None
    end: float


def read_looks(path: str | Path, rate: float) -> Iterator[Look]:
    """The pictures on display at 0, 1/rate, 2/rate, ... s; one second's sound is held in memory.

    Args:
        path: any file that PyAV reads.
        rate: per second, more than 1 and at most the video's frame rate.

    Raises:
        ValueError: the file is no video.
    """
    info = probe_video(path)
    sounds, second, number, waiting, end = sound_by_second(info, SAMPLING_RATE), -1, 0, None, 0.0
    for frame in read_frames(path):
        while number / rate + ROUNDING / info.frame_rate < frame.end or not number:
            if waiting:
                yield replace(waiting, end=number / rate)
            if int(number / rate + 1e-6) > second:
                second, audio = second + 1, next(sounds)
            waiting, number = Look(frame.rgb, second, audio, end), number + 1
        end = frame.end
    if waiting:
        yield replace(waiting, end=end)


def answer_seconds(
    model: Any, processor: Any, info: VideoInfo, expressions: list[str], request: Request
) -> Iterator[Answer]:
    """One look a second, `request.group_size` of them at a time."""
    memory = request.memory
    for inputs, duration in read_ahead(_prepare_seconds(model.device, processor, info, expressions, request)):
        outputs = model(**inputs.to(dtype=model.dtype), memory=memory)
        memory = outputs.memory
        yield outputs.mask_logits, outputs.presence_logits, memory, duration


def _prepare_seconds(
    device: torch.device, processor: Any, info: VideoInfo, expressions: list[str], request: Request
) -> Iterator[tuple[BatchFeature, float]]:
    """What the model is given of each group of seconds, and their length in s."""
    steps = islice(read_steps(info.path, SAMPLING_RATE), request.skip, None)
    while chunk := list(islice(steps, request.group_size)):
        inputs = processor(
            text=expressions,
            frames=[step.frame for step in chunk],
            audio=np.concatenate([step.audio for step in chunk]) if info.has_audio else None,
            sampling_rate=SAMPLING_RATE,
            device=device,
        )
        yield inputs, sum(step.duration for step in chunk)


def answer_pictures(
    model: Any, processor: Any, info: VideoInfo, expressions: list[str], request: Request
) -> Iterator[Answer]:
    """`request.looks` looks a second; an answer is of a second."""
    tokens = dict(processor(text=expressions, device=model.device))
    memory = request.memory
    looks = read_ahead(islice(read_looks(info.path, request.looks), request.skip, None))
    for second, group in groupby(looks, key=lambda look: look.second):
        cues, answers, end = None, [], 0.0
        while chunk := list(islice(group, request.group_size)):
            inputs = processor(
                frames=[look.frame for look in chunk],
                audio=chunk[0].audio,
                sampling_rate=SAMPLING_RATE,
                device=model.device,
            )
            features = model.encode_clips(**inputs.to(dtype=model.dtype))
            cues = features if cues is None else cues
            outputs = decode_with_cues(model, cues, features, tokens, memory)
            answers.append((outputs.mask_logits, outputs.presence_logits))
            end = chunk[-1].end
        memory = outputs.memory
        mask_logits, presence_logits = (torch.cat(part, dim=1) for part in zip(*answers, strict=True))
        yield mask_logits, presence_logits, memory, min(end - second, 1.0)


def decode_with_cues(
    model: Any,
    cues: RefAVSClipFeatures,
    pixels: RefAVSClipFeatures,
    tokens: dict[str, torch.Tensor],
    memory: RefAVSMemory | None,
) -> RefAVSSegmentationOutput:
    """The sentences asked of every picture of one clip's `pixels`, with the cues of the first step of `cues`."""
    first = {
        name: None if cues[name] is None else cues[name][:, :1]
        for name in ("frame_features", "audio_features", "audio_mask", "frame_mask")
        if name in cues
    }
    num_looks, num_expressions = pixels.mask_features.shape[1], len(tokens["input_ids"])
    device = pixels.mask_features.device
    features = RefAVSClipFeatures(
        **first,
        mask_features=pixels.mask_features,
        multi_scale_features=pixels.multi_scale_features,
        step_index=torch.zeros(num_looks, dtype=torch.long, device=device),
    )
    clip_index = torch.zeros(num_expressions, dtype=torch.long, device=device)
    return model.segment(features, **tokens, clip_index=clip_index, memory=memory)
