"""A video cut in one-second steps: one picture and one second of sound each (Ref-AVS, Sec. 3)."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np

from .frames import read_frames
from .opening import VideoInfo, probe_video, warn_once
from .sound import read_sound


SHORTEST_STEP = 0.1  # s; 300 pictures at 29.97 a second last 10.01 s: ten steps, not eleven


@dataclass(frozen=True)
class Step:
    """Second k of a video.

    Args:
        frame: `(height, width, 3)` uint8 RGB, on display at k seconds.
        audio: `(samples,)` float32, mono, of that second; fewer samples or none where the sound has ended; None if
            the file has no sound track.
        duration: s; 1 but for the last step.
    """

    frame: np.ndarray
    audio: np.ndarray | None
    duration: float


def read_steps(path: str | Path, sampling_rate: int = 16000) -> Iterator[Step]:
    """A video's steps, as long as its pictures last; one second is held in memory, whatever the length.

    Args:
        path: any file that PyAV reads.
        sampling_rate: Hz, of the steps' sound.

    Raises:
        ValueError: the file is no video: see [`probe_video`].
    """
    info = probe_video(path)
    duration = 0.0
    for (frame, length), audio in zip(_pictures_by_second(path), sound_by_second(info, sampling_rate), strict=False):
        duration += length
        yield Step(frame, audio, length)
    if info.duration and duration < info.duration - 1:
        warn_once(f"{path}: pictures end after {duration:.1f} s of the {info.duration:.1f} s that the file declares")


def _pictures_by_second(path: str | Path) -> Iterator[tuple[np.ndarray, float]]:
    """(the picture on display at k seconds, the step's length in s), k = 0, 1, ...; the tail joins the last step."""
    second, waiting = 0, []
    for frame in read_frames(path):
        while frame.end > second + 1e-6 or not second:
            waiting.append(frame.rgb)
            second += 1
            if len(waiting) > 2:
                yield waiting.pop(0), 1.0
        if len(waiting) == 2 and frame.end >= second - 1 + SHORTEST_STEP:
            yield waiting.pop(0), 1.0
    if waiting:
        yield waiting[0], frame.end - (second - len(waiting))


def sound_by_second(info: VideoInfo, sampling_rate: int) -> Iterator[np.ndarray | None]:
    """Mono seconds, the last one cut short, then empty ones for ever."""
    if not info.has_audio:
        yield from repeat(None)
    heard = np.zeros(0, dtype=np.float32)
    for block in read_sound(info.path, sampling_rate, start_time=info.start_time):
        heard = np.concatenate([heard, block.mean(axis=0)])  # (channels, samples) -> (samples,)
        while len(heard) >= sampling_rate:
            yield heard[:sampling_rate]
            heard = heard[sampling_rate:]
    yield heard
    yield from repeat(heard[:0])
