"""The paper's figures of the data set, drawn from counts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from modeling_refavs.utils.files import whole_file

from .schema import SPLITS
from .statistics import (
    CUE_WORDS,
    LONGEST_SHOWN,
    PAPER_COUNTS,
    PAPER_OBJECT_SHARES,
    Statistics,
    at_least,
)
from .taxonomy import PAPER_TAXONOMY


COLOURS = {
    "train": "#4477aa",
    "val": "#66ccee",
    "test_s": "#228833",
    "test_u": "#ee6677",
    "test_n": "#aaaaaa",
}
HERE, PAPER, INK = "#4477aa", "#ccbb44", "#333333"
DPI = 150


def draw_plots(statistics: Statistics, output: Path) -> list[Path]:
    """Draw every figure into `output`, each under a temporary name first.

    Raises:
        ValueError: when matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("plots need matplotlib: pip install matplotlib") from error
    drawings: dict[str, tuple[Callable[[Figure, Statistics], None], tuple[float, float]]] = {
        "splits": (_draw_splits, (9.2, 3.4)),
        "categories_by_split": (
            _draw_categories,
            (9, 2 + 0.21 * len(statistics.taxonomy.categories)),
        ),
        "objects_per_video": (_draw_objects, (7, 4)),
        "expressions": (_draw_expressions, (9.2, 4)),
        "co_occurrence": (_draw_co_occurrence, (9.2, 8.6)),
    }
    paths = []
    for name, (draw, size) in drawings.items():
        figure = Figure(figsize=size, dpi=DPI, layout="constrained")
        draw(figure, statistics)
        path = output / f"{name}.png"
        with whole_file(path) as unfinished:
            figure.savefig(unfinished, format="png")
        paths.append(path)
    return paths


def _draw_splits(figure, statistics: Statistics) -> None:
    paper = statistics.taxonomy == PAPER_TAXONOMY
    figure.suptitle(
        "Splits: this tree beside the paper's Table 2" if paper else "Splits", color=INK
    )
    for column, (axes, what) in enumerate(
        zip(figure.subplots(1, 3, sharey=True), ("videos", "objects", "expressions"), strict=True)
    ):
        here = [statistics.splits[split][column] for split in SPLITS]
        places = np.arange(len(SPLITS))
        bars = [(axes.barh(places - 0.2, here, 0.38, color=HERE, label="this tree"), here)]
        if paper:
            values = [PAPER_COUNTS[split][column] for split in SPLITS]
            bars.append((axes.barh(places + 0.2, values, 0.38, color=PAPER, label="paper"), values))
        for container, values in bars:
            axes.bar_label(
                container, [f"{value:,}" for value in values], padding=3, fontsize=8, color=INK
            )
        axes.set_yticks(places, SPLITS)
        axes.set_title(what, fontsize=10)
        _plain(axes, max(here) * 1.25)
    axes.invert_yaxis()
    axes.legend(loc="lower right", frameon=False, fontsize=8)


def _draw_categories(figure, statistics: Statistics) -> None:
    axes = figure.subplots()
    names = _by_group(statistics)
    left = np.zeros(len(names))
    for split in SPLITS[:-1]:  # test_n holds null references: no category
        counts = np.array([statistics.categories.get(name, {}).get(split, 0) for name in names])
        axes.barh(names, counts, left=left, color=COLOURS[split], label=split)
        left += counts
    for place, (name, total) in enumerate(zip(names, left, strict=True)):
        star = " unseen" if name in statistics.taxonomy.unseen else ""
        axes.annotate(
            f"{total:,.0f}{star}",
            (total, place),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=INK,
        )
    _mark_groups(axes, statistics, names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", labelsize=8)
    figure.suptitle('Expressions of each category, by split ("unseen": kept for test_u)', color=INK)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(SPLITS), frameon=False)
    _plain(axes, left.max(initial=1) * 1.22)


def _draw_objects(figure, statistics: Statistics) -> None:
    axes = figure.subplots()
    counts = statistics.objects_per_video
    numbers = list(range(1, max(counts, default=1) + 1))
    shares = [at_least(counts, number) for number in numbers]
    bars = axes.bar(numbers, shares, 0.6, color=HERE, label="this tree")
    axes.bar_label(bars, [f"{share:.1%}" for share in shares], padding=2, fontsize=8, color=INK)
    if statistics.taxonomy == PAPER_TAXONOMY:
        for number, share in PAPER_OBJECT_SHARES.items():
            label = "paper" if number == 2 else None
            axes.hlines(share, number - 0.42, number + 0.42, color=PAPER, linewidth=3, label=label)
            axes.annotate(
                f"{share:.0%}", (number + 0.44, share), va="center", fontsize=8, color=INK
            )
        axes.legend(frameon=False)
    axes.set_xticks(numbers, [f"{number}+" for number in numbers])
    axes.set_xlabel("objects that sentences refer to in a clip")
    axes.set_ylabel("share of clips")
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_title(
        f"Objects a video ({sum(counts.values()):,} clips that hold an object)", color=INK
    )
    axes.spines[["top", "right"]].set_visible(False)


def _draw_expressions(figure, statistics: Statistics) -> None:
    lengths_axes, cues_axes = figure.subplots(1, 2)
    total = max(sum(statistics.lengths.values()), 1)
    words = range(1, LONGEST_SHOWN + 1)
    counts = [statistics.lengths[length] for length in words]
    counts[-1] += sum(
        count for length, count in statistics.lengths.items() if length > LONGEST_SHOWN
    )
    lengths_axes.bar(words, counts, color=HERE)
    for edge in (4.5, 8.5, 12.5):
        lengths_axes.axvline(edge, color=INK, linewidth=0.8, linestyle=":")
    lengths_axes.set_xticks(
        [1, 4, 8, 12, 16, 20, LONGEST_SHOWN], [1, 4, 8, 12, 16, 20, f"{LONGEST_SHOWN}+"]
    )
    lengths_axes.set_xlabel("words (dotted: the paper's groups, up to 4, 8, 12 and more)")
    lengths_axes.set_ylabel("expressions")
    lengths_axes.set_title("Length of an expression", color=INK)
    lengths_axes.spines[["top", "right"]].set_visible(False)
    shares = [statistics.cues[cue] / total for cue in CUE_WORDS] + [
        statistics.cues_per_sentence[0] / total
    ]
    bars = cues_axes.barh([*CUE_WORDS, "none of these"], shares, color=HERE)
    cues_axes.bar_label(
        bars, [f"{share:.0%}" for share in shares], padding=3, fontsize=9, color=INK
    )
    cues_axes.invert_yaxis()
    cues_axes.set_title("Expressions that speak of each cue (by key words)", color=INK)
    _plain(cues_axes, max(shares) * 1.15)


def _draw_co_occurrence(figure, statistics: Statistics) -> None:
    from matplotlib.colors import LogNorm

    axes = figure.subplots()
    names = _by_group(statistics)
    place = {name: index for index, name in enumerate(names)}
    clips = np.zeros((len(names), len(names)))
    for (one, other), count in statistics.co_occurrence.items():
        clips[place[one], place[other]] = clips[place[other], place[one]] = count
    image = axes.imshow(
        np.where(clips > 0, clips, np.nan),
        cmap="viridis_r",
        norm=LogNorm(1, max(clips.max(initial=0), 2)),
    )
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    for start, _, _ in _groups(statistics, names)[1:]:
        axes.axhline(start - 0.5, color=INK, linewidth=0.6)
        axes.axvline(start - 0.5, color=INK, linewidth=0.6)
    figure.colorbar(
        image, shrink=0.7, format="{x:g}", label="clips in which both are referred to (white: none)"
    )
    axes.set_title("Categories that meet in a clip, by super-category", color=INK)


def _by_group(statistics: Statistics) -> list[str]:
    """Categories by super-category, the frequent first; those that the taxonomy does not know come
    last."""
    taxonomy = statistics.taxonomy
    groups = list(dict.fromkeys(taxonomy.categories.values()))
    counted = {
        name: sum(statistics.categories.get(name, {}).values()) for name in taxonomy.categories
    }
    known = sorted(
        counted, key=lambda name: (groups.index(taxonomy.categories[name]), -counted[name])
    )
    return known + sorted(statistics.categories.keys() - counted.keys() - {"null"})


def _groups(statistics: Statistics, names: list[str]) -> list[tuple[int, int, str]]:
    """Runs of one super-category as (first, last, super-category)."""
    runs: list[tuple[int, int, str]] = []
    for index, name in enumerate(names):
        group = statistics.taxonomy.super_category(name) or "unknown"
        if runs and runs[-1][2] == group:
            runs[-1] = (runs[-1][0], index, group)
        else:
            runs.append((index, index, group))
    return runs


def _mark_groups(axes, statistics: Statistics, names: list[str]) -> None:
    for first, last, group in _groups(statistics, names):
        if first:
            axes.axhline(first - 0.5, color=INK, linewidth=0.6)
        axes.text(
            0.98,
            (first + last) / 2,
            group,
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="center",
            fontsize=11,
            color="#888888",
        )


def _plain(axes, right: float) -> None:
    axes.set_xlim(0, max(right, 1e-9))
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
