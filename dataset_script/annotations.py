"""metadata.csv: its rows, its clips, and its irregularities."""

import csv
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from modeling_refavs.utils.files import whole_file

from .schema import LEFTOVER_SPLIT, SPLITS
from .taxonomy import NULL_CATEGORY, Taxonomy


CSV_COLUMNS = ("vid", "uid", "split", "fid", "exp")
LARGEST_FID = 2**31 - 1  # the fid column is int32
_CLIP_NAME = re.compile(
    r"(?:null_(?P<null_kind>[^-/]+)-)?(?P<source>(?P<youtube_id>.+)_(?P<start>\d+)_(?P<end>\d+))"
)


@dataclass(frozen=True, slots=True)
class Annotation:
    """One sentence about one object of one clip: a row of metadata.csv.

    `clip_id` names the folders under media/ and gt_mask/: the uid without its last two `_` fields,
        not `vid`.
    `line` is the row's line in the csv. `null_kind` is the letter in a null reference's name, else
    None.
    """

    line: int
    uid: str
    vid: str
    split: str
    fid: int
    raw_expression: str

    @property
    def clip_id(self) -> str:
        return self.uid.rsplit("_", 2)[0]

    @property
    def category(self) -> str:
        return self.uid.rsplit("_", 2)[1]

    @property
    def is_null(self) -> bool:
        return self.category == NULL_CATEGORY

    @property
    def null_kind(self) -> str | None:
        return split_clip_id(self.clip_id)["null_kind"] if self.is_null else None

    @property
    def expression(self) -> str:
        """The sentence with `_` read as a space and runs of spaces as one."""
        return " ".join(self.raw_expression.replace("_", " ").split())


@dataclass(frozen=True, slots=True)
class MalformedRow:
    """A row that names no clip, object or split, and why."""

    line: int
    reason: str


@dataclass
class Annotations:
    """A whole metadata.csv: the rows in file order, and what could not be a row."""

    rows: list[Annotation] = field(default_factory=list)
    leftovers: list[Annotation] = field(default_factory=list)  # split TODO: no split of the paper's
    malformed: list[MalformedRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip within one split, with all its sentences in file order."""

    clip_id: str
    split: str
    rows: tuple[Annotation, ...]

    @property
    def fids(self) -> list[int]:
        return sorted({row.fid for row in self.rows})


def split_clip_id(clip_id: str) -> dict[str, str | int | None]:
    """`null_c-abc_30000_40000` -> null_kind c, source abc_30000_40000, youtube_id abc, start_ms and
    end_ms.

    A name of another form is its own source and YouTube id, and has no times.
    """
    match = _CLIP_NAME.fullmatch(clip_id)
    if match is None:
        return {
            "null_kind": None,
            "source": clip_id,
            "youtube_id": clip_id,
            "start_ms": None,
            "end_ms": None,
        }
    parts = match.groupdict()
    return {
        "null_kind": parts["null_kind"],
        "source": parts["source"],
        "youtube_id": parts["youtube_id"],
        "start_ms": int(parts["start"]),
        "end_ms": int(parts["end"]),
    }


def null_clip_id(clip_id: str) -> str:
    """The folder of a clip's null references, which borrow its frames and its sound."""
    return clip_id if clip_id.startswith("null_") else f"null_c-{clip_id}"


def lending_clip_id(clip_id: str) -> str:
    """The clip whose frames and sound a folder of null references borrows; any other is its own."""
    return re.sub(r"^null_[^-/]+-", "", clip_id)


def clip_rows(
    clip_id: str, split: str, sentences: Iterable[tuple[str, int, str]]
) -> list[Annotation]:
    """Rows of (sentence, fid, category), numbered within their category as the official ones
    are."""
    counts: Counter[str] = Counter()
    rows, vid = [], split_clip_id(clip_id)["source"]
    for text, fid, category in sentences:
        counts[category] += 1
        rows.append(
            Annotation(0, f"{clip_id}_{category}_{counts[category]}", vid, split, fid, text)
        )
    return rows


def read_annotations(path: str | Path) -> Annotations:
    """Read a metadata.csv, with or without a byte-order mark, LF or CRLF.

    Raises:
        ValueError: when the file as a whole cannot be read: no header, a column missing, no rows,
            not UTF-8.
        OSError: when it cannot be opened.
    """
    annotations = Annotations()
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_header(path, reader.fieldnames)
            for row in reader:
                _add_row(annotations, reader.line_num, row)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a UTF-8 csv file: {error}") from error
    if not (annotations.rows or annotations.leftovers or annotations.malformed):
        raise ValueError(f"{path} has a header and no rows")
    return annotations


def write_annotations(path: str | Path, rows: Iterable[Annotation]) -> None:
    """Write rows as the official archive does: five columns, CRLF, UTF-8."""
    with whole_file(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(CSV_COLUMNS)
        writer.writerows((row.vid, row.uid, row.split, row.fid, row.raw_expression) for row in rows)


def group_clips(rows: Iterable[Annotation]) -> list[Clip]:
    """Rows by split and clip, in the order in which the csv first names them."""
    groups: dict[tuple[str, str], list[Annotation]] = {}
    for row in rows:
        groups.setdefault((row.split, row.clip_id), []).append(row)
    return [Clip(clip_id, split, tuple(group)) for (split, clip_id), group in groups.items()]


def _check_header(path: str | Path, columns: Iterable[str] | None) -> None:
    if columns is None:
        raise ValueError(f"{path} is empty")
    missing = [name for name in CSV_COLUMNS if name not in columns]
    if missing:
        raise ValueError(
            f"{path} lacks the column {', '.join(missing)}: its header is {','.join(columns)}"
        )


def _add_row(annotations: Annotations, line: int, row: dict[str | None, str | None]) -> None:
    reason = _why_malformed(row)
    if reason is not None:
        annotations.malformed.append(MalformedRow(line, reason))
        return
    annotation = Annotation(line, row["uid"], row["vid"], row["split"], int(row["fid"]), row["exp"])
    leftover = annotation.split == LEFTOVER_SPLIT
    (annotations.leftovers if leftover else annotations.rows).append(annotation)


def _why_malformed(row: dict[str | None, str | None]) -> str | None:
    if None in row or None in row.values():
        return "the number of fields is not the header's"
    if row["split"] not in (*SPLITS, LEFTOVER_SPLIT):
        return f"split {row['split']!r} is none of {', '.join(SPLITS)}"
    parts = row["uid"].rsplit("_", 2)
    names_a_folder = (
        "/" not in row["uid"] and row["uid"].isprintable() and parts[0] not in (".", "..")
    )
    if len(parts) < 3 or not all(parts) or not names_a_folder:
        return f"uid {row['uid']!r} is not <clip>_<category>_<number>"
    fid = row["fid"]
    if (
        not (fid.isascii() and fid.isdigit())
        or len(fid) > len(str(LARGEST_FID))
        or int(fid) > LARGEST_FID
    ):
        return f"fid {fid[:40]!r} is not a number from 0 to {LARGEST_FID}"
    if not row["exp"].strip():
        return "the expression is empty"
    return None


PLACEHOLDER = "NO."  # 103 sentences of the released csv are just this
ERROR_PREFIX = "[Error]"  # what an annotation tool answered, kept as a sentence


def annotation_findings(annotations: Annotations, taxonomy: Taxonomy) -> Iterator[tuple[str, str]]:
    """Every irregularity of the csv as (code, where); `check_report.FINDINGS` says what the codes
    mean."""
    for row in annotations.malformed:
        yield "malformed_row", f"line {row.line}: {row.reason}"
    for row in annotations.leftovers:
        yield "leftover_row", f"line {row.line}: {row.uid}"
    rows = annotations.rows
    for row in rows:
        for code in _row_codes(row, taxonomy):
            yield code, f"line {row.line}: {row.uid}: {row.raw_expression!r}"
    yield from _repeated("duplicate_uid", rows, lambda row: row.uid)
    yield from _repeated(
        "duplicate_row",
        rows,
        lambda row: (row.uid, row.vid, row.split, row.fid, row.raw_expression),
    )
    # two sentences are one when they differ in spaces, `_`, capitals or the full stop
    sentence = lambda row: (row.clip_id, row.expression.lower().rstrip("."))  # noqa: E731
    yield from _divided("ambiguous_sentence", rows, sentence, lambda row: row.fid)
    yield from _divided(
        "two_categories", rows, lambda row: (row.clip_id, row.fid), lambda row: row.category
    )
    for clip_id, fids in _sets(rows, lambda row: row.clip_id, lambda row: row.fid).items():
        if len(fids) <= max(fids):
            yield "fid_gap", f"{clip_id}: fids {', '.join(map(str, sorted(fids)))}"
    for code, splits, name in leaks(rows):
        yield code, f"{splits}: {name}"


def leaks(rows: Iterable[Annotation]) -> Iterator[tuple[str, str, str]]:
    """Clips and YouTube videos that two splits share, as (code, splits, name).

    A null reference counts as the clip whose picture and sound it borrows.
    """
    sources = _sets(rows, lambda row: row.split, lambda row: split_clip_id(row.clip_id)["source"])
    videos = _sets(
        rows, lambda row: row.split, lambda row: split_clip_id(row.clip_id)["youtube_id"]
    )
    for one, other in itertools.combinations([split for split in SPLITS if split in sources], 2):
        for source in sorted(sources[one] & sources[other]):
            yield "leaked_clip", f"{one} and {other}", source
        for video in sorted(videos[one] & videos[other]):
            yield "leaked_video", f"{one} and {other}", video


def _row_codes(row: Annotation, taxonomy: Taxonomy) -> Iterator[str]:
    sentence = row.raw_expression
    name = split_clip_id(row.clip_id)
    if name["start_ms"] is None:
        yield "clip_name"
    if row.clip_id.startswith("-"):
        yield "dash_name"
    if row.vid != name["source"]:
        yield "vid_not_clip"
    if row.is_null and row.fid != 0:
        yield "null_fid"
    if row.is_null != (row.clip_id.startswith("null_")) or (
        row.split == "test_n" and not row.is_null
    ):
        yield "null_name"
    if not row.is_null and row.category not in taxonomy.categories:
        yield "unknown_category"
    if row.split != "test_u" and row.category in taxonomy.unseen:
        yield "unseen_in_other_split"
    if row.split == "test_u" and row.category not in taxonomy.unseen:
        yield "seen_in_test_u"
    if sentence.strip() == PLACEHOLDER:
        yield "placeholder_sentence"
    if sentence.startswith(ERROR_PREFIX):
        yield "error_sentence"
    if sentence != sentence.strip() or "  " in sentence:
        yield "untidy_spaces"
    if "_" in sentence:
        yield "underscore_for_space"


def _repeated(
    code: str, rows: Iterable[Annotation], key: Callable[[Annotation], Hashable]
) -> Iterator[tuple[str, str]]:
    for value, count in Counter(map(key, rows)).items():
        if count > 1:
            yield code, f"{value if isinstance(value, str) else value[0]} occurs {count} times"


def _divided(
    code: str, rows: Iterable[Annotation], key: Callable, value: Callable
) -> Iterator[tuple[str, str]]:
    for (clip_id, which), values in _sets(rows, key, value).items():
        if len(values) > 1:
            yield code, f"{clip_id}, {which!r}: {', '.join(sorted(map(str, values)))}"


def _sets(rows: Iterable[Annotation], key: Callable, value: Callable) -> dict[Hashable, set]:
    sets = defaultdict(set)
    for row in rows:
        sets[key(row)].add(value(row))
    return sets
