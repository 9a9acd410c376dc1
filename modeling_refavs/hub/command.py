"""`refavs publish`: its arguments, and the door to what each of its actions does."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path


MODEL, METRICS, DATASET, SPACE = "model", "metrics", "dataset", "space"
ACTIONS = {
    MODEL: ("a checkpoint with its code and its card", "folder that save_pretrained, or refavs train, wrote"),
    METRICS: ("J, F and S, a Space each", "modeling_refavs/metrics, or the folder of one of them"),
    DATASET: ("Parquet shards with their card", "a tree with metadata.csv, or what refavs dataset export wrote"),
    SPACE: ("the demo, with all that it imports", "folder with app.py, README.md and requirements.txt"),
}


def add_publish(commands: argparse._SubParsersAction, say: Callable[[str], None]) -> None:
    """`refavs publish model|metrics|dataset|space SOURCE REPO_ID`; `say` gets its lines."""
    publish = commands.add_parser(
        "publish",
        help="push weights, metrics, data or the demo to the Hub, and load them back",
        description="Build what goes to the Hub, show it, check it, push it, read it back and compare. Run again, it sends only "
        "what is missing.",
    )
    actions = publish.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action, (what, source) in ACTIONS.items():
        parser = actions.add_parser(action, help=what, description=f"Publish {what}.")
        parser.add_argument("source", type=Path, metavar="SOURCE", help=source)
        parser.add_argument("repo_id", metavar="REPO_ID", help="USER/NAME" + (" or USER" if action == METRICS else ""))
        parser.add_argument("--private", action="store_true", help="a new repository is private")
        parser.add_argument("--dry-run", action="store_true", help="build, show and check; send nothing")
        parser.add_argument("--revision", metavar="BRANCH", help="branch to push to, made if need be (default: main)")
        if action == DATASET:
            parser.add_argument("--licence", default="other", help="of a tree's card: an id of the Hub's list")
        parser.set_defaults(run=partial(run_publish, say=say))


def run_publish(args: argparse.Namespace, say: Callable[[str], None]) -> None:
    """Carry out the command."""
    from .publications import publications_of
    from .publish import publish

    for publication in publications_of(args):
        publish(publication, args.private, args.dry_run, args.revision, say)
