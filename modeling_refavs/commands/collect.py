"""`refavs collect`: clips of ten seconds out of raw videos, by the paper's rules."""

import argparse


def add_command(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "collect",
        help="cut clips of ten seconds out of raw videos, by the paper's rules",
        description="Cut clips of ten seconds out of raw videos into the layout of Ref-AVS Bench. "
        "Left out is what a rule of docs/collecting.md is against; collected.md in TREE says what, "
        "and what was measured. A run that was stopped goes on where it was.",
    )
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="files that PyAV reads")
    parser.add_argument("--output", required=True, metavar="TREE", help="folder to write")
    parser.add_argument(
        "--every",
        type=float,
        default=10.0,
        metavar="N",
        help="seconds, at least, from one clip's start to the next (default: 10)",
    )
    parser.add_argument(
        "--limit",
        nargs="+",
        default=[],
        metavar="RULE=VALUE",
        help="other limits, such as scene_cut=30",
    )
    parser.add_argument(
        "--audio-classifier",
        metavar="FOLDER",
        help="YAMNet with its classes, the audio folder of `refavs parts fetch`: leaves out clips "
        "in which music alone is heard, and prefers those in which a source of sound is",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from dataset_script.collect import CollectOptions, collect_videos

    options = CollectOptions(args.every, _read_limits(args.limit), args.audio_classifier)
    hear = None
    if args.audio_classifier:
        from ..inference.loading import load_sound_classifier

        hear = load_sound_classifier(args.audio_classifier)
    report = collect_videos(args.videos, args.output, options, hear, progress=True)
    clips = sum(map(len, report["clips"].values()))
    print(f"{args.output}: {clips} clips of {len(report['clips'])} videos; see collected.md there")
    for error in report["unread"].values():
        print(f"not read: {error}")
    return 1 if len(report["unread"]) == len(args.videos) else 0


def _read_limits(words: list[str]) -> dict[str, float]:
    limits = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            limits[name] = float(value)
        except ValueError as error:
            raise ValueError(f"--limit {word}: it must be RULE=VALUE") from error
    return limits
