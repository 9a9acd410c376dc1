"""Every irregularity of the real csv and every kind of damage, planted one by one; each is found,
and only it."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset_script.annotations import read_annotations, write_annotations
from dataset_script.checking import FATAL, FINDINGS, check_tree, report_text, write_report
from dataset_script.media_files import frame_paths, mask_paths, sound_path, write_mask


DOG, CELLO, NULL = "bbb_bbbbbbb_5000_15000", "-aaaaaaaaaa_0_10000", "null_c-ggggggggggg_0_10000"


def findings(tree: Path, **options) -> dict[str, int]:
    return {
        code: count
        for code, count in check_tree(tree, **options).counts.items()
        if code != "dash_name"
    }


def edit_rows(tree: Path, edit) -> None:
    rows = read_annotations(tree / "metadata.csv").rows
    write_annotations(tree / "metadata.csv", edit(rows))


def change(**fields):
    """An edit of the dog's first row."""

    def edit(rows):
        return [replace(row, **fields) if row.uid == f"{DOG}_dog_1" else row for row in rows]

    return edit


def copy_dog(**fields):
    """An edit that appends a changed copy of the dog's first row."""

    def edit(rows):
        dog = next(row for row in rows if row.uid == f"{DOG}_dog_1")
        return [*rows, replace(dog, **fields)]

    return edit


def test_a_clean_tree_has_only_its_dash(tree):
    report = check_tree(tree)
    assert report.counts == {"dash_name": 6}
    assert report.can_train
    assert report.rows == {"train": 9, "val": 3, "test_s": 6, "test_u": 3, "test_n": 4}
    assert report.usable_rows == report.rows


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (change(split="TODO"), {"leftover_row": 1}),
        (change(split="holdout"), {"malformed_row": 1}),
        (change(raw_expression="NO."), {"placeholder_sentence": 1}),
        (change(raw_expression="[Error] only letters"), {"error_sentence": 1}),
        (change(raw_expression="The dog. "), {"untidy_spaces": 1}),
        (change(raw_expression="The  dog."), {"untidy_spaces": 1}),
        (change(raw_expression="The dog_barking."), {"underscore_for_space": 1}),
        (change(vid="other_0_10000"), {"vid_not_clip": 1}),
        (change(uid=f"{DOG}_dog_2"), {"duplicate_uid": 1}),
        (change(uid=f"{DOG}_unicorn_1"), {"unknown_category": 1, "two_categories": 1}),
        (change(uid=f"{DOG}_tiger_1"), {"unseen_in_other_split": 1, "two_categories": 1}),
        (change(uid=f"{DOG}_null_1"), {"null_name": 1, "two_categories": 1, "null_with_object": 1}),
        (copy_dog(), {"duplicate_uid": 1, "duplicate_row": 1}),
        (copy_dog(split="val"), {"duplicate_uid": 1, "leaked_clip": 1, "leaked_video": 1}),
        (
            lambda rows: [
                replace(row, raw_expression="the cello" * 2) if row.uid.endswith("_1") else row
                for row in rows
            ],
            {"ambiguous_sentence": 2},
        ),
        (
            lambda rows: [r for r in rows if not r.uid.startswith(f"{CELLO}_cello")],
            {"fid_gap": 1},
        ),
    ],
)
def test_irregular_rows(tree, edit, expected):
    edit_rows(tree, edit)
    assert findings(tree) == expected


def test_rows_that_need_media_of_their_own(tmp_path, make_tree, make_rows):
    rows = make_rows("scene7", "train", {0: "dog"}) + make_rows(
        "eeeeeeeeeee_0_10000", "test_u", {0: "dog"}
    )
    rows += make_rows("null_m-hhhhhhhhhhh_0_10000", "test_n", {3: "null"})
    rows += make_rows("bbbbbbbbbbb_0_10000", "train", {0: "dog"}) + make_rows(
        "bbbbbbbbbbb_90000_100000", "val", {0: "dog"}
    )
    tree = make_tree(tmp_path / "tree", rows)
    assert findings(tree) == {
        "clip_name": 3,
        "seen_in_test_u": 3,
        "null_fid": 3,
        "fid_gap": 1,
        "leaked_video": 1,
    }
    assert check_tree(tree).leaks == {"train and val": {"leaked_clip": 0, "leaked_video": 1}}


def cut(path: Path, share: float = 0.6) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def resize(path: Path) -> None:
    with Image.open(path) as image:
        image.resize((20, 10)).save(path)


def all_masks(root: Path, clip_id: str, mask) -> None:
    for path in mask_paths(root, clip_id, 0):
        write_mask(path, mask)


DAMAGE = {
    "missing_clip": lambda root: shutil.rmtree(root / "media" / DOG),
    "missing_frame": lambda root: frame_paths(root, DOG)[3].unlink(),
    "damaged_frame": lambda root: cut(frame_paths(root, DOG)[3]),
    "missing_sound": lambda root: sound_path(root, DOG).unlink(),
    "damaged_sound": lambda root: cut(sound_path(root, DOG)),
    "missing_mask": lambda root: mask_paths(root, DOG, 0)[9].unlink(),
    "damaged_mask": lambda root: cut(mask_paths(root, DOG, 0)[9]),
    "frame_sizes_differ": lambda root: resize(frame_paths(root, DOG)[3]),
    "mask_size": lambda root: resize(mask_paths(root, DOG, 0)[9]),
    "sound_length": lambda root: short_sound(root),
    "object_never_visible": lambda root: all_masks(root, DOG, np.zeros((36, 48))),
    "null_with_object": lambda root: all_masks(root, NULL, np.ones((36, 48))),
    "null_without_masks": lambda root: shutil.rmtree(root / "gt_mask" / NULL),
    "clip_without_sentence": lambda root: (root / "media" / "stray_0_10000").mkdir(),
}


def short_sound(root: Path) -> None:
    """Nine seconds, and a header that says so."""
    sound = bytearray(sound_path(root, DOG).read_bytes()[:-4000])
    sound[40:44] = (len(sound) - 44).to_bytes(4, "little")
    sound_path(root, DOG).write_bytes(sound)


@pytest.mark.parametrize("code", DAMAGE)
def test_damaged_media(tree, code):
    DAMAGE[code](tree)
    report = check_tree(tree)
    assert {found: count for found, count in report.counts.items() if found != "dash_name"} == {
        code: 1
    }
    assert report.can_train == (code not in FATAL)
    assert sum(report.usable_rows.values()) == (22 if code in FATAL else 25)
    assert len(report.examples[code]) == 1
    assert FINDINGS[code] in report_text(report)


@pytest.mark.parametrize(
    "content",
    [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + bytes(40), b"\xff\xd8\xff\xe0" + bytes(40)],
)
def test_files_that_are_no_pictures(tree, content):
    frame_paths(tree, DOG)[0].write_bytes(content)
    mask_paths(tree, DOG, 0)[0].write_bytes(content)
    sound_path(tree, DOG).write_bytes(content)
    assert findings(tree) == {"damaged_frame": 1, "damaged_mask": 1, "damaged_sound": 1}


def test_a_folder_in_place_of_a_file(tree):
    for path in (frame_paths(tree, DOG)[0], sound_path(tree, DOG)):
        path.unlink()
        path.mkdir()
    assert findings(tree) == {"damaged_frame": 1, "damaged_sound": 1}


def test_processes_agree_with_one(tree):
    for code in ("missing_frame", "damaged_mask", "null_with_object"):
        DAMAGE[code](tree)
    assert check_tree(tree, num_proc=2).as_dict() == check_tree(tree).as_dict()


def test_every_code_is_planted_here():
    planted = set(DAMAGE) | {
        "dash_name",
        "clip_name",
        "seen_in_test_u",
        "null_fid",
        "fid_gap",
        "leaked_video",
        "leaked_media",  # synthetic/test_library.py
    }
    for mark in test_irregular_rows.pytestmark:
        planted |= {code for _, expected in mark.args[1] for code in expected}
    assert planted == set(FINDINGS)


def test_nothing_in_the_tree_changes(tree):
    def state():
        files = sorted(path for path in tree.rglob("*") if path.is_file())
        return [
            (path, os.stat(path).st_mtime_ns, hashlib.sha256(path.read_bytes()).digest())
            for path in files
        ]

    before = state()
    check_tree(tree)
    assert state() == before


def test_the_report_stays_small_and_is_json(tree, tmp_path):
    shutil.rmtree(tree / "gt_mask" / CELLO)
    shutil.rmtree(tree / "gt_mask" / DOG)
    report = check_tree(tree)
    write_report(report, tmp_path / "report.json")
    found = json.loads((tmp_path / "report.json").read_text())["findings"]["missing_mask"]
    assert (found["count"], found["level"], len(found["examples"])) == (30, "error", 20)
    assert not report.can_train  # no row of train is left
    assert "no row of split train" in report_text(report)


def test_a_csv_alone(tree):
    report = check_tree(tree / "metadata.csv")
    assert not report.media_checked
    assert "No media were looked at" in report_text(report)


def test_unknown_files_are_ignored(tree):
    (tree / "scenes").mkdir()
    (tree / "scenes" / "0.json").write_text("{}")
    (tree / "media" / "notes.txt").write_text("")
    (tree / "media" / DOG / "video.mp4").write_bytes(b"")
    assert findings(tree) == {}


def test_no_tree(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        check_tree(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds no metadata\.csv"):
        check_tree(tmp_path)
    with pytest.raises(ValueError, match="num_proc must be 1 or more"):
        check_tree(tmp_path, num_proc=0)
