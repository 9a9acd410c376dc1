"""Settings that should not matter do not; and what is logged, kept and saved."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing import event_accumulator
from transformers import TrainerState

from modeling_refavs import RefAVSForSegmentation, RefAVSProcessor
from modeling_refavs.research.stages import (
    STAGE_CLASSES,
    RefAVSForCueAlignment,
    RefAVSForCueLocalization,
    unit_scale_penalty,
)
from modeling_refavs.training.arguments import read_recipe
from modeling_refavs.training.checkpoints import STATE_FILE, read_stages
from modeling_refavs.training.train import make_trainer, run_training
from modeling_refavs.training.trainer import parameter_groups

from .conftest import PARTS, SAVING, STEPS, curve, read_log


ROUNDING = {"rtol": 2e-4}


def test_accumulation_is_the_larger_batch(train, plain):
    folder = train(
        "run", "--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "2"
    )
    for name in ("loss", *PARTS):
        np.testing.assert_allclose(curve(folder, name), curve(plain, name), **ROUNDING)
    np.testing.assert_allclose(curve(folder, "grad_norm"), curve(plain, "grad_norm"), rtol=1e-3)


def test_two_processes_are_the_larger_batch(recipe, plain, tmp_path):
    words = [
        str(recipe),
        "--output_dir",
        str(tmp_path / "run"),
        "--per_device_train_batch_size",
        "1",
        *SAVING,
    ]
    launcher = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "-m",
        "modeling_refavs.cli",
        "train",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, *launcher, *words], check=True, env=environment, capture_output=True
    )
    for name in ("loss", *PARTS):
        np.testing.assert_allclose(curve(tmp_path / "run", name), curve(plain, name), **ROUNDING)
    np.testing.assert_allclose(
        curve(tmp_path / "run", "grad_norm"), curve(plain, "grad_norm"), rtol=1e-3
    )
    np.testing.assert_allclose(
        curve(tmp_path / "run", "eval_jaccard"), curve(plain, "eval_jaccard"), atol=1e-3
    )


def test_the_parts_of_the_loss_add_up(plain):
    assert len(curve(plain)) == STEPS
    np.testing.assert_allclose(
        sum(np.array(curve(plain, part)) for part in PARTS), curve(plain), rtol=1e-5
    )


def test_longer_intervals_log_the_mean(train, plain):
    folder = train("run", "--logging_steps", "2")
    for name in ("loss", *PARTS):
        means = np.array(curve(plain, name)).reshape(-1, 2).mean(axis=1)
        np.testing.assert_allclose(curve(folder, name), means, rtol=1e-5)


def test_it_learns(plain):
    assert curve(plain)[-1] < curve(plain)[0]


def test_the_best_model_is_saved_with_its_processor(plain):
    scores = {
        entry["step"]: entry["eval_jaccard"] for entry in read_log(plain) if "eval_jaccard" in entry
    }
    assert list(scores) == [2, 4]
    best = max(scores, key=scores.get)
    model = RefAVSForSegmentation.from_pretrained(plain)
    checkpoint = RefAVSForSegmentation.from_pretrained(plain / f"checkpoint-{best}")
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, checkpoint.state_dict()[name], rtol=0, atol=0)
    assert RefAVSProcessor.from_pretrained(plain).image_processor.size["height"] == 64
    assert (plain / "curves.png").stat().st_size > 10_000


def test_frozen_encoders_stay_as_they_were(plain, recipe):
    trainer = make_trainer(*read_recipe(recipe, ["--output_dir", str(plain / "again")]))
    trained = RefAVSForSegmentation.from_pretrained(plain).state_dict()
    moved = {
        name
        for name, weight in trainer.model.state_dict().items()
        if not torch.equal(weight, trained[name])
    }
    assert any(".adapter." in name for name in moved)
    assert not [
        name
        for name in moved
        if "text_encoder" in name or "audio_encoder" in name or ".swin." in name
    ]


def test_sentences_of_a_clip_together_are_sentences_one_at_a_time(prepared, recipe):
    trainer = make_trainer(*read_recipe(recipe))
    batch = next(iter(trainer.get_train_dataloader()))
    counts = trainer._get_num_items_in_batch([batch], torch.device("cpu"))
    model = trainer.model.train()
    loss = model(**batch).loss
    loss.backward()
    together = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    total = 0.0
    for row in range(len(batch["clip_index"])):
        one = {
            name: value[row : row + 1]
            if name in ("text_features", "attention_mask", "clip_index", "mask_labels")
            else value
            for name, value in batch.items()
        }
        share = model(**one, loss_counts=counts).loss
        share.backward()
        total += share.item()
    assert total == pytest.approx(loss.item(), rel=1e-4)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(
                parameter.grad, together[name], rtol=1e-2, atol=1e-4, msg=name
            )


@pytest.mark.parametrize(
    "words",
    [("--bf16", "true"), ("--activation_checkpointing", "true")],
    ids=["bfloat16", "checkpointing"],
)
def test_cheaper_ways_to_compute_give_the_same_curve(train, plain, words):
    folder = train("run", *words, "--max_steps", "2")
    np.testing.assert_allclose(
        curve(folder), curve(plain)[:2], rtol=2e-2 if words[0] == "--bf16" else 2e-4
    )


def test_parameters_at_two_rates_and_matrices_alone_decay(recipe):
    words = ["--mask2former_lr_scale", "0.1", "--weight_decay", "0.05", "--learning_rate", "1e-3"]
    trainer = make_trainer(*read_recipe(recipe, words))
    groups = parameter_groups(trainer.model, trainer.args)
    trainable = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    assert sum(len(group["params"]) for group in groups) == len(trainable)
    found = {id(parameter): group for group in groups for parameter in group["params"]}
    names = dict(trainer.model.named_parameters())
    parts = {
        "model.catf.update_projection.weight": (1e-3, 0.05),
        "model.catf.update_projection.bias": (1e-3, 0.0),
        "model.mask2former.transformer_module.queries_features.weight": (1e-4, 0.0),
        "model.mask2former.transformer_module.decoder.layers.0.fc1.weight": (1e-4, 0.05),
        "model.mask2former.transformer_module.decoder.layers.0.adapter.down.weight": (1e-3, 0.05),
    }
    for name, (rate, decay) in parts.items():
        group = found[id(names[name])]
        assert (group["lr"], group["weight_decay"]) == (pytest.approx(rate), decay), name


def test_training_stops_when_it_gets_no_better(train):
    words = ["--learning_rate", "0", "--early_stopping_patience", "1", "--max_steps", "12"]
    folder = train("run", *SAVING, *words)
    assert read_log(folder)[-1]["step"] == 4


@pytest.mark.slow
def test_the_compiled_model_gives_the_same_curve(train, plain):
    folder = train("run", "--torch_compile", "true", "--max_steps", "2")
    np.testing.assert_allclose(curve(folder), curve(plain)[:2], **ROUNDING)


def test_a_first_stage_for_the_cues_starts_the_second(train, recipe, tmp_path):
    words = [
        "--stage",
        "cues",
        "--config.cue_loss_weight",
        "4.0",
        "--cache_cues",
        "true",
        "--steps_per_clip",
        "1",
    ]
    first = train("cues", *words)
    assert min(curve(first, "loss_cue")) > 0
    assert curve(first, "loss_cue") == pytest.approx(curve(first), rel=1e-4)
    start = RefAVSForCueLocalization.from_pretrained(first)
    model = RefAVSForSegmentation.from_pretrained(first, strict=False)
    assert torch.equal(model.cue_predictor.weight, start.cue_predictor.weight)
    for name, value in start.model.integration.state_dict().items():
        assert torch.equal(model.model.integration.state_dict()[name], value)
    second = yaml.safe_load(recipe.read_text())
    del second["config"]
    (tmp_path / "second.yaml").write_text(
        yaml.safe_dump(
            {
                **second,
                "model": str(first),
                "new_weights": True,
                "output_dir": str(tmp_path / "second"),
            }
        )
    )
    run_training(tmp_path / "second.yaml", (), STAGE_CLASSES)
    assert set(read_log(tmp_path / "second")[0]) >= {*PARTS, "loss_cue"}
    state = TrainerState.load_from_json(str(tmp_path / "second" / STATE_FILE))
    stages = read_stages(tmp_path / "second", state)  # as they are drawn
    assert stages == [("cues", read_log(first)), ("second", read_log(tmp_path / "second"))]
    (first / STATE_FILE).write_text("another program's")
    assert read_stages(tmp_path / "second", state) == stages[1:]


def test_alignment_leaves_the_projections_that_cues_start_from(train, recipe, tmp_path):
    words = [
        "--stage",
        "alignment",
        "--config.cue_loss_weight",
        "4.0",
        "--config.cue_tied_start",
        "true",
    ]
    kept = ["--cache_cues", "true", "--steps_per_clip", "1"]
    aligned = train("alignment", *words, *kept)
    assert min(curve(aligned, "loss_cue")) > 0
    cues = RefAVSForCueLocalization.from_pretrained(aligned, strict=False).model
    learned = RefAVSForCueAlignment.from_pretrained(aligned).model.cue_projection
    start = make_trainer(
        *read_recipe(recipe, [*words, *kept, "--output_dir", str(tmp_path / "new")])
    ).model.model
    for name, value in cues.cue_projection.named_parameters():
        assert torch.equal(value, learned.get_parameter(name))
        assert not torch.equal(value, start.cue_projection.get_parameter(name)), name
    assert unit_scale_penalty(torch.ones(3, 8)) == 0 < unit_scale_penalty(torch.full((3, 8), 9.0))
    for attention in (layer.attention for layer in cues.integration.layers):
        assert torch.equal(attention.query_projection.weight, attention.key_projection.weight)


def test_what_is_not_to_be_learned_stays(train, recipe, tmp_path):
    words = ["--learned", "class_predictor", "model.catf", "--eval_strategy", "no"]
    folder = train("some", *words)
    learned = RefAVSForSegmentation.from_pretrained(folder).state_dict()
    arguments = read_recipe(recipe, [*words, "--output_dir", str(tmp_path / "new")])
    start = make_trainer(*arguments).model.state_dict()
    changed = {name for name, value in start.items() if not torch.equal(value, learned[name])}
    assert {name.partition(".")[0] for name in changed} == {"class_predictor", "model"}
    assert all(name.startswith(("class_predictor.", "model.catf.")) for name in changed)
    with pytest.raises(ValueError, match="learned: the model has no module class_head"):
        train("other", "--learned", "class_head", "--eval_strategy", "no")


def test_tensorboard_has_what_the_log_has(train):
    folder = train("run", *SAVING, "--report_to", "tensorboard")
    (events,) = (folder / "runs").rglob("events.*")
    board = event_accumulator.EventAccumulator(str(events.parent)).Reload()
    for name in ("loss", *PARTS, "grad_norm"):
        values = [scalar.value for scalar in board.Scalars(f"train/{name}")]
        np.testing.assert_allclose(values, curve(folder, name), rtol=1e-6)
    scores = [scalar.value for scalar in board.Scalars("eval/jaccard")]
    np.testing.assert_allclose(scores, curve(folder, "eval_jaccard"), rtol=1e-6)


def test_cues_alone_have_no_masks_to_validate(train):
    with pytest.raises(ValueError, match="eval_strategy must be no"):
        train(
            "cues", "--stage", "cues", "--eval_strategy", "steps", "--config.cue_loss_weight", "1.0"
        )


def test_a_saved_model_is_given_an_iou_head_that_alone_is_learned(train, recipe, tmp_path):
    start = train("plain", "--eval_strategy", "no", "--max_steps", "1")
    second = {**yaml.safe_load(recipe.read_text()), "model": str(start), "eval_strategy": "no"}
    second |= {"config": {"grounding_config": {"use_iou_head": True}}, "learned": ["iou_predictor"]}
    second |= {"new_weights": True, "output_dir": str(tmp_path / "second")}
    (tmp_path / "second.yaml").write_text(yaml.safe_dump(second))
    run_training(tmp_path / "second.yaml", (), STAGE_CLASSES)
    assert min(curve(tmp_path / "second", "loss_iou")) > 0
    before = RefAVSForSegmentation.from_pretrained(start).state_dict()
    after = RefAVSForSegmentation.from_pretrained(tmp_path / "second").state_dict()
    assert {name.partition(".")[0] for name in after.keys() - before.keys()} == {"iou_predictor"}
    for name, value in before.items():
        assert torch.equal(after[name], value), name
