"""How often the rules complain of sentences that keep them, and notice sentences that do not:
`python -m dataset_script.annotate.measure_rules TREE`, of a tree that `refavs synthesize` drew.
Of a metadata.csv: how many of its sentences the parser understands."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..annotations import read_annotations
from ..media_files import mask_paths, read_mask
from ..schema import NUM_FRAMES
from ..synthetic.appearance import appearance_of
from ..synthetic.conditions import World
from ..synthetic.objects import CATEGORIES
from ..synthetic.scene import Scene
from .annotated_world import SUPERLATIVES
from .annotation import Annotation, ObjectAnnotation, SentenceAnnotation
from .sentence_parser import parse_sentence
from .sentence_rules import check_sentence, suggest_sentences
from .tree import COLOURS, frame_size


def read_drawn(tree: Path) -> Iterator[tuple[Annotation, list[dict[str, Any]], Scene]]:
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
            scene,
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
    for annotation, expressions, scene in read_drawn(Path(tree)):
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
        world, empty = World(scene), replace(annotation, sentences=())
        for index, thing in enumerate(annotation.objects):
            found = suggest_sentences(empty, thing.fid)
            counts["suggested"].update(objects=1, sentences=len(found))
            counts["suggested"].update(_judge(world, text, index) for text in found)
    return counts


def _judge(world: World, text: str, index: int) -> str:
    """What a scene graph says of a suggestion for an object. It has no groups, and its superlatives
    are meant among all objects."""
    conditions = parse_sentence(text).conditions
    kinds = {condition.kind for condition in conditions}
    if "group" in kinds or ("category" in kinds and kinds & set(SUPERLATIVES)):
        return "not judged"
    margins = world.together(conditions)
    others = np.delete(margins, index)
    if margins[index] <= -1 or (others >= 1).any():
        return "false"
    return "true" if margins[index] >= 1 and (others <= -1).all() else "true, but not clearly"


def measure_parser(csv_path: str | Path) -> dict[str, Counter]:
    """Counts, by split, of sentences whose words are all known, some, or none."""
    counts: dict[str, Counter] = {}
    for row in read_annotations(csv_path).rows:
        statement = parse_sentence(row.expression)
        known = "some" if statement.conditions else "none"
        known = known if statement.others else "all"
        counts.setdefault(row.split, Counter())[known] += 1
        counts.setdefault("all splits", Counter())[known] += 1
    return counts


def _count(counter: Counter, family: str, remarks: list[str]) -> None:
    counter["all"] += 1
    counter["remarked"] += bool(remarks)
    counter[f"{family}: all"] += 1
    counter[f"{family}: remarked"] += bool(remarks)


if __name__ == "__main__":
    measure = measure_parser if Path(sys.argv[1]).is_file() else measure_rules
    sys.stdout.write(json.dumps(measure(sys.argv[1]), indent=1) + "\n")
