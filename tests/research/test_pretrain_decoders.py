"""Decoders on a frozen backbone, from composites of a library's pictures."""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoImageProcessor

from modeling_refavs import RefAVSFeatureExtractor, RefAVSForSegmentation, RefAVSProcessor
from modeling_refavs.cli import main
from modeling_refavs.efficientnet_lite_refavs import (
    RefAVSEfficientNetLiteConfig,
    RefAVSEfficientNetLiteForImageClassification,
)
from modeling_refavs.research.pretrain_decoders import Composites, ObjectFinder, make_finder
from modeling_refavs.training.arguments import ModelArguments
from modeling_refavs.training.train import make_tokenizer, start_model
from tests.conftest import make_config
from tests.dataset_script.synthetic.test_library import write_library


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
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "config": CONFIG}))
    return folder


def test_a_composite_depends_on_its_number_alone(folders):
    one, other = (Composites(str(folders / "library"), "train", 4, seed=1) for _ in range(2))
    assert (one[2]["pixels"] == other[2]["pixels"]).all()
    assert (one[2]["pixels"] != one[3]["pixels"]).any()
    assert one[2]["masks"].any(axis=(1, 2)).all()


def test_only_the_decoders_learn(folders):
    finder: ObjectFinder = make_finder(str(folders / "vision"), CONFIG).train()
    frozen = {name for name, parameter in finder.named_parameters() if not parameter.requires_grad}
    assert all("pixel_level_module.encoder." in name or ".adapter." in name for name in frozen)
    assert not finder.model.pixel_level_module.encoder.training


def test_the_command_trains_goes_on_and_makes_a_part(folders, capsys, tmp_path):
    command = [
        "pretrain-decoders",
        str(folders / "vision"),
        str(folders / "library"),
        str(tmp_path / "mask2former"),
        "--recipe",
        str(folders / "recipe.yaml"),
        "--steps",
        "2",
        "--batch-size",
        "2",
    ]
    assert main(command) == 0
    scores = json.loads((tmp_path / "mask2former" / "scores.json").read_text())
    assert 0 <= scores["found"] <= scores["best"] <= 1
    assert scores["objects"] > 0
    whole = RefAVSForSegmentation(
        make_config(
            vision_config={
                "model_type": "refavs_efficientnet_lite",
                **{"width_coefficient": 0.2, "stem_size": 8, "head_size": 16},
                **HEAD,
            }
        )
    )
    for part in ("text_encoder", "audio_encoder"):
        getattr(whole.model, part).save_pretrained(tmp_path / part)
    model = RefAVSForSegmentation.from_backbones(
        str(tmp_path / "mask2former"),
        str(tmp_path / "text_encoder"),
        str(tmp_path / "audio_encoder"),
        hidden_size=32,
        num_attention_heads=4,
        adapter_size=8,
    )
    saved = make_finder(str(folders / "vision"), CONFIG).model.state_dict()
    made = model.model.mask2former.state_dict()
    assert made.keys() == saved.keys()
    kept = "pixel_level_module.encoder.stem.0.weight"
    assert torch.equal(made[kept], saved[kept])
    # put into a whole model, they bring the class head that tells objects from nothing
    model.save_pretrained(tmp_path / "whole")
    RefAVSProcessor(
        AutoImageProcessor.from_pretrained(tmp_path / "mask2former"),
        RefAVSFeatureExtractor(),
        make_tokenizer(["the object"], 300),
    ).save_pretrained(tmp_path / "whole")
    start = ModelArguments(model=str(tmp_path / "whole"), mask2former=str(tmp_path / "mask2former"))
    started, _ = start_model(start, [])
    head = load_file(tmp_path / "mask2former" / "model.safetensors")["class_predictor.weight"]
    assert torch.equal(started.class_predictor.weight, head)
    assert not torch.equal(model.class_predictor.weight, head)


def test_a_folder_that_is_no_library_is_refused_before_anything_is_made(folders, capsys, tmp_path):
    output = tmp_path / "out"
    command = ["pretrain-decoders", str(folders / "vision"), str(tmp_path), str(output)]
    assert main(command) == 2
    assert "holds no library.json" in capsys.readouterr().err
    assert not output.exists()
