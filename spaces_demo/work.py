"""The process that works on files from strangers, one after the other: `python work.py MODEL`, JSON
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from limits import LimitError, Limits, check_sentences, check_video
from PIL import Image
from spectrogram import draw_spectrogram

from modeling_refavs import video_refavs
from modeling_refavs.inference.export import summarize, to_json, write_masks
from modeling_refavs.inference.loading import choose_device, load_model
from modeling_refavs.inference.segment import VideoSegmentation, segment_video
from modeling_refavs.video_refavs import read_steps
from modeling_refavs.visualization.overlay import tint_of
from modeling_refavs.visualization.render import render_video


logger = logging.getLogger(__name__)

MOST_FRAMES = 12  # pictures in the gallery
FRAME_SIZE = 640  # pixels, the longer side of a picture in the gallery at most
Tell = Callable[[str, float], None]
"""Takes a stage of the work, a key of the page's texts, and the part of it that is done."""


def work(
    model: Any, processor: Any, request: dict[str, Any], limits: Limits, tell: Tell
) -> dict[str, Any]:
    """All that the page shows of one video, written to the request's folder.

    Args:
        model, processor: see [`segment_video`].
        request: `video`, a path; `expressions`; `folder`, which is empty.

    Returns:
        `summary`, as `refavs segment` prints it, with the video's `name` in place of its `path`;
        `overlay` and `masks`, paths; `frames`, pairs of a path and its second; `spectrogram`, a PNG
        in base 64, None without a sound track.
    """
    folder = Path(request["folder"])
    tell("looking", 0.0)
    expressions = check_sentences(request["expressions"], limits)
    info = check_video(request["video"], limits)
    expected = info.duration or limits.seconds
    segmentation = segment_video(
        model, processor, info, expressions, progress=_counter(tell, "segmenting", expected)
    )
    render_video(
        segmentation, folder / "overlay.mp4", _counter(tell, "drawing", segmentation.duration)
    )
    tell("packing", 0.0)
    summary = summarize(segmentation)
    del summary["video"][
        "path"
    ]  # the server's own; gradio's client would take it for a file to download
    summary["video"] = {"name": info.path.name, **summary["video"]}
    spectrogram = draw_spectrogram(info, segmentation.duration)
    answer = {
        "summary": summary,
        "overlay": str(folder / "overlay.mp4"),
        "masks": str(_pack_masks(segmentation, summary, folder)),
        "spectrogram": spectrogram and _encode(spectrogram),
        "frames": _draw_frames(segmentation, folder),
    }
    segmentation.records.remove()
    return answer


def _counter(tell: Tell, stage: str, expected: float) -> Callable[[int], None]:
    done = 0

    def count(seconds: int) -> None:
        nonlocal done
        done += seconds
        tell(stage, min(done / expected, 1.0))

    tell(stage, 0.0)
    return count


def _pack_masks(segmentation: VideoSegmentation, summary: dict[str, Any], folder: Path) -> Path:
    """masks.zip: what `refavs segment --masks masks --summary masks/summary.json` writes."""
    write_masks(segmentation, folder / "masks")
    (folder / "masks" / "summary.json").write_text(to_json(summary) + "\n", encoding="utf-8")
    archive = shutil.make_archive(str(folder / "masks"), "zip", folder / "masks")
    shutil.rmtree(folder / "masks")
    return Path(archive)


def _encode(picture: Image.Image) -> str:
    png = io.BytesIO()
    picture.save(png, "PNG")
    return base64.b64encode(png.getvalue()).decode()


def _draw_frames(segmentation: VideoSegmentation, folder: Path) -> list[tuple[str, int]]:
    """At most twelve evenly spaced seconds with their masks."""
    count = min(MOST_FRAMES, segmentation.num_steps)
    seconds = {index * segmentation.num_steps // count for index in range(count)}
    frames = []
    for second, step in enumerate(read_steps(segmentation.info)):
        if second in seconds:
            picture = Image.fromarray(step.frame)
            picture.thumbnail((FRAME_SIZE, FRAME_SIZE))
            tint = tint_of(segmentation.masks(second, picture.size))
            picture.paste(tint, mask=tint)
            path = folder / f"second_{second:05d}.png"
            picture.save(path)
            frames.append((str(path), second))
    return frames


def main(name: str) -> None:
    """Answer each line of standard input, `{"video": ..., "expressions": [...], "folder": ...}`,
    with lines of progress and
    at last a line with `answer`, `refused` or `failed`."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no reply

    def reply(**fields: Any) -> None:
        print(json.dumps(fields), file=replies, flush=True)

    def tell(stage: str, part: float) -> None:
        reply(stage=stage, part=part)

    limits = Limits()
    video_refavs.MAX_PICTURE_PIXELS = limits.num_pixels
    try:
        model, processor = load_model(name, choose_device("auto"))
    except ValueError as error:
        reply(failed=str(error))
        return
    reply(ready=True)
    for line in sys.stdin:
        try:
            reply(answer=work(model, processor, json.loads(line), limits, tell))
        except LimitError as error:
            reply(refused=error.kind, facts=error.facts)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            logger.exception("a request failed")
            reply(failed=str(error).partition("\n")[0])


if __name__ == "__main__":
    main(sys.argv[1])
