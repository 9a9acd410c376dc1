"""One synthetic clip: its split, its scene and its sentences, from a seed and a number."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .appearance import Appearance, appearance_of
from .conditions import CERTAIN, World
from .objects import NOVELTY
from .sampling import sample_scene
from .scene import Scene
from .sentences import (
    Expression,
    Language,
    Template,
    as_null,
    choose_expressions,
    find_expressions,
    ways_to_say,
)


# clip n is in SPLITS[n % 15], which makes the shares those of Ref-AVS
SPLITS = ("train", "val", "test_s", "test_u", "test_n", *("train",) * 10)
NULL_SHARE = 0.08  # of the clips of train and val
MUTED_SHARE = 0.5  # of the null clips; another 3 % of all others hold no sound either
NULL_SENTENCES = 4  # of a null clip, as in Ref-AVS
STRANGE_SHARE = 0.35  # of a null clip's sentences, those that name what is nowhere
NULL_ATTEMPTS = 40  # other scenes tried for a null sentence of one template
ATTEMPTS = 100  # scenes, or sentences, tried beyond what is wanted before a clip is given up
VID_START = "synthetic-"
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
        library: folder of photographs and recordings (library.py); without it all is drawn.
    """

    seed: int = 0
    height: int = 96
    width: int = 96
    seconds: float = 10.0
    fps: float = 1.0
    video: bool = False
    null_share: float = NULL_SHARE
    novelty_share: float = 0.0
    library: str = ""

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
        if self.library and self.novelty_share:
            raise ValueError("novelty_share is for drawn clips: a library has no novel objects")
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


def clip_names(options: SynthesisOptions, index: int) -> tuple[str, str, str]:
    """What clip `index` is called if its sentences refer to something, or to nothing while no sound
    is heard, or to nothing while one is."""
    vid = f"{VID_START}{index:06d}_0_{round(options.seconds * 1000)}"
    return vid, f"null_m-{vid}", f"null_c-{vid}"


def make_clip(options: SynthesisOptions, index: int) -> SyntheticClip:
    """Draw clip `index`: its split, then a scene and what to say of it."""
    rng = np.random.default_rng([options.seed, index])
    split = split_of(index)
    learned = split in ("train", "val")
    null = split == "test_n" or (learned and rng.random() < options.null_share)
    novel = (
        learned and not null and rng.spawn(1)[0].random() < options.novelty_share
    )  # all other draws stay the same
    muted = rng.random() < (MUTED_SHARE if null else 0.03)
    maker = _Maker(rng, options, appearance_of(options.library), novel)
    scene, expressions = maker.null_clip(split, muted) if null else maker.clip(split, muted)
    vid, muted_null, heard_null = clip_names(options, index)
    name = (muted_null if muted else heard_null) if null else vid
    return SyntheticClip(vid, name, split, scene, tuple(expressions))


@dataclass(frozen=True)
class _Maker:
    """Scenes and sentences from one source of chance; `novel`: with a novel object."""

    rng: np.random.Generator
    options: SynthesisOptions
    appearance: Appearance
    novel: bool

    @property
    def language(self) -> Language:
        return self.appearance.language

    def scene(self, count: int, split: str, muted: bool = False) -> Scene:
        novelty = (NOVELTY,) if self.novel else ()
        shorter = min(self.options.height, self.options.width)
        return sample_scene(
            self.rng,
            count,
            self.appearance.categories(split) + novelty,
            self.appearance.referents(split) or novelty,
            self.options.seconds,
            self.options.width / shorter,
            self.options.height / shorter,
            muted,
            self.appearance.cast(split),
        )

    def clip(self, split: str, muted: bool = False) -> tuple[Scene, list[Expression]]:
        """A scene and sentences; a template is drawn first, and scenes until one admits it."""
        count = self._object_count()
        wanted = self._wanted_template(count)
        referents = self.appearance.referents(split)
        for attempt in range(self.appearance.attempts + ATTEMPTS):
            scene = self.scene(count, split, muted)
            first = wanted if attempt < self.appearance.attempts else None
            expressions = choose_expressions(
                self.rng, World(scene), referents, first, self.language
            )
            if expressions:
                return scene, expressions
        raise ValueError(
            f"there is nothing to say of {count} objects of {split}: it has too few kinds or sounds"
        )

    def null_clip(self, split: str, muted: bool) -> tuple[Scene, list[Expression]]:
        """A scene, and sentences of other clips that are true of nothing here: few of them are
        given away by their words. Some name what no picture shows."""
        scene = self.scene(self._object_count(), split, muted)
        world, found = World(scene), {}
        strange = self.appearance.strange(split)
        for _ in range(ATTEMPTS):
            if len(found) >= NULL_SENTENCES:
                return scene, list(found.values())
            if strange and self.rng.random() < STRANGE_SHARE:
                null = self._strange_expression(strange)
                found[null.text] = null
                continue
            other, sentences = self.clip(self.appearance.borrowed_from(split))
            for said in sentences[: NULL_SENTENCES - len(found)]:
                null = as_null(world, said) if self.appearance.lends_sentences else None
                if null is None:
                    template = self.language.templates[said.template]
                    null = self._null_expression(world, template, len(other.objects), split)
                if null is not None:
                    found[null.text] = null
        raise ValueError(
            f"every sentence is true of the objects of {split}: it has too few kinds or sounds"
        )

    def _strange_expression(self, strange: tuple[str, ...]) -> Expression:
        template = self.language.templates["thing"]
        slots = {"thing": strange[self.rng.integers(len(strange))]}
        ways = ways_to_say(template, slots, None, CERTAIN, self.language)
        return ways[self.rng.integers(len(ways))]

    def _null_expression(
        self, world: World, template: Template, count: int, split: str
    ) -> Expression | None:
        """What a template says of some other scene, and wrongly of this one."""
        for _ in range(NULL_ATTEMPTS):
            other = World(self.scene(count, self.appearance.borrowed_from(split)))
            said = [
                ways[self.rng.integers(len(ways))]
                for ways in find_expressions(other, template, self.language)
            ]
            nulls = [null for null in (as_null(world, one) for one in said) if null is not None]
            if nulls:
                return nulls[self.rng.integers(len(nulls))]
        return None

    def _object_count(self) -> int:
        shares = self.appearance.object_counts
        return 1 + int(self.rng.choice(len(shares), p=shares))

    def _wanted_template(self, count: int) -> str:
        """A template for a clip of `count` objects, each family as likely; what takes three objects
        where there are three."""
        fitting = {
            name: template.family
            for name, template in self.language.templates.items()
            if template.objects <= count and (count < 3 or template.objects >= 3)
        }
        family = self.rng.choice(sorted(set(fitting.values())))
        return str(self.rng.choice([name for name in fitting if fitting[name] == family]))
