"""Prepared data are what the processor and the encoders make, made once and whole or not at all."""

import copy
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from dataset_script.builder_refavs import load_refavs
from dataset_script.export_parquet import export
from dataset_script.synthetic.sentences import FAMILIES
from modeling_refavs import RefAVSForSegmentation
from modeling_refavs.metrics.scoring import true_masks
from modeling_refavs.processing_refavs import RefAVSProcessor
from modeling_refavs.training import cache as cache_module
from modeling_refavs.training.cache import (
    ArrayCache,
    Preparation,
    digest,
    digest_module,
    pixel_table,
)
from modeling_refavs.training.collator import ClipCollator, ClipDataset
from modeling_refavs.training.dataset import SplitRows
from modeling_refavs.training.sampler import Draw
from modeling_refavs.video_refavs import read_wav
from tests.conftest import make_config
from tests.refavs.test_encoders_refavs import PAIR


def make_batch(split, processor, clips, **options):
    return ClipCollator(split, pixel_table(processor), **options)(
        [ClipDataset(split)[clip] for clip in clips]
    )


def test_a_batch_is_what_the_processor_makes(prepared, shared):
    _, split, model, processor = prepared
    batch = make_batch(split, processor, [3, 0])
    data = load_refavs(
        shared / "tree", "clips", "train", damaged="trust", cache_dir=shared / "cache" / "datasets"
    )
    clips = [data[3], data[0]]
    inputs = processor(
        text=[[sentence["expression"] for sentence in clip["expressions"]] for clip in clips],
        frames=[clip["frames"] for clip in clips],
        audio=[read_wav(clip["audio"]) for clip in clips],
        sampling_rate=clips[0]["sampling_rate"],
    )
    torch.testing.assert_close(batch["pixel_values"], inputs["pixel_values"], rtol=0, atol=0)
    for name in ("clip_index", "attention_mask"):
        torch.testing.assert_close(batch[name], inputs[name])
    masks = np.concatenate(
        [[truth.masks for truth in true_masks(clip, split.mask_size)] for clip in clips]
    )
    np.testing.assert_array_equal(batch["mask_labels"].numpy(), masks)
    with torch.no_grad():
        expected, found = (
            model(**inputs),
            model(**{k: v for k, v in batch.items() if k != "mask_labels"}),
        )
    torch.testing.assert_close(found.mask_logits, expected.mask_logits, rtol=1e-4, atol=1e-4)


def test_trainable_encoders_are_given_what_they_read(prepared, shared):
    rows, _, model, processor = prepared
    config = model.config
    try:
        config.freeze_text_encoder = config.freeze_audio_encoder = False
        split = Preparation(model, processor, ArrayCache(shared / "cache")).prepare(rows)
    finally:
        config.freeze_text_encoder = config.freeze_audio_encoder = True
    batch = make_batch(split, processor, [1, 2], padding=processor.tokenizer.pad_token_id)
    text = processor(
        text=[sentence.text for clip in (1, 2) for sentence in split.clips[clip].sentences]
    )
    torch.testing.assert_close(batch["input_ids"], text["input_ids"])
    assert batch["input_features"].shape == (2, 10, 96, 64)
    assert {"text_features", "audio_features"}.isdisjoint(batch)


def test_kept_features_of_frames_are_the_encoder_s(prepared, shared):
    rows, split, model, processor = prepared
    kept = Preparation(model, processor, ArrayCache(shared / "cache"), cache_vision=True).prepare(
        rows
    )
    batch, computed = make_batch(kept, processor, [0, 5]), make_batch(split, processor, [0, 5])
    assert "pixel_values" not in batch
    with torch.no_grad():
        expected, found = model(**computed), model(**batch)
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=1e-2)  # float16


def test_pooled_features_are_means_of_squares_and_the_last_stage_is_whole(prepared, shared):
    rows, _, model, processor = prepared
    kept = Preparation(model, processor, ArrayCache(shared / "cache"), cache_vision=True).prepare(
        rows
    )
    whole = make_batch(kept, processor, [0, 5])["vision_features"]
    batch = make_batch(kept, processor, [0, 5], feature_pooling=3)
    pooled = batch["vision_features"]
    assert [stage.shape[-1] for stage in whole] == [16, 8, 4, 2]
    assert [stage.shape[-1] for stage in pooled] == [6, 3, 2, 2]
    torch.testing.assert_close(pooled[0][..., 0, 1], whole[0][..., :3, 3:6].mean(dim=(-2, -1)))
    torch.testing.assert_close(pooled[0][..., 5, 5], whole[0][..., 15, 15])  # what is left over
    torch.testing.assert_close(pooled[3], whole[3])
    with torch.no_grad():
        assert torch.isfinite(model(**batch).loss)


def test_several_processes_keep_the_same_features_of_frames(prepared, tmp_path):
    rows, _, model, processor = prepared
    one, two = (
        Preparation(
            model, processor, ArrayCache(tmp_path / str(count), count), cache_vision=True
        ).prepare(rows, cache_cues=True)
        for count in (1, 2)
    )
    for expected, found in zip(
        (*one.vision, one.frame_features), (*two.vision, two.frame_features), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3)


def test_kept_features_of_cues_spare_the_steps_that_are_not_learned_from(prepared, shared):
    rows, split, model, processor = prepared
    kept = Preparation(model, processor, ArrayCache(shared / "cache")).prepare(
        rows, cache_cues=True
    )
    samples = [ClipDataset(split)[Draw(clip, 0, 0, 0)] for clip in (0, 5)]
    table = pixel_table(processor)
    computed, spared = (ClipCollator(s, table, steps_per_clip=2)(samples) for s in (split, kept))
    assert computed["pixel_values"].shape[1] == computed["step_index"][-1] + 1 > 2
    assert spared["pixel_values"].shape[1] == 2
    with torch.no_grad():
        expected, found = model(**computed), model(**spared)
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=1e-2)  # float16


def test_the_cues_of_a_pair_need_its_coarse_half_alone(prepared, tmp_path, monkeypatch):
    rows, split, other, processor = prepared
    torch.manual_seed(0)
    pair = {"model_type": "refavs_paired_backbone", **PAIR}
    config = make_config(vision_config=pair, text_config=other.config.text_config)
    model = RefAVSForSegmentation(config).eval()
    with torch.no_grad():
        pixels = make_batch(split, processor, [0])["pixel_values"]
        expected = model.encode_clips(pixels, decode=False).frame_features[0]
    with monkeypatch.context() as patch:
        patch.delattr(type(model.model.vision_encoder.fine), "forward")
        kept = Preparation(model, processor, ArrayCache(tmp_path)).prepare(rows, cache_cues=True)
    torch.testing.assert_close(
        torch.from_numpy(kept.frame_features[0].astype(np.float32)), expected, rtol=1e-2, atol=1e-3
    )


def test_adapters_count_once_they_change_something(prepared):
    module = copy.deepcopy(prepared[2].base_model.mask2former.pixel_level_module)
    adapters = [child for name, child in module.named_modules() if name.endswith(".adapter")]
    before = digest_module(module)
    for adapter in adapters:
        torch.nn.init.ones_(adapter.down.weight)
    assert digest_module(module) == before
    torch.nn.init.ones_(adapters[0].up.bias)
    changed = digest_module(module)
    torch.nn.init.zeros_(adapters[0].down.weight)
    assert len({before, changed, digest_module(module)}) == 3


def test_a_saved_processor_finds_what_a_new_one_made(prepared, shared, tmp_path, monkeypatch):
    rows, _, model, processor = prepared
    processor.save_pretrained(tmp_path)
    monkeypatch.setattr(ArrayCache, "_make", None)
    Preparation(
        model, RefAVSProcessor.from_pretrained(tmp_path), ArrayCache(shared / "cache")
    ).prepare(rows)


def test_nothing_is_made_twice(prepared, shared, monkeypatch):
    rows, split, model, processor = prepared
    monkeypatch.setattr(ArrayCache, "_make", None)
    again = Preparation(model, processor, ArrayCache(shared / "cache")).prepare(rows)
    np.testing.assert_array_equal(again.frames, split.frames)
    assert isinstance(again.frames, np.memmap)


def test_other_weights_make_other_features(prepared, shared):
    rows, split, model, processor = prepared
    preparation = Preparation(model, processor, ArrayCache(shared / "cache"))
    weight = next(model.base_model.audio_encoder.parameters())
    before = weight.detach().clone()
    try:
        weight.data += 0.1
        other = preparation._sound(rows)
    finally:
        weight.data.copy_(before)
    assert not np.array_equal(other["audio_features"], split.sound["audio_features"])


def test_several_processes_make_the_same(prepared, tmp_path):
    rows, split, model, processor = prepared
    again = Preparation(model, processor, ArrayCache(tmp_path, num_proc=2))
    np.testing.assert_array_equal(again._frames(rows), split.frames)
    np.testing.assert_array_equal(again._masks(rows), split.masks)


def test_what_is_stopped_half_way_leaves_nothing(tmp_path):
    cache = ArrayCache(tmp_path)
    shapes = {"numbers": ((4, 2), "float32")}

    def stopped():
        yield {"numbers": np.ones((2, 2))}
        assert [path.suffix for path in tmp_path.glob("numbers*")] == [".part"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get("numbers", 1, lambda: shapes, stopped)
    assert not list(tmp_path.glob("numbers*"))
    (tmp_path / f"numbers-{digest(1)}.part").mkdir()  # of a process that was killed
    made = cache.get("numbers", 1, lambda: shapes, lambda: [{"numbers": np.ones((4, 2))}])
    np.testing.assert_array_equal(made["numbers"], np.ones((4, 2)))


def test_a_disk_that_is_too_small_is_noticed_before(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    with pytest.raises(
        ValueError, match=r"vision takes 4\.0 GB, and 0\.0 GB are free: make room, or name another"
    ):
        ArrayCache(tmp_path).get(
            "vision", 1, lambda: {"stage": ((1000, 1000, 1000), "float32")}, list
        )


@pytest.mark.parametrize("num_proc", [1, 2])
def test_a_corrupt_frame_is_named(shared, prepared, tmp_path, num_proc):
    tree = tmp_path / "tree"
    shutil.copytree(shared / "tree", tree)
    clip = prepared[1].clips[1].clip_id
    (tree / "media" / clip / "frames" / "4.jpg").write_bytes(b"no frame")
    rows = SplitRows(str(tree), "train", damaged="trust", cache_dir=tmp_path / "cache")
    preparation = Preparation(prepared[2], prepared[3], ArrayCache(tmp_path / "cache", num_proc))
    with pytest.raises(ValueError, match=rf"{clip}/frames/4\.jpg: cannot be read as an image"):
        preparation.prepare(rows)
    assert not list((tmp_path / "cache").glob("frames*"))
    with pytest.raises(ValueError, match=rf"damaged_frame: media/{clip}/frames/4\.jpg"):
        SplitRows(str(tree), "train", cache_dir=tmp_path / "cache")


def test_an_export_gives_what_its_tree_gives(shared, prepared, tmp_path):
    _, split, model, processor = prepared
    export(shared / "tree", tmp_path / "export", ("clips",))
    rows = SplitRows(str(tmp_path / "export"), "train", cache_dir=tmp_path / "cache")
    exported = Preparation(model, processor, ArrayCache(tmp_path / "cache")).prepare(rows)
    assert [clip.clip_id for clip in exported.clips] == [clip.clip_id for clip in split.clips]
    for name in ("frames", "masks"):
        np.testing.assert_array_equal(getattr(exported, name), getattr(split, name))
    np.testing.assert_array_equal(exported.sound["audio_features"], split.sound["audio_features"])


def test_fewer_clips_are_spread_over_the_split(shared):
    options = {"damaged": "trust", "cache_dir": shared / "cache" / "datasets"}
    whole = SplitRows(str(shared / "tree"), "train", **options)
    part = SplitRows(str(shared / "tree"), "train", 3, **options)
    names = [clip.clip_id for clip in whole.read_clips()]
    assert [clip.clip_id for clip in part.read_clips()] == [names[0], names[6], names[11]]
    assert part.digest != whole.digest


def test_families_are_known_in_synthetic_trees_only(shared, prepared, tmp_path):
    families = {sentence.family for clip in prepared[1].clips for sentence in clip.sentences}
    assert families <= set(FAMILIES)
    tree = tmp_path / "tree"
    shutil.copytree(shared / "tree", tree, ignore=shutil.ignore_patterns("scenes"))
    rows = SplitRows(str(tree), "train", damaged="trust", cache_dir=tmp_path / "cache")
    with pytest.raises(ValueError, match="only a synthetic tree knows families"):
        rows.read_clips(families=True)
    assert [
        replace(sentence, family=None) for clip in prepared[1].clips for sentence in clip.sentences
    ] == [sentence for clip in rows.read_clips() for sentence in clip.sentences]


def test_data_that_are_not_there():
    with pytest.raises(ValueError, match="data no/such/folder: no such folder"):
        SplitRows("no/such/folder", "train")
