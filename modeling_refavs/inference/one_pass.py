"""Segmentation of a video while its frames are decoded for the outputs."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from ..feature_extraction_refavs import SAMPLING_RATE
from ..video_refavs import (
    SHORTEST_STEP,
    Frame,
    Step,
    VideoInfo,
    VideoSource,
    check_length,
    read_frames,
    sound_by_second,
)
from .mask_store import MaskStore
from .segment import SecondInference, Timeline, VideoSegmentation, seen_rate


ROUNDING = 1e-6  # s


def can_segment_in_one_pass(
    model: Any, processor: Any, info: VideoInfo, rate: float | str, smoothing: float | None
) -> bool:
    """Whether the masks of a second need nothing that comes after it, and the file says how long it
    is, which captions show from the first frame on."""
    if model.config.model_type != "refavs" or not info.duration:
        return False
    is_aligned = getattr(processor.feature_extractor, "mode", "aligned") == "aligned"
    return is_aligned and seen_rate(info, rate) <= 1 and not smoothing


class OnePassSegmentation(VideoSegmentation):
    """A [`VideoSegmentation`] that grows while `masked_frames` is read for the first time: the
    model sees the first frame and the sound of each second before that frame is yielded.

    When the frames have been read, it is what [`segment_video`] would have returned. Until then
    `duration` is the one that the file declares, and the steps are those up to the last frame.

    Args:
        model, processor, info, expressions, threshold, store: see [`segment_video`]; the store's
            steps, of a run that was stopped, are not segmented again.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        info: VideoInfo,
        expressions: Sequence[str],
        threshold: float,
        store: MaskStore,
    ):
        super().__init__(
            info=info,
            expressions=tuple(expressions),
            duration=info.duration,
            store=store,
            timeline=Timeline(),
            presence=np.zeros((len(expressions), 0), dtype=np.float32),
            threshold=threshold,
            processor=processor,
            peaks=np.zeros(0, dtype=np.float32),
        )
        self._inference = SecondInference(model, processor, info, list(expressions), chunk_size=1)
        self._is_complete = False

    def _read(self, source: VideoSource) -> Iterator[Frame]:
        return read_frames(source) if self._is_complete else self._read_and_segment(source)

    def _read_and_segment(self, source: VideoSource) -> Iterator[Frame]:
        """A frame is held back where it may be the first of a second that is too short to be a
        step: until then it is not known whose masks it shows."""
        begin, num_known = time.perf_counter(), len(self.store)
        sounds, num_steps = sound_by_second(source, SAMPLING_RATE), 0
        held: list[Frame] = []
        firsts: deque[np.ndarray] = deque()  # what the model sees of the next steps
        for frame in read_frames(source):
            held.append(frame)
            while frame.end > num_steps + len(firsts) + ROUNDING or not num_steps + len(firsts):
                firsts.append(self.processor.resize_frames([frame.rgb])[0])
            while firsts and (not num_steps or frame.end >= num_steps + SHORTEST_STEP):
                self._segment(Step(firsts.popleft(), next(sounds), 1.0), num_steps)
                num_steps += 1
            if not firsts:
                yield from held
                held.clear()
        yield from held
        check_length(self.info, frame.end)
        self.duration, self._is_complete = frame.end, True
        self.peaks = np.concatenate(self._inference.peaks)
        if num_steps > num_known:
            self.throughput = (frame.end - num_known) / (time.perf_counter() - begin)

    @torch.inference_mode()
    def _segment(self, step: Step, number: int) -> None:
        step, store = self._inference.hear(step), self.store
        if number == len(store):
            device = self._inference.model.device
            memory = store.memory and store.memory.map(lambda rows: rows.to(device))
            chunk = self._inference.prepare([step]), step.duration
            self._inference.segment(chunk, memory).keep_in(store)
        self.presence, self.iou_scores = store.presence, store.iou_scores
