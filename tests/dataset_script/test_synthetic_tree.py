"""The synthetic benchmark is read by what reads Ref-AVS Bench, unchanged."""

import json

import datasets
import pytest

from dataset_script.builder_refavs import load_refavs
from dataset_script.checking import check_tree
from dataset_script.export_parquet import export
from dataset_script.statistics_report import write_statistics
from dataset_script.synthetic import SynthesisOptions, synthesize


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    synthesize(folder, 30, SynthesisOptions(seed=5, height=48, width=64))
    return folder


def test_the_checker_finds_nothing_that_stops_training(tree):
    report = check_tree(tree)
    assert report.can_train
    assert set(report.counts) <= {"fid_gap"}  # an object of which no sentence is asked


def test_the_builder_gives_every_sentence_with_its_masks(tree, tmp_path):
    rows = load_refavs(tree, "expressions", cache_dir=tmp_path)
    stored = {}
    for path in (tree / "scenes").iterdir():
        scene = json.loads(path.read_text())
        stored |= {expression["uid"]: expression for expression in scene["expressions"]}
    read = {row["uid"]: row for split in rows.values() for row in split}
    assert read.keys() == stored.keys()
    super_categories = json.loads((tree / "taxonomy.json").read_text())["categories"]
    for row in read.values():
        assert len(row["frames"]) == len(row["masks"]) == 10
        assert row["masks"][0].size == (64, 48)
        shown = any(mask.getbbox() for mask in row["masks"])
        assert shown == (row["null_kind"] is None)
        if shown:
            assert row["super_category"] == super_categories[row["category"]]
    assert {split.num_rows > 0 for split in rows.values()} == {True}


def test_the_export_and_the_statistics_hold_the_same_rows(tree, tmp_path):
    export(tree, tmp_path / "out", ("clips",))
    exported = datasets.load_dataset(
        str(tmp_path / "out"), "clips", cache_dir=str(tmp_path / "cache")
    )
    built = load_refavs(tree, "clips", cache_dir=tmp_path / "cache")
    for split, clips in built.items():
        assert exported[split]["clip_id"] == clips["clip_id"]
        assert exported[split]["expressions"] == clips["expressions"]
    sentences = sum(len(clip) for clips in built.values() for clip in clips["expressions"])
    write_statistics(tree, tmp_path / "statistics")
    assert f"| {sentences} |" in (tmp_path / "statistics" / "statistics.md").read_text()
