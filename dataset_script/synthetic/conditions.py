"""What sentences say of objects: properties and relations, each true or false by a clear margin."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from .scene import Scene, SceneObject


CERTAIN = 9.0  # the largest margin
MOMENTS = 0.25  # s between the moments at which a relation must hold
Range = tuple[float, float]  # the smallest and the largest value that a quantity takes in the clip


class Timeline:
    """Where each object of a scene is, at every moment."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.objects = scene.objects
        self.times = np.arange(0, scene.seconds + MOMENTS / 2, MOMENTS)

    @cached_property
    def centres(self) -> list[np.ndarray]:
        return [self.scene.centre(item, self.times) for item in self.objects]

    @cached_property
    def on_stage(self) -> list[np.ndarray]:
        return [item.on_stage(self.times) for item in self.objects]


def sure(truths: list[bool]) -> np.ndarray:
    return np.where(truths, CERTAIN, -CERTAIN)


def clear(extent: Range, centre: float = 0.0, gap: float = 1.0) -> float:
    """The margin by which a quantity is larger than `centre`: 0 unless its whole range is clearly
    on one side."""
    low, high = (extent[0] - centre) / gap, (extent[1] - centre) / gap
    return low if low >= 1 else high if high <= -1 else 0.0


def difference(one: Range, two: Range) -> Range:
    return one[0] - two[1], one[1] - two[0]


def signed(extent: Range | None, sign: int) -> Range | None:
    """The range, or with sign -1 that of the negated quantity."""
    return extent if extent is None or sign == 1 else (-extent[1], -extent[0])


def superlative(extents: list[Range | None], gap: float) -> np.ndarray:
    """Margin of having the largest value; None cannot compete. A contest needs two: with one,
    nothing is clear."""
    margins = np.full(len(extents), -CERTAIN)
    competing = [index for index, extent in enumerate(extents) if extent is not None]
    for index in competing:
        others = [extents[other] for other in competing if other != index]
        best = others and (max(low for low, _ in others), max(high for _, high in others))
        margins[index] = clear(difference(extents[index], best), gap=gap) if others else 0.0
    return margins


ENTRY, STAY = 1.0, 2.0  # s between entrances, between times on stage
ONSET, DURATION = 1.0, 1.5  # s between beginnings of sounds, between lengths of sound
SIZE = 0.5  # octaves of an object's size
LOUDNESS = 5.0  # dB
SWELL = (5.0, 4.0)  # dB: larger over the time 9 or more, not so 1 or less
TEMPO = float(np.log2(1.5))  # octaves of the rate of strokes
HASTE = (0.4, 0.3)  # octaves: faster over the time a factor of 1.6 or more, not so 1.07 or less
PAUSES = (-1.0, 0.8)  # s of silence, negated: sounding at all times 0.2 or less, not so 1.8 or more
Measure = Callable[[SceneObject], Range | None]
Property = Callable[[Timeline], np.ndarray]


def entry(item: SceneObject) -> Range:
    return item.presence[0], item.presence[0]


def stay(item: SceneObject) -> Range:
    seconds = item.presence[1] - item.presence[0]
    return seconds, seconds


def onset(item: SceneObject) -> Range | None:
    return item.sound and (item.sound.span[0], item.sound.span[0])


def duration(item: SceneObject) -> Range | None:
    return item.sound and (item.sound.seconds, item.sound.seconds)


def level(item: SceneObject) -> Range | None:
    return item.sound and (min(item.sound.level), max(item.sound.level))


def tempo(item: SceneObject) -> Range | None:
    """Octaves of the rate. A steady sound has a rhythm of its own that no one could place: any
    value."""
    if item.sound is None:
        return None
    return (
        (-99.0, 99.0)
        if item.sound.rate is None
        else tuple(sorted(np.log2(item.sound.rate).tolist()))
    )


def _swell(item: SceneObject) -> float:
    return item.sound.level[1] - item.sound.level[0]


def _haste(item: SceneObject) -> float:
    return (
        0.0 if item.sound.rate is None else float(np.log2(item.sound.rate[1] / item.sound.rate[0]))
    )


def _place(axis: int, sign: int) -> Property:
    """Being clearly furthest to one side, whenever on stage."""

    def of(clip: Timeline) -> np.ndarray:
        along = [
            sign * centres[on_stage, axis]
            for centres, on_stage in zip(clip.centres, clip.on_stage, strict=True)
        ]
        return superlative([(float(x.min()), float(x.max())) for x in along], ASIDE)

    return of


def size(item: SceneObject) -> Range:
    """Octaves."""
    return (float(np.log2(item.radius)),) * 2


def _most(measure: Measure, gap: float, sign: int = 1) -> Property:
    """Having the largest (sign 1) or the smallest (sign -1) measure."""
    return lambda clip: superlative([signed(measure(item), sign) for item in clip.objects], gap)


def _grows(
    change: Callable[[SceneObject], float], centre: float, gap: float, sign: int
) -> Property:
    """A change over the time, up (sign 1) or down; never true of what is silent."""

    def of(item: SceneObject) -> float:
        return -CERTAIN if item.sound is None else clear((sign * change(item),) * 2, centre, gap)

    return lambda clip: np.array([of(item) for item in clip.objects])


def _throughout(clip: Timeline) -> np.ndarray:
    missing = [clip.scene.seconds - stay(item)[0] for item in clip.objects]
    return np.array(
        [CERTAIN if seconds <= 0 else clear((-seconds,) * 2, gap=STAY) for seconds in missing]
    )


def _sounding(clip: Timeline) -> np.ndarray:
    return sure([item.sound is not None for item in clip.objects])


def _last_to_sound(clip: Timeline) -> np.ndarray:
    """The last to begin; unclear if another one's sound ends after its end."""
    margins = _most(onset, ONSET)(clip)
    ends = np.array([item.sound.span[1] if item.sound else -np.inf for item in clip.objects])
    return np.where((margins >= 1) & (ends < ends.max() - MOMENTS), 0.0, margins)


def _second_to_sound(clip: Timeline) -> np.ndarray:
    """The second of two or more to begin; unclear unless all beginnings are apart."""
    onsets = sorted((item.sound.span[0], item.fid) for item in clip.objects if item.sound)
    apart = all(later[0] - one[0] >= ONSET for one, later in pairwise(onsets))
    clear_second = len(onsets) > 1 and apart
    return np.array(
        [
            -CERTAIN
            if item.sound is None
            else 0.0
            if not clear_second
            else CERTAIN
            if item.fid == onsets[1][1]
            else -CERTAIN
            for item in clip.objects
        ]
    )


def _at_all_times(clip: Timeline) -> np.ndarray:
    pauses = [
        clip.scene.seconds - (item.sound.seconds if item.sound else 0) for item in clip.objects
    ]
    return np.array([clear((-pause,) * 2, *PAUSES) for pause in pauses])


def _continuous(clip: Timeline) -> np.ndarray:
    """Steady and in one stretch. One stretch of separate strokes is neither continuous nor
    intermittent, clearly."""

    def of(item: SceneObject) -> float:
        if item.sound is None or len(item.sound.intervals) > 1:
            return -CERTAIN
        return CERTAIN if item.sound.rate is None else 0.0

    return np.array([of(item) for item in clip.objects])


def _intermittent(clip: Timeline) -> np.ndarray:
    """In several stretches, a second of silence or more between them."""

    def of(item: SceneObject) -> float:
        if item.sound is None:
            return -CERTAIN
        if len(item.sound.intervals) > 1:
            return CERTAIN
        return -CERTAIN if item.sound.rate is None else 0.0

    return np.array([of(item) for item in clip.objects])


ATTRIBUTES = ("colour", "surface", "motion")
VISIBLE_PROPERTIES: dict[str, Property] = {
    "throughout": _throughout,
    "first to appear": _most(entry, ENTRY, -1),
    "last to appear": _most(entry, ENTRY),
    "leftmost": _place(0, -1),
    "rightmost": _place(0, 1),
    "topmost": _place(1, -1),
    "lowest": _place(1, 1),
    "biggest": _most(size, SIZE),
    "smallest": _most(size, SIZE, -1),
}
ACOUSTIC_PROPERTIES: dict[str, Property] = {
    "sounding": _sounding,
    "silent": lambda clip: -_sounding(clip),
    "loudest": _most(level, LOUDNESS),
    "quietest": _most(level, LOUDNESS, -1),
    "louder over time": _grows(_swell, *SWELL, 1),
    "quieter over time": _grows(_swell, *SWELL, -1),
    "faster over time": _grows(_haste, *HASTE, 1),
    "slower over time": _grows(_haste, *HASTE, -1),
    "first to sound": _most(onset, ONSET, -1),
    "second to sound": _second_to_sound,
    "last to sound": _last_to_sound,
    "at all times": _at_all_times,
    "longest sound": _most(duration, DURATION),
    "shortest sound": _most(duration, DURATION, -1),
    "fastest rhythm": _most(tempo, TEMPO),
    "slowest rhythm": _most(tempo, TEMPO, -1),
    "intermittent": _intermittent,
    "continuous": _continuous,
}
HEARD = "does"  # what one hears an object doing: its value is a word
TOGETHER = int(1.5 / MOMENTS) + 1  # moments on stage together, 1.5 s: a frame a second shows one
ASIDE = 0.12  # of the shorter side: left of, right of, above, under
NEAR = (
    -0.15,
    0.05,
)  # free space between two objects, negated: near 0.1 or less, not near 0.2 or more
OVERLAP = (
    -0.95,
    0.15,
)  # distance in units of both radii, negated: in front or behind 0.8 or less, not so 1.1 or more
STANDING = (
    -0.5,
    0.25,
)  # of the smaller radius, off the landmark's top, negated: on it 0.25 or less, not so 0.75 or more
Relation = Callable[[Timeline, int], np.ndarray]


def _in_space(
    measure: Callable[[Timeline, int, int], np.ndarray], centre: float = 0.0, gap: float = 1.0
) -> Relation:
    """A relation that must hold at every moment when both are on stage; unclear if they hardly ever
    are."""

    def relation(clip: Timeline, landmark: int) -> np.ndarray:
        margins = np.zeros(len(clip.objects))
        for index in range(len(clip.objects)):
            both = clip.on_stage[index] & clip.on_stage[landmark]
            if both.sum() >= min(TOGETHER, len(both)):
                values = measure(clip, index, landmark)[both]
                margins[index] = clear((values.min(), values.max()), centre, gap)
        return margins

    return relation


def _more(measure: Measure, gap: float, sign: int = 1) -> Relation:
    """Having a larger (sign 1) or smaller (sign -1) measure than the landmark; never true of what
    has none."""

    def relation(clip: Timeline, landmark: int) -> np.ndarray:
        mark = signed(measure(clip.objects[landmark]), sign)
        extents = [signed(measure(item), sign) for item in clip.objects]
        if mark is None:
            return np.zeros(len(extents))
        return np.array(
            [-CERTAIN if it is None else clear(difference(it, mark), gap=gap) for it in extents]
        )

    return relation


def _offset(axis: int, sign: int):
    return lambda clip, one, two: sign * (clip.centres[one] - clip.centres[two])[:, axis]


def _distance(clip: Timeline, one: int, two: int) -> np.ndarray:
    return np.hypot(*(clip.centres[one] - clip.centres[two]).T)


def _radii(clip: Timeline, one: int, two: int) -> float:
    return clip.objects[one].radius + clip.objects[two].radius


def _closeness(clip: Timeline, one: int, two: int) -> np.ndarray:
    return _radii(clip, one, two) - _distance(clip, one, two)


def _overlap(nearer: bool):
    def measure(clip: Timeline, one: int, two: int) -> np.ndarray:
        in_order = (clip.objects[one].depth < clip.objects[two].depth) == nearer
        distance = _distance(clip, one, two) / _radii(clip, one, two)
        return -distance if in_order else np.full(len(clip.times), -CERTAIN)

    return measure


def _standing(clip: Timeline, one: int, two: int) -> np.ndarray:
    offset = clip.centres[one] - clip.centres[two] + (0, _radii(clip, one, two))
    distance = np.hypot(*offset.T) / min(clip.objects[one].radius, clip.objects[two].radius)
    still = clip.objects[one].motion == clip.objects[two].motion == "still"
    return (
        -distance if still else np.minimum(-distance, STANDING[0])
    )  # what bounces on a drum is arguably on it


VISIBLE_RELATIONS: dict[str, Relation] = {
    "left": _in_space(_offset(0, -1), gap=ASIDE),
    "right": _in_space(_offset(0, 1), gap=ASIDE),
    "above": _in_space(_offset(1, -1), gap=ASIDE),
    "under": _in_space(_offset(1, 1), gap=ASIDE),
    "near": _in_space(_closeness, *NEAR),
    "in front": _in_space(_overlap(nearer=True), *OVERLAP),
    "behind": _in_space(_overlap(nearer=False), *OVERLAP),
    "on": _in_space(_standing, *STANDING),
    "appears before": _more(entry, ENTRY, -1),
    "appears after": _more(entry, ENTRY),
    "appears longer": _more(stay, STAY),
    "appears shorter": _more(stay, STAY, -1),
}
ACOUSTIC_RELATIONS: dict[str, Relation] = {
    "louder": _more(level, LOUDNESS),
    "quieter": _more(level, LOUDNESS, -1),
    "sounds before": _more(onset, ONSET, -1),
    "sounds after": _more(onset, ONSET),
    "sounds longer": _more(duration, DURATION),
    "sounds shorter": _more(duration, DURATION, -1),
    "faster rhythm": _more(tempo, TEMPO),
    "slower rhythm": _more(tempo, TEMPO, -1),
}
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
        heard = self.kind in (HEARD, *ACOUSTIC_PROPERTIES, *ACOUSTIC_RELATIONS)
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
            item.audible
            and item.presence == (0.0, self.scene.seconds)
            and not self.scene.has_twin(item)
        )

    def _evaluate(self, condition: Condition) -> np.ndarray:
        value = condition.value
        if condition.kind == "category":  # unclear of what could be taken for it
            margins = sure([item.category == value for item in self.objects])
            return np.where([value in item.like for item in self.objects], 0.0, margins)
        if condition.kind == "group":
            return sure([value in item.groups for item in self.objects])
        if condition.kind == HEARD:
            return sure(
                [item.sound is not None and item.sound.does == value for item in self.objects]
            )
        if condition.kind in ATTRIBUTES:
            return sure([getattr(item, condition.kind) == value for item in self.objects])
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
