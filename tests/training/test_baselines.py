"""The methods of Table 3 under EEMC's trainer: settings that should not matter do not."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModel

from modeling_refavs.training.arguments import read_recipe
from modeling_refavs.training.train import MODEL_CLASSES, make_trainer, run_training

from .conftest import SAVING, STEPS, curve


SIZES = {
    "avsegformer": {
        "num_queries": 12,
        "num_layers": 1,
        "generator_size": 32,
        "query_mixer_size": 32,
        "loss": "dice+bce",
    },
    "referformer": {"num_layers": 1},
    "tpavi": {},
}
EACH = pytest.mark.parametrize("name", SIZES)


@pytest.fixture(scope="session")
def recipes(recipe, tmp_path_factory):
    """A recipe for each method, as `recipe` is for EEMC."""
    folder, values = tmp_path_factory.mktemp("baselines"), yaml.safe_load(recipe.read_text())
    config = values["config"]
    shared = {
        "vision_config": config["mask2former_config"]["backbone_config"],
        "text_config": config["text_config"],
        "audio_config": config["audio_config"],
        "hidden_size": 32,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "dropout": 0.0,
    }
    paths = {}
    for name, sizes in SIZES.items():
        paths[name] = folder / f"{name}.yaml"
        changed = {"architecture": name, "config": {**shared, **sizes}}
        paths[name].write_text(yaml.safe_dump({**values, **changed}))
    return paths


@pytest.fixture(scope="session")
def plains(recipes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plains")
    for name, path in recipes.items():
        run_training(path, ["--output_dir", str(folder / name), *SAVING])
    return {name: folder / name for name in recipes}


@EACH
def test_it_learns_and_what_is_saved_is_whole(name, recipes, plains):
    folder, kind = plains[name], MODEL_CLASSES[name]
    assert len(curve(folder)) == STEPS
    assert min(curve(folder)) < curve(folder)[0]
    assert all(np.isfinite(curve(folder, "eval_jaccard")))
    model = AutoModel.from_pretrained(folder)
    assert type(model) is kind
    parts = sum(np.array(curve(folder, part)) for part in model.loss_names)
    np.testing.assert_allclose(parts, curve(folder), rtol=1e-5)
    start = make_trainer(*read_recipe(recipes[name], ["--output_dir", str(folder / "again")]))
    trained = model.state_dict()
    moved = {
        part
        for part, weight in start.model.state_dict().items()
        if not torch.equal(weight, trained[part])
    }
    assert moved
    assert not [part for part in moved if "_encoder." in part]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["avsegformer", "referformer"])
def test_two_processes_are_the_larger_batch(name, recipes, plains, tmp_path):
    """Not of TPAVI, whose batch norm knows what is in its own process alone."""
    words = ["--output_dir", str(tmp_path / "run"), "--per_device_train_batch_size", "1", *SAVING]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    subprocess.run(
        [sys.executable, *launcher, "modeling_refavs.cli", "train", str(recipes[name]), *words],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
    )
    for number in ("loss", "eval_jaccard"):
        found, expected = curve(tmp_path / "run", number), curve(plains[name], number)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@EACH
@pytest.mark.parametrize(
    ("words", "close"),
    [
        pytest.param(("--bf16", "true"), 5e-2, marks=pytest.mark.slow),
        (("--cache_vision", "true"), 5e-3),  # kept in half precision
        (("--activation_checkpointing", "true"), 2e-4),
    ],
    ids=["bfloat16", "cached", "checkpointing"],
)
def test_cheaper_ways_to_compute_give_the_same_curve(name, words, close, recipes, plains, tmp_path):
    run_training(recipes[name], ["--output_dir", str(tmp_path / "run"), *words, "--max_steps", "2"])
    np.testing.assert_allclose(curve(tmp_path / "run"), curve(plains[name])[:2], rtol=close)


def test_the_first_step_of_tpavi_in_two_halves(recipes, plains, tmp_path):
    words = ["--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "2"]
    words += ["--max_steps", "1", "--output_dir", str(tmp_path / "run")]
    run_training(recipes["tpavi"], words)
    np.testing.assert_allclose(curve(tmp_path / "run"), curve(plains["tpavi"])[:1], rtol=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--cache_cues", "true"), "tpavi has no cues: set cache_vision"),
        (("--feature_pooling", "2"), "features that are kept: set cache_vision"),
        (("--stage", "cues"), "tpavi has neither cues nor the decoders of a Mask2Former"),
        (("--architecture", "sam"), "architecture must be of eemc, avsegformer"),
        (("--config.num_queries", "3"), "RefAVSTPAVIConfig has no field `num_queries`"),
    ],
)
def test_mistakes(words, message, recipes, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_training(recipes["tpavi"], ["--output_dir", str(tmp_path / "run"), *words])


@EACH
def test_coarse_features_train(name, recipes, tmp_path):
    words = ["--cache_vision", "true", "--feature_pooling", "3", "--max_steps", "2"]
    run_training(recipes[name], [*words, "--output_dir", str(tmp_path / "run")])
    assert np.isfinite(curve(tmp_path / "run")).all()


def test_some_steps_of_a_clip_are_learned_from(recipes, tmp_path):
    words = ["--steps_per_clip", "3", "--max_steps", "2", "--output_dir", str(tmp_path / "run")]
    run_training(recipes["referformer"], words)
    state = json.loads((tmp_path / "run" / "trainer_state.json").read_text())
    assert state["global_step"] == 2
