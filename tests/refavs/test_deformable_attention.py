"""Fast deformable attention against transformers' own, which samples with `grid_sample`."""

from functools import partial

import pytest
import torch
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention as Plain,
)

from modeling_refavs import deformable_attention
from modeling_refavs.deformable_attention import RefAVSDeformableAttention


SHAPES = [(3, 5), (6, 10), (13, 7)]
PIXELS = sum(height * width for height, width in SHAPES)


@pytest.fixture
def pair() -> tuple[Plain, RefAVSDeformableAttention]:
    """Both, with the same weights, which sample far and wide, outside of the picture too."""
    torch.manual_seed(0)
    plain, fast = Plain(32, 4, 3, 4), RefAVSDeformableAttention(32, 4, 3, 4)
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    plain.sampling_offsets.bias.data.normal_(std=4)
    fast.load_state_dict(plain.state_dict())
    return plain, fast


def draw_inputs(dtype: torch.dtype = torch.float32) -> dict:
    generator = torch.Generator().manual_seed(1)
    return {
        "tokens": torch.randn(2, PIXELS, 32, generator=generator).to(dtype),
        "position": torch.randn(PIXELS, 32, generator=generator).to(dtype),
        "reference_points": torch.rand(2, PIXELS, 3, 2, generator=generator).to(dtype),
        "shapes": SHAPES,
    }


def ask_plain(module: Plain, tokens, position, reference_points, shapes) -> torch.Tensor:
    return module(
        tokens,
        encoder_hidden_states=tokens,
        position_embeddings=position,
        reference_points=reference_points,
        spatial_shapes_list=shapes,
    )[0]


def draw_samples(channels: int) -> tuple:
    """What is sampled of three levels, and where, far outside too: arguments of `sample_levels`."""
    generator = torch.Generator().manual_seed(2)
    x, y = (torch.randn(2, 9, 4, 12, generator=generator) * 8 + 3 for _ in range(2))
    x[0, 0, 0, :5] = torch.tensor([1e30, -1e30, -1.0, 5.0, 0.0])
    value = torch.randn(2, PIXELS, 4, channels, generator=generator)
    return value, SHAPES, x, y, torch.rand(2, 9, 4, 12, generator=generator)


def test_outputs_are_the_plain_ones(pair):
    plain, fast = pair
    torch.testing.assert_close(
        fast(**draw_inputs()), ask_plain(plain, **draw_inputs()), rtol=1e-5, atol=2e-5
    )


def test_gradients_are_the_plain_ones(pair):
    plain, fast = pair
    gradients = []
    for module, ask in ((plain, partial(ask_plain, plain)), (fast, fast)):
        inputs = draw_inputs()
        asked = [
            inputs[name].requires_grad_() for name in ("tokens", "position", "reference_points")
        ]
        ask(**inputs).square().sum().backward()
        gradients.append(
            [
                *(tensor.grad for tensor in asked),
                *(parameter.grad for parameter in module.parameters()),
            ]
        )
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(
            found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())
        )


def test_double_precision_is_kept(pair):
    plain, fast = (module.double() for module in pair)
    inputs = draw_inputs(torch.float64)
    torch.testing.assert_close(fast(**inputs), ask_plain(plain, **inputs), rtol=1e-9, atol=1e-12)


def test_places_are_exact_in_half_precision(pair):
    """The plain one loses the pixel's place to bfloat16's 8 bits on wide maps; this one comes
    nearer to the truth."""
    plain, fast = pair
    truth, inputs = fast(**draw_inputs()), draw_inputs(torch.bfloat16)
    answers = (ask_plain(plain.bfloat16(), **inputs), fast.bfloat16()(**inputs))
    errors = [(answer.float() - truth).abs().mean() for answer in answers]
    assert errors[1] < errors[0]


def test_far_outside_there_is_nothing(pair):
    _, fast = pair
    inputs = draw_inputs()
    inputs["reference_points"] = inputs["reference_points"] * 0 + 1e6
    output = fast(**inputs)
    torch.testing.assert_close(output, fast.output_proj.bias.expand_as(output))


def test_another_device_takes_the_plain_way(pair, monkeypatch):
    plain, fast = pair
    monkeypatch.setattr(deformable_attention, "choose_sampling", lambda device, dtype: None)
    assert torch.equal(fast(**draw_inputs()), ask_plain(plain, **draw_inputs()))


def test_each_device_has_its_way():
    choose = deformable_attention.choose_sampling
    assert choose(torch.device("cpu"), torch.float64) is deformable_attention.sample_levels
    assert (
        choose(torch.device("cuda"), torch.float64) is None
    )  # the kernel adds in single precision
    assert choose(torch.device("meta"), torch.float32) is None
