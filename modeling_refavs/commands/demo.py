"""`refavs demo`: the page of `spaces_demo/` on this machine."""

import argparse
import sys
from pathlib import Path


def add_command(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "demo",
        help="try it in a browser",
        description="Serve the page of spaces_demo/ on this machine.",
    )
    parser.add_argument(
        "--model", help="folder of a model, or its id on the Hub (default: the shipped checkpoint)"
    )
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    folder = Path(__file__).parents[2] / "spaces_demo"
    if not (folder / "app.py").is_file():
        raise ValueError(
            f"{folder}: not here: the page comes with the repository, not with the package"
        )
    sys.path.insert(0, str(folder))
    from app import MODEL, main

    main(args.model or MODEL, args.port)
