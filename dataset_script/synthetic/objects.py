"""The objects of a scene: categories, each with a silhouette and a timbre, and novel objects."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


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
NOVELTY = "novelty"  # a novel object, drawn for one clip (novelty.py): in no test split
SEEN = tuple(name for name, category in CATEGORIES.items() if not category.unseen)
UNSEEN = tuple(name for name, category in CATEGORIES.items() if category.unseen)


def can_sound(name: str) -> bool:
    return name == NOVELTY or CATEGORIES[name].timbre is not None


def super_category_of(name: str) -> str:
    return name if name == NOVELTY else CATEGORIES[name].super_category


@dataclass(frozen=True)
class Part:
    """A polygon `points (n, 2)`: `body` and `hole` make the silhouette, `dark` and `light` only
    tint it."""

    role: str
    points: np.ndarray


def polygon(role: str, *points: tuple[float, float]) -> Part:
    return Part(role, np.asarray(points, dtype=float))


def disc(role: str, x: float, y: float, rx: float, ry: float | None = None) -> Part:
    angle = np.linspace(0, 2 * np.pi, 33)[:-1]
    return Part(role, np.stack([x + rx * np.cos(angle), y + (ry or rx) * np.sin(angle)], axis=1))


def box(role: str, x0: float, y0: float, x1: float, y1: float) -> Part:
    return polygon(role, (x0, y0), (x1, y0), (x1, y1), (x0, y1))


def bar(role: str, x0: float, y0: float, x1: float, y1: float, width: float) -> Part:
    """A straight stroke from (x0, y0) to (x1, y1)."""
    start, end = np.array([x0, y0]), np.array([x1, y1])
    along = (end - start) / np.hypot(*(end - start))
    side = np.array([-along[1], along[0]]) * width / 2
    return Part(role, np.stack([start + side, end + side, end - side, start - side]))


def around(count: int, radius: float) -> list[tuple[float, float]]:
    """`count` places on a circle."""
    angles = 2 * np.pi * np.arange(count) / count
    return [(radius * float(np.sin(a)), -radius * float(np.cos(a))) for a in angles]


def eye(x: float, y: float, size: float) -> tuple[Part, Part]:
    return disc("light", x, y, size), disc("dark", x, y, size * 0.55)


SILHOUETTES: dict[str, tuple[Part, ...]] = {
    "bell": (
        disc("body", 0, -0.85, 0.16),
        disc("body", 0, -0.1, 0.58, 0.75),
        polygon("body", (-0.58, -0.1), (0.58, -0.1), (0.95, 0.68), (-0.95, 0.68)),
        disc("body", 0, 0.78, 0.22),
        bar("dark", -0.9, 0.6, 0.9, 0.6, 0.1),
    ),
    "flute": (
        bar("body", -0.8, 0.8, 0.8, -0.8, 0.5),
        *(disc("dark", x, -x, 0.12) for x in (-0.45, -0.1, 0.25, 0.6)),
    ),
    "guitar": (
        disc("body", 0, 0.5, 0.66, 0.5),
        disc("body", 0, -0.1, 0.46, 0.4),
        box("body", -0.13, -1, 0.13, 0),
        disc("dark", 0, 0.2, 0.2),
        box("dark", -0.3, 0.62, 0.3, 0.72),
    ),
    "trumpet": (
        polygon("body", (0.1, -0.2), (1, -0.75), (1, 0.75), (0.1, 0.2)),
        box("body", -1, -0.2, 0.2, 0.2),
        *(box("body", x, -0.65, x + 0.2, 0.6) for x in (-0.65, -0.35, -0.05)),
    ),
    "harp": (
        polygon(
            "body",
            (-0.8, 1),
            (-0.8, -0.8),
            (-0.5, -1),
            (0.1, -0.6),
            (0.9, -0.95),
            (0.85, -0.6),
            (-0.3, 1),
        ),
        polygon("hole", (-0.6, 0.7), (-0.6, -0.7), (0.1, -0.35), (0.6, -0.6), (-0.4, 0.75)),
        *(bar("body", x, -0.7, x, 0.9 - (x + 0.6) * 1.3, 0.1) for x in (-0.4, -0.12, 0.16)),
    ),
    "drum": (
        disc("body", 0, 0.6, 0.85, 0.35),
        box("body", -0.85, -0.55, 0.85, 0.6),
        disc("light", 0, -0.55, 0.85, 0.35),
        disc("body", 0, -0.55, 0.85, 0.35),
        *(bar("dark", x, -0.15, x + 0.28, 0.75, 0.09) for x in (-0.84, -0.28, 0.28)),
        *(bar("dark", x + 0.28, 0.75, x + 0.56, -0.15, 0.09) for x in (-0.84, -0.28, 0.28)),
    ),
    "clock": (
        bar("body", -0.4, 0.6, -0.7, 1, 0.22),
        bar("body", 0.4, 0.6, 0.7, 1, 0.22),
        disc("body", -0.55, -0.75, 0.27),
        disc("body", 0.55, -0.75, 0.27),
        disc("body", 0, 0, 0.85),
        disc("light", 0, 0, 0.6),
        bar("dark", 0, 0.08, 0, -0.5, 0.13),
        bar("dark", -0.06, 0, 0.38, 0, 0.13),
    ),
    "hammer": (
        polygon("body", (-0.85, -1), (0.5, -1), (0.95, -0.45), (0.5, -0.35), (-0.85, -0.35)),
        box("body", -0.2, -0.5, 0.2, 1),
        bar("dark", -0.2, 0.45, 0.2, 0.45, 0.1),
    ),
    "maraca": (
        disc("body", 0, -0.4, 0.6, 0.6),
        box("body", -0.14, 0, 0.14, 0.85),
        disc("body", 0, 0.85, 0.22, 0.15),
        bar("light", -0.6, -0.4, 0.6, -0.4, 0.2),
    ),
    "tambourine": (
        disc("body", 0, 0, 1),
        disc("hole", 0, 0, 0.55),
        *(disc("light", x, y, 0.15) for x, y in around(7, 0.78)),
    ),
    "fan": (
        *(disc("body", x, y - 0.25, 0.36) for x, y in around(5, 0.5)),
        disc("body", 0, -0.25, 0.35),
        disc("dark", 0, -0.25, 0.17),
        box("body", -0.1, 0.2, 0.1, 0.9),
        box("body", -0.5, 0.82, 0.5, 1),
    ),
    "kettle": (
        disc("body", 0, -0.35, 0.6, 0.62),
        disc("hole", 0, -0.35, 0.4, 0.42),
        disc("body", -0.05, 0.35, 0.75, 0.62),
        polygon("body", (0.45, 0.1), (0.85, -0.35), (1, -0.25), (0.6, 0.65)),
        bar("dark", -0.5, -0.02, 0.45, -0.02, 0.1),
    ),
    "car": (
        polygon("body", (-0.6, -0.1), (-0.4, -0.7), (0.35, -0.7), (0.65, -0.1)),
        polygon("body", (-1, -0.15), (0.9, -0.15), (1, 0.45), (-1, 0.45)),
        disc("body", -0.52, 0.45, 0.32),
        disc("body", 0.52, 0.45, 0.32),
        disc("dark", -0.52, 0.45, 0.27),
        disc("dark", 0.52, 0.45, 0.27),
        polygon("light", (-0.4, -0.15), (-0.28, -0.55), (0.25, -0.55), (0.42, -0.15)),
    ),
    "rocket": (
        polygon(
            "body",
            (0, -1),
            (0.3, -0.6),
            (0.42, -0.1),
            (0.36, 0.7),
            (-0.36, 0.7),
            (-0.42, -0.1),
            (-0.3, -0.6),
        ),
        polygon("body", (-0.36, 0.1), (-0.85, 0.95), (-0.3, 0.7)),
        polygon("body", (0.36, 0.1), (0.85, 0.95), (0.3, 0.7)),
        box("dark", -0.22, 0.7, 0.22, 0.85),
        disc("light", 0, -0.25, 0.2),
    ),
    "drill": (
        polygon("body", (-0.95, -0.7), (0.35, -0.75), (0.5, -0.4), (0.35, 0), (-0.95, -0.05)),
        bar("body", 0.4, -0.38, 1, -0.38, 0.16),
        polygon("body", (-0.8, -0.1), (-0.25, -0.1), (-0.35, 0.7), (-0.9, 0.7)),
        box("dark", -1, 0.65, -0.15, 0.95),
        box("body", -1, 0.65, -0.15, 0.95),
    ),
    "cat": (
        disc("body", 0, 0.2, 0.9, 0.75),
        polygon("body", (-0.88, 0.2), (-0.8, -0.95), (-0.15, -0.45)),
        polygon("body", (0.88, 0.2), (0.8, -0.95), (0.15, -0.45)),
        *eye(-0.38, 0.05, 0.2),
        *eye(0.38, 0.05, 0.2),
        polygon("dark", (-0.14, 0.38), (0.14, 0.38), (0, 0.55)),
    ),
    "duck": (
        disc("body", -0.15, 0.4, 0.82, 0.52),
        polygon("body", (-1, -0.1), (-0.5, 0.1), (-0.7, 0.6)),
        disc("body", 0.4, -0.45, 0.42),
        polygon("body", (0.7, -0.6), (1, -0.35), (0.7, -0.2)),
        polygon("dark", (0.78, -0.58), (1, -0.35), (0.78, -0.22)),
        *eye(0.45, -0.52, 0.17),
    ),
    "frog": (
        disc("body", 0, 0.3, 1, 0.62),
        disc("body", -0.52, -0.4, 0.38),
        disc("body", 0.52, -0.4, 0.38),
        *eye(-0.52, -0.42, 0.25),
        *eye(0.52, -0.42, 0.25),
        bar("dark", -0.65, 0.4, 0.65, 0.4, 0.12),
    ),
    "bird": (
        disc("body", 0, 0.25, 0.6, 0.4),
        disc("body", 0.5, -0.05, 0.32),
        polygon("body", (0.75, -0.2), (1, 0), (0.72, 0.12)),
        polygon("body", (-0.4, 0.2), (-1, 0.15), (-0.9, 0.75)),
        polygon("body", (0.3, 0.2), (-0.35, 0.2), (-0.75, -0.95), (-0.1, -0.5)),
        *eye(0.53, -0.08, 0.14),
    ),
    "owl": (
        disc("body", 0, 0.2, 0.7, 0.8),
        polygon("body", (-0.62, -0.1), (-0.68, -0.95), (-0.05, -0.5)),
        polygon("body", (0.62, -0.1), (0.68, -0.95), (0.05, -0.5)),
        *eye(-0.27, -0.15, 0.25),
        *eye(0.27, -0.15, 0.25),
        polygon("dark", (-0.12, 0.1), (0.12, 0.1), (0, 0.35)),
        *(bar("dark", -0.3, y, 0.3, y, 0.08) for y in (0.5, 0.72)),
    ),
    "cup": (
        disc("body", 0.5, 0.0, 0.5, 0.5),
        disc("hole", 0.5, 0.0, 0.27, 0.27),
        polygon("body", (-0.9, -0.8), (0.5, -0.8), (0.35, 0.9), (-0.75, 0.9)),
        bar("dark", -0.85, -0.68, 0.45, -0.68, 0.12),
    ),
    "tree": (
        box("body", -0.16, 0.5, 0.16, 1),
        polygon("body", (0, -1), (0.55, -0.25), (-0.55, -0.25)),
        polygon("body", (0, -0.65), (0.75, 0.2), (-0.75, 0.2)),
        polygon("body", (0, -0.2), (0.92, 0.65), (-0.92, 0.65)),
        box("dark", -0.16, 0.65, 0.16, 1),
    ),
    "house": (
        polygon("body", (0, -1), (1, -0.15), (-1, -0.15)),
        box("body", -0.8, -0.2, 0.8, 0.95),
        bar("dark", -0.95, -0.17, 0.95, -0.17, 0.1),
        box("dark", -0.2, 0.35, 0.2, 0.95),
        box("light", 0.35, 0.1, 0.65, 0.4),
        box("light", -0.65, 0.1, -0.35, 0.4),
    ),
}


def silhouette_of(category: str, seed: int) -> tuple[Part, ...]:
    """`seed`: the scene's, which a novelty's silhouette follows from."""
    return draw_silhouette(seed) if category == NOVELTY else SILHOUETTES[category]


def timbre_of(category: str, seed: int) -> Timbre | None:
    """`seed`: the scene's, which a novelty's timbre follows from."""
    return draw_timbre(seed) if category == NOVELTY else CATEGORIES[category].timbre


@lru_cache(maxsize=2)
def draw_silhouette(seed: int) -> tuple[Part, ...]:
    """A large part and one to four more, half of the time alike on both sides, with a hole now and
    then, and details."""
    rng = np.random.default_rng([seed, 4])
    both_sides = rng.random() < 0.5
    large = disc if rng.random() < 0.6 else _block
    parts = [large("body", *rng.uniform(-0.2, 0.2, 2), *rng.uniform(0.4, 0.8, 2))]
    for _ in range(rng.integers(1, 5)):
        parts += _piece(rng, "body", 0.9, both_sides)
    if rng.random() < 0.3:
        parts.append(disc("hole", *parts[0].points.mean(0), *rng.uniform(0.2, 0.4, 2)))
        parts += _piece(rng, "body", 0.6, both_sides)
    reach = max(float(np.abs(part.points).max()) for part in parts)
    for _ in range(rng.integers(1, 4)):
        parts += _piece(rng, str(rng.choice(["dark", "light"])), 0.5, both_sides)
    return tuple(Part(part.role, part.points / reach) for part in parts)


@lru_cache(maxsize=2)
def draw_timbre(seed: int) -> Timbre:
    """Partials, a band of noise or both, with or without a decay, a glide, a wobble and a
    flutter."""
    rng = np.random.default_rng([seed, 5])
    noisy = rng.random()
    pitch = _between(rng, 70, 4000)
    low = _between(rng, 100, 4000)
    band = (low, min(low * rng.uniform(1.5, 8), 7500.0), rng.uniform(0.1, 0.8))
    return Timbre(
        pitch=pitch,
        partials=() if noisy < 0.2 else _partials(rng, pitch),
        noise=band if noisy < 0.6 else (100.0, 7500.0, 0.0),
        decay=_between(rng, 0.02, 0.3) if rng.random() < 0.5 else 0.0,
        glide=tuple(rng.uniform(0.75, 1.25, 3)) if rng.random() < 0.4 else (1.0, 1.0, 1.0),
        wobble=(rng.uniform(4, 15), rng.uniform(0.01, 0.1)) if rng.random() < 0.3 else (0.0, 0.0),
        flutter=(rng.uniform(8, 28), rng.uniform(0.3, 0.9)) if rng.random() < 0.25 else (0.0, 0.0),
    )


def _partials(rng: np.random.Generator, pitch: float) -> tuple[tuple[float, float], ...]:
    """Those of a string or pipe, of a voice, or of something that is struck."""
    kind = rng.integers(3)
    count = int(rng.integers(1, 15))
    if kind == 0:
        return harmonics(count, rng.uniform(0.2, 2), int(rng.integers(1, 3)))
    if kind == 1:
        return voice(pitch, count, *rng.uniform(400, 3000, 2))
    ratios = 1 + np.cumsum([0, *rng.uniform(0.2, 1.6, rng.integers(1, 5))])
    return tuple(
        (float(ratio), float(gain))
        for ratio, gain in zip(ratios, rng.uniform(0.2, 1, len(ratios)), strict=True)
    )


def _piece(rng: np.random.Generator, role: str, reach: float, both_sides: bool) -> list[Part]:
    x, y = rng.uniform(-reach, reach, 2)
    size, other = rng.uniform(0.15, 0.6, 2) * (0.5 if role in ("dark", "light") else 1)
    shape = rng.integers(5)
    if shape == 0:
        pieces = [disc(role, x, y, size, other)]
    elif shape == 1:
        pieces = [_block(role, x, y, size, other)]
    elif shape == 2:
        turn = rng.uniform(0, np.pi)
        pieces = [
            bar(role, x, y, x + 1.2 * np.cos(turn), y + 1.2 * np.sin(turn), 0.3 * size + 0.05)
        ]
    elif shape == 3:
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 6)))
        pieces = [
            polygon(
                role,
                *(
                    (x + 1.5 * size * np.cos(angle), y + 1.5 * size * np.sin(angle))
                    for angle in angles
                ),
            )
        ]
    else:
        pieces = [
            disc(role, *place, 0.4 * size)
            for place in around(int(rng.integers(3, 8)), rng.uniform(0.4, 0.8))
        ]
    if both_sides:
        pieces += [Part(piece.role, piece.points * (-1, 1)) for piece in pieces]
    return pieces


def _block(role: str, x: float, y: float, half_width: float, half_height: float) -> Part:
    return box(role, x - half_width, y - half_height, x + half_width, y + half_height)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """As likely in each octave."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
