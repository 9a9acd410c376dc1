"""One synthetic clip: its split, its scene and its sentences, from a seed and a number."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from .categories import SEEN, UNSEEN
from .conditions import World
from .expressions import Expression, as_null, choose_expressions
from .sampling import OBJECT_COUNTS, sample_scene
from .scene import Scene
from .templates import TEMPLATES


SPLITS = ("train", "val", "test_s", "test_u", "test_n") + (
    "train",
) * 10  # clip n is in SPLITS[n % 15], as in Ref-AVS
NULL_SHARE = 0.08  # of the clips of train and val
MUTED_SHARE = 0.4  # of the null clips; another 3 % of all others hold no sound either
NULL_SENTENCES = 4  # of a null clip, as in Ref-AVS
ATTEMPTS = 800  # scenes tried for a wanted template
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
    """Draw clip `index`: its split, then a scene and what to say of it."""
    rng = np.random.default_rng([options.seed, index])
    split = SPLITS[index % len(SPLITS)]
    null = split == "test_n" or (split in ("train", "val") and rng.random() < NULL_SHARE)
    muted = rng.random() < (MUTED_SHARE if null else 0.03)
    count = 1 + int(rng.choice(len(OBJECT_COUNTS), p=OBJECT_COUNTS))
    shorter = min(options.height, options.width)
    size = {"width": options.width / shorter, "height": options.height / shorter}
    draw_scene = partial(sample_scene, rng, count, categories=SEEN, seconds=options.seconds, **size)
    if null:
        scene, expressions = _null_clip(rng, draw_scene, muted)
    else:
        if split == "test_u":
            draw_scene = partial(draw_scene, categories=SEEN + UNSEEN, required=UNSEEN)
        scene, expressions = _clip(rng, partial(draw_scene, muted=muted), split, _wanted_template(rng, count))
    vid = f"synthetic-{index:06d}_0_{round(options.seconds * 1000)}"
    prefix = ("null_m-" if muted else "null_c-") if null else ""
    return SyntheticClip(vid, prefix + vid, split, scene, tuple(expressions))


def _clip(
    rng: np.random.Generator, draw_scene: Callable[..., Scene], split: str, wanted: str
) -> tuple[Scene, list[Expression]]:
    """A scene and sentences, the wanted template among them if it can be had."""
    for attempt in range(10 * ATTEMPTS):
        scene = draw_scene()
        referents = UNSEEN if split == "test_u" else ()
        first = wanted if attempt < ATTEMPTS else None
        expressions = choose_expressions(rng, World(scene), referents, first)
        if expressions:
            return scene, expressions
    raise RuntimeError("no scene admits a sentence")


def _null_clip(
    rng: np.random.Generator, draw_scene: Callable[..., Scene], muted: bool
) -> tuple[Scene, list[Expression]]:
    """A scene and sentences of other scenes that are true of nothing here: the words alone do not give them away."""
    scene = draw_scene(muted=muted)
    world, found = World(scene), {}
    while len(found) < NULL_SENTENCES:
        others = choose_expressions(rng, World(draw_scene()))
        nulls = [null for null in (as_null(world, other) for other in others) if null is not None]
        if nulls:
            null = nulls[rng.integers(len(nulls))]
            found[null.text] = null
    return scene, list(found.values())


def _wanted_template(rng: np.random.Generator, count: int) -> str:
    """A template for a clip of `count` objects, each family as likely; what takes three objects where there are three."""
    fitting = {
        n: t.family for n, t in TEMPLATES.items() if t.objects <= count and (count < 3 or t.objects >= 3)
    }
    family = rng.choice(sorted(set(fitting.values())))
    return str(rng.choice([name for name in fitting if fitting[name] == family]))
