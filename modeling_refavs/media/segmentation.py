"""A whole video through the model, a few seconds at a time."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from .opening import VideoInfo, probe_video
from .records import Records
from .steps import Step, read_steps


SAMPLING_RATE = 16000  # Hz, what VGGish hears


@dataclass(frozen=True)
class VideoSegmentation:
    """What the sentences mean in a video, second by second.

    Args:
        info: of the video.
        expressions: the sentences.
        duration: s, as decoded.
        records: the model's answers, on disk.
        presence: `(expressions, steps)`, the probability that the object is to be seen.
        threshold: of both probabilities.
        processor: brings masks to the video's size.
        throughput: seconds of video segmented in a second, in this run; None if an earlier run had done it all.
    """

    info: VideoInfo
    expressions: tuple[str, ...]
    duration: float
    records: Records
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
        return self.records.read(step)

    def step_at(self, time: float) -> int:
        """The step whose masks are on display at `time` (s)."""
        return min(int(time), self.num_steps - 1)

    def time_of(self, step: int) -> float:
        """When a step begins, in s."""
        return float(step)

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
        steps_per_chunk: seconds that go through the model together.
        threshold: the probability above which a pixel is of the object, in (0, 1).
        progress: called with the number of steps done, after each chunk.
        records: where the answers go, a [`Journal`] for a run that can be continued; by default a temporary file.

    Raises:
        ValueError: a sentence is empty, a number out of range, or the file no video.
    """
    check_request(expressions, threshold)
    if steps_per_chunk < 1:
        raise ValueError(f"steps_per_chunk must be at least 1, got {steps_per_chunk}")
    info = probe_video(path)
    records = Records() if records is None else records
    done, begin = len(records), time.perf_counter()
    if progress and done:
        progress(done)
    memory = records.memory and records.memory.map(lambda rows: rows.to(model.device))
    steps = islice(read_steps(path, SAMPLING_RATE), done, None)
    for chunk in _chunks(steps, steps_per_chunk):
        inputs = processor(
            text=list(expressions),
            frames=[step.frame for step in chunk],
            audio=np.concatenate([step.audio for step in chunk]) if info.has_audio else None,
            sampling_rate=SAMPLING_RATE,
            return_tensors="pt",
        )
        outputs = model(**inputs.to(model.device, model.dtype), memory=memory)
        memory = outputs.memory
        presence = outputs.presence_logits.float().sigmoid().cpu().numpy()
        records.append(outputs.mask_logits, presence, memory, sum(step.duration for step in chunk))
        if progress:
            progress(len(chunk))
    elapsed = time.perf_counter() - begin
    return VideoSegmentation(
        info=info,
        expressions=tuple(expressions),
        duration=records.duration,
        records=records,
        presence=records.presence,
        threshold=threshold,
        processor=processor,
        throughput=(len(records) - done) / elapsed if len(records) > done else None,
    )


def check_request(expressions: Sequence[str], threshold: float) -> None:
    """`ValueError` for a request that cannot be answered."""
    if isinstance(expressions, str) or not expressions:
        raise ValueError("expressions must be a list of at least one sentence")
    for number, expression in enumerate(expressions, start=1):
        if not expression.strip():
            raise ValueError(f"sentence {number} is empty: say in words which object is meant")
    if not 0 < threshold < 1:
        raise ValueError(f"the threshold must lie between 0 and 1, both excluded, got {threshold}")


def _chunks(steps: Iterator[Step], size: int) -> Iterator[list[Step]]:
    while chunk := list(islice(steps, size)):
        yield chunk
