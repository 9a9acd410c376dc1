"""Scores on disk, clip by clip, so that an evaluation that was stopped, in whatever way, goes
on."""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dataset_script.builder_refavs import digest_tree, load_refavs
from dataset_script.schema import NUM_FRAMES, SPLITS

from ..inference.loading import choose_device, load_model
from ..utils.files import lock_folder, whole_file
from .gallery import Panel, choose_sentences, draw_gallery
from .predictors import ModelPredictor, SavingPredictor, open_predictions
from .report import Pooling, SentenceFacts, build_report, read_splits, report_text
from .scoring import (
    Conventions,
    Journal,
    Prediction,
    Record,
    SentenceScore,
    Truth,
    score_clip,
    true_masks,
)
from .sentence_table import write_table


@dataclass(frozen=True)
class Processes:
    """This process is number `rank` of `count`; `local_rank` counts those on this machine."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    def wait(self) -> None:
        """Until all have come here."""
        if self.count > 1:
            torch.distributed.barrier()

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process goes through before the others do."""
        if self.rank:
            self.wait()
        yield
        if not self.rank:
            self.wait()


@contextmanager
def join_processes() -> Iterator[Processes]:
    """What torchrun set up. Clips take their time, so that one process may wait long for
    another."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield Processes()
        return
    torch.distributed.init_process_group("gloo", timeout=timedelta(days=7))
    try:
        yield Processes(
            rank=torch.distributed.get_rank(),
            count=torch.distributed.get_world_size(),
            local_rank=int(os.environ["LOCAL_RANK"]),
        )
    finally:
        torch.distributed.destroy_process_group()


Predictor = Callable[[dict[str, Any], Sequence[Truth]], Iterator[Prediction]]
Splits = Mapping[str, Any]  # name -> `datasets.Dataset` of configuration `clips`, or alike


def evaluate_clips(
    splits: Splits,
    predictor: Predictor,
    conventions: Conventions,
    journal: Journal,
    processes: Processes,
) -> None:
    """Score what the journal lacks, this process's share of it; one clip is in memory at a time.

    Args:
        splits: by name the rows of configuration `clips`.
        predictor: called with a row and its true masks, yields a prediction of each sentence.
    """

    def score(split: str, index: int) -> Record:
        start = time.perf_counter()
        clip = splits[split][index]
        truths = true_masks(clip, conventions.mask_size)
        loaded = time.perf_counter()
        scores, scoring = score_clip(clip, truths, predictor(clip, truths), conventions)
        seconds = {
            "load": loaded - start,
            "predict": time.perf_counter() - loaded - scoring,
            "score": scoring,
        }
        return {"clip_id": clip["clip_id"], "seconds": seconds, "sentences": scores}

    append_remaining(splits, journal, processes, "evaluating", score)


def append_remaining(
    splits: Splits,
    journal: Journal,
    processes: Processes,
    verb: str,
    record_of: Callable[[str, int], Record],
) -> None:
    """Append to the journal what `record_of(split, index)` returns of each clip that it lacks, this
    process's share of them. The bar counts that share; the first process alone shows one."""
    remaining = remaining_clips(splits, journal, processes)
    done = sum(
        (split, index) in journal.done
        for split, part in splits.items()
        for index in range(len(part))
    )
    description = verb + (f", {done} clips were done" if done else "")
    for split, index in tqdm(
        remaining, unit="clip", desc=description, disable=bool(processes.rank)
    ):
        journal.append({"split": split, "index": index, **record_of(split, index)})


def remaining_clips(
    splits: Splits, journal: Journal, processes: Processes
) -> list[tuple[str, int]]:
    """This process's share of all clips, less what is done: whatever others have done by now, no
    clip is left to nobody."""
    places = [(split, index) for split, clips in splits.items() for index in range(len(clips))]
    return [
        place for place in places[processes.rank :: processes.count] if place not in journal.done
    ]


def fingerprint(folder: str | Path, pattern: str) -> str:
    """A digest of the names, sizes and times of change of a folder's files; of what is no folder,
    the name."""
    if not Path(folder).is_dir():
        return str(folder)
    digest = hashlib.sha256()
    for path in sorted(path for path in Path(folder).glob(pattern) if path.is_file()):
        state = path.stat()
        digest.update(
            f"{path.relative_to(folder)}\0{state.st_size}\0{state.st_mtime_ns}\n".encode()
        )
    return digest.hexdigest()[:32]


@dataclass(frozen=True)
class EvaluationRequest:
    """What is evaluated, and how.

    Args:
        data: a tree, an export, or an export's id on the Hub; its `splits`.
        model: a folder, or an id on the Hub; or in its place `predictions`, a folder of masks.
        save_predictions: a folder for what the model predicts; what is scored is what it holds.
        by: breakdowns, of `BREAKDOWNS`.
        conventions, pooling: of the scores.
        num_clips: of each split the first so many; None: all.
        paper_splits: as in `load_refavs`.
        device, dtype: of the model, see [`load_model`].
    """

    data: str
    splits: tuple[str, ...]
    model: str | None = None
    predictions: Path | None = None
    save_predictions: Path | None = None
    by: tuple[str, ...] = ()
    conventions: Conventions = field(default_factory=Conventions)
    pooling: Pooling = field(default_factory=Pooling)
    num_clips: int | None = None
    paper_splits: bool = False
    device: str = "auto"
    dtype: str = "float32"


def evaluate(request: EvaluationRequest, output: Path) -> str | None:
    """Score clip by clip into `output`. Returns the report as Markdown; None in all processes but
    the first.

    Raises:
        ValueError: any input that cannot work, before the model is loaded.
    """
    conventions, pooling, splits = request.conventions, request.pooling, request.splits
    facts = SentenceFacts(request.data, request.by)
    check_splits(splits, request.num_clips)
    with join_processes() as processes:
        with processes.first_alone():
            clips = {
                split: first_clips(
                    load_clips(request.data, split, request.paper_splits), request.num_clips
                )
                for split in splits
            }
            predictor = _make_predictor(request, clips, processes)
        facts_of_request = _describe(request)
        with (
            nullcontext() if processes.rank else lock_folder(output),
            Journal(output, facts_of_request, processes.rank) as journal,
        ):
            evaluate_clips(clips, predictor, conventions, journal, processes)
            processes.wait()
            if processes.rank:
                return None
            chosen = journal.of_splits({split: len(clips[split]) for split in splits})
            scored = read_splits(chosen, splits, facts)
            report = build_report(scored, request.by, pooling, facts_of_request)
            report["knows_scenes"] = facts.knows_scenes
            _write_report(report, output)
            write_table(scored, output)
            for split in splits:
                _write_gallery(split, clips[split], predictor, conventions, journal)
    return report_text(report)


def check_splits(splits: Sequence[str], num_clips: int | None) -> None:
    """`ValueError` for a split that there is not, or no clip."""
    if unknown := [split for split in splits if split not in SPLITS]:
        raise ValueError(f"--splits {unknown[0]}: must be of {', '.join(SPLITS)}")
    if num_clips is not None and num_clips < 1:
        raise ValueError(f"--clips {num_clips}: at least one clip of each split is needed")


def first_clips(clips: Any, number: int | None) -> Any:
    return clips if number is None else clips.select(range(min(number, len(clips))))


def load_clips(data: str, split: str, paper_splits: bool = False) -> Any:
    """A tree is trusted to be whole: `refavs dataset check` is the place to look at each file."""
    if not Path(data).exists() and not re.fullmatch(r"[\w.-]+/[\w.-]+", data):
        raise ValueError(
            f"--data {data}: no such folder: give a tree, an export, or an export's id on the Hub"
        )
    if _is_tree(data):
        return load_refavs(data, "clips", split, damaged="trust", paper_splits=paper_splits)
    return load_refavs(data, "clips", split, paper_splits=paper_splits)


def _is_tree(data: str) -> bool:
    return (Path(data) / "metadata.csv").is_file()


def _make_predictor(request: EvaluationRequest, clips: Splits, processes: Processes) -> Predictor:
    if request.predictions:
        predictor = open_predictions(request.predictions, request.conventions.mask_size)
        columns = (part.select_columns("expressions") for part in clips.values())
        predictor.check([row["expressions"] for rows in columns for row in rows], NUM_FRAMES)
        return predictor
    predictor = load_predictor(request.model, request.device, request.dtype, processes)
    if request.save_predictions:
        about = describe_model(request.model, request.dtype, request.data)
        about["mask_size"] = request.conventions.mask_size
        return SavingPredictor(predictor, request.save_predictions, about)
    return predictor


def load_predictor(model: str, device: str, dtype: str, processes: Processes) -> ModelPredictor:
    """With `device` "auto" each process has an accelerator of its own."""
    chosen = choose_device(device)
    if device == "auto" and chosen.type != "cpu":
        chosen = torch.device(chosen.type, processes.local_rank)
    return ModelPredictor(*load_model(model, chosen, dtype))


def _describe(request: EvaluationRequest) -> dict[str, Any]:
    """What the scores depend on; an evaluation goes on only where it is the same."""
    about = describe_model(request.model, request.dtype, request.data)
    if request.predictions:
        files = fingerprint(request.predictions, "*/*")
        about |= {"subject": str(request.predictions), "subject_files": files}
    return {
        **about,
        "paper_splits": request.paper_splits,
        "conventions": asdict(request.conventions),
        "predictions_saved": request.save_predictions is not None,
        "fields": [known.name for known in fields(SentenceScore)],
    }


def describe_model(model: str | None, dtype: str, data: str) -> dict[str, Any]:
    """What answers depend on."""
    return {
        "subject": str(model),
        "dtype": dtype,
        "data": str(data),
        "subject_files": fingerprint(str(model), "*"),
        "data_files": digest_tree(data) if _is_tree(data) else fingerprint(data, "**/*.parquet"),
    }


def _write_report(report: dict[str, Any], folder: Path) -> None:
    texts: dict[str, Callable[[dict], str]] = {
        "report.json": lambda numbers: json.dumps(numbers, indent=2, ensure_ascii=False) + "\n",
        "report.md": report_text,
    }
    for name, write in texts.items():
        with whole_file(folder / name) as unfinished:
            unfinished.write_text(write(report), encoding="utf-8")


def _write_gallery(
    split: str, clips: Any, predictor: Predictor, conventions: Conventions, journal: Journal
) -> None:
    """`clips_<split>.png`; its few clips go through the predictor once more."""
    panels = []
    for choice in choose_sentences(list(journal.of_splits({split: len(clips)}))):
        clip = clips[choice.index]
        truths = true_masks(clip, conventions.mask_size)
        predicted = list(predictor(clip, truths))[choice.sentence].probabilities
        predictions = {"prediction": predicted}
        sentence = clip["expressions"][choice.sentence]
        title = f"{split}, {choice.title}"
        panels.append(
            Panel(title, sentence, clip["frames"], truths[choice.sentence].masks, predictions)
        )
    with whole_file(journal.folder / f"clips_{split}.png") as unfinished:
        draw_gallery(panels, conventions).save(unfinished)
