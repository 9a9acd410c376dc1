"""Photographed clips: cut-outs over photographs and recorded sounds, from a library."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from scipy.signal import fftconvolve

from .library import Library, Recording, read_samples
from .sampling import Pick, round_off
from .scene import Scene, SceneObject, Sound
from .sounds import SAMPLE_RATE, noise, strokes


MOTIONS = ("still", "still", "leftwards", "rightwards", "bouncing", "swaying")
RADIUS = {1: (0.2, 0.47), 2: (0.17, 0.38), 3: (0.15, 0.28), 4: (0.13, 0.21)}  # by objects
SIDE, LONGEST = 1.85, 2.7  # of a cut-out, in radii: root of its area, and its longer side
TURN = 14.0  # degrees, at most
PERSPECTIVE = 0.06  # of a side, by which a corner is moved at most
SOFT = 0.6  # pixels, of the edge's blur
DRIFT = 0.05  # of the frame, by which the camera drifts over the clip at most
UNEVEN = 0.25  # share of clips without a drift
RATES = (0.9, 1.8, 3.6)  # strokes a second of a sound that repeats its loudest moment
REPEATED = 0.25  # share of sounds that do so
PITCH = (0.92, 1.08)  # beside the scene's
GAP = (0.08, 0.45)  # s of rest between two repeats of a recording
CROSSFADE = 0.03  # s
ROOM_DECAY, ROOM_GAIN = (0.05, 0.25), (0.05, 0.25)  # s to fall by 1/e; beside the dry sound
NOISE_LEVEL = (-62.0, -46.0)  # dB of full scale


class LibraryCast:
    """The pictures, sounds and grounds of one split.

    `categories`: a kind that is heard is there four times as often as one that is not, and the more
    often the more pictures of it there are.
    """

    sounding = 0.7

    def __init__(self, library: Library, split: str) -> None:
        self.library = library
        self.media = library.splits[split]
        self.audible = {recording.kind for recording in library.recordings}
        often = {
            kind: round((4 if kind in self.media.recordings else 1) * len(pictures) ** 0.5)
            for kind, pictures in self.media.pictures.items()
        }
        self.categories = tuple(kind for kind in sorted(often) for _ in range(often[kind]))

    def looks(
        self, rng: np.random.Generator, category: str, count: int, pick: Pick
    ) -> dict[str, Any]:
        kind = self.library.kinds[category]
        pictures = self.media.pictures[category]
        audible = category in self.audible
        return {
            "motion": pick("motion", MOTIONS) if audible else "still",
            "colour": "",
            "surface": "",
            "radius": round_off(rng.uniform(*RADIUS[count])),
            "audible": audible,
            "groups": kind.groups,
            "like": kind.like,
            "picture": pictures[rng.integers(len(pictures))].file,
            "turn": round_off(rng.uniform(-TURN, TURN) if rng.random() < 0.6 else 0.0),
            "mirrored": bool(rng.random() < 0.5),
        }

    def has_sound(self, item: SceneObject) -> bool:
        return item.category in self.media.recordings

    def voice(self, rng: np.random.Generator, item: SceneObject, sound: Sound) -> Sound:
        recordings = self.media.recordings[item.category]
        recording = _any_word(rng, recordings)
        repeats = rng.random() < REPEATED and "person" not in item.groups
        first = RATES[rng.integers(len(RATES))]
        last = first if rng.random() < 0.55 else RATES[rng.integers(len(RATES))]
        return Sound(
            sound.intervals,
            sound.level,
            (first, last) if repeats else None,
            round_off(sound.pitch * rng.uniform(*PITCH)),
            recording.file,
            (recording.start, recording.end),
            recording.does,
        )

    def ground(self, rng: np.random.Generator) -> str:
        return self.media.grounds[rng.integers(len(self.media.grounds))].file


def _any_word(rng: np.random.Generator, recordings: list[Recording]) -> Recording:
    """What it does first, each as likely, then a recording of that."""
    words = sorted({recording.does for recording in recordings})
    word = words[rng.integers(len(words))]
    fitting = [recording for recording in recordings if recording.does == word]
    return fitting[rng.integers(len(fitting))]


def draw(
    folder: Path, scene: Scene, time: float, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """As `drawing.draw`, with the pictures of the library in `folder`."""
    rng = np.random.default_rng([scene.seed, 1, round(time * 1000)])
    picture, sigma, blur = _before(folder, scene, time, height, width)
    visible = np.zeros((len(scene.objects), height, width), dtype=np.float32)
    scale = height / scene.height
    for item in sorted(scene.objects, key=lambda item: -item.depth):
        colour, alpha, shade = _cut_out(folder, scene, item, height, width)
        x, y = scene.centre(item, np.array([time]))[0] * scale
        top, left = round(y - alpha.shape[0] / 2), round(x - alpha.shape[1] / 2)
        inside = _overlap(top, left, alpha.shape, height, width)
        if inside is None:
            continue
        (rows, columns), (own_rows, own_columns) = inside
        cover, body = alpha[own_rows, own_columns], colour[own_rows, own_columns]
        picture[rows, columns] *= 1 - shade[own_rows, own_columns, None]
        visible[:, rows, columns] *= 1 - cover
        visible[item.fid, rows, columns] = cover
        picture[rows, columns] += cover[..., None] * (body - picture[rows, columns])
    if blur:
        picture = np.array(_image(picture).filter(ImageFilter.GaussianBlur(blur)), np.float32)
    picture *= np.float32(rng.uniform(0.97, 1.03))
    picture += rng.standard_normal(picture.shape, np.float32) * np.float32(sigma)
    return (picture + 0.5).clip(0, 255).astype(np.uint8), visible > 0.5


def _before(
    folder: Path, scene: Scene, time: float, height: int, width: int
) -> tuple[np.ndarray, float, float]:
    """The ground as the camera sees it now `(height, width, 3)` float32, the deviation of the
    sensor's noise and the blur's radius."""
    rng = np.random.default_rng([scene.seed, 0])
    source, mirrored = _read(folder / scene.ground, "RGB"), bool(rng.random() < 0.5)
    zoom = rng.uniform(1 + 2 * DRIFT, 1.6)
    factor = max(height / source.height, width / source.width) * zoom
    size = max(width, round(source.width * factor)), max(height, round(source.height * factor))
    drift = rng.uniform(-DRIFT, DRIFT, 2) * min(height, width) * (rng.random() > UNEVEN)
    slack = np.array([size[0] - width, size[1] - height], dtype=float)
    start = rng.uniform(np.abs(drift), np.maximum(slack - np.abs(drift), np.abs(drift)))
    left, top = np.clip(start + drift * time / scene.seconds, 0, slack).round().astype(int)
    gain, tint = rng.uniform(0.75, 1.15), rng.uniform(0.94, 1.06, 3)
    ground = _ground(folder / scene.ground, mirrored, size)
    picture = ground[top : top + height, left : left + width] * (gain * tint).astype(np.float32)
    blur = float(rng.uniform(0.3, 0.8)) if rng.random() < 0.3 else 0.0
    return picture, float(rng.uniform(1, 5)), blur


@lru_cache(maxsize=3)
def _ground(path: Path, mirrored: bool, size: tuple[int, int]) -> np.ndarray:
    source = _read(path, "RGB")
    if mirrored:
        source = source.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(source.resize(size, Image.Resampling.BILINEAR), dtype=np.float32)


@lru_cache(maxsize=400)
def _read(path: Path, mode: str) -> Image.Image:
    return Image.open(path).convert(mode)


@lru_cache(maxsize=8)
def _cut_out(
    folder: Path, scene: Scene, item: SceneObject, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An object's colours `(h, w, 3)`, coverage `(h, w)` 0-1 and the shade that it throws `(h, w)`
    0-1, with a margin around it for the shade."""
    rng = np.random.default_rng([scene.seed, 4, item.fid])
    source = _read(folder / item.picture, "RGBA")
    if item.mirrored:
        source = source.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    sides = np.array(source.size, dtype=float)
    radius = item.radius * height / scene.height
    factor = min(SIDE * radius / np.sqrt(sides.prod()), LONGEST * radius / sides.max())
    w, h = np.maximum(2, (sides * factor).round().astype(int)).tolist()
    small = source.convert("RGBa").resize((w, h), Image.Resampling.LANCZOS)
    margin = 4 + round(0.16 * max(w, h))
    canvas = Image.new("RGBa", (w + 2 * margin, h + 2 * margin))
    canvas.paste(small, (margin, margin))
    canvas = _seen_askew(canvas, (w, h), margin, rng)
    if item.turn:
        canvas = canvas.rotate(item.turn, Image.Resampling.BICUBIC)
    raw = np.asarray(canvas, dtype=np.float32)
    alpha = raw[..., 3] / 255
    colour = raw[..., :3] / np.maximum(alpha, 1e-3)[..., None]
    colour = _lit(colour.clip(0, 255), alpha, folder, scene, item, height, width, rng)
    soft = rng.uniform(0.3, 1) * SOFT
    edge = np.asarray(_image(alpha * 255).filter(ImageFilter.GaussianBlur(soft)), dtype=np.float32)
    cover = np.minimum(alpha, edge / 255) if soft > 0.3 else alpha
    shift = (rng.uniform(-0.5, 0.5, 2) * margin).round().astype(int)
    shade = Image.fromarray((alpha * 255).astype(np.uint8)).filter(
        ImageFilter.GaussianBlur(max(1.0, margin / 3))
    )
    shade = np.roll(np.asarray(shade, dtype=np.float32) / 255, (abs(shift[1]), shift[0]), (0, 1))
    return colour.astype(np.float32), cover, shade * np.float32(rng.uniform(0.1, 0.5))


def _seen_askew(
    canvas: Image.Image, size: tuple[int, int], margin: int, rng: np.random.Generator
) -> Image.Image:
    """A slight perspective: the four corners of the picture move a little inwards."""
    (w, h) = size
    corners = np.array([(0, 0), (w, 0), (w, h), (0, h)], dtype=float) + margin
    moved = corners + rng.uniform(-PERSPECTIVE, PERSPECTIVE, (4, 2)) * (w, h)
    rows = []
    for (x, y), (u, v) in zip(moved, corners, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    coefficients = np.linalg.solve(np.array(rows), corners.reshape(-1))
    return canvas.transform(
        canvas.size, Image.Transform.PERSPECTIVE, coefficients.tolist(), Image.Resampling.BICUBIC
    )


def _lit(
    colour: np.ndarray,
    alpha: np.ndarray,
    folder: Path,
    scene: Scene,
    item: SceneObject,
    height: int,
    width: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """The colours under the ground's light: drawn some way towards its mean and spread."""
    ground, _, _ = _before(folder, scene, 0.0, height, width)
    body = colour[alpha > 0.5]
    if not len(body):
        return colour
    share = rng.uniform(0, 0.3)
    mean = ground.mean((0, 1))
    colour = colour + share * 0.6 * (mean - body.mean(0))
    contrast = 1 + share * (np.clip(ground.std() / max(body.std(), 1), 0.6, 1.4) - 1)
    centre = body.mean()
    colour = (colour - centre) * contrast + centre
    side = np.linspace(-1, 1, colour.shape[1])[None, :, None] * rng.uniform(-0.12, 0.12)
    return (colour * rng.uniform(0.85, 1.12) * (1 + side)).clip(0, 255)


def _overlap(top: int, left: int, shape: tuple[int, int], height: int, width: int):
    """The rows and columns of the frame that a cut-out at (top, left) covers, and its own."""
    rows = slice(max(0, top), min(height, top + shape[0]))
    columns = slice(max(0, left), min(width, left + shape[1]))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return None
    own = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    return (rows, columns), own


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def render_sound(folder: Path, scene: Scene) -> np.ndarray:
    """The clip's sound `(samples,)` int16 at 16 kHz mono: recordings at their levels, in a room,
    with noise."""
    rng = np.random.default_rng([scene.seed, 2])
    dry = render_stems(folder, scene).sum(0)
    decay, gain = rng.uniform(*ROOM_DECAY), rng.uniform(*ROOM_GAIN)
    tail = rng.normal(size=int(3 * decay * SAMPLE_RATE))
    tail *= np.exp(-np.arange(len(tail)) / (decay * SAMPLE_RATE))
    tail *= gain / np.sqrt((tail**2).sum())
    mix = dry + fftconvolve(dry, tail)[: len(dry)]
    mix += noise(len(mix), 40, rng.uniform(800, 5000), rng) * 10 ** (rng.uniform(*NOISE_LEVEL) / 20)
    mix *= min(1.0, 0.98 / np.abs(mix).max())
    return np.round(mix * 32767).astype(np.int16)


def render_stems(folder: Path, scene: Scene) -> np.ndarray:
    """What each object alone sounds like, dry: `(objects, samples)` float64."""
    stems = np.zeros((len(scene.objects), round(scene.seconds * SAMPLE_RATE)))
    for item in scene.objects:
        if item.sound is not None:
            rng = np.random.default_rng([scene.seed, 3, item.fid])
            stems[item.fid] = _stem(folder, item.sound, stems.shape[1], rng)
    return stems


def _stem(folder: Path, sound: Sound, samples: int, rng: np.random.Generator) -> np.ndarray:
    recorded = _recorded(folder / sound.recording, sound.cut, sound.pitch)
    stem, sounding = np.zeros(samples), np.zeros(samples, dtype=bool)
    for start, end in sound.intervals:
        first, last = round(start * SAMPLE_RATE), min(samples, round(end * SAMPLE_RATE))
        sounding[first:last] = True
        if sound.rate is None:
            stem[first:last] = _looped(recorded, last - first, rng)
            continue
        loud = _loudest(recorded)
        for moment, seconds in strokes(sound, (start, end)):
            at = round(moment * SAMPLE_RATE)
            piece = _faded(loud[: int(0.85 * seconds * SAMPLE_RATE)])[: samples - at]
            stem[at : at + len(piece)] += piece
    stem /= np.sqrt((stem[sounding] ** 2).mean()) + 1e-12
    return stem * 10 ** (sound.level_at(np.arange(samples) / SAMPLE_RATE) / 20)


@lru_cache(maxsize=64)
def _recorded(path: Path, cut: tuple[float, float], pitch: float) -> np.ndarray:
    samples = read_samples(path, *cut)
    return np.interp(np.arange(0, len(samples) - 1, pitch), np.arange(len(samples)), samples)


def _looped(recorded: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """The recording again and again with short rests; a long one begins somewhere within."""
    made = np.zeros(length)
    start = int(rng.uniform(0, max(0, len(recorded) - length))) if len(recorded) > length else 0
    at, part = 0, recorded[start:]
    while at < length:
        piece = _faded(part[: length - at])
        made[at : at + len(piece)] = piece
        at += len(piece) + int(rng.uniform(*GAP) * SAMPLE_RATE)
        part = recorded
    return made


def _loudest(recorded: np.ndarray) -> np.ndarray:
    """From just before its strongest onset."""
    grain = SAMPLE_RATE // 50
    if len(recorded) < 4 * grain:
        return recorded
    loud = (recorded[: len(recorded) // grain * grain].reshape(-1, grain) ** 2).mean(1)
    rise = np.diff(loud, prepend=0.0)
    rise[max(1, int(len(rise) * 0.7)) :] = -np.inf  # enough must follow
    return recorded[max(0, int(rise.argmax()) - 1) * grain :]


def _faded(piece: np.ndarray) -> np.ndarray:
    fade = min(int(CROSSFADE * SAMPLE_RATE), len(piece) // 4)
    if not fade:
        return piece
    ramp = np.ones(len(piece))
    ramp[: fade // 4] = np.linspace(0, 1, fade // 4)
    ramp[-fade:] = np.linspace(1, 0, fade)
    return piece * ramp
