"""One thing said of an object, and which object of a clip a set of them refers to."""

from dataclasses import dataclass

import numpy as np

from .categories import can_sound
from .margins import CERTAIN, Timeline, sure
from .properties import ACOUSTIC_PROPERTIES, ATTRIBUTES, VISIBLE_PROPERTIES
from .relations import ACOUSTIC_RELATIONS, VISIBLE_RELATIONS
from .scene import Scene


PROPERTIES = {**VISIBLE_PROPERTIES, **ACOUSTIC_PROPERTIES}
RELATIONS = {**VISIBLE_RELATIONS, **ACOUSTIC_RELATIONS}


@dataclass(frozen=True)
class Condition:
    """A property (`kind`), an attribute (`kind` and `value`) or a relation (`kind` and
    `landmark`)."""

    kind: str
    value: str = ""
    landmark: tuple["Condition", ...] = ()

    @property
    def acoustic(self) -> bool:
        """Does it take an ear, in its own words or in its landmark's?"""
        heard = self.kind in ACOUSTIC_PROPERTIES or self.kind in ACOUSTIC_RELATIONS
        return heard or any(condition.acoustic for condition in self.landmark)


class World(Timeline):
    """A scene of which questions are asked; each margin is computed once."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._margins: dict[Condition, np.ndarray] = {}

    def margins(self, condition: Condition) -> np.ndarray:
        """The margin of one condition for each object, `(objects,)`."""
        if condition not in self._margins:
            self._margins[condition] = np.clip(self._evaluate(condition), -CERTAIN, CERTAIN)
        return self._margins[condition]

    def together(self, conditions: tuple[Condition, ...]) -> np.ndarray:
        """The margin of all conditions at once, that of the weakest, `(objects,)`."""
        every = [self.margins(condition) for condition in conditions]
        return np.min([np.full(len(self.objects), CERTAIN), *every], axis=0)

    def refer(self, conditions: tuple[Condition, ...]) -> int | None:
        """The object that the conditions are clearly true of while clearly false of all others;
        None without one."""
        return only_one(self.together(conditions))

    def beside(self, kind: str, landmark: int) -> np.ndarray:
        """The margin of a relation to a landmark for each object, `(objects,)`; it is never true of
        the landmark."""
        margins = RELATIONS[kind](self, landmark)
        margins[landmark] = -CERTAIN
        return margins

    def could_sound(self, index: int) -> bool:
        """Could this object be any sound's source, for all that the frames show?"""
        item = self.objects[index]
        return (
            can_sound(item.category)
            and item.presence == (0.0, self.scene.seconds)
            and not self.scene.has_twin(item)
        )

    def _evaluate(self, condition: Condition) -> np.ndarray:
        if condition.kind in ATTRIBUTES:
            return sure([getattr(item, condition.kind) == condition.value for item in self.objects])
        if not condition.landmark:
            return PROPERTIES[condition.kind](self)
        landmark = self.refer(condition.landmark)
        return (
            np.zeros(len(self.objects))
            if landmark is None
            else self.beside(condition.kind, landmark)
        )


def only_one(margins: np.ndarray) -> int | None:
    """The index that is clearly true while all others are clearly false; None without one."""
    true = np.flatnonzero(margins >= 1)
    return int(true[0]) if len(true) == 1 and (margins <= -1).sum() == len(margins) - 1 else None
