"""A row for each sentence that was scored, and what two such tables tell of two models."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dataset_script.schema import SPLITS

from ..utils.files import table as markdown_table
from ..utils.files import whole_file
from .report import MIXED, SPLIT_NAMES, Estimate, Pooling, ScoredSplit, Sentences, mix_of


TABLE = "sentences"  # the name of the files
COLUMNS = {  # documented in docs/evaluation.md
    "split": "string",
    "clip_id": "string",
    "uid": "string",
    "expression": "string",
    "dimension": "string",
    "category": "string",
    "is_null": "bool",
    "J": "float64",
    "jaccard_frames": "int64",
    "F": "float64",
    "object_frames": "int64",
    "S": "float64",
    "frames": "int64",
    "answered": "bool",
    "presence": "float64",
    "iou_predicted": "float64",
    "seconds": "float64",
}
KEYS = ["split", "clip_id", "uid", "expression"]
MEASURES = {  # of each its name and its factor
    "jaccard": ("J", 100),
    "fscore": ("F", 100),
    "jaccard_and_fscore": ("J&F", 100),
    "null": ("S", 1),
    "n_acc": ("N-acc", 100),
    "t_acc": ("T-acc", 100),
}


def write_table(scored: Mapping[str, ScoredSplit], folder: Path) -> None:
    """`sentences.parquet` and `sentences.csv`, in the order of the data."""
    rows = pd.concat([_rows(split, part) for split, part in scored.items()], ignore_index=True)
    rows = rows.astype(COLUMNS)[list(COLUMNS)]
    with whole_file(folder / f"{TABLE}.parquet") as unfinished:
        rows.to_parquet(unfinished, index=False)
    with whole_file(folder / f"{TABLE}.csv") as unfinished:
        rows.to_csv(unfinished, index=False)


def _rows(split: str, scored: ScoredSplit) -> pd.DataFrame:
    """F is at the threshold that is best for the split, so that J, F and S of the split are means
    of the table's: of J weighted by `jaccard_frames`, of F by `object_frames`, of S squared by
    `frames`."""
    known = scored.sentences
    curves = known.fscore[~known.is_null].sum(axis=0)
    rows = pd.DataFrame(scored.rows)
    rows["split"] = split
    rows["dimension"] = [group["dimension"] for group in scored.groups]
    for name in ("is_null", "jaccard_frames", "object_frames", "frames", "answered"):
        rows[name] = getattr(known, name)
    with np.errstate(invalid="ignore"):  # no frame counts
        jaccard = known.jaccard / known.jaccard_frames
        fscore = known.fscore[:, curves.argmax()] / known.object_frames
    rows["J"] = np.where(known.is_null, np.nan, jaccard)
    rows["F"] = np.where(known.is_null, np.nan, fscore)
    rows["S"] = np.where(known.is_null, np.sqrt(known.predicted / known.frames), np.nan)
    return rows


def read_table(path: str | Path) -> pd.DataFrame:
    """Of a folder that `refavs evaluate` wrote, or one of its files.

    Raises:
        ValueError: there is no such table, or it lacks columns.
    """
    path = Path(path)
    file = path / f"{TABLE}.parquet" if path.is_dir() else path
    if not file.is_file() or file.suffix not in (".parquet", ".csv"):
        raise ValueError(
            f"{path}: no table: give a folder that `refavs evaluate` wrote, or its "
            f"{TABLE}.parquet or {TABLE}.csv"
        )
    try:
        if file.suffix == ".parquet":
            rows = pd.read_parquet(file)
        else:
            numbers = [name for name, kind in COLUMNS.items() if kind == "float64"]
            rows = pd.read_csv(  # a category is called "null"
                file, keep_default_na=False, na_values={name: [""] for name in numbers}
            )
        return rows[list(COLUMNS)].astype(COLUMNS)
    except (KeyError, ValueError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{file}: no table of `refavs evaluate`: {reason}") from error


def compare(first: str | Path, second: str | Path, num_draws: int = 1000) -> str:
    """Two tables over the clips that both have: the measures of each, their difference, its 95 %
    interval and its p, of a paired bootstrap over clips (see [`Estimate`]).

    Returns:
        Markdown.

    Raises:
        ValueError: there is no such table, or the two are not of the same sentences.
    """
    tables = [read_table(path).sort_values(KEYS, kind="stable") for path in (first, second)]
    clips = [set(zip(rows["split"], rows["clip_id"], strict=True)) for rows in tables]
    common = clips[0] & clips[1]
    if not common:
        raise ValueError(f"{first} and {second}: no clip is in both")
    tables = [
        rows[[place in common for place in zip(rows["split"], rows["clip_id"], strict=True)]]
        for rows in tables
    ]
    if tables[0][KEYS].to_numpy().tolist() != tables[1][KEYS].to_numpy().tolist():
        raise ValueError(f"{first} and {second}: the same clips have other sentences in each")
    pooling = Pooling(num_draws=num_draws)
    measured = [_measure(rows, pooling) for rows in tables]
    left_out = len(clips[0] | clips[1]) - len(common)
    lines = [
        (SPLIT_NAMES.get(split, split), MEASURES[name][0], *_cells(*pair, MEASURES[name][1]))
        for split in measured[0]
        for name in MEASURES
        if name in measured[0][split]
        for pair in [(measured[0][split][name], measured[1][split][name])]
        if np.isfinite(pair[0].value)
    ]
    head = ("", "", "A", "B", "B - A", "95 % interval", "p")
    return (
        f"# {second} (B) beside {first} (A)\n\n{len(tables[0])} sentences of {len(common)} clips"
        + (f"; {left_out} clips are in one table alone and left out" if left_out else "")
        + f". {num_draws} bootstrap draws of clips, the same for both; p is two-sided.\n\n"
        + f"{markdown_table(head, lines)}\n"
    )


def _measure(rows: pd.DataFrame, pooling: Pooling) -> dict[str, dict[str, Estimate]]:
    splits = [split for split in SPLITS if (rows["split"] == split).any()]
    measured = {
        split: _sentences(rows[rows["split"] == split]).measure(pooling) for split in splits
    }
    return {**measured, "Mix": mix_of(measured)} if set(MIXED) <= set(splits) else measured


def _sentences(rows: pd.DataFrame) -> Sentences:
    """The sums that a table was made of; of F at the one threshold that it is given for."""
    of_object = rows["object_frames"].to_numpy()
    return Sentences(
        clips=pd.factorize(rows["clip_id"])[0],
        is_null=rows["is_null"].to_numpy(),
        jaccard=(rows["J"].fillna(0) * rows["jaccard_frames"]).to_numpy(),
        jaccard_frames=rows["jaccard_frames"].to_numpy(),
        fscore=(rows["F"].fillna(0).to_numpy() * of_object)[:, None],
        object_frames=of_object,
        predicted=(rows["S"].fillna(0) ** 2 * rows["frames"]).to_numpy(),
        frames=rows["frames"].to_numpy(),
        answered=rows["answered"].to_numpy(),
    )


def _cells(first: Estimate, second: Estimate, factor: int) -> Sequence[str]:
    change, digits = second.minus(first), 2 if factor == 100 else 3
    values = (first.value, second.value, change.value, *change.interval)
    a, b, both, low, high = (round(factor * value, digits) + 0.0 for value in values)  # no -0
    return (
        f"{a:.{digits}f}",
        f"{b:.{digits}f}",
        f"{both:+.{digits}f}",
        f"[{low:+.{digits}f}, {high:+.{digits}f}]",
        f"{change.p_value:.3f}",
    )
