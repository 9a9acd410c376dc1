"""The course of a training as one picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..utils.files import whole_file


CURVES_FILE = "curves.png"
LOSSES = {
    "loss": ("loss", "#333333"),
    "loss_mask": ("masks, BCE", "#4477aa"),
    "loss_dice": ("masks, Dice", "#228833"),
    "loss_cross_entropy": ("class", "#ccbb44"),
    "loss_cue": ("cues", "#aa3377"),
    "eval_loss": ("validation", "#ee6677"),
}
RATE = {"learning_rate": ("learning rate", "#4477aa")}
SCORES = {
    "eval_jaccard": ("J (higher is better)", "#228833"),
    "eval_null": ("S (lower is better)", "#ee6677"),
}
SIZE, DPI = (9.2, 3.8), 150  # inches: read at half of its pixels

Log = Sequence[dict[str, Any]]


def draw_curves(log_history: Log, path: str | Path) -> None:
    """Parts of the loss, the learning rate, J and S of the validation split over the steps, as a
    PNG.

    Args:
        log_history: of a `TrainerState`, as trainer_state.json has it.
    """
    panels = {"loss": LOSSES, "learning rate": RATE, "validation": SCORES}
    logged = {key for entry in log_history for key in entry}
    panels = {title: curves for title, curves in panels.items() if logged & curves.keys()}
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    for number, (title, curves) in enumerate(panels.items(), start=1):
        _draw_panel(figure.add_subplot(1, len(panels), number), title, curves, log_history)
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, format="png")


def _draw_panel(
    axes: Axes, title: str, curves: dict[str, tuple[str, str]], log_history: Log
) -> None:
    for key, (label, colour) in curves.items():
        points = [(entry["step"], entry[key]) for entry in log_history if key in entry]
        if points:
            axes.plot(
                *zip(*points, strict=True),
                label=label,
                color=colour,
                marker="." if len(points) < 30 else None,
            )
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(
            frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2
        )  # below, clear of the curves
