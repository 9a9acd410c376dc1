"""A video file or its bytes as one-second steps, for the pipeline where nothing but transformers
and PyAV is installed.

For damaged, glued or oddly timed files the package's own `media` room goes to greater lengths.
"""

import io
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np

from .feature_extraction_refavs import SAMPLING_RATE


SHORTEST_STEP = 0.1  # s; a shorter rest joins the last step


def read_video(source: str | Path | bytes) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """A video's seconds; one is held in memory, whatever the length.

    Args:
        source: path of a file, or its bytes. Nothing is downloaded.

    Yields:
        The picture on display at second k, `(height, width, 3)` uint8, upright; and the sound of
        that second, `(samples,)` float32 at 16 kHz, mono, fewer samples or none where it has ended;
        None if there is no sound track.

    Raises:
        ValueError: PyAV is missing, or the source is no video.
    """
    try:
        import av
    except ImportError as error:
        raise ValueError(
            "PyAV is needed to read a video: pip install av; or pass a dict of frames, audio and sampling_rate"
        ) from error
    try:
        with _open(av, source) as pictures, _open(av, source) as sound:
            if not pictures.streams.video:
                raise ValueError(f"{_name(source)}: no moving picture in it")
            yield from zip(_pictures_by_second(pictures), _sound_by_second(av, sound), strict=False)
    except av.FFmpegError as error:
        raise ValueError(
            f"{_name(source)}: not a video that FFmpeg can read ({error.strerror})"
        ) from error


def _open(av: Any, source: str | Path | bytes) -> Any:
    if isinstance(source, bytes):
        return av.open(io.BytesIO(source))
    if not Path(source).is_file():
        raise ValueError(
            f"{source}: no such file; a video is a path, bytes, or a dict of frames, audio and sampling_rate"
        )
    return av.open(str(Path(source).absolute()), metadata_errors="replace")


def _name(source: str | Path | bytes) -> str:
    return f"{len(source)} bytes" if isinstance(source, bytes) else str(source)


def _start(container: Any) -> float:
    """The clock at the first picture, s: every time counts from there."""
    stream = container.streams.video[0]
    return float((stream.start_time or 0) * stream.time_base)


def _pictures_by_second(container: Any) -> Iterator[np.ndarray]:
    """The picture on display at k seconds, k = 0, 1, ..., for each second that lasts long
    enough."""
    shown, end, second, start = None, 0.0, 0, _start(container)
    usual = 1 / float(
        container.streams.video[0].average_rate or 25
    )  # s from one picture to the next
    for picture in container.decode(video=0):
        time = end if picture.time is None else picture.time - start
        while shown is not None and second + 1e-6 < time:
            yield _upright(shown)
            second += 1
        shown, end = picture, time + (float((picture.duration or 0) * picture.time_base) or usual)
    while shown is not None and (not second or second + SHORTEST_STEP <= end):
        yield _upright(shown)
        second += 1


def _upright(picture: Any) -> np.ndarray:
    return np.ascontiguousarray(
        np.rot90(picture.to_ndarray(format="rgb24"), round(picture.rotation / 90) % 4)
    )


def _sound_by_second(av: Any, container: Any) -> Iterator[np.ndarray | None]:
    """Mono seconds, counted from the first picture; the last one cut short, then empty ones for
    ever."""
    if not container.streams.audio:
        yield from repeat(None)
    resampler, heard = (
        av.AudioResampler(format="fltp", rate=SAMPLING_RATE),
        np.zeros(0, dtype=np.float32),
    )
    early = None  # samples from before the first picture that are still to be left out
    for frame in chain(container.decode(audio=0), [None]):  # None empties the resampler
        for resampled in resampler.resample(frame) if frame or early is not None else ():
            if resampled is None:  # what a resampler with nothing to change makes of None
                continue
            samples = resampled.to_ndarray().mean(axis=0)  # (channels, samples) -> (samples,)
            if early is None:
                early = round((_start(container) - (resampled.time or 0.0)) * SAMPLING_RATE)
                heard, early = np.zeros(max(-early, 0), dtype=np.float32), max(early, 0)
            heard, early = np.concatenate([heard, samples[early:]]), max(0, early - len(samples))
            while len(heard) >= SAMPLING_RATE:
                yield heard[:SAMPLING_RATE]
                heard = heard[SAMPLING_RATE:]
    yield heard
    yield from repeat(heard[:0])


__all__ = ["read_video"]
