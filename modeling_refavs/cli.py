"""The `refavs` command: parsing and dispatch only; each command's room is imported when the command runs."""

import argparse
import sys
from collections.abc import Sequence


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
    return parser


if __name__ == "__main__":
    sys.exit(main())
