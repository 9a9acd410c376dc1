"""A synthetic Ref-AVS Bench on disk, in the layout of the real one."""

import csv
import io
import json
import math
import os
import wave
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from .categories import CATEGORIES, SEEN, UNSEEN
from .conditions import World
from .drawing import draw
from .expressions import Expression, choose_expressions
from .sampling import OBJECT_COUNTS, sample_scene
from .scene import Scene
from .sounds import SAMPLE_RATE, render_sound
from .templates import TEMPLATES
from .video import encode_video


SPLITS = ("train", "val", "test_s", "test_u", "test_n") + (
    "train",
) * 10  # clip n is in SPLITS[n % 15], as in Ref-AVS
NULL_SHARE = 0.08  # of the clips of train and val
MUTED_SHARE = 0.4  # of the null clips; another 3 % of all others hold no sound either
ATTEMPTS = 800  # scenes tried for a wanted template
JPEG_QUALITY = 92
COLUMNS = ("vid", "uid", "split", "fid", "exp")


@dataclass(frozen=True)
class SynthesisOptions:
    """What is made. The same options and seed give the same bytes (with the same Pillow, NumPy and SciPy).

    Args:
        seed: of everything; clip n depends on `(seed, n)` alone, however many clips are asked for.
        height, width: of the frames, pixels.
        seconds: length of a clip.
        fps: frames a second; the official layout has one, the first of each second.
        video: also write an mp4 of 25 frames a second, with sound.
    """

    seed: int = 0
    height: int = 96
    width: int = 96
    seconds: float = 10.0
    fps: float = 1.0
    video: bool = False

    def __post_init__(self) -> None:
        for name, smallest in (("seed", 0), ("height", 32), ("width", 32), ("seconds", 1)):
            if not smallest <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be {smallest} or more, got {getattr(self, name)}")
        if max(self.height, self.width) > 3 * min(self.height, self.width):
            raise ValueError(
                f"a frame may be 3 times as long as it is short, got {self.height} x {self.width}"
            )
        if not 0 < self.fps < math.inf or len(self.times) == 0:
            raise ValueError(f"fps must give a frame or more in {self.seconds} s, got {self.fps}")
        if self.video and (self.height % 2 or self.width % 2):
            raise ValueError(f"an mp4 needs even sides, got {self.height} x {self.width}")

    @property
    def times(self) -> np.ndarray:
        """Seconds from the start of each stored frame."""
        return np.arange(int(self.seconds * self.fps + 1e-6)) / self.fps


def parse_size(text: str) -> tuple[int, int]:
    """Height and width from "96" or "120x160"."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise ValueError(
            f"size must be a number of pixels or HEIGHTxWIDTH, such as 96 or 120x160, got {text!r}"
        )
    return int(sides[0]), int(sides[-1])


@dataclass(frozen=True)
class SyntheticClip:
    """A clip before it is drawn: `name` is its folder's."""

    vid: str
    name: str
    split: str
    scene: Scene
    expressions: tuple[Expression, ...]

    def rows(self) -> Iterator[dict[str, str | int]]:
        """Its lines of metadata.csv. A null sentence has the category `null` and the object 0, which has no pixel."""
        counts: Counter[str] = Counter()
        for expression in self.expressions:
            null = expression.fid is None
            category = "null" if null else self.scene.objects[expression.fid].category
            counts[category] += 1
            uid = f"{self.name}_{category}_{counts[category]}"
            yield dict(
                zip(COLUMNS, (self.vid, uid, self.split, expression.fid or 0, expression.text), strict=True)
            )


def make_clip(options: SynthesisOptions, index: int) -> SyntheticClip:
    """Draw clip `index`: its split, a template to look for, and the first scene that admits it."""
    rng = np.random.default_rng([options.seed, index])
    split = SPLITS[index % len(SPLITS)]
    null = split == "test_n" or (split in ("train", "val") and rng.random() < NULL_SHARE)
    muted = rng.random() < (MUTED_SHARE if null else 0.03)
    count = 1 + int(rng.choice(len(OBJECT_COUNTS), p=OBJECT_COUNTS))
    categories = SEEN + UNSEEN if split == "test_u" else SEEN
    referents = UNSEEN if split == "test_u" else ()
    shorter = min(options.height, options.width)
    size = {"width": options.width / shorter, "height": options.height / shorter}
    wanted = _wanted_template(rng, count)
    expressions: list[Expression] = []
    for attempt in range(2 * ATTEMPTS):
        scene = sample_scene(rng, count, categories, referents, options.seconds, **size, muted=muted)
        first = wanted if attempt < ATTEMPTS else None
        expressions = choose_expressions(rng, World(scene), null, categories, referents, first)
        if expressions:
            break
    vid = f"synthetic-{index:06d}_0_{round(options.seconds * 1000)}"
    prefix = ("null_m-" if muted else "null_c-") if null else ""
    return SyntheticClip(vid, prefix + vid, split, scene, tuple(expressions))


def _wanted_template(rng: np.random.Generator, count: int) -> str:
    """A template for a clip of `count` objects, each family as likely; what takes three objects where there are three."""
    fitting = {
        n: t.family for n, t in TEMPLATES.items() if t.objects <= count and (count < 3 or t.objects >= 3)
    }
    family = rng.choice(sorted(set(fitting.values())))
    return str(rng.choice([name for name in fitting if fitting[name] == family]))


def synthesize(
    output: str | Path, clips: int, options: SynthesisOptions | None = None, workers: int = 1
) -> None:
    """Write `clips` clips into a folder. A run that was stopped goes on where it was.

    Args:
        output: the folder; made if it does not exist.
        clips: how many; more of them later add to the same folder.
        options: see `SynthesisOptions`.
        workers: processes. They change nothing but the time.

    Raises:
        ValueError: on bad numbers, or a folder that holds something else.
    """
    options = options or SynthesisOptions()
    for name, value in (("clips", clips), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    output = Path(output)
    _claim(output, options)
    write = partial(write_clip, output, options)
    with ExitStack() as stack:
        mapped = map
        if workers > 1:
            pool = stack.enter_context(ProcessPoolExecutor(workers))
            mapped = partial(pool.map, chunksize=4)
        done = tqdm(mapped(write, range(clips)), total=clips, unit="clip", desc="synthesize")
        rows = [row for clip_rows in done for row in clip_rows]
    taxonomy = {
        "categories": {name: category.super_category for name, category in CATEGORIES.items()},
        "unseen": list(UNSEEN),
    }
    _replace(output / "taxonomy.json", _json(taxonomy))
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    _replace(output / "metadata.csv", table.getvalue().encode())


def write_clip(output: Path, options: SynthesisOptions, index: int) -> list[dict[str, str | int]]:
    """Write one clip unless it is there; its scene graph comes last and says that it is. Returns its metadata rows."""
    clip = make_clip(options, index)
    rows = list(clip.rows())
    done = output / "scenes" / f"{clip.name}.json"
    if done.exists():
        return rows
    media, masks = output / "media" / clip.name, output / "gt_mask" / clip.name
    sound = render_sound(clip.scene)
    _replace(media / "audio.wav", _wav(sound))
    for number, time in enumerate(options.times):
        frame, visible = draw(clip.scene, float(time), options.height, options.width)
        _replace(media / "frames" / f"{number}.jpg", _image(frame, "JPEG", quality=JPEG_QUALITY))
        shown = visible[:1] & False if clip.name.startswith("null_") else visible
        for fid, mask in enumerate(shown):
            _replace(masks / f"fid_{fid}" / f"{number:05d}.png", _image(mask.astype(np.uint8) * 255, "PNG"))
    if options.video:
        _replace(media / "video.mp4", encode_video(clip.scene, sound, options.height, options.width))
    sentences = [
        {"uid": row["uid"], **asdict(expression)}
        for row, expression in zip(rows, clip.expressions, strict=True)
    ]
    _replace(done, _json({"split": clip.split, "scene": clip.scene.to_json(), "expressions": sentences}))
    return rows


def _claim(output: Path, options: SynthesisOptions) -> None:
    """Note in the folder what is made there, and refuse to mix two worlds."""
    note = output / "synthesis.json"
    ours = _json(asdict(options))
    if note.exists() and note.read_bytes() != ours:
        raise ValueError(f"{output} holds clips made with other options ({note}): choose another folder")
    if not note.exists() and output.exists() and any(output.iterdir()):
        raise ValueError(f"{output} is not empty and holds no synthetic benchmark: choose another folder")
    _replace(note, ours)


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def _wav(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()


def _image(pixels: np.ndarray, kind: str, **settings: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **settings)
    return buffer.getvalue()
