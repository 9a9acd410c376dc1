"""`refavs benchmark`: its arguments, what it measures, and the files that it leaves."""

import json
import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..utils.files import whole_file
from ..utils.markdown import table
from .parts import Options, measure_memory, measure_parts, measure_peak, measure_reading, take_turns
from .workloads import SETTINGS, UNABLE


RELEASED = ("released", "released_once")
LIVE, PARTS, READING, MEMORY = "live", "parts", "reading", "memory"
FORWARD = ("one", "several", "clip")
TIMED = (*FORWARD, "training", LIVE)
REPORT, PLOT = "benchmark.json", "benchmark.png"


def run_benchmark(
    parts: Sequence[str], settings: Sequence[str], options: Options, repeats: int, output: Path
) -> str:
    """Time the parts; leave benchmark.json and benchmark.png in `output`. Returns the tables as
    Markdown.

    Args:
        parts: of `TIMED`, and `parts`, `reading` and `memory`.
        settings: names out of `SETTINGS`; the others are held against the first.
        options: what all settings have in common.
        repeats: turns after a first that is not counted; the fastest counts.
        output: a folder.

    Raises:
        ValueError: a setting that is not known, or numbers that cannot be.
    """
    for name in ("frames", "sentences", "size", "threads"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(options, name)}")
    if repeats < 1:
        raise ValueError(f"--repeats must be at least 1, got {repeats}")
    asked = settings
    settings = [name for name in asked if options.model is None or name not in RELEASED]
    if unknown := [name for name in settings if name not in SETTINGS]:
        raise ValueError(f"--settings {unknown[0]}: must be of {', '.join(SETTINGS)}")
    device = options.device
    report: dict[str, Any] = {
        "machine": _machine(device, options.threads),
        "options": vars(options),
        "timed": {},
    }
    output.mkdir(parents=True, exist_ok=True)
    for part in parts:
        if part in TIMED:
            able = [name for name in settings if name not in UNABLE.get(part, ())]
            if not able:
                raise ValueError(f"--part {part}: none of --settings {' '.join(asked)} can do it")
            report["timed"][part] = take_turns(part, able, options, repeats)
        elif part == PARTS:
            report[PARTS] = measure_parts(options, repeats)
        elif part == MEMORY:
            report[MEMORY] = measure_memory(options)
        else:
            report[READING] = measure_reading(options)
        report["machine"].setdefault("peak", measure_peak(device))
        with whole_file(output / REPORT) as unfinished:
            unfinished.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    draw_benchmark(report, output / PLOT)
    return benchmark_text(report)


def benchmark_text(report: dict[str, Any]) -> str:
    """The tables of a report."""
    frames, sentences, tables = report["options"]["frames"], report["options"]["sentences"], []
    for part, settings in report["timed"].items():
        each = {
            name: per_sentence(part, name, values["fastest"], sentences)
            for name, values in settings.items()
        }
        first = next(iter(each.values()))
        title = f"{part}, seconds a sentence" if part == "training" else f"{part}, seconds"
        rows = [
            (name, f"{each[name]:.4f}", f"{first / each[name]:.2f}", f"{values['peak_gib']:.1f}")
            for name, values in settings.items()
        ]
        head = (title, "fastest", "times as fast", "peak memory, GiB")
        if part in FORWARD:
            head, rows = (
                (*head, "frames a second"),
                [(*row, f"{frames / each[row[0]]:.1f}") for row in rows],
            )
        tables.append(table(head, rows))
    if PARTS in report:
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
        tables.append(
            table((f"parts, {sentences} sentences", "seconds", "share", "TFLOP", "of peak"), rows)
        )
    if READING in report:
        tables.append(
            table(("reading, seconds a second of video", ""), list(report[READING].items()))
        )
    if MEMORY in report:
        head = tuple(name.replace("_", " ") for name in report[MEMORY][0])
        tables.append(table(head, [tuple(video.values()) for video in report[MEMORY]]))
    return "\n\n".join(tables)


def per_sentence(part: str, setting: str, seconds: float, sentences: int) -> float:
    """Of a training step, which is one sentence's with the released model; all other seconds as
    they are."""
    return seconds / sentences if part == "training" and setting not in RELEASED else seconds


def _machine(device: str, threads: int) -> dict[str, Any]:
    import torch

    facts = {
        "processor": platform.processor() or platform.machine(),
        "threads": threads,
        "torch": torch.__version__,
    }
    return (
        {**facts, "gpu": torch.cuda.get_device_name(device)} if device.startswith("cuda") else facts
    )


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
    "clip": "frames and sound to masks, {sentences} sentences",
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
                name: per_sentence(panel, name, values["fastest"], sentences)
                for name, values in settings.items()
            }
            notes = [
                f"{value:.2f} s, {settings[name]['peak_gib']:.1f} GiB"
                for name, value in seconds.items()
            ]
            _draw_bars(axes, title, seconds, notes, [COLOURS[name] for name in seconds])
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, format="png")


def _draw_bars(
    axes: Axes, title: str, seconds: dict[str, float], notes: list[str], colours: list[str]
) -> None:
    bars = axes.barh(list(seconds), list(seconds.values()), color=colours)
    axes.bar_label(bars, notes, padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.45)
    axes.set_title(title)
    axes.set_xlabel("seconds")
