"""The 23 categories of the synthetic world: each binds one silhouette (silhouettes.py) to one
timbre.

A sound can only be given to an object by knowing what its kind of object sounds like, as with a dog
and a bark. The super-categories follow Ref-AVS Bench (instruments, animals, machines, ..., and
silent still things); one category of each sounding super-category is never seen in training.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Timbre:
    """What one stroke, note or call of a category sounds like.

    Args:
        pitch: fundamental, Hz.
        partials: (frequency ratio, gain) of each sine partial; none for pure noise.
        noise: (low Hz, high Hz, gain) of the noise band beside the partials.
        decay: seconds to fall by 1/e after the stroke; 0 holds the sound.
        glide: pitch factor at the start, the middle and the end of the stroke.
        wobble: (rate Hz, depth) of a periodic change of pitch.
        flutter: (rate Hz, depth 0-1) of a periodic change of volume.
    """

    pitch: float = 0.0
    partials: tuple[tuple[float, float], ...] = ()
    noise: tuple[float, float, float] = (100.0, 7500.0, 0.0)
    decay: float = 0.0
    glide: tuple[float, float, float] = (1.0, 1.0, 1.0)
    wobble: tuple[float, float] = (0.0, 0.0)
    flutter: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Category:
    """A kind of object. Without a timbre it never sounds and never moves."""

    super_category: str
    timbre: Timbre | None = None
    unseen: bool = False


def harmonics(count: int, slope: float = 1.0, step: int = 1) -> tuple[tuple[float, float], ...]:
    """Partials 1, 1 + step, ... with gain 1 / ratio ** slope."""
    return tuple((ratio, ratio**-slope) for ratio in range(1, 1 + count * step, step))


def voice(pitch: float, count: int, *formants: float) -> tuple[tuple[float, float], ...]:
    """Harmonics of a voice: loud near the formants (Hz), 250 Hz wide each."""
    return tuple(
        (
            ratio,
            0.05 + sum(1 / (1 + ((ratio * pitch - formant) / 250) ** 2) for formant in formants),
        )
        for ratio in range(1, count + 1)
    )


CATEGORIES: dict[str, Category] = {
    "bell": Category("tonal", Timbre(830, ((1, 1), (2, 0.6), (2.76, 0.6), (5.4, 0.4)), decay=0.22)),
    "flute": Category(
        "tonal", Timbre(1180, ((1, 1), (2, 0.15)), (800, 3000, 0.08), wobble=(5.5, 0.012))
    ),
    "guitar": Category("tonal", Timbre(196, harmonics(14, 0.9), decay=0.2)),
    "trumpet": Category("tonal", Timbre(440, harmonics(9, 0.3), glide=(0.97, 1, 1))),
    "harp": Category(
        "tonal", Timbre(520, ((1, 1), (2, 0.8), (4, 0.5), (8, 0.2)), decay=0.25), unseen=True
    ),
    "drum": Category(
        "percussive",
        Timbre(150, ((1, 1), (1.6, 0.5)), (125, 500, 0.5), decay=0.12, glide=(1.4, 1, 0.9)),
    ),
    "clock": Category(
        "percussive", Timbre(2300, ((1, 1), (1.31, 0.7)), (2000, 3000, 0.5), decay=0.02)
    ),
    "hammer": Category(
        "percussive", Timbre(1250, ((1, 1), (1.52, 0.9), (2.42, 0.8), (3.9, 0.7)), decay=0.09)
    ),
    "maraca": Category("percussive", Timbre(noise=(4500, 7500, 1.0), decay=0.05)),
    "tambourine": Category(
        "percussive",
        Timbre(5200, ((1, 0.5), (1.23, 0.5)), (2500, 7000, 0.8), decay=0.13),
        unseen=True,
    ),
    "fan": Category("noisy", Timbre(noise=(200, 900, 1.0), flutter=(11, 0.5))),
    "kettle": Category("noisy", Timbre(2900, ((1, 1),), (1800, 6500, 0.7), wobble=(7, 0.02))),
    "car": Category("noisy", Timbre(72, harmonics(12, 0.5), (100, 400, 0.3), flutter=(18, 0.3))),
    "rocket": Category("noisy", Timbre(noise=(125, 3500, 1.0))),
    "drill": Category(
        "noisy", Timbre(260, harmonics(14, 0.2, step=2), (900, 3000, 0.4)), unseen=True
    ),
    "cat": Category("voiced", Timbre(560, voice(560, 9, 1100, 2600), glide=(0.8, 1.2, 0.75))),
    "duck": Category("voiced", Timbre(240, voice(240, 20, 1300, 1900), glide=(1.15, 1, 0.85))),
    "frog": Category("voiced", Timbre(118, voice(118, 22, 480, 1150), flutter=(27, 0.9))),
    "bird": Category("voiced", Timbre(3700, ((1, 1),), glide=(0.8, 1.25, 0.9), wobble=(14, 0.1))),
    "owl": Category(
        "voiced", Timbre(390, ((1, 1), (2, 0.3), (3, 0.1)), glide=(0.85, 1.05, 0.8)), unseen=True
    ),
    "cup": Category("silent"),
    "tree": Category("silent"),
    "house": Category("silent"),
}
NOVELTY = "novelty"  # a thing of no kind, drawn for one clip (novelty.py): in no test split
SEEN = tuple(name for name, category in CATEGORIES.items() if not category.unseen)
UNSEEN = tuple(name for name, category in CATEGORIES.items() if category.unseen)


def can_sound(name: str) -> bool:
    return name == NOVELTY or CATEGORIES[name].timbre is not None


def super_category_of(name: str) -> str:
    return name if name == NOVELTY else CATEGORIES[name].super_category
