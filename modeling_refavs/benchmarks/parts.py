"""What one forward of EEMC costs, part by part: time, FLOPs, and how near it comes to what the machine can do."""

import time
from contextlib import ExitStack

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .machine import measure_peak, wait_for
from .settings import make_model
from .turns import Options
from .workloads import Workload


PARTS = {
    "Swin": "model.mask2former.pixel_level_module.encoder",
    "pixel decoder": "model.mask2former.pixel_level_module.decoder",
    "VGGish": "model.audio_encoder",
    "RoBERTa": "model.text_encoder",
    "fusion": ("model.audio_fusion", "model.visual_fusion"),
    "integration": "model.integration",
    "CATF": "model.catf",
    "transformer decoder": "model.mask2former.transformer_module",
}


@torch.no_grad()
def measure_parts(options: Options, repeats: int) -> dict[str, dict[str, float]]:
    """In float32 on a CPU, in bf16 on an accelerator; of each part and of the whole: `seconds` in the fastest of some forwards, their `share`, `tflop` and `of_peak`.

    FLOPs are those of products and convolutions; what deformable attention samples is not among them.
    """
    torch.set_num_threads(options.threads)
    model = make_model("eemc" if options.device == "cpu" else "bf16", options.model, options.device)
    inputs = Workload(model, options.frames, options.sentences, options.size).inputs(options.sentences)
    timed = [_time_parts(model, inputs, options.device) for _ in range(1 + repeats)][1:]
    seconds = min(timed, key=lambda parts: parts["whole"])
    with FlopCounterMode(display=False) as counter:
        model(**inputs)
    counts = counter.get_flop_counts()
    flops = {part: sum(_flops(counts, path) for path in _paths(part)) for part in PARTS}
    flops["whole"] = counter.get_total_flops()
    peak = measure_peak(options.device, model.dtype)["gflop_per_s"] * 1e9
    return {
        part: {
            "seconds": round(seconds[part], 5),
            "share": round(seconds[part] / seconds["whole"], 3),
            "tflop": round(flops[part] / 1e12, 6),
            "of_peak": round(flops[part] / seconds[part] / peak, 2),
        }
        for part in (*PARTS, "whole")
    }


def _time_parts(model: nn.Module, inputs: dict[str, torch.Tensor], device: str) -> dict[str, float]:
    seconds, started = dict.fromkeys(PARTS, 0.0), {}

    def start(module, *_):
        wait_for(device)
        started[module] = time.perf_counter()

    with ExitStack() as hooks:
        for part in PARTS:

            def stop(module, *_, part=part):
                wait_for(device)
                seconds[part] += time.perf_counter() - started[module]

            for path in _paths(part):
                module = model.get_submodule(path)
                hooks.callback(module.register_forward_pre_hook(start).remove)
                hooks.callback(module.register_forward_hook(stop).remove)
        begin = time.perf_counter()
        model(**inputs)
        wait_for(device)
        return {**seconds, "whole": time.perf_counter() - begin}


def _paths(part: str) -> tuple[str, ...]:
    paths = PARTS[part]
    return (paths,) if isinstance(paths, str) else paths


def _flops(counts: dict[str, dict], path: str) -> int:
    return sum(counts[f"RefAVSForSegmentation.{path}"].values())
