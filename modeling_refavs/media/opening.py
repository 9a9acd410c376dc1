"""The door through which media files come in: what a file is, and its streams decoded."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition, Stream


logger = logging.getLogger(__name__)

DEFAULT_FRAME_RATE = 25.0  # frames/s, for files that declare none
LIVE_TIMEOUT = 20.0  # s, to wait for a stream to open
CLOCK_RESTART = 1.0  # s; a clock that falls back further was restarted: two files glued together
CLOCK_LEAP = 60.0  # s; a clock that leaps further, and past all that the file declares, is damaged

# Of a picture; a larger one is never decoded, wherever in a file it comes. As Pillow's own, to be set for a whole process.
MAX_PICTURE_PIXELS = 2**27


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself; only the first picture has been decoded.

    Args:
        path: of the file.
        width, height: pixels as displayed: upright, and square whatever the stored pixels are.
        frame_rate: declared mean, frames/s.
        duration: declared length in s; None where the file declares none. A hint: only decoding tells.
        has_audio: whether there is a sound track.
        start_time: s, the file's clock at its first picture; every time elsewhere counts from there.
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
        containers: FFmpeg's names of those that may be opened, such as "matroska"; by default all. Some, playlists for
            one, make FFmpeg open other files and addresses: a file from a stranger is opened with a list.
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
        if "://" not in self.source and self.container_format is None and not Path(self.source).exists():
            raise ValueError(f"{self.source}: no such file, device or stream")

    def open(self) -> InputContainer:
        """`ValueError` says what is wrong with what does not open."""
        try:
            return av.open(self.source, format=self.container_format, timeout=(LIVE_TIMEOUT, None))
        except (av.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"{self.source}: cannot be opened as a live source: {reason}") from error


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
            warn_once(f"{container.name}: part of its {stream.type} is damaged and left out ({error.strerror})")
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
    """Whether a time stamp `now` after `before` (s) cannot be meant, in a file that declares a length (s)."""
    leapt = declared is not None and now > max(before, declared) + CLOCK_LEAP
    return leapt or now < before - CLOCK_RESTART


@cache
def warn_once(message: str) -> None:
    """A file is read more than once: its damage need not be told more than once."""
    logger.warning(message)
