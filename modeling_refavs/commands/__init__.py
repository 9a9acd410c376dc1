"""The arguments of each `refavs` command, a file each; what a command does is imported when it
runs."""

import argparse
import os
from pathlib import Path


PRECISIONS = ("float32", "bf16", "fp16", "int8")
SHIPPED = Path(__file__).parents[2] / "spaces_demo" / "photo_checkpoint"


def default_model() -> str | None:
    """What the variable `REFAVS_MODEL` names, or the checkpoint that comes with the repository."""
    return os.environ.get("REFAVS_MODEL") or (str(SHIPPED) if SHIPPED.is_dir() else None)


def add_model_option(parser: argparse.ArgumentParser) -> None:
    default = default_model()
    parser.add_argument(
        "--model",
        default=default,
        required=default is None,
        help="folder of a model, or its id on the Hub (default: REFAVS_MODEL, or the checkpoint of "
        "the repository)",
    )


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Of commands that train several recipes and score them."""
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="default: 0")
    parser.add_argument(
        "--by",
        nargs="+",
        default=[],
        metavar="WHAT",
        help="as in refavs evaluate: grade, dimension, ...",
    )
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="of each training, by torchrun"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="--name value",
        help="last: what wins over all recipes, such as --set --max_steps 1000",
    )
