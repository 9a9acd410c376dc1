"""EfficientNet-Lite against its definition written out in numpy, and through transformers' Auto
classes."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoBackbone, AutoConfig, AutoModelForImageClassification

import modeling_refavs.auto  # noqa: F401, it registers the classes
from modeling_refavs import (
    RefAVSConfig,
    RefAVSEfficientNetLiteBackbone,
    RefAVSEfficientNetLiteConfig,
    RefAVSEfficientNetLiteForImageClassification,
)
from tests.conftest import SENTENCES, make_model


LITE = {  # width, depth -> parameters with 1000 classes, channels: counted in the published files
    "lite0": (1.0, 1.0, 4_652_008, [24, 40, 112, 320]),
    "lite1": (1.0, 1.1, 5_416_680, [24, 40, 112, 320]),
    "lite2": (1.1, 1.2, 6_092_072, [24, 48, 120, 352]),
}
STAGES = "r1_k3_s1_e1 r2_k3_s2_e6 r2_k5_s2_e6 r3_k3_s2_e6 r3_k5_s1_e6 r4_k5_s2_e6 r1_k3_s1_e6"


def tiny(**fields) -> RefAVSEfficientNetLiteConfig:
    sizes = {"width_coefficient": 0.25, "stem_size": 8, "head_size": 16, "num_labels": 5}
    return RefAVSEfficientNetLiteConfig(**{**sizes, **fields})


@pytest.fixture
def classifier():
    """With statistics that are not those of a fresh batch norm."""
    torch.manual_seed(0)
    model = RefAVSEfficientNetLiteForImageClassification(tiny()).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.3)
    return model


def same_convolution(maps: np.ndarray, kernel: np.ndarray, stride: int, groups: int) -> np.ndarray:
    """TensorFlow's "same": `ceil(size / stride)` positions, the odd pixel of padding below and
    right."""
    height, width = (-(-size // stride) for size in maps.shape[2:])
    size = kernel.shape[-1]
    padding = [
        max((count - 1) * stride + size - length, 0)
        for count, length in zip((height, width), maps.shape[2:], strict=True)
    ]
    padded = np.pad(
        maps, [(0, 0), (0, 0), *((total // 2, total - total // 2) for total in padding)]
    )
    out = np.zeros((len(maps), len(kernel), height, width))
    for row in range(size):
        for column in range(size):
            window = padded[:, :, row:, column:][:, :, : stride * height : stride]
            window = window[..., : stride * width : stride]
            if groups == 1:
                out += np.einsum("nchw,oc->nohw", window, kernel[:, :, row, column])
            else:
                out += window * kernel[None, :, 0, row, column, None, None]
    return out


class Reference:
    """The network's definition over the weights of a state dict, with no framework's layers."""

    def __init__(self, model):
        self.weights = {name: value.double().numpy() for name, value in model.state_dict().items()}

    def layer(self, maps, name, stride=1, groups=1, activate=True):
        maps = same_convolution(maps, self.weights[f"{name}.0.weight"], stride, groups)
        mean, variance, scale, shift = (
            self.weights[f"{name}.1.{leaf}"][:, None, None]
            for leaf in ("running_mean", "running_var", "weight", "bias")
        )
        maps = (maps - mean) / np.sqrt(variance + 1e-3) * scale + shift
        return np.clip(maps, 0, 6) if activate else maps

    def __call__(self, pixels):
        """Logits, and the maps at strides 4, 8, 16 and 32."""
        maps = self.layer(pixels, "backbone.stem", stride=2)
        block, strides = 0, {}
        for stage in STAGES.split():
            repeats, _, stage_stride, expansion = (int(field[1:]) for field in stage.split("_"))
            for repeat in range(repeats):
                name, stride = f"backbone.blocks.{block}", 1 if repeat else stage_stride
                before = maps
                if expansion > 1:
                    maps = self.layer(maps, f"{name}.expand")
                maps = self.layer(maps, f"{name}.depthwise", stride, groups=maps.shape[1])
                maps = self.layer(maps, f"{name}.project", activate=False)
                if before.shape == maps.shape and stride == 1:
                    maps = maps + before
                strides[maps.shape[2:]] = maps
                block += 1
        pooled = self.layer(maps, "head").mean(axis=(2, 3))
        logits = pooled @ self.weights["classifier.weight"].T + self.weights["classifier.bias"]
        return logits, list(strides.values())[1:]


@pytest.mark.parametrize("size", [(64, 96), (75, 53), (33, 130)])
def test_equals_the_definition_in_numpy(classifier, size):
    pixels = torch.randn(2, 3, *size)
    logits, maps = Reference(classifier)(pixels.double().numpy())
    with torch.no_grad():
        ours = classifier(pixels).logits
        feature_maps = classifier.backbone(pixels).feature_maps
    assert np.ptp(logits) > 0.01
    np.testing.assert_allclose(ours, logits, rtol=1e-4, atol=1e-5)
    for feature_map, expected, stride in zip(feature_maps, maps, (4, 8, 16, 32), strict=True):
        assert feature_map.shape[2:] == tuple(-(-length // stride) for length in size)
        np.testing.assert_allclose(feature_map, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", LITE)
def test_sizes_are_those_of_the_published_weights(size):
    width, depth, parameters, channels = LITE[size]
    config = RefAVSEfficientNetLiteConfig(
        width_coefficient=width, depth_coefficient=depth, num_labels=1000
    )
    with torch.device("meta"):
        model = RefAVSEfficientNetLiteForImageClassification(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model.backbone.channels == channels


@pytest.mark.parametrize("size", LITE)
def test_a_frame_costs_less_than_a_quarter_of_swin_base_s(size):
    width, depth, _, _ = LITE[size]
    lite = RefAVSEfficientNetLiteConfig(width_coefficient=width, depth_coefficient=depth)
    operations = []
    for config in (lite, RefAVSConfig().mask2former_config.backbone_config):
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            AutoBackbone.from_config(config).eval()(torch.zeros(1, 3, 384, 384))
        operations.append(counter.get_total_flops())
    assert 0 < operations[0] < operations[1] / 4


def test_out_features_choose_the_maps(classifier):
    config = tiny(out_features=["stem", "stage2"])
    backbone = RefAVSEfficientNetLiteBackbone(config).eval()
    backbone.load_state_dict(classifier.backbone.state_dict())
    pixels = torch.randn(1, 3, 64, 64)
    outputs = backbone(pixels, output_hidden_states=True)
    assert [feature_map.shape[2:] for feature_map in outputs.feature_maps] == [(32, 32), (8, 8)]
    assert backbone.channels == [feature_map.shape[1] for feature_map in outputs.feature_maps]
    assert outputs.feature_maps[1] is outputs.hidden_states[2]
    torch.testing.assert_close(outputs.feature_maps[1], classifier.backbone(pixels).feature_maps[1])


def test_a_classifier_is_saved_and_its_backbone_loaded(classifier, tmp_path):
    classifier.save_pretrained(tmp_path)
    pixels = torch.randn(1, 3, 64, 64)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(pixels).logits, classifier(pixels).logits)
    backbone, info = RefAVSEfficientNetLiteBackbone.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    for ours, expected in zip(
        backbone(pixels).feature_maps, classifier.backbone(pixels).feature_maps, strict=True
    ):
        torch.testing.assert_close(ours, expected)
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(AutoBackbone.from_config(config), RefAVSEfficientNetLiteBackbone)


def test_a_backbone_gives_what_the_classifier_reads(classifier, tmp_path):
    classifier.save_pretrained(tmp_path)
    backbone, info = RefAVSEfficientNetLiteBackbone.from_pretrained(
        tmp_path, out_features=["stage1", "head"], output_loading_info=True
    )
    assert not info["missing_keys"]
    pixels = torch.randn(1, 3, 64, 96)
    head = backbone(pixels).feature_maps[1]
    assert head.shape == (1, backbone.channels[1], 2, 3)
    logits = classifier.classifier(head.mean(dim=(2, 3)))
    torch.testing.assert_close(logits, classifier(pixels).logits)


CLEAN_ROOM = """
import sys
sys.modules |= dict.fromkeys(["modeling_refavs"])  # not installed here
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoBackbone, AutoConfig, AutoModelForImageClassification
model = AutoModelForImageClassification.from_pretrained(".", trust_remote_code=True)
config = AutoConfig.from_pretrained(".", trust_remote_code=True)
print(*AutoBackbone.from_config(config).channels, type(model).__module__)
"""


def test_where_the_package_is_not_installed_the_folder_has_its_code(
    classifier, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    classifier.save_pretrained(tmp_path)
    answer = subprocess.run(
        [sys.executable, "-c", CLEAN_ROOM], cwd=tmp_path, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    channels = " ".join(map(str, classifier.backbone.channels))
    assert answer.stdout.startswith(f"{channels} transformers_modules.")


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_one_keeps_its_statistics_in_training(frozen, clip, processor):
    model = make_model(vision_config=tiny().to_dict(), freeze_vision_encoder=frozen).train()
    backbone = model.model.mask2former.pixel_level_module.encoder
    assert model.get_input_embeddings() is backbone.stem
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    model(**processor(text=SENTENCES[:1], **clip))
    unchanged = [torch.equal(value, before[name]) for name, value in backbone.named_buffers()]
    assert all(unchanged) if frozen else not any(unchanged)
    assert any(parameter.requires_grad for parameter in backbone.parameters()) != frozen


def test_gradients_reach_every_weight(classifier):
    loss = classifier.train()(torch.randn(2, 3, 64, 64), labels=torch.tensor([0, 3])).loss
    loss.backward()
    assert all(parameter.grad is not None for parameter in classifier.parameters())


@pytest.mark.parametrize("field", ["width_coefficient", "depth_coefficient"])
def test_a_coefficient_that_is_not_positive_is_refused(field):
    with pytest.raises(ValueError, match="above 0"):
        RefAVSEfficientNetLiteConfig(**{field: 0.0})
