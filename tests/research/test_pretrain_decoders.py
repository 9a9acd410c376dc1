"""Decoders on a frozen backbone, from composites of a library's pictures."""

import json

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoImageProcessor
from transformers.modeling_outputs import BackboneOutput

from modeling_refavs import (
    RefAVSFeatureExtractor,
    RefAVSForSegmentation,
    RefAVSPairedBackbone,
    RefAVSPairedBackboneConfig,
    RefAVSProcessor,
)
from modeling_refavs.cli import main
from modeling_refavs.efficientnet_lite_refavs import (
    RefAVSEfficientNetLiteConfig,
    RefAVSEfficientNetLiteForImageClassification,
)
from modeling_refavs.research.pretrain_decoders import (
    Composites,
    EncodedComposites,
    ObjectFinder,
    make_finder,
)
from modeling_refavs.training.arguments import ModelArguments
from modeling_refavs.training.train import make_tokenizer, start_model
from tests.conftest import make_config
from tests.dataset_script.synthetic.test_library import write_library
from tests.refavs.test_encoders_refavs import TINY_VIT


HEAD = {"out_features": ["stage1", "stage2", "stage3", "head"]}
CONFIG = {
    "adapter_size": 8,
    "vision_config": HEAD,
    "mask2former_config": {
        "hidden_dim": 32,
        "feature_size": 32,
        "mask_feature_size": 32,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "num_queries": 6,
        "num_attention_heads": 4,
        "encoder_feedforward_dim": 32,
        "dim_feedforward": 32,
    },
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A library, a classifier of pictures and a recipe."""
    folder = tmp_path_factory.mktemp("parts")
    write_library(folder / "library")
    torch.manual_seed(0)
    backbone = RefAVSEfficientNetLiteForImageClassification(
        RefAVSEfficientNetLiteConfig(width_coefficient=0.2, stem_size=8, head_size=16)
    )
    backbone.save_pretrained(folder / "vision")
    mean = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 32, "width": 32}}
    processor = {"image_processor_type": "ViTImageProcessor", **mean}
    (folder / "vision" / "preprocessor_config.json").write_text(json.dumps(processor))
    recipe = {"data": "photo", "vision": "v", "text_model": "t", "audio_model": "a"}
    (folder / "recipe.yaml").write_text(
        yaml.safe_dump({**recipe, "image_size": 64, "config": CONFIG})
    )
    return folder


def test_a_composite_depends_on_its_number_alone(folders):
    library = str(folders / "library")
    one, other = (Composites(library, "train", 4, seed=1, size=64) for _ in range(2))
    assert (one[2]["pixels"] == other[2]["pixels"]).all()
    assert (one[2]["pixels"] != one[3]["pixels"]).any()
    assert one[2]["masks"].any(axis=(1, 2)).all()
    assert one[2]["pixels"].shape == (64, 64, 3)
    assert one[2]["masks"].shape[1:] == (64, 64)


class Backbone(torch.nn.Conv2d):
    """Counts the frames that it sees."""

    seen = 0

    def forward(self, frames):
        self.seen += len(frames)
        maps = super().forward(frames)
        return BackboneOutput(feature_maps=(maps, maps[..., ::2, ::2]))


def test_composites_are_encoded_once(folders, tmp_path):
    drawn = Composites(str(folders / "library"), "train", 3, seed=1, size=32)
    processor = AutoImageProcessor.from_pretrained(folders / "vision")
    backbone = Backbone(3, 2, 4, stride=4)
    made = EncodedComposites(drawn, 5, tmp_path / "maps")
    made.make(backbone, processor)
    made.make(backbone, processor)
    assert backbone.seen == 3
    row, frame = made[1], drawn[1]
    pixels = processor(frame["pixels"], return_tensors="pt")["pixel_values"]
    for ours, expected in zip(row["stages"], backbone(pixels).feature_maps, strict=True):
        torch.testing.assert_close(ours, expected[0], rtol=1e-2, atol=1e-3)
    count = len(frame["masks"])
    assert row["shown"].tolist() == [True] * count + [False] * (5 - count)
    cells = torch.from_numpy(frame["masks"]).float().unfold(1, 4, 4).unfold(2, 4, 4).mean((3, 4))
    torch.testing.assert_close(row["mask_labels"][:count], cells, rtol=0, atol=0.5 / 255)

    # stopped half way, it goes on
    counts = np.load(tmp_path / "maps" / "counts.npy", mmap_mode="r+")
    counts[2] = 0
    counts.flush()
    made.make(backbone, processor)
    assert backbone.seen == 5  # with the one above
    longer = Composites(str(folders / "library"), "train", 4, seed=1, size=32)
    with pytest.raises(ValueError, match=r"counts\.npy: holds"):
        EncodedComposites(longer, 5, tmp_path / "maps").make(backbone, processor)


def test_only_the_decoders_learn(folders):
    finder: ObjectFinder = make_finder(str(folders / "vision"), CONFIG).train()
    frozen = {name for name, parameter in finder.named_parameters() if not parameter.requires_grad}
    assert all("pixel_level_module.encoder." in name or ".adapter." in name for name in frozen)
    assert not finder.model.pixel_level_module.encoder.training


def train_decoders(folders, vision, output, *options):
    """The command, for two steps."""
    places = [str(vision), str(folders / "library"), str(output)]
    short = ["--recipe", str(folders / "recipe.yaml"), "--composites", "4", "--steps", "2"]
    return main(["pretrain-decoders", *places, *short, "--batch-size", "2", *options])


@pytest.fixture(scope="module")
def trained(folders, tmp_path_factory):
    """A Mask2Former that the command made."""
    output = tmp_path_factory.mktemp("trained") / "mask2former"
    assert train_decoders(folders, folders / "vision", output) == 0
    return output


@pytest.fixture(scope="module")
def whole(folders, trained, tmp_path_factory):
    """A model with it."""
    folder = tmp_path_factory.mktemp("whole")
    vision = {"width_coefficient": 0.2, "stem_size": 8, "head_size": 16, **HEAD}
    vision = {"model_type": "refavs_efficientnet_lite", **vision}
    other = RefAVSForSegmentation(make_config(vision_config=vision)).model
    for part in ("text_encoder", "audio_encoder"):
        getattr(other, part).save_pretrained(folder / part)
    model = RefAVSForSegmentation.from_backbones(
        str(trained),
        str(folder / "text_encoder"),
        str(folder / "audio_encoder"),
        hidden_size=32,
        num_attention_heads=4,
        adapter_size=8,
    )
    model.save_pretrained(folder / "model")
    RefAVSProcessor(
        AutoImageProcessor.from_pretrained(trained),
        RefAVSFeatureExtractor(),
        make_tokenizer(["the object"], 300),
    ).save_pretrained(folder / "model")
    return folder


def test_the_command_makes_a_part_of_a_model(folders, trained, whole):
    scores = json.loads((trained / "scores.json").read_text())
    assert 0 <= scores["found"] <= scores["best"] <= 1
    assert scores["objects"] > 0
    backbone = make_finder(str(folders / "vision"), CONFIG).model.state_dict()
    model = RefAVSForSegmentation.from_pretrained(whole / "model")
    made = model.model.mask2former.state_dict()
    assert made.keys() == backbone.keys()
    frozen = "pixel_level_module.encoder.stem.0.weight"
    assert torch.equal(made[frozen], backbone[frozen])
    # put into a whole model, they bring the class head that tells objects from nothing
    start = ModelArguments(model=str(whole / "model"), mask2former=str(trained))
    started, _ = start_model(start, [])
    head = load_file(trained / "model.safetensors")["class_predictor.weight"]
    assert torch.equal(started.class_predictor.weight, head)
    assert not torch.equal(model.class_predictor.weight, head)


def test_what_has_decoders_starts_with_them(trained, whole):
    first = load_file(trained / "model.safetensors")
    further = make_finder(str(trained), CONFIG)
    assert torch.equal(further.class_predictor.weight, first["class_predictor.weight"])
    for name, value in further.model.state_dict().items():
        assert torch.equal(value, first[name])
    model = RefAVSForSegmentation.from_pretrained(whole / "model")
    of_model = make_finder(str(whole / "model"), CONFIG)
    assert torch.equal(of_model.class_predictor.weight, model.class_predictor.weight)
    made = model.model.mask2former.state_dict()
    for name, value in of_model.model.state_dict().items():
        assert torch.equal(value, made[name])
    AutoImageProcessor.from_pretrained(whole / "model")  # which the command takes too
    with pytest.raises(ValueError, match="is no backbone"):
        make_finder(str(whole / "text_encoder"), CONFIG)


def test_decoders_are_trained_further_and_kept_in_part(folders, trained, capsys, tmp_path):
    first = load_file(trained / "model.safetensors")
    assert train_decoders(folders, trained, tmp_path / "further") == 0
    second = load_file(tmp_path / "further" / "model.safetensors")
    assert second.keys() == first.keys()
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert changed
    assert not any("pixel_level_module.encoder." in name for name in changed)
    assert train_decoders(folders, trained, tmp_path / "kept", "--kept", "0.75") == 0
    mean = load_file(tmp_path / "kept" / "model.safetensors")
    for name in changed:
        expected = 0.75 * first[name] + 0.25 * second[name]
        torch.testing.assert_close(mean[name], expected, rtol=1e-4, atol=1e-6)
    assert train_decoders(folders, trained, tmp_path / "kept", "--kept", "1") == 2
    assert "kept must be at least 0 and below 1" in capsys.readouterr().err
    assert train_decoders(folders, folders / "vision", tmp_path / "kept", "--kept", "0.5") == 2
    assert "has no decoders to keep" in capsys.readouterr().err


def test_other_decoders_bring_their_backbone(folders, tmp_path):
    """The cues read the last map, which must be as wide."""
    fine = {**TINY_VIT, "out_features": ["stage1", "stage2", "neck"]}
    lite = {"width_coefficient": 0.2, "stem_size": 8, "head_size": 16, **HEAD}
    pair = RefAVSPairedBackboneConfig(
        fine_config={"model_type": "refavs_tiny_vit", **fine},
        coarse_config={"model_type": "refavs_efficientnet_lite", **lite},
    )
    RefAVSPairedBackbone(pair).save_pretrained(tmp_path / "pair")
    make_finder(str(tmp_path / "pair"), CONFIG).model.save_pretrained(tmp_path / "mask2former")
    whole = RefAVSForSegmentation(
        make_config(vision_config={"model_type": "refavs_efficientnet_lite", **lite})
    )
    whole.save_pretrained(tmp_path / "whole")
    processor = RefAVSProcessor(
        AutoImageProcessor.from_pretrained(folders / "vision"),
        RefAVSFeatureExtractor(),
        make_tokenizer(["the object"], 300),
    )
    processor.save_pretrained(tmp_path / "whole")
    start = ModelArguments(model=str(tmp_path / "whole"), mask2former=str(tmp_path / "mask2former"))
    model, _ = start_model(start, [])
    assert isinstance(model.config.vision_config, RefAVSPairedBackboneConfig)
    encoder = model.model.vision_encoder
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in encoder.modules())
    model.train()
    assert not any(part.training for part in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    model.save_pretrained(tmp_path / "again")
    frames = torch.randn(1, 1, 3, 32, 32)
    again = RefAVSForSegmentation.from_pretrained(tmp_path / "again").eval()
    for ours, saved in zip(
        model.eval().model._encode_frames(frames), again.model._encode_frames(frames), strict=True
    ):
        torch.testing.assert_close(ours, saved)

    RefAVSForSegmentation(make_config()).save_pretrained(tmp_path / "other")
    processor.save_pretrained(tmp_path / "other")
    start = ModelArguments(model=str(tmp_path / "other"), mask2former=str(tmp_path / "mask2former"))
    with pytest.raises(ValueError, match="last map has 16 channels, where the model's cues"):
        start_model(start, [])


def test_a_folder_that_is_no_library_is_refused_before_anything_is_made(folders, capsys, tmp_path):
    output = tmp_path / "out"
    command = ["pretrain-decoders", str(folders / "vision"), str(tmp_path), str(output)]
    assert main(command) == 2
    assert "holds no library.json" in capsys.readouterr().err
    assert not output.exists()
