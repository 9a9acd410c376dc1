"""Videos with masks and sentences as other data sets' files have them (docs/finetuning.md):
Ref-YouTube-VOS, MeViS, YouTube-VIS, COCO, CVAT."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from modeling_refavs.mask_rle import decode_rle

from .cvat_xml import CvatVideo, read_cvat
from .schema import SPLITS
from .taxonomy import NULL_CATEGORY


FORMS = ("ref-youtube-vos", "mevis", "youtube-vis", "coco", "cvat")
META, MASK_DICT, INSTANCES = "meta_expressions.json", "mask_dict.json", "instances.json"
CATEGORIES = "meta.json"  # of Ref-YouTube-VOS: what each object is
REFERRED = "referred object"  # supercategory of `refavs segment --coco`: the name is the sentence

MaskReader = Callable[[int, int], np.ndarray | None]
Forms = tuple[Path, list["Video"], dict[str, str]]  # folder, videos, category -> super-category


@dataclass(frozen=True)
class Sentence:
    """`objects` are the numbers of what it means, from 1; none for a sentence that nothing fits."""

    text: str
    objects: tuple[int, ...]


@dataclass
class Video:
    """A video as a file of annotations has it.

    Args:
        name: of its folder of frames, its file and its sound.
        frames: names of the frames that have masks, in order: "00005" is frame number 5.
        sentences: in the file's order.
        read_mask: `read_mask(object, place in frames)` gives `(height, width)` bool; None where
            the object is not to be seen.
        where: file and entry, for messages.
        categories: of objects.
        rate: frames/s, where the file says so.
        split: likewise.
    """

    name: str
    frames: list[str]
    sentences: list[Sentence]
    read_mask: MaskReader
    where: str
    categories: dict[int, str] = field(default_factory=dict)
    rate: float | None = None
    split: str | None = None


def read_videos(form: str, source: Path) -> Forms:
    """
    Raises:
        ValueError: the form is not known; or names the file and the entry that cannot be read.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    try:
        return _READERS[form](source)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{source}: it is not in the form {form}: {error!r}") from error


def frame_number(name: str, where: str) -> int:
    """5 of "00005" and of "frame_000005"."""
    digits = name.rpartition("_")[2]
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{where}: frame {name!r} has no number: names are such as 00005")
    return int(digits)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: it must hold an object, got {type(content).__name__}")
    return content


def _entry(entry: Any, key: str, kind: type, where: str) -> Any:
    """`entry[key]`, of that kind.

    Raises:
        ValueError: it is not there, or of another kind.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get(key), kind):
        found = json.dumps(entry.get(key) if isinstance(entry, dict) else entry)
        raise ValueError(f"{where}: {key} must be {kind.__name__}, got {found[:80]}")
    return entry[key]


def _sentence(entry: Any, numbers: Callable[[Any], tuple[int, ...]], where: str) -> Sentence:
    text = _entry(entry, "exp", str, where)
    if not text.strip():
        raise ValueError(f"{where}: the sentence is empty")
    try:
        objects = numbers(entry)
        if min(objects, default=1) < 1:
            raise ValueError(f"no object has the number of {json.dumps(entry)}")
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"{where}: {text!r}: which object does it mean? {error}") from error
    return Sentence(text, objects)


def _split_and_rate(entry: dict[str, Any], where: str) -> dict[str, Any]:
    split, rate = entry.get("split"), entry.get("fps")
    if split is not None and split not in SPLITS:
        raise ValueError(f"{where}: split must be one of {', '.join(SPLITS)}, got {split!r}")
    if rate is not None and not (isinstance(rate, (int, float)) and rate > 0):
        raise ValueError(f"{where}: fps must be above 0, got {rate!r}")
    return {"split": split, "rate": rate}


def _category_name(name: str, where: str) -> str:
    """As a uid holds it, which has `_` and `/` for other things."""
    name = " ".join(name.replace("_", " ").replace("/", " ").split())
    if name == NULL_CATEGORY or not name:
        raise ValueError(f"{where}: {name!r} cannot be a category's name")
    return name


def _find_meta(source: Path) -> tuple[Path, Path]:
    """The folder of frames, and its meta_expressions.json, in it or where Ref-YouTube-VOS has it:
    `train/` and `meta_expressions/train/`."""
    if source.is_file():
        return source.parent, source
    places = (source / META, source.parent / "meta_expressions" / source.name / META)
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise ValueError(f"{source}: no {META} is in it or in {places[1].parent}")
    return source, found


def _read_meta(
    source: Path,
    numbers_of: Callable[[Any], tuple[int, ...]],
    mask_reader: Callable[[Path, str, dict[str, Any], list[str]], MaskReader],
) -> Forms:
    root, path = _find_meta(source)
    named = _read_json(root / CATEGORIES) if (root / CATEGORIES).is_file() else {}
    videos = []
    for name, entry in _entry(_read_json(path), "videos", dict, str(path)).items():
        where = f"{path}: video {name}"
        expressions = _entry(entry, "expressions", dict, where)
        frames = [str(frame) for frame in _entry(entry, "frames", list, where)]
        objects = named.get("videos", {}).get(name, {}).get("objects", {})
        videos.append(
            Video(
                name,
                frames,
                [
                    _sentence(expression, numbers_of, f"{where}: expression {key}")
                    for key, expression in expressions.items()
                ],
                mask_reader(root, name, expressions, frames),
                where,
                {
                    int(number): _category_name(_entry(thing, "category", str, where), where)
                    for number, thing in objects.items()
                },
                **_split_and_rate(entry, where),
            )
        )
    return root, videos, {}


def _read_ref_youtube_vos(source: Path) -> Forms:
    def numbers(expression: dict[str, Any]) -> tuple[int, ...]:
        number = int(expression["obj_id"] or 0)
        return (number,) if number else ()

    def mask_reader(root: Path, name: str, _: Any, frames: list[str]) -> MaskReader:
        @lru_cache(maxsize=1)
        def read_indices(place: int) -> np.ndarray:
            with Image.open(root / "Annotations" / name / f"{frames[place]}.png") as image:
                if image.mode not in ("P", "L"):
                    raise ValueError(f"its pixels must be numbers of objects, got {image.mode}")
                return np.asarray(image)

        return lambda number, place: read_indices(place) == number

    return _read_meta(source, numbers, mask_reader)


def _read_mevis(source: Path) -> Forms:
    root = _find_meta(source)[0]
    masks = _read_json(root / MASK_DICT)

    def numbers(expression: dict[str, Any]) -> tuple[int, ...]:
        if len(expression["obj_id"]) != len(expression["anno_id"]):
            raise ValueError(f"{expression['obj_id']} and {expression['anno_id']} do not pair")
        if lacking := [key for key in expression["anno_id"] if str(key) not in masks]:
            raise ValueError(f"anno_id {lacking[0]} is not in {MASK_DICT}")
        return tuple(sorted(int(number) + 1 for number in expression["obj_id"]))

    def mask_reader(_: Path, __: str, expressions: dict[str, Any], ___: list[str]) -> MaskReader:
        names = {
            int(number) + 1: str(key)
            for expression in expressions.values()
            for number, key in zip(expression["obj_id"], expression["anno_id"], strict=True)
        }
        return lambda number, place: _decode(masks[names[number]][place])

    return _read_meta(source, numbers, mask_reader)


def _decode(rle: Any) -> np.ndarray | None:
    if rle is None:
        return None
    if not isinstance(rle, dict) or not {"size", "counts"} <= rle.keys():
        raise ValueError("it must be an RLE of size and counts (polygons: annToRLE of pycocotools)")
    return decode_rle(rle)


class _Instances:
    """COCO's tables, by id."""

    def __init__(self, source: Path, *tables: str):
        self.path = source / INSTANCES if source.is_dir() else source
        content = _read_json(self.path)
        for name in (*tables, "annotations", "categories"):
            _entry(content, name, list, str(self.path))
        self.content = content
        self.categories = {entry.get("id"): entry for entry in content["categories"]}

    def where(self, table: str, entry: dict[str, Any]) -> str:
        return f"{self.path}: {table} {entry.get('id')}"

    def category(self, annotation: dict[str, Any]) -> dict[str, Any]:
        where = self.where("annotation", annotation)
        category = self.categories.get(annotation.get("category_id"))
        if category is None:
            raise ValueError(f"{where}: no category has id {annotation.get('category_id')!r}")
        _entry(category, "name", str, self.where("category", category))
        return category

    def groups(self) -> dict[str, str]:
        """Category -> super-category."""
        return {
            _category_name(entry["name"], self.where("category", entry)): entry["supercategory"]
            for entry in self.categories.values()
            if entry.get("supercategory") not in (None, "", REFERRED)
        }

    def object_facts(
        self, annotations: dict[int, list[dict[str, Any]]]
    ) -> tuple[dict[int, str], list[Sentence]]:
        """Of objects, by number: their categories, and the sentences that stand in their
        annotations or are the name of their category."""
        categories, sentences = {}, []
        for number, entries in annotations.items():
            category, where = self.category(entries[0]), self.where("annotation", entries[0])
            texts = [text for entry in entries for text in entry.get("expressions", ())]
            if category.get("supercategory") == REFERRED:
                texts.append(category["name"])
            else:
                categories[number] = _category_name(category["name"], where)
            sentences += [
                _sentence({"exp": text}, lambda _, number=number: (number,), where)
                for text in dict.fromkeys(texts)
            ]
        return categories, sentences

    def video_sentences(
        self, entry: dict[str, Any], known: Iterable[int], where: str
    ) -> list[Sentence]:
        """`expressions` of an entry: `{"exp": sentence, "obj_id": track_id or null}`."""
        known = set(known)

        def numbers(expression: dict[str, Any]) -> tuple[int, ...]:
            if expression["obj_id"] is None:
                return ()
            number = int(expression["obj_id"]) + 1
            if number not in known:
                raise ValueError(f"no annotation of this video has track_id {number - 1}")
            return (number,)

        return [
            _sentence(expression, numbers, where) for expression in entry.get("expressions", ())
        ]


def _track_number(annotation: dict[str, Any], otherwise: int) -> int:
    """An object's number: tracks count from 0."""
    track = annotation.get("track_id")
    return int(otherwise) if track is None else int(track) + 1


def _read_youtube_vis(source: Path) -> Forms:
    tables = _Instances(source, "videos")
    of_video: dict[Any, list[dict[str, Any]]] = {}
    for annotation in tables.content["annotations"]:
        of_video.setdefault(annotation.get("video_id"), []).append(annotation)
    videos = []
    for entry in tables.content["videos"]:
        where = tables.where("video", entry)
        files = [Path(str(file)) for file in _entry(entry, "file_names", list, where)]
        annotations = {}
        for order, annotation in enumerate(of_video.get(entry.get("id"), ()), start=1):
            number = _track_number(annotation, order)
            annotations.setdefault(number, []).append(annotation)
        masks = {
            number: _entry(
                entries[0], "segmentations", list, tables.where("annotation", entries[0])
            )
            for number, entries in annotations.items()
        }
        categories, sentences = tables.object_facts(annotations)
        videos.append(
            Video(
                files[0].parent.as_posix() if files else where,
                [file.stem for file in files],
                tables.video_sentences(entry, annotations, where) + sentences,
                lambda number, place, masks=masks: _decode(masks[number][place]),
                where,
                categories,
                **_split_and_rate(entry, where),
            )
        )
    return tables.path.parent, videos, tables.groups()


def _read_coco(source: Path) -> Forms:
    """Images of one folder are a video's frames; images without one are of the video that is called
    as the file is, as `refavs segment --coco` writes them."""
    tables = _Instances(source, "images")
    described = {entry.get("name"): entry for entry in tables.content.get("videos", ())}
    images: dict[str, list[dict[str, Any]]] = {}
    for image in tables.content["images"]:
        file = Path(_entry(image, "file_name", str, tables.where("image", image)))
        name = file.parent.as_posix() if len(file.parts) > 1 else tables.path.stem
        images.setdefault(name, []).append(image)
    of_image: dict[Any, list[dict[str, Any]]] = {}
    for annotation in tables.content["annotations"]:
        of_image.setdefault(annotation.get("image_id"), []).append(annotation)
    videos = []
    for name, shown in images.items():
        where, entry = f"{tables.path}: video {name}", described.get(name, {})
        stems = {image["id"]: Path(image["file_name"]).stem for image in shown}
        shown = sorted(shown, key=lambda image: frame_number(stems[image["id"]], where))
        annotations, masks = {}, {}
        for place, image in enumerate(shown):
            for annotation in of_image.get(image["id"], ()):
                number = _track_number(annotation, annotation.get("category_id"))
                annotations.setdefault(number, []).append(annotation)
                masks[number, place] = annotation.get("segmentation")
        categories, sentences = tables.object_facts(annotations)
        videos.append(
            Video(
                name,
                [stems[image["id"]] for image in shown],
                tables.video_sentences(entry, annotations, where) + sentences,
                lambda number, place, masks=masks: _decode(masks.get((number, place))),
                where,
                categories,
                **_split_and_rate(entry, where),
            )
        )
    return tables.path.parent, videos, tables.groups()


def _read_cvat(source: Path) -> Forms:
    """An XML, or all in a folder."""
    paths = sorted(source.glob("*.xml")) if source.is_dir() else [source]
    if not paths:
        raise ValueError(f"{source}: no .xml is in it")
    videos = [_cvat_video(path, read_cvat(path)) for path in paths]
    return source if source.is_dir() else source.parent, videos, {}


def _cvat_video(path: Path, video: CvatVideo) -> Video:
    where = f"{path}: {video.name}"
    masks = {thing.number: thing.masks for thing in video.objects}
    said = [
        (
            place,
            _sentence({"exp": text}, lambda _, meant=thing.number: (meant,) * bool(meant), where),
        )
        for thing in video.objects
        for place, text in thing.sentences
    ]
    return Video(
        video.name,
        [f"{number:05d}" for number in video.frames],
        [sentence for _, sentence in sorted(said, key=lambda pair: pair[0])],
        lambda number, place: masks[number].get(video.frames[place]),
        where,
        {
            thing.number: _category_name(thing.category, where)
            for thing in video.objects
            if thing.number is not None
        },
        **_split_and_rate({"split": video.split, "fps": video.rate}, where),
    )


_READERS = {
    "cvat": _read_cvat,
    "ref-youtube-vos": _read_ref_youtube_vos,
    "mevis": _read_mevis,
    "youtube-vis": _read_youtube_vis,
    "coco": _read_coco,
}
