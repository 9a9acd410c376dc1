"""The report of `refavs benchmark`: its measurements as JSON, as Markdown tables and as a plot."""

import json
import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..utils.files import table, whole_file
from .parts import (
    Options,
    measure_memory,
    measure_parts,
    measure_peak,
    measure_reading,
    measure_rendering,
    take_turns,
)
from .workloads import SETTINGS, UNSUPPORTED


RELEASED = ("released", "released_once")
LIVE, PARTS, READING, MEMORY = "live", "parts", "reading", "memory"
RENDERING = "rendering"
FORWARD = ("one", "several", "clip")
TIMED = (*FORWARD, "training", LIVE)
REPORT, PLOT = "benchmark.json", "benchmark.png"
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
COLUMNS, WIDTH, DPI = 2, 9.2, 150  # WIDTH in inches: read at half of its pixels


def run_benchmark(
    parts: Sequence[str], settings: Sequence[str], options: Options, repeats: int, output: Path
) -> str:
    """Measure the parts; write benchmark.json and benchmark.png.

    Args:
        parts: names out of `TIMED`, and `parts`, `reading`, `memory` and `rendering`.
        settings: names out of `SETTINGS`; the others are compared with the first.
        options: what all settings have in common.
        repeats: turns after a first that is not counted; the fastest counts.
        output: a folder.

    Returns:
        The tables as Markdown.

    Raises:
        ValueError: a setting is unknown, a number is out of range, or no setting can run a part.
    """
    usable = _check(settings, options, repeats)
    report: dict[str, Any] = {
        "machine": _machine(options.device, options.threads),
        "options": vars(options),
        "timed": {},
    }
    output.mkdir(parents=True, exist_ok=True)
    for part in parts:
        if part in TIMED:
            able = [name for name in usable if name not in UNSUPPORTED.get(part, ())]
            if not able:
                raise ValueError(
                    f"--part {part}: none of --settings {' '.join(settings)} can do it"
                )
            report["timed"][part] = take_turns(part, able, options, repeats)
        elif part == PARTS:
            report[PARTS] = measure_parts(options, repeats)
        elif part == MEMORY:
            report[MEMORY] = measure_memory(options)
        elif part == RENDERING:
            report[RENDERING] = measure_rendering(options, repeats)
        else:
            report[READING] = measure_reading(options)
        report["machine"].setdefault("peak", measure_peak(options.device))
        with whole_file(output / REPORT) as unfinished:
            unfinished.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    draw_benchmark(report, output / PLOT)
    return benchmark_text(report)


def _check(settings: Sequence[str], options: Options, repeats: int) -> list[str]:
    """The settings that are timed: a saved model has no released one beside it."""
    for name in ("frames", "sentences", "size", "threads"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(options, name)}")
    if repeats < 1:
        raise ValueError(f"--repeats must be at least 1, got {repeats}")
    settings = [name for name in settings if options.model is None or name not in RELEASED]
    if unknown := [name for name in settings if name not in SETTINGS]:
        raise ValueError(f"--settings {unknown[0]}: must be of {', '.join(SETTINGS)}")
    return settings


def _machine(device: str, threads: int) -> dict[str, Any]:
    facts = {
        "processor": platform.processor() or platform.machine(),
        "threads": threads,
        "torch": torch.__version__,
    }
    if device.startswith("cuda"):
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def benchmark_text(report: dict[str, Any]) -> str:
    """The tables of a report, as Markdown."""
    options = report["options"]
    tables = [
        _timed_table(part, settings, options["frames"], options["sentences"])
        for part, settings in report["timed"].items()
    ]
    if PARTS in report:
        title = f"parts, {options['sentences']} sentences"
        rows = [
            (
                name,
                f"{part['seconds']:.4f}",
                f"{part['share']:.0%}",
                f"{part['tflop']:.3f}",
                f"{part['of_peak']:.0%}",
            )
            for name, part in report[PARTS].items()
        ]
        tables.append(table((title, "seconds", "share", "TFLOP", "of peak"), rows))
    if READING in report:
        rows = list(report[READING].items())
        tables.append(table(("reading, seconds a second of video", ""), rows))
    for part in (MEMORY, RENDERING):
        if part in report:
            head = [name.replace("_", " ") for name in report[part][0]]
            tables.append(table(head, [list(row.values()) for row in report[part]]))
    return "\n\n".join(tables)


def _timed_table(part: str, settings: dict[str, Any], frames: int, sentences: int) -> str:
    """A row for each setting; the first is what the others are compared with."""
    seconds = {
        name: per_sentence(part, name, values["fastest"], sentences)
        for name, values in settings.items()
    }
    first = next(iter(seconds.values()))
    title = f"{part}, seconds a sentence" if part == "training" else f"{part}, seconds"
    head = [title, "fastest", "times as fast", "peak memory, GiB"]
    rows = [
        [name, f"{value:.4f}", f"{first / value:.2f}", f"{settings[name]['peak_gib']:.1f}"]
        for name, value in seconds.items()
    ]
    if part in FORWARD:
        head.append("frames a second")
        for row, value in zip(rows, seconds.values(), strict=True):
            row.append(f"{frames / value:.1f}")
    return table(head, rows)


def per_sentence(part: str, setting: str, seconds: float, sentences: int) -> float:
    """The seconds that are reported: those of a training step are divided by its number of
    sentences, which is one with the released model."""
    return seconds / sentences if part == "training" and setting not in RELEASED else seconds


def draw_benchmark(report: dict[str, Any], path: str | Path) -> None:
    """Plot a report, a panel for each timed workload and one for the parts.

    Args:
        report: what `refavs benchmark` writes as JSON.
        path: a PNG file; nothing is written where there is nothing to plot.
    """
    panels = [*report["timed"], *([PARTS] if PARTS in report else [])]
    if not panels:
        return
    sentences, columns = report["options"]["sentences"], min(len(panels), COLUMNS)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(WIDTH, 2.6 * rows), dpi=DPI, layout="constrained")
    grid = figure.add_gridspec(rows, columns)
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        is_alone = column == 0 and number == len(panels) - 1  # in the last row: it takes all of it
        axes = figure.add_subplot(grid[row, :] if is_alone else grid[row, column])
        axes.set_title(TITLES[panel].format(sentences=sentences))
        if panel == PARTS:
            _draw_parts(axes, report[PARTS])
        else:
            _draw_settings(axes, panel, report["timed"][panel], sentences)
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, format="png")


def _draw_parts(axes: Axes, parts: dict[str, Any]) -> None:
    parts = {name: part for name, part in parts.items() if name != "whole"}
    seconds = {name: part["seconds"] for name, part in parts.items()}
    notes = [f"{part['share']:.0%}" for part in parts.values()]
    _draw_bars(axes, seconds, notes, [COLOURS["eemc"]] * len(seconds))


def _draw_settings(axes: Axes, part: str, settings: dict[str, Any], sentences: int) -> None:
    seconds = {
        name: per_sentence(part, name, values["fastest"], sentences)
        for name, values in settings.items()
    }
    notes = [
        f"{value:.2f} s, {settings[name]['peak_gib']:.1f} GiB" for name, value in seconds.items()
    ]
    _draw_bars(axes, seconds, notes, [COLOURS[name] for name in seconds])


def _draw_bars(axes: Axes, seconds: dict[str, float], notes: list[str], colours: list[str]) -> None:
    bars = axes.barh(list(seconds), list(seconds.values()), color=colours)
    axes.bar_label(bars, notes, padding=3, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.invert_yaxis()
    axes.margins(x=0.45)
    axes.set_xlabel("seconds")
