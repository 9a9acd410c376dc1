"""The paper's counts, counted again: sentences, objects, cues and media of a tree."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from .annotations import Annotation, Clip, group_clips, read_annotations
from .examples import find_csv
from .media_files import frame_paths, mask_paths, read_sound_header, sound_path
from .schema import SPLITS
from .taxonomy import Taxonomy, read_taxonomy


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


# Table 2: videos, objects, expressions of each split
PAPER_COUNTS = {
    "train": (2908, 5366, 14117),
    "val": (276, 518, 1349),
    "test_s": (292, 478, 2288),
    "test_u": (269, 269, 1454),
    "test_n": (257, 257, 1028),
    "all": (4002, 6888, 20261),
}
PAPER_OBJECT_SHARES = {2: 0.56, 3: 0.13}  # videos that hold at least so many objects
LENGTH_BINS = ("1-4", "5-8", "9-12", "13+")  # words, as the paper groups its results
LONGEST_SHOWN = 25  # words, the length at which the model cuts a sentence
# The csv does not say which cues a sentence uses. These words of ours tell, roughly; see
# docs/data.md.
CUE_WORDS = {
    "spatial": "above adjacent behind below beneath beside between bottom center corner far front "
    "left leftmost middle "
    "near on right rightmost top under",
    "acoustic": "audible audio emit emits emitting loud louder loudest noise quieter quietest "
    "resonating rhythm silent "
    "sound sounded sounding sounds tempo volume",
    "temporal": "after all appearing before continuous continuously duration entire faster fastest "
    "final first initial "
    "intermittent keeps last longer longest over perpetual persistently shorter shortest slower "
    "slowest through "
    "throughout time times",
    "appearance": "bald big bigger biggest black blue brown clothes dress fur glasses gold golden "
    "gray green grey hair "
    "hat orange pink purple red shirt silver small smallest wearing white yellow",
    "action": "barking beaten being driving eating flying held holding lying moving played playing "
    "sailing sang sat "
    "seated sing singing sitting speaking standing stood talking tapped walking",
}


@dataclass
class Statistics:
    """Counts over the rows of the paper's splits. A video is a clip; an object is a (clip, fid)."""

    taxonomy: Taxonomy
    splits: dict[str, tuple[int, int, int]]  # videos, objects, expressions
    unseen_only: tuple[int, int, int]  # the same of test_u's unseen categories
    categories: dict[str, dict[str, int]]  # category -> split -> expressions
    objects_per_video: Counter  # of clips that hold an object
    lengths: Counter  # words of a sentence
    cues: Counter  # sentences with each cue
    cues_per_sentence: Counter
    co_occurrence: Counter  # pairs of categories that meet in a clip
    leftovers: int
    malformed: int
    media: MediaCounts | None = field(default=None)


def count_tree(path: str | Path, progress: bool = False) -> Statistics:
    """Count a tree, or a metadata.csv alone: `media` is then None, as it is where no clip has a
    folder.

    Raises:
        ValueError: when there is no csv to be read.
    """
    csv_path = find_csv(path)
    annotations, taxonomy = read_annotations(csv_path), read_taxonomy(csv_path.parent)
    statistics = count_rows(annotations.rows, taxonomy)
    statistics.leftovers, statistics.malformed = (
        len(annotations.leftovers),
        len(annotations.malformed),
    )
    if not Path(path).is_file() and (csv_path.parent / "media").is_dir():
        statistics.media = count_media(csv_path.parent, group_clips(annotations.rows), progress)
    return statistics


def count_rows(rows: list[Annotation], taxonomy: Taxonomy) -> Statistics:
    """Count annotations."""
    by_split = {split: [row for row in rows if row.split == split] for split in SPLITS}
    splits = {split: _sizes(split_rows) for split, split_rows in by_split.items()}
    splits["all"] = tuple(map(sum, zip(*splits.values(), strict=True)))
    categories: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(SPLITS, 0))
    fids, names = defaultdict(set), defaultdict(set)
    for row in rows:
        categories[row.category][row.split] += 1
        if not row.is_null:
            fids[row.clip_id].add(row.fid)
            names[row.clip_id].add(row.category)
    cues = [sentence_cues(row.expression) for row in rows]
    return Statistics(
        taxonomy=taxonomy,
        splits=splits,
        unseen_only=_sizes(row for row in by_split["test_u"] if row.category in taxonomy.unseen),
        categories=dict(categories),
        objects_per_video=Counter(len(found) for found in fids.values()),
        lengths=Counter(len(row.expression.split()) for row in rows),
        cues=Counter(cue for found in cues for cue in found),
        cues_per_sentence=Counter(map(len, cues)),
        co_occurrence=Counter(
            pair for found in names.values() for pair in combinations(sorted(found), 2)
        ),
        leftovers=0,
        malformed=0,
    )


def sentence_cues(expression: str) -> list[str]:
    """The cues that a sentence's words speak of.

    Example:
        >>> sentence_cues("The last dog to make a sound on the left.")
        ['spatial', 'acoustic', 'temporal']
    """
    words = set(re.findall(r"[a-z]+", expression.lower()))
    return [cue for cue, signs in _CUE_SETS.items() if words & signs]


def length_bin(words: int) -> str:
    return LENGTH_BINS[min(max(words - 1, 0) // 4, 3)]


def at_least(counts: Counter, number: int) -> float:
    """The share of a counter's items that are `number` or more."""
    total = sum(counts.values())
    return (
        sum(count for value, count in counts.items() if value >= number) / total if total else 0.0
    )


def _sizes(rows: Iterable[Annotation]) -> tuple[int, int, int]:
    rows = list(rows)
    return (
        len({row.clip_id for row in rows}),
        len({(row.clip_id, row.fid) for row in rows}),
        len(rows),
    )


_CUE_SETS = {cue: frozenset(words.split()) for cue, words in CUE_WORDS.items()}
