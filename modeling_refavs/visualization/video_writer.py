"""Files that appear whole or not at all, videos with sound among them: H.264, and VP9 with
transparency."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from ..inference.export import frame_name
from ..utils.files import whole_file, whole_folder
from ..video_refavs import LARGE_PICTURE
from .yuv import from_rgb


MAX_SIDE = 16_384  # pixels, of both encoders
VIDEO_CLOCK = 90_000  # ticks/s: exact for 24, 25, 29.97, 30 and 60 frames/s
SOUND_RATE = 48_000  # Hz
SOUND_LAYOUT = "stereo"
WAITING_BYTES = 25_000_000  # of pictures that are drawn while the encoder is busy


@dataclass(frozen=True)
class Encoding:
    """What FFmpeg calls the two codecs of a container, and how they are set."""

    video: str
    sound: str
    options: dict[str, str]


# No B-frames and no alternate reference: the last picture's length, variable rates and transparency
# survive.
H264 = Encoding("libx264", "aac", {"crf": "20", "preset": "veryfast", "bf": "0"})
VP9 = Encoding(
    "libvpx-vp9",
    "libopus",
    {
        "crf": "24",
        "b": "0",
        "deadline": "good",
        "cpu-used": "5",
        "row-mt": "1",
        "auto-alt-ref": "0",
    },
)
# Of graphics units, tried in this order; qualities that look like the one above. h264_vaapi takes
# no frames out of the processor's memory.
HARDWARE = (
    Encoding("h264_nvenc", "aac", {"rc": "vbr", "cq": "23", "b": "0", "preset": "p4", "bf": "0"}),
    Encoding("h264_videotoolbox", "aac", {"flags": "+qscale", "global_quality": "7700", "bf": "0"}),
)
ENCODINGS = {".mp4": H264, ".mov": H264, ".mkv": H264, ".webm": VP9}
TRANSPARENT_SUFFIXES = (".webm",)


class VideoWriter:
    """Writes pictures at their own times, and a sound track beside them: made by
    [`write_video`]."""

    def __init__(
        self,
        container: av.container.OutputContainer,
        encoding: Encoding,
        size: tuple[int, int],
        frame_rate: float,
        sound: Iterator[np.ndarray] | None,
        transparent: bool,
        threads: int,
    ):
        self.container, self.size, self.sound = container, size, sound
        rate = Fraction(frame_rate).limit_denominator(1001)
        options = encoding.options
        if encoding is H264 and size[0] * size[1] > LARGE_PICTURE:
            # It holds ten pictures to look ahead, 22 MB each in 4K: at equal size, two cost 0.4 dB.
            # One more is for a thread that looks ahead, which makes nothing faster here.
            options = {**options, "rc-lookahead": "2", "x264-params": "sync-lookahead=0"}
        self.video = container.add_stream(encoding.video, rate=rate, options=options)
        self.video.width, self.video.height = (side + side % 2 for side in size)
        self.video.pix_fmt = "yuva420p" if transparent else "yuv420p"
        self._form = (*size, 4 if transparent else 3)
        self._yuv_form = (self.video.width, self.video.height, self.video.pix_fmt)
        self.video.thread_type = "FRAME"
        context = self.video.codec_context
        context.thread_count = threads
        context.time_base = Fraction(1, VIDEO_CLOCK)
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        context.color_range = 1  # studio levels
        self.lengths: dict[int, int] = {}  # of pictures inside the encoder, by their pts, in ticks
        self.next_pts = self.sound_samples = 0
        self._encoder = ThreadPoolExecutor(max_workers=1)
        self._encoding: deque[Future[None]] = deque()
        picture_bytes = self.video.width * self.video.height * 3 // 2
        self._most_waiting = max(1, WAITING_BYTES // picture_bytes)
        if sound is not None:
            self.audio = container.add_stream(encoding.sound, rate=SOUND_RATE, layout=SOUND_LAYOUT)

    def write(self, picture: np.ndarray | av.VideoFrame, time: float, end: float) -> None:
        """Show a picture from `time` to `end` (s); later calls have later times.

        It is encoded by a thread, and its errors come with a later call.

        Args:
            picture: `(height, width, 3)` uint8 RGB, or RGBA in a transparent video; or a yuv420p
                frame of BT.709 in studio levels, of even sides, that nobody else writes to.
        """
        form = _form_of(picture)
        if form not in (self._form, self._yuv_form):
            raise ValueError(
                f"pictures must be {self.size} (width, height) of {self._form[2]} channels as the "
                f"video is, got {form[:2]} of {form[2]}"
            )
        if len(self._encoding) == self._most_waiting:
            self._encoding.popleft().result()
        self._encoding.append(self._encoder.submit(self._encode, picture, time, end))

    def _encode(self, picture: np.ndarray | av.VideoFrame, time: float, end: float) -> None:
        if isinstance(picture, np.ndarray):
            picture = from_rgb(picture, self.video.pix_fmt)
        picture.time_base = Fraction(1, VIDEO_CLOCK)
        picture.pts = self.next_pts = max(round(time * VIDEO_CLOCK), self.next_pts)
        self.next_pts += 1
        self.lengths[picture.pts] = max(1, round(end * VIDEO_CLOCK) - picture.pts)
        self._mux_pictures(picture)
        self._mux_sound(until=time)

    def finish(self) -> None:
        """Empty the encoders, and write what is left of the sound."""
        while self._encoding:
            self._encoding.popleft().result()
        self._mux_pictures(None)
        if self.sound is not None:
            self._mux_sound(until=float("inf"))
            self.container.mux(self.audio.encode(None))

    def close(self) -> None:
        """Leave what is not encoded yet."""
        self._encoder.shutdown(cancel_futures=True)

    def _mux_pictures(self, frame: av.VideoFrame | None) -> None:
        for packet in self.video.encode(frame):
            packet.duration = self.lengths.pop(packet.pts)
            self.container.mux(packet)

    def _mux_sound(self, until: float) -> None:
        """Sound up to `until` seconds, so that pictures and sound lie side by side in the file."""
        while self.sound is not None and self.sound_samples <= until * SOUND_RATE:
            block = next(self.sound, None)
            if block is None:
                return
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(block), format="fltp", layout=SOUND_LAYOUT
            )
            frame.sample_rate, frame.time_base = SOUND_RATE, Fraction(1, SOUND_RATE)
            frame.pts = self.sound_samples
            self.sound_samples += block.shape[1]
            self.container.mux(self.audio.encode(frame))


@contextmanager
def write_video(
    path: str | Path,
    size: tuple[int, int],
    frame_rate: float,
    sound: Iterator[np.ndarray] | None = None,
    transparent: bool = False,
    encoder: str = "libx264",
    threads: int = 0,
) -> Iterator[VideoWriter]:
    """Write a video that browsers play; it takes its name only when it is complete.

    Args:
        path: ends in .mp4, .mov or .mkv (H.264 with AAC), or in .webm (VP9 with Opus).
        size: (width, height); the colours are stored for 2x2 pixels together, so an odd side gains
            a pixel.
        frame_rate: mean frames/s, for the encoder's budget; pictures are shown at their own times.
        sound: blocks `(2, samples)` float32 at 48 kHz from time 0, as [`read_sound`] yields; None
            for a silent video.
        transparent: pictures are RGBA; .webm alone can keep that.
        encoder: of H.264: libx264; or auto, a graphics unit's if there is one.
        threads: of libx264 and of VP9; 0: as many as there are processors.

    Raises:
        ValueError: the suffix is another, or cannot be transparent.
    """
    encoding, suffix = encoding_of(path), Path(path).suffix.lower()
    if transparent and suffix not in TRANSPARENT_SUFFIXES:
        raise ValueError(
            f"{path}: {suffix} cannot be transparent: use {', '.join(TRANSPARENT_SUFFIXES)}"
        )
    check_size(path, size)
    if encoder == "auto" and encoding is H264:
        encoding = next((each for each in HARDWARE if _opens(each, size)), H264)
    starts_fast = suffix in (
        ".mp4",
        ".mov",
    )  # its index first: a browser plays it before it is all there
    options = {"movflags": "+faststart"} if starts_fast else {}
    with (
        whole_file(path) as unfinished,
        av.open(str(unfinished.absolute()), "w", options=options) as container,
    ):
        writer = VideoWriter(container, encoding, size, frame_rate, sound, transparent, threads)
        with closing(writer):
            yield writer
            writer.finish()


def _form_of(picture: np.ndarray | av.VideoFrame) -> tuple[int, int, int | str]:
    """Width, height, and the number of channels or the pixel format."""
    if isinstance(picture, np.ndarray):
        return picture.shape[1], picture.shape[0], picture.shape[2]
    return picture.width, picture.height, picture.format.name


def _opens(encoding: Encoding, size: tuple[int, int]) -> bool:
    try:
        context = av.CodecContext.create(encoding.video, "w")
        context.width, context.height = (side + side % 2 for side in size)
        context.pix_fmt, context.framerate = "yuv420p", 25
        context.time_base, context.options = Fraction(1, VIDEO_CLOCK), encoding.options
        context.open()
    except (av.FFmpegError, av.codec.codec.UnknownCodecError):
        return False
    return True


def check_size(path: str | Path, size: tuple[int, int]) -> None:
    """Raise `ValueError` for a (width, height) that the encoders do not take."""
    if max(size) > MAX_SIDE:
        raise ValueError(
            f"{path}: a video has at most {MAX_SIDE} pixels a side, this one would have "
            f"{size[0]}x{size[1]}: write a folder of PNGs (a name without a suffix)"
        )


def encoding_of(path: str | Path) -> Encoding:
    """The codecs that go with a suffix; `ValueError` for a container that cannot be written."""
    encoding = ENCODINGS.get(Path(path).suffix.lower())
    if encoding is None:
        raise ValueError(
            f"{path}: the output must end in {', '.join(ENCODINGS)} (H.264 with AAC; .webm: VP9 "
            "with Opus)"
        )
    return encoding


# of PNG's compression levels 0 to 9: half the time of the usual 6, files a few percent larger
FAST = 3


class FrameFolderWriter:
    """Takes numbered pictures: made by [`write_frame_folder`]."""

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, picture: np.ndarray, index: int) -> None:
        """`picture (height, width, 3 or 4)` uint8, RGB or RGBA, of frame number `index`."""
        Image.fromarray(picture).save(self.folder / frame_name(index), compress_level=FAST)


@contextmanager
def write_frame_folder(folder: str | Path) -> Iterator[FrameFolderWriter]:
    """Write `folder/frame_000000.png` and so on; the folder, new or empty, appears when it is
    complete."""
    with whole_folder(folder) as unfinished:
        yield FrameFolderWriter(unfinished)
