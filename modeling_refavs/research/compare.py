"""The paper's Table 3 and Fig. 4: several methods trained and scored alike, each by a recipe of its
own."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
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
from ..utils.files import table, whole_file
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
    spread,
    train_apart,
    value_of,
)


# architecture -> the method's name in the paper, what it lacks, and its name with that
METHODS = {
    "eemc": ("EEMC", None, "EEMC"),
    "avsegformer": ("AVSegFormer", "use_text", "AVSegFormer + text"),
    "referformer": ("ReferFormer", "use_audio", "ReferFormer + audio"),
    "tpavi": ("AVSBench", "use_text", "AVSBench + text"),
}
OVERLAP_SPLIT, OVERLAP_CLIPS = "test_s", 100  # of the masks that two objects of a clip are given
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
    then: Path | None = None,
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
        then: a recipe that every method goes on with, from the model that its own recipe left in
            `<recipe>/seed<n>/stage1`.

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
    overlaps: dict[str, list[float]] = {name: [] for name in names.values()}
    contested: dict[str, list[float]] = {name: [] for name in names.values()}
    chosen = find_contested(scored[0])
    for seed in seeds:
        for stem, (recipe, model, data_args) in read.items():
            folder, words = output / stem / f"seed{seed}", [*overrides, f"--seed={seed}"]
            train_apart(recipe, folder / "stage1" if then else folder, words, processes)
            if then:
                start = [f"--architecture={model.architecture}", f"--model={folder / 'stage1'}"]
                train_apart(then, folder, [*words, *start], processes)
            scores = MaskScores(replace(data_args, data=scored[0]), by)
            reports[names[stem]].append(scores.report(folder))
            overlaps[names[stem]].append(measure_overlap(_load_predictor(folder), scored[0]))
            contested[names[stem]].append(score_contested(folder / "evaluation", chosen))
    folders = {name: output / stem / f"seed{seeds[0]}" for stem, name in names.items()}
    _draw_figure(folders, scored[0], output / "figure_4.png")
    rule = CHOICE_RULE.format(seed=seeds[0])
    text = f"{comparison_text(reports)}\n{answers_text(reports, overlaps, contested, len(chosen))}"
    text += f"\n## Figure 4\n\n{rule}\n\n![Fig. 4](figure_4.png)\n"
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
        stem: name if methods.count(name) == 1 else f"{name} ({stem.replace('_', ' ')})"
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


def answers_text(
    reports: Reports,
    overlaps: dict[str, list[float]],
    contested: dict[str, list[float]],
    num_contested: int,
) -> str:
    """Whether the methods follow the sentence, and whether they answer.

    Args:
        overlaps: of each method, what `measure_overlap` gave for each seed.
        contested: likewise `score_contested`, over `num_contested` sentences.
    """
    rows = []
    for name, group in reports.items():
        parts = [[report["splits"][split] for report in group] for split in SPLITS]
        kinds = ("t_acc", "t_acc", "n_acc")
        shares = [
            spread([100 * value_of(part, kind) for part in runs], 1)
            for runs, kind in zip(parts, kinds, strict=True)
        ]
        rows.append((name, spread(overlaps[name], 3), spread(contested[name], 1), *shares))
    return (
        "## Does it follow the sentence?\n\n"
        "IoU: the mean over pairs of sentences about different objects of a clip, of the masks "
        "that both are given; 1 where all sentences have the same masks, 0 for true ones "
        f"({OVERLAP_SPLIT}, {OVERLAP_CLIPS} clips at most). Contested J: of the {num_contested} "
        "sentences, seen and unseen, whose object has an IoU below 0.5 with all that the clip's "
        "sentences mean taken together; J hardly tells who reads elsewhere. T-acc: references "
        "answered, N-acc: null references left empty, in %.\n\n"
        f"{table(('', 'IoU', 'Contested J', 'Seen T-acc', 'Unseen T-acc', 'N-acc'), rows)}\n"
    )


def find_contested(data: str) -> set[str]:
    """Return the `uid` of the sentences of the seen and unseen test splits for which whoever
    masks every object of the clip has a J below 0.5."""
    found = set()
    for split in SPLITS[:2]:
        for clip in load_refavs(data, "clips", split, damaged="trust"):
            masks = [truth.masks for truth in true_masks(clip, Conventions().mask_size)]
            every = np.any(masks, axis=0)
            for sentence, mask in zip(clip["expressions"], masks, strict=True):
                shown = mask.any(axis=(1, 2))
                shares = mask[shown].sum(axis=(1, 2)) / every[shown].sum(axis=(1, 2))
                if shown.any() and shares.mean() < 0.5:
                    found.add(sentence["uid"])
    return found


def score_contested(evaluation: Path, chosen: set[str]) -> float:
    """Return J over some sentences of an evaluation, in %, pooled as its report does."""
    sentences = [
        sentence
        for record in read_records(evaluation)
        for sentence in record["sentences"]
        if sentence["uid"] in chosen
    ]
    frames = sum(sentence["jaccard_frames"] for sentence in sentences)
    return 100 * sum(sentence["jaccard"] for sentence in sentences) / max(frames, 1)


@torch.inference_mode()
def measure_overlap(predictor: ModelPredictor, data: str) -> float:
    """Does a method follow the sentence? The mean IoU of the masks of every two sentences of a
    clip that mean different objects, over the frames where not both masks are empty; NaN where
    there is none."""
    conventions, ious = Conventions(), []
    clips = load_refavs(data, "clips", OVERLAP_SPLIT, damaged="trust")
    for clip in clips.select(range(min(OVERLAP_CLIPS, len(clips)))):
        truths = true_masks(clip, conventions.mask_size)
        fids = [sentence["fid"] for sentence in clip["expressions"]]
        masks = [
            prediction.probabilities > conventions.threshold
            for prediction in predictor(clip, truths)
        ]
        for first, second in combinations(range(len(fids)), 2):
            if fids[first] != fids[second]:
                either = (masks[first] | masks[second]).sum(axis=(1, 2))
                both = (masks[first] & masks[second]).sum(axis=(1, 2))
                ious += (both[either > 0] / either[either > 0]).tolist()
    return float(np.mean(ious)) if ious else float("nan")


def _load_predictor(folder: Path) -> ModelPredictor:
    return ModelPredictor(*load_model(str(folder), torch.device("cpu")))


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
    predictors = {name: _load_predictor(folder) for name, folder in folders.items()}
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
