"""Annotations become a tree in the official layout, a tree becomes annotations, and two annotators
are compared."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

from modeling_refavs.utils.files import lock_folder, whole_file, whole_folder

from ..annotations import Annotation as Row
from ..annotations import (
    clip_rows,
    lending_clip_id,
    null_clip_id,
    read_annotations,
    write_annotations,
)
from ..media_files import frame_paths, mask_paths, read_mask, sound_path, write_mask
from ..schema import NUM_FRAMES
from ..taxonomy import NULL_CATEGORY, TAXONOMY_FILE, Taxonomy, read_taxonomy, write_taxonomy
from .annotation import FOLDER, Annotation, AnnotationStore, ObjectAnnotation, SentenceAnnotation


OBJECT = "object"  # super-category of a category that the taxonomy does not know
NAMED_PROBLEMS = 5  # of all that are in the message of a refusal
MATCHING_JACCARD = 0.1  # two annotators' masks of one object overlap at least so much
# Of outlines, by fid.
COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#46f0f0", "#f032e6", "#bcf60c")


def annotated_clip_ids(tree: str | Path) -> list[str]:
    """The clips of a tree that can be annotated: folders of media/, without those that lend their
    frames and sound to null references of another one.

    Raises:
        ValueError: there is no media/ with a clip in it.
    """
    media = Path(tree, "media")
    names = {path.name for path in media.glob("*") if path.is_dir() and path.name[0] != "."}
    if not names:
        raise ValueError(f"{tree}: it has no clips: media/<clip>/frames/ and audio.wav are needed")
    return sorted(name for name in names if lending_clip_id(name) not in names - {name})


def frame_size(tree: str | Path, clip_id: str) -> tuple[int, int]:
    """(height, width) of a clip's frames.

    Raises:
        ValueError: names the frame that cannot be read.
    """
    path = frame_paths(tree, clip_id)[0]
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as a picture: {error}") from error


# Writing


def unfinished_parts(tree: str | Path, annotation: Annotation) -> list[str]:
    """What keeps an annotation from being part of a tree; nothing where it is finished."""
    clip_id, problems = annotation.clip_id, []
    media = [*frame_paths(tree, clip_id), sound_path(tree, clip_id)]
    missing = [path.relative_to(tree).as_posix() for path in media if not path.is_file()]
    if missing:
        return [f"{missing[0]} is not there"]
    size = frame_size(tree, clip_id)
    if size != annotation.size:
        problems.append(f"its masks have {annotation.size} pixels and its frames {size}")
    for thing in annotation.objects:
        name = f"object {thing.fid} ({thing.category})"
        steps = [str(step) for step in range(NUM_FRAMES) if step not in thing.masks]
        if steps:
            problems.append(f"{name} has no mask at the steps {', '.join(steps)}")
        elif not any(mask.any() for mask in thing.masks.values()):
            problems.append(f"{name} is never to be seen")
    if not annotation.sentences:
        problems.append("it has no sentence")
    meant = [sentence for sentence in annotation.sentences if sentence.fid is not None]
    if meant and annotation.split == "test_n":
        problems.append(f"{meant[0].text!r} means an object, and test_n holds null sentences alone")
    if meant and clip_id.startswith("null_"):
        problems.append(f"{meant[0].text!r} means an object, and the clip's name says null")
    return problems


def write_tree(tree: str | Path, annotator: str) -> dict[str, int]:
    """Write what an annotator says of a tree's clips beside their media: gt_mask/, metadata.csv,
    taxonomy.json, and the media of null references.

    Rows of clips that the annotator says nothing of stay as they are. Every file appears whole, and
    metadata.csv after the masks that it names; run again after a change, or after a run that was
    killed. Sounding intervals are no part of the layout and stay in annotations/.

    Returns:
        How many clips, objects and sentences were written, how many of these are null references,
        and how many clips of the tree are not annotated.

    Raises:
        ValueError: names what is unfinished; nothing is written then.
    """
    tree, store = Path(tree), AnnotationStore(tree, annotator)
    annotations = [store.read(clip_id) for clip_id in store.clip_ids()]
    _refuse_unfinished(tree, store, annotations)
    known = {annotation.clip_id for annotation in annotations}
    with lock_folder(tree / FOLDER):
        before = _present_rows(tree)
        null_names = _null_names(tree)
        for annotation in annotations:
            _write_masks(tree, annotation)
            _copy_null_media(tree, annotation, null_names)
        rows = [row for each in annotations for row in annotation_rows(each, null_names)]
        others = [row for row in before if not known & {row.clip_id, lending_clip_id(row.clip_id)}]
        _write_taxonomy(tree, annotations, [*others, *rows])
        write_annotations(tree / "metadata.csv", [*others, *rows])
        for annotation in annotations:
            _remove_stale(tree, annotation, before)
    return {
        "clips": len(annotations),
        "objects": sum(len(annotation.objects) for annotation in annotations),
        "sentences": len(rows),
        "null_sentences": sum(row.is_null for row in rows),
        "not_annotated": len(set(annotated_clip_ids(tree)) - known),
    }


def annotation_rows(
    annotation: Annotation, null_names: Mapping[str, str] = MappingProxyType({})
) -> list[Row]:
    """The rows of metadata.csv that an annotation stands for, null references last.

    Args:
        null_names: clip -> folder of its null references, where it is not `null_c-<clip>`.
    """
    clip_id, split = annotation.clip_id, annotation.split
    meant = [sentence for sentence in annotation.sentences if sentence.fid is not None]
    null = [sentence for sentence in annotation.sentences if sentence.fid is None]
    return [
        *clip_rows(
            clip_id,
            split,
            [(each.text, each.fid, annotation.find(each.fid).category) for each in meant],
        ),
        *clip_rows(
            null_names.get(clip_id) or null_clip_id(clip_id),
            split if split in ("train", "val") else "test_n",
            [(each.text, 0, NULL_CATEGORY) for each in null],
        ),
    ]


def _null_names(tree: Path) -> dict[str, str]:
    """Clip -> the folder of its null references that is there."""
    names = sorted(path.name for path in (tree / "media").iterdir())
    return {lending_clip_id(name): name for name in names if lending_clip_id(name) != name}


def _refuse_unfinished(tree: Path, store: AnnotationStore, annotations: list[Annotation]) -> None:
    if not annotations:
        raise ValueError(f"{store.tree / FOLDER / store.annotator}: nothing is annotated yet")
    problems = [
        f"{annotation.clip_id}: {problem}"
        for annotation in annotations
        for problem in unfinished_parts(tree, annotation)
    ]
    groups: dict[str, tuple[str, str]] = {}
    for annotation in annotations:
        for thing in annotation.objects:
            group, clip_id = groups.setdefault(
                thing.category, (thing.super_category, annotation.clip_id)
            )
            if group != thing.super_category:
                problems.append(
                    f"{annotation.clip_id}: {thing.category} is of the group "
                    f"{thing.super_category}, in {clip_id} of {group}"
                )
    if problems:
        more = f"; and {len(problems) - NAMED_PROBLEMS} more" * (len(problems) > NAMED_PROBLEMS)
        raise ValueError(f"{tree}: unfinished: {'; '.join(problems[:NAMED_PROBLEMS])}{more}")


def _present_rows(tree: Path) -> list[Row]:
    path = tree / "metadata.csv"
    if not path.is_file():
        return []
    present = read_annotations(path)
    if present.malformed:
        first = present.malformed[0]
        raise ValueError(f"{path}, line {first.line}: {first.reason}: mend it before it is written")
    return sorted([*present.rows, *present.leftovers], key=lambda row: row.line)


def _write_masks(tree: Path, annotation: Annotation) -> None:
    for thing in annotation.objects:
        for step, path in enumerate(mask_paths(tree, annotation.clip_id, thing.fid)):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not _holds(path, thing.masks[step]):
                with whole_file(path) as unfinished:
                    write_mask(unfinished, thing.masks[step])


def _holds(path: Path, mask: np.ndarray) -> bool:
    try:
        return np.array_equal(read_mask(path), mask)
    except (OSError, SyntaxError, ValueError):
        return False


def _copy_null_media(tree: Path, annotation: Annotation, null_names: dict[str, str]) -> None:
    clip_id = annotation.clip_id
    null = any(sentence.fid is None for sentence in annotation.sentences)
    if null and clip_id not in null_names and null_clip_id(clip_id) != clip_id:
        with whole_folder(tree / "media" / null_clip_id(clip_id)) as unfinished:
            shutil.copytree(tree / "media" / clip_id, unfinished, dirs_exist_ok=True)


def _remove_stale(tree: Path, annotation: Annotation, before: list[Row]) -> None:
    """Masks of objects that were in metadata.csv and are there no more, and the copy of the media
    that no null reference borrows now."""
    clip_id = annotation.clip_id
    named = {row.fid for row in before if row.clip_id == clip_id and not row.is_null}
    for fid in named - {thing.fid for thing in annotation.objects}:
        shutil.rmtree(tree / "gt_mask" / clip_id / f"fid_{fid}", ignore_errors=True)
    copy = null_clip_id(clip_id)
    null = any(sentence.fid is None for sentence in annotation.sentences)
    if not null and any(row.clip_id == copy != clip_id for row in before):
        shutil.rmtree(tree / "media" / copy, ignore_errors=True)


def _write_taxonomy(tree: Path, annotations: list[Annotation], rows: list[Row]) -> None:
    """Categories of all rows and objects; what the tree's taxonomy calls unseen stays so."""
    own = {
        thing.category: thing.super_category
        for annotation in annotations
        for thing in annotation.objects
    }
    known = read_taxonomy(tree)
    names = sorted({*own, *(row.category for row in rows if not row.is_null)})
    categories = {name: own.get(name) or known.super_category(name) or OBJECT for name in names}
    had_rows = (tree / TAXONOMY_FILE).exists() or (tree / "metadata.csv").exists()
    unseen = known.unseen & categories.keys() if had_rows else ()
    write_taxonomy(tree, categories, unseen)


# Reading


def read_tree_annotation(tree: str | Path, clip_id: str) -> Annotation:
    """What a tree says of a clip, as the beginning of an annotation: objects with masks, sentences,
    null references. An object that no sentence means is not in a tree's metadata.csv, nor are
    sounding intervals.

    Raises:
        ValueError: the clip or a mask cannot be read, or the clip is in two splits.
    """
    tree, size = Path(tree), frame_size(tree, clip_id)
    rows = [row for row in _present_rows(tree) if _is_of(row, clip_id)]
    meant = [row for row in rows if not row.is_null]
    splits = sorted({row.split for row in meant}) or sorted({row.split for row in rows})
    if len(splits) > 1:
        raise ValueError(f"{tree}: {clip_id} is in two splits: {' and '.join(splits)}")
    categories = {row.fid: row.category for row in reversed(meant)}
    taxonomy = read_taxonomy(tree)
    return Annotation(
        clip_id,
        size,
        splits[0] if splits else "train",
        objects=tuple(
            _read_object(tree, clip_id, fid, categories[fid], taxonomy)
            for fid in sorted(categories)
        ),
        sentences=tuple(
            SentenceAnnotation(row.raw_expression, None if row.is_null else row.fid) for row in rows
        ),
    )


def _is_of(row: Row, clip_id: str) -> bool:
    return row.clip_id == clip_id or (row.is_null and lending_clip_id(row.clip_id) == clip_id)


def _read_object(
    tree: Path, clip_id: str, fid: int, category: str, taxonomy: Taxonomy
) -> ObjectAnnotation:
    masks = {}
    for step, path in enumerate(mask_paths(tree, clip_id, fid)):
        try:
            masks[step] = read_mask(path)
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"{path}: cannot be read as a mask: {error}") from error
    return ObjectAnnotation(
        fid,
        category,
        taxonomy.super_category(category) or OBJECT,
        COLOURS[fid % len(COLOURS)],
        masks,
        frozenset(masks),
    )


# Comparing


@dataclass(frozen=True)
class ObjectAgreement:
    """Two annotators' objects that are the same thing.

    Args:
        fids: their numbers.
        categories: likewise.
        jaccard: of each step in [0, 1]; None where one of the two has no mask yet, 1 where both say
            that the object is not to be seen.
        sounding: IoU of their sounding intervals in [0, 1], 1 where both say that it is silent.
    """

    fids: tuple[int, int]
    categories: tuple[str, str]
    jaccard: tuple[float | None, ...]
    sounding: float

    @property
    def mean_jaccard(self) -> float | None:
        known = [value for value in self.jaccard if value is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class ClipAgreement:
    """Of a clip that two annotators have annotated; `alone` are the fids that only one has."""

    clip_id: str
    objects: tuple[ObjectAgreement, ...]
    alone: tuple[tuple[int, ...], tuple[int, ...]]
    sentences: tuple[tuple[SentenceAnnotation, ...], tuple[SentenceAnnotation, ...]]


def compare_annotators(tree: str | Path, first: str, second: str) -> list[ClipAgreement]:
    """Agreement on every clip that both have annotated, by name.

    Raises:
        ValueError: there is no such clip, or an annotation cannot be read.
    """
    stores = [AnnotationStore(tree, name) for name in (first, second)]
    shared = sorted(set(stores[0].clip_ids()) & set(stores[1].clip_ids()))
    if not shared:
        raise ValueError(f"{tree}: no clip is annotated by both {first} and {second}")
    return [compare_annotations(*(store.read(clip_id) for store in stores)) for clip_id in shared]


def compare_annotations(first: Annotation, second: Annotation) -> ClipAgreement:
    """Objects are matched by their masks, those of one category before others."""
    pairs = [_agreement(*pair) for pair in product(first.objects, second.objects)]
    # One category first; then the masks that overlap most.
    pairs.sort(key=lambda pair: (len(set(pair.categories)), -(pair.mean_jaccard or 0.0)))
    matched: list[ObjectAgreement] = []
    for pair in pairs:
        free = not any(
            one == two for other in matched for one, two in zip(pair.fids, other.fids, strict=True)
        )
        if free and (pair.mean_jaccard or 0.0) >= MATCHING_JACCARD:
            matched.append(pair)
    found = [{pair.fids[place] for pair in matched} for place in (0, 1)]
    return ClipAgreement(
        first.clip_id,
        tuple(sorted(matched, key=lambda pair: pair.fids)),
        tuple(
            tuple(thing.fid for thing in side.objects if thing.fid not in fids)
            for side, fids in zip((first, second), found, strict=True)
        ),
        (first.sentences, second.sentences),
    )


def _agreement(one: ObjectAnnotation, two: ObjectAnnotation) -> ObjectAgreement:
    return ObjectAgreement(
        (one.fid, two.fid),
        (one.category, two.category),
        tuple(_jaccard(one.masks.get(step), two.masks.get(step)) for step in range(NUM_FRAMES)),
        interval_jaccard(one.sounding, two.sounding),
    )


def _jaccard(one: np.ndarray | None, two: np.ndarray | None) -> float | None:
    return None if one is None or two is None else mask_jaccard(one, two)


def mask_jaccard(one: np.ndarray, two: np.ndarray) -> float:
    """J of two masks `(height, width)` bool; 1 where both are empty.

    Raises:
        ValueError: they are not of one size.
    """
    if one.shape != two.shape:
        raise ValueError(f"masks of {one.shape} and {two.shape} pixels cannot be compared")
    union = (one | two).sum()
    return float((one & two).sum() / union) if union else 1.0


Intervals = tuple[tuple[float, float], ...]


def interval_jaccard(one: Intervals, two: Intervals) -> float:
    """Seconds in both by seconds in either; 1 where both are empty."""
    shared = sum(_overlaps(one, two))
    total = sum(end - start for start, end in (*one, *two)) - shared
    return shared / total if total else 1.0


def _overlaps(one: Intervals, two: Intervals) -> Iterator[float]:
    for (start, end), (begin, stop) in product(one, two):
        yield max(0.0, min(end, stop) - max(start, begin))
