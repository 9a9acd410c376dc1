"""Checkpoints that a run leaves: which are complete, and what is written of a run as a whole."""

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from transformers import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..utils.files import whole_file
from .arguments import (
    DataArguments,
    ModelArguments,
    RefAVSTrainingArguments,
    rename_options,
)


STATE_FILE = "trainer_state.json"
RECIPE_FILE = "recipe.yaml"
TRAINING = "training"  # in the recipe file, what TrainingArguments said
# Of TrainingArguments what says where a run is and what it shows, not what is trained.
PLACE = ("output_dir", "overwrite", "local_rank", "use_cpu", "disable_tqdm", "logging_dir")
_CHECKPOINT = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")


def find_checkpoints(output: Path) -> list[Path]:
    """All, complete or not, from old to new."""
    found = [
        path
        for path in output.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if _CHECKPOINT.fullmatch(path.name)
    ]
    return sorted(found, key=step_of)


def last_complete_checkpoint(output: Path) -> Path | None:
    return next((path for path in reversed(find_checkpoints(output)) if is_complete(path)), None)


def step_of(checkpoint: Path) -> int:
    return int(_CHECKPOINT.fullmatch(checkpoint.name).group(1))


def is_complete(checkpoint: Path) -> bool:
    """Trainer writes its state last: if that can be read, all else is there."""
    try:
        return json.loads((checkpoint / STATE_FILE).read_text())["global_step"] == step_of(
            checkpoint
        )
    except (OSError, ValueError, KeyError):
        return False


def read_state(checkpoint: Path) -> TrainerState:
    return TrainerState.load_from_json(str(checkpoint / STATE_FILE))


def has_ended(checkpoint: Path, patience: int | None) -> bool:
    """Was this saved at the last step, or where training was stopped early?"""
    state = read_state(checkpoint)
    stopping = state.stateful_callbacks.get("EarlyStoppingCallback", {}).get("attributes", {})
    waited = stopping.get("early_stopping_patience_counter", 0)
    return state.global_step >= state.max_steps or (patience is not None and waited >= patience)


def is_finished(output: Path) -> bool:
    """The state of the whole run is the last that is written."""
    return (output / STATE_FILE).is_file()


def read_stages(output: Path, state: TrainerState) -> list[tuple[str, list[dict[str, Any]]]]:
    """Name and log of each training that led to this one, the first one first: a run that began
    with what another one left, which began ... A model that is no run's ends the row."""
    stages, folder, log = {}, output, state.log_history
    while log is not None and folder not in stages:
        stages[folder] = log
        folder = Path(_read_entry(folder / RECIPE_FILE, "model") or "no run")
        log = _read_entry(folder / STATE_FILE, "log_history")
    return [(folder.name, log) for folder, log in reversed(stages.items())]


def _read_entry(file: Path, name: str) -> Any:
    """None where there is none, or the file is another program's: a picture is worth no error."""
    read = json.loads if file.suffix == ".json" else yaml.safe_load
    try:
        return read(file.read_text(encoding="utf-8"))[name]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return None


def remove_incomplete(output: Path) -> None:
    """What a run that was killed while it wrote a checkpoint left of it."""
    for checkpoint in find_checkpoints(output):
        if not is_complete(checkpoint):
            shutil.rmtree(checkpoint)


def remove_run(output: Path) -> None:
    """All that says that a run was here."""
    for checkpoint in find_checkpoints(output):
        shutil.rmtree(checkpoint)
    for name in (STATE_FILE, RECIPE_FILE):
        (output / name).unlink(missing_ok=True)


def claim_folder(
    output: Path, model: ModelArguments, data: DataArguments, args: RefAVSTrainingArguments
) -> None:
    """Note what is trained on what, and how; a run goes on only where the first two are the same.

    Raises:
        ValueError: the folder holds another run.
    """
    ours = _facts(model, data)
    if last_complete_checkpoint(output) and (differing := _differences(output, ours)):
        raise ValueError(
            f"{output} holds a run with {differing}: choose another output_dir, or --overwrite"
        )
    output.mkdir(parents=True, exist_ok=True)
    with whole_file(output / RECIPE_FILE) as unfinished:
        note = {**ours, TRAINING: _training_facts(args)}
        unfinished.write_text(yaml.safe_dump(note, sort_keys=False), encoding="utf-8")


def check_finished(
    output: Path, model: ModelArguments, data: DataArguments, args: RefAVSTrainingArguments
) -> None:
    """Raise `ValueError` where a finished run is not the one that is asked for."""
    if differing := _differences(output, {**_facts(model, data), **_training_facts(args)}):
        raise ValueError(
            f"{output}: this training is finished, with {differing}: choose another output_dir, "
            "or --overwrite"
        )


def _differences(output: Path, ours: dict[str, Any]) -> str:
    """What the note of a run has otherwise. An older one lacks options that came later."""
    note = output / RECIPE_FILE
    if not note.is_file():
        return ""
    theirs = rename_options(yaml.safe_load(note.read_text(encoding="utf-8")))
    theirs |= theirs.pop(TRAINING, {})
    return ", ".join(
        f"{name} {theirs[name]}, not {value}"
        for name, value in ours.items()
        if name in theirs and theirs[name] != value
    )


def _training_facts(args: RefAVSTrainingArguments) -> dict[str, Any]:
    facts = json.loads(args.to_json_string())
    return {name: value for name, value in facts.items() if name not in PLACE}


def _facts(model: ModelArguments, data: DataArguments) -> dict[str, Any]:
    facts = {**asdict(model), **asdict(data)}
    for name in ("cache_dir", "num_proc"):  # change nothing but the time
        del facts[name]
    return json.loads(json.dumps(facts))
