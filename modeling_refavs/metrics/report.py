"""The paper's tables from a journal of scores: numbers only, as JSON takes them."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .facts import SentenceFacts, in_order
from .journal import Journal, Record
from .measuring import Estimate, Pooling, Sentences, mean_of
from .published import PUBLISHED, PUBLISHED_BREAKDOWNS
from .scoring import SentenceScore


SPLIT_NAMES = {"test_s": "Seen", "test_u": "Unseen", "test_n": "Null"}
MIXED = ("test_s", "test_u")  # Mix is their plain mean
PARTS = ("load", "predict", "score")


@dataclass(frozen=True)
class ScoredSplit:
    """The sentences of a split in the order of the data, the groups each belongs to, and the time they took."""

    sentences: Sentences
    groups: list[dict[str, str]]
    seconds: dict[str, float]


def read_splits(journal: Journal, splits: Sequence[str], facts: SentenceFacts) -> dict[str, ScoredSplit]:
    """What the journal holds of `splits`."""
    clips: dict[str, dict[int, tuple]] = {split: {} for split in splits}
    for record in journal.read():
        if record["split"] in clips:
            clips[record["split"]][record["index"]] = _columns(record, facts)
    return {split: _join([found[index] for index in sorted(found)]) for split, found in clips.items()}


def _columns(record: Record, facts: SentenceFacts) -> tuple[Sentences, list[dict[str, str]], dict[str, float]]:
    scores = [SentenceScore(**sentence) for sentence in record["sentences"]]
    names = ("is_null", "jaccard", "jaccard_frames", "fscore", "object_frames", "predicted", "frames")
    columns = {name: np.array([getattr(score, name) for score in scores]) for name in names}
    clips = np.full(len(scores), record["index"])
    return Sentences(clips, **columns), facts.of_clip(record["clip_id"], record["sentences"]), record["seconds"]


def _join(clips: list[tuple]) -> ScoredSplit:
    sentences, groups, seconds = zip(*clips, strict=True)
    columns = {name: np.concatenate([vars(clip)[name] for clip in sentences]) for name in vars(sentences[0])}
    return ScoredSplit(
        Sentences(**columns),
        [group for clip in groups for group in clip],
        {part: sum(clip[part] for clip in seconds) for part in PARTS},
    )


def build_report(
    scored: dict[str, ScoredSplit], breakdowns: Sequence[str], pooling: Pooling, request: dict[str, Any]
) -> dict[str, Any]:
    """Table 3, the breakdowns, the published rows, and how everything was computed.

    Args:
        scored: by split, see `read_splits`.
        breakdowns: out of `BREAKDOWNS`; over the sentences of all splits together.
        request: what was evaluated, and how masks were scored.
    """
    measured = {split: part.sentences.measure(pooling) for split, part in scored.items()}
    report = {**request, "pooling": asdict(pooling), "splits": {}, "mix": None}
    for split, part in scored.items():
        counts = {"clips": len(np.unique(part.sentences.clips)), "sentences": len(part.groups)}
        report["splits"][split] = {**counts, **_to_json(measured[split])}
    if all(split in measured for split in MIXED):
        mix = {name: mean_of(measured[split][name] for split in MIXED) for name in ("jaccard", "fscore")}
        report["mix"] = _to_json(mix)
    report["breakdowns"] = {name: _break_down(list(scored.values()), name, pooling) for name in breakdowns}
    report["published"] = {
        "table_3": [asdict(result) for result in PUBLISHED],
        "breakdowns": PUBLISHED_BREAKDOWNS,
    }
    sentences = sum(len(part.groups) for part in scored.values())
    report["seconds_per_sentence"] = {
        name: round(sum(part.seconds[name] for part in scored.values()) / sentences, 5) for name in PARTS
    }
    return report


def _break_down(parts: list[ScoredSplit], breakdown: str, pooling: Pooling) -> dict[str, Any]:
    groups = np.array([group[breakdown] for part in parts for group in part.groups])
    sentences = _concatenate(part.sentences for part in parts)
    table = {}
    for group in in_order(breakdown, set(groups.tolist())):
        chosen = sentences[groups == group]
        counts = {"sentences": int((~chosen.is_null).sum()), "null_sentences": int(chosen.is_null.sum())}
        table[group] = {**counts, **_to_json(chosen.measure(pooling))}
    return table


def _concatenate(parts: Iterable[Sentences]) -> Sentences:
    """Sentences of several splits; clips are numbered on."""
    columns, first = [], 0
    for part in parts:
        columns.append({**vars(part), "clips": part.clips + first})
        first = columns[-1]["clips"][-1] + 1
    return Sentences(**{name: np.concatenate([part[name] for part in columns]) for name in columns[0]})


def _to_json(measures: dict[str, Estimate]) -> dict[str, Any]:
    if np.isfinite(measures["jaccard"].value):
        both = mean_of([measures["jaccard"], measures["fscore"]])
        measures = {**measures, "jaccard_and_fscore": both}
    return {name: _estimate_to_json(estimate) for name, estimate in measures.items()}


def _estimate_to_json(estimate: Estimate) -> dict[str, float] | None:
    if not np.isfinite(estimate.value):
        return None
    low, high = estimate.interval
    return {"value": estimate.value, "low": low, "high": high}
