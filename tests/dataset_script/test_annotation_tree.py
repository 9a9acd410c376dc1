"""Annotations as a tree in the official layout, a tree as annotations, and two annotators."""

from dataclasses import replace

import numpy as np
import pytest

from dataset_script.annotate import tree as module
from dataset_script.annotate.annotation import (
    Annotation,
    AnnotationStore,
    ObjectAnnotation,
    SentenceAnnotation,
)
from dataset_script.annotate.tree import (
    annotated_clip_ids,
    compare_annotations,
    compare_annotators,
    interval_jaccard,
    read_tree_annotation,
    write_tree,
)
from dataset_script.annotations import read_annotations
from dataset_script.checking import check_tree
from dataset_script.export_videos import export_videos
from dataset_script.import_videos import import_videos
from dataset_script.media_files import frame_paths, mask_paths, read_mask, sound_path
from dataset_script.taxonomy import read_taxonomy


ONE, TWO = "aaaaaaaaaaa_0_10000", "-bb_bbbbbbb_5000_15000"
SIZE = (36, 48)


def block(left: int, step: int = 0, top: int = 4) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[top : top + 12, left + step : left + step + 8] = True
    return mask


def thing(fid: int, category: str, left: int, group: str = "animal", **changes) -> ObjectAnnotation:
    masks = {step: block(left, step) for step in range(10)}
    present = ObjectAnnotation(fid, category, group, module.COLOURS[fid], masks, frozenset(masks))
    return replace(present, **changes)


def annotate(clip_id: str, *sentences: tuple[str, int | None], **changes) -> Annotation:
    objects = (thing(0, "dog", 2), thing(2, "hair-dryer", 25, "machine"))
    said = tuple(SentenceAnnotation(*sentence) for sentence in sentences)
    facts = {"objects": objects, "sentences": said, **changes}
    return Annotation(clip_id, SIZE, **facts)


SENTENCES = (("The  dog. ", 0), ("The hair-dryer.", 2), ("What barks?", 0), ("The cat.", None))


@pytest.fixture
def media(tmp_path, make_tree, make_rows):
    """Two clips without masks and sentences."""
    tree = make_tree(
        tmp_path / "T", [row for clip in (ONE, TWO) for row in make_rows(clip, "train", {0: "dog"})]
    )
    for path in [*(tree / "gt_mask").rglob("*.png"), tree / "metadata.csv"]:
        path.unlink()
    return tree


@pytest.fixture
def store(media):
    store = AnnotationStore(media, "ann")
    store.save(annotate(ONE, *SENTENCES))
    store.save(annotate(TWO, ("The dog.", 0), split="val"))
    return store


def texts(tree) -> list[tuple]:
    rows = read_annotations(tree / "metadata.csv").rows
    return [(row.split, row.uid, row.fid, row.raw_expression) for row in rows]


def test_a_tree_that_the_check_and_the_import_take(store, media):
    counts = write_tree(media, "ann")
    assert counts == {
        "clips": 2,
        "objects": 4,
        "sentences": 5,
        "null_sentences": 1,
        "not_annotated": 0,
    }
    report = check_tree(media)
    assert report.can_train
    assert set(report.counts) <= {
        "dash_name",
        "fid_gap",
        "leaked_clip",
        "untidy_spaces",
        "null_without_masks",
    }
    assert texts(media) == [
        ("val", f"{TWO}_dog_1", 0, "The dog."),
        ("train", f"{ONE}_dog_1", 0, "The  dog. "),
        ("train", f"{ONE}_hair-dryer_1", 2, "The hair-dryer."),
        ("train", f"{ONE}_dog_2", 0, "What barks?"),
        ("train", f"null_c-{ONE}_null_1", 0, "The cat."),
    ]
    np.testing.assert_array_equal(read_mask(mask_paths(media, ONE, 2)[3]), block(25, 3))
    copies = [frame_paths, lambda *place: [sound_path(*place)]]
    for paths in copies:
        for one, two in zip(paths(media, ONE), paths(media, f"null_c-{ONE}"), strict=True):
            assert one.read_bytes() == two.read_bytes()
    assert read_taxonomy(media).categories == {"dog": "animal", "hair-dryer": "machine"}
    assert annotated_clip_ids(media) == sorted([ONE, TWO])


def test_the_tree_gives_the_annotation_again(store, media):
    write_tree(media, "ann")
    for clip_id in (ONE, TWO):
        annotation, back = store.read(clip_id), read_tree_annotation(media, clip_id)
        said = {sentence.fid for sentence in annotation.sentences}
        assert back.objects == tuple(t for t in annotation.objects if t.fid in said)
        assert back.sentences == annotation.sentences
        assert back.split == annotation.split
    assert read_tree_annotation(media, ONE) == store.read(ONE)


def test_written_again_after_changes(store, media):
    write_tree(media, "ann")
    files = {path: path.stat().st_mtime_ns for path in media.rglob("*.png")}
    cat = thing(2, "cat", 20)
    store.save(annotate(ONE, ("The cat.", 2), objects=(cat,)))
    write_tree(media, "ann")
    assert [row[1:] for row in texts(media)[1:]] == [(f"{ONE}_cat_1", 2, "The cat.")]
    assert not mask_paths(media, ONE, 0)[0].exists()
    np.testing.assert_array_equal(read_mask(mask_paths(media, ONE, 2)[3]), block(20, 3))
    assert not (media / "media" / f"null_c-{ONE}").exists()
    assert read_taxonomy(media).categories == {
        "cat": "animal",
        "dog": "animal",
        "hair-dryer": "machine",
    }
    kept = [path for path, time in files.items() if TWO in str(path)]
    assert len(kept) == 20
    assert all(path.stat().st_mtime_ns == files[path] for path in kept)
    assert check_tree(media).can_train


def test_rows_of_others_stay(tree):
    """A released tree of which one clip is corrected."""
    before, clip_id = texts(tree), "-aaaaaaaaaa_0_10000"
    (tree / "taxonomy.json").unlink(missing_ok=True)
    store = AnnotationStore(tree, "ann")
    annotation = read_tree_annotation(tree, clip_id)
    assert annotation.split == "train"
    assert {t.fid: (t.category, t.super_category) for t in annotation.objects} == {
        0: ("cello", "instrument"),
        1: ("man", "human"),
    }
    store.save(replace(annotation, sentences=annotation.sentences[:1]))
    assert write_tree(tree, "ann")["not_annotated"] == 5
    after = texts(tree)
    mine = [row for row in before if row[1].startswith(clip_id)]
    assert sorted(after) == sorted([row for row in before if row not in mine] + mine[:1])
    assert read_taxonomy(tree).unseen == {"tiger"}
    null = read_tree_annotation(tree, "null_c-ggggggggggg_0_10000")
    assert (null.split, len(null.sentences), null.objects) == ("test_n", 4, ())
    store.save(replace(null, sentences=null.sentences[:2]))
    write_tree(tree, "ann")
    assert sum(row[0] == "test_n" for row in texts(tree)) == 2
    assert check_tree(tree).can_train


def test_null_sentences_stay_in_the_folder_that_has_them(store, media):
    (media / "media" / f"null_m-{ONE}").mkdir()
    write_tree(media, "ann")
    assert texts(media)[-1][1] == f"null_m-{ONE}_null_1"
    assert not (media / "media" / f"null_c-{ONE}").exists()
    assert read_tree_annotation(media, ONE).sentences[-1] == SentenceAnnotation("The cat.", None)


@pytest.mark.parametrize("split", ["test_s", "test_u"])
def test_null_sentences_of_test_splits_are_test_n(split, store, media):
    store.save(annotate(ONE, *SENTENCES, split=split))
    write_tree(media, "ann")
    assert {row[0] for row in texts(media)} == {"val", split, "test_n"}
    assert read_tree_annotation(media, ONE).split == split


DOG = thing(0, "dog", 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"objects": (replace(DOG, masks={0: block(3)}, corrected=frozenset()),)},
            r"object 0 \(dog\) has no mask at the steps 1, 2, 3, 4, 5, 6, 7, 8, 9$",
        ),
        (
            {"objects": (replace(DOG, masks={s: block(3) & False for s in range(10)}),)},
            "is never to be seen",
        ),
        ({"sentences": ()}, "it has no sentence"),
        ({"split": "test_n"}, "test_n holds null sentences alone"),
        (
            {"objects": (replace(DOG, super_category="pet"),)},
            "dog is of the group pet, in .* of animal",
        ),
        ({"clip_id": "away_0_10000"}, "media/away_0_10000/frames/0.jpg is not there"),
        (
            {"size": (10, 10), "objects": (), "sentences": (SentenceAnnotation("A.", None),)},
            r"its masks have \(10, 10\) pixels and its frames \(36, 48\)",
        ),
    ],
)
def test_what_is_unfinished_is_named_and_nothing_written(changes, words, store, media):
    store.save(replace(annotate(ONE, ("The dog.", 0)), **changes))
    with pytest.raises(ValueError, match=words):
        write_tree(media, "ann")
    assert not (media / "metadata.csv").exists()
    assert not list((media / "gt_mask").rglob("*.png"))


def test_nothing_to_write(media):
    with pytest.raises(ValueError, match="nothing is annotated yet"):
        write_tree(media, "ann")
    with pytest.raises(ValueError, match="it has no clips"):
        annotated_clip_ids(media / "gt_mask")
    with pytest.raises(ValueError, match="cannot be read as a picture"):
        read_tree_annotation(media, "away")


def test_a_run_that_fails_is_mended_by_the_next(store, media, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    write_tree(media, "ann")
    store.save(annotate(ONE, ("The cat.", 2), objects=(thing(2, "cat", 20),)))
    before = texts(media)
    for name in ("_write_taxonomy", "write_annotations", "_remove_stale"):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fail)
            with pytest.raises(OSError, match="disk full"):
                write_tree(media, "ann")
        assert check_tree(media).can_train
        assert (texts(media) == before) == (name != "_remove_stale")
    write_tree(media, "ann")
    assert check_tree(media).can_train


def test_agreement_of_two_annotators(store, media):
    other = AnnotationStore(media, "bob")
    masks = {step: block(2, step, top=7) for step in range(9)}
    dog = thing(5, "dog", 2, masks=masks, corrected=frozenset(), sounding=((0.0, 4.0),))
    other.save(annotate(ONE, ("A dog.", 5), objects=(dog, thing(6, "cat", 38))))
    mine = store.read(ONE)
    store.save(mine.with_object(replace(mine.find(0), sounding=((1.0, 6.0),))))
    (clip,) = compare_annotators(media, "ann", "bob")
    (pair,) = clip.objects
    assert (pair.fids, pair.categories, clip.alone) == ((0, 5), ("dog", "dog"), ((2,), (6,)))
    np.testing.assert_allclose(pair.jaccard[:9], 9 / 15)
    assert pair.jaccard[9] is None
    assert pair.mean_jaccard == pytest.approx(0.6)
    assert pair.sounding == pytest.approx(3 / 6)
    assert [sentence.text for sentence in clip.sentences[1]] == ["A dog."]
    with pytest.raises(ValueError, match="no clip is annotated by both ann and eve"):
        compare_annotators(media, "ann", "eve")


def test_the_category_decides_before_the_masks():
    """A dog lies over another: the masks alone would swap the two."""
    first = annotate(ONE, objects=(thing(0, "dog", 0), thing(1, "cat", 4)))
    second = annotate(ONE, objects=(thing(0, "cat", 1), thing(1, "dog", 3)))
    pairs = compare_annotations(first, second).objects
    assert [pair.fids for pair in pairs] == [(0, 1), (1, 0)]
    one = compare_annotations(first, replace(second, objects=(thing(7, "wolf", 0),)))
    assert [(pair.fids, pair.mean_jaccard) for pair in one.objects] == [((0, 7), 1.0)]


@pytest.mark.parametrize(
    ("one", "two", "value"),
    [
        ((), (), 1.0),
        (((0, 1),), (), 0.0),
        (((0, 4), (6, 8)), ((2, 7),), 3 / 8),
        (((0, 4),), ((0, 4),), 1.0),
    ],
)
def test_interval_jaccard(one, two, value):
    assert interval_jaccard(one, two) == pytest.approx(value)
    assert interval_jaccard(two, one) == pytest.approx(value)


def test_imports_and_annotations_name_null_clips_alike(store, media, tmp_path):
    write_tree(media, "ann")
    store.save(annotate(TWO, ("The dog.", 0), ("The hair-dryer.", 2), split="val"))
    write_tree(media, "ann")
    export_videos("mevis", media, tmp_path / "out")
    import_videos("mevis", tmp_path / "out", tmp_path / "back")
    assert sorted(texts(tmp_path / "back")) == sorted(texts(media))
