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
    np.testing.assert_allclose(curve(plain, "eval_jaccard"), curve(folder, "eval_jaccard"), atol=1e-2)


def test_sharded_training_is_the_whole_one_and_can_be_resumed(recipe, plain, tmp_path):
    run = tmp_path / "run"
    words = ["--output_dir", str(run), *SAVING, "--load_best_model_at_end", "false", "--fsdp"]
    launcher = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=1",
        "-m",
        "modeling_refavs.training.train",
    ]
    for steps in ("2", "4"):
        answer = subprocess.run(
            [sys.executable, *launcher, str(recipe), "--max_steps", steps, *words], capture_output=True, text=True
        )
        assert answer.returncode == 0, answer.stderr
        (run / "trainer_state.json").unlink(missing_ok=True)  # it says that the run is finished
    for name in ("loss", *PARTS):
        np.testing.assert_allclose(curve(run / "checkpoint-4", name), curve(plain, name), rtol=1e-2)
    whole, sharded = (RefAVSForSegmentation.from_pretrained(folder).state_dict() for folder in (plain, run))
    assert whole.keys() == sharded.keys()


def test_half_precision_trains(recipe, tmp_path):
    run_training(recipe, ["--output_dir", str(tmp_path / "run"), "--bf16", "true", *SAVING])
    losses = curve(tmp_path / "run")
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
