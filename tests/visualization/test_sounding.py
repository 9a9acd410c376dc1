"""Who sounds: the object that a sentence about sound means, step by step."""

from types import SimpleNamespace

import numpy as np
import pytest

from modeling_refavs.visualization.contact_sheet import SOUND_NOW, find_sounding


def segmentation(expressions: list[str], masks: np.ndarray, has_audio: bool = True):
    """`masks (expressions, steps, height, width)`."""
    return SimpleNamespace(
        expressions=expressions,
        info=SimpleNamespace(has_audio=has_audio),
        num_steps=masks.shape[1],
        masks=lambda step, size: masks[:, step],
    )


@pytest.fixture
def masks() -> np.ndarray:
    """A cat at the left, a dog at the right; heard are the cat, the dog, nothing."""
    masks = np.zeros((3, 3, 4, 8), dtype=bool)
    masks[0, :, :, :3] = masks[1, :, :, 5:] = True
    masks[2, 0, :, :4], masks[2, 1, :, 5:] = True, True
    return masks


SAID = ["the cat", "the dog", "the animal that is making a sound"]


def test_the_object_that_is_heard_sounds(masks):
    expected = [[True, False, False], [False, True, False], [True, True, False]]
    assert find_sounding(segmentation(SAID, masks)).tolist() == expected


def test_no_question_or_no_sound_is_no_answer(masks):
    assert find_sounding(segmentation(["a", "b", "c"], masks)) is None
    assert find_sounding(segmentation(SAID, masks, has_audio=False)) is None


@pytest.mark.parametrize("words", ["that is sounding", "making a noise", "that is heard"])
def test_sentences_about_the_sound_of_now(words):
    assert SOUND_NOW.search(f"the one {words}")


@pytest.mark.parametrize("words", ["first to make a sound", "silent", "soundless", "left"])
def test_other_sentences(words):
    assert not SOUND_NOW.search(f"the one {words}")
