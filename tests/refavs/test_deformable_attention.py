"""Fast deformable attention against transformers' own, which samples with `grid_sample`."""

import pytest
import torch
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention as Plain,
)

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


def draw_inputs(batch: int = 2, queries: int = PIXELS, dtype: torch.dtype = torch.float32) -> dict:
    generator = torch.Generator().manual_seed(1)
    return {
        "hidden_states": torch.randn(batch, queries, 32, generator=generator).to(dtype),
        "encoder_hidden_states": torch.randn(batch, PIXELS, 32, generator=generator).to(dtype),
        "position_embeddings": torch.randn(batch, queries, 32, generator=generator).to(dtype),
        "reference_points": torch.rand(batch, queries, 3, 2, generator=generator).to(dtype),
        "spatial_shapes_list": SHAPES,
    }


def draw_samples(channels: int) -> tuple:
    """What is sampled of three levels, and where, far outside too: arguments of `sample_levels`."""
    generator = torch.Generator().manual_seed(2)
    x, y = (torch.randn(2, 9, 4, 12, generator=generator) * 8 + 3 for _ in range(2))
    x[0, 0, 0, :5] = torch.tensor([1e30, -1e30, -1.0, 5.0, 0.0])
    value = torch.randn(2, PIXELS, 4, channels, generator=generator)
    return value, SHAPES, x, y, torch.rand(2, 9, 4, 12, generator=generator)


@pytest.mark.parametrize("queries", [PIXELS, 5])
def test_outputs_are_the_plain_ones(pair, queries):
    plain, fast = pair
    expected, found = (module(**draw_inputs(queries=queries)) for module in (plain, fast))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)


def test_gradients_are_the_plain_ones(pair):
    gradients = []
    for module in pair:
        inputs = draw_inputs()
        asked = [
            inputs[name].requires_grad_() for name in ("hidden_states", "encoder_hidden_states", "reference_points")
        ]
        output, weights = module(**inputs)
        (output.square().sum() + weights.square().sum()).backward()
        gradients.append([*(tensor.grad for tensor in asked), *(parameter.grad for parameter in module.parameters())])
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_double_precision_is_kept(pair):
    expected, found = (module.double()(**draw_inputs(dtype=torch.float64))[0] for module in pair)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_places_are_exact_in_half_precision(pair):
    """The plain one loses the pixel's place to bfloat16's 8 bits on wide maps; this one comes nearer to the truth."""
    plain, fast = pair
    truth = fast(**draw_inputs())[0]
    inputs = draw_inputs(dtype=torch.bfloat16)
    errors = [(module.bfloat16()(**inputs)[0].float() - truth).abs().mean() for module in (plain, fast)]
    assert errors[1] < errors[0]


def test_hidden_pixels_are_not_seen(pair):
    inputs = draw_inputs()
    inputs["attention_mask"] = torch.rand(2, PIXELS) < 0.5
    expected, found = (module(**inputs) for module in pair)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)


def test_far_outside_there_is_nothing(pair):
    _, fast = pair
    inputs = draw_inputs()
    inputs["reference_points"] = inputs["reference_points"] * 0 + 1e6
    output = fast(**inputs)[0]
    torch.testing.assert_close(output, fast.output_proj.bias.expand_as(output))


def test_another_device_takes_the_plain_way(pair):
    plain, fast = (module.to("meta") for module in pair)
    inputs = {name: value.to("meta") if torch.is_tensor(value) else value for name, value in draw_inputs().items()}
    assert fast(**inputs)[0].shape == plain(**inputs)[0].shape
