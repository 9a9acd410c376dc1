"""A file's sound as one gapless waveform, each sample where its time stamp puts it."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from .opening import clock_broke, decode, open_media


JITTER = 0.03  # s; time stamps this far off are rounding, not a gap


def read_sound(
    path: str | Path, sampling_rate: int, layout: str | None = None, start_time: float = 0.0
) -> Iterator[np.ndarray]:
    """The sound from `start_time` to its end, without gaps or overlaps; nothing if there is no sound track.

    Args:
        path: of the file.
        sampling_rate: Hz; anything else is resampled.
        layout: such as "mono" or "stereo"; None keeps the file's own channels.
        start_time: s on the file's clock, the first sample returned.

    Yields:
        `(channels, samples)` float32 in [-1, 1], at most a second at a time. Silence stands where the file has
        nothing.

    Raises:
        ValueError: the file is no media file.
    """
    with open_media(path) as container:
        stream = container.streams.best("audio")
        if stream is None:
            return
        declared = container.duration and container.duration / av.time_base
        written = 0
        for time, samples in _resample(decode(container, stream), sampling_rate, layout):
            before = written / sampling_rate
            now = before if time is None else time - start_time
            if written and (abs(now - before) <= JITTER or clock_broke(before, now, declared)):
                now = before
            shift = round(now * sampling_rate) - written
            for block in _placed(samples, shift, sampling_rate):
                written += block.shape[1]
                yield block


def _placed(samples: np.ndarray, shift: int, longest: int) -> Iterator[np.ndarray]:
    """`samples (channels, n)`, after `shift` zeros or, where negative, without what has been said already."""
    for begin in range(0, shift, longest):
        yield np.zeros((len(samples), min(longest, shift - begin)), dtype=np.float32)
    samples = samples[:, max(0, -shift) :]
    for begin in range(0, samples.shape[1], longest):
        yield samples[:, begin : begin + longest]


def _resample(
    frames: Iterator[av.AudioFrame], sampling_rate: int, layout: str | None
) -> Iterator[tuple[float | None, np.ndarray]]:
    """(time in s, samples `(channels, n)`); a stream may change its rate or channels on the way."""
    resampler, form = None, None
    for frame in frames:
        if form != (frame.format.name, frame.layout.name, frame.sample_rate):
            form = (frame.format.name, frame.layout.name, frame.sample_rate)
            yield from _samples_of(resampler, None)
            resampler = av.AudioResampler(format="fltp", layout=layout, rate=sampling_rate)
        yield from _samples_of(resampler, frame)
    yield from _samples_of(resampler, None)


def _samples_of(
    resampler: av.AudioResampler | None, frame: av.AudioFrame | None
) -> Iterator[tuple[float | None, np.ndarray]]:
    for resampled in resampler.resample(frame) if resampler else ():
        if resampled is not None:  # a resampler with nothing to change hands even its None back
            yield resampled.time, resampled.to_ndarray()
