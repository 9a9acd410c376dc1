"""A video as a folder of PNGs, one a picture."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from PIL import Image

from ..mask_rle import count_runs, encode_rle
from ..utils.files import whole_file, whole_folder
from ..video_refavs import read_frames
from .segment import VideoSegmentation


def frame_name(index: int) -> str:
    """Of picture number `index` of a video, from 0; CVAT names a video's pictures so too."""
    return f"frame_{index:06d}.png"


ROUNDING = 1e-3  # s, of time stamps
LONGEST_LABEL = 64  # characters; CVAT keeps no more


def write_coco(segmentation: VideoSegmentation, path: str | Path) -> None:
    """Write COCO instances: an image a step, a category a sentence, an annotation for each object
    in each image.

    Beside COCO's own fields an image has `frame_index` (its number in the video) and `seconds`, an
    annotation `score` (the probability that the object is to be seen). `segmentation` is compressed
    RLE, `bbox` is x, y, width and height in pixels.
    """
    images, annotations = [], []
    for step, frame in enumerate(frames_of_steps(segmentation)[0]):
        images.append(_coco_image(segmentation, step, frame))
        for expression, mask in enumerate(segmentation.masks(step)):
            if mask.any():
                score = float(segmentation.presence[expression, step])
                annotations.append(
                    {"id": len(annotations) + 1, **_coco_annotation(mask, step, expression, score)}
                )
    categories = [
        {"id": number, "name": expression, "supercategory": "referred object"}
        for number, expression in enumerate(segmentation.expressions, start=1)
    ]
    info = {
        "description": f"{segmentation.info.path.name}, segmented by sentences",
        "version": "1.0",
    }
    coco = {
        "info": info,
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(coco, ensure_ascii=False), encoding="utf-8")


def write_cvat(segmentation: VideoSegmentation, path: str | Path) -> None:
    """Write CVAT for images 1.1: an image a step, and in it a mask for each sentence whose object
    is there.

    Not CVAT for video: of a track of masks CVAT reads the first one alone. A task must have the
        labels of the file's `meta`.
    """
    labels = labels_of(segmentation.expressions)
    frames, num_frames = frames_of_steps(segmentation)
    width, height = segmentation.info.size
    root = ET.Element("annotations")
    _add_texts(root, {"version": "1.1"})
    root.append(_meta(segmentation, labels, num_frames))
    for step, frame in enumerate(frames):
        facts = {"id": frame, "name": frame_name(frame), "width": width, "height": height}
        image = ET.SubElement(root, "image", {name: str(value) for name, value in facts.items()})
        for label, mask in zip(labels, segmentation.masks(step), strict=True):
            if mask.any():
                ET.SubElement(image, "mask", {"label": label, "source": "auto", **cvat_mask(mask)})
    ET.indent(root)
    with whole_file(path) as unfinished:
        ET.ElementTree(root).write(unfinished, encoding="utf-8", xml_declaration=True)


def frames_of_steps(segmentation: VideoSegmentation) -> tuple[list[int], int]:
    """The number in the video, from 0, of the picture on display when each step begins; and how
    many pictures there are."""
    frames, num_frames = [], 0
    for num_frames, frame in enumerate(read_frames(segmentation.info), start=1):
        while (
            len(frames) < segmentation.num_steps
            and frame.end > segmentation.time_of(len(frames)) + ROUNDING
        ):
            frames.append(num_frames - 1)
    return frames + [num_frames - 1] * (segmentation.num_steps - len(frames)), num_frames


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(left, top, width, height) in pixels of `mask (h, w)`, which is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        int(columns[0]),
        int(rows[0]),
        int(columns[-1] - columns[0]) + 1,
        int(rows[-1] - rows[0]) + 1,
    )


def labels_of(expressions: Sequence[str]) -> list[str]:
    """The sentences, and where one is too long for CVAT, its beginning under a number that makes it
    unique."""
    return [
        expression
        if len(expression) <= LONGEST_LABEL
        else f"{number}: {expression}"[: LONGEST_LABEL - 3] + "..."
        for number, expression in enumerate(expressions, start=1)
    ]


def _coco_image(segmentation: VideoSegmentation, step: int, frame: int) -> dict[str, Any]:
    width, height = segmentation.info.size
    return {
        "id": step + 1,
        "file_name": frame_name(frame),
        "width": width,
        "height": height,
        "frame_index": frame,
        "seconds": round(segmentation.time_of(step), 3),
    }


def _coco_annotation(mask: np.ndarray, step: int, expression: int, score: float) -> dict[str, Any]:
    return {
        "image_id": step + 1,
        "category_id": expression + 1,
        "segmentation": encode_rle(mask),
        "bbox": list(bounding_box(mask)),
        "area": int(mask.sum()),
        "iscrowd": 0,
        "score": round(score, 4),
    }


def cvat_mask(mask: np.ndarray) -> dict[str, str]:
    """The attributes of CVAT's `mask` element: runs along the rows of the box around the object,
    zeros first."""
    left, top, width, height = bounding_box(mask)
    runs = count_runs(mask[top : top + height, left : left + width].ravel())
    box = {"left": left, "top": top, "width": width, "height": height}
    return {
        "occluded": "0",
        "rle": ", ".join(map(str, runs)),
        **{name: str(value) for name, value in box.items()},
        "z_order": "0",
    }


def _meta(segmentation: VideoSegmentation, labels: list[str], num_frames: int) -> ET.Element:
    meta = ET.Element("meta")
    task = ET.SubElement(meta, "task")
    _add_texts(
        task,
        {
            "name": segmentation.info.path.name,
            "size": num_frames,
            "mode": "interpolation",
            "overlap": 0,
        },
    )
    places = ET.SubElement(task, "labels")
    for label in dict.fromkeys(labels):
        entry = ET.SubElement(places, "label")
        _add_texts(entry, {"name": label, "type": "mask"})
        ET.SubElement(entry, "attributes")
    size = ET.SubElement(task, "original_size")
    _add_texts(size, dict(zip(("width", "height"), segmentation.info.size, strict=True)))
    return meta


def _add_texts(parent: ET.Element, texts: dict[str, Any]) -> None:
    for name, text in texts.items():
        ET.SubElement(parent, name).text = str(text)


def write_masks(segmentation: VideoSegmentation, folder: str | Path) -> None:
    """Write `folder/<sentence>/<step>.png`, 0 or 255, of the video's size; the folder appears when
    it is complete.

    Example: `masks/1_the-barking-dog/00007.png`.
    """
    with whole_folder(folder) as unfinished:
        places = [
            unfinished / mask_folder_name(*pair)
            for pair in enumerate(segmentation.expressions, start=1)
        ]
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
    """What a script wants to know, in types that JSON has: facts of the video, and per sentence
    when it fits."""
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
        "expressions": [
            _summarize_expression(segmentation, index)
            for index in range(len(segmentation.expressions))
        ],
    }


def _summarize_expression(segmentation: VideoSegmentation, index: int) -> dict[str, Any]:
    intervals = segmentation.intervals(index)
    return {
        "text": segmentation.expressions[index],
        "fits": bool(intervals),
        "intervals": [
            [round(start, 3), round(end, 3)] for start, end in intervals
        ],  # s, end excluded
        "presence": segmentation.presence[index]
        .astype(float)
        .round(4)
        .tolist(),  # probability, per step
        "share": segmentation.shares[index].round(6).tolist(),  # of the picture, per step
    }


def to_json(summary: dict[str, Any]) -> str:
    """Indented JSON with each row of numbers on one line."""
    text = json.dumps(summary, indent=2, ensure_ascii=False)
    # A bare line break is never inside a string: JSON escapes those.
    return re.sub(
        r"\[\n[\s\d.,e\[\]-]*\]", lambda row: "".join(row[0].split()).replace(",", ", "), text
    )


def write_summary(segmentation: VideoSegmentation, path: str | Path) -> None:
    """Write [`summarize`] as JSON."""
    with whole_file(path) as unfinished:
        unfinished.write_text(to_json(summarize(segmentation)) + "\n", encoding="utf-8")
