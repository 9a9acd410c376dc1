"""A benchmark as one picture: the settings of each workload, and where the time of a forward goes."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..media.writing import whole_file


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
DPI = 110


def draw_benchmark(report: dict[str, Any], path: str | Path) -> None:
    """
    Args:
        report: what `refavs benchmark` writes as JSON.
    """
    panels = [*report["timed"], *(["parts"] if "parts" in report else [])]
    if not panels:
        return
    figure = Figure(figsize=(4.4 * len(panels), 3.6), dpi=DPI, layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        if panel == "parts":
            parts = {name: part for name, part in report["parts"].items() if name != "whole"}
            seconds = {name: part["seconds"] for name, part in parts.items()}
            notes = [f"{part['share']:.0%}" for part in parts.values()]
            _draw_bars(axes, "where the time goes", seconds, notes, ["#4477aa"] * len(seconds))
        else:
            settings = report["timed"][panel]
            seconds = {name: values["fastest"] for name, values in settings.items()}
            notes = [f"{value:.2f} s, {settings[name]['peak_gib']:.1f} GiB" for name, value in seconds.items()]
            _draw_bars(axes, panel, seconds, notes, [COLOURS[name] for name in seconds])
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, format="png")


def _draw_bars(axes: Axes, title: str, seconds: dict[str, float], notes: list[str], colours: list[str]) -> None:
    bars = axes.barh(list(seconds), list(seconds.values()), color=colours)
    axes.bar_label(bars, notes, padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.45)
    axes.set_title(title)
    axes.set_xlabel("seconds")
