"""The arguments of each `refavs` command, a file each; what a command does is imported when it
runs."""

import argparse
import os
from pathlib import Path


PRECISIONS = ("float32", "bf16", "fp16", "int8")
SHIPPED = Path(__file__).parents[2] / "spaces_demo" / "photo_checkpoint"


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """Without `--model`: what the variable `REFAVS_MODEL` names, or the checkpoint that comes with
    the repository."""
    default = os.environ.get("REFAVS_MODEL") or (str(SHIPPED) if SHIPPED.is_dir() else None)
    parser.add_argument(
        "--model",
        default=default,
        required=default is None,
        help="folder of a model, or its id on the Hub (default: REFAVS_MODEL, or the checkpoint of "
        "the repository)",
    )
