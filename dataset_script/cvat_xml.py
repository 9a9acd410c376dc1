"""CVAT for video 1.1: an XML a video, with masks and sentences."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from modeling_refavs.mask_rle import count_runs

from .taxonomy import NULL_CATEGORY


NUMBER, SENTENCES = "object", "sentences"  # attributes of a shape: text, the same in every frame
_LINE = re.compile(
    r"(?:(\d+)\. )?(.*)"
)  # of `sentences`: its place among the video's, if it is said
_UNHEARD_OF = re.compile(r"[\x00-\x1f\x7f]")  # neither XML nor a line can hold these


@dataclass
class CvatObject:
    """`number` is from 1; None of null sentences, which have no mask. `sentences` are (place in the
    video's list, text)."""

    number: int | None
    category: str
    masks: dict[int, np.ndarray]  # by frame, (height, width) bool; not where it is not to be seen
    sentences: list[tuple[int, str]]


@dataclass
class CvatVideo:
    """A task: frames `start`, `start + step`, ... up to `stop`."""

    name: str
    size: tuple[int, int]  # height, width
    frames: list[int]
    objects: list[CvatObject]
    split: str | None = None
    rate: float | None = None  # frames/s


# Writing


def write_cvat(path: Path, video: CvatVideo) -> None:
    """Every mask is a track of one frame, as CVAT itself writes masks: it has no tracks of them.
    Those of one object have its number as attribute and group.

    Raises:
        ValueError: a sentence holds a line break or a control character.
    """
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    root.append(_meta(video))
    tracks = (track for thing in video.objects for track in _tracks(video, thing))
    for number, track in enumerate(tracks):
        track.set("id", str(number))
        root.append(track)
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _meta(video: CvatVideo) -> ET.Element:
    meta = ET.Element("meta")
    task = ET.SubElement(meta, "task")
    facts = {
        "name": video.name,
        "size": len(video.frames),
        "mode": "interpolation",
        "subset": video.split or "",
        "start_frame": video.frames[0],
        "stop_frame": video.frames[-1],
        "frame_filter": "",
        "fps": video.rate or "",  # CVAT passes over it
    }
    for name, value in facts.items():
        ET.SubElement(task, name).text = str(value)
    labels = ET.SubElement(task, "labels")
    for category in dict.fromkeys(thing.category for thing in video.objects):
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = category
        ET.SubElement(label, "type").text = "points" if category == NULL_CATEGORY else "mask"
        attributes = ET.SubElement(label, "attributes")
        for name in (NUMBER, SENTENCES):
            attribute = ET.SubElement(attributes, "attribute")
            for key, value in (("name", name), ("mutable", "False"), ("input_type", "text")):
                ET.SubElement(attribute, key).text = value
            ET.SubElement(attribute, "default_value")
            ET.SubElement(attribute, "values")
    size = ET.SubElement(task, "original_size")
    ET.SubElement(size, "width").text = str(video.size[1])
    ET.SubElement(size, "height").text = str(video.size[0])
    return meta


def _tracks(video: CvatVideo, thing: CvatObject) -> Iterator[ET.Element]:
    lines = []
    for place, text in thing.sentences:
        if _UNHEARD_OF.search(text):
            raise ValueError(f"{video.name}: {text!r} cannot be in an attribute of CVAT's XML")
        lines.append(f"{place}. {text}")
    values = {NUMBER: str(thing.number or ""), SENTENCES: "\n".join(lines)}
    shapes = {frame: _mask_shape(mask) for frame, mask in thing.masks.items()}
    shapes = shapes or {video.frames[0]: ("points", {"points": "0.00,0.00"})}
    for frame, (kind, form) in shapes.items():
        track = ET.Element("track", label=thing.category, source="manual")
        if thing.number is not None:
            track.set("group_id", str(thing.number))
        for shown, outside in ((frame, 0), (frame + 1, 1)):
            if shown > video.frames[-1]:
                continue
            facts = {"frame": shown, "outside": outside, "occluded": 0, "keyframe": 1}
            facts = {name: str(value) for name, value in facts.items()}
            shape = ET.SubElement(track, kind, **facts, **form, z_order="0")
            for name, value in values.items():
                ET.SubElement(shape, "attribute", name=name).text = value
        yield track


def _mask_shape(mask: np.ndarray) -> tuple[str, dict[str, str]]:
    """Runs along the rows of its box, the first of them of zeros."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    runs = ", ".join(map(str, count_runs(box.ravel())))
    place = {"left": columns[0], "top": rows[0], "width": box.shape[1], "height": box.shape[0]}
    return "mask", {"rle": runs, **{name: str(value) for name, value in place.items()}}


# Reading


def read_cvat(path: Path) -> CvatVideo:
    """Tracks and shapes of masks and polygons. Those with the same attribute `object`, or else the
    same group, are one object; a shape stays until the next one of its track.

    Raises:
        ValueError: names the file and the track.
    """
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError, UnicodeError) as error:
        raise ValueError(f"{path}: cannot be read as XML: {error}") from error
    task = root.find("meta/task")
    if task is None:
        task = root.find("meta/job")
    if root.tag != "annotations" or task is None:
        raise ValueError(f"{path}: it is not of CVAT for video 1.1: no task is in annotations/meta")
    video = _read_task(path, task)
    objects: dict[tuple[str, str], CvatObject] = {}
    for track in root.findall("track"):
        where = f"{path}: track {track.get('id')}"
        try:
            _read_track(video, track, objects)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{where}: {error if str(error) else 'cannot be read'}") from error
    taken = {thing.number for thing in objects.values()}
    free = (number for number in range(1, len(taken) + len(objects) + 1) if number not in taken)
    for thing in objects.values():
        if thing.number == 0:  # none is said
            thing.number = next(free)
    video.objects = list(objects.values())
    return video


def _read_task(path: Path, task: ET.Element) -> CvatVideo:
    def fact(name: str) -> str:
        return (task.findtext(name) or "").strip()

    try:
        step = int(dict(re.findall(r"(\w+)=(\d+)", fact("frame_filter"))).get("step", 1))
        frames = list(range(int(fact("start_frame")), int(fact("stop_frame")) + 1, step))
        size = int(fact("original_size/height")), int(fact("original_size/width"))
        rate = float(fact("fps")) if fact("fps") else None
    except ValueError as error:
        raise ValueError(
            f"{path}: its task must say start_frame, stop_frame and original_size: {error}"
        ) from error
    name = Path(fact("source") or "").stem or fact("name") or path.stem
    return CvatVideo(name, size, frames, [], fact("subset") or None, rate)


def _read_track(
    video: CvatVideo, track: ET.Element, objects: dict[tuple[str, str], CvatObject]
) -> None:
    shapes = sorted(track, key=lambda shape: int(shape.attrib["frame"]))
    attributes = {
        element.get("name"): element.text or ""
        for shape in reversed(shapes)
        for element in shape.findall("attribute")
    }
    number, group = attributes.get(NUMBER, "").strip(), track.get("group_id", "0")
    category = track.attrib["label"]
    key = (
        (NUMBER, number or NULL_CATEGORY)
        if number or category == NULL_CATEGORY
        else ("group", group)
        if group != "0"
        else ("track", str(track.get("id")))
    )
    if key not in objects:
        known = None if category == NULL_CATEGORY else int(number or 0)
        objects[key] = CvatObject(known, category, {}, _read_sentences(attributes))
    thing = objects[key]
    if thing.category != category:
        raise ValueError(f"object {number or group} is {thing.category} and {category}")
    if category != NULL_CATEGORY:
        _draw_track(video, shapes, thing.masks)


def _read_sentences(attributes: dict[str, str]) -> list[tuple[int, str]]:
    lines = [line for line in attributes.get(SENTENCES, "").split("\n") if line.strip()]
    matches = (_LINE.fullmatch(line) for line in lines)
    return [(int(match[1] or 0), match[2]) for match in matches]


def _draw_track(video: CvatVideo, shapes: list[ET.Element], masks: dict[int, np.ndarray]) -> None:
    """Adds what the track shows to an object's masks; a point is no part of one."""
    for frame in video.frames:
        shown = [shape for shape in shapes if int(shape.attrib["frame"]) <= frame]
        if shown and shown[-1].get("outside") != "1" and shown[-1].tag != "points":
            mask = _draw_shape(shown[-1], video.size)
            masks[frame] = masks[frame] | mask if frame in masks else mask


def _draw_shape(shape: ET.Element, size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    if shape.tag == "mask":
        left, top, width, height = (
            int(float(shape.attrib[name])) for name in ("left", "top", "width", "height")
        )
        runs = np.array([int(run) for run in shape.attrib["rle"].split(",")], dtype=np.int64)
        inside = min(left, top) >= 0 and top + height <= size[0] and left + width <= size[1]
        if not inside or (runs < 0).any() or runs.sum() > width * height:
            raise ValueError(f"the mask of frame {shape.get('frame')} does not fit its box")
        pixels = np.zeros(width * height, dtype=bool)  # zeros at the end may be left out
        pixels[: runs.sum()] = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        mask[top : top + height, left : left + width] = pixels.reshape(height, width)
        return mask
    if shape.tag == "polygon":
        corners = [
            tuple(map(float, corner.split(","))) for corner in shape.attrib["points"].split(";")
        ]
        image = Image.new("1", size[::-1])
        ImageDraw.Draw(image).polygon(corners, fill=1)
        return np.asarray(image)
    raise ValueError(f"its shapes must be masks or polygons, got {shape.tag}")
