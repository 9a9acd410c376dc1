"""The shipped checkpoint on the shipped clips, from the mp4 files on."""

from pathlib import Path

import numpy as np
import pytest

from dataset_script.synthetic.drawing import draw
from modeling_refavs import RefAVSForSegmentation, RefAVSProcessor
from modeling_refavs.inference.segment import segment_video
from spaces_demo import draw_examples


FOLDER = Path(draw_examples.__file__).with_name("synthetic_checkpoint")


@pytest.mark.parametrize("name", draw_examples.CLIPS)
def test_each_sentence_finds_its_object(name):
    order, things = draw_examples.CLIPS[name], list(draw_examples.THINGS)
    means = {
        "the first object to make a sound": order[0],
        "the last object to make a sound": order[1],
        "the house": "house",
        "the striped object": "bell",
        "the drum": None,
    }
    clip = draw_examples.EXAMPLES / f"{name}.mp4"
    model, processor = (
        RefAVSForSegmentation.from_pretrained(FOLDER),
        RefAVSProcessor.from_pretrained(FOLDER),
    )
    answer = segment_video(model, processor, clip, list(means))
    masks = np.stack([answer.masks(second) for second in range(draw_examples.SECONDS)], axis=1)
    scene = draw_examples.make_scene(order)
    seconds = range(draw_examples.SECONDS)
    truth = np.stack(
        [draw(scene, float(second), *draw_examples.SIZE)[1] for second in seconds], axis=1
    )
    for (sentence, thing), mask in zip(means.items(), masks, strict=True):
        if thing is None:
            assert not mask.any()
        else:
            true = truth[things.index(thing)]
            assert (mask & true).sum() / (mask | true).sum() > 0.5, sentence


def test_the_checkpoint_is_small_and_only_safetensors():
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert sizes["model.safetensors"] < 20_000_000
    assert not [name for name in sizes if name.endswith((".bin", ".pt", ".pth"))]
