"""TPAVI + text against the same written plainly: attention among all pixels of a clip."""

import pytest
import torch
from torch.nn import functional

from modeling_refavs.tpavi_refavs import RefAVSTPAVI
from tests.refavs.baseline_kit import (
    BASELINES,
    baseline_config,
    convolve,
    layer_norm,
    linear,
    make_baseline,
    part,
)


def plain_block(weights, maps, sound):
    """Of one clip: `maps (T, D, h, w)`, `sound (T, Da)`; every pixel has a key."""
    frames, size, height, width = maps.shape
    pixels = maps.permute(0, 2, 3, 1).reshape(-1, size)
    sound = linear(weights, "audio_projection", sound)
    tiled = sound[:, None].expand(-1, height * width, -1).reshape(-1, size)
    weighed = linear(weights, "theta", pixels) @ linear(weights, "phi", tiled).T / len(pixels)
    update = linear(weights, "output_projection", weighed @ linear(weights, "g", pixels))
    norm = part(weights, "batch_norm")
    update = (update - norm["running_mean"]) / (norm["running_var"] + 1e-5).sqrt()
    pixels = pixels + update * norm["weight"] + norm["bias"]
    pixels = layer_norm(weights, "norm", pixels)
    return pixels.view(frames, height, width, size).permute(0, 3, 1, 2), sound


def plain_unit(weights, prefix, maps):
    maps = maps.relu()
    inner = convolve(weights, f"{prefix}.convolutions.0", maps, padding=1).relu()
    return convolve(weights, f"{prefix}.convolutions.1", inner, padding=1) + maps


def plain_answer(weights, stages, sound, words):
    """Of one clip: mask logits, and of each level its maps and the sound."""
    sound = sound + linear(weights, "text_projection", words[0])
    levels = []
    for number, stage in enumerate(stages):
        maps = sum(
            convolve(weights, f"necks.{number}.{index}", stage, padding=rate, dilation=rate)
            for index, rate in enumerate((3, 6, 12, 18))
        )
        levels.append(plain_block(part(weights, f"blocks.{number}"), maps, sound))
    maps = None
    for number in (3, 2, 1, 0):
        block = part(weights, f"fusion_blocks.{number}")
        level = levels[number][0]
        maps = level if maps is None else maps + plain_unit(block, "of_level", level)
        maps = functional.interpolate(
            plain_unit(block, "of_sum", maps), scale_factor=2, mode="bilinear", align_corners=True
        )
    mask = convolve(weights, "mask_head.0", maps, padding=1)
    mask = functional.interpolate(mask, scale_factor=2, mode="bilinear")
    mask = convolve(weights, "mask_head.2", mask, padding=1).relu()
    return convolve(weights, "mask_head.4", mask)[:, 0], levels


def entropy_of(logits, labels):
    """The mean over pixels of log(1 + e^-x) of the object and of log(1 + e^x) elsewhere."""
    signed = torch.where(labels > 0, -logits, logits)
    return torch.logaddexp(signed, torch.zeros_like(signed)).mean()


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    sizes = ((16, 16), (32, 8), (64, 4), (128, 2))
    return {
        "vision_features": tuple(torch.randn(2, 3, c, s, s).double() for c, s in sizes),
        "audio_features": torch.randn(2, 3, 128).double(),
        "text_features": torch.randn(2, 5, 32).double(),
    }


@pytest.fixture
def model():
    model = make_baseline("tpavi").double()
    for block in model.blocks:  # as after some training
        block.batch_norm.running_mean.normal_()
        block.batch_norm.running_var.uniform_(0.5, 2.0)
    return model


@torch.no_grad()
def test_golden(model, inputs):
    weights = model.state_dict()
    labels = (torch.rand(2, 3, 64, 64) > 0.8).float()
    outputs = model(**inputs, mask_labels=labels)
    matching, entropy = 0.0, 0.0
    for clip in range(2):
        stages = [stage[clip] for stage in inputs["vision_features"]]
        mask, levels = plain_answer(
            weights, stages, inputs["audio_features"][clip], inputs["text_features"][clip]
        )
        torch.testing.assert_close(outputs.mask_logits[clip], mask, rtol=1e-8, atol=1e-8)
        entropy += entropy_of(mask, labels[clip].double()) / 2
        for maps, sound in levels:
            weight = functional.adaptive_avg_pool2d(mask, maps.shape[-2:]).sigmoid()
            for frame in range(3):
                seen = (maps[frame].relu() * weight[frame]).mean((-2, -1))
                p = (seen / seen.norm()).softmax(-1)
                q = (sound[frame] / sound[frame].norm()).softmax(-1)
                matching += (q * (q / p).log()).sum() / 4
    assert outputs.loss_parts["loss_mask"].item() == pytest.approx(entropy.item(), rel=1e-6)
    found = outputs.loss_parts["loss_matching"].item()
    assert found == pytest.approx(0.5 * matching.item(), rel=1e-5)


@torch.no_grad()
def test_frames_as_keys_are_all_pixels_as_keys():
    torch.manual_seed(2)
    block = RefAVSTPAVI(32, 16).double().eval()
    for parameter in block.parameters():
        parameter.normal_()
    maps, sound = torch.randn(1, 4, 32, 5, 6).double(), torch.randn(1, 4, 16).double()
    found, _ = block(maps, sound, torch.ones(1, 4, dtype=torch.bool))
    expected, _ = plain_block(block.state_dict(), maps[0], sound[0])
    torch.testing.assert_close(found[0], expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
def test_at_the_start_a_block_is_a_norm(training):
    block = make_baseline("tpavi").blocks[0]
    block.batch_norm.weight.zero_()
    block.batch_norm.bias.zero_()
    maps = torch.randn(1, 3, 32, 4, 4)
    found, _ = block.train(training)(maps, torch.randn(1, 3, 128), torch.ones(1, 3).bool())
    expected = block.norm(maps.transpose(2, -1)).transpose(2, -1)
    torch.testing.assert_close(found, expected)


def test_the_block_starts_so():
    fresh = BASELINES["tpavi"][0](baseline_config("tpavi"))
    assert not any(block.batch_norm.weight.any() for block in fresh.blocks)
    assert 0.005 < fresh.necks[0][0].weight.std() < 0.02


@torch.no_grad()
def test_frames_know_each_other(model, inputs):
    expected = model(**inputs).mask_logits
    sound = inputs["audio_features"].clone()
    sound[:, 2] += 10
    changed = model(**{**inputs, "audio_features": sound}).mask_logits
    assert not torch.allclose(changed[:, 0], expected[:, 0])
