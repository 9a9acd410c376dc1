"""Two processes that hold half of the model each (FSDP) train as one that holds it all."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from modeling_refavs import RefAVSForSegmentation

from .conftest import PARTS, SAVING, curve


MODULE = f"{__package__}.train_sharded"
LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", MODULE)


def train_sharded(recipe: Path, folder: Path) -> Path:
    words = ["--output_dir", str(folder), "--per_device_train_batch_size", "1", *SAVING, "--fsdp"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    answer = subprocess.run(
        [sys.executable, *LAUNCHER, str(recipe), *words],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert answer.returncode == 0, answer.stderr
    return folder


@pytest.fixture(scope="module")
def sharded(recipe, tmp_path_factory) -> Path:
    return train_sharded(recipe, tmp_path_factory.mktemp("sharded") / "run")


def assert_same_curves(folder: Path, plain: Path) -> None:
    for name in ("loss", *PARTS, "grad_norm"):
        np.testing.assert_allclose(curve(folder, name), curve(plain, name), rtol=1e-3)
    np.testing.assert_allclose(
        curve(folder, "eval_jaccard"), curve(plain, "eval_jaccard"), atol=1e-3
    )


def test_it_trains_as_one_process_does(sharded, plain):
    assert_same_curves(sharded, plain)


@pytest.mark.slow
def test_a_stopped_run_goes_on(sharded, plain, recipe, tmp_path):
    """As if it had been killed between its two checkpoints."""
    folder = shutil.copytree(sharded, tmp_path / "run")
    shutil.rmtree(folder / "checkpoint-4")
    (folder / "trainer_state.json").unlink()
    first = (folder / "checkpoint-2" / "model.safetensors").stat().st_mtime_ns
    assert_same_curves(train_sharded(recipe, folder), plain)
    assert (
        folder / "checkpoint-2" / "model.safetensors"
    ).stat().st_mtime_ns == first  # it was not begun anew


@pytest.mark.parametrize("name", ["", "checkpoint-4"])
def test_what_it_saves_is_a_whole_model_with_our_code(sharded, plain, name):
    found, expected = (
        RefAVSForSegmentation.from_pretrained(folder).state_dict()
        for folder in (sharded / name, plain)
    )
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0.05, atol=0.02)
    config = json.loads((sharded / name / "config.json").read_text())
    assert config["architectures"] == ["RefAVSForSegmentation"]
    assert config["auto_map"]["AutoModel"] == "modeling_refavs.RefAVSForSegmentation"
    assert (sharded / name / "modeling_refavs.py").is_file()
