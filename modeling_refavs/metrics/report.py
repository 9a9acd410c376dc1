"""What the paper reports on Ref-AVS Bench (arXiv 2407.10957v1, Table 3 and its ablations)."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dataset_script.statistics import LENGTH_BINS, length_bin, sentence_cues

from ..utils.markdown import table
from .refavs_fscore.refavs_fscore import pool as pool_fscore
from .refavs_jaccard.refavs_jaccard import check_pooling
from .refavs_jaccard.refavs_jaccard import pool as pool_jaccard
from .refavs_null.refavs_null import pool as pool_null
from .scoring import Journal, Record, SentenceScore


@dataclass(frozen=True)
class PublishedResult:
    """J and F in %, S in [0, 1], lower is better; all in the released pooling at 256x256."""

    method: str
    seen: tuple[float, float]
    unseen: tuple[float, float]
    mix: tuple[float, float]
    null: float


PUBLISHED = (
    PublishedResult("AVSBench + text", (23.20, 51.1), (32.36, 54.7), (27.78, 52.9), 0.208),
    PublishedResult("AVSegFormer + text", (33.47, 47.0), (36.05, 50.1), (34.76, 48.6), 0.171),
    PublishedResult("GAVS + text", (28.93, 49.8), (29.82, 49.7), (29.38, 49.8), 0.190),
    PublishedResult("ReferFormer + audio", (31.31, 50.1), (30.40, 48.8), (30.86, 49.5), 0.176),
    PublishedResult("R2VOS + audio", (25.01, 41.0), (27.93, 49.8), (26.47, 45.4), 0.183),
    PublishedResult("EEMC", (34.20, 51.3), (49.54, 64.8), (41.87, 58.1), 0.007),
    PublishedResult("EEMC without text", (23.67, 46.8), (37.19, 64.1), (30.43, 55.5), 0.011),
    PublishedResult("EEMC without audio", (27.27, 49.2), (43.64, 65.6), (35.46, 57.4), 0.010),
    PublishedResult(
        "EEMC without cached memory", (25.30, 49.4), (36.73, 66.0), (31.05, 57.7), 0.009
    ),
    PublishedResult(
        "EEMC without modality encoding", (27.20, 47.0), (44.97, 63.7), (36.09, 55.4), 0.009
    ),
)
# J of EEMC in %, by what a sentence is like.
PUBLISHED_BREAKDOWNS = {
    "grade": {"1-2": 39.27, "3": 37.78, "4": 35.31, "5": 33.39},
    "length": {"1-4": 39.66, "5-8": 37.00, "9-12": 33.74, "13+": 29.61},
    "dimension": {
        "spatial": 33.83,
        "acoustic": 26.07,
        "spatial + temporal": 41.01,
        "acoustic + temporal": 32.30,
    },
}
BREAKDOWNS = ("grade", "dimension", "length", "category")
GRADES = ("1-2", "3", "4", "5")  # as the paper groups them


class SentenceFacts:
    """The groups that a sentence belongs to.

    A synthetic tree says in `scenes/<clip>.json` how hard a sentence is and which cues it needs.
    Ref-AVS Bench does not: there the dimension is estimated from words, and the grade is not
    known.

    Args:
        data: the tree, or whatever else was evaluated.
        breakdowns: names out of `BREAKDOWNS`.

    Raises:
        ValueError: a name is unknown, or the grade is asked for where it is not known.
    """

    def __init__(self, data: str | Path, breakdowns: tuple[str, ...]):
        unknown = [name for name in breakdowns if name not in BREAKDOWNS]
        if unknown:
            raise ValueError(f"--by {unknown[0]}: must be of {', '.join(BREAKDOWNS)}")
        self.scenes, self.breakdowns = Path(data, "scenes"), breakdowns
        self.knows_scenes = self.scenes.is_dir()
        if "grade" in breakdowns and not self.knows_scenes:
            raise ValueError(
                f"--by grade: {data} has no scenes/: only a synthetic tree says how hard its "
                "sentences are"
            )

    def of_clip(self, clip_id: str, sentences: list[dict]) -> list[dict[str, str]]:
        """Of each of a clip's sentences the group in each breakdown; `sentences` have `uid`,
        `expression`, `category`."""
        scene = {}
        if self.knows_scenes and {"grade", "dimension"} & set(self.breakdowns):
            entries = json.loads((self.scenes / f"{clip_id}.json").read_text(encoding="utf-8"))[
                "expressions"
            ]
            scene = {entry["uid"]: entry for entry in entries}
        return [
            {
                name: self._group(name, sentence, scene.get(sentence["uid"]))
                for name in self.breakdowns
            }
            for sentence in sentences
        ]

    def _group(self, breakdown: str, sentence: dict, scene: dict | None) -> str:
        if breakdown == "grade":
            return "1-2" if scene["grade"] < 3 else str(scene["grade"])
        if breakdown == "dimension":
            cues = sentence_cues(sentence["expression"]) if scene is None else scene["dimensions"]
            return " + ".join(cues) or "none"
        if breakdown == "length":
            return length_bin(len(sentence["expression"].split()))
        return sentence["category"]


def in_order(breakdown: str, groups: set[str]) -> list[str]:
    """Grades and lengths from easy to hard, all else by the alphabet."""
    known = {"grade": GRADES, "length": LENGTH_BINS}.get(breakdown, ())
    return [group for group in known if group in groups] + sorted(groups - set(known))


LEVEL = 0.95  # of confidence
SEED = 0  # of the bootstrap
Pool = Callable[[np.ndarray, np.ndarray, str, int], float]


@dataclass(frozen=True)
class Pooling:
    """How sentences become one number; `num_draws` of clips tell how sure it is."""

    name: str = "dataset"
    batch_size: int = 4
    num_draws: int = 1000

    def __post_init__(self) -> None:
        check_pooling(self.name, self.batch_size)
        if self.num_draws < 1:
            raise ValueError(
                f"the number of bootstrap draws must be at least 1, got {self.num_draws}"
            )


@dataclass(frozen=True)
class Estimate:
    """A value, and the value in each bootstrap draw; NaN where nothing counts."""

    value: float
    draws: np.ndarray

    @property
    def interval(self) -> tuple[float, float]:
        """The middle 95 % of the draws."""
        tail = (1 - LEVEL) / 2
        known = self.draws[np.isfinite(self.draws)]
        return (
            tuple(np.quantile(known, [tail, 1 - tail]).tolist())
            if len(known)
            else (float("nan"), float("nan"))
        )


def mean_of(estimates: Iterable[Estimate]) -> Estimate:
    """The plain mean: Mix of Seen and Unseen, J&F of J and F."""
    estimates = list(estimates)
    value = sum(estimate.value for estimate in estimates) / len(estimates)
    return Estimate(value, np.mean([estimate.draws for estimate in estimates], axis=0))


@dataclass(frozen=True)
class Sentences:
    """Scores of sentences in the order of the data, column by column: see [`SentenceScore`].

    Args:
        clips: `(sentences,)`, a number for each clip, ascending.
        is_null: `(sentences,)` bool.
        jaccard, fscore, predicted: sums `(sentences,)`, `(sentences, thresholds)`, `(sentences,)`.
        jaccard_frames, object_frames, frames: `(sentences,)`, what they are sums of.
    """

    clips: np.ndarray
    is_null: np.ndarray
    jaccard: np.ndarray
    jaccard_frames: np.ndarray
    fscore: np.ndarray
    object_frames: np.ndarray
    predicted: np.ndarray
    frames: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> "Sentences":
        return Sentences(**{name: column[rows] for name, column in vars(self).items()})

    def measure(self, pooling: Pooling) -> dict[str, Estimate]:
        """`jaccard` and `fscore` of the sentences that refer to something, `null` of those that do
        not."""
        real, null = self[~self.is_null], self[self.is_null]
        return {
            "jaccard": _estimate(
                pool_jaccard, real.jaccard, real.jaccard_frames, real.clips, pooling
            ),
            "fscore": _estimate(pool_fscore, real.fscore, real.object_frames, real.clips, pooling),
            "null": _estimate(pool_null, null.predicted, null.frames, null.clips, pooling),
        }


def _estimate(
    pool: Pool, sums: np.ndarray, counts: np.ndarray, clips: np.ndarray, pooling: Pooling
) -> Estimate:
    """Bootstrap over clips, since sentences about one clip stand or fall together."""
    if not len(counts):
        return Estimate(float("nan"), np.full(pooling.num_draws, np.nan))
    pool = partial(pool, pooling=pooling.name, batch_size=pooling.batch_size)
    value = pool(sums, counts)
    starts = np.flatnonzero(np.diff(clips, prepend=-1))
    if pooling.name == "dataset":  # sums of clips say as much as sums of sentences, and are fewer
        sums, counts, starts = (
            np.add.reduceat(sums, starts),
            np.add.reduceat(counts, starts),
            np.arange(len(starts)),
        )
    members = np.split(np.arange(len(counts)), starts[1:])
    drawn = np.random.default_rng(SEED).integers(
        len(members), size=(pooling.num_draws, len(members))
    )
    rows = (np.concatenate([members[clip] for clip in draw]) for draw in drawn)
    return Estimate(value, np.array([pool(sums[chosen], counts[chosen]) for chosen in rows]))


SPLIT_NAMES = {"test_s": "Seen", "test_u": "Unseen", "test_n": "Null"}
MIXED = ("test_s", "test_u")  # Mix is their plain mean
PARTS = ("load", "predict", "score")


@dataclass(frozen=True)
class ScoredSplit:
    """The sentences of a split in the order of the data, the groups each belongs to, and the time
    they took."""

    sentences: Sentences
    groups: list[dict[str, str]]
    seconds: dict[str, float]


def read_splits(
    journal: Journal, splits: Sequence[str], facts: SentenceFacts
) -> dict[str, ScoredSplit]:
    """What the journal holds of `splits`."""
    clips: dict[str, dict[int, tuple]] = {split: {} for split in splits}
    for record in journal.read():
        if record["split"] in clips:
            clips[record["split"]][record["index"]] = _columns(record, facts)
    return {
        split: _join([found[index] for index in sorted(found)]) for split, found in clips.items()
    }


def _columns(
    record: Record, facts: SentenceFacts
) -> tuple[Sentences, list[dict[str, str]], dict[str, float]]:
    scores = [SentenceScore(**sentence) for sentence in record["sentences"]]
    names = (
        "is_null",
        "jaccard",
        "jaccard_frames",
        "fscore",
        "object_frames",
        "predicted",
        "frames",
    )
    columns = {name: np.array([getattr(score, name) for score in scores]) for name in names}
    clips = np.full(len(scores), record["index"])
    return (
        Sentences(clips, **columns),
        facts.of_clip(record["clip_id"], record["sentences"]),
        record["seconds"],
    )


def _join(clips: list[tuple]) -> ScoredSplit:
    sentences, groups, seconds = zip(*clips, strict=True)
    columns = {
        name: np.concatenate([vars(clip)[name] for clip in sentences])
        for name in vars(sentences[0])
    }
    return ScoredSplit(
        Sentences(**columns),
        [group for clip in groups for group in clip],
        {part: sum(clip[part] for clip in seconds) for part in PARTS},
    )


def build_report(
    scored: dict[str, ScoredSplit],
    breakdowns: Sequence[str],
    pooling: Pooling,
    request: dict[str, Any],
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
        mix = {
            name: mean_of(measured[split][name] for split in MIXED)
            for name in ("jaccard", "fscore")
        }
        report["mix"] = _to_json(mix)
    report["breakdowns"] = {
        name: _break_down(list(scored.values()), name, pooling) for name in breakdowns
    }
    report["published"] = {
        "table_3": [asdict(result) for result in PUBLISHED],
        "breakdowns": PUBLISHED_BREAKDOWNS,
    }
    sentences = sum(len(part.groups) for part in scored.values())
    report["seconds_per_sentence"] = {
        name: round(sum(part.seconds[name] for part in scored.values()) / sentences, 5)
        for name in PARTS
    }
    return report


def _break_down(parts: list[ScoredSplit], breakdown: str, pooling: Pooling) -> dict[str, Any]:
    groups = np.array([group[breakdown] for part in parts for group in part.groups])
    sentences = _concatenate(part.sentences for part in parts)
    table = {}
    for group in in_order(breakdown, set(groups.tolist())):
        chosen = sentences[groups == group]
        counts = {
            "sentences": int((~chosen.is_null).sum()),
            "null_sentences": int(chosen.is_null.sum()),
        }
        table[group] = {**counts, **_to_json(chosen.measure(pooling))}
    return table


def _concatenate(parts: Iterable[Sentences]) -> Sentences:
    """Sentences of several splits; clips are numbered on."""
    columns, first = [], 0
    for part in parts:
        columns.append({**vars(part), "clips": part.clips + first})
        first = columns[-1]["clips"][-1] + 1
    return Sentences(
        **{name: np.concatenate([part[name] for part in columns]) for name in columns[0]}
    )


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


NOTHING = "-"
DIMENSION_NOTE = "Dimensions are told from the sentences' words, roughly: the data do not say them."


def report_text(report: dict[str, Any]) -> str:
    """One page: results beside the published ones, breakdowns, conventions."""
    parts = [
        f"# Evaluation of {report['subject']}",
        conventions_text(report),
        f"## Results\n\n{results_table(report)}",
    ]
    if set(report["splits"]) & set(SPLIT_NAMES):
        parts.append(f"## Beside the published results\n\n{_published(report)}")
    parts += [breakdown_text(report, name) for name in report["breakdowns"]]
    seconds = report["seconds_per_sentence"]
    parts.append(
        f"Seconds a sentence: {seconds['load']:.3f} reading, {seconds['predict']:.3f} predicting, "
        f"{seconds['score']:.3f} scoring."
    )
    return "\n\n".join(parts) + "\n"


def conventions_text(report: dict[str, Any]) -> str:
    """On which data, how pooled, and what the numbers mean."""
    rules, pooling = report["conventions"], report["pooling"]
    size = (
        "the truth's own size"
        if rules["mask_size"] is None
        else f"{rules['mask_size']}x{rules['mask_size']}"
    )
    pooled = {
        "dataset": "pooled over the data set, whatever the batches",
        "released": "pooled as the released code does, the mean over batches of "
        f"{pooling['batch_size']} sentences",
    }[pooling["name"]]
    return (
        f"Data: {report['data']}. J and F in % (higher is better), S (lower is better), {pooled}. "
        f"Masks at {size}; "
        f"J at threshold {rules['threshold']}, S at {rules['null_threshold']}; in J a frame "
        "without the object scores "
        f"by `{rules['empty_truth']}`. In brackets: 95 % of {pooling['num_draws']} bootstrap draws "
        "of clips."
    )


def results_table(report: dict[str, Any]) -> str:
    """A row a split, and Mix."""
    rows, splits = [], report["splits"]
    for split, part in splits.items():
        rows.append(
            (
                f"{SPLIT_NAMES.get(split, split)} ({split})",
                part["clips"],
                part["sentences"],
                *_measures(part),
            )
        )
        if split == "test_u" and report["mix"]:
            rows.append(("Mix", "", "", *_measures(report["mix"])))
    return table(("split", "clips", "sentences", "J", "F", "J&F", "S"), rows)


def _published(report: dict[str, Any]) -> str:
    """Table 3 in the paper's shape, ours first."""
    splits = report["splits"]
    seen, unseen, mix = (
        _pair(part) for part in (splits.get("test_s"), splits.get("test_u"), report["mix"])
    )
    null = splits.get("test_n") and splits["test_n"]["null"]
    rows = [
        (f"**{report['subject']}**", seen, unseen, mix, f"{null['value']:.3f}" if null else NOTHING)
    ]
    for result in report["published"]["table_3"]:
        pairs = [f"{j:.2f} / {f:.1f}" for j, f in (result["seen"], result["unseen"], result["mix"])]
        rows.append((result["method"], *pairs, f"{result['null']:.3f}"))
    note = (
        "The published rows are of Ref-AVS Bench, in the released pooling at 256x256 (arXiv "
        "2407.10957v1): "
        "other data or another pooling do not compare."
    )
    return f"{table(('', 'Seen J / F', 'Unseen J / F', 'Mix J / F', 'Null S'), rows)}\n\n{note}"


def breakdown_text(report: dict[str, Any], name: str) -> str:
    """A table of the sentences group by group, under a heading."""
    published = report["published"]["breakdowns"].get(name, {})
    rows = []
    for group, part in report["breakdowns"][name].items():
        paper = (f"{published[group]:.2f}" if group in published else NOTHING,) if published else ()
        rows.append(
            (
                group,
                part["sentences"],
                *_measures(part)[:3],
                *paper,
                part["null_sentences"],
                _s(part),
            )
        )
    head = (
        name,
        "sentences",
        "J",
        "F",
        "J&F",
        *(("EEMC, paper: J",) if published else ()),
        "null sentences",
        "S",
    )
    note = f"\n\n{DIMENSION_NOTE}" if name == "dimension" and not report["knows_scenes"] else ""
    return f"## By {name}\n\n{table(head, rows)}{note}"


def _measures(part: dict[str, Any]) -> tuple[str, str, str, str]:
    names = ("jaccard", "fscore", "jaccard_and_fscore")
    return *(_percent(part.get(name)) for name in names), _s(part)


def _percent(estimate: dict[str, float] | None) -> str:
    if estimate is None:
        return NOTHING
    value, low, high = (100 * estimate[name] for name in ("value", "low", "high"))
    return f"{value:.2f} [{low:.1f}, {high:.1f}]"


def _s(part: dict[str, Any]) -> str:
    estimate = part.get("null")
    return NOTHING if estimate is None else "{value:.3f} [{low:.3f}, {high:.3f}]".format(**estimate)


def _pair(part: dict[str, Any] | None) -> str:
    if part is None or part["jaccard"] is None:
        return NOTHING
    return f"{100 * part['jaccard']['value']:.2f} / {100 * part['fscore']['value']:.1f}"
