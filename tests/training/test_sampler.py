"""Which clips, sentences and steps are drawn; and that the draws depend on nothing but seed, epoch
and place."""

import numpy as np
import pytest
import torch

from modeling_refavs.training.cache import pixel_table
from modeling_refavs.training.collator import ClipCollator, ClipDataset
from modeling_refavs.training.dataset import PreparedClip, Sentence
from modeling_refavs.training.sampler import ClipSampler, Draw


def make_clips(count: int, nulls: int = 0) -> list[PreparedClip]:
    return [PreparedClip(str(index), (Sentence("", index < nulls, 0),)) for index in range(count)]


def clips_of(sampler: ClipSampler, epoch: int = 0) -> list[int]:
    sampler.epoch = epoch
    return [draw.clip for draw in sampler]


def test_each_clip_once_an_epoch_in_a_new_order():
    sampler = ClipSampler(make_clips(50), seed=0)
    first, second = clips_of(sampler, 0), clips_of(sampler, 1)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert clips_of(sampler, 0) == first
    assert clips_of(ClipSampler(make_clips(50), seed=1)) != first


@pytest.mark.parametrize(
    ("nulls", "share", "length"), [(5, 0.2, 56), (5, 0.5, 90), (5, 0.05, 50), (5, None, 50)]
)
def test_null_references_are_seen_again_until_they_are_so_many(nulls, share, length):
    sampler = ClipSampler(make_clips(50, nulls), seed=0, null_share=share)
    clips = np.array(clips_of(sampler))
    assert len(clips) == len(sampler) == length
    assert set(clips) == set(range(50))
    if share and share > 0.1:
        assert (clips < nulls).mean() == pytest.approx(share, abs=0.01)
    counts = np.bincount(clips, minlength=50)
    assert counts[:nulls].max() - counts[:nulls].min() <= 1
    assert (counts[nulls:] == 1).all()


def test_a_share_of_no_null_reference_is_a_mistake():
    with pytest.raises(ValueError, match="no clip of null references"):
        ClipSampler(make_clips(3), seed=0, null_share=0.2)


def test_sentences_of_other_families_are_not_asked(prepared):
    _, split, _, _ = prepared
    families = {"semantic", "appearance"}
    draws = list(ClipSampler(split.clips, seed=0, families=families))
    asked = [sentence for draw in draws for sentence in ClipDataset(split)[draw].sentences]
    assert {sentence.family for sentence in asked} == families
    assert min(len(ClipDataset(split)[draw].sentences) for draw in draws) > 0
    with pytest.raises(ValueError, match="no clip has a sentence of gossip"):
        ClipSampler(split.clips, seed=0, families=["gossip"])


def test_a_glance_is_one_step_of_each_clip(prepared):
    _, split, _, processor = prepared
    data, table = ClipDataset(split), pixel_table(processor)
    samples = [data[Draw(0, 0, 0, place)] for place in range(6)]
    whole = ClipCollator(split, table)(samples)
    glances = ClipCollator(split, table, single_step=True)(samples)
    assert "step_index" not in glances
    steps = set()
    for row in range(6):
        seen = [
            torch.equal(glances["pixel_values"][row, 0], frame)
            for frame in whole["pixel_values"][row]
        ]
        step = seen.index(True)
        steps.add(step)
        assert torch.equal(glances["audio_features"][row, 0], whole["audio_features"][row, step])
        asked = whole["clip_index"] == row
        assert torch.equal(glances["mask_labels"][asked, 0], whole["mask_labels"][asked, step])
    assert len(steps) > 1


def test_so_many_sentences_are_drawn_and_all_in_time(prepared):
    _, split, _, _ = prepared
    data = ClipDataset(split, expressions_per_clip=2)
    clip = max(range(len(split.clips)), key=lambda index: len(split.clips[index].sentences))
    drawn = [data[Draw(clip, 0, epoch, 0)].sentences for epoch in range(30)]
    assert {len(sentences) for sentences in drawn} == {2}
    assert {sentence for sentences in drawn for sentence in sentences} == set(
        split.clips[clip].sentences
    )
    assert drawn == [data[Draw(clip, 0, epoch, 0)].sentences for epoch in range(30)]
    assert len(data[clip].sentences) == len(split.clips[clip].sentences)  # of the validation: all


def test_so_many_steps_are_drawn(prepared):
    _, split, _, processor = prepared
    data, collate = (
        ClipDataset(split),
        ClipCollator(split, pixel_table(processor), steps_per_clip=3),
    )
    whole = collate([data[0], data[1]])
    assert "step_index" not in whole
    seen = set()
    for epoch in range(12):
        batch = collate([data[Draw(0, 0, epoch, 0)], data[Draw(1, 0, epoch, 1)]])
        steps = batch["step_index"]
        assert steps.shape == (3,)
        assert (steps.diff() > 0).all()
        assert batch["mask_labels"].equal(whole["mask_labels"][:, steps])
        passed = steps[-1] + 1
        assert batch["pixel_values"].equal(whole["pixel_values"][:, :passed])
        assert batch["audio_features"].equal(whole["audio_features"][:, :passed])
        seen |= set(steps.tolist())
    assert seen == set(range(10))


def test_what_comes_after_the_steps_that_are_drawn_is_not_needed(prepared):
    _, split, model, processor = prepared
    data = ClipDataset(split)
    samples = [data[Draw(0, 0, 3, 0)], data[Draw(1, 0, 3, 1)]]
    batch = ClipCollator(split, pixel_table(processor), steps_per_clip=2)(samples)
    whole = ClipCollator(split, pixel_table(processor))(samples)
    steps = batch["step_index"]
    assert steps[-1] < 9
    whole |= {"step_index": steps, "mask_labels": whole["mask_labels"][:, steps]}
    with torch.no_grad():
        assert model(**batch).loss.item() == pytest.approx(model(**whole).loss.item(), rel=1e-5)
