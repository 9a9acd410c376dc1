"""Rows of the data set from clips on disk: what the builder yields and the export writes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from .annotations import Annotation, Clip, group_clips, read_annotations, split_clip_id
from .media_files import (
    FATAL_PROBLEMS,
    Problem,
    clip_problems,
    empty_mask_png,
    frame_paths,
    mask_paths,
    read_sound_header,
    sound_path,
)
from .schema import NUM_FRAMES
from .taxonomy import Taxonomy, read_taxonomy


DAMAGED = ("error", "skip", "trust")


@dataclass(frozen=True)
class Tree:
    """An unpacked archive: where it lies, its clips by split, its taxonomy.

    `damaged` says what becomes of rows whose files are missing or broken: `error` stops at the
    first,
    `skip` leaves them out, `trust` looks at no file before it is used.
    """

    root: Path
    clips: tuple[Clip, ...]
    taxonomy: Taxonomy
    damaged: str = "error"


def open_tree(root: str | Path, paper_splits: bool = False, damaged: str = "error") -> Tree:
    """Read the annotations of the tree at `root`.

    Args:
        root: the folder that holds metadata.csv, media/ and gt_mask/.
        paper_splits: keep only the unseen categories in test_u, as the paper counts it (Table 2:
            1,454 rows).
        damaged: `error`, `skip` or `trust`, see `Tree`.

    Raises:
        ValueError: when `root` is no such folder, or (unless `skip`) a row of the csv is malformed.
    """
    if damaged not in DAMAGED:
        raise ValueError(f"damaged must be one of {', '.join(DAMAGED)}, got {damaged!r}")
    if Path(root).is_file():
        raise ValueError(
            f"{root} is a file: give the folder that holds metadata.csv, media/ and gt_mask/"
        )
    root, csv_path = Path(root).resolve(), find_csv(root)
    annotations, taxonomy = read_annotations(csv_path), read_taxonomy(root)
    if annotations.malformed and damaged != "skip":
        first = annotations.malformed[0]
        raise ValueError(f"{csv_path}, line {first.line}: {first.reason}. {_advice(root)}")
    rows = annotations.rows
    if paper_splits:
        rows = [row for row in rows if row.split != "test_u" or row.category in taxonomy.unseen]
    if not rows:
        raise ValueError(f"{csv_path} has no row that belongs to a split")
    return Tree(root, tuple(group_clips(rows)), taxonomy, damaged)


def find_csv(path: str | Path) -> Path:
    """The metadata.csv that `path` is, or holds."""
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise ValueError(
            f"{path} does not exist: give the folder that holds metadata.csv, media/ and gt_mask/"
        )
    if not (path / "metadata.csv").is_file():
        raise ValueError(
            f"{path} holds no metadata.csv: give the folder that holds it beside media/ and "
            "gt_mask/"
        )
    return path / "metadata.csv"


def usable_part(tree: Tree, clip: Clip) -> tuple[Clip | None, list[Problem]]:
    """The clip without the rows that cannot be used (None when no row is left), and why.

    Raises:
        ValueError: at the first such row, when the tree is opened with `damaged="error"`.
    """
    if tree.damaged == "trust":
        return clip, []
    problems = [
        problem for problem in clip_problems(tree.root, clip) if problem.code in FATAL_PROBLEMS
    ]
    if problems and tree.damaged == "error":
        raise ValueError(f"{problems[0].code}: {problems[0].where}. {_advice(tree.root)}")
    lost = {problem.fid for problem in problems}
    rows = tuple(row for row in clip.rows if None not in lost and row.fid not in lost)
    return (replace(clip, rows=rows) if rows else None), problems


def clip_examples(tree: Tree, clip: Clip, configuration: str) -> Iterator[tuple[str, dict]]:
    """The clip's rows with a key each: one a sentence (`expressions`), or one in all (`clips`).

    Frames and masks are paths (bytes for a null reference without mask files); the sound is the
    file's bytes.
    """
    shared = _clip_columns(tree, clip)
    masks = {fid: _masks(tree, clip, fid) for fid in clip.fids}
    sentences = [_sentence_columns(tree.taxonomy, row) for row in clip.rows]
    if configuration == "clips":
        objects = [{"fid": fid, "masks": masks[fid]} for fid in clip.fids]
        yield (
            f"{clip.split}/{clip.clip_id}",
            {**shared, "expressions": sentences, "objects": objects},
        )
        return
    for row, sentence in zip(clip.rows, sentences, strict=True):
        yield f"{clip.split}/{row.line}", {**sentence, **shared, "masks": masks[row.fid]}


def _clip_columns(tree: Tree, clip: Clip) -> dict:
    name = split_clip_id(clip.clip_id)
    sound = sound_path(tree.root, clip.clip_id).read_bytes()
    return {
        "clip_id": clip.clip_id,
        "youtube_id": name["youtube_id"],
        "start_ms": name["start_ms"],
        "null_kind": name["null_kind"],
        "frames": [str(path) for path in frame_paths(tree.root, clip.clip_id)],
        "audio": sound,
        "sampling_rate": read_sound_header(sound).sampling_rate,
    }


def _sentence_columns(taxonomy: Taxonomy, row: Annotation) -> dict:
    return {
        "uid": row.uid,
        "expression": row.expression,
        "raw_expression": row.raw_expression,
        "category": row.category,
        "super_category": taxonomy.super_category(row.category),
        "fid": row.fid,
    }


def _masks(tree: Tree, clip: Clip, fid: int) -> list[str | dict]:
    paths = mask_paths(tree.root, clip.clip_id, fid)
    is_null = all(row.is_null for row in clip.rows if row.fid == fid)
    if not is_null or paths[0].parent.is_dir():
        return [str(path) for path in paths]
    with Image.open(frame_paths(tree.root, clip.clip_id)[0]) as frame:
        blank = {"bytes": empty_mask_png(*frame.size), "path": None}
    return [blank] * NUM_FRAMES


def _advice(root: Path) -> str:
    return (
        f"`refavs dataset check {root}` names every such place; damaged='skip' leaves these "
        "rows out"
    )
