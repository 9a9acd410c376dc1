"""Clips made on the spot, each irregular in one way, and a causal stand-in for the model."""

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from transformers import BatchFeature

from modeling_refavs.eemc import RefAVSCueMemory, RefAVSMemory


CLOCK = Fraction(1, 1000)
TEN_A_SECOND = tuple(np.arange(30) / 10)  # s


def level_of(index: int) -> int:
    """The grey of frame `index`, by which a test knows it again after compression."""
    return 20 + 3 * index


def tone(seconds: float, rate: int = 16000, channels: int = 1, loudness: float = 0.5) -> np.ndarray:
    """`(channels, samples)` float32: a hum that is nowhere zero for long."""
    wave = loudness * np.cos(2 * np.pi * 250 * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[None].astype(np.float32), channels, axis=0)


def beeps(seconds: int, rate: int = 16000, channels: int = 1) -> np.ndarray:
    """`(channels, samples)` float32: second k is a tone of its own, known by [`beep_of`]."""
    time = np.arange(rate) / rate
    wave = np.concatenate([np.cos(2 * np.pi * (400 + 100 * k) * time) for k in range(seconds)])
    return np.repeat(0.5 * wave[None].astype(np.float32), channels, axis=0)


def beep_of(samples: np.ndarray, rate: int = 16000) -> int | None:
    """Which second of [`beeps`] these `(samples,)` are of; None if they are silent."""
    if np.abs(samples).max(initial=0) < 0.05:
        return None
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return round((spectrum.argmax() * rate / len(samples) - 400) / 100)


PATCHES = {"red": (200, 30, 30), "green": (30, 160, 40), "blue": (40, 60, 200), "grey": (128,) * 3}


def patches(size: tuple[int, int]) -> np.ndarray:
    """A picture `(height, width, 3)` of four quarters: red and green above, blue and grey below."""
    colours = np.array(list(PATCHES.values()), dtype=np.uint8).reshape(2, 2, 3)
    return colours.repeat(size[1] // 2, axis=0).repeat(size[0] // 2, axis=1)


def patches_of(rgb: np.ndarray) -> np.ndarray:
    """`(2, 2, 3)`: the colour in the middle of each quarter."""
    height, width = rgb.shape[0] // 4, rgb.shape[1] // 4
    return rgb[height :: 2 * height, width :: 2 * width][:2, :2].astype(int)


COUNTER = (128, 96)  # pixels (width, height)


def counter(number: int, size: tuple[int, int] = COUNTER) -> np.ndarray:
    """A picture that holds its number, in eight stripes that are black or white."""
    bits = (number >> np.arange(8)) & 1
    row = np.repeat(np.where(bits, 235, 20), size[0] // 8).astype(np.uint8)
    return np.broadcast_to(row[None, :, None], (size[1], size[0], 3)).copy()


def number_of(rgb: np.ndarray) -> int:
    """Of a picture that [`counter`] drew."""
    middles = (np.arange(8) * 2 + 1) * rgb.shape[1] // 16
    stripes = rgb[rgb.shape[0] // 2, middles].mean(axis=-1)
    return int(((stripes > 128) << np.arange(8)).sum())


def flag_fields(frame: av.VideoFrame, fields: str) -> av.VideoFrame:
    """The same frame, said to be interlaced, its top or bottom field the earlier."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    graph.link_nodes(source, graph.add("setfield", fields), graph.add("buffersink"))
    graph.configure()
    graph.push(frame)
    return graph.pull()


def write_movie(
    path: Path,
    pictures: list[np.ndarray],
    rate: Fraction | int = 25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    sound: np.ndarray | None = None,
    sound_codec: str = "aac",
    sound_rate: int = 16000,
    times: list[float] | None = None,
    matrix: str = "ITU601",
    tags: dict[str, int] | None = None,
    aspect: Fraction | None = None,
    fields: str | None = None,
    options: dict[str, str] | None = None,
    movflags: str = "",
    mux: Callable[[av.Packet], av.Packet | None] = lambda packet: packet,
) -> Path:
    """Write RGB pictures of one size, at a rate or at `times` (s), with sound from time 0.

    Args:
        matrix: by which RGB becomes YUV; `tags` say so in the file, or nothing.
        tags: such as `colorspace`, `color_range`, `color_trc`, `color_primaries`, as H.273 counts.
        aspect: width of a pixel over its height.
        fields: "tff" or "bff" of pictures that are woven of two.
        movflags: of an MP4, such as "+faststart": its index stands first.
        mux: takes each packet, of pictures and sound; None leaves it out.
    """
    clock = Fraction(1, 1000) if times else 1 / Fraction(rate)
    full = (tags or {}).get("color_range") == 2
    flags = {"movflags": movflags} if movflags else {}
    with av.open(str(path), "w", options=flags) as container:
        video = container.add_stream(codec, rate=rate, options=options or {})
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt, video.codec_context.time_base = pix_fmt, clock
        if aspect:
            video.codec_context.sample_aspect_ratio = aspect
        for name, value in (tags or {}).items():
            setattr(video.codec_context, name, value)
        audio = None
        if sound is not None:
            audio = container.add_stream(sound_codec, rate=sound_rate, layout=f"{len(sound)}c")
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture).reformat(
                format=pix_fmt, dst_colorspace=matrix, dst_color_range="JPEG" if full else "MPEG"
            )
            frame.pts, frame.time_base = round(times[index] / clock) if times else index, clock
            if fields:
                frame = flag_fields(frame, fields)
            container.mux([kept for packet in video.encode(frame) if (kept := mux(packet))])
        container.mux([kept for packet in video.encode(None) if (kept := mux(packet))])
        if audio:
            for begin in range(0, sound.shape[1], sound_rate // 4):
                block = sound[:, begin : begin + sound_rate // 4]
                packets = audio.encode(sound_frame(block, sound_rate, begin / sound_rate))
                container.mux([kept for packet in packets if (kept := mux(packet))])
            container.mux([kept for packet in audio.encode(None) if (kept := mux(packet))])
    if codec == "libsvtav1" and hasattr(os, "sched_setscheduler"):
        # Where root runs it, it makes this a real-time thread, and workers that are forked later,
        # which keep all other processes from running
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return path


def sound_frame(
    samples: np.ndarray, rate: int = 16000, start: float = 0.0, layout: str | None = None
) -> av.AudioFrame:
    """`samples (channels, n)` as a packed frame: PyAV makes no planar one of many channels."""
    frame = av.AudioFrame("flt", layout or f"{len(samples)} channels", samples.shape[1])
    frame.planes[0].update(np.ascontiguousarray(samples.T, dtype=np.float32).ravel())
    frame.sample_rate, frame.pts, frame.time_base = rate, round(start * rate), Fraction(1, rate)
    return frame


def write_sound(
    path: Path, samples: np.ndarray, codec: str, layout: str, rate: int = 16000, **options: str
) -> Path:
    """Write `samples (channels, n)` alone."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout, options=options)
        container.mux(stream.encode(sound_frame(samples, rate, layout=layout)))
        container.mux(stream.encode(None))
    return path


def read_transparent(path: Path) -> list[np.ndarray]:
    """A VP9 video's frames `(height, width, 4)` RGBA; FFmpeg's own decoder, which PyAV takes,
    drops the transparency."""
    decoder, pictures = av.CodecContext.create("libvpx-vp9", "r"), []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            for frame in decoder.decode(packet if packet.size else None):
                pictures.append(frame.reformat(format="rgba", src_colorspace="ITU709").to_ndarray())
    return pictures


@pytest.fixture
def write_clip(tmp_path) -> Callable[..., Path]:
    """Writes `name` with grey frames at `times` (s) up to `end`, and pieces of sound (start in s,
    samples)."""

    def write(
        name="clip.mkv",
        times=TEN_A_SECOND,
        end=3.0,
        size=(64, 48),
        sound=(),
        rate=16000,
        codec="libx264",
        sound_codec="pcm_s16le",
        pix_fmt="yuv420p",
        aspect=None,
        layout=None,
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            video = container.add_stream(codec, rate=10, options={"crf": "8", "bf": "0"})
            video.width, video.height, video.pix_fmt = *size, pix_fmt
            video.codec_context.time_base = CLOCK
            if aspect:
                video.codec_context.sample_aspect_ratio = aspect
            layout = layout or (f"{len(sound[0][1])}c" if sound else None)
            audio = sound and container.add_stream(sound_codec, rate=rate, layout=layout)
            ends = {
                round(a * 1000): round((b - a) * 1000)
                for a, b in zip(times, [*times[1:], end], strict=True)
            }
            for index, time in enumerate(times):
                picture = np.full((size[1], size[0], 3), level_of(index), dtype=np.uint8)
                picture[: size[1] // 4, : size[0] // 4] = 255  # which corner is the upper left one
                frame = av.VideoFrame.from_ndarray(picture)
                frame.pts, frame.time_base = round(time * 1000), CLOCK
                for packet in video.encode(frame):
                    packet.duration = ends[packet.pts]
                    container.mux(packet)
            for packet in video.encode(None):
                packet.duration = ends[packet.pts]
                container.mux(packet)
            for start, samples in sound:
                frame = sound_frame(samples, rate, start, layout)
                container.mux(audio.encode(frame))
            if sound:
                container.mux(audio.encode(None))
        return path

    return write


def set_matrix(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Set the display matrix (a, b, c, d) of an MP4's first track."""
    data = bytearray(path.read_bytes())
    begin = data.index(b"tkhd") + 4 + 40
    for place, value in zip((0, 4, 12, 16), matrix, strict=True):
        data[begin + place : begin + place + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    return path


def shift_picture(path: Path, number: int, seconds: float) -> Path:
    """Move the time stamp of picture `number` of a transport stream without B-frames."""
    data, begin = bytearray(path.read_bytes()), -1
    for _ in range(number + 1):
        begin = data.index(b"\0\0\1\xe0", begin + 1)  # a packet of the first video track
    stamp = data[begin + 9 : begin + 14]  # 33 bits in five bytes (ISO 13818-1, PTS)
    pts = (stamp[0] >> 1 & 7) << 30 | stamp[1] << 22 | stamp[2] >> 1 << 15 | stamp[3] << 7
    pts = (pts | stamp[4] >> 1) + round(seconds * 90_000)
    fields = stamp[0] & 0xF0 | pts >> 29 & 14, pts >> 22 & 255, pts >> 14 & 254, pts >> 7 & 255
    data[begin + 9 : begin + 14] = bytes(fields) + bytes([pts << 1 & 254])
    for place in (0, 2, 4):
        data[begin + 9 + place] |= 1
    path.write_bytes(data)
    return path


@pytest.fixture
def rotate() -> Callable[[Path, int], Path]:
    """Sets an MP4's rotation flag to quarter turns to the right, as a telephone does."""
    matrices = {1: (0, 1, -1, 0), 2: (-1, 0, 0, -1), 3: (0, -1, 1, 0)}
    return lambda path, turns: set_matrix(path, matrices[turns])


class FakeProcessor:
    """Keeps one number of each frame: its grey, in [0, 1]; and in `heard` the sound of each
    call."""

    feature_extractor = SimpleNamespace(mode="aligned")

    def __init__(self):
        self.heard = []

    def resize_frames(self, frames):
        return frames

    def __call__(self, text, frames, audio, sampling_rate, device):
        grey = torch.tensor([[float(frame[-1, -1].mean()) / 255 for frame in frames]])
        self.heard.append(audio)
        return BatchFeature({"pixel_values": grey, "input_ids": torch.arange(len(text))})

    def post_process_masks(self, outputs, target_sizes, threshold=0.5):
        logits = torch.nn.functional.interpolate(
            outputs.mask_logits, size=tuple(target_sizes), mode="bilinear"
        )
        return list((logits.sigmoid() > threshold).numpy())


class FakeModel:
    """Causal, as EEMC is: sentence 0 means the left half while the frame is brighter than the
    mean of the past.

    Sentence 1 means the whole frame, always; sentence 2 nothing.
    """

    device, dtype = torch.device("cpu"), torch.float32
    config = SimpleNamespace(model_type="refavs")

    def __call__(self, pixel_values, input_ids, memory):
        total, count = memory.visual.to_tuple() if memory else (torch.zeros(1), torch.zeros(1))
        mask_logits = torch.full((len(input_ids), pixel_values.shape[1], 6, 8), -8.0)
        for step, grey in enumerate(pixel_values[0]):
            mask_logits[0, step, :, :4] = (grey - total / count.clamp(min=1)) * 100
            mask_logits[1:2, step] = 8.0
            total, count = total + grey, count + 1
        return SimpleNamespace(
            mask_logits=mask_logits,
            presence_logits=mask_logits.amax(dim=(-1, -2)),
            iou_scores=None,
            memory=RefAVSMemory(None, RefAVSCueMemory(total, count)),
        )


@pytest.fixture
def fake_model() -> tuple[FakeModel, FakeProcessor]:
    return FakeModel(), FakeProcessor()
