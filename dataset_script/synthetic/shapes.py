"""The polygons that silhouettes are made of, in a box from -1 to 1 (x to the right, y down)."""

from dataclasses import dataclass

import numpy as np


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
