"""`refavs ablate`: the paper's Table 4."""

import argparse
from pathlib import Path

from . import add_training_options


def add_command(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "ablate",
        help="the paper's Table 4: train with everything and without each part, and score on the "
        "test splits",
        description="Train a recipe as it is, without text, without audio, without the cached "
        "memory and without the modality "
        "encoding, each into OUT/<variant>/seed<n>; score them on the test splits: J, F and S, or "
        "where the last stage ends with the "
        "cues, how often they choose the right object. Run again to go on when stopped.",
    )
    parser.add_argument(
        "recipes",
        nargs="+",
        type=Path,
        metavar="RECIPE",
        help="several: stages, each goes on from the model of the last",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("ablation"), metavar="OUT", help="default: %(default)s"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=["full", "no_text", "no_audio", "no_memory", "no_modality_encoding"],
        metavar="VARIANT",
        help="default: %(default)s",
    )
    add_training_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from ..research.ablate import ablate

    print(
        ablate(
            args.recipes,
            args.output,
            args.seeds,
            args.only,
            args.by,
            args.processes,
            args.overrides,
        ),
        end="",
    )
