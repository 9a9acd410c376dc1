"""`refavs ablate`: recipes trained as they are and without each of Table 4's parts, scored on the test splits, in one table."""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..media.writing import whole_file
from ..metrics.published import PUBLISHED, PublishedResult
from .checkpoints import is_finished
from .recipe import read_recipe


VARIANTS = {  # folder -> field of RefAVSConfig that is switched off, row of the paper's table
    "full": (None, "EEMC"),
    "no_text": ("use_text_cues", "EEMC without text"),
    "no_audio": ("use_audio_cues", "EEMC without audio"),
    "no_memory": ("use_cached_memory", "EEMC without cached memory"),
    "no_modality_encoding": ("use_modality_encoding", "EEMC without modality encoding"),
}
SPLITS = ("test_s", "test_u", "test_n")
COLUMNS = ("Seen J", "Seen F", "Unseen J", "Unseen F", "Mix J", "Mix F", "Null S")

Scores = dict[str, float]  # column -> J and F in %, S in [0, 1]


def run_ablate(args: argparse.Namespace) -> str:
    """Carry out the command; run again, it goes on where it was stopped. Returns the tables as Markdown.

    Raises:
        ValueError: an input that cannot work, before anything is trained; or a training that failed.
    """
    if unknown := [name for name in args.only if name not in VARIANTS]:
        raise ValueError(f"--only {unknown[0]}: must be of {', '.join(VARIANTS)}")
    data = [read_recipe(recipe, args.overrides)[1].data for recipe in args.recipes][-1]
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in args.only}
    for seed in args.seeds:
        for name in args.only:
            folder = args.output / name / f"seed{seed}"
            _train_stages(args, name, seed, folder)
            _run(_evaluation(args, data, folder), f"evaluating {folder}")
            reports[name].append(json.loads((folder / "evaluation" / "report.json").read_text(encoding="utf-8")))
    text = ablation_text(reports)
    with whole_file(args.output / "ablation.json") as unfinished:
        scores = {name: [scores_of(report) for report in group] for name, group in reports.items()}
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
            _run([*_launcher(args.processes), str(recipe), *words], f"training {output}")
        start = [f"--model={output}"]


def _launcher(processes: int) -> list[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return [*(torchrun if processes > 1 else []), "-m", "modeling_refavs.training.train"]


def _evaluation(args: argparse.Namespace, data: str, folder: Path) -> list[str]:
    words = ["--model", str(folder), "--data", data, "--output", str(folder / "evaluation"), "--splits", *SPLITS]
    return ["-m", "modeling_refavs.cli", "evaluate", *words, "--by", *args.by]


def _run(words: Sequence[str], what: str) -> None:
    """In a process of its own, so that nothing of one training reaches the next; the tables alone go to standard output."""
    status = subprocess.run([sys.executable, *words], check=False, stdout=sys.stderr).returncode
    if status:
        raise ValueError(f"{what} failed (exit code {status}); run again to go on from here")


def scores_of(report: dict[str, Any]) -> Scores:
    """One row of the paper's table; NaN where a split has no such sentence."""
    splits = report["splits"]
    parts = {"Seen": splits["test_s"], "Unseen": splits["test_u"], "Mix": report["mix"]}
    scores = {}
    for name, part in parts.items():
        scores |= {f"{name} J": 100 * _value(part, "jaccard"), f"{name} F": 100 * _value(part, "fscore")}
    return {**scores, "Null S": _value(splits["test_n"], "null")}


def ablation_text(reports: dict[str, list[dict[str, Any]]]) -> str:
    """The table of the variants, the paper's rows below, and a table for each breakdown.

    Args:
        reports: of each variant, one report of `refavs evaluate` for each seed.
    """
    rows = [(VARIANTS[name][1], *_row([scores_of(report) for report in group])) for name, group in reports.items()]
    paper = {result.method: result for result in PUBLISHED}
    published = [_published_row(paper[VARIANTS[name][1]]) for name in reports]
    seeds = max(len(group) for group in reports.values())
    parts = [
        "# Ablation",
        f"J and F in % (higher is better), S (lower is better): mean and standard deviation over {seeds} seeds."
        if seeds > 1
        else "J and F in % (higher is better), S (lower is better); one seed.",
        _table(("", *COLUMNS), rows + published),
        "The paper's rows are of Ref-AVS Bench, in the released pooling (arXiv 2407.10957v1): other data do not compare.",
    ]
    first = next(iter(reports.values()))[0]
    for breakdown in first["breakdowns"]:
        parts.append(f"## J by {breakdown}\n\n{_breakdown(reports, breakdown)}")
    return "\n\n".join(parts) + "\n"


def _published_row(result: PublishedResult) -> tuple[str, ...]:
    pairs = (result.seen, result.unseen, result.mix)
    numbers = (text for jaccard, fscore in pairs for text in (f"{jaccard:.2f}", f"{fscore:.1f}"))
    return f"{result.method}, paper", *numbers, f"{result.null:.3f}"


def _breakdown(reports: dict[str, list[dict[str, Any]]], breakdown: str) -> str:
    groups = next(iter(reports.values()))[0]["breakdowns"][breakdown]
    rows = []
    for group in groups:
        tables = {name: [report["breakdowns"][breakdown][group] for report in runs] for name, runs in reports.items()}
        rows.append(
            (group, *(_spread([100 * _value(part, "jaccard") for part in parts], 2) for parts in tables.values()))
        )
    return _table((breakdown, *reports), rows)


def _row(runs: list[Scores]) -> list[str]:
    return [_spread([run[column] for run in runs], 3 if column == "Null S" else 2) for column in COLUMNS]


def _spread(values: list[float], digits: int) -> str:
    if not np.isfinite(values).all():
        return "-"
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def _value(part: dict[str, Any], name: str) -> float:
    return float("nan") if part.get(name) is None else part[name]["value"]


def _table(head: tuple, rows: list[tuple]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
