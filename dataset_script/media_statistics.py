"""What a tree's frames, sounds and masks amount to, from their headers alone."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from .annotations import Clip
from .media_files import frame_paths, mask_paths, read_sound_header, sound_path


HEADER_BYTES = 64 * 2**10  # a WAV file's sound begins within


@dataclass
class MediaCounts:
    """Files that could be read, by what their headers say. A clip in two splits is counted once."""

    frames: int = 0
    masks: int = 0
    sounds: int = 0
    sound_seconds: float = 0.0
    unreadable: int = 0
    frame_sizes: Counter = field(default_factory=Counter)  # "640x360" -> frames
    sampling_rates: Counter = field(default_factory=Counter)  # Hz -> sounds


def count_media(root: Path, clips: Iterable[Clip], progress: bool = False) -> MediaCounts:
    """Count the media of clips; what is missing or unreadable is counted as that (`check` names
    it)."""
    counts = MediaCounts()
    fids: dict[str, set[int]] = {}
    for clip in clips:
        fids.setdefault(clip.clip_id, set()).update(clip.fids)
    for clip_id in tqdm(fids, desc="counting media", unit="clip", disable=not progress):
        for path in frame_paths(root, clip_id):
            size = _picture_size(path)
            counts.frames += size is not None
            counts.frame_sizes.update([size] if size else [])
            counts.unreadable += size is None
        for fid in fids[clip_id]:
            sizes = [_picture_size(path) for path in mask_paths(root, clip_id, fid)]
            counts.masks += sum(size is not None for size in sizes)
            counts.unreadable += sizes.count(None)
        _count_sound(counts, sound_path(root, clip_id))
    return counts


def _picture_size(path: Path) -> str | None:
    try:
        with Image.open(path) as image:
            return f"{image.width}x{image.height}"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def _count_sound(counts: MediaCounts, path: Path) -> None:
    try:
        with open(path, "rb") as file:
            header = read_sound_header(file.read(HEADER_BYTES), path.stat().st_size)
    except (OSError, ValueError):
        counts.unreadable += 1
        return
    counts.sounds += 1
    counts.sound_seconds += header.duration_ms / 1000
    counts.sampling_rates[header.sampling_rate] += 1
