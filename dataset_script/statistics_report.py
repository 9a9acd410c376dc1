"""Counts as Markdown beside the paper's figures, with the plots of `plots.py`."""

from pathlib import Path

from modeling_refavs.utils.files import whole_file

from .plots import draw_plots
from .schema import NUM_FRAMES, SPLITS
from .statistics import (
    CUE_WORDS,
    LENGTH_BINS,
    PAPER_COUNTS,
    PAPER_OBJECT_SHARES,
    Statistics,
    at_least,
    count_tree,
    length_bin,
)
from .taxonomy import NULL_CATEGORY, PAPER_TAXONOMY


MOST_SHOWN = 12  # pairs of categories in the table; the plot shows all


def write_statistics(path: str | Path, output: str | Path, progress: bool = False) -> str:
    """Count the tree or csv at `path`; write statistics.md and its plots into `output`; return the
    Markdown.

    Raises:
        ValueError: when there is no csv to be read, or `output` is a file.
    """
    statistics, output = count_tree(path, progress), Path(output)
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file: give a folder for statistics.md and its plots")
    output.mkdir(parents=True, exist_ok=True)
    plots = draw_plots(statistics, output)
    text = statistics_text(statistics)
    pictures = "\n".join(f"![{plot.stem.replace('_', ' ')}]({plot.name})\n" for plot in plots)
    with whole_file(output / "statistics.md") as unfinished:
        unfinished.write_text(f"{text}\n{pictures}", encoding="utf-8")
    return text


def statistics_text(statistics: Statistics) -> str:
    parts = [
        "# What this tree holds\n",
        _left_aside(statistics),
        _table_2(statistics),
        _table_1(statistics),
    ]
    parts += [
        _objects(statistics),
        _sentences(statistics),
        _categories(statistics),
        _pairs(statistics),
    ]
    return "\n".join(parts)


def _is_ref_avs(statistics: Statistics) -> bool:
    return statistics.taxonomy == PAPER_TAXONOMY


def _left_aside(statistics: Statistics) -> str:
    return (
        f"Skipped: {statistics.leftovers} leftover rows (split TODO, in none of the paper's "
        "splits), "
        f"{statistics.malformed} malformed rows (`refavs dataset check` names them).\n"
    )


def _table_2(statistics: Statistics) -> str:
    paper = _is_ref_avs(statistics)
    lines = ["## Splits (the paper's Table 2)\n", "A video is a clip, an object a (clip, fid)."]
    if paper:
        lines.append("In brackets: the difference to the paper's figure.")
    lines += ["\n| split | videos | objects | expressions |", "|---|---|---|---|"]
    for split in (*SPLITS, "all"):
        lines.append(
            _counts_line(split, statistics.splits[split], PAPER_COUNTS[split] if paper else None)
        )
        if split == "test_u" and statistics.unseen_only != statistics.splits["test_u"]:
            reference = PAPER_COUNTS["test_u"] if paper else None
            lines.append(
                _counts_line("test_u, unseen categories only", statistics.unseen_only, reference)
            )
    return "\n".join(lines) + "\n"


def _counts_line(name: str, counts: tuple[int, ...], paper: tuple[int, ...] | None) -> str:
    cells = [f"{count:,}" for count in counts]
    if paper:
        cells = [
            f"{cell} ({count - one:+,})"
            for cell, count, one in zip(cells, counts, paper, strict=True)
        ]
    return f"| {name} | {' | '.join(cells)} |"


def _table_1(statistics: Statistics) -> str:
    videos, objects, sentences = statistics.splits["all"]
    media, paper = statistics.media, PAPER_COUNTS["all"]
    rows = [
        ("videos", f"{videos:,}", f"{paper[0]:,}"),
        (
            "frames",
            f"{media.frames:,}" if media else "not counted: no media here",
            f"{NUM_FRAMES * paper[0]:,}",
        ),
        ("objects", f"{objects:,}", f"{paper[1]:,}"),
        ("expressions", f"{sentences:,}", f"{paper[2]:,}"),
        ("objects a video", _ratio(objects, videos), _ratio(paper[1], paper[0])),
        ("expressions an object", _ratio(sentences, objects), _ratio(paper[2], paper[1])),
    ]
    if media:
        rows += [
            ("masks", f"{media.masks:,}", "-"),
            ("sounds", f"{media.sounds:,}, {media.sound_seconds / 3600:.2f} hours", "-"),
            ("frame sizes", _most_common(media.frame_sizes), "-"),
            ("sampling rates, Hz", _most_common(media.sampling_rates), "-"),
            ("files missing or unreadable", f"{media.unreadable:,}", "-"),
        ]
    lines = ["## As a whole (the data set's row of the paper's Table 1)\n"]
    if _is_ref_avs(statistics):
        lines += ["The paper's frames and ratios are computed from its Table 2.\n"]
        lines += [
            "| what | here | paper |",
            "|---|---|---|",
            *(f"| {a} | {b} | {c} |" for a, b, c in rows),
        ]
    else:
        lines += ["| what | here |", "|---|---|", *(f"| {a} | {b} |" for a, b, _ in rows)]
    return "\n".join(lines) + "\n"


def _objects(statistics: Statistics) -> str:
    counts = statistics.objects_per_video
    lines = [
        "## Objects a video\n",
        f"Over the {sum(counts.values()):,} clips that hold an object.\n",
    ]
    lines += ["| at least | clips | share | paper |", "|---|---|---|---|"]
    for number in range(1, max(counts, default=0) + 1):
        share = at_least(counts, number)
        paper = PAPER_OBJECT_SHARES.get(number) if _is_ref_avs(statistics) else None
        clips = sum(count for value, count in counts.items() if value >= number)
        lines.append(
            f"| {number} | {clips:,} | {share:.0%} | {'-' if paper is None else f'{paper:.0%}'} |"
        )
    return "\n".join(lines) + "\n"


def _sentences(statistics: Statistics) -> str:
    total = max(sum(statistics.lengths.values()), 1)
    words = sum(length * count for length, count in statistics.lengths.items())
    bins = dict.fromkeys(LENGTH_BINS, 0)
    for length, count in statistics.lengths.items():
        bins[length_bin(length)] += count
    lines = [
        "## Expressions\n",
        f"{words / total:.1f} words on average, {max(statistics.lengths, default=0)} at most.\n",
    ]
    lines += ["| words | expressions | share |", "|---|---|---|"]
    lines += [f"| {name} | {count:,} | {count / total:.0%} |" for name, count in bins.items()]
    lines += [
        "\nCues, estimated by lists of words (the csv does not label them; a sentence may have "
        "several):\n"
    ]
    lines += ["| cue | expressions | share |", "|---|---|---|"]
    lines += [
        f"| {c} | {statistics.cues[c]:,} | {statistics.cues[c] / total:.0%} |" for c in CUE_WORDS
    ]
    lines += [
        f"| none of these | {statistics.cues_per_sentence[0]:,} | "
        f"{statistics.cues_per_sentence[0] / total:.0%} |"
    ]
    lines += [
        "\nGrades of difficulty (the paper: 20 % easy, 60 % medium, 20 % hard) are not in the csv: "
        "not counted."
    ]
    return "\n".join(lines) + "\n"


def _categories(statistics: Statistics) -> str:
    lines = ["## Categories by split\n", "Expressions; * marks the categories kept for test_u.\n"]
    lines += [
        f"| category | super-category | {' | '.join(SPLITS)} | all |",
        f"|---|---|{'---|' * (len(SPLITS) + 1)}",
    ]
    known = list(statistics.taxonomy.categories)
    unknown = sorted(statistics.categories.keys() - set(known) - {NULL_CATEGORY})
    for category in [*known, *unknown, NULL_CATEGORY]:
        counts = statistics.categories.get(category, dict.fromkeys(SPLITS, 0))
        star = "*" if category in statistics.taxonomy.unseen else ""
        group = statistics.taxonomy.super_category(category) or "-"
        cells = " | ".join(f"{counts[split]:,}" for split in SPLITS)
        lines.append(f"| {category}{star} | {group} | {cells} | {sum(counts.values()):,} |")
    return "\n".join(lines) + "\n"


def _pairs(statistics: Statistics) -> str:
    lines = [f"## Categories that meet in a clip (the {MOST_SHOWN} most frequent pairs)\n"]
    lines += ["| pair | clips |", "|---|---|"]
    lines += [
        f"| {a}, {b} | {count:,} |"
        for (a, b), count in statistics.co_occurrence.most_common(MOST_SHOWN)
    ]
    return "\n".join(lines) + "\n"


def _ratio(one: int, other: int) -> str:
    return f"{one / other:.2f}" if other else "-"


def _most_common(counts) -> str:
    shown = ", ".join(f"{value} ({count:,})" for value, count in counts.most_common(3))
    return shown + (f" and {len(counts) - 3} more" if len(counts) > 3 else "")
