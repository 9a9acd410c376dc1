"""The one reader of video and sound: what a file is, its frames and its sound, and both as steps
of a second (Ref-AVS, Sec. 3).

Whatever takes a video takes a path, the bytes of a file, or the [`VideoInfo`] that [`probe_video`]
made of either: a file is probed once and handed on. Nothing is downloaded. PyAV is needed only when
a file is opened.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any, Union

import numpy as np
import torch
from transformers.utils import is_av_available


if is_av_available():
    import av
    from av.container import InputContainer
    from av.stream import Disposition, Stream


logger = logging.getLogger(__name__)

VideoSource = Union[str, Path, bytes, "VideoInfo"]

DEFAULT_FRAME_RATE = 25.0  # frames/s, for files that declare none
CLOCK_RESTART = 1.0  # s; a clock that falls back further was restarted: two files glued together
CLOCK_LEAP = 60.0  # s; a clock that leaps further, and past all that the file declares, is damaged
# Of a frame; a larger one is never decoded, wherever in a file it comes. As Pillow's own, to be
# set for a whole process.
MAX_PICTURE_PIXELS = 2**27


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself; only the first frame has been decoded.

    Args:
        path: of the file, or its bytes.
        width, height: pixels as displayed: upright, and square whatever the stored pixels are.
        frame_rate: declared mean, frames/s.
        duration: declared length in s; None where the file declares none. A hint: only decoding
            tells.
        has_audio: whether there is a sound track.
        start_time: s, the file's clock at its first frame; every time elsewhere counts from
            there.
    """

    path: Path | bytes
    width: int
    height: int
    frame_rate: float
    duration: float | None
    has_audio: bool
    start_time: float

    @property
    def name(self) -> str:
        """For messages: the path, or how many bytes there are."""
        return name_of(self.path)

    @property
    def file_name(self) -> str:
        """Of the file without its folder; or how many bytes there are."""
        return self.name if isinstance(self.path, bytes) else self.path.name

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)"""
        return self.width, self.height


def probe_video(source: VideoSource) -> VideoInfo:
    """Open a file as a video and decode its first frame; what was probed before is returned.

    Raises:
        ValueError: it is missing, empty, no media file, without frames, or none of them decodes.
    """
    if isinstance(source, VideoInfo):
        return source
    with open_media(source) as container:
        stream = picture_stream(container)
        picture = next(decode(container, stream), None)
        if picture is None:
            raise ValueError(
                f"{name_of(source)}: not one frame could be decoded: it is cut short, damaged or "
                "of an unknown codec"
            )
        width, height = displayed_size(picture, stream)
        duration = stream.duration and float(stream.duration * stream.time_base)
        if duration is None and container.duration is not None:
            duration = container.duration / av.time_base
        return VideoInfo(
            path=source if isinstance(source, bytes) else Path(source),
            width=width,
            height=height,
            frame_rate=float(stream.average_rate or DEFAULT_FRAME_RATE),
            duration=duration,
            has_audio=bool(container.streams.audio),
            start_time=picture.time or 0.0,
        )


def open_media(source: VideoSource, containers: Sequence[str] = ()) -> InputContainer:
    """PyAV's container of a file; `ValueError` says what is wrong with anything else.

    Args:
        source: a path, the bytes of a file, or a video that was probed.
        containers: FFmpeg's names of those that may be opened, such as "matroska"; by default all.
            Some, playlists for one, make FFmpeg open other files and addresses: a file that is not
            trusted is opened with a list.
    """
    if not is_av_available():
        raise ValueError(
            "PyAV is needed to read a video: pip install av; or pass a dict of frames, audio and "
            "sampling_rate"
        )
    source = source.path if isinstance(source, VideoInfo) else source
    _check_file(source)
    options = {"max_pixels": str(MAX_PICTURE_PIXELS)}
    if containers:
        options["format_whitelist"] = ",".join(containers)
    file = io.BytesIO(source) if isinstance(source, bytes) else str(Path(source).absolute())
    try:
        return av.open(file, options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise ValueError(
            f"{name_of(source)}: not a media file that FFmpeg can read ({error.strerror}): "
            "is it a video, and is it whole?"
        ) from error


def name_of(source: VideoSource) -> str:
    """How messages call a source."""
    source = source.path if isinstance(source, VideoInfo) else source
    return f"{len(source)} bytes" if isinstance(source, bytes) else str(source)


def _check_file(source: str | Path | bytes) -> None:
    if isinstance(source, bytes):
        size = len(source)
    else:
        path = Path(source)
        if not path.is_file():
            raise ValueError(
                f"{path}: {'a folder, not a video' if path.is_dir() else 'no such file'}"
            )
        size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{name_of(source)}: 0 bytes: copy or download it again")


def picture_stream(container: InputContainer) -> Stream:
    """The video track: the cover art of a sound file is none."""
    stream = container.streams.best("video")
    if stream is None or stream.disposition & Disposition.attached_pic:
        kinds = {"cover art" if other is stream else other.type for other in container.streams}
        found = " and ".join(sorted(kinds)) or "nothing"
        raise ValueError(f"{container.name}: no video track in it, only {found}: pass a video")
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
                f"{container.name}: part of its {stream.type} is damaged and left out "
                f"({error.strerror})"
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
    """How often a frame must be turned left by 90 degrees to stand upright."""
    return round(picture.rotation / 90) % 4


def clock_broke(before: float, now: float, declared: float | None) -> bool:
    """Whether a time stamp `now` after `before` (s) cannot be meant, in a file that declares a
    length (s)."""
    leapt = declared is not None and now > max(before, declared) + CLOCK_LEAP
    return leapt or now < before - CLOCK_RESTART


@cache
def warn_once(message: str) -> None:
    """A file is read more than once: its damage is reported once."""
    logger.warning(message)


@dataclass(frozen=True)
class Frame:
    """One frame on display from `time` to `end`, in s from the first picture."""

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


def read_frames(source: VideoSource) -> Iterator[Frame]:
    """Every frame of a video, in order; one after the other without gaps or overlaps, at any
    frame rate.

    Raises:
        ValueError: the file is no video: see [`probe_video`].
    """
    info = probe_video(source)
    with open_media(info) as container:
        stream = picture_stream(container)
        for (time, picture), (end, _) in pairwise(_timed(decode(container, stream), info)):
            yield Frame(time, end, picture, info.size)


def _timed(
    pictures: Iterator[av.VideoFrame], info: VideoInfo
) -> Iterator[tuple[float, av.VideoFrame | None]]:
    """(time, frame), times strictly rising from 0; at last (end, None)."""
    usual = 1 / info.frame_rate  # s from one frame to the next
    start, time, length = info.start_time, -usual, usual
    for picture in pictures:
        now = time + usual if picture.time is None else picture.time - start
        if clock_broke(time, now, info.duration):
            start, now = picture.time - (time + usual), time + usual
        if now > time:  # else a second frame for the same moment
            time, length = now, float((picture.duration or 0) * picture.time_base) or usual
            yield time, picture
    yield time + length, None


JITTER = 0.03  # s; time stamps this far off are rounding, not a gap


def read_sound(
    source: VideoSource, sampling_rate: int, layout: str | None = None, start_time: float = 0.0
) -> Iterator[np.ndarray]:
    """The sound from `start_time` to its end, without gaps or overlaps; nothing if there is no
    sound track.

    Args:
        source: of the sound, a video or any other media file.
        sampling_rate: Hz; anything else is resampled.
        layout: such as "mono" or "stereo"; None keeps the file's own channels.
        start_time: s on the file's clock, the first sample returned.

    Yields:
        `(channels, samples)` float32 in [-1, 1], at most a second at a time. Silence stands where
        the file has nothing.

    Raises:
        ValueError: the file is no media file.
    """
    with open_media(source) as container:
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


SHORTEST_STEP = 0.1  # s; 300 frames at 29.97 a second last 10.01 s: ten steps, not eleven


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


def read_steps(source: VideoSource, sampling_rate: int = 16000) -> Iterator[Step]:
    """A video's steps, as long as its frames last; one second is held in memory, whatever the
    length.

    Args:
        source: any file that PyAV reads.
        sampling_rate: Hz, of the steps' sound.

    Raises:
        ValueError: the file is no video: see [`probe_video`].
    """
    info = probe_video(source)
    duration = 0.0
    for (frame, length), audio in zip(
        _pictures_by_second(info), sound_by_second(info, sampling_rate), strict=False
    ):
        duration += length
        yield Step(frame, audio, length)
    if info.duration and duration < info.duration - 1:
        warn_once(
            f"{info.name}: frames end after {duration:.1f} s of the {info.duration:.1f} s that "
            "the file declares"
        )


def _pictures_by_second(info: VideoInfo) -> Iterator[tuple[np.ndarray, float]]:
    """(the frame on display at k seconds, the step's length in s), k = 0, 1, ...; the tail joins
    the last step."""
    second, waiting = 0, []
    for frame in read_frames(info):
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
    for block in read_sound(info, sampling_rate, start_time=info.start_time):
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


def to_rgb(frame: Any) -> np.ndarray:
    """One frame of any kind -> `(height, width, 3)` uint8."""
    if hasattr(frame, "convert"):  # a PIL image, palette and transparency included
        return np.array(frame.convert("RGB"))
    frame = frame.detach().cpu().numpy() if isinstance(frame, torch.Tensor) else np.asarray(frame)
    if frame.ndim == 2:
        frame = frame[..., None]
    if frame.ndim != 3 or not {frame.shape[0], frame.shape[-1]} & {1, 3, 4}:
        raise ValueError(
            f"a frame must be (height, width, 3) or (3, height, width), got {frame.shape}"
        )
    if frame.shape[-1] not in (1, 3, 4):
        frame = frame.transpose(1, 2, 0)
    if np.issubdtype(frame.dtype, np.floating):
        if not (np.isfinite(frame).all() and frame.min() >= 0 and frame.max() <= 1):
            raise ValueError("float frames must lie in [0, 1]: divide by 255, or pass uint8")
        frame = np.rint(frame * 255)
    elif frame.dtype != np.uint8:
        raise ValueError(f"frames must be uint8 in [0, 255] or floats in [0, 1], got {frame.dtype}")
    frame = (
        np.repeat(frame, 3, axis=-1) if frame.shape[-1] == 1 else frame[..., :3]
    )  # drop transparency
    return np.require(frame, np.uint8, ["C", "W"])  # what torch takes; a copy only where it must be


__all__ = [
    "Frame",
    "Step",
    "VideoInfo",
    "VideoSource",
    "probe_video",
    "read_frames",
    "read_sound",
    "read_steps",
    "to_rgb",
]
