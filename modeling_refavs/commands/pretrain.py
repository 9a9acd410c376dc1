"""`refavs pretrain`: a synthetic tree in, the three pretrained parts of EEMC out; `refavs
pretrain-decoders`: a frozen backbone and photographs in, a Mask2Former out;
`refavs train-object-head`: a model and photographs in, the same with an object head out."""

import argparse
import json
from pathlib import Path


def add_command(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "pretrain",
        help="train on a synthetic tree the three encoders that EEMC starts from",
        description="Train on a synthetic tree what Mask2Former, VGGish and RoBERTa are for "
        "Ref-AVS: folders for `refavs train`.",
    )
    parser.add_argument("tree", metavar="TREE", help="folder that `refavs synthesize` wrote")
    parser.add_argument(
        "output", metavar="OUT", help="folder for mask2former/, vggish/ and text_model/"
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        default=["vision", "audio", "text"],
        metavar="PART",
        help="default: all",
    )
    parser.add_argument(
        "--resume", action="store_true", help="keep finished parts, go on with a stopped one"
    )
    parser.add_argument(
        "--steps", type=int, metavar="N", help="default: 3200 vision, 3500 audio, 4000 text"
    )
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="default: 160 vision, 64 audio, 64 text"
    )
    parser.add_argument(
        "--learning-rate", type=float, help="default: 1.5e-3 vision, 1e-3 audio and text"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: %(default)s")
    parser.set_defaults(run=run)

    parser = commands.add_parser(
        "pretrain-decoders",
        help="train Mask2Former's decoders on a frozen backbone and composites of photographs",
        description="Train Mask2Former's two decoders on a frozen backbone to find every object in "
        "composites: a folder for `mask2former` in a recipe. The same command goes on with a "
        "training that was stopped.",
    )
    parser.add_argument(
        "vision",
        metavar="BACKBONE",
        help="folder of the backbone, or of a Mask2Former or a model, which is trained further",
    )
    parser.add_argument("library", metavar="LIBRARY", help="that `refavs library build` wrote")
    parser.add_argument("output", metavar="OUT", help="folder for the Mask2Former")
    parser.add_argument(
        "--recipe",
        metavar="YAML",
        help="recipe whose mask2former_config and vision_config say how large it is; default: "
        "photo_single_step.yaml",
    )
    parser.add_argument(
        "--composites",
        type=int,
        default=5000,
        metavar="N",
        help="to learn from; what the backbone makes of them is kept, a few MB each; default: "
        "%(default)s",
    )
    _add_training_options(parser, steps=1200, batch_size=16, seed=0)
    parser.add_argument(
        "--kept",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of the weights that a Mask2Former had, in the mean with what it learns; default: "
        "%(default)s",
    )
    parser.set_defaults(run=run_decoders)

    parser = commands.add_parser(
        "train-object-head",
        help="train the head that chooses among the objects of a frame, on clips of photographs",
        description="Train the object head alone on clips that are drawn from a library: a model "
        "with its processor. The same command goes on with a training that was stopped.",
    )
    parser.add_argument("model", metavar="MODEL", help="folder of a model of photo_small.yaml")
    parser.add_argument("classifier", metavar="CLASSIFIER", help="folder of its image classifier")
    parser.add_argument(
        "sound_classifier", metavar="SOUNDS", help="folder of its classifier of sounds"
    )
    parser.add_argument("library", metavar="LIBRARY", help="that `refavs library build` wrote")
    parser.add_argument("output", metavar="OUT", help="folder for the model")
    parser.add_argument(
        "--clips",
        type=int,
        default=2656,
        metavar="N",
        help="to learn from; what the model makes of them is kept, 0.4 MB each; default: "
        "%(default)s",
    )
    _add_training_options(parser, steps=1300, batch_size=12, seed=28)
    parser.add_argument(
        "--learned",
        nargs="+",
        default=(),
        metavar="PART",
        help="parts of MODEL's object head that are trained, such as asked; the others stay. The "
        "clip head is trained in any case; clip: it alone",
    )
    parser.set_defaults(run=run_object_head)


def _add_training_options(
    parser: argparse.ArgumentParser, steps: int, batch_size: int, seed: int
) -> None:
    default = {"type": int, "metavar": "N", "help": "default: %(default)s"}
    parser.add_argument("--steps", default=steps, **default)
    parser.add_argument("--batch-size", default=batch_size, **default)
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="default: %(default)s")
    parser.add_argument("--seed", default=seed, **default | {"metavar": "S"})


def run(args: argparse.Namespace) -> None:
    from ..research.pretrain import pretrain

    print(
        pretrain(
            Path(args.tree),
            Path(args.output),
            args.parts,
            args.resume,
            args.steps,
            args.batch_size,
            args.learning_rate,
            args.seed,
        )
    )


def run_decoders(args: argparse.Namespace) -> None:
    from ..research.pretrain_decoders import PHOTO_RECIPE, pretrain_decoders

    scores = pretrain_decoders(
        args.vision,
        args.library,
        Path(args.output),
        Path(args.recipe or PHOTO_RECIPE),
        args.composites,
        args.steps,
        args.batch_size,
        args.learning_rate,
        args.seed,
        args.kept,
    )
    print(json.dumps(scores, indent=1))


def run_object_head(args: argparse.Namespace) -> None:
    from ..research.train_object_head import train_object_head

    scores = train_object_head(
        args.model,
        args.classifier,
        args.sound_classifier,
        args.library,
        Path(args.output),
        args.clips,
        args.steps,
        args.batch_size,
        args.learning_rate,
        args.seed,
        args.learned,
    )
    print(json.dumps(scores, indent=1))
