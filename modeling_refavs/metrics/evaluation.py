"""Every clip of some splits through a predictor, its scores into a journal."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .journal import Journal
from .processes import Processes
from .scoring import Conventions, Truth, score_clip, true_masks


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
        predictor: called with a row and its true masks, yields of each sentence `(frames, height, width)` float32.
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
            {"split": split, "index": index, "clip_id": clip["clip_id"], "seconds": seconds, "sentences": scores}
        )
        if progress:
            progress(1)


def remaining_clips(
    splits: Mapping[str, Sequence[dict[str, Any]]], journal: Journal, processes: Processes
) -> list[tuple[str, int]]:
    """This process's share of all clips, less what is done: whatever others have done by now, no clip is left to nobody."""
    places = [(split, index) for split, clips in splits.items() for index in range(len(clips))]
    return [place for place in places[processes.rank :: processes.count] if place not in journal.done]


def fingerprint(folder: str | Path, pattern: str) -> str:
    """A digest of the names, sizes and times of change of a folder's files; of what is no folder, the name."""
    if not Path(folder).is_dir():
        return str(folder)
    digest = hashlib.sha256()
    for path in sorted(path for path in Path(folder).glob(pattern) if path.is_file()):
        state = path.stat()
        digest.update(f"{path.relative_to(folder)}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]
