"""`refavs ablate`: recipes trained as they are and without each of Table 4's parts, scored on the test splits, in one table.

Where the last stage makes masks, the scores are the paper's; where it ends with the cues, how often they choose the right object.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from ..media.writing import whole_file
from .checkpoints import is_finished
from .judging import VARIANTS, ChoiceJudge, MaskJudge, run_apart
from .recipe import read_recipe


def run_ablate(args: argparse.Namespace) -> str:
    """Carry out the command; run again, it goes on where it was stopped. Returns the tables as Markdown.

    Raises:
        ValueError: an input that cannot work, before anything is trained; or a training that failed.
    """
    if unknown := [name for name in args.only if name not in VARIANTS]:
        raise ValueError(f"--only {unknown[0]}: must be of {', '.join(VARIANTS)}")
    model, data, _ = [read_recipe(recipe, args.overrides) for recipe in args.recipes][-1]
    judge = MaskJudge(data, args.by) if model.stage == "masks" else ChoiceJudge(data, model.stage)
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in args.only}
    for seed in args.seeds:
        for name in args.only:
            folder = args.output / name / f"seed{seed}"
            _train_stages(args, name, seed, folder)
            reports[name].append(judge.report(folder))
    text = judge.text(reports)
    with whole_file(args.output / "ablation.json") as unfinished:
        scores = {name: [judge.scores(report) for report in group] for name, group in reports.items()}
        unfinished.write_text(json.dumps({"seeds": args.seeds, "scores": scores}, indent=2) + "\n", encoding="utf-8")
    with whole_file(args.output / "ablation.md") as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return text


def _train_stages(args: argparse.Namespace, name: str, seed: int, folder: Path) -> None:
    """One recipe after the other, each but the first from the model that the one before left; the last one into `folder`."""
    field, _ = VARIANTS[name]
    start = [] if field is None else [f"--config.{field}=false"]
    for number, recipe in enumerate(args.recipes, start=1):
        output = folder if number == len(args.recipes) else folder / f"stage{number}"
        if not is_finished(output):
            words = [*args.overrides, f"--output_dir={output}", f"--seed={seed}", *start]
            run_apart([*_launcher(args.processes), str(recipe), *words], f"training {output}")
        start = [f"--model={output}"]


def _launcher(processes: int) -> list[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return [*(torchrun if processes > 1 else []), "-m", "modeling_refavs.training.train"]
