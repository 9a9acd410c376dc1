"""`refavs dataset export --form`: a tree in the form of Ref-YouTube-VOS, MeViS, YouTube-VIS, COCO
or CVAT."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from modeling_refavs.mask_rle import encode_rle
from modeling_refavs.utils.files import is_new, whole_folder

from .annotations import Clip
from .cvat_xml import CvatObject, CvatVideo, write_cvat
from .examples import open_tree, usable_part
from .media_files import frame_paths, mask_paths, read_mask, sound_path
from .schema import NUM_FRAMES
from .taxonomy import NULL_CATEGORY
from .video_forms import CATEGORIES, FORMS, INSTANCES, MASK_DICT, META


FRAME_RATE = 1  # frames/s of this layout
FRAMES = [f"{number:05d}" for number in range(NUM_FRAMES)]
# Of a mask in COCO -> of all masks of an object in YouTube-VIS.
COLUMNS = {"segmentation": "segmentations", "bbox": "bboxes", "area": "areas"}


def export_videos(
    form: str, tree: str | Path, output: str | Path, *, progress: bool = False
) -> dict[str, int]:
    """Write a tree in another data set's form: `JPEGImages/<clip>/0000<k>.jpg`, the frame of second
    k, `audio/<clip>.wav`, and annotations; `refavs dataset import` makes the same tree of it.

    Args:
        form: one of `video_forms.FORMS`.
        tree: folder with metadata.csv, media/ and gt_mask/.
        output: a new folder, which appears when all is written.

    Returns:
        How many clips and sentences there are.

    Raises:
        ValueError: the tree cannot be read, or the form cannot hold it: in a palette's picture
            objects cannot overlap.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    if not is_new(Path(output)):
        raise ValueError(f"{output} exists: give a new folder")
    opened = open_tree(tree)
    with whole_folder(output) as unfinished:
        writer = _WRITERS[form](unfinished, form)
        for clip in tqdm(opened.clips, desc="exporting", unit="clip", disable=not progress):
            usable_part(opened, clip)
            _copy_media(opened.root, clip, unfinished)
            objects = _read_objects(opened.root, clip)
            writer.add(clip, opened.taxonomy.categories, objects)
        writer.finish()
    sentences = sum(len(clip.rows) for clip in opened.clips)
    return {"clips": len(opened.clips), "sentences": sentences}


def _copy_media(root: Path, clip: Clip, output: Path) -> None:
    frames = output / "JPEGImages" / clip.clip_id
    if frames.exists():
        raise ValueError(f"{clip.clip_id} is in two splits: a form cannot hold it twice")
    frames.mkdir(parents=True)
    for number, path in enumerate(frame_paths(root, clip.clip_id)):
        shutil.copyfile(path, frames / f"{number:05d}.jpg")
    (output / "audio").mkdir(exist_ok=True)
    shutil.copyfile(sound_path(root, clip.clip_id), output / "audio" / f"{clip.clip_id}.wav")


@dataclass
class _Object:
    category: str
    masks: list[np.ndarray]  # of each step, (height, width) bool


def _read_objects(root: Path, clip: Clip) -> dict[int, _Object]:
    """By number, from 1; null references have none."""
    categories = {row.fid + 1: row.category for row in reversed(clip.rows) if not row.is_null}
    return {
        number: _Object(
            categories[number],
            [read_mask(path) for path in mask_paths(root, clip.clip_id, number - 1)],
        )
        for number in sorted(categories)
    }


class _MetaWriter:
    """`meta_expressions.json`, with palette pictures or with `mask_dict.json`."""

    def __init__(self, folder: Path, form: str):
        self.folder, self.in_pictures = folder, form == "ref-youtube-vos"
        self.videos, self.objects, self.masks = {}, {}, {}

    def add(self, clip: Clip, _: dict[str, str], objects: dict[int, _Object]) -> None:
        first = len(self.masks)
        keys = {number: first + order for order, number in enumerate(objects)}
        expressions = {}
        for order, row in enumerate(clip.rows):
            number = None if row.is_null else row.fid + 1
            if self.in_pictures:
                meant = {"obj_id": number and str(number)}
            else:
                meant = {
                    "obj_id": [] if number is None else [row.fid],
                    "anno_id": [] if number is None else [keys[number]],
                }
            expressions[str(order)] = {"exp": row.raw_expression, **meant}
        facts = {"frames": FRAMES, "fps": FRAME_RATE, "split": clip.split}
        self.videos[clip.clip_id] = {"expressions": expressions, **facts}
        self.objects[clip.clip_id] = {
            "objects": {str(n): {"category": o.category} for n, o in objects.items()}
        }
        if self.in_pictures:
            _write_palette_pictures(self.folder / "Annotations" / clip.clip_id, objects)
        else:
            self.masks |= {
                keys[number]: [encode_rle(mask) if mask.any() else None for mask in thing.masks]
                for number, thing in objects.items()
            }

    def finish(self) -> None:
        _write_json(self.folder / META, {"videos": self.videos})
        _write_json(self.folder / CATEGORIES, {"videos": self.objects})
        if not self.in_pictures:
            _write_json(self.folder / MASK_DICT, self.masks)


def _write_palette_pictures(folder: Path, objects: dict[int, _Object]) -> None:
    """Pixels are numbers of objects, shown in the colours of DAVIS."""
    if not objects:
        return
    folder.mkdir(parents=True)
    for step, name in enumerate(FRAMES):
        indices = np.zeros(next(iter(objects.values())).masks[step].shape, dtype=np.uint8)
        for number, thing in objects.items():
            if number > 255 or (indices[thing.masks[step]] > 0).any():
                raise ValueError(
                    f"{folder.name}, step {step}: object {number} overlaps another one, or is the "
                    "256th: a palette's picture cannot hold it; mevis, youtube-vis and coco can"
                )
            indices[thing.masks[step]] = number
        image = Image.fromarray(indices, mode="P")
        image.putpalette(davis_palette().tobytes())
        image.save(folder / f"{name}.png")


def davis_palette() -> np.ndarray:
    """`(256, 3)` uint8, the colours of PASCAL VOC and DAVIS: bits 0, 1 and 2 of a number are the
    highest of red, green and blue, the next three the second highest, and so on."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for level in range(8):
        for channel in range(3):
            bit = (numbers >> (3 * level + channel)) & 1
            colours[:, channel] |= (bit << (7 - level)).astype(np.uint8)
    return colours


class _InstancesWriter:
    """One JSON of COCO's tables: a row an object (`youtube-vis`), or a row an object and a frame
    (`coco`)."""

    def __init__(self, folder: Path, form: str):
        self.folder, self.by_image = folder, form == "coco"
        self.videos, self.images, self.annotations, self.categories = [], [], [], {}

    def add(self, clip: Clip, groups: dict[str, str], objects: dict[int, _Object]) -> None:
        video = len(self.videos) + 1
        names = [f"{clip.clip_id}/{frame}.jpg" for frame in FRAMES]
        with Image.open(self.folder / "JPEGImages" / names[0]) as image:
            size = {"width": image.width, "height": image.height}
        sentences = [
            {"exp": row.raw_expression, "obj_id": None if row.is_null else row.fid}
            for row in clip.rows
        ]
        facts = {"fps": FRAME_RATE, "split": clip.split, "expressions": sentences}
        files = {"file_names": names, "length": NUM_FRAMES, **size}
        described = {"name": clip.clip_id} if self.by_image else files
        self.videos.append({"id": video, **described, **facts})
        first_image = len(self.images) + 1
        if self.by_image:
            self.images += [
                {"id": first_image + step, "video_id": video, "file_name": name, **size}
                for step, name in enumerate(names)
            ]
        for number, thing in objects.items():
            group = groups.get(thing.category, "object")
            category = self.categories.setdefault(
                thing.category,
                {
                    "id": len(self.categories) + 1,
                    "name": thing.category,
                    "supercategory": group,
                },
            )
            common = {"category_id": category["id"], "track_id": number - 1, "iscrowd": 0}
            masks = [_coco_mask(mask) for mask in thing.masks]
            if self.by_image:
                for step, mask in enumerate(masks):
                    if mask is not None:
                        self._add({"image_id": first_image + step, **common, **mask})
                continue
            columns = {
                column: [mask and mask[name] for mask in masks] for name, column in COLUMNS.items()
            }
            self._add({"video_id": video, **common, **size, "length": NUM_FRAMES, **columns})

    def _add(self, annotation: dict[str, Any]) -> None:
        self.annotations.append({"id": len(self.annotations) + 1, **annotation})

    def finish(self) -> None:
        tables = {"images": self.images} if self.by_image else {}
        tables |= {"annotations": self.annotations, "categories": [*self.categories.values()]}
        _write_json(self.folder / INSTANCES, {"videos": self.videos, **tables})


def _coco_mask(mask: np.ndarray) -> dict[str, Any] | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    left, top = int(columns[0]), int(rows[0])
    box = [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]
    return {"segmentation": encode_rle(mask), "bbox": box, "area": int(mask.sum())}


class _CvatWriter:
    """`<clip>.xml` for each clip."""

    def __init__(self, folder: Path, form: str):
        self.folder = folder

    def add(self, clip: Clip, _: dict[str, str], objects: dict[int, _Object]) -> None:
        with Image.open(self.folder / "JPEGImages" / clip.clip_id / f"{FRAMES[0]}.jpg") as image:
            size = image.height, image.width
        said: dict[int | None, list[tuple[int, str]]] = {}
        for place, row in enumerate(clip.rows, start=1):
            said.setdefault(None if row.is_null else row.fid + 1, []).append(
                (place, row.raw_expression)
            )
        null = [CvatObject(None, NULL_CATEGORY, {}, said[None])] if None in said else []
        things = [
            CvatObject(
                number,
                thing.category,
                {step: mask for step, mask in enumerate(thing.masks) if mask.any()},
                said[number],
            )
            for number, thing in objects.items()
        ]
        frames = list(range(NUM_FRAMES))
        video = CvatVideo(clip.clip_id, size, frames, things + null, clip.split, FRAME_RATE)
        write_cvat(self.folder / f"{clip.clip_id}.xml", video)

    def finish(self) -> None:
        """Each file is whole already."""


_WRITERS = {
    "cvat": _CvatWriter,
    "ref-youtube-vos": _MetaWriter,
    "mevis": _MetaWriter,
    "youtube-vis": _InstancesWriter,
    "coco": _InstancesWriter,
}


def _write_json(path: Path, content: dict[Any, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
