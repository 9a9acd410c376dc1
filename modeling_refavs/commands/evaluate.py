"""`refavs evaluate`: a model, or masks, and a tree in; the paper's tables and a look at the clips
out."""

import argparse
from pathlib import Path

from . import PRECISIONS


def add_command(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="the paper's tables: J, F and S with confidence intervals; run again to go on when "
        "stopped",
        description="Score a model, or masks that another program wrote, on Ref-AVS Bench or a "
        "tree in its layout.",
    )
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--model", help="folder of a model, or its id on the Hub")
    subject.add_argument(
        "--predictions",
        type=Path,
        metavar="DIR",
        help="masks, DIR/<uid>/0000{0..9}.png, or what --save-predictions wrote",
    )
    subject.add_argument(
        "--compare",
        nargs=2,
        type=Path,
        metavar=("A", "B"),
        help="two folders that this command wrote, or their tables: B beside A",
    )
    parser.add_argument("--data", help="folder with metadata.csv, an export, or its id on the Hub")
    parser.add_argument(
        "--save-predictions",
        type=Path,
        metavar="DIR",
        help="keep what the model predicts; what is scored is what is kept",
    )
    parser.add_argument(
        "--splits", nargs="+", default=["test_s", "test_u", "test_n"], metavar="SPLIT"
    )
    parser.add_argument(
        "--clips", type=int, metavar="N", help="of each split the first N; default: all"
    )
    parser.add_argument(
        "--by", nargs="+", default=[], metavar="WHAT", help="grade, dimension, length, category"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("refavs_evaluation"), metavar="DIR", help="%(default)s"
    )
    parser.add_argument(
        "--pooling", default="dataset", choices=["dataset", "released"], help="default: %(default)s"
    )
    parser.add_argument(
        "--batch-size", type=int, default=4, help="of the released pooling; default: %(default)s"
    )
    parser.add_argument(
        "--mask-size",
        type=_mask_size,
        default=256,
        metavar="N|own",
        help="height and width at which masks are scored",
    )
    parser.add_argument("--threshold", type=float, default=0.4, help="of J; default: %(default)s")
    parser.add_argument(
        "--null-threshold", type=float, default=0.5, help="of S; default: %(default)s"
    )
    parser.add_argument(
        "--empty-truth",
        default="true_negatives",
        choices=["true_negatives", "exact", "skip"],
        help="what a frame without the object scores in J; default: %(default)s",
    )
    parser.add_argument(
        "--draws", type=int, default=1000, help="of the bootstrap; default: %(default)s"
    )
    parser.add_argument(
        "--paper-splits", action="store_true", help="test_u with unseen categories only"
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default: %(default)s"
    )
    parser.add_argument(
        "--dtype", default="float32", choices=PRECISIONS, help="of the model; default: %(default)s"
    )
    parser.set_defaults(run=run)


def _mask_size(text: str) -> int | None:
    return None if text == "own" else int(text)


def run(args: argparse.Namespace) -> None:
    from ..metrics.evaluation import EvaluationRequest, evaluate
    from ..metrics.report import Pooling
    from ..metrics.scoring import Conventions
    from ..metrics.sentence_table import compare

    if args.compare:
        print(compare(*args.compare, args.draws), end="")
        return
    if args.data is None:
        raise ValueError("--data is needed: the tree, or the export, that is evaluated")
    if args.save_predictions and args.predictions:
        raise ValueError("--save-predictions keeps what a model predicts: give --model")
    request = EvaluationRequest(
        data=args.data,
        splits=tuple(dict.fromkeys(args.splits)),
        model=args.model,
        predictions=args.predictions,
        save_predictions=args.save_predictions,
        by=tuple(args.by),
        conventions=Conventions(
            args.mask_size, args.threshold, args.null_threshold, args.empty_truth
        ),
        pooling=Pooling(args.pooling, args.batch_size, args.draws),
        num_clips=args.clips,
        paper_splits=args.paper_splits,
        device=args.device,
        dtype=args.dtype,
    )
    report = evaluate(request, args.output)
    if report:
        print(report, end="")
