"""What anything that works with transformers' models expects of ours."""

import numpy as np
import pytest
import torch
from transformers import default_data_collator

from tests.conftest import SENTENCES, make_model


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def inputs(processor, clip):
    return processor(text=SENTENCES, **clip)


@torch.no_grad()
def ask(model, inputs):
    return model(**inputs)


def test_rows_of_the_default_collator_are_asked_of_their_own_clips(model, processor, clip):
    clips = [clip, {**clip, "frames": [np.flipud(frame).copy() for frame in clip["frames"]]}]
    alone = [
        processor(text=f"{sentence}", **clip)
        for sentence, clip in zip(SENTENCES[:2], clips, strict=True)
    ]
    length = max(inputs["input_ids"].shape[1] for inputs in alone)
    rows = []
    for inputs in alone:
        missing = (0, length - inputs["input_ids"].shape[1])
        padded = {
            "input_ids": torch.nn.functional.pad(inputs["input_ids"], missing, value=1),
            "attention_mask": torch.nn.functional.pad(inputs["attention_mask"], missing),
        }
        rows.append({name: value[0] for name, value in {**inputs, **padded}.items()})
    outputs = ask(model, default_data_collator(rows))
    for row, inputs in enumerate(alone):
        expected = ask(model, inputs).mask_logits[0]
        torch.testing.assert_close(outputs.mask_logits[row], expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(outputs.mask_logits[0], outputs.mask_logits[1], atol=1e-2)
