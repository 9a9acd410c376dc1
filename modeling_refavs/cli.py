"""The `refavs` command: dispatch only."""

import argparse
import atexit
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from .commands import (
    ablate,
    annotate,
    benchmark,
    card,
    collect,
    compare,
    convert,
    dataset,
    demo,
    evaluate,
    explain,
    library,
    live,
    pretrain,
    probe,
    publish,
    segment,
    synthesize,
    train,
)
from .utils.processes import Terminated, sigterm_as_interrupt


COMMANDS = (  # in the order of the help
    segment,
    live,
    explain,
    demo,
    collect,
    annotate,
    dataset,
    library,
    synthesize,
    pretrain,
    train,
    ablate,
    compare,
    evaluate,
    probe,
    benchmark,
    convert,
    card,
    publish,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, 2 after one clear line on a user's mistake, or 130 or 143 when it
    was stopped by Ctrl-C or SIGTERM."""
    parser = make_parser()
    args = parser.parse_args(arguments)
    try:
        with sigterm_as_interrupt():
            return args.run(args) or 0
    except ModuleNotFoundError as error:
        print(
            f"refavs {args.command}: {error.name} is missing: pip install -e '.[train]'",
            file=sys.stderr,
        )
        return 2
    except (ValueError, OSError) as error:
        print(f"refavs {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"refavs {args.command}: stopped", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def run() -> NoReturn:
    """`main`, as a program that ends without taking apart what the system frees anyway: with torch,
    Python needs a second for that."""
    status = main()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # whoever read it is gone
            stream.flush()
    os._exit(status)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="refavs", description="Segment the object that a sentence means in a video with sound."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_command(commands)
    return parser


if __name__ == "__main__":
    run()
