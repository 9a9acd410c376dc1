"""What is wrong with one clip's files: every frame and mask is decoded, every sound measured."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .annotations import Clip, split_clip_id
from .media_files import frame_paths, mask_paths, read_sound_header, sound_path
from .schema import CLIP_MS, NUM_FRAMES


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
