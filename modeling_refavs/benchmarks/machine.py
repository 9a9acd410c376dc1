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


def measure_peak(device: str = "cpu", dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """The fastest of a few large matrix products, GFLOP/s, and of a few large copies, GB/s read and written."""
    scale = 1 if device == "cpu" else 4  # an accelerator is not busy with less
    side, copied = SIDE * scale, COPIED * scale
    one, other = torch.randn(2, side, side, device=device).to(dtype)
    block = torch.ones(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(block)
    product = _fastest(lambda: torch.mm(one, other), device)
    copy = _fastest(lambda: target.copy_(block), device)
    return {"gflop_per_s": round(2 * side**3 / product / 1e9, 1), "gb_per_s": round(2 * copied / copy / 1e9, 1)}


def wait_for(device: str) -> None:
    """Until an accelerator has done what it was told."""
    if device != "cpu":
        torch.accelerator.synchronize()


def peak_memory(device: str = "cpu") -> float:
    """GiB, the most that this process has held so far; on CUDA, of the GPU's memory."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_reserved() / 2**30
    status = Path("/proc/self/status")  # what getrusage tells begins with the parent's
    if status.is_file():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _fastest(run: Callable[[], object], device: str) -> float:
    seconds = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        run()
        wait_for(device)
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])
