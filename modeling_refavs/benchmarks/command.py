"""`refavs benchmark`: its arguments, what it measures, and the files that it leaves."""

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any


RELEASED = ("released", "released_once")
LIVE, PARTS, READING = "live", "parts", "reading"
FORWARD = ("one", "several", "clip")
TIMED = (*FORWARD, "training", LIVE)
DEFAULT_SETTINGS = ("released", "plain", "eemc")
REPORT, PLOT = "benchmark.json", "benchmark.png"


def add_benchmark(commands: argparse._SubParsersAction, say: Callable[[str], None]) -> None:
    """`refavs benchmark`; `say` gets its lines."""
    parser = commands.add_parser(
        "benchmark",
        help="how fast the model is, by part, and against the released way of running",
        description="Time the model, one setting in turn with the others; without --model at the paper's size (Swin-base) with random "
        "weights. Leaves benchmark.json and benchmark.png in OUT.",
    )
    parser.add_argument(
        "--part",
        nargs="+",
        default=["one", "several", LIVE, PARTS, READING],
        choices=[*TIMED, PARTS, READING],
        metavar="PART",
        help="one sentence of a clip, several of it; clip: the same from decoded 720p pictures and sound to masks of their size; a "
        "training step for several; live: a further second of a stream; parts: where the "
        "time goes; reading: what of it is not the model's (default: all but training)",
    )
    parser.add_argument(
        "--settings",
        nargs="+",
        default=list(DEFAULT_SETTINGS),
        metavar="SETTING",
        help="of released, released_once, plain, eemc, checkpointed, bf16, graphs, int8, compiled; the others are held against the first (default: %(default)s)",
    )
    parser.add_argument("--model", metavar="FOLDER", help="a saved model; then there is no released one")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda, cuda:1, mps; default: %(default)s")
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument(
        "--sentences", type=int, default=5, help="of several, clip, training and parts (default: %(default)s)"
    )
    parser.add_argument("--size", type=int, default=384, help="height and width of a frame, pixels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--repeats", type=int, default=3, help="after a first turn; the fastest counts (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=Path("benchmark"), metavar="OUT", help="default: %(default)s")
    parser.set_defaults(run=lambda args: say(run_benchmark(args)))


def run_benchmark(args: argparse.Namespace) -> str:
    """Carry out the command. Returns the tables as Markdown.

    Raises:
        ValueError: a setting that is not known, or numbers that cannot be.
    """
    from ..media.loading import choose_device
    from ..media.writing import whole_file
    from .machine import measure_peak
    from .parts import measure_parts
    from .plot import draw_benchmark
    from .settings import SETTINGS
    from .turns import Options, take_turns
    from .workloads import UNABLE

    for name in ("frames", "sentences", "size", "threads", "repeats"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(args, name)}")
    settings = [name for name in args.settings if args.model is None or name not in RELEASED]
    if unknown := [name for name in settings if name not in SETTINGS]:
        raise ValueError(f"--settings {unknown[0]}: must be of {', '.join(SETTINGS)}")
    device = str(choose_device(args.device))
    options = Options(args.model, device, args.frames, args.sentences, args.size, args.threads)
    report: dict[str, Any] = {"machine": _machine(device, args.threads), "options": vars(options), "timed": {}}
    args.output.mkdir(parents=True, exist_ok=True)
    for part in args.part:
        if part in TIMED:
            able = [name for name in settings if name not in UNABLE.get(part, ())]
            if not able:
                raise ValueError(f"--part {part}: none of --settings {' '.join(args.settings)} can do it")
            report["timed"][part] = take_turns(part, able, options, args.repeats)
        elif part == PARTS:
            report[PARTS] = measure_parts(options, args.repeats)
        else:
            from .reading import measure_reading

            report[READING] = measure_reading(options)
        report["machine"].setdefault("peak", measure_peak(device))
        with whole_file(args.output / REPORT) as unfinished:
            unfinished.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    draw_benchmark(report, args.output / PLOT)
    return benchmark_text(report)


def benchmark_text(report: dict[str, Any]) -> str:
    """The tables of a report."""
    frames, sentences, tables = report["options"]["frames"], report["options"]["sentences"], []
    for part, settings in report["timed"].items():
        each = {name: per_sentence(part, name, values["fastest"], sentences) for name, values in settings.items()}
        first = next(iter(each.values()))
        title = f"{part}, seconds a sentence" if part == "training" else f"{part}, seconds"
        rows = [
            (name, f"{each[name]:.4f}", f"{first / each[name]:.2f}", f"{values['peak_gib']:.1f}")
            for name, values in settings.items()
        ]
        head = (title, "fastest", "times as fast", "peak memory, GiB")
        if part in FORWARD:
            head, rows = (*head, "frames a second"), [(*row, f"{frames / each[row[0]]:.1f}") for row in rows]
        tables.append(_table(head, rows))
    if PARTS in report:
        rows = [
            (name, f"{part['seconds']:.4f}", f"{part['share']:.0%}", f"{part['tflop']:.3f}", f"{part['of_peak']:.0%}")
            for name, part in report[PARTS].items()
        ]
        tables.append(_table((f"parts, {sentences} sentences", "seconds", "share", "TFLOP", "of peak"), rows))
    if READING in report:
        tables.append(_table(("reading, seconds a second of video", ""), list(report[READING].items())))
    return "\n\n".join(tables)


def per_sentence(part: str, setting: str, seconds: float, sentences: int) -> float:
    """Of a training step, which is one sentence's with the released model; all other seconds as they are."""
    return seconds / sentences if part == "training" and setting not in RELEASED else seconds


def _machine(device: str, threads: int) -> dict[str, Any]:
    import torch

    facts = {"processor": platform.processor() or platform.machine(), "threads": threads, "torch": torch.__version__}
    return {**facts, "gpu": torch.cuda.get_device_name(device)} if device.startswith("cuda") else facts


def _table(head: tuple, rows: list[tuple]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
