"""`refavs segment`: one video and some sentences in, everything that was asked for out."""

import argparse
import os
import tempfile
from pathlib import Path

from tqdm import tqdm

from .contact_sheet import draw_contact_sheet
from .exporting import write_coco, write_cvat
from .loading import choose_device, load_model
from .opening import probe_video
from .records import Journal, describe_request, journal_of
from .rendering import render_frames, render_video
from .results import summarize, to_json, write_masks, write_summary
from .segmentation import VideoSegmentation, check_request, segment_video
from .writing import encoding_of, whole_file


def run_segment(args: argparse.Namespace) -> str | None:
    """Carry out the command. Returns the summary as JSON, or None where it went to a file.

    Raises:
        ValueError: any input or output that cannot work, before the model is loaded.
    """
    check_request(args.expressions, args.threshold, args.fps, args.smooth)
    _check_outputs(args)
    info = probe_video(args.video)
    device = choose_device(args.device)
    model, processor = load_model(args.model, device, args.dtype, args.compile)
    with tqdm(total=info.duration and round(info.duration), unit="s", desc="segmenting") as bar:
        segmentation = segment_video(
            model, processor, args.video, args.expressions, threshold=args.threshold, rate=args.fps, smoothing=args.smooth,
            progress=bar.update, records=_open_journal(args),
        )  # fmt: skip
    _write_results(segmentation, args)
    summary = None if args.summary else to_json(summarize(segmentation))
    segmentation.records.remove()
    return summary


def _open_journal(args: argparse.Namespace) -> Journal:
    """Beside the output, so that a run that was stopped goes on when the same is asked again."""
    request = describe_request(args.video, args.expressions, args.model, dtype=args.dtype, looks=args.fps)
    return Journal(journal_of(args.output), request)


def _check_outputs(args: argparse.Namespace) -> None:
    folders = {"masks": args.masks, "pictures": None if args.output.suffix else args.output}
    if args.output.suffix:
        encoding_of(args.output)
    for content, folder in folders.items():
        if folder and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(
                f"{folder}: the folder for {content} must be new or empty, so that nothing older stays in it"
            )
    if args.contact_sheet and args.contact_sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ValueError(f"{args.contact_sheet}: the contact sheet must end in .png or .jpg")
    outputs = [
        path for path in (args.output, args.masks, args.contact_sheet, args.coco, args.cvat, args.summary) if path
    ]
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


def _write_results(segmentation: VideoSegmentation, args: argparse.Namespace) -> None:
    if args.masks:
        write_masks(segmentation, args.masks)
    if args.contact_sheet:
        with whole_file(args.contact_sheet) as unfinished:
            draw_contact_sheet(segmentation).save(unfinished)
    if args.coco:
        write_coco(segmentation, args.coco)
    if args.cvat:
        write_cvat(segmentation, args.cvat)
    with tqdm(total=round(segmentation.duration), unit="s", desc="drawing") as bar:
        render = render_video if args.output.suffix else render_frames
        render(segmentation, args.output, bar.update, args.mode)
    if args.summary:
        write_summary(segmentation, args.summary)
