"""What a segmentation leaves on disk beside the video: masks, and a summary in numbers."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .segmentation import VideoSegmentation
from .writing import whole_file, whole_folder


def write_masks(segmentation: VideoSegmentation, folder: str | Path) -> None:
    """Write `folder/<sentence>/<step>.png`, 0 or 255, of the video's size; the folder appears when it is complete.

    Example: `masks/1_the-barking-dog/00007.png`.
    """
    with whole_folder(folder) as unfinished:
        places = [unfinished / mask_folder_name(*pair) for pair in enumerate(segmentation.expressions, start=1)]
        for place in places:
            place.mkdir()
        for step in range(segmentation.num_steps):
            for place, mask in zip(places, segmentation.masks(step), strict=True):
                Image.fromarray(mask.astype(np.uint8) * 255).save(place / f"{step:05d}.png")


def mask_folder_name(number: int, expression: str) -> str:
    """`1_the-barking-dog`: readable, and a valid name on every system."""
    words = re.sub(r"[^a-z0-9]+", "-", expression.lower()).strip("-")[:60].rstrip("-")
    return f"{number}_{words}" if words else str(number)


def summarize(segmentation: VideoSegmentation) -> dict[str, Any]:
    """What a script wants to know, in types that JSON has: facts of the video, and per sentence when it fits."""
    info = segmentation.info
    return {
        "video": {
            "path": str(info.path),
            "width": info.width,
            "height": info.height,
            "frame_rate": round(info.frame_rate, 3),
            "duration": round(segmentation.duration, 3),
            "has_audio": info.has_audio,
            "steps": segmentation.num_steps,
            "steps_per_second": round(segmentation.timeline.rate, 3),
        },
        "threshold": segmentation.threshold,
        "throughput": segmentation.throughput
        and round(segmentation.throughput, 3),  # s of video segmented in a second
        "expressions": [_summarize_expression(segmentation, index) for index in range(len(segmentation.expressions))],
    }


def _summarize_expression(segmentation: VideoSegmentation, index: int) -> dict[str, Any]:
    intervals = segmentation.intervals(index)
    return {
        "text": segmentation.expressions[index],
        "fits": bool(intervals),
        "intervals": [[round(start, 3), round(end, 3)] for start, end in intervals],  # s, end excluded
        "presence": segmentation.presence[index].astype(float).round(4).tolist(),  # probability, per step
        "share": segmentation.shares[index].round(6).tolist(),  # of the picture, per step
    }


def to_json(summary: dict[str, Any]) -> str:
    """Indented JSON with each row of numbers on one line."""
    text = json.dumps(summary, indent=2, ensure_ascii=False)
    # A bare line break is never inside a string: JSON escapes those.
    return re.sub(r"\[\n[\s\d.,e\[\]-]*\]", lambda row: "".join(row[0].split()).replace(",", ", "), text)


def write_summary(segmentation: VideoSegmentation, path: str | Path) -> None:
    """Write [`summarize`] as JSON."""
    with whole_file(path) as unfinished:
        unfinished.write_text(to_json(summarize(segmentation)) + "\n", encoding="utf-8")
