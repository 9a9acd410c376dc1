"""Segmentation of a video file: its frames are sampled, go through the model in chunks with the
memory passed on, and what the model says becomes masks, step by step."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import groupby, islice
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from transformers import BatchFeature

from ..eemc import RefAVSMemory
from ..feature_extraction_refavs import SAMPLING_RATE
from ..modeling_outputs_refavs import RefAVSClipFeatures, RefAVSSegmentationOutput
from ..video_refavs import (
    Frame,
    OpenVideo,
    Step,
    VideoInfo,
    VideoSource,
    probe_video,
    read_frames,
    read_steps,
    sound_by_second,
)
from .mask_store import MaskStore


SMOOTHING = 0.12  # s, of masks at the video's frame rate: see research/dense.py
MAX_FRAME_RATE = 120.0  # frames/s; a file that declares more has no meaningful frame rate
STEP_ROUNDING = 0.05  # of a step: time stamps are rounded, in Matroska to milliseconds
TIME_ROUNDING = 1e-3  # s, of time stamps
PEAKS = 160  # of the sound, a second
STANDING = 0.1  # s on display before and after a step begins: a frame that stands

Item = TypeVar("Item")


def check_request(
    expressions: Sequence[str],
    threshold: float,
    rate: float | str = 1,
    smoothing: float | None = None,
) -> None:
    """Raise `ValueError` for arguments that [`segment_video`] cannot work with."""
    if isinstance(expressions, str) or not expressions:
        raise ValueError("expressions must be a list of at least one sentence")
    for number, expression in enumerate(expressions, start=1):
        if not expression.strip():
            raise ValueError(f"sentence {number} is empty: say in words which object is meant")
    if not 0 < threshold < 1:
        raise ValueError(f"the threshold must lie between 0 and 1, both excluded, got {threshold}")
    if rate != "video" and (isinstance(rate, str) or not rate >= 1):
        raise ValueError(
            f"the rate must be a number of frames a second, at least 1, or 'video', got {rate!r}"
        )
    if smoothing is not None and not 0 <= smoothing < math.inf:
        raise ValueError(f"smoothing must be a number of seconds, at least 0, got {smoothing}")


def prefetch(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the same items; while one is in use, a thread makes the next, and no more than that.

    An error is raised where its item would have come.
    """
    end = object()
    with ThreadPoolExecutor(max_workers=1) as reader:
        waiting = reader.submit(next, items, end)
        while (item := waiting.result()) is not end:
            waiting = reader.submit(next, items, end)
            yield item


@dataclass(frozen=True)
class Timeline:
    """Which of the frames that the model saw make the masks of a step.

    The masks of a step are a mean of mask logits, weighted with a triangle in time.

    Args:
        steps_per_second: of masks: 1, or the video's frame rate.
        frames_per_second: that the model saw; frame k was on display at k / frames_per_second s.
        smoothing: s, half the triangle's width; between frames it is never narrower than their
            distance. 0: none.
    """

    steps_per_second: float = 1.0
    frames_per_second: float = 1.0
    smoothing: float = 0.0

    @property
    def reach(self) -> float:
        """s; a frame nearer than that has its part in a mask. 0: the last frame alone counts."""
        if self.steps_per_second == 1 and not self.smoothing:
            return 0.0
        return max(self.smoothing, 1 / self.frames_per_second)

    def num_steps(self, duration: float, num_frames: int) -> int:
        """Count the steps of a video of `duration` s of which the model saw `num_frames`."""
        if self.steps_per_second == self.frames_per_second:
            return num_frames
        return max(1, math.ceil(duration * self.steps_per_second - STEP_ROUNDING))

    def step_at(self, time: float) -> int:
        """Return the step on display at `time` (s)."""
        rounding = STEP_ROUNDING if self.steps_per_second != 1 else 0
        return int(time * self.steps_per_second + rounding)

    def time_of(self, step: int) -> float:
        """Return when a step begins, in s."""
        return step / self.steps_per_second

    def frames_of(self, step: int, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the frames that make the masks of `step`, and their weights, which sum up to
        1."""
        place = self.time_of(step) * self.frames_per_second  # in frames
        if not self.reach:
            return np.array([min(int(place + STEP_ROUNDING), num_frames - 1)]), np.ones(1)
        reach = self.reach * self.frames_per_second
        first = max(0, math.floor(place - reach) + 1)
        last = min(num_frames - 1, math.ceil(place + reach) - 1)
        indices = np.arange(min(first, last), last + 1)  # beyond the last frame, that one
        weights = np.maximum(1 - np.abs(indices - place) / reach, 1e-6)
        return indices, weights / weights.sum()


@dataclass(frozen=True)
class FrameTimeline:
    """As [`Timeline`], where the model saw every frame: each makes a step of its own, at its own
    time, whatever the video's frame rate does.

    Args:
        steps_per_second: the video's mean frame rate.
        times: s, when the frames that the model saw began to be on display, rising.
        smoothing: as in [`Timeline`].
    """

    steps_per_second: float
    times: np.ndarray
    smoothing: float = 0.0

    def num_steps(self, duration: float, num_frames: int) -> int:
        return num_frames

    def step_at(self, time: float) -> int:
        return max(0, int(np.searchsorted(self.times, time + TIME_ROUNDING, side="right")) - 1)

    def time_of(self, step: int) -> float:
        return float(self.times[step])

    def frames_of(self, step: int, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
        distance = np.abs(self.times - self.times[step])
        indices = np.flatnonzero(distance < max(self.smoothing, TIME_ROUNDING))
        weights = 1 - distance[indices] / max(self.smoothing, TIME_ROUNDING)
        return indices, weights / weights.sum()


def make_timeline(
    info: VideoInfo, rate: float | str, smoothing: float | None, times: np.ndarray
) -> Timeline | FrameTimeline:
    """Return the timeline for the arguments of [`segment_video`]; the model never sees more frames
    than the video has. `times` are those of the frames that it saw."""
    if sees_every_frame(info, rate):
        return FrameTimeline(info.frame_rate, times, SMOOTHING if smoothing is None else smoothing)
    frames_per_second = seen_rate(info, rate)
    if frames_per_second <= 1:
        return Timeline(smoothing=smoothing or 0.0)
    video_rate = min(info.frame_rate, MAX_FRAME_RATE)
    return Timeline(video_rate, frames_per_second, SMOOTHING if smoothing is None else smoothing)


def sees_every_frame(info: VideoInfo, rate: float | str) -> bool:
    return rate == "video" and 1 < info.frame_rate <= MAX_FRAME_RATE


def seen_rate(info: VideoInfo, rate: float | str) -> float:
    """Frames a second that the model sees."""
    video_rate = min(info.frame_rate, MAX_FRAME_RATE)
    return video_rate if rate == "video" else min(float(rate), video_rate)


@dataclass(frozen=True)
class SampledFrame:
    """A frame that the model sees.

    Args:
        rgb: `(height, width, 3)` uint8.
        second: in which it is.
        audio: `(samples,)` float32, the sound of that second; None without a sound track.
        time: s, of which it is the frame on display.
        end: s, when the next sampled frame begins or the video ends.
    """

    rgb: np.ndarray
    second: int
    audio: np.ndarray | None
    time: float
    end: float


def sample_frames(source: VideoSource, rate: float | None) -> Iterator[SampledFrame]:
    """Yield the frames on display at 0, 1/rate, 2/rate, ... s; one second's sound is held in
    memory.

    Args:
        source: see [`probe_video`].
        rate: frames/s, more than 1 and at most the video's frame rate; None for every frame, one
            that stands again with each second.

    Raises:
        ValueError: the file is no video.
    """
    info = probe_video(source)
    moments = _own_moments if rate is None else _Grid(rate, STEP_ROUNDING / info.frame_rate)
    second, waiting, end = -1, None, 0.0
    with closing(OpenVideo(info)) as video:
        sounds = sound_by_second(video, SAMPLING_RATE)
        for frame in read_frames(video):
            for moment in moments(frame):
                if waiting:
                    yield replace(waiting, end=moment)
                while int(moment + 1e-6) > second:
                    second, audio = second + 1, next(sounds)
                waiting = SampledFrame(frame.rgb, second, audio, moment, end=moment)
            end = frame.end
    if waiting:
        yield replace(waiting, end=end)


class _Grid:
    """The moments 0, 1/rate, 2/rate, ... s at which each frame in turn is on display."""

    def __init__(self, rate: float, rounding: float):
        self.rate, self.rounding, self.number = rate, rounding, 0

    def __call__(self, frame: Frame) -> Iterator[float]:
        while self.number / self.rate + self.rounding < frame.end or not self.number:
            yield self.number / self.rate
            self.number += 1


def _own_moments(frame: Frame) -> Iterator[float]:
    """When a frame begins, and when a second does in which it still stands."""
    yield frame.time
    seconds = range(int(frame.time + 1e-6) + 1, math.ceil(frame.end - STANDING - TIME_ROUNDING))
    yield from map(float, seconds)


def decode_with_cues(
    model: Any,
    cues: RefAVSClipFeatures,
    pixels: RefAVSClipFeatures,
    tokens: dict[str, torch.Tensor],
    memory: RefAVSMemory | None,
) -> RefAVSSegmentationOutput:
    """Segment every frame of one clip's `pixels` with the cues of the first step of `cues`.

    Args:
        model: [`RefAVSForSegmentation`].
        cues, pixels: of `model.encode_clips`, one clip each.
        tokens: `input_ids` and `attention_mask` of the expressions.
        memory: after the seconds before; None at the beginning.
    """
    first = {
        name: None if cues[name] is None else cues[name][:, :1]
        for name in ("frame_features", "audio_features", "audio_mask", "frame_mask")
        if name in cues
    }
    num_frames, num_expressions = pixels.mask_features.shape[1], len(tokens["input_ids"])
    device = pixels.mask_features.device
    features = RefAVSClipFeatures(
        **first,
        mask_features=pixels.mask_features,
        multi_scale_features=pixels.multi_scale_features,
        pictures=pixels.pictures,
        step_index=torch.zeros(num_frames, dtype=torch.long, device=device),
    )
    clip_index = torch.zeros(num_expressions, dtype=torch.long, device=device)
    return model.segment(features, **tokens, clip_index=clip_index, memory=memory)


def find_peaks(audio: np.ndarray | None) -> np.ndarray:
    """Return the loudest sample of each 1/160 s of a second, `(160,)`; 0 where there is no
    sound."""
    second = np.zeros(SAMPLING_RATE, dtype=np.float32)
    if audio is not None:
        second[: len(audio)] = np.abs(audio)
    return second.reshape(PEAKS, -1).max(axis=1)  # (samples,) -> (PEAKS,)


class ChunkOutput(NamedTuple):
    """What the model says of a chunk of a video: mask logits `(expressions, frames, h, w)`,
    presence logits `(expressions, frames)`, the memory after it, its length in s, when its frames
    were on display (None for one a second), and predicted IoUs `(expressions, frames)` of a model
    with an IoU head."""

    mask_logits: torch.Tensor
    presence_logits: torch.Tensor
    memory: RefAVSMemory | None
    duration: float
    times: np.ndarray | None = None
    iou_scores: torch.Tensor | None = None

    def keep_in(self, store: MaskStore) -> None:
        presence = self.presence_logits.float().sigmoid().cpu().numpy()
        scores = None if self.iou_scores is None else self.iou_scores.float().cpu().numpy()
        store.append(self.mask_logits, presence, self.memory, self.duration, self.times, scores)


@dataclass(frozen=True)
class SecondInference:
    """Inference on one frame a second, as in the paper; a chunk is a few seconds.

    Args:
        model, processor: see [`segment_video`].
        info: of the video.
        expressions: all are asked in one pass.
        chunk_size: frames that go through the model together.
        peaks: of each second that was read, see [`find_peaks`].
        lengths: s, of each second that was read.
    """

    model: Any
    processor: Any
    info: VideoInfo
    expressions: list[str]
    chunk_size: int
    peaks: list[np.ndarray] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)

    def chunks(self, skip: int) -> Iterator[tuple[BatchFeature, float]]:
        """Yield the model's inputs for each chunk after the first `skip` frames, and its length in
        s."""
        return prefetch(self._prepare(skip))

    def _prepare(self, skip: int) -> Iterator[tuple[BatchFeature, float]]:
        steps = map(self.hear, read_steps(self.info, SAMPLING_RATE))
        steps = map(self._resize, islice(steps, skip, None))
        while chunk := list(islice(steps, self.chunk_size)):
            yield self.prepare(chunk), sum(step.duration for step in chunk)

    def prepare(self, chunk: list[Step]) -> BatchFeature:
        """Return the model's inputs for a few seconds."""
        audio = [step.audio for step in chunk]
        return self.processor(
            text=self.expressions,
            frames=[step.frame for step in chunk],
            audio=np.concatenate(audio) if self.info.has_audio else None,
            sampling_rate=SAMPLING_RATE,
            device=self.model.device,
        )

    def hear(self, step: Step) -> Step:
        """Return a second that was read, once its sound and its length are noted."""
        self.peaks.append(find_peaks(step.audio))
        self.lengths.append(step.duration)
        return step

    def _resize(self, step: Step) -> Step:
        """At once: a chunk of frames at their own size is large."""
        return replace(step, frame=self.processor.resize_frames([step.frame])[0])

    def segment(
        self, chunk: tuple[BatchFeature, float], memory: RefAVSMemory | None
    ) -> ChunkOutput:
        inputs, duration = chunk
        outputs = self.model(**inputs.to(dtype=self.model.dtype), memory=memory)
        answers = (outputs.mask_logits, outputs.presence_logits, outputs.memory)
        return ChunkOutput(*answers, duration, iou_scores=outputs.iou_scores)


@dataclass(frozen=True)
class FrameInference:
    """Inference on more than one frame a second; a chunk is a second, whose first frame and sound
    give the cues for all of its frames.

    Args:
        model, processor, info, expressions, chunk_size, peaks, lengths: see [`SecondInference`].
        frames_per_second: more than 1; None for every frame.
    """

    model: Any
    processor: Any
    info: VideoInfo
    expressions: list[str]
    chunk_size: int
    peaks: list[np.ndarray]
    lengths: list[float]
    frames_per_second: float | None

    @cached_property
    def tokens(self) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` of the expressions."""
        return dict(self.processor(text=self.expressions, device=self.model.device))

    def chunks(self, skip: int) -> Iterator[tuple[int, Iterator[SampledFrame]]]:
        """Yield each second after the first `skip` frames, which are whole seconds, and its
        frames."""
        frames = map(self._hear, sample_frames(self.info, self.frames_per_second))
        frames = islice(frames, skip, None)
        return groupby(prefetch(frames), key=lambda frame: frame.second)

    def _hear(self, frame: SampledFrame) -> SampledFrame:
        if frame.second == len(self.peaks):
            self.peaks.append(find_peaks(frame.audio))
            self.lengths.append(0.0)
        self.lengths[-1] = min(frame.end - frame.second, 1.0)
        return frame

    def segment(
        self, chunk: tuple[int, Iterator[SampledFrame]], memory: RefAVSMemory | None
    ) -> ChunkOutput:
        (second, frames), parts, times, end = chunk, [], [], 0.0
        cues = after = None  # of the first frame of the second
        while group := list(islice(frames, self.chunk_size)):
            inputs = self.processor(
                frames=[frame.rgb for frame in group],
                audio=group[0].audio,
                sampling_rate=SAMPLING_RATE,
                device=self.model.device,
            )
            features = self.model.encode_clips(**inputs.to(dtype=self.model.dtype))
            cues = features if cues is None else cues
            outputs = decode_with_cues(self.model, cues, features, self.tokens, memory)
            after = outputs.memory if after is None else after
            parts.append((outputs.mask_logits, outputs.presence_logits, outputs.iou_scores))
            times += [frame.time for frame in group]
            end = group[-1].end
        mask_logits, presence_logits, iou_scores = (
            None if part[0] is None else torch.cat(part, dim=1) for part in zip(*parts, strict=True)
        )
        return ChunkOutput(
            mask_logits,
            presence_logits,
            after,
            min(end - second, 1.0),
            np.array(times),
            iou_scores,
        )


@dataclass(frozen=True)
class MaskedFrame:
    """A frame beside the masks of one step.

    Args:
        frame: as decoded.
        step: whose masks these are.
        masks: `(expressions, height, width)` bool, of the video's size.
        starts_step: the frame is on display when the step begins; true once for each step.
        is_shown: the masks are on display with the frame; true once for each frame, and once for
            each further step while the frame stands.
        time, end: s, from when to when they are.
        source: that the frame was read from, for its sound.
    """

    frame: Frame
    step: int
    masks: np.ndarray
    starts_step: bool
    is_shown: bool
    time: float
    end: float
    source: VideoSource


@dataclass
class VideoSegmentation:
    """The masks of expressions in a video, step by step: a step is a second, or a frame.

    Args:
        info: of the video.
        expressions: what was asked.
        duration: s, as decoded.
        store: mask logits of the frames that the model saw, on disk.
        timeline: which of them make the masks of which step.
        presence: `(expressions, steps)`, the probability that the object is to be seen.
        iou_scores: `(expressions, steps)`, the predicted IoU of each mask with the truth; None of a
            model without an IoU head.
        threshold: of both probabilities.
        processor: brings masks to the video's size.
        peaks: `(seconds * 160,)`, the loudest samples of the sound; see [`find_peaks`].
        throughput: seconds of video segmented in a second, in this run; None if an earlier run had
            done it all.
    """

    info: VideoInfo
    expressions: tuple[str, ...]
    duration: float
    store: MaskStore
    timeline: Timeline | FrameTimeline
    presence: np.ndarray
    threshold: float
    processor: Any
    peaks: np.ndarray
    throughput: float | None = None
    iou_scores: np.ndarray | None = None
    _shares: dict[int, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    @property
    def num_steps(self) -> int:
        return self.presence.shape[1]

    @property
    def mask_logits(self) -> torch.Tensor:
        """`(expressions, steps, h, w)` float32 at the model's resolution, of all steps at once: for
        short videos."""
        return torch.stack([self.logits(step) for step in range(self.num_steps)], dim=1)

    def logits(self, step: int) -> torch.Tensor:
        """Return `(expressions, h, w)` float32 at the model's resolution."""
        frames = zip(*self.timeline.frames_of(step, len(self.store)), strict=True)
        return sum(weight * self.store.read(index) for index, weight in frames)

    def step_at(self, time: float) -> int:
        """Return the step whose masks are on display at `time` (s)."""
        return min(self.timeline.step_at(time), self.num_steps - 1)

    def time_of(self, step: int) -> float:
        """Return when a step begins, in s."""
        return self.timeline.time_of(step)

    def masks(self, step: int, size: tuple[int, int] | None = None) -> np.ndarray:
        """Return `(expressions, height, width)` bool: where each object is during `step`.

        A mask is empty where the object is not present. `size` is (width, height), the video's own
        unless given.
        """
        width, height = size or self.info.size
        outputs = SimpleNamespace(mask_logits=self.logits(step).unsqueeze(1))
        masks = np.concatenate(
            self.processor.post_process_masks(outputs, (height, width), self.threshold)
        )
        masks[self.presence[:, step] <= self.threshold] = False
        if (width, height) == self.info.size:
            self._shares[step] = masks.mean(axis=(1, 2))
        return masks

    def masked_frames(self, source: VideoSource | None = None) -> Iterator[MaskedFrame]:
        """Decode the video once and up-sample the masks once a step, for all outputs.

        Args:
            source: the video, where it is open already.

        Yields:
            Each frame with the masks that are on display with it, and each step with the frame that
            is on display when it begins; where both are the same, one item. A frame that stands,
            as in a slide show, comes again with each step.
        """
        masks, num_started = lru_cache(maxsize=1)(self.masks), 0
        source = source or self.info
        for frame, is_last in _mark_last(self._read(source)):
            first = num_started
            while num_started < self.num_steps and (
                is_last or frame.end > self.time_of(num_started) + TIME_ROUNDING
            ):
                num_started += 1
            begins = {self.step_at(frame.time): frame.time}
            for step in range(first, num_started):
                time = self.time_of(step)
                if min(time - frame.time, frame.end - time) > STANDING:
                    begins.setdefault(step, time)
            ends = dict(zip(begins, [*list(begins.values())[1:], frame.end], strict=True))
            for step in sorted({*begins, *range(first, num_started)}):
                starts, is_shown = first <= step < num_started, step in begins
                time, end = begins.get(step, frame.time), ends.get(step, frame.end)
                yield MaskedFrame(frame, step, masks(step), starts, is_shown, time, end, source)

    def _read(self, source: VideoSource) -> Iterator[Frame]:
        """Yield the frames in order; the masks of a frame's step are known when it comes."""
        return read_frames(source)

    @property
    def shares(self) -> np.ndarray:
        """`(expressions, steps)`: the part of the frame that each object covers, 0 where it is
        absent."""
        for step in range(self.num_steps):
            if step not in self._shares:
                self.masks(step)
        return np.stack([self._shares[step] for step in range(self.num_steps)], axis=1)

    def intervals(self, expression: int) -> list[tuple[float, float]]:
        """Return [start, end) in s, where the object of an expression is seen; none if nothing
        fits."""
        seen = np.diff(self.shares[expression] > 0, prepend=False, append=False)
        edges = [
            float(self.duration if step == self.num_steps else self.time_of(step))
            for step in np.flatnonzero(seen).tolist()
        ]
        return list(zip(edges[::2], edges[1::2], strict=True))


def _mark_last(items: Iterator[Item]) -> Iterator[tuple[Item, bool]]:
    """Yield each item, and whether it is the last."""
    nothing = object()
    item = next(items, nothing)
    while item is not nothing:
        following = next(items, nothing)
        yield item, following is nothing
        item = following


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
    store: MaskStore | None = None,
) -> VideoSegmentation:
    """Segment what each expression refers to, in a video of any length.

    `steps_per_chunk` seconds go through the model at a time, and the memory is passed on. EEMC is
    causal (Eq. 3), so this gives what the whole video at once would give; a model with an object
    head knows of each chunk as a whole and of ten seconds before. Frames, sound and mask logits
    take constant memory: the logits are kept on disk.

    Args:
        model, processor: [`RefAVSForSegmentation`] and [`RefAVSProcessor`].
        path: any file that PyAV reads, its bytes, or what [`probe_video`] made of it.
        expressions: all are asked in one pass over the video.
        steps_per_chunk: frames that go through the model together.
        threshold: the probability above which a pixel is of the object, in (0, 1).
        rate: frames a second that the model sees. 1: masks of whole seconds, as in the paper. More,
            or "video" for every frame: masks at the video's own frame rate, see [`FrameInference`];
            between the frames that the model sees they are interpolated.
        smoothing: s, half the width of a triangle over which masks are averaged in time; by default
            0.12 at the video's frame rate and 0 at one mask a second.
        progress: called with the number of seconds done, after each chunk.
        store: where mask logits go, a [`PersistentMaskStore`] for a run that can be resumed; by
            default a temporary file.

    Raises:
        ValueError: an expression is empty, a number out of range, or the file no video.
    """
    check_request(expressions, threshold, rate, smoothing)
    if steps_per_chunk < 1:
        raise ValueError(f"steps_per_chunk must be at least 1, got {steps_per_chunk}")
    info = probe_video(path)
    store = MaskStore() if store is None else store
    inference = SecondInference(model, processor, info, list(expressions), steps_per_chunk)
    if seen_rate(info, rate) > 1:
        if model.config.model_type != "refavs":
            raise ValueError(
                "a rate above 1 needs EEMC, where frames between the seconds share the cues of "
                f"theirs: a {model.config.model_type} needs rate=1"
            )
        seen = None if sees_every_frame(info, rate) else seen_rate(info, rate)
        inference = FrameInference(**vars(inference), frames_per_second=seen)
    done, begin = store.duration, time.perf_counter()
    _run(inference, store, progress)
    elapsed = time.perf_counter() - begin
    timeline = make_timeline(info, rate, smoothing, store.times)
    return VideoSegmentation(
        info=info,
        expressions=tuple(expressions),
        duration=sum(inference.lengths),
        store=store,
        timeline=timeline,
        presence=_by_step(store.presence, store, timeline),
        threshold=threshold,
        processor=processor,
        peaks=np.concatenate(inference.peaks),
        throughput=(store.duration - done) / elapsed if store.duration > done else None,
        iou_scores=None
        if store.iou_scores is None
        else _by_step(store.iou_scores, store, timeline),
    )


def _run(
    inference: SecondInference | FrameInference,
    store: MaskStore,
    progress: Callable[[int], None] | None,
) -> None:
    """Segment what is not in the store yet, chunk by chunk, and pass the memory on."""
    _report(progress, 0, store.duration)
    device = inference.model.device
    memory = store.memory and store.memory.map(lambda rows: rows.to(device))
    for chunk in inference.chunks(skip=len(store)):
        output = inference.segment(chunk, memory)
        memory, before = output.memory, store.duration
        output.keep_in(store)
        _report(progress, before, store.duration)


def _by_step(
    values: np.ndarray, store: MaskStore, timeline: Timeline | FrameTimeline
) -> np.ndarray:
    """Values of the frames that the model saw, `(expressions, frames)` -> `(expressions,
    steps)`."""
    num_frames = len(store)
    steps = [
        timeline.frames_of(step, num_frames)
        for step in range(timeline.num_steps(store.duration, num_frames))
    ]
    return np.stack([values[:, indices] @ weights for indices, weights in steps], axis=1)


def _report(progress: Callable[[int], None] | None, before: float, after: float) -> None:
    """Report whole seconds as they pass; a rest counts as one."""
    if progress and math.ceil(after - 1e-6) > math.ceil(before - 1e-6):
        progress(math.ceil(after - 1e-6) - math.ceil(before - 1e-6))
