"""`refavs dataset check|stats|import|export`: Ref-AVS Bench, or a tree in its layout."""

import argparse


def add_command(commands: argparse._SubParsersAction) -> None:
    dataset = commands.add_parser(
        "dataset", help="check, count, import and export Ref-AVS Bench or trees in its layout"
    )
    actions = dataset.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_check(actions)
    _add_stats(actions)
    _add_import(actions)
    _add_export(actions)


def _add_check(actions: argparse._SubParsersAction) -> None:
    check = actions.add_parser(
        "check",
        help="count and name every irregularity; exit code 0: training can go on, 1: it cannot, 2: "
        "nothing to read",
    )
    check.add_argument(
        "tree", metavar="DIR", help="folder with metadata.csv, media/ and gt_mask/, or a csv alone"
    )
    check.add_argument("--report", metavar="FILE", help="write the whole report as JSON")
    check.add_argument("--num-proc", type=int, default=1, help="processes that decode (default: 1)")
    check.set_defaults(run=_run_check)


def _add_stats(actions: argparse._SubParsersAction) -> None:
    stats = actions.add_parser(
        "stats", help="the paper's tables and figures, counted, as Markdown and PNG"
    )
    stats.add_argument("tree", metavar="DIR", help="folder with metadata.csv, or a csv alone")
    stats.add_argument(
        "--output", default="refavs_statistics", metavar="FOLDER", help="default: %(default)s"
    )
    stats.set_defaults(run=_run_stats)


FORMS = ("ref-youtube-vos", "mevis", "youtube-vis", "coco", "cvat")
INTERVALS = "webvtt"  # of sounding intervals, which are in annotations and not in a tree's layout


def _add_import(actions: argparse._SubParsersAction) -> None:
    load = actions.add_parser(
        "import", help="own videos with masks and sentences, as a tree in the layout of Ref-AVS"
    )
    load.add_argument(
        "form", choices=(*FORMS, INTERVALS), help="of the annotations: see docs/finetuning.md"
    )
    load.add_argument(
        "source",
        metavar="SOURCE",
        help="folder of annotations, JPEGImages/<video>/ or videos/<video>.mp4, and "
        "audio/<video>.wav; or the JSON or XML in it",
    )
    load.add_argument(
        "tree", metavar="TREE", help="a new folder; for webvtt one that holds the clips"
    )
    load.add_argument(
        "--fps",
        type=float,
        metavar="N",
        help="frames a second that the numbers of folders of frames count, where the annotations "
        "do not say",
    )
    load.add_argument(
        "--split", default="train", help="of videos that name none; default: %(default)s"
    )
    load.add_argument(
        "--val-share", type=float, default=0.0, help="of these, for val; default: %(default)s"
    )
    _add_annotator(load)
    load.set_defaults(run=_run_import)


def _add_annotator(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--annotator", metavar="NAME", help="for webvtt: whose annotations (refavs annotate)"
    )


def _add_export(actions: argparse._SubParsersAction) -> None:
    export = actions.add_parser(
        "export",
        help="Parquet shards with the media inside, run again to go on when killed; or another "
        "data set's form",
    )
    export.add_argument("tree", metavar="DIR", help="folder with metadata.csv, media/ and gt_mask/")
    export.add_argument(
        "--form",
        default="parquet",
        choices=["parquet", *FORMS, INTERVALS],
        help="default: %(default)s, which the options below are of",
    )
    export.add_argument("output", metavar="OUT", help="a new folder, or that of an earlier export")
    export.add_argument(
        "--configurations",
        nargs="+",
        default=["expressions"],
        metavar="NAME",
        help="expressions (a row a sentence) and/or clips (a row a clip); default: expressions",
    )
    export.add_argument(
        "--paper-splits", action="store_true", help="test_u with unseen categories only"
    )
    export.add_argument(
        "--damaged",
        default="error",
        choices=["error", "skip", "trust"],
        help="missing or broken media: stop, leave their rows out, or do not look; default: error",
    )
    export.add_argument(
        "--licence", default="other", help="licence id for the card; default: other, with a note"
    )
    export.add_argument(
        "--shard-mb", type=int, default=128, help="MiB of media in a shard; default: 128"
    )
    _add_annotator(export)
    export.set_defaults(run=_run_export)


def _run_check(args: argparse.Namespace) -> int:
    from dataset_script.checking import check_tree, report_text, write_report

    report = check_tree(args.tree, num_proc=args.num_proc, progress=True)
    if args.report:
        write_report(report, args.report)
    print(report_text(report))
    return 0 if report.can_train else 1


def _run_stats(args: argparse.Namespace) -> None:
    from dataset_script.statistics_report import write_statistics

    print(write_statistics(args.tree, args.output, progress=True))


def _annotator(args: argparse.Namespace) -> str:
    if (args.form == INTERVALS) != (args.annotator is not None):
        raise ValueError("--annotator NAME belongs to the form webvtt, which needs it")
    return args.annotator


def _run_import(args: argparse.Namespace) -> None:
    annotator = _annotator(args)
    if args.form == INTERVALS:
        from dataset_script.annotate.sounding_vtt import import_vtt

        counts = import_vtt(args.source, args.tree, annotator)
        print(f"{args.tree}: {counts['intervals']} intervals of {counts['clips']} clips")
        return
    from dataset_script.import_videos import import_videos

    counts = import_videos(
        args.form,
        args.source,
        args.tree,
        frame_rate=args.fps,
        split=args.split,
        val_share=args.val_share,
        progress=True,
    )
    print(
        f"{args.tree}: {counts['videos']} videos, {counts['clips']} clips of 10 s, "
        f"{counts['sentences']} sentences; {counts['silent_videos']} videos are silent"
    )


def _run_export(args: argparse.Namespace) -> None:
    annotator = _annotator(args)
    if args.form == INTERVALS:
        from dataset_script.annotate.sounding_vtt import export_vtt

        counts = export_vtt(args.tree, annotator, args.output)
        print(f"{args.output}: {counts['intervals']} intervals of {counts['clips']} clips")
        return
    if args.form != "parquet":
        from dataset_script.export_videos import export_videos

        counts = export_videos(args.form, args.tree, args.output, progress=True)
        print(f"{args.output}: {counts['clips']} clips, {counts['sentences']} sentences")
        return
    from dataset_script.export_parquet import export

    manifest = export(
        args.tree,
        args.output,
        tuple(args.configurations),
        paper_splits=args.paper_splits,
        damaged=args.damaged,
        licence=args.licence,
        shard_bytes=args.shard_mb * 2**20,
        progress=True,
    )
    shards = manifest["shards"].values()
    rows, left_out = (
        sum(shard["rows"] for shard in shards),
        sum(shard["left_out"] for shard in shards),
    )
    print(f"{args.output}: {len(shards)} shards, {rows} rows, {left_out} sentences left out")
