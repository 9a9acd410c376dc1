"""The one reader of video and sound: what a file is, its frames and its sound, and both as steps
of a second (Ref-AVS, Sec. 3).

Whatever takes a video takes a path, the bytes of a file, the [`VideoInfo`] that [`probe_video`]
made of either, so that a file is probed once and handed on, or an [`OpenVideo`]. Nothing is
downloaded. PyAV is needed only when a file is opened.
"""

from __future__ import annotations

import io
import logging
import os
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from heapq import heappop, heappush
from itertools import chain, islice, pairwise, repeat
from pathlib import Path
from threading import Lock
from typing import Any, Union

import numpy as np
import torch
from transformers.utils import is_av_available


if is_av_available():
    import av
    import av.filter
    from av.container import InputContainer
    from av.stream import Disposition, Stream


logger = logging.getLogger(__name__)

VideoSource = Union[str, Path, bytes, "VideoInfo", "OpenVideo"]

DEFAULT_FRAME_RATE = 25.0  # frames/s, for files that declare none
CLOCK_RESTART = 1.0  # s; a clock that falls back further was restarted: two files glued together
CLOCK_LEAP = 60.0  # s; a clock that leaps further, and past all that the file declares, is damaged
LONGEST_GAP = 3600.0  # s; likewise of a file that declares no length
# What a file says is not believed beyond these.
LONGEST_DURATION = 864_000.0  # s, ten days
LOWEST_FRAME_RATE = 1e-3  # frames/s
WIDEST_PIXEL = 16  # times as wide as high, or as high as wide
# Of a frame; a larger one is never decoded, wherever in a file it comes. As Pillow's own, to be
# set for a whole process.
MAX_PICTURE_PIXELS = 2**27
# Each thread of a decoder holds pictures: larger ones are decoded by two.
LARGE_PICTURE = 2560 * 1440  # pixels


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
        return self.name if isinstance(self.path, bytes) else name_of(self.path.name)

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
    if isinstance(source, OpenVideo):
        return source.info
    with open_media(source) as container:
        stream = picture_stream(container)
        stamp, picture = next(_stamped(container, stream), (None, None))
        if picture is None:
            raise ValueError(
                f"{name_of(source)}: not one frame could be decoded: it is cut short, damaged or "
                "of an unknown codec"
            )
        width, height = displayed_size(picture, stream)
        duration = stream.duration and float(stream.duration * stream.time_base)
        if duration is None:
            duration = container.duration and container.duration / av.time_base
        rate = float(stream.average_rate or 0)
        return VideoInfo(
            path=source if isinstance(source, bytes) else Path(source),
            width=width,
            height=height,
            frame_rate=rate if rate >= LOWEST_FRAME_RATE else DEFAULT_FRAME_RATE,
            duration=_believe(duration),
            has_audio=sound_stream(container) is not None,
            start_time=stamp or 0.0,
        )


def _believe(duration: float | None) -> float | None:
    """A length (s) that a file declares; None where it declares none that can be true."""
    return duration if duration is not None and 0 <= duration <= LONGEST_DURATION else None


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
    options = {
        "max_pixels": str(MAX_PICTURE_PIXELS),
        "format_whitelist": ",".join(containers or _whole_containers()),
    }
    file = io.BytesIO(source) if isinstance(source, bytes) else str(Path(source).absolute())
    try:
        return av.open(file, options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise ValueError(
            f"{name_of(source)}: not a media file that FFmpeg can read ({error.strerror}): "
            "is it a video, and is it whole?"
        ) from error


@cache
def _whole_containers() -> tuple[str, ...]:
    """Those that hold their own pictures and sound; the others open whatever files they name."""
    lists = {"concat", "dash", "hls", "image2", "imf", "lavfi", "rtp", "rtsp", "sdp", "vobsub"}
    return tuple(av.formats_available - lists - {"webm_dash_manifest"})


def name_of(source: VideoSource) -> str:
    """How messages call a source, whatever bytes are in its name."""
    if isinstance(source, (VideoInfo, OpenVideo)):
        source = probe_video(source).path
    if isinstance(source, bytes):
        return f"{len(source)} bytes"
    return os.fsencode(source).decode(errors="replace")


def _check_file(source: str | Path | bytes) -> None:
    if isinstance(source, bytes):
        head = source[:64]
    else:
        path = Path(source)
        if not path.is_file():
            kind = "a folder, not a video" if path.is_dir() else "no such file"
            raise ValueError(f"{name_of(path)}: {kind}")
        with path.open("rb") as file:
            head = file.read(64)
    if not head:
        raise ValueError(f"{name_of(source)}: 0 bytes: copy or download it again")
    if head.startswith((b"#EXTM3U", b"ffconcat version")):
        raise ValueError(
            f"{name_of(source)}: a list that names other files, which are not opened: pass a video"
        )
    if head[8:12] == b"WEBP" and b"ANIM" in head:
        raise ValueError(
            f"{name_of(source)}: an animated WebP, which is not a format that FFmpeg reads: "
            "convert it to MP4, WebM or GIF"
        )


def picture_stream(container: InputContainer) -> Stream:
    """The video track: the cover art of a sound file is none."""
    stream = container.streams.best("video")
    if stream is None or stream.disposition & Disposition.attached_pic:
        kinds = {"cover art" if other is stream else other.type for other in container.streams}
        found = " and ".join(sorted(kinds)) or "nothing"
        raise ValueError(f"{container.name}: no video track in it, only {found}: pass a video")
    if stream.codec_context is None:
        raise ValueError(f"{container.name}: its pictures are of a codec that FFmpeg cannot decode")
    return stream


def decode(container: InputContainer, stream: Stream) -> Iterator[av.VideoFrame | av.AudioFrame]:
    """What of a stream decodes, in order; damage is skipped, with a warning."""
    stream.thread_type = "AUTO"
    if stream.type == "video" and stream.width * stream.height > LARGE_PICTURE:
        stream.codec_context.thread_count = 2
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


def _open(source: VideoSource, kind: str) -> InputContainer:
    return source.lend(kind) if isinstance(source, OpenVideo) else open_media(source)


MOST_WAITING = 2**25  # bytes
PACKET_BYTES = 1024  # of a packet beside what is in it


class OpenVideo:
    """A file that is open, from which pictures and sound are read side by side, by two threads if
    need be: whoever opened it closes it.

    To its readers it is PyAV's container. Packets of the one that come before those of the other
    wait; where they would take more than 32 MB, because the two lie far apart in the file, it is
    opened once more.

    Args:
        info: of the file.
    """

    def __init__(self, info: VideoInfo):
        self.info = info
        self._container, self._lent = open_media(info), set()
        tracks = picture_stream(self._container), sound_stream(self._container)
        self._packets = self._container.demux([track for track in tracks if track is not None])
        self._waiting: dict[int, deque[av.Packet]] = defaultdict(deque)  # by the track's index
        self._apart: set[int] = set()  # tracks that are read from a file of their own
        self._num_bytes = 0  # of what waits
        self._failure: av.FFmpegError | None = None
        self._lock = Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def __enter__(self) -> OpenVideo:
        return self

    def __exit__(self, *failure) -> None:
        """Its other reader may not be done."""

    def close(self) -> None:
        self._container.close()

    def lend(self, kind: str) -> InputContainer:
        """What a reader of "video" or of "audio" reads from: a second one opens the file anew."""
        if kind in self._lent:
            return open_media(self.info)
        self._lent.add(kind)
        return self

    def demux(self, stream: Stream) -> Iterator[av.Packet]:
        """The packets of one track; an empty one at the end."""
        num_packets = 0
        while packet := self._next(stream.index):
            yield packet
            num_packets += 1
        if stream.index in self._apart:
            with open_media(self.info) as container:
                own = container.demux(container.streams[stream.index])
                for packet in islice(own, num_packets, None):
                    packet.stream = stream  # whose decoder knows what came before
                    yield packet

    def _next(self, index: int) -> av.Packet | None:
        """The next packet of a track; None where there is none, or it is read apart from now on."""
        with self._lock:
            while not self._waiting[index]:
                if self._num_bytes > MOST_WAITING:
                    self._apart.add(index)
                    return None
                try:
                    packet = next(self._packets, None)
                except av.FFmpegError as failure:
                    packet, self._failure = None, failure
                if packet is None and self._failure:
                    raise self._failure
                if packet is None:
                    return None
                if packet.stream.index not in self._apart:
                    self._waiting[packet.stream.index].append(packet)
                    self._num_bytes += packet.size + PACKET_BYTES
            packet = self._waiting[index].popleft()
            self._num_bytes -= packet.size + PACKET_BYTES
            return packet


def displayed_size(picture: av.VideoFrame, stream: Stream) -> tuple[int, int]:
    """(width, height) in square pixels, upright."""
    width, height = picture.width, picture.height
    aspect_ratio = stream.sample_aspect_ratio
    if aspect_ratio and 1 / WIDEST_PIXEL <= aspect_ratio <= WIDEST_PIXEL:
        width = max(1, round(width * aspect_ratio))
    return (height, width) if orientation_of(picture)[0] else (width, height)


def orientation_of(picture: av.VideoFrame) -> tuple[bool, bool, bool]:
    """Of its display matrix: whether rows and columns change places, and whether then the columns
    run from right to left, and the rows from below."""
    try:
        matrix = np.frombuffer(picture.side_data["DISPLAYMATRIX"], np.int32)
    except (KeyError, ValueError):  # it has none; PyAV does not know a kind of its side data
        return False, False, False
    a, b, _, c, d = (float(value) for value in matrix[:5])  # (x, y) -> (ax + cy, bx + dy)
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


class OrientationReader:
    """[`orientation_of`] of the pictures of one track, each kind read once: the side data of PyAV
    holds its picture, 12 MB of 4K, until the garbage collector comes by."""

    def __init__(self):
        self._known: dict[int, tuple[bool, bool, bool]] = {}  # by the degrees that a picture says

    def read(self, picture: av.VideoFrame) -> tuple[bool, bool, bool]:
        if picture.rotation not in self._known:
            self._known[picture.rotation] = orientation_of(picture)
        return self._known[picture.rotation]


UNTAGGED, PQ, HLG = 2, 16, 18  # of ITU-T H.273
HD = (1280, 577)  # pixels; from either on players take untagged pictures for BT.709, not BT.601


def to_rgb24(picture: av.VideoFrame, width: int, height: int) -> np.ndarray:
    """A decoded picture, scaled: `(height, width, 3)` uint8. HDR (PQ, HLG) is tone mapped."""
    options: dict[str, Any] = {"width": width, "height": height}
    if picture.colorspace == UNTAGGED and (picture.width >= HD[0] or picture.height >= HD[1]):
        options["src_colorspace"] = "ITU709"
    if picture.color_trc in (PQ, HLG):
        codes = picture.reformat(**options, format="rgb48le").to_ndarray()
        return tone_map(codes, picture.color_trc)
    return picture.reformat(**options, format="rgb24").to_ndarray()


WHITE, PEAK = 203.0, 1000.0  # cd/m2: reference white of HDR (BT.2408), and nominal peak of HLG
KNEE = 0.5  # of white; what is brighter is bent so that nothing is cut
FROM_BT2020 = np.array(  # linear RGB of BT.2020 -> BT.709 (BT.2087)
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
LUMINANCE = np.array([0.2627, 0.678, 0.0593], np.float32)  # of linear RGB of BT.2020


def tone_map(codes: np.ndarray, transfer: int) -> np.ndarray:
    """`(h, w, 3)` uint16 of BT.2020 with PQ or HLG -> uint8 of BT.709, as it is up to half of
    white."""
    light = _light_of(transfer)[codes]  # of white
    if transfer == HLG:  # scene light until here (BT.2100, OOTF)
        light *= PEAK / WHITE * ((light @ LUMINANCE).clip(1e-6) ** 0.2)[..., None]
    light = (light @ FROM_BT2020.T).clip(0)
    brightest = light.max(axis=-1, keepdims=True).clip(1e-6)
    bent = 1 - (1 - KNEE) ** 2 / (1 - 2 * KNEE + brightest.clip(KNEE))
    light *= np.where(brightest > KNEE, bent / brightest, 1)
    return np.rint(255 * light ** (1 / 2.4)).astype(np.uint8)  # BT.1886


@cache
def _light_of(transfer: int) -> np.ndarray:
    """Of each 16-bit code (BT.2100): display light of white with PQ, scene light of its peak with
    HLG."""
    code = np.arange(2**16) / (2**16 - 1)
    if transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    else:
        m1, m2, c1, c2, c3 = 1305 / 8192, 2523 / 32, 107 / 128, 2413 / 128, 2392 / 128
        power = code ** (1 / m2)
        light = 1e4 / WHITE * ((power - c1).clip(0) / (c2 - c3 * power)) ** (1 / m1)
    return light.astype(np.float32)


def clock_broke(before: float, now: float, declared: float | None) -> bool:
    """Whether a time stamp `now` after `before` (s) cannot be meant, in a file that declares a
    length (s)."""
    latest = before + LONGEST_GAP if declared is None else max(before, declared) + CLOCK_LEAP
    return now > latest or now < before - CLOCK_RESTART


@cache
def warn_once(message: str) -> None:
    """A file is read more than once: its damage is reported once."""
    logger.warning(message)


@dataclass(frozen=True)
class Frame:
    """One frame on display from `time` to `end`, in s from the first picture; `index` is its number
    among all that the file shows, from 0; `orientation` is that of [`orientation_of`]."""

    time: float
    end: float
    picture: av.VideoFrame
    size: tuple[int, int]
    index: int
    orientation: tuple[bool, bool, bool]

    @property
    def rgb(self) -> np.ndarray:
        """`(height, width, 3)` uint8, upright, of the video's size even where the stream changes
        its own; made anew each time, since of 4K it takes 25 MB."""
        transposed, from_right, from_below = self.orientation
        rgb = to_rgb24(self.picture, *(self.size[::-1] if transposed else self.size))
        rgb = rgb.swapaxes(0, 1) if transposed else rgb
        return np.ascontiguousarray(rgb[:: -1 if from_below else 1, :: -1 if from_right else 1])


def read_frames(source: VideoSource) -> Iterator[Frame]:
    """Every frame of a video, in order; one after the other without gaps or overlaps, at any
    frame rate. Interlaced ones are deinterlaced.

    Raises:
        ValueError: the file is no video: see [`probe_video`].
    """
    info = probe_video(source)
    with _open(source, "video") as container:
        stream, deinterlacer = picture_stream(container), Deinterlacer()
        orientations = OrientationReader()
        timed = _timed(_stamped(container, stream), info)
        for (time, index, picture), (end, _, _) in pairwise(timed):
            for known, whole in deinterlacer.push(picture, (time, end, info.size, index)):
                yield Frame(*known[:2], whole, *known[2:], orientations.read(whole))
        for known, whole in deinterlacer.push(None):
            yield Frame(*known[:2], whole, *known[2:], orientations.read(whole))


class Deinterlacer:
    """Frames that are flagged as interlaced become whole ones (FFmpeg's bwdif), one for each; all
    others are left as they are."""

    def __init__(self):
        self._graph, self._form = None, None
        self._known: deque[Any] = deque()  # of the frames inside the graph

    def push(
        self, picture: av.VideoFrame | None, known: Any = None
    ) -> Iterator[tuple[Any, av.VideoFrame]]:
        """Yield (what was known of it, whole picture) as they are complete, in order; None is the
        end."""
        form = picture and (picture.width, picture.height, picture.format.name)
        if self._graph and form != self._form:
            self._graph.push(None)
            yield from self._pull()
            self._graph = None
        if picture is None:
            return
        if self._graph is None:
            if not picture.interlaced_frame:
                yield known, picture
                return
            self._graph, self._form = _make_deinterlacing_graph(picture), form
        self._known.append(known)
        self._graph.push(picture)
        yield from self._pull()

    def _pull(self) -> Iterator[tuple[Any, av.VideoFrame]]:
        while self._known:
            try:
                picture = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            yield self._known.popleft(), picture


def _make_deinterlacing_graph(picture: av.VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=picture.width,
        height=picture.height,
        format=picture.format,
        time_base=picture.time_base,
    )
    graph.link_nodes(
        source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink")
    )
    graph.configure()
    return graph


MOST_REORDERED = 16  # pictures, in any codec


class DisplayOrder:
    """Time stamps of the pictures of one track, in the decoder's order, which is that of display.

    AVI keeps no times of display: its stamps rise in the order of decoding, and are sorted here.
    """

    def __init__(self, container: InputContainer, stream: Stream):
        self._stream, self._is_avi = stream, container.format.name == "avi"
        self._waiting: deque[av.VideoFrame] = deque()
        self._stamps: list[float] = []

    def push(self, picture: av.VideoFrame | None) -> Iterator[tuple[float | None, av.VideoFrame]]:
        """Yield (time stamp in s, picture) as they are known; None is the end."""
        if picture is not None:
            self._waiting.append(picture)
            if picture.time is not None:
                heappush(self._stamps, picture.time)
        reordered = self._is_avi and self._stream.codec_context.has_b_frames
        most = MOST_REORDERED if picture is not None and reordered else 0
        while len(self._waiting) > most:
            picture = self._waiting.popleft()
            known = self._is_avi or picture.time is not None
            yield (heappop(self._stamps) if known and self._stamps else None), picture


def _stamped(
    container: InputContainer, stream: Stream
) -> Iterator[tuple[float | None, av.VideoFrame]]:
    """(time stamp in s, picture); see [`DisplayOrder`]."""
    order = DisplayOrder(container, stream)
    for picture in chain(decode(container, stream), [None]):
        yield from order.push(picture)


RESTART_PICTURES = 5  # that must come of a clock that fell back, before it is believed


def _timed(
    stamped: Iterator[tuple[float | None, av.VideoFrame]], info: VideoInfo
) -> Iterator[tuple[float, int, av.VideoFrame | None]]:
    """(time, number in the file, picture), times strictly rising from 0; at last (end, number,
    None)."""
    usual = 1 / info.frame_rate  # s from one frame to the next
    time, length, index = -usual, usual, -1
    for index, (now, picture) in enumerate(_on_one_clock(stamped, info)):
        if now > time:  # else a second frame for the same moment
            length = float((picture.duration or 0) * (picture.time_base or 0))
            time, length = now, length if 0 < length <= LONGEST_GAP else usual
            yield time, index, picture
    yield time + length, index + 1, None


def _on_one_clock(
    stamped: Iterator[tuple[float | None, av.VideoFrame]], info: VideoInfo
) -> Iterator[tuple[float, av.VideoFrame]]:
    """(s from the first picture, picture), though the file's clock restarts or leaps.

    What does not follow at once, or falls back by a second, is held until more has come: one
    picture with a stamp out of time is put between its neighbours, only several are another clock.
    """
    usual, start, time = 1 / info.frame_rate, info.start_time, -1 / info.frame_rate
    held: list[tuple[float, av.VideoFrame]] = []

    def release() -> Iterator[tuple[float, av.VideoFrame]]:
        nonlocal start, time
        for stamp, picture in held:
            if clock_broke(time, stamp - start, info.duration):
                start = stamp - (time + usual)
            time = max(time, stamp - start)
            yield stamp - start, picture
        held.clear()

    for stamp, picture in stamped:
        now = time + usual if stamp is None else stamp - start
        if not -CLOCK_RESTART <= now - time <= 3 * usual:
            held.append((stamp, picture))
            if len(held) == (2 if held[0][0] - start > time else RESTART_PICTURES):
                yield from release()
            continue
        for number, (_, odd) in enumerate(held, start=1):
            yield time + (now - time) * number / (len(held) + 1), odd
        held.clear()
        time = max(time, now)
        yield now, picture
    yield from release()


JITTER = 0.03  # s; time stamps this far off are rounding, not a gap
LOUDEST = 2.0**31  # of a sample, where 1 is full scale: what a file may hold of unscaled integers


def read_sound(
    source: VideoSource, sampling_rate: int, layout: str | None = None, start_time: float = 0.0
) -> Iterator[np.ndarray]:
    """The sound from `start_time` to its end, without gaps or overlaps; nothing if there is no
    sound track.

    Args:
        source: of the sound, a video or any other media file.
        sampling_rate: Hz; anything else is resampled.
        layout: see [`SoundResampler`].
        start_time: s on the file's clock, the first sample returned.

    Yields:
        `(channels, samples)` float32, full scale at 1, at most a second at a time. Silence stands
        where the file has nothing.

    Raises:
        ValueError: the file is no media file, or its sound holds what is no sound.
    """
    with _open(source, "audio") as container:
        stream = sound_stream(container)
        if stream is None:
            return
        declared = _believe(container.duration and container.duration / av.time_base)
        written, resampler = 0, SoundResampler(sampling_rate, layout)
        for frame in chain(decode(container, stream), [None]):
            for time, samples in resampler.push(frame):
                if not is_sound(samples):
                    raise ValueError(
                        f"{name_of(source)}: its sound holds samples of {np.abs(samples).max():.3g}"
                        ", full scale is 1: it is damaged; remove or repair the sound track"
                    )
                before = written / sampling_rate
                now = before if time is None else time - start_time
                is_early = not written and now < 0  # from before the first frame
                if (abs(now - before) <= JITTER and written) or (
                    clock_broke(before, now, declared) and not is_early
                ):
                    now = before
                shift = round(now * sampling_rate) - written
                for block in _placed(samples, shift, sampling_rate):
                    written += block.shape[1]
                    yield block


def sound_stream(container: InputContainer) -> Stream | None:
    """The sound track; None where there is none that can be decoded, with a warning if there is one
    of an unknown codec."""
    stream = container.streams.best("audio")
    if stream is not None and stream.codec_context is None:
        warn_once(f"{container.name}: its sound is of a codec that FFmpeg cannot decode: left out")
        return None
    return stream


def is_sound(samples: np.ndarray) -> bool:
    """Whether all samples are finite, and none is far beyond full scale."""
    return bool(np.abs(samples).max(initial=0) <= LOUDEST)  # NaN is not


def _placed(samples: np.ndarray, shift: int, longest: int) -> Iterator[np.ndarray]:
    """`samples (channels, n)`, after `shift` zeros or, where negative, without what has been said
    already."""
    for begin in range(0, shift, longest):
        yield np.zeros((len(samples), min(longest, shift - begin)), dtype=np.float32)
    samples = samples[:, max(0, -shift) :]
    for begin in range(0, samples.shape[1], longest):
        yield samples[:, begin : begin + longest]


class SoundResampler:
    """Frames of sound to float arrays: the only place that makes an array of a frame.

    More than two channels become two as FFmpeg mixes them (the centre and the surrounds at -3 dB),
    and two become one as their mean: a voice in the centre is as loud as in a stereo file. Channels
    without a known place are averaged. A stream may change its rate or channels on the way.

    Args:
        sampling_rate: Hz; anything else is resampled. None keeps that of the first frame.
        layout: "mono" or "stereo"; None keeps one or two channels.
    """

    def __init__(self, sampling_rate: int | None, layout: str | None = None):
        if layout not in ("mono", "stereo", None):
            raise ValueError(f"layout must be 'mono', 'stereo' or None, got {layout!r}")
        self.sampling_rate, self.layout = sampling_rate, layout
        self._resampler, self._form = None, None

    def push(self, frame: av.AudioFrame | None) -> Iterator[tuple[float | None, np.ndarray]]:
        """Yield (time in s, samples `(channels, n)` float32) as they are complete; None is the
        end."""
        if frame is not None:
            form = (frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.rate)
            if form != self._form:
                yield from self.push(None)
                self._form = form
                self._resampler = self._make_resampler("stereo" if form[2] > 2 else None)
        for resampled in self._resample(frame):
            if resampled is not None:  # a resampler with nothing to change hands even its None back
                yield resampled.time, self._mix(resampled)

    def _make_resampler(self, layout: str | None) -> av.AudioResampler:
        # Packed: PyAV counts the planes of eight or more planar channels wrongly, and an array of
        # them reads beyond the frame.
        return av.AudioResampler(format="flt", layout=layout, rate=self.sampling_rate)

    def _resample(self, frame: av.AudioFrame | None) -> list[av.AudioFrame | None]:
        try:
            return self._resampler.resample(frame) if self._resampler else []
        except av.FFmpegError:
            if frame is None or self._resampler.layout.nb_channels == frame.layout.nb_channels:
                raise
            self._resampler = self._make_resampler(None)  # FFmpeg knows no downmix
            return self._resampler.resample(frame)

    def _mix(self, frame: av.AudioFrame) -> np.ndarray:
        num_channels = frame.layout.nb_channels
        samples = frame.to_ndarray().reshape(-1, num_channels).T  # (1, n * channels)
        if num_channels > 2 or (num_channels == 2 and self.layout == "mono"):
            samples = samples.mean(axis=0, keepdims=True)
        if len(samples) == 1 and self.layout == "stereo":
            samples = np.repeat(samples, 2, axis=0)
        return samples


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
    with closing(OpenVideo(info)) as video:
        for (frame, length), audio in zip(
            _pictures_by_second(video), sound_by_second(video, sampling_rate), strict=False
        ):
            duration += length
            yield Step(frame, audio, length)
    check_length(info, duration)


def check_length(info: VideoInfo, duration: float) -> None:
    """Warn where frames end, after `duration` s, long before the file says."""
    if info.duration and duration < info.duration - 1:
        warn_once(
            f"{info.name}: frames end after {duration:.1f} s of the {info.duration:.1f} s that "
            "the file declares"
        )


def _pictures_by_second(source: VideoSource) -> Iterator[tuple[np.ndarray, float]]:
    """(the frame on display at k seconds, the step's length in s), k = 0, 1, ...; the tail joins
    the last step."""
    second, waiting = 0, []
    for frame in read_frames(source):
        while frame.end > second + 1e-6 or not second:
            waiting.append(frame.rgb)
            second += 1
            if len(waiting) > 2:
                yield waiting.pop(0), 1.0
        if len(waiting) == 2 and frame.end >= second - 1 + SHORTEST_STEP:
            yield waiting.pop(0), 1.0
    if waiting:
        yield waiting[0], frame.end - (second - len(waiting))


def sound_by_second(source: VideoSource, sampling_rate: int) -> Iterator[np.ndarray | None]:
    """Mono seconds, the last one cut short, then empty ones for ever."""
    info = probe_video(source)
    if not info.has_audio:
        yield from repeat(None)
    heard = np.zeros(0, dtype=np.float32)
    for block in read_sound(source, sampling_rate, "mono", info.start_time):
        heard = np.concatenate([heard, block[0]])  # (1, samples) -> (samples,)
        while len(heard) >= sampling_rate:
            yield heard[:sampling_rate]
            heard = heard[sampling_rate:]
    yield heard
    yield from repeat(heard[:0])


def read_wav(sound: bytes) -> np.ndarray:
    """`(channels, samples)` float32 at the file's own rate, one channel or two."""
    resampler = SoundResampler(None)
    with av.open(io.BytesIO(sound)) as container:
        frames = chain(container.decode(audio=0), [None])
        blocks = [samples for frame in frames for _, samples in resampler.push(frame)]
    return np.concatenate(blocks, axis=1)


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
    if not frame.size:
        raise ValueError(f"a frame must have pixels, got {frame.shape}")
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
    "OpenVideo",
    "Step",
    "VideoInfo",
    "VideoSource",
    "probe_video",
    "read_frames",
    "read_sound",
    "read_steps",
    "to_rgb",
]
