"""`refavs card`: a model card from a checkpoint, its results and its facts."""

import argparse
from pathlib import Path


def add_command(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "card", help="render a model card", description="Render a model card."
    )
    parser.add_argument("checkpoint", type=Path, help="the model's folder")
    parser.add_argument("results", type=Path, help="report.json of refavs evaluate")
    parser.add_argument("facts", type=Path, help="card_facts.yaml, see CardFacts")
    parser.add_argument("--output", required=True, type=Path, help="file to write")
    parser.add_argument(
        "--repo-id",
        metavar="USER/NAME",
        help="where the model is published (default: it is a folder)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from ..hub.card import render_card
    from ..utils.files import whole_file

    with whole_file(args.output) as unfinished:
        card = render_card(args.checkpoint, args.results, args.facts, args.repo_id)
        unfinished.write_text(card, encoding="utf-8")
