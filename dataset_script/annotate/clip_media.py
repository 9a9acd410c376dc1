"""What the page shows of a clip's media: frames, the sound as curves and as a picture, and where
shots seem to begin."""

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from ..media_files import SAMPLING_RATE, frame_paths, sound_path
from ..schema import CLIP_MS


CLIP_SAMPLES = CLIP_MS * SAMPLING_RATE // 1000
NUM_PEAKS = 1000  # columns of the waveform
WINDOW = 512  # samples of a column of the spectrogram, 32 ms
QUIETEST = -90.0  # dB below the loudest, which is black
HISTOGRAM_SIZE, HISTOGRAM_BINS = (128, 96), (8, 4, 4)  # pixels; of H, S and V
SHOT_CHANGE = 0.4  # share of a frame's colours that are not in the one before (docs/annotate.md)


def read_clip_frames(tree: str | Path, clip_id: str) -> list[np.ndarray]:
    """Ten of `(height, width, 3)` uint8.

    Raises:
        ValueError: one is missing or damaged, or is not of the others' size.
    """
    frames = []
    for path in frame_paths(tree, clip_id):
        try:
            with Image.open(path) as image:
                frames.append(np.asarray(image.convert("RGB")))
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(f"{path}: the frame cannot be read: {error}") from error
        if frames[-1].shape != frames[0].shape:
            raise ValueError(f"{path}: the frames of a clip must be of one size")
    return frames


def read_clip_samples(tree: str | Path, clip_id: str) -> np.ndarray:
    """`(160000,)` float32 at 16 kHz, full scale at 1; silence where the file has nothing.

    Raises:
        ValueError: the file is damaged.
    """
    from modeling_refavs.video_refavs import read_sound  # and with it torch, which takes seconds

    samples = np.zeros(CLIP_SAMPLES, dtype=np.float32)
    path = sound_path(tree, clip_id)
    if path.exists():
        heard = np.concatenate(
            [np.zeros(0), *(b[0] for b in read_sound(path, SAMPLING_RATE, "mono"))]
        )
        samples[: len(heard)] = heard[:CLIP_SAMPLES]
    return samples


def find_peaks(samples: np.ndarray) -> list[float]:
    """The largest magnitude in each of 1,000 columns, the loudest of all at 1."""
    peaks = np.abs(samples).reshape(NUM_PEAKS, -1).max(axis=1)
    return (peaks / max(peaks.max(), 1e-6)).round(3).tolist()


def draw_spectrogram(samples: np.ndarray) -> bytes:
    """A grey PNG: time to the right, 0 to 8 kHz upwards on a scale that gives low tones more space,
    as the mel scale does."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[:: WINDOW * 3 // 4]
    power = np.abs(np.fft.rfft(windows * np.hanning(WINDOW), axis=1)).T ** 2
    decibel = 10 * np.log10(power + 1e-12)
    shades = 255 * (1 - (decibel - decibel.max()) / QUIETEST).clip(0, 1)
    rows = np.geomspace(2, len(shades) - 1, 96).round().astype(int)[::-1]
    picture = io.BytesIO()
    Image.fromarray(shades[rows].astype(np.uint8)).save(picture, format="PNG")
    return picture.getvalue()


def propose_shots(frames: Sequence[np.ndarray]) -> tuple[int, ...]:
    """Steps whose colours are not those of the frame before."""
    colours = [_histogram(frame) for frame in frames]
    pairs = enumerate(pairwise(colours), start=1)
    return tuple(
        step for step, (before, now) in pairs if 1 - np.minimum(before, now).sum() > SHOT_CHANGE
    )


def _histogram(frame: np.ndarray) -> np.ndarray:
    pixels = np.asarray(Image.fromarray(frame).resize(HISTOGRAM_SIZE).convert("HSV"))
    counts, _ = np.histogramdd(pixels.reshape(-1, 3), HISTOGRAM_BINS, ((0, 256),) * 3)
    return counts / counts.sum()
