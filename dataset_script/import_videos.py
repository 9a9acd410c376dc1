"""`refavs dataset import`: videos with masks and sentences become a tree in the layout of Ref-AVS
Bench."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from modeling_refavs.utils.files import is_new, whole_folder

from .annotations import (
    Annotation,
    clip_rows,
    null_clip_id,
    split_clip_id,
    write_annotations,
)
from .media_files import (
    SAMPLING_RATE,
    SOUND_TOLERANCE_MS,
    frame_paths,
    mask_paths,
    read_sound_header,
    save_frame,
    write_mask,
    write_sound,
)
from .schema import CLIP_MS, NUM_FRAMES, SPLITS
from .taxonomy import NULL_CATEGORY, PAPER_TAXONOMY, write_taxonomy
from .video_forms import Sentence, Video, frame_number, read_videos


OBJECT = "object"  # category and super-category of what a file does not name
PICTURES, VIDEOS = (".jpg", ".jpeg", ".png"), (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v")

Picture = tuple[
    int, float, Any
]  # place in `Video.frames`, time in s, and a file or a video's frame


def import_videos(
    form: str,
    source: str | Path,
    tree: str | Path,
    *,
    frame_rate: float | None = None,
    split: str = "train",
    val_share: float = 0.0,
    progress: bool = False,
) -> dict[str, int]:
    """Write a tree in the layout of Ref-AVS Bench.

    A video becomes clips of ten seconds; step k shows the frame with masks that is nearest to
    second k. What a last clip lacks is its last frame held, and silence.

    Args:
        form: one of `video_forms.FORMS`.
        source: the folder of annotations, `JPEGImages/<video>/` or `videos/<video>.mp4`, and
            `audio/<video>.wav`; or the JSON in that folder.
        tree: a new folder, which appears when all is written.
        frame_rate: frames/s that the frames' numbers count, where neither the annotations nor a
            video file says so.
        split: of videos whose annotations name none.
        val_share: of these videos, those that become `val`.

    Returns:
        How many videos, clips and sentences there are, and how many videos are silent.

    Raises:
        ValueError: names the file and the entry that cannot be used.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if not 0 <= val_share < 1:
        raise ValueError(f"val_share must lie in [0, 1), got {val_share}")
    if frame_rate is not None and not frame_rate > 0:
        raise ValueError(f"frame_rate must be above 0 frames/s, got {frame_rate}")
    if not is_new(Path(tree)):
        raise ValueError(f"{tree} exists: give a new folder")
    root, videos, groups = read_videos(form, Path(source))
    _divide([video for video in videos if video.split is None], split, val_share)
    rows: dict[str, list[Annotation]] = {}
    silent = 0
    with whole_folder(tree) as unfinished:
        for video in tqdm(videos, desc="importing", unit="video", disable=not progress):
            if video.sentences:
                writer = _ClipWriter(unfinished, root, video, frame_rate)
                rows |= writer.write()
                silent += writer.is_silent
        all_rows = [row for clip_rows in rows.values() for row in clip_rows]
        if not all_rows:
            raise ValueError(f"{source}: no video has a sentence")
        write_annotations(unfinished / "metadata.csv", all_rows)
        _write_taxonomy(unfinished, all_rows, groups)
    return {
        "videos": len(videos),
        "clips": len(rows),
        "sentences": len(all_rows),
        "silent_videos": silent,
    }


def _divide(videos: list[Video], split: str, val_share: float) -> None:
    """Every so many videos one is of `val`, so that the share is met wherever the list is cut."""
    for number, video in enumerate(videos):
        is_val = int((number + 1) * val_share + 1e-9) > int(number * val_share + 1e-9)
        video.split = "val" if is_val else split


def _write_taxonomy(tree: Path, rows: Iterable[Annotation], groups: dict[str, str]) -> None:
    known = PAPER_TAXONOMY.categories | groups
    names = sorted({row.category for row in rows} - {NULL_CATEGORY})
    write_taxonomy(tree, {name: known.get(name, OBJECT) for name in names})


class _ClipWriter:
    """Writes one video's clips."""

    def __init__(self, tree: Path, root: Path, video: Video, frame_rate: float | None):
        self.tree, self.video = tree, video
        file = _find(root, video.name, VIDEOS)
        self.media = _find_frames(root, video.name) or file
        if self.media is None:
            raise ValueError(
                f"{video.where}: neither a folder of frames nor a video {video.name} is in {root}, "
                "its JPEGImages/ or its videos/"
            )
        self.frame_rate = video.rate if self.media == file else video.rate or frame_rate
        self.sound = _find(root, video.name, (".wav",)) or file
        self.is_silent = False

    def write(self) -> dict[str, list[Annotation]]:
        """The rows of each clip, whose files are written."""
        real = [sentence for sentence in self.video.sentences if sentence.objects]
        null = [sentence for sentence in self.video.sentences if not sentence.objects]
        places, rows = list(self._write_pictures()), {}
        for start, sound in enumerate(self._cut_sound(len(places))):
            clip_id = self._name(start * NUM_FRAMES, len(places))
            draft = self._draft(start)
            if isinstance(sound, Path):
                shutil.copyfile(sound, draft / "audio.wav")
            else:
                write_sound(draft / "audio.wav", sound)
            if null:
                name = null_clip_id(clip_id)
                self._take(draft, name)
                rows[name] = self._rows(name, [(s, 0, NULL_CATEGORY) for s in null])
            if real:
                self._take(draft, clip_id)
                shown = places[start * NUM_FRAMES :][:NUM_FRAMES]
                rows[clip_id] = self._write_masks(clip_id, real, shown)
            shutil.rmtree(draft)
        return rows

    def _name(self, start: int, steps: int) -> str:
        name = self.video.name
        if steps <= NUM_FRAMES and split_clip_id(name)["start_ms"] is not None:
            return name  # a clip of this layout that comes back
        return f"{name}_{start * 1000}_{start * 1000 + CLIP_MS}"

    def _draft(self, clip: int) -> Path:
        return self.tree / "media" / f".{clip}"

    def _take(self, draft: Path, clip_id: str) -> None:
        target = self.tree / "media" / clip_id
        if "/" in clip_id or not clip_id.isprintable() or clip_id.startswith("."):
            raise ValueError(f"{self.video.where}: {clip_id!r} cannot be a folder's name")
        if target.exists():
            raise ValueError(f"{self.video.where}: a clip {clip_id} is there already")
        shutil.copytree(draft, target)

    # Frames

    def _write_pictures(self) -> Iterator[int]:
        """Writes the frames of all clips, the last one's held; yields the place in `video.frames`
        of each step."""
        step, path = -1, Path()
        for step, (second, place, picture) in enumerate(_nearest(self._read_pictures())):
            if second != step:
                raise ValueError(
                    f"{self.video.where}: no frame with masks is within half a second of {step} s"
                )
            path = self._frame_path(step)
            path.parent.mkdir(parents=True, exist_ok=True)
            _save_picture(picture, path, self.video.where)
            yield place
        for held in range(step + 1, -(-(step + 1) // NUM_FRAMES) * NUM_FRAMES):
            shutil.copyfile(path, self._frame_path(held))

    def _frame_path(self, step: int) -> Path:
        clip, number = divmod(step, NUM_FRAMES)
        return self._draft(clip) / "frames" / f"{number}.jpg"

    def _read_pictures(self) -> Iterator[Picture]:
        video = self.video
        numbers = [frame_number(name, video.where) for name in video.frames]
        if not numbers or numbers != sorted(set(numbers)):
            raise ValueError(
                f"{video.where}: it has sentences, so its frames must be named, each once and in "
                "order"
            )
        if not self.media.is_dir():
            yield from _read_video_file(self.media, numbers, self.frame_rate)
            return
        if self.frame_rate is None:
            raise ValueError(
                f"{video.where}: how many of the numbers of {self.media}'s frames are a second? "
                "Say --fps, or fps in the entry"
            )
        for place, (name, number) in enumerate(zip(video.frames, numbers, strict=True)):
            path = _with_suffix(self.media / name, PICTURES)
            if path is None:
                raise ValueError(f"{video.where}: {self.media}/{name}.jpg is not there")
            yield place, (number - numbers[0]) / self.frame_rate, path

    # Sound

    def _cut_sound(self, steps: int) -> list[Path | np.ndarray]:
        """Of each clip the samples; or a WAV file, where it is of one whole clip."""
        if self.sound is not None and steps <= NUM_FRAMES and _is_clip(self.sound):
            return [self.sound]
        clips = -(-steps // NUM_FRAMES)
        whole = np.zeros(clips * CLIP_MS * SAMPLING_RATE // 1000, dtype=np.float32)
        if self.sound is not None:
            samples = _read_samples(self.sound)[: len(whole)]
            whole[: len(samples)] = samples
        self.is_silent = not whole.any()
        return np.split(whole, clips)

    # Masks and sentences

    def _write_masks(
        self, clip_id: str, sentences: list[Sentence], places: list[int]
    ) -> list[Annotation]:
        fids = _number_objects(sentences)
        with Image.open(frame_paths(self.tree, clip_id)[0]) as frame:
            empty = np.zeros(frame.size[::-1], dtype=bool)
        held = places + places[-1:] * (NUM_FRAMES - len(places))
        for objects, fid in fids.items():
            paths = mask_paths(self.tree, clip_id, fid)
            paths[0].parent.mkdir(parents=True)
            for path, place in zip(paths, held, strict=True):
                masks = [self._read_mask(number, place) for number in objects]
                seen = [mask for mask in masks if mask is not None]
                write_mask(path, np.logical_or.reduce(seen) if seen else empty)
        return self._rows(
            clip_id, [(s, fids[s.objects], self._category(s.objects)) for s in sentences]
        )

    def _read_mask(self, number: int, place: int) -> np.ndarray | None:
        try:
            return self.video.read_mask(number, place)
        except (KeyError, TypeError, ValueError, IndexError, OSError) as error:
            name = self.video.frames[place]
            raise ValueError(
                f"{self.video.where}: the mask of object {number} in frame {name} cannot be read: "
                f"{error}"
            ) from error

    def _category(self, objects: tuple[int, ...]) -> str:
        names = {self.video.categories.get(number, OBJECT) for number in objects}
        return names.pop() if len(names) == 1 else OBJECT

    def _rows(self, clip_id: str, about: list[tuple[Sentence, int, str]]) -> list[Annotation]:
        sentences = [(sentence.text, fid, category) for sentence, fid, category in about]
        return clip_rows(clip_id, self.video.split, sentences)


def _number_objects(sentences: list[Sentence]) -> dict[tuple[int, ...], int]:
    """Object n is fid n - 1; several that a sentence means together get a fid of their own."""
    meant = dict.fromkeys(sentence.objects for sentence in sentences)
    several = [objects for objects in meant if len(objects) > 1]
    free = max(map(max, meant))
    return {objects: objects[0] - 1 for objects in meant if len(objects) == 1} | {
        objects: free + number for number, objects in enumerate(several)
    }


def _nearest(pictures: Iterable[Picture]) -> Iterator[tuple[int, int, Any]]:
    """(second, place, picture) of the picture nearest to each second from 0 to the last that the
    pictures reach."""
    best, last = None, 0.0
    for place, time, picture in pictures:
        second, last = round(time), time
        if best is not None and second != best[1]:
            yield best[1:]
            best = None
        if best is None or abs(time - second) < best[0]:
            best = (abs(time - second), second, place, picture)
    if best is not None and best[1] <= last + 1e-6:
        yield best[1:]


def _read_video_file(path: Path, numbers: list[int], rate: float | None) -> Iterator[Picture]:
    """Of a video file; `rate` is what the numbers count, None: the file's frames."""
    from modeling_refavs.video_refavs import read_frames

    place = 0
    for frame in read_frames(path):
        while place < len(numbers):
            time = frame.time if rate is None else numbers[place] / rate
            if not (frame.index >= numbers[place] if rate is None else time < frame.end):
                break
            yield place, time, frame
            place += 1
    if place < len(numbers):
        raise ValueError(f"{path}: it ends before frame {numbers[place]}, which has masks")


def _save_picture(picture: Any, path: Path, where: str) -> None:
    """A video's frame, or a file: a JPEG stays as it is."""
    if not isinstance(picture, Path):
        save_frame(path, picture.rgb)
    elif picture.suffix.lower() != ".png":
        shutil.copyfile(picture, path)
    else:
        try:
            with Image.open(picture) as image:
                save_frame(path, np.asarray(image.convert("RGB")))
        except OSError as error:
            raise ValueError(f"{where}: {picture}: cannot be read as a picture: {error}") from error


def _is_clip(sound: Path) -> bool:
    """A WAV file of ten seconds."""
    if sound.suffix.lower() != ".wav":
        return False
    try:
        header = read_sound_header(sound.read_bytes())
    except ValueError as error:
        raise ValueError(f"{sound}: {error}") from error
    return abs(header.duration_ms - CLIP_MS) <= SOUND_TOLERANCE_MS


def _read_samples(path: Path) -> np.ndarray:
    """`(samples,)` float32, mono, from the first frame on; none if there is no sound."""
    from modeling_refavs.video_refavs import probe_video, read_sound

    start = probe_video(path).start_time if path.suffix.lower() in VIDEOS else 0.0
    blocks = [block[0] for block in read_sound(path, SAMPLING_RATE, "mono", start)]
    return np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)


def _find_frames(root: Path, name: str) -> Path | None:
    folders = (root / "JPEGImages" / name, root / name)
    return next((folder for folder in folders if folder.is_dir()), None)


def _find(root: Path, name: str, suffixes: tuple[str, ...]) -> Path | None:
    """A video or its sound, wherever a form has it."""
    found = (_with_suffix(root / folder / name, suffixes) for folder in ("videos", "audio", ""))
    return next(filter(None, found), None)


def _with_suffix(path: Path, suffixes: tuple[str, ...]) -> Path | None:
    """The file of that name, whatever follows it: .mp4, or .MP4 as a camera writes it."""
    endings = (ending for suffix in suffixes for ending in (suffix, suffix.upper()))
    names = (path.with_name(path.name + ending) for ending in endings)
    return next((name for name in names if name.is_file()), None)
