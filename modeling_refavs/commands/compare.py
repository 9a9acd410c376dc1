"""`refavs compare`: the paper's Table 3 and Fig. 4."""

import argparse
from pathlib import Path

from . import add_training_options


def add_command(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "compare",
        help="the paper's Table 3: train several methods, score them alike on the test splits, and "
        "show them side by side",
        description="Train each recipe into OUT/<recipe>/seed<n> and score it on the test splits: "
        "Table 3 in OUT/comparison.md, Fig. 4 in OUT/figure_4.png. Run again to go on when "
        "stopped.",
    )
    parser.add_argument(
        "recipes",
        nargs="+",
        type=Path,
        metavar="RECIPE",
        help="a method each, such as modeling_refavs/research/recipes/compare_eemc.yaml",
    )
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="whose test splits are scored; default: what the recipes train on",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("comparison"),
        metavar="OUT",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--then",
        type=Path,
        metavar="RECIPE",
        help="one that every method goes on with, from what its own left",
    )
    add_training_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from ..research.compare import compare

    text = compare(
        args.recipes,
        args.output,
        args.data,
        args.seeds,
        args.by,
        args.processes,
        args.overrides,
        args.then,
    )
    print(text, end="")
