"""The course of a training as one picture."""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from ..utils.files import whole_file


CURVES_FILE = "curves.png"
LOSSES = {
    "loss": ("all", "#333333"),
    "loss_mask": ("masks, BCE", "#4477aa"),
    "loss_dice": ("masks, Dice", "#228833"),
    "loss_cross_entropy": ("class", "#ccbb44"),
    "loss_cue": ("cues", "#aa3377"),
    "loss_iou": ("IoU", "#66ccee"),
    "eval_loss": ("validation", "#ee6677"),
}
RATE = {"learning_rate": ("learning rate", "#4477aa")}
SCORES = {
    "eval_jaccard": ("J (higher is better)", "#228833"),
    "eval_null": ("S (lower is better)", "#ee6677"),
}
PANELS = (("loss", LOSSES, 3.4), ("learning rate", RATE, 1.4), ("validation", SCORES, 2.2))
WIDTH, DPI = 8, 110  # inches, which a README shows at about their size

Log = Sequence[dict[str, Any]]


def draw_curves(stages: Sequence[tuple[str, Log]], path: str | Path) -> None:
    """Parts of the loss, the learning rate, J and S of the validation split over the steps, as a
    PNG: stage after stage, panels without a curve left out.

    Args:
        stages: name and log of each stage, in order; a log is the `log_history` of a
            `TrainerState`.
    """
    lengths = [max((entry["step"] for entry in log), default=0) for _, log in stages]
    begins = [0, *accumulate(lengths)]
    keys = {key for _, log in stages for entry in log for key in entry}
    panels = [panel for panel in PANELS if keys & panel[1].keys()] or PANELS[:1]
    heights = [height for _, _, height in panels]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.5), dpi=DPI, layout="constrained")
    axes = figure.subplots(len(panels), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (title, curves, _) in zip(axes, panels, strict=True):
        for begin, (_, log) in zip(begins, stages, strict=False):
            _draw_curves(axis, curves, log, begin)
        _finish_panel(axis, title, begins[1:-1])
    axes[-1].set_xlabel("step")
    axes[-1].xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    if len(stages) > 1:
        _use_logarithms(axes[0])  # stages have losses of their own
        for begin, (name, _) in zip(begins, stages, strict=False):
            axes[0].annotate(
                name,
                (begin, 1),
                (3, 4),
                xycoords=("data", "axes fraction"),
                fontsize=9,
                textcoords="offset points",
            )
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, format="png")


def _draw_curves(axis: Axes, curves: dict[str, tuple[str, str]], log: Log, begin: int) -> None:
    drawn = {line.get_label() for line in axis.lines}
    for key, (label, colour) in curves.items():
        points = [(begin + entry["step"], entry[key]) for entry in log if key in entry]
        if points:
            axis.plot(
                *zip(*points, strict=True),
                label=label if label not in drawn else None,
                color=colour,
                marker="." if len(points) < 30 else None,
            )


def _use_logarithms(axis: Axes) -> None:
    values = np.concatenate([line.get_ydata() for line in axis.lines] or [[]])
    values = values[values > 0]
    axis.set_yscale("log")
    if values.size:
        axis.set_ylim(values.min() / 1.2, values.max() * 1.2)
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())


def _finish_panel(axis: Axes, title: str, borders: Sequence[int]) -> None:
    axis.set_ylabel(title)
    axis.set_ylim(0, 1.05 * axis.get_ylim()[1])
    for border in borders:
        axis.axvline(border, color="#999999", linestyle="--", linewidth=0.8)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    if axis.lines:  # beside the curves, clear of them
        axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
