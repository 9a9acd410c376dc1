"""`refavs segment`: one video and some sentences in, everything that was asked for out."""

import argparse
import ctypes
import os
import platform
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils.processes import no_garbage_collection
from . import PRECISIONS, add_model_option


if TYPE_CHECKING:
    from ..inference.mask_store import MaskStore
    from ..inference.segment import VideoSegmentation
    from ..video_refavs import VideoInfo

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # of glibc's malloc.h
LARGE_PIECE = 8_000_000  # bytes, more than a frame of 1080p in RGB
OUTPUT_HELP = (
    "video to write, .mp4, .mov, .mkv or .webm; a name without a suffix is a folder of PNGs"
)


def add_command(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "segment",
        help="colour what a sentence means in a video",
        description="Colour what each sentence means in a video of any length; print, as JSON, "
        "when it is to be seen. A run that was stopped goes on when it is asked again.",
    )
    parser.add_argument("video", type=Path, help="any video file; it is only read")
    parser.add_argument(
        "expressions", nargs="+", metavar="sentence", help='such as "the dog that is barking"'
    )
    add_model_option(parser)
    parser.add_argument("--output", required=True, type=Path, help=OUTPUT_HELP)
    parser.add_argument(
        "--masks", type=Path, metavar="DIR", help="also write a PNG per sentence and second"
    )
    parser.add_argument(
        "--contact-sheet", type=Path, metavar="PNG", help="also draw the whole video as one picture"
    )
    parser.add_argument(
        "--summary", type=Path, metavar="JSON", help="write the JSON here, not to standard output"
    )
    parser.add_argument(
        "--threshold", type=float, default=0.5, help="probability that counts (default: 0.5)"
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)"
    )
    _add_outputs(parser)
    _add_times(parser)
    parser.set_defaults(run=run)


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mode",
        default="overlay",
        choices=["overlay", "cutout", "matte", "blur-rest"],
        help="colour the object, show it alone, white on black, or blur all but it "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--coco", type=Path, metavar="JSON", help="also write the masks as COCO instances"
    )
    parser.add_argument(
        "--cvat", type=Path, metavar="XML", help="also write the masks as CVAT for images 1.1"
    )
    parser.add_argument(
        "--dtype", default="float32", choices=PRECISIONS, help="of the model (default: %(default)s)"
    )
    parser.add_argument(
        "--encoder",
        default="libx264",
        choices=["libx264", "auto"],
        help="of H.264; auto: a graphics unit's if there is one (default: %(default)s)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=0,
        metavar="N",
        help="of the model on a CPU and of the encoder (default: as many as there are processors)",
    )
    parser.add_argument(
        "--compile", action="store_true", help="compile the model's layers first: minutes, once"
    )


def _add_times(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fps",
        type=_rate,
        default=1,
        metavar="N|video",
        help="show the model N frames a second, or every frame: masks then move at the video's "
        "own frame rate; 1 (the default): one mask a second, held",
    )
    parser.add_argument(
        "--smooth",
        type=float,
        metavar="SECONDS",
        help="average masks over this time to either side (default: 0.12 with --fps; 0: none)",
    )


def _rate(text: str) -> float | str:
    return text if text == "video" else float(text)


def run(args: argparse.Namespace) -> None:
    """Segment a video and write what was asked for.

    Raises:
        ValueError: any input or output that cannot work, before the model is loaded.
    """
    _give_memory_back()
    with no_garbage_collection():
        import torch

        from ..inference.export import summarize, to_json, write_summary
        from ..inference.loading import choose_device, load_model
        from ..inference.mask_store import (
            PersistentMaskStore,
            claimed_folders,
            describe_request,
            store_folder_of,
        )
        from ..inference.segment import check_request
        from ..utils.files import lock_folder
        from ..video_refavs import probe_video
        from ..visualization.render import check_video_size

        check_request(args.expressions, args.threshold, args.fps, args.smooth)
        if args.threads < 0:
            raise ValueError(f"--threads must be at least 0, got {args.threads}")
        info = probe_video(args.video)
        if args.output.suffix:
            check_video_size(info, args.expressions, args.output, args.mode)
        # Beside the output, so that a run that was stopped resumes when the same is asked again.
        # `looks` is what its state has always called the frames a second.
        request = describe_request(
            args.video, args.expressions, args.model, dtype=args.dtype, looks=args.fps
        )
        store_folder = store_folder_of(args.output)
        ours = claimed_folders(store_folder, request)
        _check_outputs(args, ours)
        if args.threads:
            torch.set_num_threads(args.threads)
        device = choose_device(args.device)
        model, processor = load_model(args.model, device, args.dtype, args.compile)
    with lock_folder(store_folder, args.output):
        store = PersistentMaskStore(store_folder, request)
        segmentation = _segment(model, processor, info, store, args)
        store.claim(_folders(args).values())
        for folder in ours:
            shutil.rmtree(folder, ignore_errors=True)
        _write_outputs(segmentation, args)
        if args.summary:
            write_summary(segmentation, args.summary)
        else:
            print(to_json(summarize(segmentation)))
        store.remove()


def _give_memory_back() -> None:
    """Have what held a picture of 4K given back to the system when it is freed, where glibc would
    keep pieces of up to 32 MB, and for each thread apart, in case they are asked for again."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGE_PIECE)
        libc.mallopt(M_ARENA_MAX, 1)


def _segment(
    model: Any,
    processor: Any,
    info: "VideoInfo",
    store: "MaskStore",
    args: argparse.Namespace,
) -> "VideoSegmentation":
    """Segment the video now, or while its frames are decoded for the outputs."""
    from tqdm import tqdm

    from ..inference.one_pass import OnePassSegmentation, can_segment_in_one_pass
    from ..inference.segment import segment_video

    asked = model, processor, info, args.expressions
    if can_segment_in_one_pass(model, processor, info, args.fps, args.smooth):
        return OnePassSegmentation(*asked, threshold=args.threshold, store=store)
    with tqdm(total=info.duration and round(info.duration), unit="s", desc="segmenting") as bar:
        return segment_video(
            *asked,
            threshold=args.threshold,
            rate=args.fps,
            smoothing=args.smooth,
            progress=bar.update,
            store=store,
        )


def _write_outputs(segmentation: "VideoSegmentation", args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from ..inference.export import coco_writer, cvat_writer, mask_writer, write_outputs
    from ..visualization.contact_sheet import contact_sheet_writer
    from ..visualization.render import rendered_folder_writer, rendered_video_writer

    optional = [
        (mask_writer, args.masks),
        (contact_sheet_writer, args.contact_sheet),
        (coco_writer, args.coco),
        (cvat_writer, args.cvat),
    ]
    writers = [writer(segmentation, path) for writer, path in optional if path]
    rendered = (segmentation, args.output, args.mode)
    writers.append(
        rendered_video_writer(*rendered, args.encoder, args.threads)
        if args.output.suffix
        else rendered_folder_writer(*rendered)
    )
    with tqdm(total=round(segmentation.duration), unit="s", desc="drawing") as bar:
        write_outputs(segmentation, writers, bar.update)


def _folders(args: argparse.Namespace) -> dict[str, Path]:
    """Of the outputs those that are folders, by their content."""
    folders = {"masks": args.masks, "frames": None if args.output.suffix else args.output}
    return {content: folder for content, folder in folders.items() if folder}


def _check_outputs(args: argparse.Namespace, ours: Collection[Path]) -> None:
    """`ours` are folders that a stopped run of the same request has written."""
    from ..utils.files import is_new
    from ..visualization.video_writer import encoding_of

    if args.output.suffix:
        encoding_of(args.output)
    folders = _folders(args)
    for content, folder in folders.items():
        if not is_new(folder) and folder.resolve() not in ours:
            raise ValueError(
                f"{folder}: the folder for {content} must be new or empty, "
                "so that nothing older stays in it"
            )
    if args.contact_sheet and args.contact_sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ValueError(f"{args.contact_sheet}: the contact sheet must end in .png or .jpg")
    files = [args.output, args.masks, args.contact_sheet, args.coco, args.cvat, args.summary]
    outputs = [path for path in files if path]
    for path in outputs:
        if path.resolve() == args.video.resolve():
            raise ValueError(f"{path}: the output would overwrite the video: give it another name")
        if sum(path.resolve() == other.resolve() for other in outputs) > 1:
            raise ValueError(f"{path}: two outputs with one name")
        if path not in folders.values() and path.is_dir():
            raise ValueError(f"{path}: a folder: give a file name")
        _check_writable(path.resolve().parent)


def _check_writable(folder: Path) -> None:
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"{folder}: cannot be written to ({os.strerror(error.errno)})") from error
