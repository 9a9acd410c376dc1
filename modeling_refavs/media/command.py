"""`refavs segment`: one video and some sentences in, everything that was asked for out."""

import argparse
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from tqdm import tqdm

from .contact_sheet import draw_contact_sheet
from .opening import probe_video
from .records import Journal, describe_request, journal_of
from .rendering import render_video
from .results import summarize, to_json, write_masks, write_summary
from .segmentation import VideoSegmentation, check_request, segment_video
from .writing import check_video_suffix, whole_file


def run_segment(args: argparse.Namespace) -> str | None:
    """Carry out the command. Returns the summary as JSON, or None where it went to a file.

    Raises:
        ValueError: any input or output that cannot work, before the model is loaded.
    """
    check_request(args.expressions, args.threshold)
    _check_outputs(args)
    info = probe_video(args.video)
    device = choose_device(args.device)
    model, processor = load_model(args.model, device)
    with tqdm(total=info.duration and round(info.duration), unit="s", desc="segmenting") as bar:
        segmentation = segment_video(
            model, processor, args.video, args.expressions, threshold=args.threshold, progress=bar.update,
            records=_open_journal(args),
        )  # fmt: skip
    _write_results(segmentation, args)
    segmentation.records.remove()
    return None if args.summary else to_json(summarize(segmentation))


def _open_journal(args: argparse.Namespace) -> Journal:
    """Beside the output, so that a run that was stopped goes on when the same is asked again."""
    return Journal(journal_of(args.output), describe_request(args.video, args.expressions, args.model))


def choose_device(name: str) -> torch.device:
    """ "auto" is the accelerator if there is one; `ValueError` for a device that this machine lacks."""
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name}: not on this machine: use auto, cpu or another") from error


def _check_outputs(args: argparse.Namespace) -> None:
    check_video_suffix(args.output)
    if args.contact_sheet and args.contact_sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ValueError(f"{args.contact_sheet}: the contact sheet must end in .png or .jpg")
    if args.masks and args.masks.exists() and (not args.masks.is_dir() or any(args.masks.iterdir())):
        raise ValueError(f"{args.masks}: the folder for masks must be new or empty, so that no older mask stays in it")
    outputs = [path for path in (args.output, args.masks, args.contact_sheet, args.summary) if path]
    for path in outputs:
        if path.resolve() == args.video.resolve():
            raise ValueError(f"{path}: the output would overwrite the video: give it another name")
        if sum(path.resolve() == other.resolve() for other in outputs) > 1:
            raise ValueError(f"{path}: two outputs with one name")
        if path != args.masks and path.is_dir():
            raise ValueError(f"{path}: a folder: give a file name")
        _check_writable(path.resolve().parent)


def _check_writable(folder: Path) -> None:
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"{folder}: cannot be written to ({os.strerror(error.errno)})") from error


def load_model(name: str, device: torch.device) -> tuple[Any, Any]:
    """The model and its processor, from a folder or the Hub."""
    _check_model(name)
    from transformers import AutoModel  # seconds, and only for a request that can work

    import modeling_refavs.auto  # noqa: F401, tells AutoModel which of our models a folder holds
    from modeling_refavs import RefAVSProcessor

    try:
        processor = RefAVSProcessor.from_pretrained(name)
        return AutoModel.from_pretrained(name).to(device).eval(), processor
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"--model {name}: cannot be loaded: {reason}") from error


def _check_model(name: str) -> None:
    """Ask once whether the model is there: `from_pretrained` would ask an unreachable Hub for minutes."""
    if (Path(name) / "config.json").is_file():
        return
    if Path(name).exists() or not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name):
        raise ValueError(f"--model {name}: no folder with a config.json: give one, or a model's id on the Hub")
    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=10)
    except Exception as error:  # whatever the network's client of the day raises
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"--model {name}: no such folder, and the Hub does not answer for it: {reason}") from error


def _write_results(segmentation: VideoSegmentation, args: argparse.Namespace) -> None:
    if args.masks:
        write_masks(segmentation, args.masks)
    if args.contact_sheet:
        with whole_file(args.contact_sheet) as unfinished:
            draw_contact_sheet(segmentation).save(unfinished)
    with tqdm(total=round(segmentation.duration), unit="s", desc="drawing") as bar:
        render_video(segmentation, args.output, progress=bar.update)
    if args.summary:
        write_summary(segmentation, args.summary)
