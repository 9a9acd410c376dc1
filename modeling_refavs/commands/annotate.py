"""`refavs annotate`: a page on this machine where a person annotates the clips of a tree."""

import argparse
import getpass
import re

from . import default_model


def add_command(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "annotate",
        help="objects, masks, sounding intervals and sentences of clips, on a page in the browser",
        description="Annotate the clips of a tree, such as `refavs collect` makes, on a page that "
        "only this machine can open. Every action is on disk when the page shows it: after a crash "
        "give the same command again. See docs/annotate.md.",
    )
    parser.add_argument("tree", metavar="TREE", help="folder with media/<clip>/")
    parser.add_argument("--annotator", metavar="NAME", help="who annotates (default: the user)")
    parser.add_argument(
        "--review", metavar="NAME", help="annotate a few frames of this annotator's clips anew"
    )
    for name, meaning in (
        ("segmenter", "makes masks of clicks and boxes: SAM2, EdgeTAM or SAM3 of transformers"),
        ("tracker", "carries masks to other frames: a video model of the same families"),
        ("detector", "finds candidates by text: Grounding DINO or OWLv2 of transformers"),
    ):
        parser.add_argument(f"--{name}", metavar="MODEL", help=f"id or folder; {meaning}")
    parser.add_argument(
        "--checkpoint",
        default=default_model(),
        metavar="MODEL",
        help="of this project, for candidates and proposals where no other model is named "
        "(default: REFAVS_MODEL, or the checkpoint of the repository)",
    )
    parser.add_argument(
        "--audio-classifier",
        metavar="FOLDER",
        help="YAMNet with its classes, the audio folder of `refavs parts fetch`: proposes when an "
        "object sounds",
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)"
    )
    parser.add_argument("--port", type=int, help="default: the first free one from 7870 on")
    parser.add_argument(
        "--finish",
        action="store_true",
        help="only write gt_mask/, metadata.csv and taxonomy.json of what is annotated",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    annotator = args.annotator or re.sub(r"[^\w-]", "_", getpass.getuser())[:40]
    if args.finish:
        from dataset_script.annotate.tree import write_tree

        written = write_tree(args.tree, annotator)
        print(f"{args.tree}: " + ", ".join(f"{count} {name}" for name, count in written.items()))
        return
    try:
        from dataset_script.annotate.server import serve
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is missing: pip install -e '.[annotate]'") from error
    from ..inference.annotation_models import load_annotation_models

    models = load_annotation_models(
        args.segmenter,
        args.tracker,
        args.detector,
        args.checkpoint,
        args.audio_classifier,
        args.device,
    )
    serve(args.tree, annotator, models, args.review, args.port, _announce)


def _announce(address: str) -> None:
    print(f"Annotate at {address}\nCtrl-C ends it; everything is saved at once.", flush=True)
