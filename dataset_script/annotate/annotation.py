"""What a person says of one clip: its objects with masks, when they sound, and sentences. One JSON
file a clip and annotator, that a person can read and compare."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from modeling_refavs.mask_rle import decode_rle, encode_rle
from modeling_refavs.utils.files import whole_file

from ..schema import CLIP_MS, NUM_FRAMES, SPLITS
from ..taxonomy import NULL_CATEGORY


FOLDER = "annotations"  # of a tree: annotations/<annotator>/<clip id>.json
HISTORY = ".history"  # annotations/<annotator>/.history/<clip id>/: what undo goes back to
MAX_HISTORY = 200  # changes of a clip that can be undone
MAX_SIDE = 2**14  # pixels of a frame
_ANNOTATOR = re.compile(r"[\w-]{1,40}")


@dataclass(frozen=True, eq=False)
class ObjectAnnotation:
    """One object of a clip.

    Args:
        fid: its number, the one of gt_mask/<clip>/fid_<n>.
        category: "dog"; no `_` and no `/`, which a uid has for other things.
        super_category: "animal".
        colour: of its outline on the page, "#e6194b".
        masks: step -> `(height, width)` bool. A step that is not there is still to be annotated;
            an empty mask says that the object is not to be seen.
        corrected: steps whose mask a person has made or accepted; the others were propagated.
        sounding: intervals (start, end) in s, in order and apart.
    """

    fid: int
    category: str
    super_category: str
    colour: str
    masks: dict[int, np.ndarray] = field(default_factory=dict)
    corrected: frozenset[int] = frozenset()
    sounding: tuple[tuple[float, float], ...] = ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ObjectAnnotation):
            return NotImplemented
        facts = [{**vars(thing), "masks": thing.masks.keys()} for thing in (self, other)]
        return facts[0] == facts[1] and all(
            np.array_equal(mask, other.masks[step]) for step, mask in self.masks.items()
        )

    __hash__ = None  # masks can be changed in place


@dataclass(frozen=True)
class SentenceAnnotation:
    """A sentence and the object that it means; `fid` is None where it fits nothing."""

    text: str
    fid: int | None


@dataclass(frozen=True)
class Annotation:
    """All that one annotator says of one clip. It is never changed, but replaced.

    Args:
        size: (height, width) of its frames.
        shots: steps at which another shot begins, without 0.
    """

    clip_id: str
    size: tuple[int, int]
    split: str = "train"
    shots: tuple[int, ...] = ()
    objects: tuple[ObjectAnnotation, ...] = ()
    sentences: tuple[SentenceAnnotation, ...] = ()

    def __post_init__(self):
        _check(self)

    def find(self, fid: int) -> ObjectAnnotation:
        """
        Raises:
            ValueError: there is no such object.
        """
        for thing in self.objects:
            if thing.fid == fid:
                return thing
        raise ValueError(f"{self.clip_id}: there is no object {fid}")

    def with_object(self, thing: ObjectAnnotation) -> "Annotation":
        """With this object in place of the one of its number, or as one more."""
        others = [other for other in self.objects if other.fid != thing.fid]
        objects = sorted([*others, thing], key=lambda other: other.fid)
        return replace(self, objects=tuple(objects))

    def shot_of(self, step: int) -> range:
        """The steps of the shot that holds `step`."""
        starts = [0, *self.shots, NUM_FRAMES]
        begin = max(start for start in starts if start <= step)
        return range(begin, min(start for start in starts if start > step))


def _check(annotation: Annotation) -> None:
    def fail(reason: str) -> None:
        raise ValueError(f"{annotation.clip_id}: {reason}")

    fids = [thing.fid for thing in annotation.objects]
    check_clip_id(annotation.clip_id)
    if annotation.split not in SPLITS:
        fail(f"split must be one of {', '.join(SPLITS)}, got {annotation.split!r}")
    if list(annotation.shots) != sorted(set(annotation.shots) & set(range(1, NUM_FRAMES))):
        fail(f"shots must be steps from 1 to {NUM_FRAMES - 1}, in order: {annotation.shots}")
    if len(set(fids)) < len(fids) or min(fids, default=0) < 0:
        fail(f"objects must have numbers of their own, got {fids}")
    for thing in annotation.objects:
        name = f"object {thing.fid}"
        for kind, text in (("category", thing.category), ("group", thing.super_category)):
            tidy = text and text == " ".join(text.split()) and text.isprintable()
            if not tidy or set("_/") & set(text) or text == NULL_CATEGORY:
                fail(f"{name}: {text!r} cannot be the name of a {kind}")
        if not re.fullmatch(r"#[0-9a-f]{6}", thing.colour):
            fail(f"{name}: its colour must be such as #e6194b, got {thing.colour!r}")
        for step, mask in thing.masks.items():
            if step not in range(NUM_FRAMES) or mask.shape != annotation.size:
                fail(f"{name}: a mask of {mask.shape} at step {step} for {annotation.size} pixels")
        if not thing.corrected <= thing.masks.keys():
            fail(f"{name}: steps {sorted(thing.corrected)} are corrected and have no masks")
        times = [time for interval in thing.sounding for time in interval]
        if times != sorted(set(times)) or not all(0 <= time <= CLIP_MS / 1000 for time in times):
            fail(f"{name}: its sounding intervals must be in order and apart: {thing.sounding}")
    for sentence in annotation.sentences:
        if not sentence.text.strip() or len(sentence.text.splitlines()) > 1:
            fail(f"a sentence must be one line, got {sentence.text!r}")
        if sentence.fid is not None and sentence.fid not in fids:
            fail(f"{sentence.text!r} means object {sentence.fid}, which is not there")


# Files


def check_clip_id(clip_id: str) -> None:
    """
    Raises:
        ValueError: it cannot be a folder's name.
    """
    if not clip_id or clip_id.startswith(".") or "/" in clip_id or not clip_id.isprintable():
        raise ValueError(f"{clip_id!r} cannot be a clip's name: it is a folder of media/")


def annotation_path(tree: str | Path, annotator: str, clip_id: str) -> Path:
    """
    Raises:
        ValueError: the annotator's or the clip's name cannot be a folder's.
    """
    check_clip_id(clip_id)
    if not _ANNOTATOR.fullmatch(annotator):
        raise ValueError(
            f"an annotator's name must be up to 40 letters, digits, _ or -, got {annotator!r}"
        )
    return Path(tree, FOLDER, annotator, f"{clip_id}.json")


def read_annotation(path: str | Path) -> Annotation:
    """
    Raises:
        ValueError: names the file, and what in it is not as [`write_annotation`] leaves it.
        FileNotFoundError: there is none.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return _from_json(content)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: it cannot be read as an annotation: {error}") from error


def write_annotation(path: str | Path, annotation: Annotation) -> None:
    """Write it whole: a line for each mask, interval and sentence, so that two files can be
    compared."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished:
        unfinished.write_text(_to_text(_to_json(annotation)) + "\n", encoding="utf-8")


def _to_json(annotation: Annotation) -> dict[str, Any]:
    return {
        "clip_id": annotation.clip_id,
        "size": list(annotation.size),
        "split": annotation.split,
        "shots": list(annotation.shots),
        "objects": [
            {
                "fid": thing.fid,
                "category": thing.category,
                "super_category": thing.super_category,
                "colour": thing.colour,
                "corrected": sorted(thing.corrected),
                "sounding": [list(interval) for interval in thing.sounding],
                "masks": {
                    str(step): encode_rle(thing.masks[step])["counts"]
                    for step in sorted(thing.masks)
                },
            }
            for thing in annotation.objects
        ],
        "sentences": [
            {"text": sentence.text, "fid": sentence.fid} for sentence in annotation.sentences
        ],
    }


def _from_json(content: dict[str, Any]) -> Annotation:
    size = tuple(content["size"])
    if len(size) != 2 or not all(type(side) is int and 0 < side <= MAX_SIDE for side in size):
        raise ValueError(f"size must be (height, width) in pixels, up to {MAX_SIDE}, got {size}")

    def mask(counts: str) -> np.ndarray:
        return decode_rle({"size": size, "counts": counts})

    return Annotation(
        content["clip_id"],
        size,
        content["split"],
        tuple(content["shots"]),
        tuple(
            ObjectAnnotation(
                thing["fid"],
                thing["category"],
                thing["super_category"],
                thing["colour"],
                {int(step): mask(counts) for step, counts in thing["masks"].items()},
                frozenset(thing["corrected"]),
                tuple((float(start), float(end)) for start, end in thing["sounding"]),
            )
            for thing in content["objects"]
        ),
        tuple(
            SentenceAnnotation(sentence["text"], sentence["fid"])
            for sentence in content["sentences"]
        ),
    )


def _to_text(value: Any, indent: str = "") -> str:
    """JSON with a line for each entry, but for lists of numbers and pairs, which have one line."""
    inner = indent + " "
    if isinstance(value, dict) and "text" not in value:
        lines = [
            f"{inner}{json.dumps(key)}: {_to_text(entry, inner)}" for key, entry in value.items()
        ]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}" if lines else "{}"
    if isinstance(value, list) and value and isinstance(value[0], (dict, list)):
        lines = [inner + _to_text(entry, inner) for entry in value]
        return "[\n" + ",\n".join(lines) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)


class AnnotationStore:
    """The annotations of one annotator of a tree: each change is on disk when `save` returns, and
    can be undone, also by a later process."""

    def __init__(self, tree: str | Path, annotator: str):
        annotation_path(tree, annotator, "any")
        self.tree, self.annotator = Path(tree), annotator

    def path(self, clip_id: str) -> Path:
        return annotation_path(self.tree, self.annotator, clip_id)

    def clip_ids(self) -> list[str]:
        paths = (self.tree / FOLDER / self.annotator).glob("*.json")
        return sorted(path.stem for path in paths if not path.name.startswith("."))

    def read(self, clip_id: str) -> Annotation | None:
        """None where nothing was said of the clip yet.

        Raises:
            ValueError: as [`read_annotation`]; or the file is of another clip.
        """
        path = self.path(clip_id)
        try:
            annotation = read_annotation(path)
        except FileNotFoundError:
            return None
        if annotation.clip_id != clip_id:
            raise ValueError(f"{path}: it is of the clip {annotation.clip_id}: rename the file")
        return annotation

    def save(self, annotation: Annotation) -> None:
        """What was there before is what `undo` brings back; what was undone is gone. Nothing
        happens where nothing is new.

        A process that is killed on the way leaves the last annotation or this one, and nothing of
        what can be undone is lost.
        """
        clip_id = annotation.clip_id
        present = self.read(clip_id)
        if present == annotation:
            return
        self._keep(clip_id, "undo", present)
        write_annotation(self.path(clip_id), annotation)
        for path in self._versions(clip_id, "redo"):
            path.unlink()

    def undo(self, clip_id: str) -> Annotation | None:
        """The annotation as it was before the last change; unchanged if there is no earlier."""
        return self._step(clip_id, "undo", "redo")

    def redo(self, clip_id: str) -> Annotation | None:
        """The annotation as it was before the last `undo`; unchanged if nothing was undone."""
        return self._step(clip_id, "redo", "undo")

    def can(self, clip_id: str) -> dict[str, bool]:
        """Whether there is something to undo and to redo."""
        return {kind: any(self._versions(clip_id, kind)) for kind in ("undo", "redo")}

    def _step(self, clip_id: str, source: str, target: str) -> Annotation | None:
        present = self.read(clip_id)
        versions = list(self._versions(clip_id, source))
        while versions and _read_version(versions[-1]) == present:
            versions.pop().unlink()  # a process was killed between keeping it and going on
        if not versions:
            return present
        wanted = _read_version(versions[-1])
        self._keep(clip_id, target, present)
        if wanted is None:
            self.path(clip_id).unlink(missing_ok=True)
        else:
            write_annotation(self.path(clip_id), wanted)
        versions[-1].unlink()
        return wanted

    def _versions(self, clip_id: str, kind: str) -> Iterator[Path]:
        folder = self.path(clip_id).parent / HISTORY / clip_id
        return iter(sorted(folder.glob(f"{kind}_*.json")))

    def _keep(self, clip_id: str, kind: str, annotation: Annotation | None) -> None:
        versions = list(self._versions(clip_id, kind))
        number = int(versions[-1].stem.rpartition("_")[2]) + 1 if versions else 0
        path = self.path(clip_id).parent / HISTORY / clip_id / f"{kind}_{number:06d}.json"
        if annotation is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            write_annotation(path, annotation)
        for old in versions[: max(0, len(versions) + 1 - MAX_HISTORY)]:
            old.unlink()


def _read_version(path: Path) -> Annotation | None:
    """None for the time before the first change, which an empty file stands for."""
    return read_annotation(path) if path.stat().st_size else None
