"""The shipped checkpoints on the shipped clips, from the mp4 files on."""

import numpy as np
import pytest

from dataset_script.synthetic.drawing import draw
from modeling_refavs import RefAVSForSegmentation, RefAVSProcessor
from modeling_refavs.media.segmentation import segment_video
from spaces_demo import draw_examples
from spaces_demo.make_demo import CLIPS, LOOKS, ROOM, SECONDS, SIZE, make_scene


SENTENCES = ["the first object to make a sound", "the kettle", "the object on the left", "the drum"]


@pytest.fixture(scope="module")
def answers():
    model = RefAVSForSegmentation.from_pretrained(ROOM / "checkpoint")
    processor = RefAVSProcessor.from_pretrained(ROOM / "checkpoint")
    return {name: segment_video(model, processor, ROOM / "examples" / f"{name}.mp4", SENTENCES) for name in CLIPS}


@pytest.mark.parametrize("name", CLIPS)
def test_each_sentence_finds_its_object(answers, name):
    scene = make_scene(CLIPS[name])
    truth = np.stack([draw(scene, float(second), *SIZE)[1] for second in range(SECONDS)], axis=1)
    masks = np.stack([answers[name].masks(second) for second in range(SECONDS)], axis=1)
    for sentence, mask, category in zip(SENTENCES, masks, (CLIPS[name][0], "kettle", "guitar"), strict=False):
        true = truth[list(LOOKS).index(category)]
        assert (mask & true).sum() / (mask | true).sum() > 0.7, sentence
    assert not masks[3].any()
    assert answers[name].intervals(3) == []


def test_the_same_pictures_with_another_sound_mean_another_object(answers):
    first, other = (answers[name].masks(5)[0] for name in CLIPS)
    assert first.any()
    assert other.any()
    assert not (first & other).any()


@pytest.mark.parametrize("name", draw_examples.CLIPS)
def test_the_model_that_has_learned_the_task_hears_what_comes_first(name):
    order, things = draw_examples.CLIPS[name], list(draw_examples.THINGS)
    means = {
        "the first object to make a sound": order[0],
        "the last object to make a sound": order[1],
        "the house": "house",
        "the striped object": "bell",
        "the drum": None,
    }
    folder, clip = ROOM / "synthetic_checkpoint", draw_examples.EXAMPLES / f"{name}.mp4"
    model, processor = RefAVSForSegmentation.from_pretrained(folder), RefAVSProcessor.from_pretrained(folder)
    answer = segment_video(model, processor, clip, list(means))
    masks = np.stack([answer.masks(second) for second in range(draw_examples.SECONDS)], axis=1)
    scene = draw_examples.make_scene(order)
    seconds = range(draw_examples.SECONDS)
    truth = np.stack([draw(scene, float(second), *draw_examples.SIZE)[1] for second in seconds], axis=1)
    for (sentence, thing), mask in zip(means.items(), masks, strict=True):
        if thing is None:
            assert not mask.any()
        else:
            true = truth[things.index(thing)]
            assert (mask & true).sum() / (mask | true).sum() > 0.5, sentence


@pytest.mark.parametrize(("folder", "most"), [("checkpoint", 4_000_000), ("synthetic_checkpoint", 20_000_000)])
def test_the_checkpoints_are_small_and_only_safetensors(folder, most):
    sizes = {path.name: path.stat().st_size for path in (ROOM / folder).iterdir()}
    assert sizes["model.safetensors"] < most
    assert not [name for name in sizes if name.endswith((".bin", ".pt", ".pth"))]
