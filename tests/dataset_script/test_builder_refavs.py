import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from dataset_script.builder_refavs import RefAVSBuilder, digest_tree, load_refavs
from dataset_script.media_files import frame_paths, mask_paths, read_mask, sound_path, write_mask
from dataset_script.schema import SPLITS, features_of


DOG, NULL = "bbb_bbbbbbb_5000_15000", "null_c-ggggggggggg_0_10000"


def plain(value):
    """A decoded row with pixels in place of pictures, to be compared."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return np.asarray(value).tolist() if hasattr(value, "getbbox") else value


@pytest.fixture
def load(tmp_path):
    return lambda *args, **options: load_refavs(*args, cache_dir=tmp_path / "cache", **options)


def test_a_row_a_sentence(tree, load):
    loaded = load(tree)
    assert {split: rows.num_rows for split, rows in loaded.items()} == dict(
        zip(SPLITS, (9, 3, 6, 3, 4), strict=True)
    )
    assert list(loaded) == list(SPLITS)
    row = loaded["train"][6]
    assert (row["uid"], row["clip_id"], row["youtube_id"], row["start_ms"]) == (
        f"{DOG}_dog_1",
        DOG,
        "bbb_bbbbbbb",
        5000,
    )
    assert (row["category"], row["super_category"], row["fid"], row["null_kind"]) == (
        "dog",
        "animal",
        0,
        None,
    )
    assert row["audio"] == sound_path(tree, DOG).read_bytes()
    assert row["sampling_rate"] == 2000
    assert [frame.size for frame in row["frames"]] == [(48, 36)] * 10
    for mask, path in zip(row["masks"], mask_paths(tree, DOG, 0), strict=True):
        assert np.array_equal(np.asarray(mask) > 0, read_mask(path))


def test_a_row_a_clip_holds_the_same(tree, load):
    sentences, clips = load(tree), load(tree, "clips")
    for split in SPLITS:
        rows = iter(sentences[split])
        for clip in clips[split]:
            masks = {found["fid"]: found["masks"] for found in clip["objects"]}
            for sentence in clip["expressions"]:
                shared = {
                    name: clip[name] for name in clip if name not in ("expressions", "objects")
                }
                assert plain({**shared, **sentence, "masks": masks[sentence["fid"]]}) == plain(
                    next(rows)
                )
        assert next(rows, None) is None


@pytest.mark.parametrize("configuration", ["expressions", "clips"])
def test_streaming_and_processes_give_the_same_rows(tree, load, tmp_path, configuration):
    rows = plain(list(load(tree, configuration, "train")))
    streamed = load(tree, configuration, "train", streaming=True)
    assert plain(list(streamed)) == rows
    assert streamed.num_shards == 2  # a clip is a shard: workers can share them
    two = load_refavs(tree, configuration, "train", num_proc=2, cache_dir=tmp_path / "other")
    assert plain(list(two)) == rows


def test_null_references(tree, load):
    row = load(tree, split="test_n")[0]
    assert (row["null_kind"], row["category"], row["super_category"]) == ("c", "null", None)
    assert row["youtube_id"] == "ggggggggggg"
    shutil.rmtree(tree / "gt_mask" / NULL)
    without_files = load(tree, split="test_n")[0]
    assert plain(without_files) == plain(row)
    assert not np.any([np.asarray(mask) for mask in without_files["masks"]])


def test_paper_splits_keep_the_unseen_categories(tmp_path, make_tree, make_rows, load):
    rows = make_rows("eeeeeeeeeee_0_10000", "test_u", {0: "tiger", 1: "dog"}) + make_rows(
        "f_0_10000", "test_u", {0: "man"}
    )
    tree = make_tree(tmp_path / "tree", rows)
    assert load(tree, split="test_u").num_rows == 9
    assert load(tree, split="test_u", paper_splits=True)["category"][:] == ["tiger"] * 3
    clip = load(tree, "clips", "test_u", paper_splits=True)
    assert clip.num_rows == 1
    assert [found["fid"] for found in clip[0]["objects"]] == [0]


def test_a_tree_with_its_own_categories(tmp_path, make_tree, make_rows, load):
    tree = make_tree(tmp_path / "tree", make_rows("scene7_0_10000", "val", {0: "circle-bell"}))
    (tree / "taxonomy.json").write_text('{"categories": {"circle-bell": "bell"}}')
    assert load(tree, split="val")["super_category"][:] == ["bell"] * 3


def test_the_cache_notices_changed_data(tree, load):
    first = load(tree, split="val")
    again = load(tree, split="val")
    assert first.cache_files == again.cache_files
    path = sound_path(tree, "ccccccccccc_0_10000")
    path.write_bytes(path.read_bytes()[:-2] + b"\1\2")
    changed = load(tree, split="val")
    assert changed[0]["audio"] == path.read_bytes() != first[0]["audio"]


@pytest.mark.parametrize(
    "name",
    [
        "metadata.csv",
        "taxonomy.json",
        f"media/{DOG}/frames/3.jpg",
        f"gt_mask/{DOG}/fid_0/00003.png",
    ],
)
def test_the_digest_covers(tree, name):
    before = digest_tree(tree)
    assert digest_tree(tree) == before
    with open(tree / name, "ab") as file:
        file.write(b" ")
    assert digest_tree(tree) != before


def test_memory_mapped_not_in_memory(tree, load):
    rows = load(tree, split="train")
    assert rows.cache_files
    assert rows.data.nbytes < 9 * 60_000  # frames and masks are paths; only the sounds are bytes
    assert rows.features == features_of("expressions")


def test_damaged_media(tree, load):
    frame_paths(tree, DOG)[3].unlink()
    mask_paths(tree, "-aaaaaaaaaa_0_10000", 1)[3].write_bytes(b"")
    with pytest.raises(ValueError, match=r"(missing_frame|damaged_mask).*refavs dataset check"):
        load(tree)
    rows = load(tree, damaged="skip")
    assert set(rows["train"]["uid"]) == {
        f"-aaaaaaaaaa_0_10000_cello_{number}" for number in (1, 2, 3)
    }
    clip = load(tree, "clips", "train", damaged="skip")[0]
    assert [found["fid"] for found in clip["objects"]] == [0]
    assert len(load(tree, "clips", "val+test_s", damaged="skip")) == 2


def test_trust_looks_at_no_picture(tree, load):
    frame_paths(tree, DOG)[3].write_bytes(b"")
    assert load(tree, split="train", damaged="trust").num_rows == 9


def test_malformed_rows(tree, load):
    with open(tree / "metadata.csv", "a", newline="") as file:
        file.write("x,y,train,0,z\r\n")
    with pytest.raises(ValueError, match="line 27: uid 'y' is not"):
        load(tree)
    assert load(tree, split="val", damaged="skip").num_rows == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"configuration": "sentences"},
            "configuration must be one of expressions, clips, got 'sentences'",
        ),
        ({"damaged": "ignore"}, "damaged must be one of error, skip, trust, got 'ignore'"),
    ],
)
def test_bad_options(tree, load, options, words):
    with pytest.raises(ValueError, match=words):
        load(tree, **options)


def test_options_of_a_tree_are_refused_for_an_export(tmp_path, load):
    with pytest.raises(ValueError, match="chosen when a tree is exported"):
        load(tmp_path, paper_splits=True)


def test_the_builder_is_a_generator_based_builder(tree, tmp_path):
    builder = RefAVSBuilder(config_name="clips", data_dir=tree, cache_dir=str(tmp_path / "cache"))
    assert isinstance(builder, datasets.GeneratorBasedBuilder)
    assert builder.hash == digest_tree(tree)
    with pytest.raises(ValueError, match="does not exist"):
        RefAVSBuilder(data_dir=Path("nowhere"))


def test_masks_may_have_another_size_and_mode(tree, load):
    write_mask(mask_paths(tree, DOG, 0)[0], np.ones((5, 7)))
    Image.new("RGB", (48, 36), (255, 255, 255)).save(mask_paths(tree, DOG, 0)[1])
    masks = load(tree, split="train")[6]["masks"]
    assert masks[0].size == (7, 5)
    assert [mask.mode for mask in masks] == ["L"] * 10


def test_a_csv_of_leftovers(tmp_path, make_tree, make_rows, load):
    tree = make_tree(tmp_path / "tree", make_rows("a_0_10000", "TODO", {0: "dog"}))
    with pytest.raises(ValueError, match="no row that belongs to a split"):
        load(tree)
