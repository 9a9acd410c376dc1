"""The commands pretrain, train and ablate."""

import argparse
from pathlib import Path


def add_commands(commands: argparse._SubParsersAction) -> None:
    _add_pretrain(commands)
    _add_train(commands)
    _add_ablate(commands)


def _add_pretrain(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "pretrain",
        help="train on a synthetic tree the three encoders that EEMC starts from",
        description="Train on a synthetic tree what Mask2Former, VGGish and RoBERTa are for Ref-AVS: folders for `refavs train`.",
    )
    parser.add_argument("tree", metavar="TREE", help="folder that `refavs synthesize` wrote")
    parser.add_argument("output", metavar="OUT", help="folder for mask2former/, vggish/ and text_model/")
    parser.add_argument("--parts", nargs="+", default=["vision", "audio", "text"], metavar="PART", help="default: all")
    parser.add_argument("--resume", action="store_true", help="keep finished parts, go on with a stopped one")
    parser.add_argument("--steps", type=int, metavar="N", help="default: 3200 vision, 3500 audio, 4000 text")
    parser.add_argument("--batch-size", type=int, metavar="N", help="default: 160 vision, 64 audio, 64 text")
    parser.add_argument("--learning-rate", type=float, help="default: 1.5e-3 vision, 1e-3 audio and text")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: %(default)s")
    parser.set_defaults(run=_run_pretrain)


def _run_pretrain(args: argparse.Namespace) -> None:
    from ..training.pretraining.command import run_pretrain

    print(run_pretrain(args))


def _add_train(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "train",
        help="train by a recipe; run again to go on when stopped",
        description="Train by a recipe, a YAML file of arguments. On several GPUs: "
        "torchrun --nproc_per_node N -m modeling_refavs.training.train RECIPE ...",
    )
    parser.add_argument(
        "recipe", type=Path, metavar="RECIPE", help="such as modeling_refavs/training/recipes/smoke.yaml"
    )
    parser.add_argument(
        "overrides",
        nargs=argparse.REMAINDER,
        metavar="--name value",
        help="win over the recipe: --learning_rate 1e-4 --config.num_cue_layers 2; --overwrite starts anew",
    )
    parser.set_defaults(run=_run_train)


def _run_train(args: argparse.Namespace) -> None:
    from ..training.train import run_training

    outcome = run_training(args.recipe, args.overrides)
    if outcome:
        print(outcome)


def _add_ablate(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "ablate",
        help="the paper's Table 4: train with everything and without each part, and score on the test splits",
        description="Train a recipe as it is, without text, without audio, without the cached memory and without the modality "
        "encoding, each into OUT/<variant>/seed<n>; score them on the test splits: J, F and S, or where the last stage ends with the "
        "cues, how often they choose the right object. Run again to go on when stopped.",
    )
    parser.add_argument(
        "recipes",
        nargs="+",
        type=Path,
        metavar="RECIPE",
        help="several: stages, each goes on from the model of the last",
    )
    parser.add_argument("--output", type=Path, default=Path("ablation"), metavar="OUT", help="default: %(default)s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="default: 0")
    parser.add_argument(
        "--only",
        nargs="+",
        default=["full", "no_text", "no_audio", "no_memory", "no_modality_encoding"],
        metavar="VARIANT",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--by", nargs="+", default=[], metavar="WHAT", help="as in refavs evaluate: grade, dimension, ..."
    )
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="of each training, by torchrun")
    parser.add_argument(
        "--set",
        dest="overrides",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="--name value",
        help="last: what wins over the recipe, such as --set --max_steps 1000",
    )
    parser.set_defaults(run=_run_ablate)


def _run_ablate(args: argparse.Namespace) -> None:
    from ..training.ablate import run_ablate

    print(run_ablate(args), end="")
