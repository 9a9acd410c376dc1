"""What several sentences on one clip cost beside one: the paper's sizes (Swin-base, 384x384), random weights.

python -m modeling_refavs.benchmarks.sentences --sentences 5 --threads 1

Also what half precision and compiled layers gain, and what compiling costs before: --dtype bf16, --compile.
"""

import argparse
import json
import os
import sys
import time

import torch

from modeling_refavs import RefAVSConfig, RefAVSForSegmentation
from modeling_refavs.media.loading import DTYPES, compile_layers

from .parts import random_inputs


def main() -> None:
    args = make_parser().parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = RefAVSForSegmentation(RefAVSConfig()).eval().requires_grad_(False).to(DTYPES[args.dtype])
    if args.compile:
        compile_layers(model)
    sys.stdout.write(json.dumps(measure(model, args), indent=2) + "\n")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=5, help="asked together of the one clip")
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--size", type=int, default=384, help="height and width of a frame, pixels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1, help="after the first call; the fastest counts")
    parser.add_argument("--dtype", default="float32", choices=list(DTYPES))
    parser.add_argument("--compile", action="store_true")
    return parser


@torch.no_grad()
def measure(model: RefAVSForSegmentation, args: argparse.Namespace) -> dict:
    """Seconds of the first call, which compiles, and of the fastest later one; for one sentence and for several.

    Processor time counts compilers that are started; on a busy machine it says more than the clock.
    """
    result = {"torch": torch.__version__, **{name: value for name, value in vars(args).items() if name != "repeats"}}
    for count in (1, args.sentences):
        inputs = random_inputs(model.config, args.frames, count, args.size)
        inputs["pixel_values"], inputs["input_features"] = (
            inputs[name].to(model.dtype) for name in ("pixel_values", "input_features")
        )
        first, *later = [_timed(model, inputs) for _ in range(1 + args.repeats)]
        result[f"{count} sentences"] = {"first": first, "later": min(later, key=lambda seconds: seconds["processor"])}
    one, several = (result[f"{count} sentences"]["later"] for count in (1, args.sentences))
    return {**result, "ratio": {clock: round(several[clock] / one[clock], 3) for clock in one}}


def _timed(model: RefAVSForSegmentation, inputs: dict[str, torch.Tensor]) -> dict[str, float]:
    before, begin = sum(os.times()[:4]), time.perf_counter()
    model(**inputs)
    return {"processor": round(sum(os.times()[:4]) - before, 2), "clock": round(time.perf_counter() - begin, 2)}


if __name__ == "__main__":
    main()
