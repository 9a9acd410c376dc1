"""The paper's Table 3 and Fig. 4: several methods trained and scored alike, each by a recipe of its
own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dataset_script.builder_refavs import load_refavs

from ..inference.loading import load_model
from ..metrics.gallery import Choice, Panel, draw_gallery, goodness_of
from ..metrics.predictors import ModelPredictor
from ..metrics.report import PUBLISHED
from ..metrics.scoring import Conventions, read_records, true_masks
from ..training.arguments import ModelArguments, read_recipe
from ..utils.files import whole_file
from ..utils.markdown import table
from .ablate import (
    COLUMNS,
    SPLITS,
    MaskScores,
    Reports,
    breakdown_table,
    published_row,
    score_row,
    scores_of,
    seeds_text,
    train_apart,
)


# architecture -> the method's name in the paper, what it lacks, and its name with that
METHODS = {
    "eemc": ("EEMC", None, "EEMC"),
    "avsegformer": ("AVSegFormer", "use_text", "AVSegFormer + text"),
    "referformer": ("ReferFormer", "use_audio", "ReferFormer + audio"),
    "tpavi": ("AVSBench", "use_text", "AVSBench + text"),
}
CHOICE_RULE = (
    "Of each test split the clip whose mean score over the methods and sentences is the median, "
    "and of its sentences the one nearest to that mean; seed {seed}."
)


def compare(
    recipes: Sequence[Path],
    output: Path,
    data: str | None = None,
    seeds: Sequence[int] = (0,),
    by: Sequence[str] = (),
    processes: int = 1,
    overrides: Sequence[str] = (),
) -> str:
    """Train and score every recipe; run again, it goes on where it was stopped. Returns the tables
    as Markdown.

    Args:
        recipes: a method each; the name of the file is that of its folder.
        output: for `<recipe>/seed<n>`, `comparison.md` and `figure_4.png`.
        data: whose test splits are scored; None: the recipes' own.
        seeds: of each training.
        by: breakdowns, as in `refavs evaluate`.
        processes: of each training, by torchrun.
        overrides: words that win over all recipes.

    Raises:
        ValueError: an input that cannot work, before anything is trained; or a training that
            failed.
    """
    read = {recipe.stem: (recipe, *read_recipe(recipe, overrides)[:2]) for recipe in recipes}
    if len(read) < len(recipes):
        raise ValueError("recipes must have different file names: each is a folder's name")
    if stages := [name for name, (_, model, _) in read.items() if model.stage != "masks"]:
        raise ValueError(f"{stages[0]}: a recipe of stage masks is needed, the last of several")
    scored = sorted({data or data_args.data for _, _, data_args in read.values()})
    if len(scored) > 1:
        raise ValueError(f"recipes train on {', '.join(scored)}: say with --data what is scored")
    names = _names({name: model for name, (_, model, _) in read.items()})
    reports: Reports = {name: [] for name in names.values()}
    for seed in seeds:
        for stem, (recipe, _, data_args) in read.items():
            folder = output / stem / f"seed{seed}"
            train_apart(recipe, folder, [*overrides, f"--seed={seed}"], processes)
            scores = MaskScores(replace(data_args, data=scored[0]), by)
            reports[names[stem]].append(scores.report(folder))
    folders = {name: output / stem / f"seed{seeds[0]}" for stem, name in names.items()}
    _draw_figure(folders, scored[0], output / "figure_4.png")
    rule = CHOICE_RULE.format(seed=seeds[0])
    text = f"{comparison_text(reports)}\n## Figure 4\n\n{rule}\n\n![Fig. 4](figure_4.png)\n"
    with whole_file(output / "comparison.md") as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return text


def _names(models: dict[str, ModelArguments]) -> dict[str, str]:
    """Recipe -> method, as the paper calls it; with the recipe's name where there are several of
    one."""
    names = {}
    for stem, model in models.items():
        plain, added, whole = METHODS[model.architecture]
        names[stem] = whole if added is None or model.config.get(added, True) else plain
    methods = list(names.values())
    return {
        stem: name if methods.count(name) == 1 else f"{name} ({stem})"
        for stem, name in names.items()
    }


def comparison_text(reports: Reports) -> str:
    """Table 3 with the paper's rows below, and a table for each breakdown.

    Args:
        reports: of each method, one report of `refavs evaluate` for each seed.
    """
    rows = [
        (name, *score_row([scores_of(report) for report in group]))
        for name, group in reports.items()
    ]
    paper = [result for result in PUBLISHED if result.method in reports]
    seeds = max(len(group) for group in reports.values())
    parts = [
        "# Comparison",
        f"J and F in % (higher is better), S (lower is better){seeds_text(seeds)}.",
        table(("", *COLUMNS), rows + [published_row(result) for result in paper]),
        "The paper's rows are of Ref-AVS Bench, in the released pooling (arXiv 2407.10957v1): "
        "other data do not compare.",
    ]
    first = next(iter(reports.values()))[0]
    for breakdown in first["breakdowns"]:
        parts.append(f"## J by {breakdown}\n\n{breakdown_table(reports, breakdown)}")
    return "\n\n".join(parts) + "\n"


def choose_typical(folders: Sequence[Path], split: str) -> Choice:
    """See `CHOICE_RULE`.

    Args:
        folders: of the evaluations of one split by several methods.
    """
    clips: dict[int, list[Any]] = {}
    for folder in folders:
        for record in read_records(folder):
            if record["split"] == split:
                clips.setdefault(record["index"], []).append(record["sentences"])
    scores = {
        index: [goodness_of(_mean(of_methods)) for of_methods in zip(*found, strict=True)]
        for index, found in clips.items()
    }
    ranked = sorted(scores, key=lambda index: (-np.mean(scores[index]), index))
    median = ranked[(len(ranked) - 1) // 2]
    values = np.array(scores[median])
    sentence = int(np.abs(values - values.mean()).argmin())
    return Choice(f"median of {len(ranked)} clips", median, sentence)


def _mean(sentences: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of one sentence's sums by several methods: their counts are the same."""
    sums = {
        name: sum(sentence[name] for sentence in sentences) / len(sentences)
        for name in ("jaccard", "predicted")
    }
    return {**sentences[0], **sums}


@torch.inference_mode()
def _draw_figure(folders: dict[str, Path], data: str, path: Path) -> None:
    conventions, panels = Conventions(), []
    predictors = {
        name: ModelPredictor(*load_model(str(folder), torch.device("cpu")))
        for name, folder in folders.items()
    }
    for split in SPLITS:
        choice = choose_typical([folder / "evaluation" for folder in folders.values()], split)
        clip = load_refavs(data, "clips", split, damaged="trust")[choice.index]
        truths = true_masks(clip, conventions.mask_size)
        predictions = {
            name: list(predictor(clip, truths))[choice.sentence].probabilities
            for name, predictor in predictors.items()
        }
        sentence, masks = clip["expressions"][choice.sentence], truths[choice.sentence].masks
        title = f"{split}, {choice.title}"
        panels.append(Panel(title, sentence, clip["frames"], masks, predictions))
    with whole_file(path) as unfinished:
        draw_gallery(panels, conventions).save(unfinished)
