"""What can be said of one object of a clip beside another, its landmark."""

from collections.abc import Callable

import numpy as np

from .margins import CERTAIN, MOMENTS, Timeline, clear, difference, signed
from .properties import (
    DURATION,
    ENTRY,
    LOUDNESS,
    ONSET,
    STAY,
    TEMPO,
    Measure,
    duration,
    entry,
    level,
    onset,
    stay,
    tempo,
)


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
