"""`refavs train`: train by a recipe; `torchrun ... -m modeling_refavs.cli train RECIPE` on several
GPUs."""

import argparse
from pathlib import Path


def add_command(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "train",
        help="train by a recipe; run again to go on when stopped",
        description="Train by a recipe, a YAML file of arguments. On several GPUs: "
        "torchrun --nproc_per_node N -m modeling_refavs.cli train RECIPE ...",
    )
    parser.add_argument(
        "recipe",
        type=Path,
        metavar="RECIPE",
        help="such as modeling_refavs/training/recipes/smoke.yaml",
    )
    parser.add_argument(
        "overrides",
        nargs=argparse.REMAINDER,
        metavar="--name value",
        help="win over the recipe: --learning_rate 1e-4 --config.num_cue_layers 2; --overwrite "
        "starts anew",
    )
    parser.set_defaults(run=run)


def announce(line: str) -> None:
    print(line, flush=True)  # before hours of work, not after them


def run(args: argparse.Namespace) -> None:
    from ..research.stages import STAGE_CLASSES
    from ..training.train import run_training

    outcome = run_training(args.recipe, args.overrides, STAGE_CLASSES, announce)
    if outcome:
        print(outcome)
