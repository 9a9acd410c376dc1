"""The paper's Table 4: recipes trained as they are and without each part, and the scores of both.

Where the last stage makes masks, the scores are the paper's. Where it ends with the cues, it is
grounding accuracy, by which the stages before the masks are measured.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from ..metrics.report import PUBLISHED, PublishedResult
from ..modeling_refavs import RefAVSPreTrainedModel
from ..processing_refavs import RefAVSProcessor
from ..training.arguments import DataArguments, read_recipe
from ..training.cache import ArrayCache, Preparation, PreparedSplit, pixel_table
from ..training.checkpoints import is_finished
from ..training.collator import ClipCollator, ClipDataset
from ..training.train import open_split
from ..utils.files import table, whole_file
from .stages import STAGE_CLASSES


VISIBLE = 0.02  # visual tokens that an object must cover to count as seen
CLIPS_AT_ONCE = 8


def grounding_hits(
    grounding_logits: torch.Tensor, mask_labels: torch.Tensor, clip_index: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the objects in view that any sentence of the clip means, does the right one have the
    highest grounding logits?

    Args:
        grounding_logits: `(expressions, steps, tokens)`, of a square grid.
        mask_labels: `(expressions, steps, H, W)`.
        clip_index: `(expressions,)`.

    Returns:
        `right` and `asked`, `(expressions, steps)` bool: asked where the object and another one are
            in view. A null reference is
        never asked.
    """
    grid = round(grounding_logits.shape[-1] ** 0.5)
    covers = nn.functional.adaptive_avg_pool2d(mask_labels.float(), grid).flatten(2)
    right, asked = (torch.zeros(covers.shape[:2], dtype=torch.bool) for _ in range(2))
    for clip in clip_index.unique():
        rows = (clip_index == clip).nonzero().squeeze(1)
        objects, own = covers[rows].unique(dim=0, return_inverse=True)  # (objects, steps, tokens)
        seen = objects.sum(-1) >= VISIBLE  # (objects, steps)
        probabilities = grounding_logits[rows].float().sigmoid()
        mean_inside = torch.einsum("est,ost->eos", probabilities, objects) / objects.sum(-1).clamp(
            min=VISIBLE
        )
        best = mean_inside.masked_fill(~seen, -1.0).argmax(dim=1)  # (expressions, steps)
        right[rows] = (best == own[:, None]).cpu()
        asked[rows] = (seen[own] & (seen.sum(0) > 1)).cpu()
    return right & asked, asked


@torch.no_grad()
def measure_grounding(
    model: RefAVSPreTrainedModel, processor: RefAVSProcessor, split: PreparedSplit
) -> dict[str, tuple[int, int]]:
    """Of each family of sentences, how often the right object was chosen and how often there was a
    choice.

    Args:
        model: of stage alignment or cues, in `eval()`.
        split: prepared with `families`.
    """
    collator = ClipCollator(
        split, pixel_table(processor), processor.tokenizer.pad_token_id, decode=False
    )
    right, asked = Counter(), Counter()
    sentences = iter([sentence for clip in split.clips for sentence in clip.sentences])
    for batch in DataLoader(ClipDataset(split), CLIPS_AT_ONCE, collate_fn=collator):
        masks = batch.pop("mask_labels")
        batch = {name: value.to(model.device) for name, value in batch.items()}
        choices = grounding_hits(
            model(**batch).grounding_logits.cpu(), masks, batch["clip_index"].cpu()
        )
        for chosen, choice in zip(*choices, strict=True):
            family = next(sentences).family
            right[family] += int(chosen.sum())
            asked[family] += int(choice.sum())
    return {family: (right[family], asked[family]) for family in sorted(asked) if asked[family]}


VARIANTS = {  # folder -> field of RefAVSConfig that is switched off, row of the paper's table
    "full": (None, "EEMC"),
    "no_text": ("use_text_cues", "EEMC without text"),
    "no_audio": ("use_audio_cues", "EEMC without audio"),
    "no_memory": ("use_cached_memory", "EEMC without cached memory"),
    "no_modality_encoding": ("use_modality_encoding", "EEMC without modality encoding"),
}
SPLITS = ("test_s", "test_u", "test_n")
COLUMNS = ("Seen J", "Seen F", "Unseen J", "Unseen F", "Mix J", "Mix F", "Null S")
GROUNDING_SPLITS = {"test_s": "Seen", "test_u": "Unseen"}
GROUNDING_FILE = "grounding_accuracy.json"
Report = dict[str, Any]
Reports = dict[str, list[Report]]  # of each variant, one for each seed
Scores = dict[str, float]  # column -> J and F in %, S in [0, 1]; or family -> share


class MaskScores:
    """The paper's scores, from `refavs evaluate`; J once more for each group of `by`."""

    def __init__(self, data: DataArguments, by: Sequence[str]):
        self.data, self.by = data.data, by

    def report(self, folder: Path) -> Report:
        output = folder / "evaluation"
        words = [
            "--model",
            str(folder),
            "--data",
            self.data,
            "--output",
            str(output),
            "--splits",
            *SPLITS,
        ]
        by = ["--by", *self.by] if self.by else []
        run_apart(
            ["-m", "modeling_refavs.cli", "evaluate", *words, *by],
            f"evaluating {folder}",
        )
        return json.loads((output / "report.json").read_text(encoding="utf-8"))

    def scores(self, report: Report) -> Scores:
        return scores_of(report)

    def text(self, reports: Reports) -> str:
        return ablation_text(reports)


class GroundingScores:
    """How often the cues choose the right object, by family of sentences: see
    [`grounding_hits`]."""

    def __init__(self, data: DataArguments, stage: str):
        self.data, self.kind = data, STAGE_CLASSES[stage]

    def report(self, folder: Path) -> Report:
        """`{split: {family: [right, asked]}}`."""
        path = folder / GROUNDING_FILE
        if not path.is_file():
            choices = {split: self._measure(folder, split) for split in GROUNDING_SPLITS}
            with whole_file(path) as unfinished:
                unfinished.write_text(json.dumps(choices, indent=2) + "\n", encoding="utf-8")
        return json.loads(path.read_text(encoding="utf-8"))

    def _measure(self, folder: Path, split: str) -> dict[str, tuple[int, int]]:
        from .. import auto  # noqa: F401, a saved folder carries code too: the installed one is meant

        model, processor = (
            self.kind.from_pretrained(folder).eval(),
            RefAVSProcessor.from_pretrained(folder),
        )
        cache = ArrayCache(self.data.cache_dir, self.data.num_proc)
        rows = open_split(self.data, split, self.data.max_eval_clips, cache)
        prepared = Preparation(model, processor, cache).prepare(
            rows, families=True, cache_cues=self.data.cache_cues
        )
        return measure_grounding(model, processor, prepared)

    def scores(self, report: Report) -> Scores:
        """Of each split as a whole, then of each family over both."""
        splits = {title: report[split] for split, title in GROUNDING_SPLITS.items()}
        families = sorted({family for counts in splits.values() for family in counts})
        shares = {title: _share(list(counts.values())) for title, counts in splits.items()}
        of_family = {
            family: _share([counts[family] for counts in splits.values() if family in counts])
            for family in families
        }
        return shares | of_family

    def text(self, reports: Reports) -> str:
        scores = {
            name: [self.scores(report) for report in group] for name, group in reports.items()
        }
        columns = list(next(iter(scores.values()))[0])
        rows = [
            (column, *(spread([run[column] for run in runs], 2) for runs in scores.values()))
            for column in columns
        ]
        seeds = max(len(group) for group in reports.values())
        parts = [
            "# Ablation",
            "The share of sentences and seconds at which, of the objects in view that a sentence "
            "of the clip means, the right one "
            f"has the highest grounding logits, where there are two or more{seeds_text(seeds)}.",
            table(("", *reports), rows),
        ]
        return "\n\n".join(parts) + "\n"


def run_apart(words: Sequence[str], what: str) -> None:
    """In a process of its own, so that nothing of one training reaches the next; the tables alone
    go to standard output."""
    status = subprocess.run([sys.executable, *words], check=False, stdout=sys.stderr).returncode
    if status:
        raise ValueError(f"{what} failed (exit code {status}); run again to go on from here")


def scores_of(report: Report) -> Scores:
    """One row of the paper's table; NaN where a split has no such sentence."""
    splits = report["splits"]
    parts = {"Seen": splits["test_s"], "Unseen": splits["test_u"], "Mix": report["mix"]}
    scores = {}
    for name, part in parts.items():
        scores |= {
            f"{name} J": 100 * value_of(part, "jaccard"),
            f"{name} F": 100 * value_of(part, "fscore"),
        }
    return {**scores, "Null S": value_of(splits["test_n"], "null")}


def ablation_text(reports: Reports) -> str:
    """The table of the variants, on Ref-AVS Bench with the paper's rows below, and a table for each
    breakdown.

    Args:
        reports: of each variant, one report of `refavs evaluate` for each seed.
    """
    rows = [
        (VARIANTS[name][1], *score_row([scores_of(report) for report in group]))
        for name, group in reports.items()
    ]
    first = next(iter(reports.values()))[0]
    notes = []
    if first["published"]["table_3"]:
        paper = {result.method: result for result in PUBLISHED}
        rows += [published_row(paper[VARIANTS[name][1]]) for name in reports]
        notes = ["The paper's rows are in the released pooling (arXiv 2407.10957v1)."]
    seeds = max(len(group) for group in reports.values())
    parts = [
        "# Ablation",
        f"J and F in % (higher is better), S (lower is better){seeds_text(seeds)}.",
        table(("", *COLUMNS), rows),
        *notes,
    ]
    for breakdown in first["breakdowns"]:
        parts.append(f"## J by {breakdown}\n\n{breakdown_table(reports, breakdown)}")
    return "\n\n".join(parts) + "\n"


def published_row(result: PublishedResult) -> tuple[str, ...]:
    pairs = (result.seen, result.unseen, result.mix)
    numbers = (text for jaccard, fscore in pairs for text in (f"{jaccard:.2f}", f"{fscore:.1f}"))
    return f"{result.method}, paper", *numbers, f"{result.null:.3f}"


def breakdown_table(reports: Reports, breakdown: str) -> str:
    groups = next(iter(reports.values()))[0]["breakdowns"][breakdown]
    rows = []
    for group in groups:
        tables = {
            name: [report["breakdowns"][breakdown][group] for report in runs]
            for name, runs in reports.items()
        }
        rows.append(
            (
                group,
                *(
                    spread([100 * value_of(part, "jaccard") for part in parts], 2)
                    for parts in tables.values()
                ),
            )
        )
    return table((breakdown, *reports), rows)


def score_row(runs: list[Scores]) -> list[str]:
    return [
        spread([run[column] for run in runs], 3 if column == "Null S" else 2) for column in COLUMNS
    ]


def spread(values: list[float], digits: int) -> str:
    if not np.isfinite(values).all():
        return "-"
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def value_of(part: dict[str, Any], name: str) -> float:
    return float("nan") if part.get(name) is None else part[name]["value"]


def _share(counts: list[Sequence[int]]) -> float:
    """NaN where there was no choice at all."""
    return float(np.divide(*np.sum(counts, axis=0))) if counts else float("nan")


def seeds_text(seeds: int) -> str:
    return f"; mean and standard deviation over {seeds} seeds" if seeds > 1 else "; one seed"


def ablate(
    recipes: Sequence[Path],
    output: Path,
    seeds: Sequence[int] = (0,),
    only: Sequence[str] = tuple(VARIANTS),
    by: Sequence[str] = (),
    processes: int = 1,
    overrides: Sequence[str] = (),
) -> str:
    """Train and score every variant; run again, it goes on where it was stopped. Returns the tables
    as Markdown.

    Args:
        recipes: stages, each goes on from the model of the one before.
        output: for `<variant>/seed<n>`.
        seeds, only: numbers, and names out of `VARIANTS`.
        by: breakdowns, as in `refavs evaluate`.
        processes: of each training, by torchrun.
        overrides: words that win over the recipes.

    Raises:
        ValueError: an input that cannot work, before anything is trained; or a training that
            failed.
    """
    if unknown := [name for name in only if name not in VARIANTS]:
        raise ValueError(f"--only {unknown[0]}: must be of {', '.join(VARIANTS)}")
    model, data, _ = [read_recipe(recipe, overrides) for recipe in recipes][-1]
    scorer = MaskScores(data, by) if model.stage == "masks" else GroundingScores(data, model.stage)
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in only}
    for seed in seeds:
        for name in only:
            folder = output / name / f"seed{seed}"
            _train_stages(recipes, name, seed, folder, processes, overrides)
            reports[name].append(scorer.report(folder))
    text = scorer.text(reports)
    with whole_file(output / "ablation.json") as unfinished:
        scores = {
            name: [scorer.scores(report) for report in group] for name, group in reports.items()
        }
        unfinished.write_text(
            json.dumps({"seeds": seeds, "scores": scores}, indent=2) + "\n", encoding="utf-8"
        )
    with whole_file(output / "ablation.md") as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return text


def _train_stages(
    recipes: Sequence[Path],
    name: str,
    seed: int,
    folder: Path,
    processes: int,
    overrides: Sequence[str],
) -> None:
    """One recipe after the other, each but the first from the model that the one before left; the
    last one into `folder`."""
    field, _ = VARIANTS[name]
    start = [] if field is None else [f"--config.{field}=false"]
    for number, recipe in enumerate(recipes, start=1):
        output = folder if number == len(recipes) else folder / f"stage{number}"
        train_apart(recipe, output, [*overrides, f"--seed={seed}", *start], processes)
        start = [f"--model={output}"]


def train_apart(recipe: Path, output: Path, words: Sequence[str], processes: int) -> None:
    """By `refavs train`, with torchrun where there are several processes; not what is trained
    already."""
    if not is_finished(output):
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command = [*(torchrun if processes > 1 else []), "-m", "modeling_refavs.cli", "train"]
        run_apart([*command, str(recipe), *words, f"--output_dir={output}"], f"training {output}")
