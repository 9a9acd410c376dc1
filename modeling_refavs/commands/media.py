"""The commands segment, live, explain and demo: a video and sentences in, masks out."""

import argparse
import sys
from pathlib import Path

from . import PRECISIONS


OUTPUT_HELP = "video to write, .mp4, .mov, .mkv or .webm; a name without a suffix is a folder of PNGs"


def add_commands(commands: argparse._SubParsersAction) -> None:
    _add_segment(commands)
    _add_live(commands)
    _add_explain(commands)
    _add_demo(commands)


def _add_segment(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "segment",
        help="colour what a sentence means in a video",
        description="Colour what each sentence means in a video of any length; print, as JSON, when it is to be seen. "
        "A run that was stopped goes on when it is asked again.",
    )
    parser.add_argument("video", type=Path, help="any video file; it is only read")
    parser.add_argument("expressions", nargs="+", metavar="sentence", help='such as "the dog that is barking"')
    parser.add_argument("--model", required=True, help="folder of a model, or its id on the Hub")
    parser.add_argument("--output", required=True, type=Path, help=OUTPUT_HELP)
    parser.add_argument("--masks", type=Path, metavar="DIR", help="also write a PNG per sentence and second")
    parser.add_argument("--contact-sheet", type=Path, metavar="PNG", help="also draw the whole video as one picture")
    parser.add_argument("--summary", type=Path, metavar="JSON", help="write the JSON here, not to standard output")
    parser.add_argument("--threshold", type=float, default=0.5, help="probability that counts (default: 0.5)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    _add_segment_outputs(parser)
    _add_segment_times(parser)
    parser.set_defaults(run=_run_segment)


def _add_segment_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mode",
        default="overlay",
        choices=["overlay", "cutout", "matte", "blur-rest"],
        help="colour the object, show it alone, white on black, or blur all but it (default: %(default)s)",
    )
    parser.add_argument("--coco", type=Path, metavar="JSON", help="also write the masks as COCO instances")
    parser.add_argument("--cvat", type=Path, metavar="XML", help="also write the masks as CVAT for images 1.1")
    parser.add_argument("--dtype", default="float32", choices=PRECISIONS, help="of the model (default: %(default)s)")
    parser.add_argument("--compile", action="store_true", help="compile the model's layers first: minutes, once")


def _add_segment_times(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fps",
        type=_looks,
        default=1,
        metavar="N|video",
        help="look N times a second, or at every picture: masks then move at the video's own frame rate; 1 (the default): "
        "one mask a second, held",
    )
    parser.add_argument(
        "--smooth",
        type=float,
        metavar="SECONDS",
        help="average masks over this time to either side (default: 0.12 with --fps; 0: not at all)",
    )


def _looks(text: str) -> float | str:
    return text if text == "video" else float(text)


def _run_segment(args: argparse.Namespace) -> None:
    from ..media.command import run_segment

    summary = run_segment(args)
    if summary:
        print(summary)


def _add_live(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "live",
        help="ask a camera, a microphone or any stream, second by second",
        description="Ask sentences of a live source; print a line of JSON for each second. Where the model is too slow, "
        "seconds are dropped, and the line says how many. A file is played at its own pace. Ctrl-C ends it.",
        epilog="camera and microphone on Linux: refavs live /dev/video0 --format v4l2 --sound default --sound-format alsa "
        '"the dog that is barking" --model MODEL',
    )
    parser.add_argument("source", help="device, URL or file: whatever FFmpeg opens")
    parser.add_argument("expressions", nargs="+", metavar="sentence", help='such as "the dog that is barking"')
    parser.add_argument("--model", required=True, help="folder of a model, or its id on the Hub")
    parser.add_argument(
        "--format", metavar="NAME", help="of the source, as FFmpeg calls it: v4l2, avfoundation, dshow"
    )
    parser.add_argument("--sound", metavar="SOURCE", help="where the sound comes from, if not with the pictures")
    parser.add_argument("--sound-format", metavar="NAME", help="of the sound's source: alsa, dshow")
    parser.add_argument("--output", type=Path, help="also record pictures, sound and masks: .mp4, .mov, .mkv or .webm")
    parser.add_argument(
        "--seconds", type=float, metavar="N", help="stop after this time (default: when the source ends)"
    )
    parser.add_argument("--threshold", type=float, default=0.5, help="probability that counts (default: 0.5)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.add_argument("--dtype", default="float32", choices=PRECISIONS, help="default: %(default)s")
    parser.set_defaults(run=_run_live)


def _run_live(args: argparse.Namespace) -> None:
    from ..media.live import run_live

    print(run_live(args, lambda line: print(line, flush=True)), file=sys.stderr)


def _add_explain(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "explain",
        help="draw what the model reads to find an object",
        description="Draw what the model attends to, second by second: sound, places of the picture, words.",
    )
    parser.add_argument("video", type=Path, help="any video file; it is only read")
    parser.add_argument("expression", metavar="sentence", help='such as "the dog that is barking"')
    parser.add_argument("--model", required=True, help="folder of a model, or its id on the Hub")
    parser.add_argument("--output", required=True, type=Path, help="plot to write: .png, .pdf or .svg")
    parser.add_argument("--start", type=int, default=0, metavar="S", help="first second that is drawn (default: 0)")
    parser.add_argument("--seconds", type=int, default=10, metavar="N", help="how many, at most (default: 10)")
    parser.add_argument("--threshold", type=float, default=0.5, help="probability that counts (default: 0.5)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.set_defaults(run=_run_explain)


def _run_explain(args: argparse.Namespace) -> None:
    from ..media.attention import run_explain

    run_explain(args)


def _add_demo(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "demo", help="try it in a browser", description="Serve the page of spaces_demo/ on this machine."
    )
    parser.add_argument("--model", help="folder of a model, or its id on the Hub (default: the shipped checkpoint)")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.set_defaults(run=_run_demo)


def _run_demo(args: argparse.Namespace) -> None:
    folder = Path(__file__).parents[2] / "spaces_demo"
    if not (folder / "app.py").is_file():
        raise ValueError(f"{folder}: not here: the page comes with the repository, not with the package")
    sys.path.insert(0, str(folder))
    from app import MODEL, main

    main(args.model or MODEL, args.port)
