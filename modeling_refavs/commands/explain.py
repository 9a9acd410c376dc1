"""`refavs explain`: one picture of what an answer depends on."""

import argparse
from pathlib import Path

from . import add_model_option


PICTURE_SUFFIXES = (".png", ".pdf", ".svg")


def add_command(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "explain",
        help="draw what an answer depends on",
        description="Draw how far an answer falls when a word is masked, a second of sound muted, "
        "the sound left out or the memory emptied, and where the cues point.",
    )
    parser.add_argument("video", type=Path, help="any video file; it is only read")
    parser.add_argument("expression", metavar="sentence", help='such as "the dog that is barking"')
    add_model_option(parser)
    parser.add_argument(
        "--output", required=True, type=Path, help="plot to write: .png, .pdf or .svg"
    )
    parser.add_argument(
        "--start", type=int, default=0, metavar="S", help="first second that is drawn (default: 0)"
    )
    parser.add_argument(
        "--seconds", type=int, default=10, metavar="N", help="how many, at most (default: 10)"
    )
    parser.add_argument(
        "--threshold", type=float, default=0.5, help="probability that counts (default: 0.5)"
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)"
    )
    parser.add_argument(
        "--attention",
        action="store_true",
        help="draw instead what the mask queries attend to: sound, places of the frame, words",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """`refavs explain`: draw what the answer to one sentence depends on, or its attention.

    Raises:
        ValueError: any input or output that cannot work.
    """
    from ..inference.loading import choose_device, load_model
    from ..inference.segment import check_request
    from ..utils.files import whole_file
    from ..video_refavs import probe_video
    from ..visualization.dependence_plot import plot_dependence
    from ..visualization.explain_plot import plot_cues

    if args.output.suffix.lower() not in PICTURE_SUFFIXES:
        raise ValueError(f"{args.output}: the plot must end in {', '.join(PICTURE_SUFFIXES)}")
    if not args.output.resolve().parent.is_dir():
        raise ValueError(f"{args.output}: there is no such folder to write to")
    check_request([args.expression], args.threshold)
    probe_video(args.video)
    model, processor = load_model(args.model, choose_device(args.device), graphs=False)
    plot = plot_cues if args.attention else plot_dependence
    figure = plot(
        model,
        processor,
        args.video,
        args.expression,
        start=args.start,
        num_steps=args.seconds,
        threshold=args.threshold,
    )
    with whole_file(args.output) as unfinished:
        figure.savefig(unfinished)
