"""A clip as its annotation tells it: what sentences say can be asked of it as of a drawn scene."""

from dataclasses import replace
from functools import cached_property

import numpy as np

from ..schema import CLIP_MS, NUM_FRAMES
from ..synthetic.conditions import (
    ACOUSTIC_PROPERTIES,
    ACOUSTIC_RELATIONS,
    ATTRIBUTES,
    CERTAIN,
    HEARD,
    NEAR,
    STAY,
    TOGETHER,
    Condition,
    World,
    clear,
)
from ..synthetic.scene import Scene, SceneObject, Sound
from .annotation import Annotation, ObjectAnnotation


SECONDS = CLIP_MS / 1000
ANY_LEVEL = (-200.0, 200.0)  # dB: how loud something is no annotation tells
# Superlatives of a kind are meant among those of that kind: "the last dog to make a sound".
SUPERLATIVES = (
    *("first to appear", "last to appear", "leftmost", "rightmost", "topmost", "lowest"),
    *("biggest", "smallest", "loudest", "quietest", "first to sound", "second to sound"),
    *("last to sound", "longest sound", "shortest sound", "fastest rhythm", "slowest rhythm"),
)
APPEARING = (
    *("throughout", "first to appear", "last to appear"),
    *("appears before", "appears after", "appears longer", "appears shorter"),
)
# Neither masks nor intervals say these; of what is silent they are false all the same.
UNHEARD = (
    *("louder over time", "quieter over time", "faster over time", "slower over time"),
    *("intermittent", "continuous"),
)
# Masks have no depth.
UNSEEN = ("in front", "behind", "on")


class AnnotatedWorld(World):
    """Margins as in [`World`], one for each object in the annotation's order: 0 where the
    annotation does not tell (colour, loudness, rhythm, depth), or not clearly.

    Where no object has a sounding interval, nothing is known of sounds; where a step has no mask
    yet, nothing of appearances.
    """

    def __init__(self, annotation: Annotation) -> None:
        self.annotation = annotation
        height, width = annotation.size
        self.unit = min(annotation.size)  # pixels
        objects = tuple(map(self._scene_object, range(len(annotation.objects))))
        super().__init__(Scene(0, SECONDS, width / self.unit, height / self.unit, objects))
        self.knows_sounds = any(thing.sounding for thing in annotation.objects)
        self.knows_appearances = all(len(thing.masks) == NUM_FRAMES for thing in annotation.objects)
        self._kinds: dict[frozenset[int], AnnotatedWorld] = {}

    def _scene_object(self, index: int) -> SceneObject:
        thing = self.annotation.objects[index]
        areas = [mask.sum() for mask in thing.masks.values() if mask.any()]
        steps = visible_steps(thing)
        return SceneObject(
            fid=index,
            category=thing.category,
            colour="",
            surface="",
            radius=float(np.sqrt(np.median(areas or [0]) / np.pi)) / self.unit + 1e-6,
            place=(0.0, 0.0),
            motion="",
            phase=0.0,
            presence=(float(steps[0]), steps[-1] + 1.0) if steps else (SECONDS, SECONDS),
            depth=0,
            sound=Sound(thing.sounding, ANY_LEVEL, None, 1.0) if thing.sounding else None,
            audible=thing.super_category != "silent",
            groups=(thing.super_category,),
        )

    @cached_property
    def boxes(self) -> list[np.ndarray]:
        """Of each object `(moments, 4)`: left, top, right, bottom; NaN where it is not to be
        seen."""
        return [self._at_moments(thing, _box) / self.unit for thing in self.annotation.objects]

    @cached_property
    def centres(self) -> list[np.ndarray]:
        return [self._at_moments(thing, _centroid) / self.unit for thing in self.annotation.objects]

    @cached_property
    def on_stage(self) -> list[np.ndarray]:
        return [~np.isnan(centres[:, 0]) for centres in self.centres]

    def _at_moments(self, thing: ObjectAnnotation, measure) -> np.ndarray:
        steps = np.minimum(self.times.astype(int), NUM_FRAMES - 1)
        none = np.full_like(measure(np.ones((1, 1), dtype=bool)), np.nan)
        values = [
            measure(thing.masks[step]) if step in thing.masks and thing.masks[step].any() else none
            for step in range(NUM_FRAMES)
        ]
        return np.stack(values)[steps]

    def together(self, conditions: tuple[Condition, ...]) -> np.ndarray:
        kinds = tuple(c for c in conditions if c.kind in ("category", "group"))
        margins = [np.full(len(self.objects), CERTAIN)]
        for condition in conditions:
            scoped = kinds and condition.kind in SUPERLATIVES
            margins.append(self._among(kinds, condition) if scoped else self.margins(condition))
        return np.min(margins, axis=0)

    def _among(self, kinds: tuple[Condition, ...], condition: Condition) -> np.ndarray:
        """A superlative's margins among the objects of a kind; of one alone it is true."""
        members = np.flatnonzero(super().together(kinds) >= 1)
        margins = np.full(len(self.objects), -CERTAIN)
        if len(members):
            key = frozenset(members.tolist())
            if key not in self._kinds:
                objects = tuple(self.annotation.objects[index] for index in members)
                self._kinds[key] = AnnotatedWorld(
                    replace(self.annotation, objects=objects, sentences=())
                )
                self._kinds[key].knows_sounds = self.knows_sounds
            found = self._kinds[key].margins(condition)
            margins[members] = np.where(found == 0, CERTAIN, found) if len(members) == 1 else found
        return margins

    def could_sound(self, index: int) -> bool:
        """Whatever sounds might be anything's, since sentences are written for those who hear."""
        return True

    def beside(self, kind: str, landmark: int) -> np.ndarray:
        if kind in UNSEEN:
            margins = np.zeros(len(self.objects))
        elif kind == "near":
            margins = np.array([self._nearness(i, landmark) for i in range(len(self.objects))])
        else:
            return self._known(kind, super().beside(kind, landmark))
        margins[landmark] = -CERTAIN
        return margins

    def _nearness(self, one: int, two: int) -> float:
        """Of the free space between two boxes, as `NEAR` has it between two outlines."""
        both = self.on_stage[one] & self.on_stage[two]
        if both.sum() < TOGETHER:
            return 0.0
        first, second = self.boxes[one][both], self.boxes[two][both]
        apart = np.maximum(first[:, :2] - second[:, 2:], second[:, :2] - first[:, 2:])
        free = np.hypot(*np.maximum(apart, 0).T)
        return clear((-free.max(), -free.min()), *NEAR)

    def _evaluate(self, condition: Condition) -> np.ndarray:
        kind, nothing = condition.kind, np.zeros(len(self.objects))
        if kind in (*ATTRIBUTES, HEARD):
            return nothing
        if kind in UNHEARD and self.knows_sounds:
            return self._unheard(kind)
        if kind == "throughout":
            return self._known(kind, np.array(list(map(self._presence, self.annotation.objects))))
        sides = ("leftmost", "rightmost", "topmost", "lowest")
        if kind in sides and not all(stage.any() for stage in self.on_stage):
            return nothing
        return self._known(kind, super()._evaluate(condition))

    def _known(self, kind: str, margins: np.ndarray) -> np.ndarray:
        heard = kind in ACOUSTIC_PROPERTIES or kind in ACOUSTIC_RELATIONS
        known = self.knows_sounds if heard else kind not in APPEARING or self.knows_appearances
        return margins if known else np.zeros_like(margins)

    def _unheard(self, kind: str) -> np.ndarray:
        """One stretch may be of separate strokes, several are not continuous."""
        stretches = [len(thing.sounding) for thing in self.annotation.objects]
        margins = np.where([n > 0 for n in stretches], 0.0, -CERTAIN)
        several = np.array([n > 1 for n in stretches])
        if kind == "continuous":
            return np.where(several, -CERTAIN, margins)
        return np.where(several & (kind == "intermittent"), CERTAIN, margins)

    def _presence(self, thing: ObjectAnnotation) -> float:
        """One step without it may be a moment behind something."""
        missing = NUM_FRAMES - len(visible_steps(thing))
        return CERTAIN if not missing else clear((-missing,) * 2, gap=STAY)


def visible_steps(thing: ObjectAnnotation) -> list[int]:
    return [step for step in sorted(thing.masks) if thing.masks[step].any()]


def _centroid(mask: np.ndarray) -> np.ndarray:
    """(x, y) in pixels."""
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])


def _box(mask: np.ndarray) -> np.ndarray:
    """(left, top, right, bottom) in pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1.0, rows[-1] + 1.0])
