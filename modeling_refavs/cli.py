"""The `refavs` command: parsing and dispatch only; each command's room is imported when the command runs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, or 2 after one clear line on a user's mistake."""
    parser = make_parser()
    args = parser.parse_args(arguments)
    try:
        return args.run(args) or 0
    except (ValueError, OSError) as error:
        print(f"refavs {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"refavs {args.command}: stopped", file=sys.stderr)
        return 130


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="refavs", description="Segment the object that a sentence means in a video with sound."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_segment(commands)
    return parser


def _add_segment(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "segment",
        help="colour what a sentence means in a video",
        description="Colour what each sentence means in a video; print, as JSON, when it is to be seen.",
    )
    parser.add_argument("video", type=Path, help="any video file; it is only read")
    parser.add_argument("expressions", nargs="+", metavar="sentence", help='such as "the dog that is barking"')
    parser.add_argument("--model", required=True, help="folder of a model, or its id on the Hub")
    parser.add_argument("--output", required=True, type=Path, help="video to write: .mp4, .mov or .mkv")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="also write a PNG per sentence and second")
    parser.add_argument("--contact-sheet", type=Path, metavar="PNG", help="also draw the whole video as one picture")
    parser.add_argument("--summary", type=Path, metavar="JSON", help="write the JSON here, not to standard output")
    parser.add_argument("--threshold", type=float, default=0.5, help="probability that counts (default: 0.5)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.set_defaults(run=_run_segment)


def _run_segment(args: argparse.Namespace) -> None:
    from .media.command import run_segment

    summary = run_segment(args)
    if summary:
        print(summary)


if __name__ == "__main__":
    sys.exit(main())
