"""`refavs dataset check`: every irregularity of a tree counted and named. Nothing in the tree is
changed."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from tqdm import tqdm

from .annotation_checks import annotation_findings, leaks
from .annotations import Annotation, Annotations, Clip, group_clips, read_annotations
from .check_report import Report
from .examples import find_csv
from .media_checks import FATAL_PROBLEMS, Problem, clip_problems
from .schema import SPLITS
from .taxonomy import read_taxonomy


def check_tree(path: str | Path, num_proc: int = 1, progress: bool = False) -> Report:
    """Check an unpacked archive, or a metadata.csv alone (its media are then not looked at).

    Args:
        path: the folder that holds metadata.csv, or the csv itself.
        num_proc: processes that decode frames and masks.
        progress: a bar on stderr.

    Raises:
        ValueError: when there is no csv to be read.
    """
    if num_proc < 1:
        raise ValueError(f"num_proc must be 1 or more, got {num_proc}")
    csv_path, media_checked = find_csv(path), not Path(path).is_file()
    root = csv_path.parent
    annotations, taxonomy = read_annotations(csv_path), read_taxonomy(root)
    clips = group_clips(annotations.rows)
    report = Report(
        tree=str(path),
        media_checked=media_checked,
        rows=_by_split(annotations.rows),
        clips=_by_split(clips),
        leaks=_leaks_by_splits(annotations.rows),
    )
    for code, where in annotation_findings(annotations, taxonomy):
        report.add(code, where)
    usable = Counter(report.rows)
    if media_checked:
        for code, where in _unnamed_clips(root, annotations):
            report.add(code, where)
        for clip, problems in _checked_clips(root, clips, num_proc, progress):
            for problem in problems:
                report.add(problem.code, problem.where)
            usable[clip.split] -= _lost_rows(clip, problems)
    report.usable_rows = dict(usable)
    return report


def _checked_clips(
    root: Path, clips: list[Clip], num_proc: int, progress: bool
) -> Iterator[tuple[Clip, list[Problem]]]:
    check = partial(clip_problems, root)
    with ProcessPoolExecutor(num_proc) if num_proc > 1 else nullcontext() as pool:
        checked = pool.map(check, clips, chunksize=16) if pool else map(check, clips)
        bar = tqdm(
            checked, total=len(clips), desc="checking clips", unit="clip", disable=not progress
        )
        yield from zip(clips, bar, strict=True)


def _lost_rows(clip: Clip, problems: Iterable[Problem]) -> int:
    lost = {problem.fid for problem in problems if problem.code in FATAL_PROBLEMS}
    return sum(None in lost or row.fid in lost for row in clip.rows)


def _unnamed_clips(root: Path, annotations: Annotations) -> Iterator[tuple[str, str]]:
    named = {row.clip_id for row in (*annotations.rows, *annotations.leftovers)}
    if (root / "media").is_dir():
        for name in sorted(os.listdir(root / "media")):
            if name not in named and (root / "media" / name).is_dir():
                yield "clip_without_sentence", f"media/{name}"


def _by_split(items: Iterable[Annotation | Clip]) -> dict[str, int]:
    counts = Counter(item.split for item in items)
    return {split: counts[split] for split in SPLITS}


def _leaks_by_splits(rows: list[Annotation]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for code, splits, _ in leaks(rows):
        shared = counts.setdefault(splits, {"leaked_clip": 0, "leaked_video": 0})
        shared[code] += 1
    return counts
