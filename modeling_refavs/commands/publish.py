"""`refavs publish model|metrics|dataset|space`: to the Hub and back."""

import argparse
from pathlib import Path


ACTIONS = {
    "model": (
        "a checkpoint with its code and its card",
        "folder that save_pretrained, or refavs train, wrote",
    ),
    "metrics": (
        "J, F and S, a Space each",
        "modeling_refavs/metrics, or the folder of one of them",
    ),
    "dataset": (
        "Parquet shards with their card",
        "a tree with metadata.csv, or what refavs dataset export wrote",
    ),
    "space": (
        "the demo, with all that it imports",
        "folder with app.py, README.md and requirements.txt",
    ),
}


def add_command(commands: argparse._SubParsersAction) -> None:
    publish = commands.add_parser(
        "publish",
        help="push weights, metrics, data or the demo to the Hub, and load them back",
        description="Build what goes to the Hub, show it, check it, push it, read it back and "
        "compare. Run again, it sends only "
        "what is missing.",
    )
    actions = publish.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action, (what, source) in ACTIONS.items():
        parser = actions.add_parser(action, help=what, description=f"Publish {what}.")
        parser.add_argument("source", type=Path, metavar="SOURCE", help=source)
        parser.add_argument(
            "repo_id",
            metavar="REPO_ID",
            help="USER/NAME" + (" or USER" if action == "metrics" else ""),
        )
        parser.add_argument("--private", action="store_true", help="a new repository is private")
        parser.add_argument(
            "--dry-run", action="store_true", help="build, show and check; send nothing"
        )
        parser.add_argument(
            "--revision",
            metavar="BRANCH",
            help="branch to push to, made if need be (default: main)",
        )
        if action == "dataset":
            parser.add_argument(
                "--licence", default="other", help="of a tree's card: an id of the Hub's list"
            )
        parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from ..hub.publish import publications_of, publish

    licence = getattr(args, "licence", None)
    for publication in publications_of(args.action, args.source, args.repo_id, licence):
        publish(publication, args.private, args.dry_run, args.revision, print)
