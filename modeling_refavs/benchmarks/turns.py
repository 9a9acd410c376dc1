"""Settings compared in turn within one run, each in a process of its own, of which one works at a time.

So whatever else the machine does falls on all of them, and each has a peak memory of its own.
"""

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from .machine import peak_memory, wait_for
from .settings import make_model
from .workloads import WORKLOADS, Workload


@dataclass(frozen=True)
class Options:
    """What all settings have in common; `model` is a folder, or None for random weights at the paper's size."""

    model: str | None
    device: str
    frames: int
    sentences: int
    size: int
    threads: int


def take_turns(workload: str, settings: Sequence[str], options: Options, repeats: int) -> dict[str, dict[str, Any]]:
    """Seconds and peak memory of each setting.

    Returns:
        Of each setting `seconds`, one for each turn after a first that is not counted; `fastest`; and `peak_gib` of the process.
    """
    context = multiprocessing.get_context("spawn")
    workers = {}
    try:
        for setting in settings:
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, workload, setting, options), daemon=True)
            process.start()
            there.close()
            workers[setting] = (process, here)
            _receive(setting, here)  # it is ready: one at a time makes its model
        seconds: dict[str, list[float]] = {setting: [] for setting in settings}
        for _ in range(1 + repeats):
            for setting, (_, here) in workers.items():
                here.send("run")
                seconds[setting].append(_receive(setting, here))
        results = {}
        for setting, (_, here) in workers.items():
            here.send("memory")
            counted = [round(value, 5) for value in seconds[setting][1:]]
            peak = round(_receive(setting, here), 2)
            results[setting] = {"seconds": counted, "fastest": min(counted), "peak_gib": peak}
        return results
    finally:
        for process, here in workers.values():
            here.close()  # it ends
            process.join()


def _receive(setting: str, here: Connection) -> Any:
    try:
        return here.recv()
    except EOFError:
        raise ValueError(
            f"{setting}: its process ended; its error stands above, or the memory did not suffice"
        ) from None


def _serve(there: Connection, workload: str, setting: str, options: Options) -> None:
    torch.set_num_threads(options.threads)
    model = make_model(setting, options.model, options.device)
    run = WORKLOADS[workload](Workload(model, options.frames, options.sentences, options.size))
    there.send("ready")
    while (asked := _next(there)) is not None:
        if asked == "memory":
            there.send(peak_memory(options.device))
            continue
        begin = time.perf_counter()
        run()
        wait_for(options.device)
        there.send(time.perf_counter() - begin)


def _next(there: Connection) -> str | None:
    try:
        return there.recv()
    except EOFError:
        return None
