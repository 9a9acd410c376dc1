"""What one forward of EEMC costs, part by part: time, FLOPs and peak memory, with random weights.

python -m modeling_refavs.benchmarks.parts --sentences 1 --frames 10 --threads 2
"""

import argparse
import json
import resource
import sys
import time
from contextlib import ExitStack

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from modeling_refavs import RefAVSConfig, RefAVSForSegmentation


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
TEXT_LENGTH = 25  # tokens


def main() -> None:
    args = make_parser().parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = RefAVSForSegmentation(RefAVSConfig()).eval().requires_grad_(False)
    inputs = random_inputs(model.config, args.frames, args.sentences, args.size)
    sys.stdout.write(json.dumps(measure(model, inputs, args.repeats), indent=2) + "\n")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=1, help="asked of the one clip")
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--size", type=int, default=384, help="height and width of a frame, pixels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts")
    return parser


def random_inputs(config: RefAVSConfig, frames: int, sentences: int, size: int) -> dict[str, torch.Tensor]:
    """One clip and some sentences, of noise."""
    return {
        "pixel_values": torch.randn(1, frames, 3, size, size),
        "input_features": torch.randn(
            1, frames, config.audio_config.num_mel_frames, config.audio_config.num_mel_bands
        ),
        "input_ids": torch.randint(4, config.text_config.vocab_size, (sentences, TEXT_LENGTH)),
        "clip_index": torch.zeros(sentences, dtype=torch.long),
    }


@torch.no_grad()
def measure(model: RefAVSForSegmentation, inputs: dict[str, torch.Tensor], repeats: int) -> dict:
    """Seconds, share and TFLOPs of each part; peak memory of the process above what the weights take, GiB."""
    weights = _peak_memory()
    timed = [_time_parts(model, inputs) for _ in range(repeats)]
    seconds = min(timed, key=lambda parts: parts["whole"])
    with FlopCounterMode(display=False) as counter:
        model(**inputs)
    counts = counter.get_flop_counts()
    flops = {part: sum(_flops(counts, path) for path in _paths(part)) for part in PARTS}
    flops["whole"] = counter.get_total_flops()
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "inputs": {name: list(value.shape) for name, value in inputs.items()},
        "peak_memory_gib": round(_peak_memory(), 2),
        "peak_memory_above_weights_gib": round(_peak_memory() - weights, 2),
        "parts": {
            part: {
                "seconds": round(seconds[part], 3),
                "share": round(seconds[part] / seconds["whole"], 3),
                "tflop": round(flops[part] / 1e12, 4),
            }
            for part in (*PARTS, "whole")
        },
    }


def _time_parts(model: nn.Module, inputs: dict[str, torch.Tensor]) -> dict[str, float]:
    seconds, started = dict.fromkeys(PARTS, 0.0), {}

    def start(module, *_):
        started[module] = time.perf_counter()

    with ExitStack() as hooks:
        for part in PARTS:

            def stop(module, *_, part=part):
                seconds[part] += time.perf_counter() - started[module]

            for path in _paths(part):
                module = model.get_submodule(path)
                hooks.callback(module.register_forward_pre_hook(start).remove)
                hooks.callback(module.register_forward_hook(stop).remove)
        begin = time.perf_counter()
        model(**inputs)
        return {**seconds, "whole": time.perf_counter() - begin}


def _paths(part: str) -> tuple[str, ...]:
    paths = PARTS[part]
    return (paths,) if isinstance(paths, str) else paths


def _flops(counts: dict[str, dict], path: str) -> int:
    return sum(counts[f"RefAVSForSegmentation.{path}"].values())


def _peak_memory() -> float:
    """GiB, the most that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
