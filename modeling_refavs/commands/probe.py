"""`refavs probe`: the same clips with the sound, the frames or the sentence altered; one table."""

import argparse
from pathlib import Path

from . import PRECISIONS


def add_command(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "probe",
        help="does a model listen, watch and read? Scores with the sound, the frames or the "
        "sentence altered; run again to go on when stopped",
        description="Score a model on the same clips with the sound muted, exchanged, shifted or "
        "replaced by noise, the frames frozen, reversed or shuffled, the sentence exchanged or a "
        "word of it masked.",
    )
    parser.add_argument("model", help="folder of a model, or its id on the Hub")
    parser.add_argument(
        "--data", required=True, help="folder with metadata.csv, an export, or its id on the Hub"
    )
    parser.add_argument("--splits", nargs="+", default=["test_s"], metavar="SPLIT")
    parser.add_argument(
        "--alterations",
        nargs="+",
        default=None,
        metavar="NAME",
        help="such as muted; default: all",
    )
    parser.add_argument(
        "--clips", type=int, metavar="N", help="of each split the first N; default: all"
    )
    parser.add_argument(
        "--shift", type=float, default=5, metavar="S", help="s, of the sound; default: %(default)s"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of what is drawn by chance; default: %(default)s"
    )
    parser.add_argument(
        "--draws", type=int, default=1000, help="of the bootstrap; default: %(default)s"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("refavs_probe"), metavar="DIR", help="%(default)s"
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default: %(default)s"
    )
    parser.add_argument(
        "--dtype", default="float32", choices=PRECISIONS, help="of the model; default: %(default)s"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from ..metrics.probe import ALTERATIONS, ProbeRequest, probe

    request = ProbeRequest(
        model=args.model,
        data=args.data,
        splits=tuple(dict.fromkeys(args.splits)),
        alterations=tuple(args.alterations or ALTERATIONS),
        num_clips=args.clips,
        shift=args.shift,
        seed=args.seed,
        num_draws=args.draws,
        device=args.device,
        dtype=args.dtype,
    )
    report = probe(request, args.output)
    if report:
        print(report, end="")
