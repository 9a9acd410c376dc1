"""The report of an evaluation: pooled scores with confidence intervals, broken down and beside the
published ones.

Top to bottom: what the paper reports, the groups of sentences, pooled estimates, the report as
numbers (`build_report`) and as Markdown (`report_text`).
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dataset_script.statistics import LENGTH_BINS, PAPER_COUNTS, length_bin, sentence_cues

from ..utils.files import table
from .refavs_fscore.refavs_fscore import pool as pool_fscore
from .refavs_jaccard.refavs_jaccard import check_pooling
from .refavs_jaccard.refavs_jaccard import pool as pool_jaccard
from .refavs_noref.refavs_noref import pool as pool_answers
from .refavs_null.refavs_null import pool as pool_null
from .scoring import Record, SentenceScore, expected_calibration_error, roc_auc


SPLIT_NAMES = {"test_s": "Seen", "test_u": "Unseen", "test_n": "Null"}
MIXED = ("test_s", "test_u")  # Mix is their plain mean
BREAKDOWNS = ("grade", "dimension", "length", "category")
GRADES = ("1-2", "3", "4", "5")  # as the paper groups them
# Sentences of the whole splits of Ref-AVS Bench, with which alone published results compare: in the
# released csv test_u has seen categories too.
BENCH_SENTENCES = {
    split: {PAPER_COUNTS[split][2], *((1656,) if split == "test_u" else ())}
    for split in SPLIT_NAMES
}
LEVEL = 0.95  # of confidence
SEED = 0  # of the bootstrap
STEPS = ("load", "predict", "score")  # whose seconds are reported
NOTHING = "-"
MEASURE_NAMES = ("J", "F", "J&F", "S", "N-acc", "T-acc")
DIMENSION_NOTE = "Dimensions are told from the sentences' words, roughly: the data do not say them."

Pool = Callable[[np.ndarray, np.ndarray, str, int], float]


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


class SentenceFacts:
    """The groups that each sentence belongs to.

    A synthetic tree states in `scenes/<clip>.json` how hard a sentence is and which cues it needs.
    Ref-AVS Bench does not: there the dimension is estimated from the sentence's words, and the
    grade is unknown.

    Args:
        data: the tree, the export or the Hub id that was evaluated.
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
        """Group the sentences of a clip.

        Args:
            clip_id: of the clip.
            sentences: rows with `uid`, `expression` and `category`.

        Returns:
            For each sentence, its dimension and its group in each breakdown.
        """
        known = {}  # uid -> what the scene states of the sentence
        if self.knows_scenes:
            scene = json.loads((self.scenes / f"{clip_id}.json").read_text(encoding="utf-8"))
            known = {entry["uid"]: entry for entry in scene["expressions"]}
        return [
            {
                name: self._group(name, row, known.get(row["uid"]))
                for name in dict.fromkeys(("dimension", *self.breakdowns))
            }
            for row in sentences
        ]

    def _group(self, breakdown: str, sentence: dict, known: dict | None) -> str:
        if breakdown == "grade":
            return "1-2" if known["grade"] < 3 else str(known["grade"])
        if breakdown == "dimension":
            cues = sentence_cues(sentence["expression"]) if known is None else known["dimensions"]
            return " + ".join(cues) or "none"
        if breakdown == "length":
            return length_bin(len(sentence["expression"].split()))
        return sentence["category"]


def in_order(breakdown: str, groups: set[str]) -> list[str]:
    """Sort groups: grades and lengths from easy to hard, all others alphabetically."""
    known = {"grade": GRADES, "length": LENGTH_BINS}.get(breakdown, ())
    return [group for group in known if group in groups] + sorted(groups - set(known))


@dataclass(frozen=True)
class Pooling:
    """How the scores of many sentences become one number.

    Args:
        name: `dataset` or `released`, as the metrics document them.
        batch_size: sentences in a batch of the released pooling.
        num_draws: bootstrap draws of clips, for the confidence interval.
    """

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
        known = self.draws[np.isfinite(self.draws)]
        if not len(known):
            return float("nan"), float("nan")
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(known, [tail, 1 - tail]).tolist()
        return low, high

    @property
    def p_value(self) -> float:
        """Two-sided, of the value being 0: twice the share of draws on the rarer side of 0. One
        more draw is counted there, so that p is never 0 (Davison and Hinkley, 1997, Sec. 4.2)."""
        known = self.draws[np.isfinite(self.draws)]
        rarer = min((known <= 0).sum(), (known >= 0).sum())
        return min(1.0, 2 * (rarer + 1) / (len(known) + 1))

    def minus(self, other: "Estimate") -> "Estimate":
        """The difference, draw by draw: paired if both are of the same clips."""
        return Estimate(self.value - other.value, self.draws - other.draws)

    def to_json(self) -> dict[str, float] | None:
        if not np.isfinite(self.value):
            return None
        low, high = self.interval
        return {"value": self.value, "low": low, "high": high}


def mean_of(estimates: Iterable[Estimate]) -> Estimate:
    """The unweighted mean, draw by draw: Mix of Seen and Unseen, J&F of J and F."""
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
        answered: `(sentences,)` bool.
    """

    clips: np.ndarray
    is_null: np.ndarray
    jaccard: np.ndarray
    jaccard_frames: np.ndarray
    fscore: np.ndarray
    object_frames: np.ndarray
    predicted: np.ndarray
    frames: np.ndarray
    answered: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> "Sentences":
        return Sentences(**{name: column[rows] for name, column in vars(self).items()})

    def measure(self, pooling: Pooling) -> dict[str, Estimate]:
        """Pool `jaccard`, `fscore` and `t_acc` over the sentences that refer to something, `null`
        and `n_acc` over those that refer to nothing."""
        real, null = self[~self.is_null], self[self.is_null]
        columns = {
            "jaccard": (pool_jaccard, real.jaccard, real.jaccard_frames, real.clips),
            "fscore": (pool_fscore, real.fscore, real.object_frames, real.clips),
            "null": (pool_null, null.predicted, null.frames, null.clips),
            "n_acc": (pool_answers, ~null.answered, np.ones(len(null.clips)), null.clips),
            "t_acc": (pool_answers, real.answered, np.ones(len(real.clips)), real.clips),
        }
        measures = {name: estimate(*given, pooling) for name, given in columns.items()}
        both = mean_of([measures["jaccard"], measures["fscore"]])
        return {**measures, "jaccard_and_fscore": both}


def estimate(
    pool: Pool, sums: np.ndarray, counts: np.ndarray, clips: np.ndarray, pooling: Pooling
) -> Estimate:
    """Pool, and bootstrap over clips, since the scores of one clip's sentences are correlated. The
    draws depend on the number of clips alone, so that two estimates of the same clips are
    paired.

    Args:
        sums, counts: `(sentences, ...)` and `(sentences,)`, as `pool` takes them.
        clips: `(sentences,)`, a number for each clip, ascending.
    """
    if not len(counts):
        return Estimate(float("nan"), np.full(pooling.num_draws, np.nan))
    pool = partial(pool, pooling=pooling.name, batch_size=pooling.batch_size)
    value = pool(sums, counts)
    starts = np.flatnonzero(np.diff(clips, prepend=-1))
    drawn = draw_clips(len(starts), pooling.num_draws)
    if pooling.name == "dataset":  # sums over clips give the same value, and are fewer
        sums, counts = (np.add.reduceat(column.astype(float), starts) for column in (sums, counts))
        rows = iter(drawn)
    else:
        members = np.split(np.arange(len(counts)), starts[1:])
        rows = (np.concatenate([members[clip] for clip in draw]) for draw in drawn)
    return Estimate(value, np.array([pool(sums[chosen], counts[chosen]) for chosen in rows]))


def draw_clips(number: int, num_draws: int) -> np.ndarray:
    """`(num_draws, number)` of `range(number)`, with replacement; the same at each call."""
    return np.random.default_rng(SEED).integers(number, size=(num_draws, number))


@dataclass(frozen=True)
class Presences:
    """Of each frame of many sentences how probable it was that it shows the object, and whether it
    does.

    Args:
        clips: `(frames,)`, a number for each clip, ascending.
        presence: `(frames,)` in [0, 1].
        shown: `(frames,)` bool.
    """

    clips: np.ndarray
    presence: np.ndarray
    shown: np.ndarray

    def measure(self, pooling: Pooling) -> dict[str, Estimate]:
        """`auc` and `calibration_error`, with draws of clips."""
        starts = np.flatnonzero(np.diff(self.clips, prepend=-1))
        members = np.split(np.arange(len(self.clips)), starts[1:])
        measures = {"auc": roc_auc, "calibration_error": expected_calibration_error}
        draws: dict[str, list[float]] = {name: [] for name in measures}
        for draw in draw_clips(len(starts), pooling.num_draws):
            rows = np.concatenate([members[clip] for clip in draw])
            for name, measure in measures.items():
                draws[name].append(measure(self.presence[rows], self.shown[rows]))
        return {
            name: Estimate(measure(self.presence, self.shown), np.array(draws[name]))
            for name, measure in measures.items()
        }


@dataclass(frozen=True)
class ScoredSplit:
    """The scores of a split.

    Args:
        sentences: in the order of the data.
        groups: for each sentence, its dimension and its group in each breakdown.
        presences: of the frames of the sentences of which the model says it.
        rows: for each sentence what the table of sentences says beside its scores.
        seconds: spent in each of `STEPS`.
    """

    sentences: Sentences
    groups: list[dict[str, str]]
    presences: Presences
    rows: list[dict[str, Any]]
    seconds: dict[str, float]


def read_splits(
    records: Iterable[Record], splits: Iterable[str], facts: SentenceFacts
) -> dict[str, ScoredSplit]:
    """Join the records of clips, in whatever order they come, to one [`ScoredSplit`] a split."""
    clips: dict[str, dict[int, ScoredSplit]] = {split: {} for split in splits}
    for record in records:
        clips[record["split"]][record["index"]] = _score_of_clip(record, facts)
    return {
        split: _join([found[index] for index in sorted(found)]) for split, found in clips.items()
    }


def _score_of_clip(record: Record, facts: SentenceFacts) -> ScoredSplit:
    scores = [SentenceScore(**sentence) for sentence in record["sentences"]]
    names = [field.name for field in fields(Sentences) if field.name != "clips"]
    columns = {name: np.array([getattr(score, name) for score in scores]) for name in names}
    said = [score for score in scores if score.presence is not None]
    seconds = record["seconds"]["predict"] / len(scores)
    return ScoredSplit(
        Sentences(np.full(len(scores), record["index"]), **columns),
        facts.of_clip(record["clip_id"], record["sentences"]),
        Presences(
            np.full(sum(score.frames for score in said), record["index"]),
            np.array([value for score in said for value in score.presence]),
            np.array([value for score in said for value in score.shown], dtype=bool),
        ),
        [_row(record["clip_id"], score, seconds) for score in scores],
        record["seconds"],
    )


def _row(clip_id: str, score: SentenceScore, seconds: float) -> dict[str, Any]:
    return {
        "clip_id": clip_id,
        "uid": score.uid,
        "expression": score.expression,
        "category": score.category,
        "presence": None if score.presence is None else max(score.presence),
        "iou_predicted": score.iou,
        "seconds": seconds,
    }


def _join(clips: list[ScoredSplit]) -> ScoredSplit:
    return ScoredSplit(
        _stack([clip.sentences for clip in clips]),
        [group for clip in clips for group in clip.groups],
        _stack([clip.presences for clip in clips]),
        [row for clip in clips for row in clip.rows],
        {step: sum(clip.seconds[step] for clip in clips) for step in STEPS},
    )


def _stack(parts: Sequence[Any], renumber: bool = False) -> Any:
    """Several [`Sentences`] or [`Presences`] below each other; with `renumber` those of different
    splits, whose clips are counted on."""
    columns, first = [], 0
    for part in parts:
        columns.append({**vars(part), "clips": part.clips + first})
        first += part.clips.max(initial=-1) + 1 if renumber else 0
    return type(parts[0])(
        **{name: np.concatenate([part[name] for part in columns]) for name in columns[0]}
    )


def build_report(
    scored: dict[str, ScoredSplit],
    breakdowns: Sequence[str],
    pooling: Pooling,
    request: dict[str, Any],
) -> dict[str, Any]:
    """Compute Table 3 and the breakdowns, and put the published rows beside them.

    Args:
        scored: by split, see `read_splits`.
        breakdowns: names out of `BREAKDOWNS`; each is over the sentences of all splits together.
        pooling: how scores are pooled.
        request: what was evaluated, and how masks were scored.

    Returns:
        The content of report.json.
    """
    measured = {split: part.sentences.measure(pooling) for split, part in scored.items()}
    report = {**request, "pooling": asdict(pooling), "splits": {}, "mix": None, "presence": None}
    for split, part in scored.items():
        counts = {"clips": len(np.unique(part.sentences.clips)), "sentences": len(part.groups)}
        report["splits"][split] = {**counts, **_to_json(measured[split])}
    if all(split in measured for split in MIXED):
        report["mix"] = _to_json(mix_of(measured))
    presences = _stack([part.presences for part in scored.values()], renumber=True)
    if len(presences.clips):
        report["presence"] = {
            "frames": len(presences.clips),
            **_to_json(presences.measure(pooling)),
        }
    report["breakdowns"] = {
        name: _break_down(list(scored.values()), name, pooling) for name in breakdowns
    }
    comparable = is_bench({split: len(part.groups) for split, part in scored.items()})
    report["published"] = {
        "table_3": [asdict(result) for result in PUBLISHED] if comparable else [],
        "breakdowns": PUBLISHED_BREAKDOWNS if comparable else {},
    }
    sentences = sum(len(part.groups) for part in scored.values())
    report["seconds_per_sentence"] = {
        name: round(sum(part.seconds[name] for part in scored.values()) / sentences, 5)
        for name in STEPS
    }
    return report


def mix_of(measured: dict[str, dict[str, Estimate]]) -> dict[str, Estimate]:
    return {
        name: mean_of(measured[split][name] for split in MIXED)
        for name in ("jaccard", "fscore", "jaccard_and_fscore")
    }


def is_bench(sentences: dict[str, int]) -> bool:
    """Whether splits have as many sentences as those of Ref-AVS Bench.

    Example:
        >>> is_bench({"test_s": 2288, "test_u": 1454}), is_bench({"test_s": 592})
        (True, False)
    """
    known = [
        count in BENCH_SENTENCES[split]
        for split, count in sentences.items()
        if split in BENCH_SENTENCES
    ]
    return bool(known) and all(known)


def _break_down(parts: list[ScoredSplit], breakdown: str, pooling: Pooling) -> dict[str, Any]:
    groups = np.array([group[breakdown] for part in parts for group in part.groups])
    sentences = _stack([part.sentences for part in parts], renumber=True)
    table = {}
    for group in in_order(breakdown, set(groups.tolist())):
        chosen = sentences[groups == group]
        counts = {
            "sentences": int((~chosen.is_null).sum()),
            "null_sentences": int(chosen.is_null.sum()),
        }
        table[group] = {**counts, **_to_json(chosen.measure(pooling))}
    return table


def _to_json(measures: dict[str, Estimate]) -> dict[str, Any]:
    return {name: measure.to_json() for name, measure in measures.items()}


def report_text(report: dict[str, Any]) -> str:
    """The content of report.md: conventions, results beside the published ones, breakdowns."""
    parts = [
        f"# Evaluation of {report['subject']}",
        conventions_text(report),
        f"## Results\n\n{results_table(report)}",
    ]
    if report["presence"]:
        parts.append(presence_text(report))
    if report["published"]["table_3"]:
        parts.append(f"## Beside the published results\n\n{_published(report)}")
    parts += [breakdown_text(report, name) for name in report["breakdowns"]]
    seconds = report["seconds_per_sentence"]
    parts.append(
        f"Seconds a sentence: {seconds['load']:.3f} reading, {seconds['predict']:.3f} predicting, "
        f"{seconds['score']:.3f} scoring."
    )
    return "\n\n".join(parts) + "\n"


def conventions_text(report: dict[str, Any]) -> str:
    """A paragraph that states the data, the pooling and the thresholds."""
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
        f"Data: {report['data']}. J and F in % (higher is better), S (lower is better), {pooled}; "
        "N-acc and T-acc in % of sentences: null references left empty, others answered. "
        f"Masks at {size}; "
        f"J at threshold {rules['threshold']}, S at {rules['null_threshold']}; in J a frame "
        "without the object scores "
        f"by `{rules['empty_truth']}`. In brackets: 95 % of {pooling['num_draws']} bootstrap draws "
        "of clips."
    )


def results_table(report: dict[str, Any]) -> str:
    """A table with a row for each split, and one for Mix."""
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
    return table(("split", "clips", "sentences", *MEASURE_NAMES), rows)


def presence_text(report: dict[str, Any]) -> str:
    """A paragraph: whether the presence ranks frames, and is as often right as it says."""
    known = report["presence"]
    auc, error = (
        NOTHING
        if known[name] is None
        else "{value:.3f} [{low:.3f}, {high:.3f}]".format(**known[name])
        for name in ("auc", "calibration_error")
    )
    return (
        "Presence, the probability that a frame shows the object, over "
        f"{known['frames']:,} frames of all splits: area under the ROC curve {auc}, expected "
        f"calibration error {error}."
    )


def _published(report: dict[str, Any]) -> str:
    """Table 3 in the paper's layout, this evaluation in the first row."""
    splits = report["splits"]
    seen, unseen, mix = (
        _pair(part) for part in (splits.get("test_s"), splits.get("test_u"), report["mix"])
    )
    null = splits.get("test_n") and splits["test_n"]["null"]
    rows = [
        (
            f"**{_escape(report['subject'])}**",
            seen,
            unseen,
            mix,
            f"{null['value']:.3f}" if null else NOTHING,
        )
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
    """A table with a row for each group of sentences, under a heading."""
    published = report["published"]["breakdowns"].get(name, {})
    rows = []
    for group, part in report["breakdowns"][name].items():
        measures = _measures(part)
        paper = (f"{published[group]:.2f}" if group in published else NOTHING,) if published else ()
        rows.append(
            (
                _escape(group),
                part["sentences"],
                *measures[:3],
                *paper,
                measures[5],
                part["null_sentences"],
                *measures[3:5],
            )
        )
    head = (
        name,
        "sentences",
        "J",
        "F",
        "J&F",
        *(("EEMC, paper: J",) if published else ()),
        "T-acc",
        "null sentences",
        "S",
        "N-acc",
    )
    note = f"\n\n{DIMENSION_NOTE}" if name == "dimension" and not report["knows_scenes"] else ""
    return f"## By {name}\n\n{table(head, rows)}{note}"


def _measures(part: dict[str, Any]) -> tuple[str, ...]:
    """The cells of `MEASURE_NAMES`."""
    names = ("jaccard", "fscore", "jaccard_and_fscore")
    percents = (_percent(part.get(name)) for name in names)
    return *percents, _s(part), _percent(part.get("n_acc")), _percent(part.get("t_acc"))


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


def _escape(text: str) -> str:
    """Text as a cell of a Markdown table takes it."""
    return text.replace("|", "\\|")
