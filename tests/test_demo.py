"""The shipped checkpoint on the shipped clips, from the mp4 files on."""

from pathlib import Path

import numpy as np
import pytest

from dataset_script.synthetic.drawing import draw
from modeling_refavs import RefAVSForSegmentation, RefAVSProcessor
from modeling_refavs.inference.segment import segment_video
from modeling_refavs.visualization.contact_sheet import find_sounding
from spaces_demo import draw_examples


FOLDER = Path(draw_examples.__file__).with_name("synthetic_checkpoint")
PHOTO_FOLDER = FOLDER.with_name("photo_checkpoint")


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


@pytest.mark.parametrize("name", draw_examples.PHOTO_CLIPS)
def test_the_page_opens_with_what_its_model_answers(name):
    """The lion is on the left, the rooster on the right."""
    model, processor = (
        RefAVSForSegmentation.from_pretrained(PHOTO_FOLDER).eval(),
        RefAVSProcessor.from_pretrained(PHOTO_FOLDER),
    )
    asked = ["the lion", "the bird", "the piano"]
    answer = segment_video(model, processor, draw_examples.EXAMPLES / f"{name}.mp4", asked)
    masks = np.stack([answer.masks(second) for second in range(10)], axis=1)
    left = masks[..., :240].sum((2, 3)) / masks.sum((2, 3)).clip(1)
    assert (left[0] > 0.9).all()
    assert (left[1] < 0.1).all()
    assert not masks[2].any()
    shares = masks[:2].mean((2, 3))
    assert shares.min() > 0.02
    assert shares.max() < 0.2


def test_the_first_example_is_right_in_every_second():
    """The bear is at the left until it leaves, the cello at the right once it has come; the bear is
    heard in the first half of the clip, the cello in the second."""
    answer = segment_video(
        RefAVSForSegmentation.from_pretrained(PHOTO_FOLDER).eval(),
        RefAVSProcessor.from_pretrained(PHOTO_FOLDER),
        draw_examples.EXAMPLES / "bear_first.mp4",
        ["the bear", "the cello", "the object that is making a sound", "the airplane"],
    )
    assert [answer.intervals(row) for row in range(4)] == [[(0, 8)], [(3, 10)], [(0, 10)], []]
    heard = find_sounding(answer)
    assert heard[0].tolist() == [True] * 5 + [False] * 5
    assert heard[1].tolist() == [False] * 5 + [True] * 5
    for row, seconds, columns in ((0, range(8), slice(0, 260)), (1, range(3, 10), slice(260, 480))):
        masks = np.stack([answer.masks(second)[row] for second in seconds])
        assert masks[..., columns].sum() > 0.9 * masks.sum()
        shares = masks.mean((1, 2))
        assert shares.max() < 2 * shares.min()


def test_the_photographic_checkpoint_is_small_and_whole():
    sizes = {path.name: path.stat().st_size for path in PHOTO_FOLDER.iterdir()}
    assert max(sizes.values()) < 45_000_000
    assert sum(sizes.values()) < 90_000_000
    licences = {name for name in sizes if name.startswith("LICENSE-")}
    assert len(licences) == 5


def test_the_checkpoint_is_small_and_only_safetensors():
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert sizes["model.safetensors"] < 20_000_000
    assert not [name for name in sizes if name.endswith((".bin", ".pt", ".pth"))]
