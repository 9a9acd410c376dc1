"""What running Mask2Former once saves the released model: one sentence on one clip, against the released code's two passes.

The two passes are the model as it is and, before it, the unprompted Mask2Former whose last Swin stage alone is used.

python -m modeling_refavs.benchmarks.released --threads 2
"""

import argparse
import json
import sys
import time
from collections.abc import Callable

import torch

from modeling_refavs import RefAVSReleasedConfig, RefAVSReleasedForSegmentation


def main() -> None:
    args = make_parser().parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = RefAVSReleasedForSegmentation(RefAVSReleasedConfig()).eval()
    sys.stdout.write(json.dumps(measure(model, args.repeats), indent=2) + "\n")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="of both, in turns; the fastest counts")
    return parser


@torch.no_grad()
def measure(model: RefAVSReleasedForSegmentation, repeats: int) -> dict:
    """Seconds of one pass and of two, of a further sentence on the same clip, and the share that one pass takes.

    Seconds of processor time, summed over threads: on a machine with other work the clock on the wall tells of that.
    """
    config = model.config
    clip = {
        "pixel_values": torch.randn(1, config.num_frames, 3, 384, 384),
        "audio_features": torch.randn(1, config.num_frames, config.audio_feature_size),
    }
    sentence = {"text_features": torch.randn(1, config.text_length, config.text_feature_size)}
    clip_features = model.encode_clips(**clip)

    def two_passes() -> None:
        run_unprompted(model, clip["pixel_values"].flatten(0, 1))
        model(**clip, **sentence)

    candidates = {
        "one_pass": lambda: model(**clip, **sentence),
        "two_passes": two_passes,
        "further_sentence": lambda: model.segment(clip_features, **sentence),
    }
    seconds = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            seconds[name].append(_time(run))
    fastest = {name: round(min(times), 3) for name, times in seconds.items()}
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor_seconds": fastest,
        "one_pass_share": round(fastest["one_pass"] / fastest["two_passes"], 3),
    }


def run_unprompted(model: RefAVSReleasedForSegmentation, pixel_values: torch.Tensor) -> None:
    """Mask2Former as it comes, from its own queries to masks and classes: the released code's first pass."""
    pixels = model.mask2former.pixel_level_module(pixel_values)
    decoder = model.mask2former.transformer_module
    decoded = decoder(
        decoder.queries_features.weight.expand(len(pixel_values), -1, -1),
        pixels.decoder_hidden_states,
        pixels.decoder_last_hidden_state,
    )
    for queries in decoded.intermediate_hidden_states:  # the released code classifies after every layer
        model.class_predictor(queries)


def _time(run: Callable) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
