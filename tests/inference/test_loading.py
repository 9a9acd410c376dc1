"""A loaded model: its device, its precision, its compiled layers."""

import numpy as np
import pytest
import torch
from torch import nn

from modeling_refavs.inference.loading import DTYPES, choose_device, compile_layers, load_model
from modeling_refavs.inference.segment import segment_video


CHECKPOINT, CLIP = "spaces_demo/synthetic_checkpoint", "spaces_demo/examples/bell_first.mp4"
SENTENCES = ["the first object to make a sound", "the drum"]


def masks_of(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """`(steps, expressions, height, width)` bool of the shipped model and clip, and presence."""
    model, processor = load_model(CHECKPOINT, torch.device("cpu"), dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {DTYPES[dtype]}
    result = segment_video(model, processor, CLIP, SENTENCES)
    return np.stack([result.masks(step) for step in range(result.num_steps)]), result.presence


@pytest.fixture(scope="module")
def exact() -> tuple[np.ndarray, np.ndarray]:
    return masks_of("float32")


@pytest.mark.parametrize(("dtype", "overlap"), [("bf16", 0.98), ("fp16", 0.998)])
def test_half_precision_gives_nearly_the_same_masks(exact, dtype, overlap):
    (masks, presence), (expected, expected_presence) = masks_of(dtype), exact
    assert expected.mean() > 0.005
    assert (masks & expected).sum() / (masks | expected).sum() > overlap
    np.testing.assert_array_equal(presence > 0.5, expected_presence > 0.5)
    np.testing.assert_allclose(presence, expected_presence, atol=0.02)


def test_every_part_is_loaded_in_the_precision_asked_for():
    """What Trainer saved says in which precision Swin was, too."""
    model, _ = load_model(CHECKPOINT, torch.device("cpu"), "bf16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_every_layer_of_a_stack_is_compiled_and_no_stack(model, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(module))
    compile_layers(model)
    names = {type(module).__name__ for module in compiled}
    assert {
        "SwinLayer",
        "RefAVSPixelDecoderLayer",
        "RefAVSMaskDecoderLayer",
        "RefAVSTransformerLayer",
    } <= names
    assert not [
        module
        for module in compiled
        for part in module.modules()
        if isinstance(part, nn.ModuleList)
    ]
    assert len(compiled) == len({id(module) for module in compiled})


def test_auto_is_a_device_of_this_machine():
    device = choose_device("auto")
    assert torch.zeros(1, device=device).device.type == device.type
    with pytest.raises(ValueError, match="--device abacus: not on this machine"):
        choose_device("abacus")
