"""One clip's frames, sound and masks on disk: where they lie; masks read and written, a sound's
header read."""

import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .annotations import Clip
from .schema import NUM_FRAMES


@dataclass(frozen=True, slots=True)
class SoundHeader:
    """What a WAV file says of itself. `missing_bytes` is how much of the promised sound is not
    there."""

    sampling_rate: int  # Hz
    channels: int
    duration_ms: float
    missing_bytes: int


def frame_paths(root: str | Path, clip_id: str) -> list[Path]:
    """Frame k is the first of second k."""
    return [Path(root, "media", clip_id, "frames", f"{index}.jpg") for index in range(NUM_FRAMES)]


def sound_path(root: str | Path, clip_id: str) -> Path:
    return Path(root, "media", clip_id, "audio.wav")


def mask_paths(root: str | Path, clip_id: str, fid: int) -> list[Path]:
    return [
        Path(root, "gt_mask", clip_id, f"fid_{fid}", f"{index:05d}.png")
        for index in range(NUM_FRAMES)
    ]


def media_paths(root: str | Path, clip: Clip) -> list[Path]:
    """Every file that the clip's rows may need."""
    masks = [path for fid in clip.fids for path in mask_paths(root, clip.clip_id, fid)]
    return [*frame_paths(root, clip.clip_id), sound_path(root, clip.clip_id), *masks]


def read_mask(path: str | Path) -> np.ndarray:
    """A mask file as bool (height, width): any value above 0 is the object."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L")) > 0


def write_mask(path: str | Path, mask: np.ndarray) -> None:
    """Write a mask (height, width) of 0 and anything else as an 8-bit PNG of 0 and 255."""
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(path, format="PNG")


def empty_mask_png(width: int, height: int) -> bytes:
    """What a null reference's mask is where the tree holds no file for it."""
    buffer = io.BytesIO()
    Image.new("L", (width, height)).save(buffer, format="PNG")
    return buffer.getvalue()


def read_sound_header(sound: bytes, file_bytes: int | None = None) -> SoundHeader:
    """Rate, channels and length of a WAV file, whatever its coding.

    Args:
        sound: the file, or its beginning up to the sound.
        file_bytes: the file's whole size, where `sound` is only its beginning.

    Raises:
        ValueError: when the bytes are not a WAV file with a `fmt ` and a `data` chunk.
    """
    if sound[:4] not in (b"RIFF", b"RF64") or sound[8:12] != b"WAVE":
        raise ValueError("not a WAV file")
    file_bytes = len(sound) if file_bytes is None else file_bytes
    position, rate, channels, bytes_a_second = 12, 0, 0, 0
    while position + 8 <= len(sound):
        name, size = (
            sound[position : position + 4],
            int.from_bytes(sound[position + 4 : position + 8], "little"),
        )
        position += 8
        if name == b"fmt " and position + 16 <= len(sound):
            _, channels, rate, bytes_a_second = struct.unpack_from("<HHII", sound, position)
        if name == b"data" and rate and bytes_a_second:
            present = min(size, file_bytes - position)
            streamed = (
                size >= 0xFFFFFFFE or size == 0
            )  # a writer that could not seek back leaves no true size
            held = file_bytes - position if streamed else present
            missing = 0 if streamed else size - present
            return SoundHeader(rate, channels, held * 1000 / bytes_a_second, missing)
        position += size + size % 2
    raise ValueError("a WAV file without a format or without sound")
