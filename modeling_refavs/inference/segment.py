"""Reading while the model works."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import BatchFeature

from ..eemc import RefAVSMemory
from ..modeling_outputs_refavs import RefAVSClipFeatures, RefAVSSegmentationOutput
from ..video_refavs import VideoInfo, VideoSource, probe_video, read_frames, read_steps, sound_by_second
from .mask_store import Records


Item = TypeVar("Item")


def read_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items; while one is in use, a thread makes the next, and no more than that. An error
    comes where its item would."""
    end = object()
    with ThreadPoolExecutor(max_workers=1) as reader:
        waiting = reader.submit(next, items, end)
        while (item := waiting.result()) is not end:
            waiting = reader.submit(next, items, end)
            yield item


SMOOTHING = 0.12  # s, of masks at the video's frame rate: see benchmarks/dense.py
FASTEST = 120.0  # pictures a second; a file that declares more has no meaningful frame rate
ROUNDING = 0.05  # of a step: time stamps are rounded, in Matroska to milliseconds


@dataclass(frozen=True)
class Timeline:
    """Masks are on display `rate` times a second; the model answered `looks` times a second.

    Masks between two answers, and with smoothing all masks, are means of logits, weighted with a
    triangle in time.

    Args:
        rate: of masks, per second: 1, or the video's frame rate.
        looks: of answers, per second; answer k is of the picture at k / looks s.
        smoothing: s, half the triangle's width; between answers it is never narrower than their
            distance. 0: none.
    """

    rate: float = 1.0
    looks: float = 1.0
    smoothing: float = 0.0

    @property
    def reach(self) -> float:
        """s; an answer nearer than that has its part in a mask. 0: the last answer alone counts."""
        return 0.0 if self.rate == 1 and not self.smoothing else max(self.smoothing, 1 / self.looks)

    def num_steps(self, duration: float, num_answers: int) -> int:
        """How many masks cover a video of `duration` s."""
        return (
            num_answers
            if self.rate == self.looks
            else max(1, math.ceil(duration * self.rate - ROUNDING))
        )

    def step_at(self, time: float) -> int:
        """The step on display at `time` (s)."""
        return int(time * self.rate + (ROUNDING if self.rate != 1 else 0))

    def time_of(self, step: int) -> float:
        """When a step begins, s."""
        return step / self.rate

    def answers(self, step: int, num_answers: int) -> tuple[np.ndarray, np.ndarray]:
        """The answers that make the masks of `step`, and the weight of each; weights sum up to
        1."""
        place = self.time_of(step) * self.looks  # in answers
        if not self.reach:
            return np.array([min(int(place + ROUNDING), num_answers - 1)]), np.ones(1)
        reach = self.reach * self.looks
        first, last = (
            max(0, math.floor(place - reach) + 1),
            min(num_answers - 1, math.ceil(place + reach) - 1),
        )
        indices = np.arange(min(first, last), last + 1)  # beyond the last answer, that one
        weights = np.maximum(1 - np.abs(indices - place) / reach, 1e-6)
        return indices, weights / weights.sum()


def make_timeline(info: VideoInfo, rate: float | str, smoothing: float | None) -> Timeline:
    """Of what [`segment_video`] is asked for; no more looks than the video has pictures."""
    looks = (
        min(info.frame_rate, FASTEST)
        if rate == "video"
        else min(float(rate), info.frame_rate, FASTEST)
    )
    if looks <= 1:
        return Timeline(smoothing=smoothing or 0.0)
    return Timeline(
        min(info.frame_rate, FASTEST), looks, SMOOTHING if smoothing is None else smoothing
    )


SAMPLING_RATE = 16000  # Hz, what VGGish hears
Answer = tuple[torch.Tensor, torch.Tensor, RefAVSMemory | None, float]


"""Mask logits `(expressions, looks, h, w)`, presence logits `(expressions, looks)`, the memory
after them, their length in s."""


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


def read_looks(path: VideoSource, rate: float) -> Iterator[Look]:
    """The pictures on display at 0, 1/rate, 2/rate, ... s; one second's sound is held in memory.

    Args:
        path: any file that PyAV reads.
        rate: per second, more than 1 and at most the video's frame rate.

    Raises:
        ValueError: the file is no video.
    """
    info = probe_video(path)
    sounds, second, number, waiting, end = sound_by_second(info, SAMPLING_RATE), -1, 0, None, 0.0
    for frame in read_frames(info):
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
    for inputs, duration in read_ahead(
        _prepare_seconds(model.device, processor, info, expressions, request)
    ):
        outputs = model(**inputs.to(dtype=model.dtype), memory=memory)
        memory = outputs.memory
        yield outputs.mask_logits, outputs.presence_logits, memory, duration


def _prepare_seconds(
    device: torch.device, processor: Any, info: VideoInfo, expressions: list[str], request: Request
) -> Iterator[tuple[BatchFeature, float]]:
    """What the model is given of each group of seconds, and their length in s."""
    steps = islice(read_steps(info, SAMPLING_RATE), request.skip, None)
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
    looks = read_ahead(islice(read_looks(info, request.looks), request.skip, None))
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
        mask_logits, presence_logits = (
            torch.cat(part, dim=1) for part in zip(*answers, strict=True)
        )
        yield mask_logits, presence_logits, memory, min(end - second, 1.0)


def decode_with_cues(
    model: Any,
    cues: RefAVSClipFeatures,
    pixels: RefAVSClipFeatures,
    tokens: dict[str, torch.Tensor],
    memory: RefAVSMemory | None,
) -> RefAVSSegmentationOutput:
    """The sentences asked of every picture of one clip's `pixels`, with the cues of the first step
    of `cues`."""
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


@dataclass(frozen=True)
class VideoSegmentation:
    """What the sentences mean in a video, step by step: second by second, or picture by picture.

    Args:
        info: of the video.
        expressions: the sentences.
        duration: s, as decoded.
        records: the model's answers, on disk.
        timeline: which of them make the masks of which step.
        presence: `(expressions, steps)`, the probability that the object is to be seen.
        threshold: of both probabilities.
        processor: brings masks to the video's size.
        throughput: seconds of video segmented in a second, in this run; None if an earlier run had
            done it all.
    """

    info: VideoInfo
    expressions: tuple[str, ...]
    duration: float
    records: Records
    timeline: Timeline
    presence: np.ndarray
    threshold: float
    processor: Any
    throughput: float | None = None

    @property
    def num_steps(self) -> int:
        return self.presence.shape[1]

    @property
    def mask_logits(self) -> torch.Tensor:
        """`(expressions, steps, h, w)` float32 at the model's resolution, of all steps at once: for
        short videos."""
        return torch.stack([self.logits(step) for step in range(self.num_steps)], dim=1)

    def logits(self, step: int) -> torch.Tensor:
        """`(expressions, h, w)` float32 at the model's resolution."""
        answers = zip(*self.timeline.answers(step, len(self.records)), strict=True)
        return sum(weight * self.records.read(index) for index, weight in answers)

    def step_at(self, time: float) -> int:
        """The step whose masks are on display at `time` (s)."""
        return min(self.timeline.step_at(time), self.num_steps - 1)

    def time_of(self, step: int) -> float:
        """When a step begins, in s."""
        return self.timeline.time_of(step)

    def masks(self, step: int, size: tuple[int, int] | None = None) -> np.ndarray:
        """`(expressions, height, width)` bool: where each object is during `step`.

        Empty where the object is not present. `size` is (width, height), the video's own unless
        given.
        """
        width, height = size or self.info.size
        outputs = SimpleNamespace(mask_logits=self.logits(step).unsqueeze(1))
        masks = np.concatenate(
            self.processor.post_process_masks(outputs, (height, width), self.threshold)
        )
        return masks & (self.presence[:, step] > self.threshold)[:, None, None]

    @cached_property
    def shares(self) -> np.ndarray:
        """`(expressions, steps)`: the part of the picture that each object covers, 0 where it is
        absent."""
        return np.stack(
            [self.masks(step).mean(axis=(1, 2)) for step in range(self.num_steps)], axis=1
        )

    def intervals(self, expression: int) -> list[tuple[float, float]]:
        """[start, end) in s, where a sentence's object is seen; none if nothing fits the
        sentence."""
        seen = np.diff(self.shares[expression] > 0, prepend=False, append=False)
        edges = [
            self.duration if step == self.num_steps else self.time_of(step)
            for step in np.flatnonzero(seen)
        ]
        return list(zip(edges[::2], edges[1::2], strict=True))


@torch.inference_mode()
def segment_video(
    model: Any,
    processor: Any,
    path: VideoSource,
    expressions: Sequence[str],
    *,
    steps_per_chunk: int = 10,
    threshold: float = 0.5,
    rate: float | str = 1,
    smoothing: float | None = None,
    progress: Callable[[int], None] | None = None,
    records: Records | None = None,
) -> VideoSegmentation:
    """Segment what each sentence means, in a video of any length.

    EEMC is causal, and its state is a running mean (Eq. 3): `steps_per_chunk` seconds at a time,
    with the memory passed on, give what the whole video at once would give. Frames, sound and
    answers take constant
    memory: the answers wait on disk.

    Args:
        model, processor: [`RefAVSForSegmentation`] and [`RefAVSProcessor`].
        path: any file that PyAV reads.
        expressions: sentences; all are asked of the video in one pass.
        steps_per_chunk: pictures that go through the model together.
        threshold: the probability above which a pixel is of the object, in (0, 1).
        rate: pictures a second that the model looks at. 1: masks of whole seconds, as in the paper.
            More, or "video" for
            every picture: masks at the video's own frame rate, see [`answer_pictures`]; between
                looks they are interpolated.
        smoothing: s, half the width of a triangle over which masks are averaged in time; by default
            0.12 at the video's frame rate and 0 at one mask a second.
        progress: called with the number of seconds done, after each chunk.
        records: where the answers go, a [`Journal`] for a run that can be continued; by default a
            temporary file.

    Raises:
        ValueError: a sentence is empty, a number out of range, or the file no video.
    """
    check_request(expressions, threshold, rate, smoothing)
    if steps_per_chunk < 1:
        raise ValueError(f"steps_per_chunk must be at least 1, got {steps_per_chunk}")
    info = probe_video(path)
    timeline = make_timeline(info, rate, smoothing)
    records = Records() if records is None else records
    done, begin = records.duration, time.perf_counter()
    _tell(progress, 0, done)
    memory = records.memory and records.memory.map(lambda rows: rows.to(model.device))
    request = Request(timeline.looks, steps_per_chunk, len(records), memory)
    answer = answer_seconds if timeline.looks == 1 else answer_pictures
    for mask_logits, presence_logits, memory, length in answer(
        model, processor, info, list(expressions), request
    ):
        before = records.duration
        records.append(mask_logits, presence_logits.float().sigmoid().cpu().numpy(), memory, length)
        _tell(progress, before, records.duration)
    elapsed = time.perf_counter() - begin
    return VideoSegmentation(
        info=info,
        expressions=tuple(expressions),
        duration=records.duration,
        records=records,
        timeline=timeline,
        presence=_presence(records, timeline),
        threshold=threshold,
        processor=processor,
        throughput=(records.duration - done) / elapsed if records.duration > done else None,
    )


def _presence(records: Records, timeline: Timeline) -> np.ndarray:
    """Of answers `(expressions, answers)` to that of steps `(expressions, steps)`."""
    num_answers = len(records)
    steps = [
        timeline.answers(step, num_answers)
        for step in range(timeline.num_steps(records.duration, num_answers))
    ]
    return np.stack([records.presence[:, indices] @ weights for indices, weights in steps], axis=1)


def _tell(progress: Callable[[int], None] | None, before: float, after: float) -> None:
    """Whole seconds, as they go by; a rest counts as one."""
    if progress and math.ceil(after - 1e-6) > math.ceil(before - 1e-6):
        progress(math.ceil(after - 1e-6) - math.ceil(before - 1e-6))


def check_request(
    expressions: Sequence[str],
    threshold: float,
    rate: float | str = 1,
    smoothing: float | None = None,
) -> None:
    """`ValueError` for a request that cannot be answered."""
    if isinstance(expressions, str) or not expressions:
        raise ValueError("expressions must be a list of at least one sentence")
    for number, expression in enumerate(expressions, start=1):
        if not expression.strip():
            raise ValueError(f"sentence {number} is empty: say in words which object is meant")
    if not 0 < threshold < 1:
        raise ValueError(f"the threshold must lie between 0 and 1, both excluded, got {threshold}")
    if rate != "video" and (isinstance(rate, str) or not rate >= 1):
        raise ValueError(
            f"the rate must be a number of looks a second, at least 1, or 'video', got {rate!r}"
        )
    if smoothing is not None and not 0 <= smoothing < math.inf:
        raise ValueError(f"smoothing must be a number of seconds, at least 0, got {smoothing}")
