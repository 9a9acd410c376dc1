"""A thing of no kind: silhouette and timbre are drawn for one clip and never come again.

To a model that has met known kinds alone a strange name, a strange look and a strange sound are
three riddles. Things that are shown once
teach that they belong together: the strange name means the thing that is none of those known.
"""

from functools import lru_cache

import numpy as np

from .categories import CATEGORIES, NOVELTY, Timbre, harmonics, voice
from .shapes import Part, around, bar, box, disc, polygon
from .silhouettes import SILHOUETTES


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
