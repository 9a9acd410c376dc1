"""One synthetic clip: its split, its scene and its sentences, from a seed and a number."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from .conditions import World
from .objects import NOVELTY, SEEN, UNSEEN
from .sampling import OBJECT_COUNTS, sample_scene
from .scene import Scene
from .sentences import (
    TEMPLATES,
    Expression,
    Template,
    as_null,
    choose_expressions,
    find_expressions,
)


# clip n is in SPLITS[n % 15], which makes the shares those of Ref-AVS
SPLITS = ("train", "val", "test_s", "test_u", "test_n", *("train",) * 10)
NULL_SHARE = 0.08  # of the clips of train and val
MUTED_SHARE = 0.5  # of the null clips; another 3 % of all others hold no sound either
NULL_SENTENCES = 4  # of a null clip, as in Ref-AVS
NULL_ATTEMPTS = 40  # other scenes tried for a null sentence of one template
ATTEMPTS = 800  # scenes tried for a wanted template
COLUMNS = ("vid", "uid", "split", "fid", "exp")


@dataclass(frozen=True)
class SynthesisOptions:
    """What is made. The same options and seed give the same bytes (with the same Pillow, NumPy and
    SciPy).

    Args:
        seed: of everything; clip n depends on `(seed, n)` alone, however many clips are asked for.
        height, width: of the frames, pixels.
        seconds: length of a clip.
        fps: frames a second; the official layout has one, the first of each second.
        video: also write an mp4 of 25 frames a second, with sound.
        null_share: of the clips of train and val, those whose sentences refer to nothing.
        novelty_share: of the others, those with a novel object (novelty.py).
    """

    seed: int = 0
    height: int = 96
    width: int = 96
    seconds: float = 10.0
    fps: float = 1.0
    video: bool = False
    null_share: float = NULL_SHARE
    novelty_share: float = 0.0

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
        for name in ("null_share", "novelty_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
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
        """Its lines of metadata.csv. A null sentence has the category `null` and the object 0,
        which has no pixel."""
        counts: Counter[str] = Counter()
        for expression in self.expressions:
            null = expression.fid is None
            category = "null" if null else self.scene.objects[expression.fid].category
            counts[category] += 1
            uid = f"{self.name}_{category}_{counts[category]}"
            yield dict(
                zip(
                    COLUMNS,
                    (self.vid, uid, self.split, expression.fid or 0, expression.text),
                    strict=True,
                )
            )


def split_of(index: int) -> str:
    """Clip `index`'s."""
    return SPLITS[index % len(SPLITS)]


def make_clip(options: SynthesisOptions, index: int) -> SyntheticClip:
    """Draw clip `index`: its split, then a scene and what to say of it."""
    rng = np.random.default_rng([options.seed, index])
    split = split_of(index)
    learned = split in ("train", "val")
    null = split == "test_n" or (learned and rng.random() < options.null_share)
    novel = (
        learned and not null and rng.spawn(1)[0].random() < options.novelty_share
    )  # all other draws stay the same
    special = UNSEEN if split == "test_u" else (NOVELTY,) if novel else ()
    muted = rng.random() < (MUTED_SHARE if null else 0.03)
    shorter = min(options.height, options.width)
    draw_scene = partial(
        sample_scene,
        rng,
        categories=SEEN + special,
        required=special,
        seconds=options.seconds,
        width=options.width / shorter,
        height=options.height / shorter,
    )
    if null:
        scene, expressions = _null_clip(rng, draw_scene, muted)
    else:
        scene, expressions = _clip(
            rng, partial(draw_scene, muted=muted), UNSEEN if split == "test_u" else ()
        )
    vid = f"synthetic-{index:06d}_0_{round(options.seconds * 1000)}"
    prefix = ("null_m-" if muted else "null_c-") if null else ""
    return SyntheticClip(vid, prefix + vid, split, scene, tuple(expressions))


def _clip(
    rng: np.random.Generator, draw_scene: Callable[..., Scene], referents: tuple[str, ...] = ()
) -> tuple[Scene, list[Expression]]:
    """A scene and sentences; a template is drawn first, and scenes until one admits it."""
    count = _object_count(rng)
    wanted = _wanted_template(rng, count)
    for attempt in itertools.count():
        scene = draw_scene(count)
        expressions = choose_expressions(
            rng, World(scene), referents, wanted if attempt < ATTEMPTS else None
        )
        if expressions:
            return scene, expressions


def _null_clip(
    rng: np.random.Generator, draw_scene: Callable[..., Scene], muted: bool
) -> tuple[Scene, list[Expression]]:
    """A scene, and sentences of other clips that are true of nothing here: few of them are given
    away by their words."""
    scene = draw_scene(_object_count(rng), muted=muted)
    world, found = World(scene), {}
    while len(found) < NULL_SENTENCES:
        other, sentences = _clip(rng, draw_scene)
        for said in sentences[: NULL_SENTENCES - len(found)]:
            null = _null_expression(
                rng, world, partial(draw_scene, len(other.objects)), TEMPLATES[said.template]
            )
            if null is not None:
                found[null.text] = null
    return scene, list(found.values())


def _null_expression(
    rng: np.random.Generator, world: World, draw_scene: Callable[..., Scene], template: Template
) -> Expression | None:
    """What a template says of some other scene, and wrongly of this one."""
    for _ in range(NULL_ATTEMPTS):
        said = [
            ways[rng.integers(len(ways))]
            for ways in find_expressions(World(draw_scene()), template)
        ]
        nulls = [null for null in (as_null(world, one) for one in said) if null is not None]
        if nulls:
            return nulls[rng.integers(len(nulls))]
    return None


def _object_count(rng: np.random.Generator) -> int:
    return 1 + int(rng.choice(len(OBJECT_COUNTS), p=OBJECT_COUNTS))


def _wanted_template(rng: np.random.Generator, count: int) -> str:
    """A template for a clip of `count` objects, each family as likely; what takes three objects
    where there are three."""
    fitting = {
        name: template.family
        for name, template in TEMPLATES.items()
        if template.objects <= count and (count < 3 or template.objects >= 3)
    }
    family = rng.choice(sorted(set(fitting.values())))
    return str(rng.choice([name for name in fitting if fitting[name] == family]))
