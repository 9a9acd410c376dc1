"""What the page's own model sees and hears in the page's own examples."""

import numpy as np
import pytest
import torch

from modeling_refavs import RefAVSForSegmentation, RefAVSProcessor
from modeling_refavs.video_refavs import probe_video, read_steps

from .conftest import FOLDER


@pytest.fixture(scope="module")
def photo():
    folder = FOLDER / "photo_checkpoint"
    return (
        RefAVSForSegmentation.from_pretrained(folder).eval(),
        RefAVSProcessor.from_pretrained(folder),
    )


def test_what_is_seen_and_heard_is_suggested(photo):
    from suggest import suggest

    sentences = suggest(*photo, probe_video(FOLDER / "examples" / "lion_first.mp4"))
    assert {"The lion", "The rooster"} <= set(sentences)
    assert sentences[-1] == "The animal that is making a sound"


def test_the_part_that_a_mask_marks_is_named(photo):
    from suggest import liken

    frame = next(read_steps(FOLDER / "examples" / "lion_first.mp4")).frame
    left = torch.full((90, 120), -4.0)
    left[40:65, 20:50] = 4.0  # the lion
    right = torch.full((90, 120), -4.0)
    right[25:70, 75:105] = -1 - torch.rand(45, 30)  # the rooster; no pixel is likelier than not
    names = [liken(*photo, frame, logits).name for logits in (left, right)]
    assert names == ["lion", "rooster"]


def test_every_sound_has_a_thing_and_an_own_name():
    from suggest import SOUNDS

    sounds = [sound for group in SOUNDS.values() for sound in group.split(";")]
    assert len(set(sounds)) == len(sounds)
    assert not any(sound.strip() != sound or not sound for sound in sounds)
    assert np.all([thing.isalpha() for thing in SOUNDS])
