"""The process that segments uploaded videos, one after the other: `python work.py MODEL`, JSON
lines in and out.

It is a process of its own so that it can be ended when a file takes too long or makes a decoder
fail.
"""

import base64
import io
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from limits import LimitError, Limits, check_sentences, check_video
from PIL import Image
from spectrogram import draw_spectrogram

from modeling_refavs import video_refavs
from modeling_refavs.inference.export import mask_writer, summarize, to_json, write_outputs
from modeling_refavs.inference.loading import choose_device, load_model
from modeling_refavs.inference.segment import MaskedFrame, VideoSegmentation, segment_video
from modeling_refavs.visualization.overlay import tint_of
from modeling_refavs.visualization.render import rendered_video_writer


logger = logging.getLogger(__name__)

MAX_FRAMES = 12  # in the gallery
FRAME_SIZE = 640  # pixels, the longer side of a frame in the gallery at most
Progress = Callable[[str, float], None]
"""Takes a stage of the work, a key of the page's texts, and the part of it that is done."""


def work(
    model: Any, processor: Any, request: dict[str, Any], limits: Limits, progress: Progress
) -> dict[str, Any]:
    """Write all that the page shows of one video to the request's folder.

    Args:
        model, processor: see [`segment_video`].
        request: `video`, a path; `expressions`; `folder`, which is empty.
        limits: of what is taken.
        progress: called as each stage goes on.

    Returns:
        `summary`, as `refavs segment` prints it, with the video's `name` in place of its `path`;
        `overlay` and `masks`, paths; `frames`, pairs of a path and its second; `spectrogram`, a PNG
        in base 64, None without a sound track.
    """
    folder = Path(request["folder"])
    progress("looking", 0.0)
    expressions = check_sentences(request["expressions"], limits)
    info = check_video(request["video"], limits)
    expected = info.duration or limits.seconds
    segmentation = segment_video(
        model, processor, info, expressions, progress=_counter(progress, "segmenting", expected)
    )
    overlay, masks, frames = folder / "overlay.mp4", folder / "masks", []
    writers = [
        mask_writer(segmentation, masks),
        _gallery_writer(segmentation, folder, frames),
        rendered_video_writer(segmentation, overlay),
    ]
    write_outputs(segmentation, writers, _counter(progress, "drawing", segmentation.duration))
    progress("packing", 0.0)
    summary = summarize(segmentation)
    # The path is the server's own; gradio's client would take it for a file to download.
    del summary["video"]["path"]
    summary["video"] = {"name": info.file_name, **summary["video"]}
    spectrogram = draw_spectrogram(info, segmentation.duration)
    answer = {
        "summary": summary,
        "overlay": str(overlay),
        "masks": str(_pack_masks(masks, summary)),
        "spectrogram": spectrogram and _encode(spectrogram),
        "frames": frames,
    }
    segmentation.store.remove()
    return answer


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


def _encode(picture: Image.Image) -> str:
    png = io.BytesIO()
    picture.save(png, "PNG")
    return base64.b64encode(png.getvalue()).decode()


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
            path = folder / f"second_{item.step:05d}.png"
            picture.save(path)
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
    """Answer each line of standard input, `{"video": ..., "expressions": [...], "folder": ...}`,
    with lines of progress and at last a line with `answer`, `refused` or `failed`."""
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
