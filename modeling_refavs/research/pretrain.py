"""The three pretrained parts of EEMC from a synthetic tree: `refavs pretrain`."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from dataset_script.synthetic.scene import read_scenes

from .pretrain_audio import pretrain_audio
from .pretrain_text import pretrain_text
from .pretrain_vision import pretrain_vision


SAVES = 10  # checkpoints in the course of a part's training, of which the last is kept


@dataclass(frozen=True)
class Part:
    """How one encoder is pretrained, unless the command says otherwise.

    Args:
        pretrain: trains it and saves it into a folder.
        folder: its name within the output; also the argument of `from_backbones`.
        steps, batch_size, learning_rate: of AdamW; the batch is that of one process.
        schedule: of the learning rate, after a warm start of 5 % of the steps.
        max_grad_norm: longer gradients are cut to this.
        bfloat16: compute in it where autocast allows.
    """

    pretrain: Callable[[Path, Path, TrainingArguments, bool], None]
    folder: str
    steps: int
    batch_size: int
    learning_rate: float
    schedule: str = "linear"
    max_grad_norm: float = 1.0
    bfloat16: bool = False


PARTS = {
    "vision": Part(
        pretrain_vision,
        "mask2former",
        steps=3200,
        batch_size=160,
        learning_rate=1.5e-3,
        schedule="cosine",
        max_grad_norm=5.0,
    ),
    "audio": Part(
        pretrain_audio, "vggish", steps=3500, batch_size=64, learning_rate=1e-3, bfloat16=True
    ),
    "text": Part(pretrain_text, "text_model", steps=4000, batch_size=64, learning_rate=1e-3),
}


def pretrain(
    tree: Path,
    output: Path,
    parts: Sequence[str] = ("vision", "audio", "text"),
    resume: bool = False,
    steps: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
) -> str:
    """Train the parts, or go on with them. Returns their scores as JSON.

    Args:
        tree: that `refavs synthesize` wrote.
        output: for the folders `mask2former`, `vggish` and `text_model`.
        parts: names out of `PARTS`.
        resume: keep finished parts, and go on with one that was stopped.
        steps, batch_size, learning_rate, seed: of the training; None: the part's own.

    Raises:
        ValueError: any input that cannot work, before anything is trained.
    """
    given = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate}
    for name, value in given.items():
        if value is not None and value <= 0:
            raise ValueError(f"--{name.replace('_', '-')} must be above 0, got {value}")
    parts = list(dict.fromkeys(parts))
    if unknown := [part for part in parts if part not in PARTS]:
        raise ValueError(f"--parts {unknown[0]}: must be of {', '.join(PARTS)}")
    for split in ("train", "val"):
        read_scenes(tree, split)
    for part in parts:
        folder = output / PARTS[part].folder
        if is_done(folder) and not resume:
            raise ValueError(
                f"{folder} holds a model already: pass --resume to keep it, or choose another "
                "folder"
            )
    return json.dumps(
        {part: _pretrain(part, tree, output, resume, given, seed) for part in parts}, indent=1
    )


def is_done(folder: Path) -> bool:
    return (folder / "model.safetensors").exists()


def _pretrain(
    part: str, tree: Path, output: Path, resume: bool, given: dict[str, Any], seed: int
) -> dict[str, Any]:
    """Train one part unless it is there. Returns its scores."""
    folder = output / PARTS[part].folder
    if not is_done(folder):
        arguments = make_arguments(part, output / "runs" / part, given, seed)
        resume = resume and get_last_checkpoint(arguments.output_dir) is not None
        PARTS[part].pretrain(tree, folder, arguments, resume)
    scores = folder / "scores.json"
    return json.loads(scores.read_text(encoding="utf-8")) if scores.exists() else {}


def make_arguments(part: str, run: Path, given: dict[str, Any], seed: int) -> TrainingArguments:
    """The arguments of transformers' `Trainer`: the part's own values, and those `given` in their
    stead."""
    run.mkdir(parents=True, exist_ok=True)
    defaults = PARTS[part]
    steps = given["steps"] or defaults.steps
    return TrainingArguments(
        str(run),
        max_steps=steps,
        per_device_train_batch_size=given["batch_size"] or defaults.batch_size,
        learning_rate=given["learning_rate"] or defaults.learning_rate,
        warmup_steps=0.05,  # share of all steps
        lr_scheduler_type=defaults.schedule,
        weight_decay=0.01,
        max_grad_norm=defaults.max_grad_norm,
        use_cpu=not torch.cuda.is_available(),
        bf16=defaults.bfloat16,
        logging_steps=50,
        save_steps=max(1, steps // SAVES),
        save_total_limit=1,
        remove_unused_columns=False,
        label_names=["mask_labels", "looks", "poses"] if part == "vision" else None,
        ddp_find_unused_parameters=part == "vision",
        report_to=[],
        seed=seed,
    )
