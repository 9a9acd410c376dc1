"""`refavs dataset check`: every irregularity of a tree, counted and named."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations, product
from operator import itemgetter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from modeling_refavs.utils.files import whole_file
from modeling_refavs.utils.processes import worker_pool

from .annotations import (
    Annotation,
    Annotations,
    Clip,
    annotation_findings,
    group_clips,
    leaks,
    read_annotations,
)
from .examples import find_csv
from .media_files import FATAL_PROBLEMS, Problem, clip_problems
from .schema import SPLITS
from .taxonomy import read_taxonomy


MAX_EXAMPLES = 20  # of each code in the report, so that it stays small whatever the tree's size
FATAL = FATAL_PROBLEMS | {"malformed_row"}
FINDINGS = {
    "malformed_row": "rows that name no clip, object or split",
    "missing_clip": "clips without a folder under media/",
    "missing_frame": "frames that are not there",
    "damaged_frame": "frames that cannot be decoded to the end",
    "missing_sound": "clips without audio.wav",
    "damaged_sound": "sounds that are cut short or no WAV file",
    "missing_mask": "masks that are not there",
    "damaged_mask": "masks that cannot be decoded to the end",
    "frame_sizes_differ": "clips whose frames are not all of one size",
    "mask_size": "mask sizes that are not their frames'",
    "sound_length": "sounds longer or shorter than their clip by more than 0.5 s",
    "object_never_visible": "objects whose ten masks are all empty",
    "null_with_object": "null references whose masks hold an object",
    "null_without_masks": "null references without mask files (read as empty masks)",
    "clip_without_sentence": "folders under media/ that no row names",
    "leaked_clip": "clips that two splits share",
    "leaked_video": "YouTube videos that two splits share",
    "leaked_media": "pictures, sounds or backgrounds of a library that two splits share",
    "leftover_row": "rows of split TODO, in no split of the paper's (skipped)",
    "unseen_in_other_split": "rows of unseen categories outside test_u",
    "seen_in_test_u": "rows of seen categories in test_u (left out by paper_splits)",
    "unknown_category": "rows whose category the taxonomy does not know",
    "two_categories": "objects (clip, fid) that are given two categories",
    "ambiguous_sentence": "sentences that point at two objects of their clip",
    "duplicate_uid": "uids that occur more than once",
    "duplicate_row": "whole rows that occur more than once",
    "placeholder_sentence": 'rows whose sentence is just "NO."',
    "error_sentence": 'rows whose sentence is the message of a tool ("[Error] ...")',
    "untidy_spaces": "sentences with leading, trailing or double spaces (tidied in `expression`)",
    "underscore_for_space": "sentences with `_` for a space (read as a space in `expression`)",
    "fid_gap": "clips whose fids leave numbers out",
    "dash_name": "rows whose clip name starts with `-` (mind shell commands)",
    "clip_name": "rows whose clip is not named <youtube id>_<start>_<end>",
    "vid_not_clip": "rows whose vid is not their clip",
    "null_fid": "null references whose fid is not 0",
    "null_name": "rows that are null by name, category or split but not by all three",
}


@dataclass
class Report:
    """What a check found. `as_dict` is the JSON report."""

    tree: str
    media_checked: bool
    rows: dict[str, int]
    clips: dict[str, int]
    leaks: dict[str, dict[str, int]]
    usable_rows: dict[str, int] = field(default_factory=dict)
    counts: Counter = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, code: str, where: str) -> None:
        self.counts[code] += 1
        examples = self.examples.setdefault(code, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(where)

    @property
    def can_train(self) -> bool:
        """Whether the loader takes the tree as it is: nothing missing, broken or malformed, and
        rows to train on."""
        return not FATAL & self.counts.keys() and self.usable_rows.get("train", 0) > 0

    def as_dict(self) -> dict:
        findings = {
            code: {
                "level": "error" if code in FATAL else "warning",
                "meaning": meaning,
                "count": self.counts[code],
                "examples": self.examples.get(code, []),
            }
            for code, meaning in FINDINGS.items()
        }
        return {
            "tree": self.tree,
            "media_checked": self.media_checked,
            "can_train": self.can_train,
            "rows": self.rows,
            "clips": self.clips,
            "usable_rows": self.usable_rows,
            "leaks": self.leaks,
            "findings": findings,
        }


def write_report(report: Report, path: str | Path) -> None:
    """Write the report as JSON, under a temporary name first."""
    text = json.dumps(report.as_dict(), indent=1, ensure_ascii=False) + "\n"
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def report_text(report: Report) -> str:
    """The report for a terminal: a line a finding, with one example, and a verdict."""
    lines = [f"{report.tree}: {sum(report.rows.values())} rows, {sum(report.clips.values())} clips"]
    for split in SPLITS:
        lines.append(f"  {split:<7}{report.rows[split]:>7} rows {report.clips[split]:>6} clips")
    for code in [code for code in FINDINGS if report.counts[code]]:
        level = "ERROR" if code in FATAL else "note"
        lines += [
            f"{level:<6}{report.counts[code]:>6} {code}: {FINDINGS[code]}",
            f"{'':13}{report.examples[code][0]}",
        ]
    for splits, shared in report.leaks.items():
        lines.append(
            f"      {splits} share {shared['leaked_video']} videos, {shared['leaked_clip']} of "
            "their clips"
        )
    lines += (
        [] if report.media_checked else ["No media were looked at: a csv was given, not a folder."]
    )
    lines.append(_verdict(report))
    return "\n".join(lines)


def _verdict(report: Report) -> str:
    usable, rows = sum(report.usable_rows.values()), sum(report.rows.values())
    if report.can_train:
        return (
            "Training can go on."
            if report.media_checked
            else "The csv alone does not forbid training."
        )
    if not report.usable_rows["train"]:
        return "Training cannot go on: no row of split train can be used."
    return (
        "Training cannot go on as it is: mend the errors, or load with damaged='skip' "
        f"({usable} of {rows} rows)."
    )


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
        for where in _leaked_media(root):
            report.add("leaked_media", where)
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
    with worker_pool(num_proc) if num_proc > 1 else nullcontext() as pool:
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


def _leaked_media(root: Path) -> Iterator[str]:
    """Files of a library that clips of two splits use, as their scene graphs tell; of a recording,
    parts that overlap."""
    used: dict[str, dict[str, set[tuple[float, float]]]] = defaultdict(lambda: defaultdict(set))
    for path in sorted((root / "scenes").glob("*.json")):
        stored = json.loads(path.read_bytes())
        if not isinstance(stored, dict) or not {"scene", "split"} <= stored.keys():
            continue  # another program's
        for file, part in filter(itemgetter(0), _media_of(stored["scene"])):
            used[file][stored["split"]].add(part)
    for file, by_split in sorted(used.items()):
        for one, other in combinations(sorted(by_split), 2):
            pairs = product(by_split[one], by_split[other])
            if any(a[0] < b[1] and b[0] < a[1] for a, b in pairs):
                yield f"{file} in {one} and {other}"


def _media_of(scene: dict[str, Any]) -> Iterator[tuple[str, tuple[float, float]]]:
    """(file, the part of it from 0 to 1, or in seconds) of each of a scene's media."""
    whole = (0.0, 1.0)
    for item in scene["objects"]:
        yield item.get("picture", ""), whole
        sound = item["sound"] or {}
        yield sound.get("recording", ""), tuple(sound.get("cut", whole))
    yield scene.get("ground", ""), whole


def _by_split(items: Iterable[Annotation | Clip]) -> dict[str, int]:
    counts = Counter(item.split for item in items)
    return {split: counts[split] for split in SPLITS}


def _leaks_by_splits(rows: list[Annotation]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for code, splits, _ in leaks(rows):
        shared = counts.setdefault(splits, {"leaked_clip": 0, "leaked_video": 0})
        shared[code] += 1
    return counts
