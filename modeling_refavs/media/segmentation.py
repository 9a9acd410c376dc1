"""A whole video through the model, a few seconds at a time."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from .answering import Request, answer_pictures, answer_seconds
from .opening import VideoInfo, probe_video
from .records import Records
from .timeline import Timeline, make_timeline


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
        throughput: seconds of video segmented in a second, in this run; None if an earlier run had done it all.
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
        """`(expressions, steps, h, w)` float32 at the model's resolution, of all steps at once: for short videos."""
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

        Empty where the object is not present. `size` is (width, height), the video's own unless given.
        """
        width, height = size or self.info.size
        outputs = SimpleNamespace(mask_logits=self.logits(step).unsqueeze(1))
        masks = np.concatenate(self.processor.post_process_masks(outputs, (height, width), self.threshold))
        return masks & (self.presence[:, step] > self.threshold)[:, None, None]

    @cached_property
    def shares(self) -> np.ndarray:
        """`(expressions, steps)`: the part of the picture that each object covers, 0 where it is absent."""
        return np.stack([self.masks(step).mean(axis=(1, 2)) for step in range(self.num_steps)], axis=1)

    def intervals(self, expression: int) -> list[tuple[float, float]]:
        """[start, end) in s, where a sentence's object is seen; none if nothing fits the sentence."""
        seen = np.diff(self.shares[expression] > 0, prepend=False, append=False)
        edges = [self.duration if step == self.num_steps else self.time_of(step) for step in np.flatnonzero(seen)]
        return list(zip(edges[::2], edges[1::2], strict=True))


@torch.inference_mode()
def segment_video(
    model: Any,
    processor: Any,
    path: str | Path,
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

    EEMC is causal, and its state is a running mean (Eq. 3): `steps_per_chunk` seconds at a time, with the memory passed
    on, give what the whole video at once would give. Frames, sound and answers take constant memory: the answers wait on disk.

    Args:
        model, processor: [`RefAVSForSegmentation`] and [`RefAVSProcessor`].
        path: any file that PyAV reads.
        expressions: sentences; all are asked of the video in one pass.
        steps_per_chunk: pictures that go through the model together.
        threshold: the probability above which a pixel is of the object, in (0, 1).
        rate: pictures a second that the model looks at. 1: masks of whole seconds, as in the paper. More, or "video" for
            every picture: masks at the video's own frame rate, see [`answer_pictures`]; between looks they are interpolated.
        smoothing: s, half the width of a triangle over which masks are averaged in time; by default 0.12 at the video's
            frame rate and 0 at one mask a second.
        progress: called with the number of seconds done, after each chunk.
        records: where the answers go, a [`Journal`] for a run that can be continued; by default a temporary file.

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
    for mask_logits, presence_logits, memory, length in answer(model, processor, info, list(expressions), request):
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
    steps = [timeline.answers(step, num_answers) for step in range(timeline.num_steps(records.duration, num_answers))]
    return np.stack([records.presence[:, indices] @ weights for indices, weights in steps], axis=1)


def _tell(progress: Callable[[int], None] | None, before: float, after: float) -> None:
    """Whole seconds, as they go by; a rest counts as one."""
    if progress and math.ceil(after - 1e-6) > math.ceil(before - 1e-6):
        progress(math.ceil(after - 1e-6) - math.ceil(before - 1e-6))


def check_request(
    expressions: Sequence[str], threshold: float, rate: float | str = 1, smoothing: float | None = None
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
        raise ValueError(f"the rate must be a number of looks a second, at least 1, or 'video', got {rate!r}")
    if smoothing is not None and not 0 <= smoothing < math.inf:
        raise ValueError(f"smoothing must be a number of seconds, at least 0, got {smoothing}")
