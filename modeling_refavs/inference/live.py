"""The door through which media files come in: what a file is, and its streams decoded."""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.stream import Stream

from ..modeling_outputs_refavs import RefAVSStreamOutput
from ..streaming_refavs import RefAVSStream
from ..video_refavs import (
    DEFAULT_FRAME_RATE,
    JITTER,
    RESTART_PICTURES,
    SHORTEST_STEP,
    Deinterlacer,
    DisplayOrder,
    Frame,
    OrientationReader,
    SoundResampler,
    clock_broke,
    displayed_size,
    is_sound,
    open_media,
    picture_stream,
    sound_stream,
    warn_once,
)


LIVE_TIMEOUT = 20.0  # s, to wait for a stream to open


@dataclass(frozen=True)
class LiveInput:
    """What FFmpeg opens.

    Args:
        source: a device such as /dev/video0, a URL, a file.
        container_format: such as "v4l2" or "alsa"; None: FFmpeg finds out.
    """

    source: str
    container_format: str | None = None

    @property
    def is_file(self) -> bool:
        return self.container_format is None and Path(self.source).is_file()

    def check(self) -> None:
        """`ValueError` for a file or device that is not there."""
        if (
            "://" not in self.source
            and self.container_format is None
            and not Path(self.source).exists()
        ):
            raise ValueError(f"{self.source}: no such file, device or stream")

    def open(self) -> InputContainer:
        """`ValueError` says what is wrong with what does not open."""
        if self.is_file:
            return open_media(self.source)
        try:
            return av.open(self.source, format=self.container_format, timeout=(LIVE_TIMEOUT, None))
        except (av.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(
                f"{self.source}: cannot be opened as a live source: {reason}"
            ) from error


LONGEST_GAP = 10.0  # s, in a live source; a clock that leaps further is damaged


class Waveform:
    """Sound as it comes in, each sample where its time stamp puts it, until it is taken away.

    Args:
        sampling_rate: Hz; anything else is resampled.
        layout: "mono" or "stereo".
    """

    def __init__(self, sampling_rate: int, layout: str):
        self.sampling_rate = sampling_rate
        self.resampler, self.begin = SoundResampler(sampling_rate, layout), 0
        num_channels = 2 if layout == "stereo" else 1
        self.samples = np.zeros((num_channels, 0), dtype=np.float32)

    @property
    def end(self) -> int:
        """The sample after the last one that has come in."""
        return self.begin + self.samples.shape[1]

    def push(self, frame: av.AudioFrame, now: float) -> None:
        """Sound that begins at `now` (s)."""
        for start, heard in self.resampler.push(frame):
            if not is_sound(heard):
                warn_once("part of the live sound is NaN or far beyond full scale: left silent")
                heard = np.zeros_like(heard)
            late = 0.0 if start is None or frame.time is None else start - frame.time
            shift = round((now + late) * self.sampling_rate) - self.end
            if self.end and (
                abs(shift) <= JITTER * self.sampling_rate
                or shift > LONGEST_GAP * self.sampling_rate
            ):
                shift = 0
            silence = np.zeros((len(heard), max(shift, 0)), dtype=np.float32)
            self.samples = np.concatenate(
                [self.samples, silence, heard[:, max(-shift, 0) :]], axis=1
            )

    def take(self, until: int) -> np.ndarray:
        """`(channels, samples)` up to the sample `until`; what comes in for that time later is
        dropped."""
        taken, self.samples = np.split(self.samples, [max(0, until - self.begin)], axis=1)
        self.begin = max(self.begin, until)
        return taken


LONGEST_QUEUE = 10  # s, that wait for the model; older ones are lost
SOUND_PATIENCE = 1.0  # s, after which a second goes without the sound that has not come
PICTURE_PATIENCE = 2.0  # s of sound, after which no picture of that time is waited for
EXACT = 1e-6  # s


@dataclass
class LiveSecond:
    """One second of a source.

    Args:
        number: of the second, from 0 at the first picture.
        frame: on display at its start.
        pictures: all of it, where they are wanted.
        sounds: `(channels, samples)` float32 of each waveform of the source; fewer samples where
            sound has not come.
    """

    number: int
    frame: Frame
    pictures: list[Frame] = field(default_factory=list)
    sounds: list[np.ndarray] = field(default_factory=list)


class LiveSource:
    """Reads in threads of its own; `take` hands out the seconds that are complete. A file is played
    at its own pace.

    Args:
        pictures: where they come from.
        sound: where it comes from, if not with the pictures.
        waveforms: (sampling rate in Hz, layout) of each that is wanted; see [`Waveform`].
        keep_pictures: hand out every picture, not only the first of each second.
        speed: of a file; 1 is real time.

    Raises:
        ValueError: a source cannot be opened, or shows nothing.
    """

    def __init__(
        self,
        pictures: LiveInput,
        sound: LiveInput | None = None,
        waveforms: Sequence[tuple[int, str]] = ((16_000, "mono"),),
        keep_pictures: bool = False,
        speed: float = 1.0,
    ):
        self.keep_pictures, self.speed = keep_pictures, speed
        self.condition = threading.Condition()
        self.ready: deque[LiveSecond] = deque()
        self.lost, self.ended, self.begun = 0, False, None
        self._waiting: deque[LiveSecond] = deque()  # for their sound
        self._current: LiveSecond | None = None
        self._shown: Frame | None = None
        self._num_pictures, self._deinterlacer = 0, Deinterlacer()
        self._orientations = OrientationReader()
        self._sound_is_apart = sound is not None
        containers = [pictures.open()] + ([sound.open()] if sound else [])
        self._video, track = picture_stream(containers[0]), sound_stream(containers[-1])
        audio = [] if track is None else [track]
        self._waveforms = [Waveform(*form) for form in waveforms] if audio else []
        self.has_sound, self.frame_rate = (
            bool(audio),
            float(self._video.average_rate or DEFAULT_FRAME_RATE),
        )
        streams = [[self._video], audio] if sound else [[self._video, *audio]]
        for job in zip(
            containers,
            streams,
            [source.is_file for source in (pictures, sound) if source],
            strict=True,
        ):
            threading.Thread(target=self._read, args=job, daemon=True).start()

    @property
    def clock(self) -> float:
        """s since the first picture was seen, times the speed."""
        return 0.0 if self.begun is None else (time.monotonic() - self.begun) * self.speed

    def take(self, wait: bool = True) -> list[LiveSecond]:
        """All complete seconds, the oldest first; waits for one unless told not to. None when the
        source has ended."""
        with self.condition:
            if wait:
                self.condition.wait_for(lambda: self.ready or self.ended)
            seconds = list(self.ready)
            self.ready.clear()
            return seconds

    def stop(self) -> None:
        """Read no more."""
        with self.condition:
            self.ended = True
            self.condition.notify_all()

    def _read(self, container: InputContainer, streams: list[Stream], paced: bool) -> None:
        """One container to its end, in a thread of its own."""
        shows = streams[0].type == "video"
        try:
            for frame, now in self._timed(container, streams, shows, paced):
                if paced:
                    self._wait_until(now, isinstance(frame, av.VideoFrame))
                with self.condition:
                    if self.ended:
                        return
                    self._push(frame, now)
        except av.FFmpegError as error:
            warn_once(f"{container.name}: ends in mid-air ({error.strerror})")
        finally:
            if shows:
                with self.condition:
                    self._finish()

    def _timed(
        self, container: InputContainer, streams: list[Stream], shows: bool, paced: bool
    ) -> Iterator[tuple[av.VideoFrame | av.AudioFrame, float]]:
        """(frame, s since the first picture of the source); sound from before that is left out."""
        offsets: dict[int, float] = {}  # of each stream's own clock, s
        latest: dict[int, float] = {}
        num_broken = dict.fromkeys((stream.index for stream in streams), 0)
        for index, own, frame in _decode(container, streams):
            if own is None:
                own = latest.get(index, 0.0) - offsets.get(index, 0.0)
            if not self._has_begun(frame, paced):
                continue
            if not offsets:
                offset = -own if shows or paced else self.clock - own
                offsets = {stream.index: offset for stream in streams}
            now = own + offsets[index]
            if index in latest and clock_broke(latest[index], now, 0.0):
                num_broken[index] += 1  # one stamp out of time is no restart
                if num_broken[index] == RESTART_PICTURES:
                    offsets[index] = latest[index] - own
                now = latest[index]
            else:
                num_broken[index] = 0
            latest[index] = now
            yield frame, now

    def _has_begun(self, frame: av.VideoFrame | av.AudioFrame, paced: bool) -> bool:
        """Whether there has been a picture; a file of sound waits for it."""
        with self.condition:
            if self.begun is None and isinstance(frame, av.VideoFrame):
                self.begun = time.monotonic()
                self.condition.notify_all()
            if paced and self._sound_is_apart:
                self.condition.wait_for(lambda: self.begun is not None or self.ended)
            return self.begun is not None

    def _push(self, frame: av.VideoFrame | av.AudioFrame, now: float) -> None:
        if isinstance(frame, av.AudioFrame):
            for waveform in self._waveforms:
                waveform.push(frame, now)
            self._advance(now - PICTURE_PATIENCE)
        else:
            for time_of_it, picture in self._deinterlacer.push(frame, now):
                self._push_picture(picture, time_of_it)
        self._release()

    def _push_picture(self, picture: av.VideoFrame, now: float) -> None:
        size = self._shown.size if self._shown else displayed_size(picture, self._video)
        orientation = self._orientations.read(picture)
        frame = Frame(
            now, now + 1 / self.frame_rate, picture, size, self._num_pictures, orientation
        )
        self._num_pictures += 1
        if self._current is None:
            self._current = LiveSecond(0, frame)
        self._advance(now, frame)
        if self.keep_pictures:
            self._current.pictures.append(frame)
        self._shown = frame

    def _advance(self, now: float, frame: Frame | None = None) -> None:
        """It is `now`, and there `frame` begins, or the one that is shown stays."""
        while self._current and now > (second := self._current.number + 1) - EXACT:
            self._waiting.append(self._current)
            begins = frame and now < second + EXACT
            self._current = LiveSecond(second, frame if begins else self._shown)

    def _wait_until(self, now: float, shows: bool) -> None:
        """Until a file's own pace comes to `now`. A picture that stays is of each second until the
        next one comes."""
        while shows and self._current and (border := self._current.number + 1) < now:
            time.sleep(max(0.0, border - self.clock) / self.speed)
            with self.condition:
                self._advance(border)
                self._release()
        time.sleep(max(0.0, now - self.clock) / self.speed)

    def _release(self) -> None:
        """Hand out the seconds whose sound has come, or is not to be waited for any longer."""
        while self._waiting:
            second = self._waiting[0]
            end = second.number + 1
            here = all(waveform.end >= end * waveform.sampling_rate for waveform in self._waveforms)
            latest = max(self._shown.time, self._current.number)
            if not (here or self.ended or latest > end + SOUND_PATIENCE):
                return
            second.sounds = [
                waveform.take(end * waveform.sampling_rate) for waveform in self._waveforms
            ]
            self.ready.append(self._waiting.popleft())
            if len(self.ready) > LONGEST_QUEUE:
                self.ready.popleft()
                self.lost += 1
            self.condition.notify_all()

    def _finish(self) -> None:
        for now, picture in self._deinterlacer.push(None):
            self._push_picture(picture, now)
        if self._current and self._shown.end - self._current.number >= SHORTEST_STEP:
            self._waiting.append(self._current)
        self.ended = True
        self._release()
        self.condition.notify_all()


def _decode(
    container: InputContainer, streams: list[Stream]
) -> Iterator[tuple[int, float | None, av.VideoFrame | av.AudioFrame]]:
    """(number of the stream, time stamp in s, frame)"""
    order = DisplayOrder(container, streams[0])
    for packet in container.demux(streams):
        stream = packet.stream
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            warn_once(f"part of a live {stream.type} is damaged and left out ({error.strerror})")
            continue
        for frame in frames:
            if isinstance(frame, av.AudioFrame):
                yield stream.index, frame.time, frame
            else:
                yield from ((stream.index, *pair) for pair in order.push(frame))
    yield from ((streams[0].index, *pair) for pair in order.push(None))


PATIENCE = 2  # s of the source that may wait; beyond that all but the newest are dropped


@dataclass(frozen=True)
class LiveAnswer:
    """What the sentences mean in one second of a live source.

    Args:
        second: its number and pictures.
        output: of [`RefAVSStream.step`].
        dropped: the seconds before it that the model did not see, since it was behind.
        delay: s, from the end of the second to the answer.
    """

    second: LiveSecond
    output: RefAVSStreamOutput
    dropped: list[LiveSecond]
    delay: float


def follow(source: LiveSource, stream: RefAVSStream) -> Iterator[LiveAnswer]:
    """Answers as they come, until the source ends. What is dropped is not remembered either: the
    memory is of seconds seen."""
    waiting: deque[LiveSecond] = deque()
    while True:
        waiting.extend(source.take(wait=not waiting))
        if not waiting:
            return
        dropped = (
            [waiting.popleft() for _ in range(len(waiting) - 1)] if len(waiting) > PATIENCE else []
        )
        second = waiting.popleft()
        output = stream.step(second.frame.rgb, second.sounds[0][0] if second.sounds else None)
        yield LiveAnswer(second, output, dropped, source.clock - second.number - 1)


def describe(answer: LiveAnswer) -> dict[str, Any]:
    """One line of JSON."""
    output = answer.output
    rows = [
        {
            "text": text,
            "presence": round(float(presence), 4),
            "score": round(float(score), 4),
            "share": round(float(mask.mean()), 6),
            "box": box_of(mask),
        }
        for text, mask, presence, score in zip(
            output.expressions, output.masks, output.presence, output.scores, strict=True
        )
    ]
    if output.iou_scores is not None:
        for row, iou_score in zip(rows, output.iou_scores, strict=True):
            row["iou_score"] = round(float(iou_score), 4)
    return {
        "second": answer.second.number,
        "dropped": len(answer.dropped),
        "delay": round(answer.delay, 3),
        "expressions": rows,
    }


def box_of(mask: np.ndarray) -> list[int] | None:
    """[left, top, right, bottom] of `mask (h, w)` in pixels, the last two excluded; None if it is
    empty."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return (
        [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
        if len(rows)
        else None
    )
