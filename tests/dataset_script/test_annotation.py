"""The annotation of a clip on disk: read as written, undone and redone, whole after a crash."""

import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dataset_script.annotate import annotation as module
from dataset_script.annotate.annotation import (
    Annotation,
    AnnotationStore,
    ObjectAnnotation,
    SentenceAnnotation,
    annotation_path,
    read_annotation,
    write_annotation,
)


CLIP = "-aaa_0_10000"
SIZE = (12, 16)


def block(left: int, width: int = 4) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[2:9, left : left + width] = True
    return mask


def make(**changes) -> Annotation:
    dog = ObjectAnnotation(
        0,
        "dog",
        "animal",
        "#e6194b",
        {step: block(step) for step in range(10)},
        frozenset({0, 4}),
        ((0.5, 2.25), (4.0, 10.0)),
    )
    bus = ObjectAnnotation(3, "fire engine", "machine", "#3cb44b", {0: block(9), 1: block(0, 0)})
    sentences = (
        SentenceAnnotation("The dog “Bello”.", 0),
        SentenceAnnotation("The cat.", None),
    )
    return replace(Annotation(CLIP, SIZE, "val", (3, 7), (dog, bus), sentences), **changes)


def test_read_as_written(tmp_path):
    path = annotation_path(tmp_path, "ann", CLIP)
    write_annotation(path, make())
    assert read_annotation(path) == make()
    assert [item.name for item in path.parent.iterdir()] == [f"{CLIP}.json"]
    empty = Annotation(CLIP, SIZE)
    write_annotation(path, empty)
    assert read_annotation(path) == empty


def test_annotations_differ_by_what_they_say():
    assert make() == make()
    dog, bus = make().objects
    other = make().with_object(replace(dog, masks={**dog.masks, 5: block(0)}))
    assert make() != other
    assert make() != make(objects=(dog,))
    assert make() != make(objects=(dog, replace(bus, sounding=((1.0, 2.0),))))
    assert [thing.fid for thing in other.objects] == [0, 3]


def test_a_change_is_one_line(tmp_path):
    dog = make().find(0)
    changes = [
        make().with_object(replace(dog, masks={**dog.masks, 5: block(0)})),
        make().with_object(replace(dog, sounding=((0.5, 2.5), (4.0, 10.0)))),
        make(sentences=(make().sentences[0], SentenceAnnotation("The bird.", None))),
        make(shots=(3,)),
    ]
    path = tmp_path / "a.json"
    write_annotation(path, make())
    before = path.read_text(encoding="utf-8").splitlines()
    for changed in changes:
        write_annotation(path, changed)
        after = path.read_text(encoding="utf-8").splitlines()
        assert len(after) == len(before)
        assert sum(one != two for one, two in zip(before, after, strict=True)) == 1
    assert '"text": "The dog “Bello”."' in before[-4]


def test_shots_hold_their_steps():
    annotation = make()
    assert [annotation.shot_of(step)[0] for step in range(10)] == [0] * 3 + [3] * 4 + [7] * 3
    assert annotation.shot_of(9) == range(7, 10)
    with pytest.raises(ValueError, match="there is no object 1"):
        annotation.find(1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"split": "dev"}, "split must be one of"),
        ({"shots": [0, 3]}, "shots must be steps from 1 to 9"),
        ({"shots": [7, 3]}, "shots must be steps"),
        ({"size": [12, 17]}, "the RLE is damaged"),
        ({"size": [0, 16]}, "size must be"),
        ({"size": [10**9, 10**9]}, "size must be"),
        ({"clip_id": "../up"}, "cannot be a clip's name"),
        ({"objects": None}, "cannot be read as an annotation"),
        ({"sentences": [{"text": "  ", "fid": None}]}, "a sentence must be one line"),
        ({"sentences": [{"text": "The\ndog.", "fid": None}]}, "a sentence must be one line"),
        ({"sentences": [{"text": "The dog.", "fid": 1}]}, "means object 1, which is not there"),
        ({"fid": 3}, "numbers of their own"),
        ({"fid": -1}, "numbers of their own"),
        ({"category": "hot_dog"}, "cannot be the name of a category"),
        ({"category": "null"}, "'null' cannot be the name of a category"),
        ({"category": " dog"}, "cannot be the name of a category"),
        ({"super_category": ""}, "cannot be the name of a group"),
        ({"colour": "red"}, "its colour must be such as"),
        ({"corrected": [0, 11]}, r"steps \[0, 11\] are corrected and have no masks"),
        ({"sounding": [[3, 2]]}, "in order and apart"),
        ({"sounding": [[0, 2], [1, 3]]}, "in order and apart"),
        ({"sounding": [[0, 10.5]]}, "in order and apart"),
        ({"sounding": [[0, float("nan")]]}, "in order and apart"),
        ({"masks": {"10": "0"}}, "RLE"),
        ({"masks": {"0": "\xa7"}}, "no COCO RLE counts"),
    ],
)
def test_bad_files_are_named(tmp_path, change, words):
    path = tmp_path / "a.json"
    write_annotation(path, make())
    content = json.loads(path.read_text(encoding="utf-8"))
    for key, value in change.items():
        (content if key in content else content["objects"][0])[key] = value
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=words) as caught:
        read_annotation(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"clip_id": 3, "size": [1, 1]}', "\udcff"])
def test_what_is_no_annotation(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match="cannot be read as an annotation"):
        read_annotation(path)
    with pytest.raises(FileNotFoundError):
        read_annotation(tmp_path / "b.json")


@pytest.mark.parametrize("name", ["", "a b", "../x", "a/b", ".hidden", "x" * 41])
def test_names_of_annotators(tmp_path, name):
    with pytest.raises(ValueError, match="an annotator's name must be"):
        AnnotationStore(tmp_path, name)


@pytest.mark.parametrize("clip_id", ["", "../x", "a/b", ".x", "a\0b"])
def test_names_of_clips(tmp_path, clip_id):
    store = AnnotationStore(tmp_path, "ann")
    for use in (store.path, store.read, store.undo):
        with pytest.raises(ValueError, match="cannot be a clip's name"):
            use(clip_id)
    with pytest.raises(ValueError, match="cannot be a clip's name"):
        Annotation(clip_id, SIZE)


def test_the_file_of_another_clip(tmp_path):
    store = AnnotationStore(tmp_path, "ann")
    store.save(make())
    store.path(CLIP).rename(store.path("bbb_0_10000"))
    with pytest.raises(ValueError, match=f"it is of the clip {CLIP}"):
        store.read("bbb_0_10000")


def numbered(number: int) -> Annotation:
    return make(sentences=(SentenceAnnotation(f"Sentence {number}.", None),))


def test_undo_and_redo(tmp_path):
    store = AnnotationStore(tmp_path, "ann")
    assert store.read(CLIP) is None
    assert store.undo(CLIP) is None
    for number in range(3):
        store.save(numbered(number))
        store.save(numbered(number))  # nothing new
    assert store.can(CLIP) == {"undo": True, "redo": False}
    assert store.undo(CLIP) == numbered(1)
    assert store.undo(CLIP) == store.read(CLIP) == numbered(0)
    assert store.redo(CLIP) == numbered(1)
    assert store.undo(CLIP) == numbered(0)
    assert store.undo(CLIP) is None
    assert store.undo(CLIP) is None
    assert store.clip_ids() == []
    assert store.can(CLIP) == {"undo": False, "redo": True}
    assert [store.redo(CLIP) for _ in range(4)] == [*map(numbered, range(3)), numbered(2)]
    store.undo(CLIP)
    store.save(numbered(9))
    assert store.can(CLIP) == {"undo": True, "redo": False}
    assert store.redo(CLIP) == numbered(9)
    assert store.undo(CLIP) == numbered(1)


def in_another_process(work, *args):
    process = multiprocessing.get_context("fork").Process(target=work, args=args)
    process.start()
    process.join()
    return process.exitcode


def test_another_process_goes_on(tmp_path):
    def work():
        AnnotationStore(tmp_path, "ann").save(numbered(1))
        AnnotationStore(tmp_path, "ann").undo(CLIP)

    store = AnnotationStore(tmp_path, "ann")
    store.save(numbered(0))
    assert in_another_process(work) == 0
    assert store.read(CLIP) == numbered(0)
    assert store.redo(CLIP) == numbered(1)
    assert store.undo(CLIP) == numbered(0)
    assert AnnotationStore(tmp_path, "bob").read(CLIP) is None


def _calls(action, deadly=None):
    """The writes, renames and removals of an action; the process dies before the one numbered
    `deadly`."""
    calls = []

    def counted(kind):
        whole = getattr(Path, kind)

        def call(self, *args, **kwargs):
            if len(calls) == deadly:
                os._exit(9)
            calls.append(kind)
            return whole(self, *args, **kwargs)

        return call

    kinds = ("replace", "unlink", "touch", "write_text")
    saved = {kind: getattr(Path, kind) for kind in kinds}
    try:
        for kind in kinds:
            setattr(Path, kind, counted(kind))
        action()
    finally:
        for kind, whole in saved.items():
            setattr(Path, kind, whole)
    return calls


ACTIONS = {
    "save": lambda store: store.save(numbered(7)),
    "undo": lambda store: store.undo(CLIP),
    "redo": lambda store: store.redo(CLIP),
}
OUTCOMES = {"save": (2, 7), "undo": (2, 1), "redo": (2, 3)}  # before, after


def start(folder) -> AnnotationStore:
    """Annotation 2, with 1 and 0 to undo and with 3 to redo."""
    store = AnnotationStore(folder, "ann")
    for number in range(4):
        store.save(numbered(number))
    store.undo(CLIP)
    return store


@pytest.mark.parametrize("name", ACTIONS)
def test_killed_between_any_two_writes(name, tmp_path):
    action, (before, after) = ACTIONS[name], OUTCOMES[name]
    whole = start(tmp_path / "whole")
    steps = len(_calls(lambda: action(whole)))
    assert steps >= 4
    for deadly in range(steps):
        folder = tmp_path / str(deadly)
        store = start(folder)
        assert in_another_process(_calls, lambda store=store: action(store), deadly) == 9
        assert store.clip_ids() == [CLIP]
        present = store.read(CLIP)
        assert present in (numbered(before), numbered(after))
        earlier = [store.undo(CLIP) for _ in range(4)]
        reached = {7: 2, 3: 2, 2: 1, 1: 0}[int(present.sentences[0].text[9:-1])]
        assert earlier[: reached + 2] == [*map(numbered, range(reached, -1, -1)), None]
        later = [store.redo(CLIP) for _ in range(4)]
        assert later[:2] == [numbered(0), numbered(1)]
        assert present in later


def test_old_changes_are_forgotten_and_recent_ones_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_HISTORY", 6)
    store = AnnotationStore(tmp_path, "ann")
    for number in range(12):
        store.save(numbered(number))
        kept = list(store._versions(CLIP, "undo"))
        assert len(kept) == min(number + 1, 6)
    assert [store.undo(CLIP) for _ in range(7)] == [*map(numbered, range(10, 4, -1)), numbered(5)]
