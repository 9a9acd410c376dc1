"""What this machine does at best, which the parts of a model are held against."""

import re
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch


SIDE = 2048  # of the square matrices that are multiplied
COPIED = 2**28  # bytes: more than any cache holds
REPEATS = 5


def measure_peak(dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """The fastest of a few large matrix products, GFLOP/s, and of a few large copies, GB/s read and written; on the CPU."""
    one, other = torch.randn(2, SIDE, SIDE).to(dtype)
    block = torch.ones(COPIED, dtype=torch.uint8)
    target = torch.empty_like(block)
    product = _fastest(lambda: torch.mm(one, other))
    copy = _fastest(lambda: target.copy_(block))
    return {"gflop_per_s": round(2 * SIDE**3 / product / 1e9, 1), "gb_per_s": round(2 * COPIED / copy / 1e9, 1)}


def peak_memory() -> float:
    """GiB, the most that this process has held so far."""
    status = Path("/proc/self/status")  # what getrusage tells begins with the parent's
    if status.is_file():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _fastest(run: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])
