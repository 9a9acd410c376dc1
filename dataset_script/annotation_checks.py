"""What is irregular in metadata.csv itself, without looking at any file."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator

from .annotations import Annotation, Annotations, split_clip_id
from .schema import SPLITS
from .taxonomy import Taxonomy


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
