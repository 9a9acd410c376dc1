"""`refavs benchmark`: how fast the model is."""

import argparse
from pathlib import Path


def add_command(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "benchmark",
        help="how fast the model is, by part, and against the released way of running",
        description="Time the model, one setting in turn with the others; without --model at the "
        "paper's size (Swin-base) with random "
        "weights. Leaves benchmark.json and benchmark.png in OUT.",
    )
    parser.add_argument(
        "--part",
        nargs="+",
        default=["one", "several", "live", "parts", "reading"],
        choices=[
            "one",
            "several",
            "clip",
            "training",
            "live",
            "parts",
            "reading",
            "memory",
            "rendering",
        ],
        metavar="PART",
        help="one sentence of a clip, several of it; clip: the same from decoded 720p frames and "
        "sound to masks of their size; a "
        "training step for several; live: a further second of a stream; parts: where the "
        "time goes; reading: what of it is not the model's; memory: of refavs segment on a long "
        "video; rendering: its time beside a transcoder's (default: one, several, live, parts, "
        "reading)",
    )
    parser.add_argument(
        "--settings",
        nargs="+",
        default=["released", "plain", "eemc"],
        metavar="SETTING",
        help="of released, released_once, plain, eemc, checkpointed, bf16, graphs, int8, compiled; "
        "the others are held against the first (default: %(default)s)",
    )
    parser.add_argument(
        "--model", metavar="FOLDER", help="a saved model; then there is no released one"
    )
    parser.add_argument(
        "--device", default="cpu", help="auto, cpu, cuda, cuda:1, mps; default: %(default)s"
    )
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument(
        "--sentences",
        type=int,
        default=5,
        help="of several, clip, training and parts (default: %(default)s)",
    )
    parser.add_argument("--size", type=int, default=384, help="height and width of a frame, pixels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--repeats",
        type=int,
        default=3,
        help="after a first turn; the fastest counts (default: %(default)s)",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("benchmark"), metavar="OUT", help="default: %(default)s"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from ..benchmarks.parts import Options
    from ..benchmarks.report import run_benchmark
    from ..inference.loading import choose_device

    device = str(choose_device(args.device))
    options = Options(args.model, device, args.frames, args.sentences, args.size, args.threads)
    print(run_benchmark(args.part, args.settings, options, args.repeats, args.output))
