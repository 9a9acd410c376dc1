"""The shape of each category, as polygons in a box from -1 to 1 (x to the right, y down), before rotation and scale."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Part:
    """A polygon `points (n, 2)`: `body` and `hole` make the silhouette, `dark` and `light` only tint it."""

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
            "body", (-0.8, 1), (-0.8, -0.8), (-0.5, -1), (0.1, -0.6), (0.9, -0.95), (0.85, -0.6), (-0.3, 1)
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
            "body", (0, -1), (0.3, -0.6), (0.42, -0.1), (0.36, 0.7), (-0.36, 0.7), (-0.42, -0.1), (-0.3, -0.6)
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
