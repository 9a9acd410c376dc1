import os
from pathlib import Path

import pytest
from PIL import Image

from dataset_script.annotations import annotation_findings, read_annotations
from dataset_script.checking import check_tree
from dataset_script.examples import open_tree
from dataset_script.media_files import frame_paths, sound_path
from dataset_script.statistics import at_least, count_tree, length_bin, sentence_cues
from dataset_script.statistics_report import statistics_text, write_statistics
from dataset_script.taxonomy import PAPER_TAXONOMY


REAL_CSV = os.environ.get("REFAVS_METADATA")
real_csv = pytest.mark.skipif(
    not REAL_CSV, reason="REFAVS_METADATA names no metadata.csv of the Ref-AVS Bench archive"
)


def test_counts(tree):
    counts = count_tree(tree)
    assert counts.splits == {
        "train": (2, 3, 9),
        "val": (1, 1, 3),
        "test_s": (1, 2, 6),
        "test_u": (1, 1, 3),
        "test_n": (1, 1, 4),
        "all": (6, 8, 25),
    }
    assert counts.objects_per_video == {1: 3, 2: 2}  # the null reference holds no object
    assert counts.co_occurrence == {("cello", "man"): 1, ("violin", "woman"): 1}
    assert counts.categories["cello"] == {
        "train": 3,
        "val": 0,
        "test_s": 0,
        "test_u": 0,
        "test_n": 0,
    }
    assert sum(counts.lengths.values()) == 25


def test_media_are_counted_from_their_headers(tree):
    frame_paths(tree, "ccccccccccc_0_10000")[0].unlink()
    sound_path(tree, "ccccccccccc_0_10000").write_bytes(b"")
    media = count_tree(tree).media
    assert (media.frames, media.masks, media.sounds, media.unreadable) == (59, 80, 5, 2)
    assert media.frame_sizes == {"48x36": 59}
    assert media.sampling_rates == {2000: 5}
    assert media.sound_seconds == 50


def test_long_sounds_are_measured_by_their_beginning(tmp_path, make_tree, make_rows):
    tree = make_tree(tmp_path / "tree", make_rows("a_0_10000", "val", {0: "dog"}), rate=44100)
    assert count_tree(tree).media.sound_seconds == 10


def test_what_cannot_be_counted_is_said(tree):
    text = statistics_text(count_tree(tree / "metadata.csv"))
    assert "| frames | not counted: no media here | 40,020 |" in text
    assert "Grades of difficulty" in text
    assert "not in the csv: not counted" in text


def test_markdown_and_plots(tree, tmp_path):
    text = write_statistics(tree, tmp_path / "out")
    assert "| train | 2 (-2,906) | 3 (-5,363) | 9 (-14,108) |" in text
    assert "| 2 | 2 | 40% | 56% |" in text
    assert (tmp_path / "out" / "statistics.md").read_text().startswith(text)
    for plot in (
        "splits",
        "categories_by_split",
        "objects_per_video",
        "expressions",
        "co_occurrence",
    ):
        assert f"({plot}.png)" in (tmp_path / "out" / "statistics.md").read_text()
        with Image.open(tmp_path / "out" / f"{plot}.png") as image:
            assert len(image.convert("RGB").getcolors(2**20)) > 20
    assert not list((tmp_path / "out").glob(".*"))


def test_a_tree_of_other_categories_is_not_set_beside_the_paper(tmp_path, make_tree, make_rows):
    tree = make_tree(
        tmp_path / "tree", make_rows("scene7_0_10000", "val", {0: "circle-bell", 1: "odd"})
    )
    (tree / "taxonomy.json").write_text(
        '{"categories": {"circle-bell": "bell", "square-horn": "horn"}}'
    )
    text = write_statistics(tree, tmp_path / "out")
    assert "| val | 1 | 2 | 6 |" in text
    assert "| circle-bell | bell | 0 | 3 |" in text
    assert "| odd | - | 0 | 3 |" in text
    assert "40,020" not in text


def test_output_that_is_a_file(tree, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        write_statistics(tree, tmp_path / "out")


@pytest.mark.parametrize(
    ("sentence", "cues"),
    [
        ("The cat.", []),
        ("The object making the loudest sound.", ["acoustic"]),
        ("The first object to make a sound on the left.", ["spatial", "acoustic", "temporal"]),
        ("The guitar held by the man wearing a red hat.", ["appearance", "action"]),
    ],
)
def test_cues(sentence, cues):
    assert sentence_cues(sentence) == cues


def test_length_bins_and_shares():
    assert [length_bin(words) for words in (1, 4, 5, 8, 9, 12, 13, 22)] == ["1-4"] * 2 + [
        "5-8"
    ] * 2 + ["9-12"] * 2 + ["13+"] * 2
    assert at_least({1: 1, 2: 2, 3: 1}, 2) == 0.75
    assert at_least({}, 2) == 0


@real_csv
def test_the_released_csv_holds_what_is_known_of_it():
    counts = count_tree(REAL_CSV)
    assert {split: (videos, rows) for split, (videos, _, rows) in counts.splits.items()} == {
        "train": (2919, 14113),
        "val": (275, 1349),
        "test_s": (273, 2288),
        "test_u": (269, 1656),
        "test_n": (257, 1028),
        "all": (3993, 20434),
    }
    assert counts.unseen_only[2] == 1454
    assert counts.leftovers == 25
    assert "Skipped: 25 leftover rows (split TODO" in statistics_text(counts)
    assert counts.categories.keys() - {"null"} == PAPER_TAXONOMY.categories.keys()
    assert sum(count > 0 for count in (by["train"] for by in counts.categories.values())) == 39


@real_csv
def test_the_released_csvs_irregularities():
    report = check_tree(REAL_CSV)
    assert report.counts == {
        "leftover_row": 25,
        "duplicate_uid": 11,
        "duplicate_row": 8,
        "ambiguous_sentence": 61,
        "two_categories": 38,
        "placeholder_sentence": 103,
        "error_sentence": 1,
        "seen_in_test_u": 202,
        "untidy_spaces": 44,
        "underscore_for_space": 195,
        "fid_gap": 1221,
        "dash_name": 309,
        "leaked_video": 685,
        "leaked_clip": 250,
    }
    assert report.leaks["train and test_s"] == {"leaked_clip": 0, "leaked_video": 132}
    assert "leaked_clip" in dict(annotation_findings(read_annotations(REAL_CSV), PAPER_TAXONOMY))


@real_csv
def test_paper_splits_of_the_released_csv(tmp_path):
    Path(tmp_path / "metadata.csv").symlink_to(Path(REAL_CSV).resolve())
    clips = [
        clip for clip in open_tree(tmp_path, paper_splits=True).clips if clip.split == "test_u"
    ]
    assert (len(clips), sum(len(clip.rows) for clip in clips)) == (269, 1454)
