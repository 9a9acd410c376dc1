"""What becomes of a segmentation: all outputs in one pass over the decoded frames; masks as PNGs,
as
COCO instances, as CVAT annotations; and a summary."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from PIL import Image

from ..mask_rle import count_runs, encode_rle
from ..utils.files import whole_file, whole_folder
from ..video_refavs import OpenVideo
from .segment import MaskedFrame, VideoSegmentation, prefetch


MAX_LABEL_LENGTH = 64  # characters; CVAT keeps no more

Writer = AbstractContextManager[Callable[[MaskedFrame], None]]
"""One output: a context that gives a function, which takes every masked frame in order. The output
appears, whole, when the context ends; after an error it does not appear."""


def write_outputs(
    segmentation: VideoSegmentation,
    writers: Sequence[Writer],
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write all outputs in one pass: each frame is decoded once, the masks of each step are
    up-sampled once, and the file is opened once.

    Args:
        segmentation: of [`segment_video`].
        writers: such as [`mask_writer`].
        progress: called with the number of seconds done.
    """
    done = 0
    with ExitStack() as stack:
        video = stack.enter_context(closing(OpenVideo(segmentation.info)))
        writes = [stack.enter_context(writer) for writer in writers]
        items = stack.enter_context(closing(prefetch(segmentation.masked_frames(video))))
        for item in items:
            for write in writes:
                write(item)
            if progress and int(item.frame.end) > done:
                progress(int(item.frame.end) - done)
                done = int(item.frame.end)


def write_masks(segmentation: VideoSegmentation, folder: str | Path) -> None:
    """Write masks alone; see [`mask_writer`]."""
    write_outputs(segmentation, [mask_writer(segmentation, folder)])


def write_coco(segmentation: VideoSegmentation, path: str | Path) -> None:
    """Write COCO instances alone; see [`coco_writer`]."""
    write_outputs(segmentation, [coco_writer(segmentation, path)])


def write_cvat(segmentation: VideoSegmentation, path: str | Path) -> None:
    """Write CVAT annotations alone; see [`cvat_writer`]."""
    write_outputs(segmentation, [cvat_writer(segmentation, path)])


@contextmanager
def mask_writer(
    segmentation: VideoSegmentation, folder: str | Path
) -> Iterator[Callable[[MaskedFrame], None]]:
    """Write `folder/<expression>/<step>.png`, 0 or 255, of the video's size.

    Example: `masks/1_the-barking-dog/00007.png`.
    """
    with whole_folder(folder) as unfinished:
        names = [mask_folder_name(*pair) for pair in enumerate(segmentation.expressions, start=1)]
        for name in names:
            (unfinished / name).mkdir()

        def write(item: MaskedFrame) -> None:
            if item.starts_step:
                for name, mask in zip(names, item.masks, strict=True):
                    path = unfinished / name / f"{item.step:05d}.png"
                    Image.fromarray(mask.astype(np.uint8) * 255).save(path)

        yield write


def mask_folder_name(number: int, expression: str) -> str:
    """Return `1_the-barking-dog`: readable, and a valid name on every system."""
    words = re.sub(r"[^a-z0-9]+", "-", expression.lower()).strip("-")[:60].rstrip("-")
    return f"{number}_{words}" if words else str(number)


@contextmanager
def coco_writer(
    segmentation: VideoSegmentation, path: str | Path
) -> Iterator[Callable[[MaskedFrame], None]]:
    """Write COCO instances: an image a step, a category an expression, an annotation for each
    object in each image.

    Beside COCO's own fields an image has `frame_index` (its number in the video) and `seconds`, an
    annotation `score` (the probability that the object is to be seen). `segmentation` is compressed
    RLE, `bbox` is x, y, width and height in pixels.
    """
    images, annotations = [], []

    def write(item: MaskedFrame) -> None:
        if item.starts_step:
            images.append(_coco_image(segmentation, item))
            for expression, mask in enumerate(item.masks):
                if mask.any():
                    score = float(segmentation.presence[expression, item.step])
                    fields = _coco_annotation(mask, item.step, expression, score)
                    annotations.append({"id": len(annotations) + 1, **fields})

    yield write
    description = f"{segmentation.info.file_name}, segmented by sentences"
    categories = [
        {"id": number, "name": expression, "supercategory": "referred object"}
        for number, expression in enumerate(segmentation.expressions, start=1)
    ]
    coco = {
        "info": {"description": description, "version": "1.0"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(coco, ensure_ascii=False), encoding="utf-8")


def _coco_image(segmentation: VideoSegmentation, item: MaskedFrame) -> dict[str, Any]:
    width, height = segmentation.info.size
    return {
        "id": item.step + 1,
        "file_name": frame_name(item.frame.index),
        "width": width,
        "height": height,
        "frame_index": item.frame.index,
        "seconds": round(segmentation.time_of(item.step), 3),
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


@contextmanager
def cvat_writer(
    segmentation: VideoSegmentation, path: str | Path
) -> Iterator[Callable[[MaskedFrame], None]]:
    """Write CVAT for images 1.1: an image a step, and in it a mask for each expression whose object
    is there.

    Not CVAT for video: of a track of masks CVAT reads the first one alone. A task must have the
    labels of the file's `meta`.
    """
    labels, (width, height) = labels_of(segmentation.expressions), segmentation.info.size
    images, num_frames = [], 0

    def write(item: MaskedFrame) -> None:
        nonlocal num_frames
        num_frames = item.frame.index + 1
        if item.starts_step:
            name = frame_name(item.frame.index)
            facts = {"id": item.frame.index, "name": name, "width": width, "height": height}
            image = ET.Element("image", {key: str(value) for key, value in facts.items()})
            for label, mask in zip(labels, item.masks, strict=True):
                if mask.any():
                    attributes = {"label": label, "source": "auto", **cvat_mask(mask)}
                    ET.SubElement(image, "mask", attributes)
            images.append(image)

    yield write
    root = ET.Element("annotations")
    _add_texts(root, {"version": "1.1"})
    root.append(_cvat_meta(segmentation, labels, num_frames))
    root.extend(images)
    ET.indent(root)
    with whole_file(path) as unfinished:
        ET.ElementTree(root).write(unfinished, encoding="utf-8", xml_declaration=True)


def cvat_mask(mask: np.ndarray) -> dict[str, str]:
    """Return the attributes of CVAT's `mask` element: runs along the rows of the box around the
    object, zeros first."""
    left, top, width, height = bounding_box(mask)
    runs = count_runs(mask[top : top + height, left : left + width].ravel())
    box = {"left": left, "top": top, "width": width, "height": height}
    return {
        "occluded": "0",
        "rle": ", ".join(map(str, runs)),
        **{name: str(value) for name, value in box.items()},
        "z_order": "0",
    }


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return (left, top, width, height) in pixels of `mask (h, w)`, which is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    width, height = columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
    return int(columns[0]), int(rows[0]), int(width), int(height)


def labels_of(expressions: Sequence[str]) -> list[str]:
    """Return the expressions, and where one is too long for CVAT, its beginning under a number that
    makes it unique."""
    return [
        expression
        if len(expression) <= MAX_LABEL_LENGTH
        else f"{number}: {expression}"[: MAX_LABEL_LENGTH - 3] + "..."
        for number, expression in enumerate(expressions, start=1)
    ]


def _cvat_meta(segmentation: VideoSegmentation, labels: list[str], num_frames: int) -> ET.Element:
    meta = ET.Element("meta")
    task = ET.SubElement(meta, "task")
    name = segmentation.info.file_name
    _add_texts(task, {"name": name, "size": num_frames, "mode": "interpolation", "overlap": 0})
    entries = ET.SubElement(task, "labels")
    for label in dict.fromkeys(labels):
        entry = ET.SubElement(entries, "label")
        _add_texts(entry, {"name": label, "type": "mask"})
        ET.SubElement(entry, "attributes")
    size = ET.SubElement(task, "original_size")
    _add_texts(size, dict(zip(("width", "height"), segmentation.info.size, strict=True)))
    return meta


def _add_texts(parent: ET.Element, texts: dict[str, Any]) -> None:
    for name, text in texts.items():
        ET.SubElement(parent, name).text = str(text)


def summarize(segmentation: VideoSegmentation) -> dict[str, Any]:
    """Return what a script needs, in types that JSON has: facts of the video, and for each
    expression when it fits."""
    info, throughput = segmentation.info, segmentation.throughput
    return {
        "video": {
            "path": info.name,
            "width": info.width,
            "height": info.height,
            "frame_rate": round(info.frame_rate, 3),
            "duration": round(segmentation.duration, 3),
            "has_audio": info.has_audio,
            "steps": segmentation.num_steps,
            "steps_per_second": round(segmentation.timeline.steps_per_second, 3),
        },
        "threshold": segmentation.threshold,
        "throughput": throughput and round(throughput, 3),  # s of video in a second
        "expressions": [
            _summarize_expression(segmentation, index)
            for index in range(len(segmentation.expressions))
        ],
    }


def _summarize_expression(segmentation: VideoSegmentation, index: int) -> dict[str, Any]:
    intervals = [
        [round(time, 3) for time in interval] for interval in segmentation.intervals(index)
    ]
    presence = segmentation.presence[index].astype(float).round(4)
    iou_scores = {}
    if segmentation.iou_scores is not None:
        iou_scores["iou_scores"] = segmentation.iou_scores[index].astype(float).round(4).tolist()
    return {
        "text": segmentation.expressions[index],
        "fits": bool(intervals),
        "intervals": intervals,  # s, end excluded
        "presence": presence.tolist(),  # probability, per step
        **iou_scores,  # predicted IoU of the mask with the truth, per step
        "share": segmentation.shares[index].round(6).tolist(),  # of the frame, per step
    }


def to_json(summary: dict[str, Any]) -> str:
    """Return indented JSON with each row of numbers on one line."""
    text = json.dumps(summary, indent=2, ensure_ascii=False)
    # A bare line break is never inside a string: JSON escapes those.
    return re.sub(
        r"\[\n[\s\d.,e\[\]-]*\]", lambda row: "".join(row[0].split()).replace(",", ", "), text
    )


def write_summary(segmentation: VideoSegmentation, path: str | Path) -> None:
    """Write [`summarize`] as JSON."""
    with whole_file(path) as unfinished:
        unfinished.write_text(to_json(summarize(segmentation)) + "\n", encoding="utf-8")


def frame_name(index: int) -> str:
    """Return the file name of frame number `index` of a video, from 0; CVAT names frames so too."""
    return f"frame_{index:06d}.png"
