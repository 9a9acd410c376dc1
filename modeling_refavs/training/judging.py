"""What the models of an ablation are judged by, and the tables that it makes of several seeds."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..media.writing import whole_file
from ..metrics.published import PUBLISHED, PublishedResult
from ..processing_refavs import RefAVSProcessor
from .arguments import DataArguments
from .cache import ArrayCache
from .choice import measure_choice
from .preparing import Preparation
from .starting import KINDS
from .train import open_split


VARIANTS = {  # folder -> field of RefAVSConfig that is switched off, row of the paper's table
    "full": (None, "EEMC"),
    "no_text": ("use_text_cues", "EEMC without text"),
    "no_audio": ("use_audio_cues", "EEMC without audio"),
    "no_memory": ("use_cached_memory", "EEMC without cached memory"),
    "no_modality_encoding": ("use_modality_encoding", "EEMC without modality encoding"),
}
SPLITS = ("test_s", "test_u", "test_n")
COLUMNS = ("Seen J", "Seen F", "Unseen J", "Unseen F", "Mix J", "Mix F", "Null S")
CHOICE_SPLITS = {"test_s": "Seen", "test_u": "Unseen"}
CHOICES_FILE = "choices.json"

Report = dict[str, Any]
Reports = dict[str, list[Report]]  # of each variant, one for each seed
Scores = dict[str, float]  # column -> J and F in %, S in [0, 1]; or family -> share


class MaskJudge:
    """The paper's scores, from `refavs evaluate`; J once more for each group of `by`."""

    def __init__(self, data: DataArguments, by: Sequence[str]):
        self.data, self.by = data.data, by

    def report(self, folder: Path) -> Report:
        output = folder / "evaluation"
        words = ["--model", str(folder), "--data", self.data, "--output", str(output), "--splits", *SPLITS]
        run_apart(["-m", "modeling_refavs.cli", "evaluate", *words, "--by", *self.by], f"evaluating {folder}")
        return json.loads((output / "report.json").read_text(encoding="utf-8"))

    def scores(self, report: Report) -> Scores:
        return scores_of(report)

    def text(self, reports: Reports) -> str:
        return ablation_text(reports)


class ChoiceJudge:
    """How often the cues choose the right object, by family of sentences: see [`find_choices`]."""

    def __init__(self, data: DataArguments, stage: str):
        self.data, self.kind = data, KINDS[stage]

    def report(self, folder: Path) -> Report:
        """`{split: {family: [right, asked]}}`."""
        path = folder / CHOICES_FILE
        if not path.is_file():
            choices = {split: self._measure(folder, split) for split in CHOICE_SPLITS}
            with whole_file(path) as unfinished:
                unfinished.write_text(json.dumps(choices, indent=2) + "\n", encoding="utf-8")
        return json.loads(path.read_text(encoding="utf-8"))

    def _measure(self, folder: Path, split: str) -> dict[str, tuple[int, int]]:
        from .. import auto  # noqa: F401, a saved folder carries code too: the installed one is meant

        model, processor = self.kind.from_pretrained(folder).eval(), RefAVSProcessor.from_pretrained(folder)
        cache = ArrayCache(self.data.cache_dir, self.data.num_proc)
        rows = open_split(self.data, split, self.data.max_eval_clips, cache)
        prepared = Preparation(model, processor, cache).prepare(rows, graded=True, cache_cues=self.data.cache_cues)
        return measure_choice(model, processor, prepared)

    def scores(self, report: Report) -> Scores:
        """Of each split as a whole, then of each family over both."""
        splits = {title: report[split] for split, title in CHOICE_SPLITS.items()}
        families = sorted({family for counts in splits.values() for family in counts})
        shares = {title: _share(list(counts.values())) for title, counts in splits.items()}
        of_family = {
            family: _share([counts[family] for counts in splits.values() if family in counts]) for family in families
        }
        return shares | of_family

    def text(self, reports: Reports) -> str:
        scores = {name: [self.scores(report) for report in group] for name, group in reports.items()}
        columns = list(next(iter(scores.values()))[0])
        rows = [
            (column, *(_spread([run[column] for run in runs], 2) for runs in scores.values())) for column in columns
        ]
        seeds = max(len(group) for group in reports.values())
        parts = [
            "# Ablation",
            "The share of sentences and seconds at which, of the objects in view that a sentence of the clip means, the right one "
            f"lights up most, where there are two or more{_seeds(seeds)}.",
            _table(("", *reports), rows),
        ]
        return "\n\n".join(parts) + "\n"


def run_apart(words: Sequence[str], what: str) -> None:
    """In a process of its own, so that nothing of one training reaches the next; the tables alone go to standard output."""
    status = subprocess.run([sys.executable, *words], check=False, stdout=sys.stderr).returncode
    if status:
        raise ValueError(f"{what} failed (exit code {status}); run again to go on from here")


def scores_of(report: Report) -> Scores:
    """One row of the paper's table; NaN where a split has no such sentence."""
    splits = report["splits"]
    parts = {"Seen": splits["test_s"], "Unseen": splits["test_u"], "Mix": report["mix"]}
    scores = {}
    for name, part in parts.items():
        scores |= {f"{name} J": 100 * _value(part, "jaccard"), f"{name} F": 100 * _value(part, "fscore")}
    return {**scores, "Null S": _value(splits["test_n"], "null")}


def ablation_text(reports: Reports) -> str:
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
        f"J and F in % (higher is better), S (lower is better){_seeds(seeds)}.",
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


def _breakdown(reports: Reports, breakdown: str) -> str:
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


def _share(counts: list[Sequence[int]]) -> float:
    """NaN where there was no choice at all."""
    return float(np.divide(*np.sum(counts, axis=0))) if counts else float("nan")


def _seeds(seeds: int) -> str:
    return f"; mean and standard deviation over {seeds} seeds" if seeds > 1 else "; one seed"
