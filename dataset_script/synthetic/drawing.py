"""Frames and exact masks from a scene: anti-aliased silhouettes over a textured background, with
sensor noise."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import zoom

from .objects import Part, silhouette_of
from .scene import Scene, SceneObject


SUPERSAMPLING = 4  # sub-pixels a side
SENSOR_NOISE = 3.0  # standard deviation, of 255
COLOURS = {
    "red": (205, 45, 40),
    "yellow": (235, 200, 40),
    "green": (45, 150, 60),
    "blue": (45, 85, 205),
    "purple": (140, 60, 165),
    "white": (238, 236, 228),
}
SURFACES = ("plain", "striped", "spotted")
TINT = {"dark": 0.25, "light": 0.0}  # the share of an object's own colour that a detail keeps


def draw(scene: Scene, time: float, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one moment of a scene.

    Args:
        scene: the scene graph.
        time: seconds from the start.
        height, width: of the frame, pixels.

    Returns:
        The frame `(height, width, 3)` uint8 and the masks `(objects, height, width)` bool: an
        object's mask holds the pixels of which it visibly covers more than half, so masks never
        overlap.
    """
    picture = background(scene.seed, height, width).copy()
    visible = np.zeros((len(scene.objects), height, width), dtype=np.float32)
    for item in sorted(scene.objects, key=lambda item: -item.depth):
        drawn = _cut_out(scene, item, time, height, width)
        if drawn is None:
            continue
        (rows, columns), alpha, colour = drawn
        visible[:, rows, columns] *= 1 - alpha
        visible[item.fid, rows, columns] = alpha
        picture[rows, columns] += alpha[..., None] * (colour - picture[rows, columns])
    rng = np.random.default_rng([scene.seed, 1, round(time * 1000)])
    picture += rng.normal(0, SENSOR_NOISE, picture.shape)
    return picture.clip(0, 255).round().astype(np.uint8), visible > 0.5


@lru_cache(maxsize=2)
def background(seed: int, height: int, width: int) -> np.ndarray:
    """A dull, soft texture of large and small blotches `(height, width, 3)` float32, the same for a
    whole clip."""
    rng = np.random.default_rng([seed, 0])
    base = rng.uniform(85, 150) + rng.normal(0, 8, 3)
    texture = np.zeros((height, width))
    for cells, strength in ((3, 16), (8, 9), (24, 5)):
        grid = rng.normal(0, strength, (cells + 1, cells + 1))
        texture += zoom(
            grid,
            (height / (cells + 1), width / (cells + 1)),
            order=1,
            grid_mode=True,
            mode="nearest",
        )
    planks = rng.integers(0, 9)
    if planks > 2:
        texture += 7 * np.sign(np.sin(np.arange(width) * np.pi * planks / width))
    return (base + texture[..., None]).astype(np.float32).clip(30, 215)


def _cut_out(scene: Scene, item: SceneObject, time: float, height: int, width: int):
    """Where an object is in the frame, its coverage `(h, w)` 0-1 and its colours `(h, w, 3)`; None
    if out of frame."""
    scale = height / scene.height
    x, y = scene.centre(item, np.array([time]))[0] * scale
    reach = item.radius * scale * 1.5 + 1  # a turned box reaches sqrt(2) times its half side
    top, bottom = max(0, int(y - reach)), min(height, int(y + reach) + 1)
    left, right = max(0, int(x - reach)), min(width, int(x + reach) + 1)
    if top >= bottom or left >= right:
        return None
    turn = np.deg2rad(scene.angle(item, time))
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    origin = np.array([x - left, y - top])

    def rasterise(points: np.ndarray) -> Image.Image:
        canvas = Image.new("L", ((right - left) * SUPERSAMPLING, (bottom - top) * SUPERSAMPLING))
        corners = (points @ rotation * item.radius * scale + origin) * SUPERSAMPLING - 0.5
        ImageDraw.Draw(canvas).polygon([tuple(corner) for corner in corners.tolist()], fill=255)
        return canvas

    grid = (
        np.mgrid[0 : bottom - top, 0 : right - left][::-1].transpose(1, 2, 0) + 0.5
    )  # (h, w, 2), x then y
    local = (grid - origin) @ rotation.T / (item.radius * scale)
    return (slice(top, bottom), slice(left, right)), *_paint(
        item, silhouette_of(item.category, scene.seed), rasterise, local
    )


def _paint(
    item: SceneObject, silhouette: tuple[Part, ...], rasterise, local: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and colours of one object; `local (h, w, 2)` are the pixels' places in its own
    box."""
    shape = None
    colour = _surface(item, local)
    for part in silhouette:
        canvas = rasterise(part.points)
        if shape is None:
            shape = Image.new("L", canvas.size)
        if part.role in ("body", "hole"):
            shape.paste(255 if part.role == "body" else 0, mask=canvas)
            continue
        cover = np.asarray(canvas.reduce(SUPERSAMPLING), dtype=np.float32)[..., None] / 255
        detail = np.array(COLOURS[item.colour]) * TINT[part.role] + (
            245 if part.role == "light" else 0
        )
        colour = colour + cover * (detail - colour)
    return np.asarray(shape.reduce(SUPERSAMPLING), dtype=np.float32) / 255, colour


def _surface(item: SceneObject, local: np.ndarray) -> np.ndarray:
    """The object's colour, lighter at its upper left, with stripes or spots."""
    x, y = local[..., 0], local[..., 1]
    shade = 1 - 0.12 * np.clip(x + y, -1.2, 1.2)
    if item.surface == "striped":
        shade = shade * np.where(np.sin((x + y) * np.pi / 0.42) > 0, 1.0, 0.55)
    elif item.surface == "spotted":
        near = np.hypot((x + 0.5) % 0.6 - 0.3, (y + 0.5) % 0.6 - 0.3)
        shade = shade * np.where(near < 0.17, 0.45, 1.0)
    return shade[..., None] * np.array(COLOURS[item.colour], dtype=np.float32)
