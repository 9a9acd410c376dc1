"""The commands dataset and synthesize: Ref-AVS Bench, and trees in its layout."""

import argparse


def add_commands(commands: argparse._SubParsersAction) -> None:
    _add_dataset(commands)
    _add_synthesize(commands)


def _add_dataset(commands: argparse._SubParsersAction) -> None:
    dataset = commands.add_parser("dataset", help="check, count and export Ref-AVS Bench or a tree in its layout")
    actions = dataset.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_dataset_check(actions)
    _add_dataset_stats(actions)
    _add_dataset_export(actions)


def _add_dataset_check(actions: argparse._SubParsersAction) -> None:
    check = actions.add_parser(
        "check",
        help="count and name every irregularity; exit code 0: training can go on, 1: it cannot, 2: nothing to read",
    )
    check.add_argument("tree", metavar="DIR", help="folder with metadata.csv, media/ and gt_mask/, or a csv alone")
    check.add_argument("--report", metavar="FILE", help="write the whole report as JSON")
    check.add_argument("--num-proc", type=int, default=1, help="processes that decode (default: 1)")
    check.set_defaults(run=_run_dataset_check)


def _add_dataset_stats(actions: argparse._SubParsersAction) -> None:
    stats = actions.add_parser("stats", help="the paper's tables and figures, counted, as Markdown and PNG")
    stats.add_argument("tree", metavar="DIR", help="folder with metadata.csv, or a csv alone")
    stats.add_argument("--output", default="refavs_statistics", metavar="FOLDER", help="default: %(default)s")
    stats.set_defaults(run=_run_dataset_stats)


def _add_dataset_export(actions: argparse._SubParsersAction) -> None:
    export = actions.add_parser("export", help="Parquet shards with the media inside; run again to go on when killed")
    export.add_argument("tree", metavar="DIR", help="folder with metadata.csv, media/ and gt_mask/")
    export.add_argument("output", metavar="OUT", help="a new folder, or that of an earlier export")
    export.add_argument(
        "--configurations",
        nargs="+",
        default=["expressions"],
        metavar="NAME",
        help="expressions (a row a sentence) and/or clips (a row a clip); default: expressions",
    )
    export.add_argument("--paper-splits", action="store_true", help="test_u with unseen categories only")
    export.add_argument(
        "--damaged",
        default="error",
        choices=["error", "skip", "trust"],
        help="missing or broken media: stop, leave their rows out, or do not look; default: error",
    )
    export.add_argument("--licence", default="other", help="licence id for the card; default: other, with a note")
    export.add_argument("--shard-mb", type=int, default=128, help="MiB of media in a shard; default: 128")
    export.set_defaults(run=_run_dataset_export)


def _run_dataset_check(args: argparse.Namespace) -> int:
    from dataset_script.check_report import report_text, write_report
    from dataset_script.checking import check_tree

    report = check_tree(args.tree, num_proc=args.num_proc, progress=True)
    if args.report:
        write_report(report, args.report)
    print(report_text(report))
    return 0 if report.can_train else 1


def _run_dataset_stats(args: argparse.Namespace) -> None:
    from dataset_script.statistics_report import write_statistics

    print(write_statistics(args.tree, args.output, progress=True))


def _run_dataset_export(args: argparse.Namespace) -> None:
    from dataset_script.export_parquet import export

    manifest = export(
        args.tree, args.output, tuple(args.configurations), paper_splits=args.paper_splits, damaged=args.damaged,
        licence=args.licence, shard_bytes=args.shard_mb * 2**20, progress=True,
    )  # fmt: skip
    shards = manifest["shards"].values()
    rows, left_out = sum(shard["rows"] for shard in shards), sum(shard["left_out"] for shard in shards)
    print(f"{args.output}: {len(shards)} shards, {rows} rows, {left_out} sentences left out")


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
    parser.add_argument(
        "--null-share",
        type=float,
        default=0.08,
        help="of train's and val's clips, those whose sentences refer to nothing (default: %(default)s)",
    )
    parser.add_argument(
        "--novelty-share",
        type=float,
        default=0.0,
        help="of train's and val's other clips, those with a thing of no kind (default: %(default)s)",
    )
    parser.add_argument(
        "--splits", nargs="+", metavar="SPLIT", help="draw these alone; clips of others are counted (default: all)"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument(
        "--shortcuts", action="store_true", help="measure and print how far guessers get without a modality"
    )
    parser.set_defaults(run=_run_synthesize)


def _run_synthesize(args: argparse.Namespace) -> None:
    from dataset_script.synthetic import SPLITS, SynthesisOptions, parse_size, synthesize

    height, width = parse_size(args.size)
    shares = (args.null_share, args.novelty_share)
    options = SynthesisOptions(args.seed, height, width, args.seconds, args.fps, args.video, *shares)
    synthesize(args.output, args.clips, options, args.workers, args.splits or SPLITS)
    if args.shortcuts:
        from dataset_script.synthetic.shortcuts import format_shortcuts, measure_shortcuts

        print(format_shortcuts(measure_shortcuts(args.output)))
