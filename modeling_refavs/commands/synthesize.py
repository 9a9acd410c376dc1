"""`refavs synthesize`: a synthetic Ref-AVS Bench."""

import argparse


def add_command(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "synthesize",
        help="draw a synthetic Ref-AVS Bench",
        description="Draw a synthetic Ref-AVS Bench: clips, sounds, masks and sentences in the "
        "layout of the real one. "
        "A run that was stopped goes on where it was; the same seed gives the same bytes, whatever "
        "the workers.",
    )
    parser.add_argument("output", metavar="OUT", help="folder to write")
    parser.add_argument("--clips", type=int, required=True, metavar="N", help="how many clips")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of everything (default: 0)"
    )
    parser.add_argument(
        "--size",
        default="96",
        metavar="PIXELS",
        help="side of the frames, or HEIGHTxWIDTH (default: 96)",
    )
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="length of a clip (default: 10)"
    )
    parser.add_argument(
        "--fps", type=float, default=1.0, help="stored frames a second (default: 1)"
    )
    parser.add_argument("--video", action="store_true", help="also write an mp4 of each clip")
    parser.add_argument(
        "--null-share",
        type=float,
        default=0.08,
        help="of train's and val's clips, those whose sentences refer to nothing (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--novelty-share",
        type=float,
        default=0.0,
        help="of train's and val's other clips, those with a novel object (default: %(default)s)",
    )
    parser.add_argument(
        "--splits",
        nargs="+",
        metavar="SPLIT",
        help="draw these alone; clips of others are counted (default: all)",
    )
    parser.add_argument(
        "--library",
        default="",
        metavar="DIR",
        help="photographs and recordings in place of drawings and tones (refavs library build)",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument(
        "--shortcuts",
        action="store_true",
        help="measure and print how far guessers get without a modality",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from dataset_script.synthetic import SPLITS, SynthesisOptions, parse_size, synthesize

    height, width = parse_size(args.size)
    shares = (args.null_share, args.novelty_share)
    options = SynthesisOptions(
        args.seed, height, width, args.seconds, args.fps, args.video, *shares, args.library
    )
    synthesize(args.output, args.clips, options, args.workers, args.splits or SPLITS)
    if args.shortcuts:
        from dataset_script.synthetic.shortcuts import format_shortcuts, measure_shortcuts

        print(format_shortcuts(measure_shortcuts(args.output)))
