"""A clip in the mirror, and sentences that are true of it."""

from dataclasses import replace

import numpy as np
import pytest

from dataset_script.synthetic.clips import SynthesisOptions, make_clip
from dataset_script.synthetic.conditions import World
from dataset_script.synthetic.scene import Scene
from dataset_script.synthetic.sentences import TEMPLATES, find_expressions
from modeling_refavs.training.augmentation import mirror_sentence
from modeling_refavs.training.cache import ArrayCache, Preparation, pixel_table
from modeling_refavs.training.collator import ClipCollator, ClipDataset
from modeling_refavs.training.sampler import Draw


@pytest.mark.parametrize(
    ("sentence", "mirrored"),
    [
        ("The dog to the left of the cat.", "The dog to the right of the cat."),
        ("Right: LEFTMOST left-hand leftwards.", "Left: RIGHTMOST right-hand rightwards."),
        ("The bright copyright of the leftover.", "The bright copyright of the leftover."),
        ("The loudest object.", "The loudest object."),
    ],
)
def test_sides_are_swapped_and_nothing_else(sentence, mirrored):
    assert mirror_sentence(sentence) == mirrored
    assert mirror_sentence(mirrored) == sentence


def test_mirrored_sentences_are_true_of_the_mirrored_clip():
    checked = 0
    for index in range(12):
        scene = make_clip(SynthesisOptions(), index).scene
        here, there = World(scene), World(mirror(scene))
        for template in TEMPLATES.values():
            found = {
                (way.text, way.fid) for ways in find_expressions(here, template) for way in ways
            }
            mirrored = {
                (way.text, way.fid) for ways in find_expressions(there, template) for way in ways
            }
            assert {(mirror_sentence(text), fid) for text, fid in found} == mirrored
            checked += len(found - mirrored)
    assert checked >= 10


def mirror(scene: Scene) -> Scene:
    turned = {"leftwards": "rightwards", "rightwards": "leftwards"}
    objects = tuple(
        replace(
            item,
            place=(scene.width - item.place[0], item.place[1]),
            motion=turned.get(item.motion, item.motion),
            phase=item.phase + np.pi * (item.motion == "swaying"),
        )
        for item in scene.objects
    )
    return replace(scene, objects=objects)


def test_frames_masks_and_sentences_go_together(prepared, shared):
    rows, split, model, processor = prepared
    texts = {mirror_sentence(sentence.text) for clip in split.clips for sentence in clip.sentences}
    preparation = Preparation(model, processor, ArrayCache(shared / "cache"))
    split = preparation.prepare(rows, more_sentences=sorted(texts))
    collate = ClipCollator(split, pixel_table(processor))
    index = next(
        i
        for i, clip in enumerate(split.clips)
        if any(mirror_sentence(s.text) != s.text for s in clip.sentences)
    )
    draw = Draw(index, 0, 0, 0, None)
    plain = collate([ClipDataset(split)[draw]])
    flipped = collate([ClipDataset(split, mirror=1.0)[draw]])
    assert flipped["pixel_values"].flip(-1).equal(plain["pixel_values"])
    assert flipped["mask_labels"].flip(-1).equal(plain["mask_labels"])
    assert flipped["audio_features"].equal(plain["audio_features"])
    assert not flipped["text_features"].equal(plain["text_features"])
    drawn = [
        ClipDataset(split, mirror=0.5)[Draw(index, 0, epoch, 0, None)].mirrored
        for epoch in range(40)
    ]
    assert 10 < sum(drawn) < 30
