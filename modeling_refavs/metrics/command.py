"""`refavs evaluate`: a model, or masks, and a tree in; the paper's tables and a look at the clips out."""

import argparse
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dataset_script.builder_refavs import digest_tree, load_refavs
from dataset_script.schema import NUM_FRAMES, SPLITS

from ..media.loading import choose_device, load_model
from ..media.writing import whole_file
from .evaluation import Predictor, evaluate_clips, fingerprint, remaining_clips
from .facts import SentenceFacts
from .gallery import Panel, choose_clips, draw_gallery
from .journal import Journal
from .measuring import Pooling
from .predictors import FolderPredictor, ModelPredictor
from .processes import Processes, join_processes
from .report import build_report, read_splits
from .report_text import report_text
from .scoring import Conventions, true_masks


Clips = Mapping[str, Any]  # split -> `datasets.Dataset` of configuration `clips`


def run_evaluate(args: argparse.Namespace) -> str | None:
    """Carry out the command. Returns the report as Markdown; None in all processes but the first.

    Raises:
        ValueError: any input that cannot work, before the model is loaded.
    """
    conventions = Conventions(args.mask_size, args.threshold, args.null_threshold, args.empty_truth)
    pooling = Pooling(args.pooling, args.batch_size, args.draws)
    facts = SentenceFacts(args.data, tuple(args.by))
    splits = list(dict.fromkeys(args.splits))
    if unknown := [split for split in splits if split not in SPLITS]:
        raise ValueError(f"--splits {unknown[0]}: must be of {', '.join(SPLITS)}")
    with join_processes() as processes:
        with processes.first_alone():
            clips = {split: _load_clips(args, split) for split in splits}
            predictor = _make_predictor(args, clips, processes)
        request = _request(args, conventions)
        with Journal(args.output, request, processes.rank) as journal:
            _evaluate(clips, predictor, conventions, journal, processes)
            processes.wait()
            if processes.rank:
                return None
            report = build_report(read_splits(journal, splits, facts), args.by, pooling, request)
            report["knows_scenes"] = facts.knows_scenes
            _write_report(report, args.output)
            for split in splits:
                _write_gallery(split, clips[split], predictor, conventions, journal)
    return report_text(report)


def _load_clips(args: argparse.Namespace, split: str) -> Any:
    """A tree is trusted to be whole: `refavs dataset check` is the place to look at each file."""
    if not Path(args.data).exists() and not re.fullmatch(r"[\w.-]+/[\w.-]+", args.data):
        raise ValueError(f"--data {args.data}: no such folder: give a tree, an export, or an export's id on the Hub")
    if _is_tree(args.data):
        return load_refavs(args.data, "clips", split, damaged="trust", paper_splits=args.paper_splits)
    return load_refavs(args.data, "clips", split, paper_splits=args.paper_splits)


def _is_tree(data: str) -> bool:
    return (Path(data) / "metadata.csv").is_file()


def _make_predictor(args: argparse.Namespace, clips: Clips, processes: Processes) -> Predictor:
    if args.predictions:
        predictor = FolderPredictor(args.predictions)
        rows = (row for part in clips.values() for row in part.select_columns("expressions"))
        predictor.check((sentence["uid"] for row in rows for sentence in row["expressions"]), NUM_FRAMES)
        return predictor
    device = choose_device(args.device)
    if args.device == "auto" and device.type != "cpu":
        device = torch.device(device.type, processes.local_rank)
    return ModelPredictor(*load_model(args.model, device, args.dtype))


def _request(args: argparse.Namespace, conventions: Conventions) -> dict[str, Any]:
    """What the scores depend on; an evaluation goes on only where it is the same."""
    subject = args.predictions or args.model
    return {
        "subject": str(subject),
        "dtype": args.dtype,
        "data": str(args.data),
        "paper_splits": args.paper_splits,
        "conventions": asdict(conventions),
        "subject_files": fingerprint(subject, "*/*.png" if args.predictions else "*"),
        "data_files": digest_tree(args.data) if _is_tree(args.data) else fingerprint(args.data, "**/*.parquet"),
    }


def _evaluate(
    clips: Clips, predictor: Predictor, conventions: Conventions, journal: Journal, processes: Processes
) -> None:
    """The bar counts this process's share; the first alone shows one."""
    remaining = len(remaining_clips(clips, journal, processes))
    done = sum((split, index) in journal.done for split, part in clips.items() for index in range(len(part)))
    description = "evaluating" + (f", {done} clips were done" if done else "")
    with tqdm(total=remaining, unit="clip", desc=description, disable=bool(processes.rank)) as bar:
        evaluate_clips(clips, predictor, conventions, journal, processes, progress=bar.update)


def _write_report(report: dict[str, Any], folder: Path) -> None:
    texts: dict[str, Callable[[dict], str]] = {
        "report.json": lambda numbers: json.dumps(numbers, indent=2, ensure_ascii=False) + "\n",
        "report.md": report_text,
    }
    for name, write in texts.items():
        with whole_file(folder / name) as unfinished:
            unfinished.write_text(write(report), encoding="utf-8")


def _write_gallery(split: str, clips: Any, predictor: Predictor, conventions: Conventions, journal: Journal) -> None:
    """`clips_<split>.png`; its few clips go through the predictor once more."""
    panels = []
    for choice in choose_clips([record for record in journal.read() if record["split"] == split]):
        clip = clips[choice.index]
        truths = true_masks(clip, conventions.mask_size)
        probabilities = list(predictor(clip, truths))[choice.sentence]
        sentence = clip["expressions"][choice.sentence]
        title = f"{split}, {choice.title}"
        panels.append(Panel(title, sentence, clip["frames"], truths[choice.sentence].masks, probabilities))
    with whole_file(journal.folder / f"clips_{split}.png") as unfinished:
        draw_gallery(panels, conventions).save(unfinished)
