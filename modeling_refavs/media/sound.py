"""A file's sound as one gapless waveform, each sample where its time stamp puts it."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from .opening import clock_broke, decode, open_media


JITTER = 0.03  # s; time stamps this far off are rounding, not a gap
LONGEST_GAP = 10.0  # s, in a live source; a clock that leaps further is damaged


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


class Waveform:
    """Sound as it comes in, each sample where its time stamp puts it, until it is taken away.

    Args:
        sampling_rate: Hz; anything else is resampled.
        layout: such as "stereo"; None: one channel, the mean of all.
    """

    def __init__(self, sampling_rate: int, layout: str | None):
        self.sampling_rate, self.layout = sampling_rate, layout
        self.resampler, self.form, self.begin = None, None, 0
        self.samples = np.zeros((av.AudioLayout(layout or "mono").nb_channels, 0), dtype=np.float32)

    @property
    def end(self) -> int:
        """The sample after the last one that has come in."""
        return self.begin + self.samples.shape[1]

    def push(self, frame: av.AudioFrame, now: float) -> None:
        """Sound that begins at `now` (s)."""
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self.form:
            self.form = form
            self.resampler = av.AudioResampler(format="fltp", layout=self.layout, rate=self.sampling_rate)
        for resampled in self.resampler.resample(frame):
            late = 0.0 if resampled.time is None or frame.time is None else resampled.time - frame.time
            place = round((now + late) * self.sampling_rate)
            shift = place - self.end
            if self.end and (abs(shift) <= JITTER * self.sampling_rate or shift > LONGEST_GAP * self.sampling_rate):
                shift = 0
            heard = resampled.to_ndarray()
            heard = heard if self.layout else heard.mean(axis=0, keepdims=True)  # (channels, n) -> (1, n)
            silence = np.zeros((len(heard), max(shift, 0)), dtype=np.float32)
            self.samples = np.concatenate([self.samples, silence, heard[:, max(-shift, 0) :]], axis=1)

    def take(self, until: int) -> np.ndarray:
        """`(channels, samples)` up to the sample `until`; what comes in for that time later is dropped."""
        taken, self.samples = np.split(self.samples, [max(0, until - self.begin)], axis=1)
        self.begin = max(self.begin, until)
        return taken
