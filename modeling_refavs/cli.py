"""The `refavs` command: parsing and dispatch only; each command's room is imported when the command runs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


PRECISIONS = ("float32", "bf16", "fp16", "int8")
OUTPUT_HELP = "video to write, .mp4, .mov, .mkv or .webm; a name without a suffix is a folder of PNGs"


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
    _add_segment(commands)
    _add_live(commands)
    _add_explain(commands)
    _add_dataset(commands)
    _add_synthesize(commands)
    _add_convert_released(commands)
    _add_convert_vggish(commands)
    _add_evaluate(commands)
    _add_pretrain(commands)
    _add_train(commands)
    _add_ablate(commands)
    _add_publish(commands)
    _add_benchmark(commands)
    _add_demo(commands)
    return parser


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
    from .media.command import run_segment

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
    from .media.live import run_live

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
    from .media.attention import run_explain

    run_explain(args)


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
    options = SynthesisOptions(args.seed, height, width, args.seconds, args.fps, args.video, args.null_share)
    synthesize(args.output, args.clips, options, args.workers, args.splits or SPLITS)
    if args.shortcuts:
        from dataset_script.synthetic.shortcuts import format_shortcuts, measure_shortcuts

        print(format_shortcuts(measure_shortcuts(args.output)))


def _add_convert_released(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "convert-released",
        help="turn the authors' checkpoint into a folder for from_pretrained",
        description="Turn the checkpoint that the Ref-AVS authors released into a folder for from_pretrained.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="CKPT.pth", help="the released state dict; it is only read")
    parser.add_argument("output", type=Path, metavar="OUT", help="a new or empty folder")
    parser.add_argument(
        "--vggish", type=Path, metavar="PTH", help="the public VGGish port, so that sound can be given"
    )
    parser.add_argument(
        "--text-model", metavar="DIR", help="distilroberta-base, a folder or its id, so that sentences can be given"
    )
    parser.add_argument("--report", type=Path, metavar="JSON", help="write what became of every key")
    parser.set_defaults(run=_run_convert_released)


def _add_convert_vggish(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "convert-vggish",
        help="turn the public VGGish port into a folder for from_pretrained",
        description="Turn the public PyTorch port of VGGish into a folder for from_pretrained.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="VGGISH.pth", help="the port's state dict; it is only read")
    parser.add_argument("output", type=Path, metavar="OUT", help="a new or empty folder")
    parser.add_argument("--report", type=Path, metavar="JSON", help="write what became of every key")
    parser.set_defaults(run=_run_convert_vggish)


def _run_convert_released(args: argparse.Namespace) -> None:
    from .hub.convert_released_checkpoint import convert_released_checkpoint

    report = convert_released_checkpoint(args.checkpoint, args.output, args.vggish, args.text_model, args.report)
    print(f"{args.output}: {report}")
    if not args.text_model:
        print("without --text-model there is no processor, and the model takes text_features in place of sentences")
    if not args.vggish:
        print("without --vggish the model takes audio_features in place of sound")


def _run_convert_vggish(args: argparse.Namespace) -> None:
    from .hub.convert_vggish_checkpoint import convert_vggish_checkpoint

    print(f"{args.output}: {convert_vggish_checkpoint(args.checkpoint, args.output, args.report)}")


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="the paper's tables: J, F and S with confidence intervals; run again to go on when stopped",
        description="Score a model, or masks that another program wrote, on Ref-AVS Bench or a tree in its layout.",
    )
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--model", help="folder of a model, or its id on the Hub")
    subject.add_argument("--predictions", type=Path, metavar="DIR", help="masks, DIR/<uid>/0000{0..9}.png")
    parser.add_argument("--data", required=True, help="folder with metadata.csv, an export, or its id on the Hub")
    parser.add_argument("--splits", nargs="+", default=["test_s", "test_u", "test_n"], metavar="SPLIT")
    parser.add_argument("--by", nargs="+", default=[], metavar="WHAT", help="grade, dimension, length, category")
    parser.add_argument("--output", type=Path, default=Path("refavs_evaluation"), metavar="DIR", help="%(default)s")
    parser.add_argument("--pooling", default="dataset", choices=["dataset", "released"], help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=4, help="of the released pooling; default: %(default)s")
    parser.add_argument(
        "--mask-size", type=_mask_size, default=256, metavar="N|own", help="height and width at which masks are scored"
    )
    parser.add_argument("--threshold", type=float, default=0.4, help="of J; default: %(default)s")
    parser.add_argument("--null-threshold", type=float, default=0.5, help="of S; default: %(default)s")
    parser.add_argument(
        "--empty-truth",
        default="true_negatives",
        choices=["true_negatives", "exact", "skip"],
        help="what a frame without the object scores in J; default: %(default)s",
    )
    parser.add_argument("--draws", type=int, default=1000, help="of the bootstrap; default: %(default)s")
    parser.add_argument("--paper-splits", action="store_true", help="test_u with unseen categories only")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default: %(default)s")
    parser.add_argument("--dtype", default="float32", choices=PRECISIONS, help="of the model; default: %(default)s")
    parser.set_defaults(run=_run_evaluate)


def _mask_size(text: str) -> int | None:
    return None if text == "own" else int(text)


def _run_evaluate(args: argparse.Namespace) -> None:
    from .metrics.command import run_evaluate

    report = run_evaluate(args)
    if report:
        print(report, end="")


def _add_pretrain(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "pretrain",
        help="train on a synthetic tree the three encoders that EEMC starts from",
        description="Train on a synthetic tree what Mask2Former, VGGish and RoBERTa are for Ref-AVS: folders for `refavs train`.",
    )
    parser.add_argument("tree", metavar="TREE", help="folder that `refavs synthesize` wrote")
    parser.add_argument("output", metavar="OUT", help="folder for mask2former/, vggish/ and text_model/")
    parser.add_argument("--parts", nargs="+", default=["vision", "audio", "text"], metavar="PART", help="default: all")
    parser.add_argument("--resume", action="store_true", help="keep finished parts, go on with a stopped one")
    parser.add_argument("--steps", type=int, metavar="N", help="default: 3200 vision, 3500 audio, 4000 text")
    parser.add_argument("--batch-size", type=int, metavar="N", help="default: 16 vision, 64 audio, 64 text")
    parser.add_argument("--learning-rate", type=float, help="default: 1e-3")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: %(default)s")
    parser.set_defaults(run=_run_pretrain)


def _run_pretrain(args: argparse.Namespace) -> None:
    from .training.pretraining.command import run_pretrain

    print(run_pretrain(args))


def _add_train(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "train",
        help="train by a recipe; run again to go on when stopped",
        description="Train by a recipe, a YAML file of arguments. On several GPUs: "
        "torchrun --nproc_per_node N -m modeling_refavs.training.train RECIPE ...",
    )
    parser.add_argument(
        "recipe", type=Path, metavar="RECIPE", help="such as modeling_refavs/training/recipes/smoke.yaml"
    )
    parser.add_argument(
        "overrides",
        nargs=argparse.REMAINDER,
        metavar="--name value",
        help="win over the recipe: --learning_rate 1e-4 --config.num_cue_layers 2; --overwrite starts anew",
    )
    parser.set_defaults(run=_run_train)


def _run_train(args: argparse.Namespace) -> None:
    from .training.train import run_training

    outcome = run_training(args.recipe, args.overrides)
    if outcome:
        print(outcome)


def _add_ablate(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "ablate",
        help="the paper's Table 4: train with everything and without each part, and score on the test splits",
        description="Train a recipe as it is, without text, without audio, without the cached memory and without the modality "
        "encoding, each into OUT/<variant>/seed<n>; score them on the test splits: J, F and S, or where the last stage ends with the "
        "cues, how often they choose the right object. Run again to go on when stopped.",
    )
    parser.add_argument(
        "recipes",
        nargs="+",
        type=Path,
        metavar="RECIPE",
        help="several: stages, each goes on from the model of the last",
    )
    parser.add_argument("--output", type=Path, default=Path("ablation"), metavar="OUT", help="default: %(default)s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="default: 0")
    parser.add_argument(
        "--only",
        nargs="+",
        default=["full", "no_text", "no_audio", "no_memory", "no_modality_encoding"],
        metavar="VARIANT",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--by", nargs="+", default=[], metavar="WHAT", help="as in refavs evaluate: grade, dimension, ..."
    )
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="of each training, by torchrun")
    parser.add_argument(
        "--set",
        dest="overrides",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="--name value",
        help="last: what wins over the recipe, such as --set --max_steps 1000",
    )
    parser.set_defaults(run=_run_ablate)


def _run_ablate(args: argparse.Namespace) -> None:
    from .training.ablate import run_ablate

    print(run_ablate(args), end="")


def _add_benchmark(commands: argparse._SubParsersAction) -> None:
    from .benchmarks.command import add_benchmark

    add_benchmark(commands, print)


def _add_publish(commands: argparse._SubParsersAction) -> None:
    from .hub.command import add_publish

    add_publish(commands, print)


def _add_demo(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "demo", help="try it in a browser", description="Serve the page of spaces_demo/ on this machine."
    )
    parser.add_argument("--model", help="folder of a model, or its id on the Hub (default: the shipped checkpoint)")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.set_defaults(run=_run_demo)


def _run_demo(args: argparse.Namespace) -> None:
    folder = Path(__file__).parents[1] / "spaces_demo"
    if not (folder / "app.py").is_file():
        raise ValueError(f"{folder}: not here: the page comes with the repository, not with the package")
    sys.path.insert(0, str(folder))
    from app import MODEL, main

    main(args.model or MODEL, args.port)


if __name__ == "__main__":
    sys.exit(main())
