"""The door through which media files come in: what a file is, and its streams decoded."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise, repeat
from pathlib import Path

import numpy as np
from transformers.utils import is_av_available


if is_av_available():
    import av
    from av.container import InputContainer
    from av.stream import Disposition, Stream


logger = logging.getLogger(__name__)
DEFAULT_FRAME_RATE = 25.0  # frames/s, for files that declare none
CLOCK_RESTART = 1.0  # s; a clock that falls back further was restarted: two files glued together
CLOCK_LEAP = 60.0  # s; a clock that leaps further, and past all that the file declares, is damaged
# Of a picture; a larger one is never decoded, wherever in a file it comes. As Pillow's own, to be
# set for a whole process.
MAX_PICTURE_PIXELS = 2**27


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself; only the first picture has been decoded.

    Args:
        path: of the file.
        width, height: pixels as displayed: upright, and square whatever the stored pixels are.
        frame_rate: declared mean, frames/s.
        duration: declared length in s; None where the file declares none. A hint: only decoding
            tells.
        has_audio: whether there is a sound track.
        start_time: s, the file's clock at its first picture; every time elsewhere counts from
            there.
    """

    path: Path
    width: int
    height: int
    frame_rate: float
    duration: float | None
    has_audio: bool
    start_time: float

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)"""
        return self.width, self.height


def probe_video(path: str | Path) -> VideoInfo:
    """Open a file as a video and decode its first picture.

    Raises:
        ValueError: it is missing, empty, no media file, without pictures, or none of them decodes.
    """
    with open_media(path) as container:
        stream = picture_stream(container)
        picture = next(decode(container, stream), None)
        if picture is None:
            raise ValueError(
                f"{path}: not one picture could be decoded: it is cut short, damaged or of an unknown codec"
            )
        width, height = displayed_size(picture, stream)
        duration = stream.duration and float(stream.duration * stream.time_base)
        if duration is None and container.duration is not None:
            duration = container.duration / av.time_base
        return VideoInfo(
            path=Path(path),
            width=width,
            height=height,
            frame_rate=float(stream.average_rate or DEFAULT_FRAME_RATE),
            duration=duration,
            has_audio=bool(container.streams.audio),
            start_time=picture.time or 0.0,
        )


def open_media(path: str | Path, containers: Sequence[str] = ()) -> InputContainer:
    """PyAV's container of a file; `ValueError` says what is wrong with anything else.

    Args:
        path: of the file.
        containers: FFmpeg's names of those that may be opened, such as "matroska"; by default all.
            Some, playlists for one, make FFmpeg open other files and addresses: a file from a
            stranger is opened with a
                list.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: {'a folder, not a video' if path.is_dir() else 'no such file'}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: 0 bytes: copy or download it again")
    options = {"max_pixels": str(MAX_PICTURE_PIXELS)}
    if containers:
        options["format_whitelist"] = ",".join(containers)
    try:
        return av.open(str(path.absolute()), options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise ValueError(
            f"{path}: not a media file that FFmpeg can read ({error.strerror}): is it a video, and is it whole?"
        ) from error


def picture_stream(container: InputContainer) -> Stream:
    """The stream of moving pictures: the cover art of a sound file is none."""
    stream = container.streams.best("video")
    if stream is None or stream.disposition & Disposition.attached_pic:
        kinds = {"cover art" if other is stream else other.type for other in container.streams}
        found = " and ".join(sorted(kinds)) or "nothing"
        raise ValueError(f"{container.name}: no moving picture in it, only {found}: pass a video")
    return stream


def decode(container: InputContainer, stream: Stream) -> Iterator[av.VideoFrame | av.AudioFrame]:
    """What of a stream decodes, in order; damage is skipped, with a warning."""
    stream.thread_type = "AUTO"
    stream.codec_context.options = {"max_pixels": str(MAX_PICTURE_PIXELS)}
    for packet in _demux(container, stream):
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            warn_once(
                f"{container.name}: part of its {stream.type} is damaged and left out ({error.strerror})"
            )
        else:
            yield from frames


def _demux(container: InputContainer, stream: Stream) -> Iterator[av.Packet]:
    try:
        yield from container.demux(stream)
    except av.FFmpegError as error:
        warn_once(f"{container.name}: its {stream.type} ends in mid-air ({error.strerror})")
        flush = av.Packet()  # what the decoder still holds
        flush.stream = stream
        yield flush


def displayed_size(picture: av.VideoFrame, stream: Stream) -> tuple[int, int]:
    """(width, height) in square pixels, upright."""
    width, height = picture.width, picture.height
    if stream.sample_aspect_ratio:
        width = max(1, round(width * stream.sample_aspect_ratio))
    return (height, width) if quarter_turns(picture) % 2 else (width, height)


def quarter_turns(picture: av.VideoFrame) -> int:
    """How often a picture must be turned left by 90 degrees to stand upright."""
    return round(picture.rotation / 90) % 4


def clock_broke(before: float, now: float, declared: float | None) -> bool:
    """Whether a time stamp `now` after `before` (s) cannot be meant, in a file that declares a
    length (s)."""
    leapt = declared is not None and now > max(before, declared) + CLOCK_LEAP
    return leapt or now < before - CLOCK_RESTART


@cache
def warn_once(message: str) -> None:
    """A file is read more than once: its damage need not be told more than once."""
    logger.warning(message)


@dataclass(frozen=True)
class Frame:
    """One picture on display from `time` to `end`, in s from the first picture."""

    time: float
    end: float
    picture: av.VideoFrame
    size: tuple[int, int]

    @cached_property
    def rgb(self) -> np.ndarray:
        """`(height, width, 3)` uint8, upright, of the video's size even where the stream changes
        its own."""
        turns = quarter_turns(self.picture)
        width, height = self.size[::-1] if turns % 2 else self.size
        picture = self.picture.reformat(width=width, height=height, format="rgb24")
        return np.ascontiguousarray(np.rot90(picture.to_ndarray(), turns))


def read_frames(path: str | Path) -> Iterator[Frame]:
    """Every picture of a video, in order; one after the other without gaps or overlaps, at any
    frame rate.

    Raises:
        ValueError: the file is no video: see [`probe_video`].
    """
    info = probe_video(path)
    with open_media(path) as container:
        stream = picture_stream(container)
        for (time, picture), (end, _) in pairwise(_timed(decode(container, stream), info)):
            yield Frame(time, end, picture, info.size)


def _timed(
    pictures: Iterator[av.VideoFrame], info: VideoInfo
) -> Iterator[tuple[float, av.VideoFrame | None]]:
    """(time, picture), times strictly rising from 0; at last (end, None)."""
    usual = 1 / info.frame_rate  # s from one picture to the next
    start, time, length = info.start_time, -usual, usual
    for picture in pictures:
        now = time + usual if picture.time is None else picture.time - start
        if clock_broke(time, now, info.duration):
            start, now = picture.time - (time + usual), time + usual
        if now > time:  # else a second picture for the same moment
            time, length = now, float((picture.duration or 0) * picture.time_base) or usual
            yield time, picture
    yield time + length, None


JITTER = 0.03  # s; time stamps this far off are rounding, not a gap


def read_sound(
    path: str | Path, sampling_rate: int, layout: str | None = None, start_time: float = 0.0
) -> Iterator[np.ndarray]:
    """The sound from `start_time` to its end, without gaps or overlaps; nothing if there is no
    sound track.

    Args:
        path: of the file.
        sampling_rate: Hz; anything else is resampled.
        layout: such as "mono" or "stereo"; None keeps the file's own channels.
        start_time: s on the file's clock, the first sample returned.

    Yields:
        `(channels, samples)` float32 in [-1, 1], at most a second at a time. Silence stands where
        the file has nothing.

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
    """`samples (channels, n)`, after `shift` zeros or, where negative, without what has been said
    already."""
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


SHORTEST_STEP = 0.1  # s; 300 pictures at 29.97 a second last 10.01 s: ten steps, not eleven


@dataclass(frozen=True)
class Step:
    """Second k of a video.

    Args:
        frame: `(height, width, 3)` uint8 RGB, on display at k seconds.
        audio: `(samples,)` float32, mono, of that second; fewer samples or none where the sound has
            ended; None if the file has no sound track.
        duration: s; 1 but for the last step.
    """

    frame: np.ndarray
    audio: np.ndarray | None
    duration: float


def read_steps(path: str | Path, sampling_rate: int = 16000) -> Iterator[Step]:
    """A video's steps, as long as its pictures last; one second is held in memory, whatever the
    length.

    Args:
        path: any file that PyAV reads.
        sampling_rate: Hz, of the steps' sound.

    Raises:
        ValueError: the file is no video: see [`probe_video`].
    """
    info = probe_video(path)
    duration = 0.0
    for (frame, length), audio in zip(
        _pictures_by_second(path), sound_by_second(info, sampling_rate), strict=False
    ):
        duration += length
        yield Step(frame, audio, length)
    if info.duration and duration < info.duration - 1:
        warn_once(
            f"{path}: pictures end after {duration:.1f} s of the {info.duration:.1f} s that the file declares"
        )


def _pictures_by_second(path: str | Path) -> Iterator[tuple[np.ndarray, float]]:
    """(the picture on display at k seconds, the step's length in s), k = 0, 1, ...; the tail joins
    the last step."""
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


def read_wav(sound: bytes) -> np.ndarray:
    """`(channels, samples)` float32 at the file's own rate."""
    with av.open(io.BytesIO(sound)) as container:
        resampler = av.AudioResampler(format="fltp")
        blocks = [
            block for frame in container.decode(audio=0) for block in resampler.resample(frame)
        ]
        return np.concatenate(
            [block.to_ndarray() for block in blocks + resampler.resample(None)], axis=1
        )
