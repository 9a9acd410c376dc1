"""`refavs live`: sentences asked of a camera, a microphone or any stream, second by second."""

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path

from . import PRECISIONS, add_model_option


def add_command(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "live",
        help="ask a camera, a microphone or any stream, second by second",
        description="Ask sentences of a live source; print a line of JSON for each second. Where "
        "the model is too slow, "
        "seconds are dropped, and the line says how many. A file is played at its own pace. Ctrl-C "
        "ends it.",
        epilog="camera and microphone on Linux: refavs live /dev/video0 --format v4l2 --sound "
        "default --sound-format alsa "
        '"the dog that is barking" --model MODEL',
    )
    parser.add_argument("source", help="device, URL or file: whatever FFmpeg opens")
    parser.add_argument(
        "expressions", nargs="+", metavar="sentence", help='such as "the dog that is barking"'
    )
    add_model_option(parser)
    parser.add_argument(
        "--format",
        metavar="NAME",
        help="of the source, as FFmpeg calls it: v4l2, avfoundation, dshow",
    )
    parser.add_argument(
        "--sound", metavar="SOURCE", help="where the sound comes from, if not with the pictures"
    )
    parser.add_argument("--sound-format", metavar="NAME", help="of the sound's source: alsa, dshow")
    parser.add_argument(
        "--output",
        type=Path,
        help="also record pictures, sound and masks: .mp4, .mov, .mkv or .webm",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="N",
        help="stop after this time (default: when the source ends)",
    )
    parser.add_argument(
        "--threshold", type=float, default=0.5, help="probability that counts (default: 0.5)"
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)"
    )
    parser.add_argument(
        "--dtype", default="float32", choices=PRECISIONS, help="default: %(default)s"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Answer until the source ends, `--seconds` are over, or it is interrupted: a line of JSON for
    each second, and at last how
    many were answered and how many dropped, on standard error."""
    from ..feature_extraction_refavs import SAMPLING_RATE
    from ..inference.live import LiveInput, LiveSource, describe, follow
    from ..inference.loading import choose_device, load_model
    from ..inference.segment import check_request
    from ..streaming_refavs import RefAVSStream
    from ..visualization.render import Recorder
    from ..visualization.video_writer import SOUND_LAYOUT, SOUND_RATE, encoding_of

    check_request(args.expressions, args.threshold)
    pictures = LiveInput(args.source, args.format)
    sound = LiveInput(args.sound, args.sound_format) if args.sound else None
    for source in filter(None, (pictures, sound)):
        source.check()
    waveforms = [(SAMPLING_RATE, "mono")]
    if args.output:
        encoding_of(args.output)
        waveforms.append((SOUND_RATE, SOUND_LAYOUT))
    model, processor = load_model(args.model, choose_device(args.device), args.dtype)
    stream = RefAVSStream(model, processor, args.expressions, args.threshold)
    source = LiveSource(pictures, sound, waveforms, keep_pictures=bool(args.output))
    answered, dropped = 0, 0
    with ExitStack() as stack:
        recorder = stack.enter_context(Recorder(args.output, source)) if args.output else None
        try:
            for answer in follow(source, stream):
                print(json.dumps(describe(answer), ensure_ascii=False), flush=True)
                answered, dropped = answered + 1, dropped + len(answer.dropped)
                if recorder:
                    recorder.record(answer)
                if args.seconds and answer.second.number + 1 >= args.seconds:
                    break
        except KeyboardInterrupt:  # the usual end of a live source: the recording is whole
            pass
        finally:
            source.stop()
    if not answered:
        raise ValueError(f"{args.source}: not one second came of it")
    print(f"{answered} s answered, {dropped + source.lost} s dropped", file=sys.stderr)
