"""Clips made on the spot, each irregular in one way, and a causal stand-in for the model."""

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


@pytest.fixture
def rotate() -> Callable[[Path, int], Path]:
    """Sets an MP4's rotation flag to quarter turns to the right, as a telephone does."""
    matrices = {1: (0, 1, -1, 0), 2: (-1, 0, 0, -1), 3: (0, -1, 1, 0)}

    def write(path: Path, turns: int) -> Path:
        a, b, c, d = (value << 16 for value in matrices[turns])
        data = bytearray(path.read_bytes())
        matrix = data.index(b"tkhd") + 4 + 40
        for place, value in zip((0, 4, 12, 16), (a, b, c, d), strict=True):
            data[matrix + place : matrix + place + 4] = value.to_bytes(4, "big", signed=True)
        path.write_bytes(data)
        return path

    return write


class FakeProcessor:
    """Keeps one number of each frame: its grey, in [0, 1]; and in `heard` the sound of each
    call."""

    def __init__(self):
        self.heard = []

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

    def __call__(self, pixel_values, input_ids, memory):
        total, count = memory.visual if memory else (torch.zeros(1), torch.zeros(1))
        mask_logits = torch.full((len(input_ids), pixel_values.shape[1], 6, 8), -8.0)
        for step, grey in enumerate(pixel_values[0]):
            mask_logits[0, step, :, :4] = (grey - total / count.clamp(min=1)) * 100
            mask_logits[1:2, step] = 8.0
            total, count = total + grey, count + 1
        return SimpleNamespace(
            mask_logits=mask_logits,
            presence_logits=mask_logits.amax(dim=(-1, -2)),
            memory=RefAVSMemory(None, RefAVSCueMemory(total, count)),
        )


@pytest.fixture
def fake_model() -> tuple[FakeModel, FakeProcessor]:
    return FakeModel(), FakeProcessor()
