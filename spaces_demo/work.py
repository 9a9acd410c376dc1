"""The process that segments uploaded videos, one after the other: `python work.py MODEL`, JSON
lines in and out.

It is a process of its own so that it can be ended when a file takes too long or makes a decoder
fail.
"""

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
from limits import LimitError, Limits, check_sentences, check_video
from PIL import Image
from suggest import SOUNDING, has_vocabulary, liken, suggest

from modeling_refavs import video_refavs
from modeling_refavs.feature_extraction_refavs import SAMPLING_RATE
from modeling_refavs.inference.export import (
    coco_writer,
    mask_writer,
    summarize,
    to_json,
    write_outputs,
)
from modeling_refavs.inference.loading import choose_device, load_model
from modeling_refavs.inference.mask_store import MaskStore
from modeling_refavs.inference.segment import MaskedFrame, VideoSegmentation, segment_video
from modeling_refavs.video_refavs import read_steps
from modeling_refavs.visualization.contact_sheet import find_sounding
from modeling_refavs.visualization.overlay import tint_of
from modeling_refavs.visualization.render import lay_out, rendered_video_writer


logger = logging.getLogger(__name__)

MAX_FRAMES = 12  # in the gallery
PEAKS = 25  # of the sound, a second
FRAME_SIZE = 640  # pixels, the longer side of a frame in the gallery at most
Progress = Callable[[str, float], None]
"""Takes a stage of the work, a key of the page's texts, and the part of it that is done."""


def work(
    model: Any, processor: Any, request: dict[str, Any], limits: Limits, progress: Progress
) -> dict[str, Any]:
    """Do what the page asks of one video.

    Args:
        model, processor: see [`segment_video`].
        request: `video`, a path; `kind`: "segment", "cutout" or "suggest"; but for the last
            `expressions`, and `folder`, which is empty, for files.
        limits: of what is taken.
        progress: called as each stage goes on.

    Returns:
        Of "segment" see [`answer`]. Of "cutout" `cutout`, the path of a WebM that is transparent
        around the objects. Of "suggest" `sentences` to ask.
    """
    progress("looking", 0.0)
    kind = request["kind"]
    expressions = [] if kind == "suggest" else check_sentences(request["expressions"], limits)
    info = check_video(request["video"], limits)
    if kind == "suggest":
        return {"sentences": suggest(model, processor, info)}
    folder, expected = Path(request["folder"]), info.duration or limits.seconds
    asked = expressions
    if kind == "segment" and info.has_audio:  # who sounds is marked in what is shown
        asked = [*expressions, SOUNDING.format("object")]
    segmentation = segment_video(
        model, processor, info, asked, progress=_counter(progress, "segmenting", expected)
    )
    if kind == "segment":
        return answer(model, segmentation, len(expressions), folder, progress)
    path = folder / "cutout.webm"
    writers = [rendered_video_writer(segmentation, path, "cutout")]
    write_outputs(segmentation, writers, _counter(progress, "drawing", segmentation.duration))
    segmentation.store.remove()
    return {"cutout": str(path)}


def answer(
    model: Any, asked: VideoSegmentation, count: int, folder: Path, progress: Progress
) -> dict[str, Any]:
    """Write all that the page shows of one video to `folder`.

    Args:
        asked: the segmentation; its sentences after the first `count` are not shown.
        model, folder, progress: see [`work`].

    Returns:
        `summary`, as `refavs segment` prints it, with the video's `name` in place of its `path`;
        `overlay`, `masks` and `coco`, paths; `frames`, pairs of a path and its second; `ratio`,
        width by height of the overlay without its captions; `wave`, the loudest sample of each
        1/25 s, of 1, and `sounding`, for each sentence and step whether its object is heard, both
        None without sound; `nearest`, for each sentence None or, where nothing fits, what was the
        nearest: `second`, `presence`, and `name` and `probability` if the model knows names.
    """
    segmentation = _first_of(asked, count)
    overlay, masks, frames = folder / "overlay.mp4", folder / "masks", []
    coco = folder / "coco.json"
    writers = [
        mask_writer(segmentation, masks),
        coco_writer(segmentation, coco),
        _gallery_writer(segmentation, folder, frames),
        rendered_video_writer(segmentation, overlay),
    ]
    write_outputs(segmentation, writers, _counter(progress, "drawing", segmentation.duration))
    progress("packing", 0.0)
    summary, info = summarize(segmentation), segmentation.info
    # The path is the server's own; gradio's client would take it for a file to download.
    del summary["video"]["path"]
    summary["video"] = {"name": info.file_name, **summary["video"]}
    frame_size, _, canvas = lay_out(info, segmentation.expressions)
    sounding = find_sounding(asked)
    result = {
        "summary": summary,
        "overlay": str(overlay),
        "masks": str(_pack_masks(masks, summary)),
        "coco": str(coco),
        "frames": frames,
        "ratio": canvas[0] / frame_size[1],
        "wave": _find_wave(segmentation),
        "sounding": None if sounding is None else sounding[:count].tolist(),
        "nearest": _find_nearest(model, segmentation),
    }
    for store in (segmentation.store, asked.store):
        store.remove()
    return result


def _first_of(asked: VideoSegmentation, count: int) -> VideoSegmentation:
    """The same of the first `count` sentences."""
    store = MaskStore()
    for index in range(len(asked.store)):
        logits = asked.store.read(index)[:count, None]
        store.append(logits, asked.store.presence[:count, index : index + 1], None, 0.0)
    return replace(
        asked,
        expressions=asked.expressions[:count],
        presence=asked.presence[:count],
        iou_scores=None if asked.iou_scores is None else asked.iou_scores[:count],
        store=store,
    )


def _find_wave(segmentation: VideoSegmentation) -> list[float] | None:
    if not segmentation.info.has_audio:
        return None
    peaks, count = segmentation.peaks, segmentation.num_steps * PEAKS
    edges = np.linspace(0, len(peaks), count, endpoint=False).astype(int)
    return np.maximum.reduceat(peaks, edges).round(3).tolist()


def _find_nearest(model: Any, segmentation: VideoSegmentation) -> list[dict[str, Any] | None]:
    found: list[dict[str, Any] | None] = [None] * len(segmentation.expressions)
    missed = [row for row in range(len(found)) if not segmentation.intervals(row)]
    wanted = {row: int(segmentation.presence[row].argmax()) for row in missed}
    steps = read_steps(segmentation.info, SAMPLING_RATE) if missed else ()
    for number, step in enumerate(steps):
        for row in (row for row in missed if wanted[row] == number):
            found[row] = {"second": number, "presence": float(segmentation.presence[row, number])}
            if has_vocabulary(model):
                logits = segmentation.logits(number)[row]
                found[row] |= asdict(liken(model, segmentation.processor, step.frame, logits))
    return found


def _counter(progress: Progress, stage: str, expected: float) -> Callable[[int], None]:
    done = 0

    def count(seconds: int) -> None:
        nonlocal done
        done += seconds
        progress(stage, min(done / expected, 1.0))

    progress(stage, 0.0)
    return count


def _pack_masks(folder: Path, summary: dict[str, Any]) -> Path:
    """Make masks.zip: what `refavs segment --masks masks --summary masks/summary.json` writes."""
    (folder / "summary.json").write_text(to_json(summary) + "\n", encoding="utf-8")
    archive = shutil.make_archive(str(folder), "zip", folder)
    shutil.rmtree(folder)
    return Path(archive)


@contextmanager
def _gallery_writer(
    segmentation: VideoSegmentation, folder: Path, frames: list[tuple[str, int]]
) -> Iterator[Callable[[MaskedFrame], None]]:
    """Write at most twelve evenly spaced seconds with their masks, and append path and second of
    each to `frames`."""
    count = min(MAX_FRAMES, segmentation.num_steps)
    seconds = {index * segmentation.num_steps // count for index in range(count)}

    def write(item: MaskedFrame) -> None:
        if item.starts_step and item.step in seconds:
            picture = Image.fromarray(item.frame.rgb)
            picture.thumbnail((FRAME_SIZE, FRAME_SIZE))
            tint = tint_of(segmentation.masks(item.step, picture.size))
            picture.paste(tint, mask=tint)
            path = folder / f"second_{item.step:05d}.jpg"
            picture.save(path, quality=90)
            frames.append((str(path), item.step))

    yield write


def requests() -> Iterator[str]:
    """Yield the lines of standard input. When it ends the page has gone, however it went, and this
    process goes with it, at work or not."""
    lines: SimpleQueue[str] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    Thread(target=read, daemon=True).start()
    while True:
        yield lines.get()


def main(name: str) -> None:
    """Answer each line of standard input, `{"kind": ..., "video": ..., ...}` as [`work`] takes
    it, with lines of progress and at last a line with `answer`, `refused` or `failed`."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no reply

    def reply(**fields: Any) -> None:
        print(json.dumps(fields), file=replies, flush=True)

    def progress(stage: str, part: float) -> None:
        reply(stage=stage, part=part)

    limits = Limits()
    video_refavs.MAX_PICTURE_PIXELS = limits.num_pixels
    try:
        model, processor = load_model(name, choose_device("auto"))
    except ValueError as error:
        reply(failed=str(error))
        return
    reply(ready=True)
    for line in requests():
        try:
            reply(answer=work(model, processor, json.loads(line), limits, progress))
        except LimitError as error:
            reply(refused=error.kind, facts=error.facts)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            logger.exception("a request failed")
            reply(failed=str(error).partition("\n")[0])


if __name__ == "__main__":
    main(sys.argv[1])
