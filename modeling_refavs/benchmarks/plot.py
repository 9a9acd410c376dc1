"""A benchmark as one picture: the settings of each workload, and where the time of a forward goes."""

import math
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..media.writing import whole_file
from .command import per_sentence


COLOURS = {
    "released": "#bbbbbb",
    "released_once": "#888888",
    "plain": "#ccbb44",
    "eemc": "#4477aa",
    "checkpointed": "#ee6677",
    "bf16": "#66ccee",
    "graphs": "#004488",
    "int8": "#228833",
    "compiled": "#aa3377",
}
TITLES = {
    "one": "one sentence",
    "several": "{sentences} sentences",
    "clip": "pictures and sound to masks, {sentences} sentences",
    "training": "a training step, a sentence",
    "live": "one more second, live",
    "parts": "where the time goes",
}
COLUMNS, DPI = 3, 110


def draw_benchmark(report: dict[str, Any], path: str | Path) -> None:
    """
    Args:
        report: what `refavs benchmark` writes as JSON.
    """
    panels = [*report["timed"], *(["parts"] if "parts" in report else [])]
    if not panels:
        return
    sentences, columns = report["options"]["sentences"], min(len(panels), COLUMNS)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(4.4 * columns, 3 * rows), dpi=DPI, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes, panel in zip(grid, panels, strict=False):
        title = TITLES[panel].format(sentences=sentences)
        if panel == "parts":
            parts = {name: part for name, part in report["parts"].items() if name != "whole"}
            seconds = {name: part["seconds"] for name, part in parts.items()}
            notes = [f"{part['share']:.0%}" for part in parts.values()]
            _draw_bars(axes, title, seconds, notes, ["#4477aa"] * len(seconds))
        else:
            settings = report["timed"][panel]
            seconds = {
                name: per_sentence(panel, name, values["fastest"], sentences) for name, values in settings.items()
            }
            notes = [f"{value:.2f} s, {settings[name]['peak_gib']:.1f} GiB" for name, value in seconds.items()]
            _draw_bars(axes, title, seconds, notes, [COLOURS[name] for name in seconds])
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, format="png")


def _draw_bars(axes: Axes, title: str, seconds: dict[str, float], notes: list[str], colours: list[str]) -> None:
    bars = axes.barh(list(seconds), list(seconds.values()), color=colours)
    axes.bar_label(bars, notes, padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.45)
    axes.set_title(title)
    axes.set_xlabel("seconds")
