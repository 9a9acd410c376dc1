"""Training on CUDA goes as on a CPU, and sharded as whole. Skipped where there is no CUDA."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from modeling_refavs import RefAVSForSegmentation
from modeling_refavs.training.train import run_training

from .conftest import PARTS, SAVING, curve


pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")


def test_training_goes_as_on_a_cpu(train, plain):
    """`plain` is trained on what there is: here CUDA."""
    folder = train("run", "--use_cpu", "true", *SAVING)
    for name in ("loss", *PARTS):
        np.testing.assert_allclose(curve(plain, name), curve(folder, name), rtol=1e-2)
    np.testing.assert_allclose(
        curve(plain, "eval_jaccard"), curve(folder, "eval_jaccard"), atol=1e-2
    )


def test_sharded_training_is_the_whole_one(recipe, plain, tmp_path):
    """With one GPU there is one shard; `test_sharding.py` has two."""
    launcher = (
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=1",
        "-m",
        "modeling_refavs.cli",
        "train",
    )
    words = [str(recipe), "--output_dir", str(tmp_path / "run"), *SAVING, "--fsdp"]
    answer = subprocess.run([sys.executable, *launcher, *words], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    for name in ("loss", *PARTS):
        np.testing.assert_allclose(curve(tmp_path / "run", name), curve(plain, name), rtol=1e-2)
    whole, sharded = (
        RefAVSForSegmentation.from_pretrained(folder) for folder in (plain, tmp_path / "run")
    )
    assert whole.state_dict().keys() == sharded.state_dict().keys()


def test_half_precision_trains(recipe, tmp_path):
    run_training(recipe, ["--output_dir", str(tmp_path / "run"), "--bf16", "true", *SAVING])
    losses = curve(tmp_path / "run")
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
