"""TinyViT against its definition written out in numpy, alone and as half of a pair."""

import numpy as np
import pytest
import torch
from transformers import AutoBackbone, AutoConfig

import modeling_refavs.auto  # noqa: F401, it registers the classes
from modeling_refavs import (
    RefAVSPairedBackbone,
    RefAVSPairedBackboneConfig,
    RefAVSTinyVitBackbone,
    RefAVSTinyVitConfig,
)
from tests.refavs.test_encoders_refavs import LITE, TINY_VIT


NAMES = ["stem", "stage1", "stage2", "stage3", "stage4", "neck"]


def make_backbone() -> RefAVSTinyVitBackbone:
    """With biases and norms that are not those of a fresh model."""
    torch.manual_seed(0)
    model = RefAVSTinyVitBackbone(RefAVSTinyVitConfig(**TINY_VIT, out_features=NAMES)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) / max(1, parameter[0].numel()) ** 0.5)
    return model


def gelu(values: np.ndarray) -> np.ndarray:
    return torch.nn.functional.gelu(torch.from_numpy(values)).numpy()


class Reference:
    """The network's definition over the weights of a state dict, with no framework's layers."""

    def __init__(self, model: RefAVSTinyVitBackbone):
        self.weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
        self.config = model.config

    def convolve(self, maps, name, stride=1, groups=1):
        kernel, size = self.weights[f"{name}.weight"], self.weights[f"{name}.weight"].shape[-1]
        edge = size // 2
        padded = np.pad(maps, [(0, 0), (0, 0), (edge, edge), (edge, edge)])
        height, width = (-(-length // stride) for length in maps.shape[2:])
        out = np.zeros((len(maps), len(kernel), height, width))
        for row in range(size):
            for column in range(size):
                window = padded[:, :, row::stride, column::stride][:, :, :height, :width]
                if groups == 1:
                    out += np.einsum("nchw,oc->nohw", window, kernel[:, :, row, column])
                else:
                    out += window * kernel[None, :, 0, row, column, None, None]
        bias = self.weights.get(f"{name}.bias", np.zeros(len(kernel)))
        return out + bias[:, None, None]

    def expand_and_project(self, maps, name, stride=1):
        maps = gelu(self.convolve(maps, f"{name}.expand"))
        maps = gelu(self.convolve(maps, f"{name}.depthwise", stride, groups=maps.shape[1]))
        return self.convolve(maps, f"{name}.project")

    def norm(self, tokens, name, eps=1e-5):
        mean, variance = tokens.mean(-1, keepdims=True), tokens.var(-1, keepdims=True)
        scaled = (tokens - mean) / np.sqrt(variance + eps)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def linear(self, tokens, name):
        return tokens @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def attend(self, maps, name, heads, size):
        """Each place to those of its window; what lies beyond the map counts as 0 before the
        norm."""
        frames, channels, height, width = maps.shape
        rows, columns = -(-height // size) * size, -(-width // size) * size
        padded = np.zeros((frames, rows, columns, channels))
        padded[:, :height, :width] = maps.transpose(0, 2, 3, 1)
        qkv = self.linear(self.norm(padded, f"{name}.attention_norm"), f"{name}.qkv")
        bias, out = self.weights[f"{name}.attention_bias"], np.zeros_like(padded)
        part = channels // heads
        for y, x in np.ndindex(height, width):
            top, left = y // size * size, x // size * size
            around = [(top + row, left + column) for row, column in np.ndindex(size, size)]
            for head in range(heads):
                start = head * 3 * part
                query, key, value = (start + np.arange(part) + shift * part for shift in range(3))
                scores = np.stack(
                    [
                        (qkv[:, y, x, query] * qkv[:, v, u, key]).sum(-1) / part**0.5
                        + bias[head, abs(v - y), abs(u - x)]
                        for v, u in around
                    ],
                    axis=-1,
                )
                shares = np.exp(scores - scores.max(-1, keepdims=True))
                shares /= shares.sum(-1, keepdims=True)
                values = np.stack([qkv[:, v, u, value] for v, u in around], axis=1)
                out[:, y, x, head * part : (head + 1) * part] = (shares[..., None] * values).sum(1)
        out = self.linear(out[:, :height, :width], f"{name}.output")
        return maps + out.transpose(0, 3, 1, 2)

    def __call__(self, pixels):
        maps = self.convolve(pixels, "stem.0", 2)
        maps = self.convolve(gelu(maps), "stem.2", 2)
        found = [maps]
        for stage, depth in enumerate(self.config.depths):
            if stage:
                stride = 1 if stage == 3 else 2
                maps = self.expand_and_project(maps, f"downsamplings.{stage - 1}", stride)
            for block in range(depth):
                name = f"stages.{stage}.{block}"
                if stage == 0:
                    maps = gelu(maps + self.expand_and_project(maps, name))
                    continue
                heads, size = self.config.num_heads[stage], self.config.window_sizes[stage]
                maps = self.attend(maps, name, heads, size)
                maps = self.convolve(maps, f"{name}.local", groups=maps.shape[1])
                tokens = self.norm(maps.transpose(0, 2, 3, 1), f"{name}.mlp_norm")
                tokens = self.linear(gelu(self.linear(tokens, f"{name}.mlp_in")), f"{name}.mlp_out")
                maps = maps + tokens.transpose(0, 3, 1, 2)
            found.append(maps)
        for convolution, norm in (("neck.0", "neck.1"), ("neck.2", "neck.3")):
            maps = self.convolve(maps, convolution).transpose(0, 2, 3, 1)
            maps = self.norm(maps, norm, eps=1e-6).transpose(0, 3, 1, 2)
        return [*found, maps]


@pytest.mark.parametrize("size", [(64, 48), (33, 50)])
@torch.no_grad()
def test_equals_the_definition_in_numpy(size):
    model, pixels = make_backbone(), torch.randn(2, 3, *size)
    found = model(pixels).feature_maps
    for name, ours, expected in zip(
        NAMES, found, Reference(model)(pixels.double().numpy()), strict=True
    ):
        assert expected.std() > 0.01, name
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4, err_msg=name)
    strides = [64 // size for size in (4, 4, 8, 16, 16, 16)]
    if size == (64, 48):
        assert [feature_map.shape[2] for feature_map in found] == strides


def test_it_is_of_mobilesams_size():
    with torch.device("meta"):
        model = RefAVSTinyVitBackbone(RefAVSTinyVitConfig(out_features=["neck"]))
    assert model.channels == [256]
    weights = {name: value.numel() for name, value in model.named_parameters()}
    biases = [weights.pop(name) for name in list(weights) if name.endswith("attention_bias")]
    # counted in the ONNX file, where the biases are constants
    assert sum(weights.values()) == 5_731_712
    assert sum(biases) == 2 * 4 * 7**2 + 6 * 5 * 14**2 + 2 * 10 * 7**2


def test_heads_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(ValueError, match="must be multiples of num_heads"):
        RefAVSTinyVitConfig(num_heads=[0, 3, 5, 10])


@torch.no_grad()
def test_a_pair_gives_the_maps_of_both():
    config = RefAVSPairedBackboneConfig(
        fine_config={
            "model_type": "refavs_tiny_vit",
            **TINY_VIT,
            "out_features": ["stage1", "stage2", "neck"],
        },
        coarse_config={"model_type": "refavs_efficientnet_lite", **LITE, "out_features": ["head"]},
        pixel_scale=[0.5, 1.0, 2.0],
        pixel_shift=[1.0, 0.0, -1.0],
    )
    torch.manual_seed(0)
    model, pixels = RefAVSPairedBackbone(config).eval(), torch.randn(2, 3, 64, 64)
    maps = model(pixels).feature_maps
    assert [feature_map.shape[1:] for feature_map in maps] == [
        (8, 16, 16),
        (8, 8, 8),
        (8, 4, 4),
        (1280, 2, 2),
    ]
    assert model.channels == [8, 8, 8, 1280]
    scaled = torch.stack([pixels[:, 0] * 0.5 + 1, pixels[:, 1], pixels[:, 2] * 2 - 1], dim=1)
    expected = (*model.fine(scaled).feature_maps, *model.coarse(pixels).feature_maps)
    for ours, alone in zip(maps, expected, strict=True):
        torch.testing.assert_close(ours, alone)


@torch.no_grad()
def test_a_pair_is_saved_and_loads(tmp_path):
    torch.manual_seed(0)
    fine = RefAVSTinyVitConfig(**TINY_VIT, out_features=["stage1", "stage2", "neck"])
    config = RefAVSPairedBackboneConfig(fine_config=fine, pixel_shift=[0.5, 0.0, 0.0])
    model, pixels = RefAVSPairedBackbone(config).eval(), torch.randn(1, 3, 48, 48)
    model.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).fine_config.neck_size == 8
    again = RefAVSPairedBackbone.from_pretrained(tmp_path).eval()
    for ours, loaded in zip(model(pixels)[0], again(pixels)[0], strict=True):
        torch.testing.assert_close(ours, loaded)
    assert isinstance(AutoBackbone.from_config(again.config), RefAVSPairedBackbone)


def test_a_pair_without_three_finer_maps_is_refused():
    fine = RefAVSTinyVitConfig(**TINY_VIT)
    with pytest.raises(ValueError, match="fine_config must give three maps"):
        RefAVSPairedBackboneConfig(fine_config=fine)
