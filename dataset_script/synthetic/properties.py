"""What can be said of one object of a clip: how it appears over time, and how it sounds."""

from collections.abc import Callable

import numpy as np

from .margins import CERTAIN, MOMENTS, Range, Timeline, clear, signed, superlative, sure
from .scene import SceneObject


ENTRY, STAY = 1.0, 2.0  # s between entrances, between times on stage
ONSET, DURATION = 1.0, 1.5  # s between beginnings of sounds, between lengths of sound
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


ATTRIBUTES = ("category", "colour", "surface", "motion")
VISIBLE_PROPERTIES: dict[str, Property] = {
    "throughout": _throughout,
    "first to appear": _most(entry, ENTRY, -1),
    "last to appear": _most(entry, ENTRY),
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
    "last to sound": _last_to_sound,
    "at all times": _at_all_times,
    "longest sound": _most(duration, DURATION),
    "shortest sound": _most(duration, DURATION, -1),
    "fastest rhythm": _most(tempo, TEMPO),
    "slowest rhythm": _most(tempo, TEMPO, -1),
    "intermittent": _intermittent,
    "continuous": _continuous,
}
