"""The `refavs` command: dispatch only."""

import argparse
import sys
from collections.abc import Sequence

from .commands import data, hub, measuring, media, training


ROOMS = (media, data, training, measuring, hub)  # in the order of the help


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, or 2 after one clear line on a user's mistake."""
    parser = make_parser()
    args = parser.parse_args(arguments)
    try:
        return args.run(args) or 0
    except ModuleNotFoundError as error:
        print(f"refavs {args.command}: {error.name} is missing: pip install -e '.[train]'", file=sys.stderr)
        return 2
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
    for room in ROOMS:
        room.add_commands(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
