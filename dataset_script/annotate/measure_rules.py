"""How often the rules complain of sentences that keep them, and notice sentences that do not:
`python -m dataset_script.annotate.measure_rules TREE`, of a tree that `refavs synthesize` drew."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..media_files import mask_paths, read_mask
from ..schema import NUM_FRAMES
from ..synthetic.appearance import appearance_of
from ..synthetic.objects import CATEGORIES
from ..synthetic.scene import Scene
from .annotation import Annotation, ObjectAnnotation, SentenceAnnotation
from .sentence_rules import check_sentence, suggest_sentences
from .tree import COLOURS, frame_size


def read_drawn(tree: Path) -> Iterator[tuple[Annotation, list[dict[str, Any]]]]:
    """Each clip as a careful person would annotate it, with the masks and the sounding intervals of
    its scene graph, but without colours, loudness and rhythm; and the sentences that are true of
    it."""
    for path in sorted((tree / "scenes").glob("*.json")):
        stored = json.loads(path.read_text(encoding="utf-8"))
        scene = Scene.from_json(stored["scene"])
        size = frame_size(tree, path.stem)
        objects = [
            ObjectAnnotation(
                item.fid,
                item.category,
                CATEGORIES[item.category].super_category,
                COLOURS[item.fid],
                masks,
                frozenset(masks),
                item.sound.intervals if item.sound else (),
            )
            for item, masks in zip(scene.objects, _masks(tree, path.stem, scene, size), strict=True)
        ]
        sentences = [SentenceAnnotation(e["text"], e["fid"]) for e in stored["expressions"]]
        yield (
            Annotation(path.stem, size, objects=tuple(objects), sentences=tuple(sentences)),
            stored["expressions"],
        )


def _masks(
    tree: Path, clip_id: str, scene: Scene, size: tuple[int, int]
) -> list[dict[int, np.ndarray]]:
    """Of each object. The tree of a null reference holds none, so they are drawn again."""
    if not clip_id.startswith("null_"):
        return [
            dict(enumerate(map(read_mask, mask_paths(tree, clip_id, item.fid))))
            for item in scene.objects
        ]
    drawn = [appearance_of("").draw(scene, float(step), *size)[1] for step in range(NUM_FRAMES)]
    return [
        {step: drawn[step][index] > 0 for step in range(NUM_FRAMES)}
        for index in range(len(scene.objects))
    ]


def measure_rules(tree: str | Path) -> dict[str, Counter]:
    """Counts, by what was done: `kept` (the sentences as they are), `moved` (each meant of each
    other object of its clip), `null` (null sentences), `null_moved` (true sentences called null),
    `suggested` (suggestions)."""
    counts = {name: Counter() for name in ("kept", "moved", "null", "null_moved", "suggested")}
    for annotation, expressions in read_drawn(Path(tree)):
        for expression in expressions:
            text, fid = expression["text"], expression["fid"]
            remarks = check_sentence(annotation, SentenceAnnotation(text, fid))
            name = "null" if fid is None else "kept"
            _count(counts[name], expression["family"], remarks)
            if fid is not None:
                remarks = check_sentence(annotation, SentenceAnnotation(text, None))
                _count(counts["null_moved"], expression["family"], remarks)
            for thing in annotation.objects if fid is not None else ():
                if thing.fid != fid:
                    remarks = check_sentence(annotation, SentenceAnnotation(text, thing.fid))
                    _count(counts["moved"], expression["family"], remarks)
        empty = replace(annotation, sentences=())
        for thing in annotation.objects:
            counts["suggested"]["objects"] += 1
            counts["suggested"]["sentences"] += len(suggest_sentences(empty, thing.fid))
    return counts


def _count(counter: Counter, family: str, remarks: list[str]) -> None:
    counter["all"] += 1
    counter["remarked"] += bool(remarks)
    counter[f"{family}: all"] += 1
    counter[f"{family}: remarked"] += bool(remarks)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure_rules(sys.argv[1]), indent=1) + "\n")
