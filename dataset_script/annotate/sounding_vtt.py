"""Sounding intervals as WebVTT: a .vtt a clip, with a cue for each interval that names its
object."""

import re
from dataclasses import replace
from pathlib import Path

from modeling_refavs.utils.files import is_new, whole_folder

from .annotation import Annotation, AnnotationStore
from .tree import annotated_clip_ids, read_tree_annotation


_TIME = r"(?:(\d+):)?(\d{2}):(\d{2})\.(\d{3})"
_TIMES = re.compile(rf"{_TIME}[ \t]+-->[ \t]+{_TIME}(?:[ \t].*)?")
_NAME = re.compile(r"<v object (\d+)>(.*?)(?:</v>)?")
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}  # of a cue's text
Intervals = list[tuple[float, float]]


def export_vtt(tree: str | Path, annotator: str, output: str | Path) -> dict[str, int]:
    """Write `<clip>.vtt` for each clip that an annotator has annotated; times in ms.

    Args:
        output: a new folder, which appears when all is written.

    Returns:
        How many clips and intervals there are.

    Raises:
        ValueError: nothing is annotated, or the folder is there.
    """
    store = AnnotationStore(tree, annotator)
    if not is_new(Path(output)):
        raise ValueError(f"{output} exists: give a new folder")
    annotations = [store.read(clip_id) for clip_id in store.clip_ids()]
    if not annotations:
        raise ValueError(f"{store.path('x').parent}: nothing is annotated yet")
    with whole_folder(output) as unfinished:
        for annotation in annotations:
            path = unfinished / f"{annotation.clip_id}.vtt"
            path.write_text(vtt_text(annotation), encoding="utf-8")
    things = [thing for annotation in annotations for thing in annotation.objects]
    return {"clips": len(annotations), "intervals": sum(len(thing.sounding) for thing in things)}


def vtt_text(annotation: Annotation) -> str:
    """Cues in order of time. A player shows the category, and who "speaks" is the object."""
    cues = sorted(
        (start, end, thing.fid, thing.category)
        for thing in annotation.objects
        for start, end in thing.sounding
    )
    blocks = [
        f"{_clock(start)} --> {_clock(end)}\n<v object {fid}>{_escape(category)}</v>"
        for start, end, fid, category in cues
    ]
    return "\n\n".join(["WEBVTT", *blocks]) + "\n"


def _clock(seconds: float) -> str:
    whole = round(seconds * 1000)
    return f"00:{whole // 60_000:02d}:{whole // 1000 % 60:02d}.{whole % 1000:03d}"


def _escape(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)


def import_vtt(source: str | Path, tree: str | Path, annotator: str) -> dict[str, int]:
    """Take over the sounding intervals of `<clip>.vtt` files, a folder of them or one: they replace
    those of every object of these clips. A clip that the annotator has not annotated begins with
    what the tree says of it.

    Returns:
        How many clips and intervals there are.

    Raises:
        ValueError: names the file and the cue that cannot be used; nothing is changed then.
    """
    source, store = Path(source), AnnotationStore(tree, annotator)
    paths = sorted(source.glob("*.vtt")) if source.is_dir() else [source]
    if not paths:
        raise ValueError(f"{source}: no .vtt is in it")
    known = set(annotated_clip_ids(tree))
    changed, intervals = [], 0
    for path in paths:
        if path.stem not in known:
            raise ValueError(f"{path}: {tree} has no clip {path.stem} to annotate")
        annotation = store.read(path.stem) or read_tree_annotation(tree, path.stem)
        cues = read_vtt(path)
        changed.append(_with_cues(annotation, cues, path))
        intervals += sum(len(found) for _, found in cues.values())
    for annotation in changed:
        store.save(annotation)
    return {"clips": len(changed), "intervals": intervals}


def _with_cues(
    annotation: Annotation, cues: dict[int, tuple[str, Intervals]], path: Path
) -> Annotation:
    fids = {thing.fid: thing.category for thing in annotation.objects}
    for fid, (category, _) in cues.items():
        if fids.get(fid) != category:
            found = f"is {fids[fid]}" if fid in fids else "is not there"
            raise ValueError(f"{path}: a cue names object {fid} {category}, which {found}")
    objects = [
        replace(thing, sounding=tuple(sorted(cues.get(thing.fid, ("", []))[1])))
        for thing in annotation.objects
    ]
    try:
        return replace(annotation, objects=tuple(objects))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_vtt(path: str | Path) -> dict[int, tuple[str, Intervals]]:
    """fid -> category and intervals (start, end) in s.

    Raises:
        ValueError: names the file and the cue.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{path}: cannot be read as WebVTT: {error}") from error
    first, *blocks = re.split(r"\n{2,}", "\n".join(text.splitlines()).strip())
    if not re.fullmatch(r"WEBVTT(?:[ \t\n].*)?", first, re.DOTALL):
        raise ValueError(f"{path}: it does not begin with WEBVTT")
    found: dict[int, tuple[str, Intervals]] = {}
    for block in blocks:
        lines = block.split("\n")
        if re.match(r"(?:NOTE|STYLE|REGION)\b", lines[0]):
            continue
        if "-->" not in lines[0]:
            lines = lines[1:]  # the cue's own name
        times = _TIMES.fullmatch(lines[0].strip()) if lines else None
        name = _NAME.fullmatch("\n".join(lines[1:]).strip())
        if times is None or name is None:
            raise ValueError(
                f"{path}: a cue must be such as 00:00:01.000 --> 00:00:02.500 and "
                f"<v object 0>dog</v>, got {block!r}"
            )
        category = _unescape(name[2])
        fid, parts = int(name[1]), times.groups()
        known, intervals = found.setdefault(fid, (category, []))
        if known != category:
            raise ValueError(f"{path}: object {fid} is {known} and {category}")
        intervals.append((_seconds(*parts[:4]), _seconds(*parts[4:])))
    return found


def _unescape(text: str) -> str:
    for character, escape in reversed(_ESCAPES.items()):
        text = text.replace(escape, character)
    return text


def _seconds(hours: str | None, minutes: str, seconds: str, thousandths: str) -> float:
    whole = (int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)
    return (whole * 1000 + int(thousandths)) / 1000
