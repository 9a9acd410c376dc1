"""Scores on disk, clip by clip, so that an evaluation that was stopped, in whatever way, goes
on."""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from dataset_script.builder_refavs import digest_tree, load_refavs
from dataset_script.schema import NUM_FRAMES, SPLITS

from ..inference.loading import choose_device, load_model
from ..utils.files import lock_folder, whole_file
from .gallery import Panel, choose_sentences, draw_gallery
from .predictors import FolderPredictor, ModelPredictor
from .report import Pooling, SentenceFacts, build_report, read_splits, report_text
from .scoring import Conventions, Journal, Truth, score_clip, true_masks


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


Predictor = Callable[[dict[str, Any], Sequence[Truth]], Iterator[np.ndarray]]


def evaluate_clips(
    splits: Mapping[str, Sequence[dict[str, Any]]],
    predictor: Predictor,
    conventions: Conventions,
    journal: Journal,
    processes: Processes,
    progress: Callable[[int], Any] | None = None,
) -> None:
    """Score what the journal lacks, this process's share of it; one clip is in memory at a time.

    Args:
        splits: by name the rows of configuration `clips`.
        predictor: called with a row and its true masks, yields of each sentence `(frames, height,
            width)` float32.
        progress: called with 1 after each clip of this process.
    """
    for split, index in remaining_clips(splits, journal, processes):
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
        journal.append(
            {
                "split": split,
                "index": index,
                "clip_id": clip["clip_id"],
                "seconds": seconds,
                "sentences": scores,
            }
        )
        if progress:
            progress(1)


def remaining_clips(
    splits: Mapping[str, Sequence[dict[str, Any]]], journal: Journal, processes: Processes
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


Clips = Mapping[str, Any]  # split -> `datasets.Dataset` of configuration `clips`


@dataclass(frozen=True)
class EvaluationRequest:
    """What is evaluated, and how.

    Args:
        data: a tree, an export, or an export's id on the Hub; its `splits`.
        model: a folder, or an id on the Hub; or in its place `predictions`, a folder of masks.
        by: breakdowns, of `BREAKDOWNS`.
        conventions, pooling: of the scores.
        paper_splits: as in `load_refavs`.
        device, dtype: of the model, see [`load_model`].
    """

    data: str
    splits: tuple[str, ...]
    model: str | None = None
    predictions: Path | None = None
    by: tuple[str, ...] = ()
    conventions: Conventions = field(default_factory=Conventions)
    pooling: Pooling = field(default_factory=Pooling)
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
    if unknown := [split for split in splits if split not in SPLITS]:
        raise ValueError(f"--splits {unknown[0]}: must be of {', '.join(SPLITS)}")
    with join_processes() as processes:
        with processes.first_alone():
            clips = {split: _load_clips(request, split) for split in splits}
            predictor = _make_predictor(request, clips, processes)
        facts_of_request = _describe(request)
        with (
            nullcontext() if processes.rank else lock_folder(output),
            Journal(output, facts_of_request, processes.rank) as journal,
        ):
            _evaluate(clips, predictor, conventions, journal, processes)
            processes.wait()
            if processes.rank:
                return None
            report = build_report(
                read_splits(journal, splits, facts), request.by, pooling, facts_of_request
            )
            report["knows_scenes"] = facts.knows_scenes
            _write_report(report, output)
            for split in splits:
                _write_gallery(split, clips[split], predictor, conventions, journal)
    return report_text(report)


def _load_clips(request: EvaluationRequest, split: str) -> Any:
    """A tree is trusted to be whole: `refavs dataset check` is the place to look at each file."""
    if not Path(request.data).exists() and not re.fullmatch(r"[\w.-]+/[\w.-]+", request.data):
        raise ValueError(
            f"--data {request.data}: no such folder: give a tree, an export, or an export's id on "
            "the Hub"
        )
    if _is_tree(request.data):
        return load_refavs(
            request.data, "clips", split, damaged="trust", paper_splits=request.paper_splits
        )
    return load_refavs(request.data, "clips", split, paper_splits=request.paper_splits)


def _is_tree(data: str) -> bool:
    return (Path(data) / "metadata.csv").is_file()


def _make_predictor(request: EvaluationRequest, clips: Clips, processes: Processes) -> Predictor:
    if request.predictions:
        predictor = FolderPredictor(request.predictions)
        rows = (row for part in clips.values() for row in part.select_columns("expressions"))
        predictor.check(
            (sentence["uid"] for row in rows for sentence in row["expressions"]), NUM_FRAMES
        )
        return predictor
    device = choose_device(request.device)
    if request.device == "auto" and device.type != "cpu":
        device = torch.device(device.type, processes.local_rank)
    return ModelPredictor(*load_model(request.model, device, request.dtype))


def _describe(request: EvaluationRequest) -> dict[str, Any]:
    """What the scores depend on; an evaluation goes on only where it is the same."""
    subject = request.predictions or request.model
    return {
        "subject": str(subject),
        "dtype": request.dtype,
        "data": str(request.data),
        "paper_splits": request.paper_splits,
        "conventions": asdict(request.conventions),
        "subject_files": fingerprint(subject, "*/*.png" if request.predictions else "*"),
        "data_files": digest_tree(request.data)
        if _is_tree(request.data)
        else fingerprint(request.data, "**/*.parquet"),
    }


def _evaluate(
    clips: Clips,
    predictor: Predictor,
    conventions: Conventions,
    journal: Journal,
    processes: Processes,
) -> None:
    """The bar counts this process's share; the first alone shows one."""
    remaining = len(remaining_clips(clips, journal, processes))
    done = sum(
        (split, index) in journal.done
        for split, part in clips.items()
        for index in range(len(part))
    )
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


def _write_gallery(
    split: str, clips: Any, predictor: Predictor, conventions: Conventions, journal: Journal
) -> None:
    """`clips_<split>.png`; its few clips go through the predictor once more."""
    panels = []
    records = [record for record in journal.read() if record["split"] == split]
    for choice in choose_sentences(records):
        clip = clips[choice.index]
        truths = true_masks(clip, conventions.mask_size)
        probabilities = list(predictor(clip, truths))[choice.sentence]
        sentence = clip["expressions"][choice.sentence]
        title = f"{split}, {choice.title}"
        panels.append(
            Panel(title, sentence, clip["frames"], truths[choice.sentence].masks, probabilities)
        )
    with whole_file(journal.folder / f"clips_{split}.png") as unfinished:
        draw_gallery(panels, conventions).save(unfinished)
