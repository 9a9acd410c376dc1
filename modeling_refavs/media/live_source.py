"""A camera, a microphone, a stream, or a file played as one: its seconds as they go by."""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import av
import numpy as np
from av.container import InputContainer
from av.stream import Stream

from .frames import Frame
from .opening import DEFAULT_FRAME_RATE, LiveInput, clock_broke, displayed_size, warn_once
from .sound import Waveform
from .steps import SHORTEST_STEP


LONGEST_QUEUE = 10  # s, that wait for the model; older ones are lost
SOUND_PATIENCE = 1.0  # s, after which a second goes without the sound that has not come
EXACT = 1e-6  # s


@dataclass
class LiveSecond:
    """One second of a source.

    Args:
        number: of the second, from 0 at the first picture.
        frame: on display at its start.
        pictures: all of it, where they are wanted.
        sounds: `(channels, samples)` float32 of each waveform of the source; fewer samples where sound has not come.
    """

    number: int
    frame: Frame
    pictures: list[Frame] = field(default_factory=list)
    sounds: list[np.ndarray] = field(default_factory=list)


class LiveSource:
    """Reads in threads of its own; `take` hands out the seconds that are complete. A file is played at its own pace.

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
        waveforms: Sequence[tuple[int, str | None]] = ((16_000, None),),
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
        self._sound_is_apart = sound is not None
        containers = [pictures.open()] + ([sound.open()] if sound else [])
        if not containers[0].streams.video:
            raise ValueError(f"{pictures.source}: no moving picture in it")
        self._video, audio = containers[0].streams.video[0], [*containers[-1].streams.audio[:1]]
        self._waveforms = [Waveform(*form) for form in waveforms] if audio else []
        self.has_sound, self.frame_rate = bool(audio), float(self._video.average_rate or DEFAULT_FRAME_RATE)
        streams = [[self._video], audio] if sound else [[self._video, *audio]]
        for job in zip(containers, streams, [source.is_file for source in (pictures, sound) if source], strict=True):
            threading.Thread(target=self._read, args=job, daemon=True).start()

    @property
    def clock(self) -> float:
        """s since the first picture was seen, times the speed."""
        return 0.0 if self.begun is None else (time.monotonic() - self.begun) * self.speed

    def take(self, wait: bool = True) -> list[LiveSecond]:
        """All complete seconds, the oldest first; waits for one unless told not to. None when the source has ended."""
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
                if paced and now > self.clock:
                    time.sleep((now - self.clock) / self.speed)
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
        for packet in container.demux(streams):
            index = packet.stream.index
            for frame in _decode(packet):
                own = latest.get(index, 0.0) - offsets.get(index, 0.0) if frame.time is None else frame.time
                if not self._has_begun(frame, paced):
                    continue
                if not offsets:
                    offset = -own if shows or paced else self.clock - own
                    offsets = {stream.index: offset for stream in streams}
                now = own + offsets[index]
                if index in latest and clock_broke(latest[index], now, 0.0):
                    offsets[index], now = latest[index] - own, latest[index]
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
        else:
            self._push_picture(frame, now)
        self._release()

    def _push_picture(self, picture: av.VideoFrame, now: float) -> None:
        size = self._shown.size if self._shown else displayed_size(picture, self._video)
        frame = Frame(now, now + 1 / self.frame_rate, picture, size)
        if self._current is None:
            self._current = LiveSecond(0, frame)
        while now > (second := self._current.number + 1) - EXACT:
            self._waiting.append(self._current)
            self._current = LiveSecond(second, frame if now < second + EXACT else self._shown)
        if self.keep_pictures:
            self._current.pictures.append(frame)
        self._shown = frame

    def _release(self) -> None:
        """Hand out the seconds whose sound has come, or is not to be waited for any longer."""
        while self._waiting:
            second = self._waiting[0]
            end = second.number + 1
            here = all(waveform.end >= end * waveform.sampling_rate for waveform in self._waveforms)
            if not (here or self.ended or self._shown.time > end + SOUND_PATIENCE):
                return
            second.sounds = [waveform.take(end * waveform.sampling_rate) for waveform in self._waveforms]
            self.ready.append(self._waiting.popleft())
            if len(self.ready) > LONGEST_QUEUE:
                self.ready.popleft()
                self.lost += 1
            self.condition.notify_all()

    def _finish(self) -> None:
        if self._current and self._shown.end - self._current.number >= SHORTEST_STEP:
            self._waiting.append(self._current)
        self.ended = True
        self._release()
        self.condition.notify_all()


def _decode(packet: av.Packet) -> list[av.VideoFrame | av.AudioFrame]:
    try:
        return packet.decode()
    except av.FFmpegError as error:
        warn_once(f"part of a live {packet.stream.type} is damaged and left out ({error.strerror})")
        return []
