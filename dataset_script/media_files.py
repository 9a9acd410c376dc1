"""The media files of a clip: where they lie, how they are read and written, and their problems."""

import io
import os
import struct
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .annotations import Clip, split_clip_id
from .schema import CLIP_MS, NUM_FRAMES


SAMPLING_RATE = 16_000  # Hz, of sound that is written


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


def save_frame(path: str | Path, rgb: np.ndarray) -> None:
    """Write `(height, width, 3)` uint8 as a JPEG."""
    Image.fromarray(rgb).save(path, quality=95)


def write_sound(path: str | Path, samples: np.ndarray) -> None:
    """Write `(samples,)`, full scale at 1, as a WAV file of 16 kHz, 16 bit and one channel."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLING_RATE, 0, "NONE", ""))
        file.writeframes(np.rint(samples.clip(-1, 1) * 32767).astype("<i2").tobytes())


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


SOUND_TOLERANCE_MS = 500  # a sound that is shorter by more gives VGGish fewer than 9 seconds
FATAL_PROBLEMS = frozenset(
    f"{state}_{what}" for state in ("missing", "damaged") for what in ("frame", "sound", "mask")
) | {"missing_clip"}
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
)  # what Pillow raises on damage


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with one file. `fid` is None where the whole clip suffers, else the one
    object that does."""

    code: str
    where: str
    fid: int | None = None


def clip_problems(root: str | Path, clip: Clip) -> list[Problem]:
    """Everything wrong with a clip's files: each frame and mask is decoded, the sound's length is
    measured."""
    if not Path(root, "media", clip.clip_id).is_dir():
        return [Problem("missing_clip", f"media/{clip.clip_id}")]
    problems, size = _frame_problems(root, clip.clip_id)
    problems += _sound_problems(root, clip.clip_id)
    null_fids = {row.fid for row in clip.rows if row.is_null}
    for fid in clip.fids:
        problems += _mask_problems(root, clip.clip_id, fid, size, fid in null_fids)
    return problems


def _frame_problems(root: str | Path, clip_id: str) -> tuple[list[Problem], tuple[int, int] | None]:
    problems, sizes = [], set()
    for path in frame_paths(root, clip_id):
        try:
            with Image.open(path) as image:
                image.load()
                sizes.add(image.size)
        except FileNotFoundError:
            problems.append(Problem("missing_frame", _relative(root, path)))
        except _UNREADABLE:
            problems.append(Problem("damaged_frame", _relative(root, path)))
    if len(sizes) > 1:
        listed = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
        problems.append(Problem("frame_sizes_differ", f"media/{clip_id}/frames: {listed}"))
    return problems, next(iter(sizes)) if len(sizes) == 1 else None


def _sound_problems(root: str | Path, clip_id: str) -> Iterator[Problem]:
    path = sound_path(root, clip_id)
    where = _relative(root, path)
    try:
        header = read_sound_header(path.read_bytes())
    except FileNotFoundError:
        yield Problem("missing_sound", where)
        return
    except (OSError, ValueError) as error:
        yield Problem("damaged_sound", f"{where}: {error}")
        return
    if header.missing_bytes:
        yield Problem(
            "damaged_sound", f"{where}: the last {header.missing_bytes} bytes are missing"
        )
        return
    name = split_clip_id(clip_id)
    expected = CLIP_MS if name["end_ms"] is None else name["end_ms"] - name["start_ms"]
    if abs(header.duration_ms - expected) > SOUND_TOLERANCE_MS:
        yield Problem(
            "sound_length",
            f"{where}: {header.duration_ms / 1000:.2f} s, not {expected / 1000:.2f} s",
        )


def _mask_problems(
    root: str | Path, clip_id: str, fid: int, frame_size: tuple[int, int] | None, is_null: bool
) -> Iterator[Problem]:
    folder = f"gt_mask/{clip_id}/fid_{fid}"
    if is_null and not Path(root, folder).is_dir():
        yield Problem("null_without_masks", folder, fid)
        return
    decoded, occupied, sizes = 0, 0, set()
    for path in mask_paths(root, clip_id, fid):
        try:
            with Image.open(path) as image:
                occupied += image.convert("L").getbbox() is not None
                sizes.add(image.size)
                decoded += 1
        except FileNotFoundError:
            yield Problem("missing_mask", _relative(root, path), fid)
        except _UNREADABLE:
            yield Problem("damaged_mask", _relative(root, path), fid)
    for width, height in sorted(sizes - {frame_size}) if frame_size else ():
        yield Problem(
            "mask_size", f"{folder}: {width}x{height}, frames {frame_size[0]}x{frame_size[1]}", fid
        )
    if is_null and occupied:
        yield Problem("null_with_object", f"{folder}: {occupied} masks are not empty", fid)
    if not is_null and decoded == NUM_FRAMES and not occupied:
        yield Problem("object_never_visible", folder, fid)


def _relative(root: str | Path, path: Path) -> str:
    return os.path.relpath(path, root)
