"""Random scenes: every attribute drawn on its own, so that none foretells another (only silent
things never move or sound)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from .drawing import COLOURS, SURFACES
from .objects import can_sound
from .scene import BOUNCE, SWAY, TRAVEL, Scene, SceneObject, Sound


OBJECT_COUNTS = (
    0.44,
    0.43,
    0.10,
    0.03,
)  # of 1-4 objects: 56 % of clips hold two or more, 13 % three or more
RADIUS = (0.1, 0.19)  # 19-36 px across in a 96 px frame
CLOSEST = 0.6  # of two radii: an object in front never hides more than about half of another
MOTIONS = ("still", "leftwards", "rightwards", "bouncing", "swaying", "spinning")
REPEAT, REPEAT_CATEGORY = (
    0.4,
    0.25,
)  # an object takes an earlier one's value: only then do sentences need several words
STEP = 0.25  # s, of all moments
LEVELS = (-38.0, -31.0, -24.0)  # dB of full scale, +- 1
LEVEL_CHANGE = 12.0  # dB over the whole sound
RATES = (1.3, 2.6, 5.2)  # strokes a second


Pick = Callable[..., str]  # (attribute, values, share): a value, at times an earlier object's


class Cast(Protocol):
    """Who plays: what an object of a category looks and sounds like, and before which ground.

    Args:
        sounding: share of the objects with a sound that make it.
    """

    sounding: float

    def looks(
        self, rng: np.random.Generator, category: str, count: int, pick: Pick
    ) -> dict[str, Any]:
        """The fields of a `SceneObject` that follow from its category; `count`: of the scene's
        objects."""

    def has_sound(self, item: SceneObject) -> bool:
        """Is there a sound for it?"""

    def voice(self, rng: np.random.Generator, item: SceneObject, sound: Sound) -> Sound:
        """The sound as this object makes it."""

    def ground(self, rng: np.random.Generator) -> str:
        """The name of a background."""


class DrawnCast:
    """Silhouettes and timbres (objects.py)."""

    sounding = 0.67

    def looks(
        self, rng: np.random.Generator, category: str, count: int, pick: Pick
    ) -> dict[str, Any]:
        audible = can_sound(category)
        return {
            "motion": pick("motion", MOTIONS) if audible else "still",
            "colour": pick("colour", tuple(COLOURS)),
            "surface": pick("surface", SURFACES),
            "radius": round_off(rng.uniform(*RADIUS)),
            "audible": audible,
        }

    def has_sound(self, item: SceneObject) -> bool:
        return item.audible

    def voice(self, rng: np.random.Generator, item: SceneObject, sound: Sound) -> Sound:
        return sound

    def ground(self, rng: np.random.Generator) -> str:
        return ""


DRAWN = DrawnCast()


def sample_scene(
    rng: np.random.Generator,
    count: int,
    categories: tuple[str, ...],
    required: tuple[str, ...] = (),
    seconds: float = 10.0,
    width: float = 1.0,
    height: float = 1.0,
    muted: bool = False,
    cast: Cast = DRAWN,
) -> Scene:
    """Draw a scene.

    Args:
        rng: the only source of chance.
        count: objects.
        categories: to choose from; the first object's is one of `required` if there are any.
        seconds: length of the clip.
        width, height: in units of the shorter side.
        muted: no object makes a sound.
        cast: what the objects look and sound like.
    """
    while True:
        objects: list[SceneObject] = []
        partial = seconds >= 5 and rng.random() < 0.4
        for fid in range(count):
            choice = required if required and fid == 0 else categories
            objects.append(_sample_object(rng, fid, objects, choice, seconds, partial, cast, count))
        seed = int(rng.integers(2**62))
        scene = Scene(seed, seconds, width, height, tuple(objects), cast.ground(rng))
        placed = _place(rng, scene)
        if placed is not None:
            scene = _twins_take_turns(rng, placed)
            return scene if muted else _with_sounds(rng, scene, cast)


def _sample_object(
    rng: np.random.Generator,
    fid: int,
    earlier: Sequence[SceneObject],
    categories: tuple[str, ...],
    seconds: float,
    partial: bool,
    cast: Cast,
    count: int,
) -> SceneObject:
    def pick(attribute: str, values: tuple[str, ...], share: float = REPEAT) -> str:
        taken = [
            value for value in (getattr(item, attribute) for item in earlier) if value in values
        ]
        return str(rng.choice(taken if taken and rng.random() < share else values))

    category = pick("category", categories, REPEAT_CATEGORY)
    return SceneObject(
        fid=fid,
        category=category,
        place=(0.0, 0.0),
        depth=0,
        **cast.looks(rng, category, count, pick),
        phase=round_off(rng.uniform(0, np.pi)),
        presence=_presence(rng, seconds) if partial and rng.random() < 0.7 else (0.0, seconds),
    )


def _presence(rng, seconds: float) -> tuple[float, float]:
    """On stage for part of the clip. Half seconds: no frame of a second falls into a slide."""
    enter, leave = np.sort(rng.choice(np.arange(0.5, seconds, 1.0), 2, replace=False))
    if leave - enter < 2.5 or rng.random() < 0.6:
        return (float(enter), seconds) if seconds - enter > leave else (0.0, float(leave))
    return float(enter), float(leave)


def _place(rng, scene: Scene) -> Scene | None:
    """Give every object a place and a depth; None if it does not fit."""
    times = np.arange(0, scene.seconds + STEP / 2, STEP)
    placed: list[SceneObject] = []
    depths = rng.permutation(len(scene.objects))
    for item in scene.objects:
        for _ in range(40):
            place = _beside(rng, item, placed) if placed and rng.random() < 0.5 else None
            place = place or (rng.uniform(0, scene.width), rng.uniform(0, scene.height))
            candidate = replace(
                item, place=tuple(map(round_off, place)), depth=int(depths[item.fid])
            )
            if _inside(scene, candidate) and all(
                _apart(scene, candidate, other, times) for other in placed
            ):
                placed.append(candidate)
                break
        else:
            return None
    return replace(scene, objects=tuple(placed))


def _beside(rng, item: SceneObject, placed: list[SceneObject]) -> tuple[float, float]:
    """A place that touches, overlaps or stands on an earlier object."""
    other = placed[rng.integers(len(placed))]
    both = item.radius + other.radius
    if rng.random() < 0.2:
        return other.place[0], other.place[1] - both
    angle, distance = rng.uniform(0, 2 * np.pi), both * rng.uniform(CLOSEST, 1.4)
    return other.place[0] + distance * np.cos(angle), other.place[1] + distance * np.sin(angle)


def _inside(scene: Scene, item: SceneObject) -> bool:
    (x, y), edge = item.place, item.radius
    side = {"leftwards": TRAVEL / 2, "rightwards": TRAVEL / 2, "swaying": SWAY}.get(
        item.motion, 0.0
    )
    rise = BOUNCE if item.motion == "bouncing" else 0.0
    return edge + side <= x <= scene.width - edge - side and edge + rise <= y <= scene.height - edge


def _apart(scene: Scene, item: SceneObject, other: SceneObject, times: np.ndarray) -> bool:
    both = item.on_stage(times) & other.on_stage(times)
    distance = np.hypot(*(scene.centre(item, times) - scene.centre(other, times)).T)
    return bool((distance[both] >= CLOSEST * (item.radius + other.radius)).all())


def _twins_take_turns(rng, scene: Scene) -> Scene:
    """Two of a kind sound alike. Half of such pairs take turns on stage, so that time tells them
    apart."""
    items = list(scene.objects)
    for one, two in ((a.fid, b.fid) for a in items for b in items if a.fid < b.fid):
        same = items[one].category == items[two].category and items[one].audible
        if same and scene.seconds >= 8 and rng.random() < 0.5:
            turn = float(np.floor(scene.seconds / 2)) + 0.5
            first, second = (one, two) if rng.random() < 0.5 else (two, one)
            items[first] = replace(items[first], presence=(0.0, turn - 1))
            items[second] = replace(items[second], presence=(turn, scene.seconds))
            break
    return replace(scene, objects=tuple(items))


def _with_sounds(rng, scene: Scene, cast: Cast) -> Scene:
    """A share of the objects that can sound do."""
    able = [item for item in scene.objects if cast.has_sound(item) and not scene.has_twin(item)]
    sounding = [item.fid for item in able if rng.random() < cast.sounding]
    levels = rng.permutation(LEVELS)
    items = []
    for item in scene.objects:
        if item.fid in sounding:
            sound = _sample_sound(rng, item.presence, float(levels[item.fid % len(levels)]))
            item = replace(item, sound=cast.voice(rng, item, sound))
        items.append(item)
    return replace(scene, objects=tuple(items))


def _sample_sound(rng, presence: tuple[float, float], level: float) -> Sound:
    start, end = presence
    level = round_off(level + rng.uniform(-1, 1))
    change = float(rng.choice([0.0, 0.0, LEVEL_CHANGE, -LEVEL_CHANGE]))
    rate = None if rng.random() < 0.35 else (float(rng.choice(RATES)), float(rng.choice(RATES)))
    if rate and rng.random() < 0.55:
        rate = (rate[0], rate[0])
    return Sound(
        intervals=_intervals(rng, start, end),
        level=(round_off(level - change / 2), round_off(level + change / 2)),
        rate=rate,
        pitch=round_off(rng.uniform(0.94, 1.06)),
    )


def _intervals(rng, start: float, end: float) -> tuple[tuple[float, float], ...]:
    """All the time, one stretch, or two to three with silences of at least a second between."""
    kind = rng.choice(["all", "one", "several"], p=[0.3, 0.4, 0.3])
    cuts = int(rng.integers(2, 4)) * 2 if kind == "several" else 2
    moments = np.arange(start, end + STEP / 2, STEP)
    for _ in range(20):
        if kind == "all" or end - start < 3:
            break
        drawn = (
            np.sort(rng.choice(moments, cuts, replace=False))
            if len(moments) >= cuts
            else moments[:0]
        )
        lengths = np.diff(drawn)
        if len(drawn) and (lengths >= 1.0).all() and lengths[0::2].sum() >= 2.0:
            return tuple((float(a), float(b)) for a, b in drawn.reshape(-1, 2))
    return ((float(start), float(end)),)


def round_off(value: float) -> float:
    """Scenes are stored as JSON: what is stored is what is drawn."""
    return round(float(value), 4)
