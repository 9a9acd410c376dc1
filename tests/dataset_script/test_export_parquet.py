import hashlib
import json
import signal
import subprocess
import sys

import datasets
import pytest

from dataset_script.builder_refavs import load_refavs
from dataset_script.export_parquet import export
from dataset_script.media_files import frame_paths, sound_path
from dataset_script.schema import SPLITS
from dataset_script.shards import plan_shards


DOG = "bbb_bbbbbbb_5000_15000"
KILLED_IN_THE_THIRD_SHARD = """
import os, signal, sys
from dataset_script import export_parquet

write, shards = export_parquet.write_shard, []

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def fatal(tree, shard, path, advance):
    shards.append(shard)
    return write(tree, shard, path, kill if len(shards) == 3 else advance)

export_parquet.write_shard = fatal
export_parquet.export(sys.argv[1], sys.argv[2], shard_bytes=1)
"""


def plain(row):
    """A row whose pictures are their pixels and modes."""
    if isinstance(row, dict):
        return {name: plain(item) for name, item in row.items()}
    if isinstance(row, list):
        return [plain(item) for item in row]
    return (row.mode, row.size, row.tobytes()) if hasattr(row, "getbbox") else row


def digests(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("[!.]*.parquet")
    }


@pytest.mark.parametrize("configuration", ["expressions", "clips"])
def test_an_export_equals_the_tree_row_by_row(tree, tmp_path, configuration):
    out, cache = tmp_path / "out", tmp_path / "cache"
    export(tree, out, ("expressions", "clips"))
    built = load_refavs(tree, configuration, cache_dir=cache)
    loaded = datasets.load_dataset(str(out), configuration, cache_dir=str(cache))
    streamed = datasets.load_dataset(str(out), configuration, streaming=True)
    assert list(loaded) == list(streamed) == list(SPLITS)
    for split in SPLITS:
        rows = plain(list(built[split]))
        assert plain(list(loaded[split])) == rows
        assert plain(list(streamed[split])) == rows
        assert loaded[split].features == streamed[split].features == built[split].features


def test_the_media_are_inside(tree, tmp_path):
    export(tree, tmp_path / "out", shard_bytes=1)
    expected = plain(list(load_refavs(tree, split="train", cache_dir=tmp_path / "cache")))
    tree.rename(tmp_path / "elsewhere")
    loaded = datasets.load_dataset(
        str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert plain(list(loaded)) == expected
    assert len(list((tmp_path / "out").glob("expressions/train-*-of-00002.parquet"))) == 2


def test_sentences_share_their_clips_media(tmp_path, make_tree, make_rows):
    rows = make_rows("a_0_10000", "val", {0: "dog"}) + make_rows(
        "b_0_10000", "val", {0: "dog", 1: "man"}
    )
    tree = make_tree(tmp_path / "tree", rows, rate=96000)
    manifest = export(tree, tmp_path / "out", ("expressions", "clips"))
    sizes = {name: entry["bytes"] for name, entry in manifest["shards"].items()}
    for name in sizes:
        if name.startswith("clips/"):  # three or more sentences a clip, and yet
            assert sizes[name.replace("clips/", "expressions/")] < 1.1 * sizes[name]


def test_checksums_and_card(tree, tmp_path):
    out = tmp_path / "out"
    export(tree, out, ("clips", "expressions"), paper_splits=True)
    for line in (out / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    card = (out / "README.md").read_text()
    assert (
        datasets.load_dataset(str(out), split="val", cache_dir=str(tmp_path / "cache")).num_rows
        == 1
    )  # clips
    for words in (
        "license: other",
        "YouTube",
        "12970978",
        "| 9 | 3 | 6 | 3 | 4 |",
        "unseen categories only",
    ):
        assert words in card
    assert not list(out.rglob(".*"))


def test_a_tree_of_other_categories_gets_no_note_on_youtube(tmp_path, make_tree, make_rows):
    tree = make_tree(tmp_path / "tree", make_rows("scene7_0_10000", "val", {0: "circle-bell"}))
    (tree / "taxonomy.json").write_text('{"categories": {"circle-bell": "bell"}}')
    export(tree, tmp_path / "out", licence="apache-2.0")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "YouTube" not in card


def test_killed_and_run_again(tree, tmp_path):
    out, whole = tmp_path / "out", tmp_path / "whole"
    process = subprocess.run(
        [sys.executable, "-c", KILLED_IN_THE_THIRD_SHARD, str(tree), str(out)], timeout=120
    )
    assert process.returncode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*/[!.]*.parquet")}
    export(tree, whole, shard_bytes=1)
    assert len(kept) == 2 < len(digests(whole))
    assert list(out.rglob(".*"))
    assert {path.name: digests(whole)[path.name] for path in kept}.items() <= digests(out).items()
    export(tree, out, shard_bytes=1)
    assert digests(out) == digests(whole)
    assert (out / "SHA256SUMS").read_text() == (whole / "SHA256SUMS").read_text()
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    assert not list(out.rglob(".*"))


def test_a_changed_clip_rewrites_its_shard_only(tree, tmp_path):
    out = tmp_path / "out"
    export(tree, out)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*/[!.]*.parquet")}
    path = sound_path(tree, DOG)
    path.write_bytes(path.read_bytes()[:-2] + b"\1\2")
    export(tree, out)
    changed = {
        path.name
        for path in out.glob("*/*.parquet")
        if path.stat().st_mtime_ns != before[path.name]
    }
    assert changed == {"train-00000-of-00001.parquet"}


def test_a_cut_shard_is_written_again(tree, tmp_path):
    export(tree, tmp_path / "out")
    before = digests(tmp_path / "out")
    shard = tmp_path / "out/expressions/val-00000-of-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:100])
    export(tree, tmp_path / "out")
    assert digests(tmp_path / "out") == before


def test_another_plan_leaves_no_old_shard(tree, tmp_path):
    out = tmp_path / "out"
    export(tree, out, ("expressions", "clips"), shard_bytes=1)
    export(tree, out, ("clips",))
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "SHA256SUMS",
        "clips",
        "export.json",
    ]
    assert len(digests(out)) == 5


def test_shards_are_cut_by_bytes(tree):
    from dataset_script.examples import open_tree

    opened = open_tree(tree)
    assert [len(shard.clips) for shard in plan_shards(opened, "clips", 10**9)] == [2, 1, 1, 1, 1]
    assert [len(shard.clips) for shard in plan_shards(opened, "clips", 1)] == [1, 1, 1, 1, 1, 1]


def test_damaged_clips(tree, tmp_path):
    frame_paths(tree, DOG)[3].unlink()
    with pytest.raises(ValueError, match=r"missing_frame: .*3\.jpg"):
        export(tree, tmp_path / "out")
    manifest = export(tree, tmp_path / "out", damaged="skip")
    assert manifest["shards"]["expressions/train-00000-of-00001.parquet"]["left_out"] == 3
    assert "3 sentences were left out" in (tmp_path / "out" / "README.md").read_text()


def test_an_export_over_something_else_is_refused(tree, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "export.json").write_text(json.dumps({"not": "ours"}))
    for output in (tree, tmp_path, tmp_path / "thesis.txt", tmp_path / "other"):
        with pytest.raises(ValueError, match="is no export"):
            export(tree, output)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "options", [{"configurations": ()}, {"shard_bytes": 0}, {"configurations": ("rows",)}]
)
def test_bad_options(tree, tmp_path, options):
    with pytest.raises(ValueError, match="configuration"):
        export(tree, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
