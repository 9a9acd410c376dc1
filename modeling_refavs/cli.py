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
    _add_synthesize(commands)
    return parser


def _add_synthesize(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "synthesize",
        help="draw a synthetic Ref-AVS Bench",
        description="Draw a synthetic Ref-AVS Bench: clips, sounds, masks and sentences in the layout of the real one. "
        "A run that was stopped goes on where it was; the same seed gives the same bytes, whatever the workers.",
    )
    parser.add_argument("output", metavar="OUT", help="folder to write")
    parser.add_argument("--clips", type=int, required=True, metavar="N", help="how many clips")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of everything (default: 0)")
    parser.add_argument(
        "--size", default="96", metavar="PIXELS", help="side of the frames, or HEIGHTxWIDTH (default: 96)"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a clip (default: 10)")
    parser.add_argument("--fps", type=float, default=1.0, help="stored frames a second (default: 1)")
    parser.add_argument("--video", action="store_true", help="also write an mp4 of each clip")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument(
        "--shortcuts", action="store_true", help="measure and print how far guessers get without a modality"
    )
    parser.set_defaults(run=_run_synthesize)


def _run_synthesize(args: argparse.Namespace) -> None:
    from dataset_script.synthetic import SynthesisOptions, parse_size, synthesize

    height, width = parse_size(args.size)
    options = SynthesisOptions(args.seed, height, width, args.seconds, args.fps, args.video)
    synthesize(args.output, args.clips, options, args.workers)
    if args.shortcuts:
        from dataset_script.synthetic.shortcuts import format_shortcuts, measure_shortcuts

        print(format_shortcuts(measure_shortcuts(args.output)))


if __name__ == "__main__":
    sys.exit(main())
