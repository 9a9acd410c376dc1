"""A training that was stopped, however, goes on as if nothing had happened; and what a run's folder
says of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from modeling_refavs import RefAVSForSegmentation
from modeling_refavs.cli import main
from modeling_refavs.training.checkpoints import (
    STATE_FILE,
    is_complete,
    is_finished,
    last_complete_checkpoint,
)
from modeling_refavs.training.train import run_training
from modeling_refavs.training.trainer import RefAVSTrainer

from .conftest import PARTS, SAVING, curve, read_log


# All that is drawn by chance, so that a draw that is made otherwise after a stop would show; a Swin
# that is trained, whose weights have other names on disk; and intervals of the log that a
# checkpoint cuts.
CHANCE = (
    *(
        "--expressions_per_clip",
        "1",
        "--steps_per_clip",
        "2",
        "--config.dropout",
        "0.2",
        "--null_share",
        "0.2",
    ),
    *(
        "--families",
        "semantic",
        "acoustic",
        "--max_steps",
        "8",
        "--save_steps",
        "3",
        "--eval_steps",
        "3",
    ),
    *("--config.freeze_vision_encoder", "false", "--logging_steps", "2"),
)


def weights_of(folder):
    return RefAVSForSegmentation.from_pretrained(folder).state_dict()


def steps_of(folder):
    """What was logged, but for the time that it took."""
    entries = [entry for entry in read_log(folder) if "train_runtime" not in entry]
    return [
        {k: v for k, v in entry.items() if "runtime" not in k and "per_second" not in k}
        for entry in entries
    ]


def assert_same(one, two):
    assert steps_of(one) == steps_of(two)
    torch.testing.assert_close(weights_of(one), weights_of(two), rtol=0, atol=0)


class Stop(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture
def stop_at(monkeypatch):
    """`stop_at(5)`: the next training ends before its fifth update, and after that no more."""

    def patch(step: int) -> None:
        steps = []
        training_step = RefAVSTrainer.training_step

        def counted(self, *args, **kwargs):
            if len(steps) == step - 1:
                monkeypatch.setattr(RefAVSTrainer, "training_step", training_step)
                raise Stop
            steps.append(1)
            return training_step(self, *args, **kwargs)

        monkeypatch.setattr(RefAVSTrainer, "training_step", counted)

    return patch


@pytest.mark.parametrize("workers", ["0", "1"])
def test_it_goes_on_as_if_nothing_had_happened(train, stop_at, workers):
    words = [*SAVING, *CHANCE, "--dataloader_num_workers", workers]
    whole = train("whole", *words)
    for step in (5, 3):  # in the middle of the first epoch; and shortly after the second began
        stop_at(step)
        with pytest.raises(Stop):
            train("stopped", *words)
    assert last_complete_checkpoint(train.folder / "stopped").name == "checkpoint-3"
    assert_same(train("stopped", *words), whole)


def test_a_run_that_goes_on_says_from_which_step(recipe, stop_at, tmp_path, capsys):
    words = ["train", str(recipe), "--output_dir", str(tmp_path / "run"), *SAVING]
    stop_at(4)
    with pytest.raises(Stop):
        main(words)
    assert "goes on" not in capsys.readouterr().out
    assert main(words) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert first == f"{tmp_path / 'run'}: goes on from step 2 of 4"


def test_killed_at_any_moment(recipe, plain, tmp_path):
    folder = tmp_path / "run"
    words = [str(recipe), "--output_dir", str(folder), *SAVING]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "modeling_refavs.cli", "train", *words]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while (
        not (folder / "checkpoint-2").exists() and process.poll() is None
    ):  # while it is being written, likely
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    run_training(*words[:1], words[1:])
    np.testing.assert_allclose(curve(folder), curve(plain), rtol=1e-6)
    torch.testing.assert_close(weights_of(folder), weights_of(plain))


def test_a_half_written_checkpoint_is_passed_over(train, plain):
    folder = train.folder / "run"
    shutil.copytree(plain, folder, ignore=shutil.ignore_patterns(STATE_FILE, "checkpoint-4"))
    shutil.copy(plain / "checkpoint-2" / STATE_FILE, folder / "checkpoint-2")
    (folder / "checkpoint-4").mkdir()
    (folder / "checkpoint-4" / "model.safetensors").write_bytes(b"half")
    (folder / "checkpoint-4" / STATE_FILE).write_text('{"global_step": 4, "log_hist')
    assert not is_complete(folder / "checkpoint-4")
    train("run", *SAVING)
    assert_same(folder, plain)


def test_stopped_between_the_last_step_and_the_end(train, plain, monkeypatch):
    folder = train.folder / "run"
    shutil.copytree(plain, folder)
    for name in (STATE_FILE, "model.safetensors", "curves.png"):
        (folder / name).unlink()
    monkeypatch.setattr(RefAVSTrainer, "training_step", None)
    train("run", *SAVING)
    assert_same(folder, plain)
    assert (folder / "curves.png").is_file()


def test_a_full_disk(train, plain, monkeypatch, recipe, capsys):
    save = RefAVSForSegmentation.save_pretrained

    def fail(self, folder, *args, **kwargs):
        if str(folder).endswith("checkpoint-4"):
            (train.folder / "run" / "checkpoint-4" / "model.safetensors").write_bytes(b"half")
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        save(self, folder, *args, **kwargs)

    monkeypatch.setattr(RefAVSForSegmentation, "save_pretrained", fail)
    folder = train.folder / "run"
    assert main(["train", str(recipe), "--output_dir", str(folder), *SAVING]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "checkpoint-4 cannot be written: I/O error: No space left on device" in message
    assert message.endswith("the run goes on from step 2")
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-2"]
    monkeypatch.undo()
    train("run", *SAVING)
    assert_same(folder, plain)


def test_a_push_that_fails_leaves_the_trained_model(recipe, tmp_path, monkeypatch, capsys):
    def refuse(self, *args, **kwargs):
        raise OSError("401: who are you?")

    monkeypatch.setattr(
        RefAVSTrainer, "init_hf_repo", lambda self, **_: setattr(self, "hub_model_id", "me/mine")
    )
    monkeypatch.setattr(RefAVSTrainer, "push_to_hub", refuse)
    output = tmp_path / "run"
    assert main(["train", str(recipe), "--output_dir", str(output), "--push_to_hub", "true"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "me/mine: cannot be pushed: 401: who are you?" in error
    assert f"refavs publish model {output} me/mine" in error
    assert is_finished(output)
    weights_of(output)


def test_a_finished_run_says_so(plain, recipe, capsys, monkeypatch):
    monkeypatch.setattr(RefAVSTrainer, "training_step", None)
    assert main(["train", str(recipe), "--output_dir", str(plain), *SAVING]) == 0
    assert "this training is finished" in capsys.readouterr().out


def test_another_learning_rate_on_a_finished_run_is_named(plain, recipe, capsys, monkeypatch):
    monkeypatch.setattr(RefAVSTrainer, "training_step", None)
    words = ["--output_dir", str(plain), *SAVING, "--learning_rate", "1e-4", "--mask_size", "32"]
    assert main(["train", str(recipe), *words]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "this training is finished, with mask_size None, not 32, learning_rate 0.001" in error
    assert "not 0.0001: choose another output_dir, or --overwrite" in error


def test_a_model_of_a_folder_is_trained_on_by_a_recipe_with_a_config(train, plain, recipe):
    """As `smoke.yaml --model CHECKPOINT --config null` does."""
    folder = train("run", "--model", str(plain), "--config", "null", "--max_steps", "1")
    assert len(curve(folder)) == 1


def test_overwrite_starts_anew(train, plain):
    folder = train.folder / "run"
    shutil.copytree(plain, folder)
    train("run", *SAVING, "--overwrite", "--max_steps", "2", "--seed", "7")
    assert [entry["step"] for entry in read_log(folder) if "loss" in entry] == [1, 2]
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-2"]
    assert curve(folder) != curve(plain)[:2]


def test_a_folder_with_another_run_is_refused(train, plain):
    folder = train.folder / "run"
    shutil.copytree(plain, folder, ignore=shutil.ignore_patterns("/" + STATE_FILE))
    (folder / STATE_FILE).unlink()
    assert not is_finished(folder)
    with pytest.raises(
        ValueError, match=r"holds a run with steps_per_clip None, not 3: choose another output_dir"
    ):
        train("run", *SAVING, "--steps_per_clip", "3")


def test_the_state_says_the_step(plain):
    state = json.loads((plain / STATE_FILE).read_text())
    assert state["global_step"] == 4
    assert set(PARTS) <= set(state["log_history"][0])
