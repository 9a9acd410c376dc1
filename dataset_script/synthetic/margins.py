"""Signed margins: 1 or more is clearly true, -1 or less clearly false, anything between is unclear.

The unit is the gap of each fact (properties.py, relations.py), so 2 means "by twice the stated
gap". A word such as "red" has no borderline: its margin is +-CERTAIN.
"""

from functools import cached_property

import numpy as np

from .scene import Scene


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
