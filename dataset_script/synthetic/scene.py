"""The scene graph: everything that is true of a clip, before a pixel or a sample exists.

Lengths are in units of the frame's shorter side, x to the right and y down; times are in seconds.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np


SLIDE = (
    0.4  # s, an object slides in from the nearer side before it has entered, and out after it left
)
TRAVEL = 0.32  # of a drifting object, over the whole clip
BOUNCE = 0.12  # height of a bounce
SWAY = 0.1  # to each side
SPIN = 75.0  # degrees a second
BOUNCE_PERIOD, SWAY_PERIOD = 1.3, 3.1  # s, no whole number: one frame a second still shows them


@dataclass(frozen=True)
class Sound:
    """How one object sounds.

    Args:
        intervals: (start, end) of each stretch of sound, s, in order.
        level: root mean square at the start of the first and the end of the last interval, dB of
            full scale; linear in between.
        rate: strokes a second at the same two moments; None is one steady tone, hiss or roll.
        pitch: factor on the pitch of the category's timbre or of the recording.
        recording, cut: in a library, the file and its part from `cut[0]` to `cut[1]`, s.
        does: in a library, what one hears the object doing, as in "the barking dog".
    """

    intervals: tuple[tuple[float, float], ...]
    level: tuple[float, float]
    rate: tuple[float, float] | None
    pitch: float
    recording: str = ""
    cut: tuple[float, float] = (0.0, 0.0)
    does: str = ""

    @property
    def span(self) -> tuple[float, float]:
        return self.intervals[0][0], self.intervals[-1][1]

    @property
    def seconds(self) -> float:
        return sum(end - start for start, end in self.intervals)

    def level_at(self, times: np.ndarray) -> np.ndarray:
        """Root mean square at each time, dB of full scale."""
        return np.interp(times, self.span, self.level)


@dataclass(frozen=True)
class SceneObject:
    """One object. `depth` 0 is nearest to the viewer; on stage from `presence[0]` to
    `presence[1]`.

    `audible`: of a kind that can sound. `groups`: wider words for the kind. `like`: kinds that
    could be taken for it. `picture`: its file in a library, by `turn` degrees and `mirrored`.
    """

    fid: int
    category: str
    colour: str
    surface: str
    radius: float
    place: tuple[float, float]
    motion: str
    phase: float
    presence: tuple[float, float]
    depth: int
    sound: Sound | None = None
    audible: bool = True
    groups: tuple[str, ...] = ()
    like: tuple[str, ...] = ()
    picture: str = ""
    turn: float = 0.0
    mirrored: bool = False

    def on_stage(self, times: np.ndarray) -> np.ndarray:
        return (times >= self.presence[0]) & (times <= self.presence[1])


@dataclass(frozen=True)
class Scene:
    """A clip before it is drawn. `seed` feeds the texture, the noise and the strokes' grain: same
    scene, same bytes. `ground`: its background in a library."""

    seed: int
    seconds: float
    width: float
    height: float
    objects: tuple[SceneObject, ...]
    ground: str = ""

    def centre(self, item: SceneObject, times: np.ndarray) -> np.ndarray:
        """Centre `(times, 2)` of an object: its motion, and its slide beyond the nearer side while
        off stage."""
        x = np.full(len(times), item.place[0])
        y = np.full(len(times), item.place[1])
        if item.motion in ("leftwards", "rightwards"):
            direction = 1 if item.motion == "rightwards" else -1
            x += direction * TRAVEL * (times / self.seconds - 0.5)
        elif item.motion == "bouncing":
            y -= BOUNCE * np.abs(np.sin(np.pi * times / BOUNCE_PERIOD + item.phase))
        elif item.motion == "swaying":
            x += SWAY * np.sin(2 * np.pi * times / SWAY_PERIOD + item.phase)
        enter, leave = item.presence
        slide = np.clip(np.maximum(enter - times, times - leave) / SLIDE, 0, 1)
        outside = (
            -1.5 * item.radius if item.place[0] < self.width / 2 else self.width + 1.5 * item.radius
        )
        return np.stack([x + slide * (outside - x), y], axis=1)

    def angle(self, item: SceneObject, time: float) -> float:
        """Rotation in degrees."""
        return SPIN * time if item.motion == "spinning" else 0.0

    def has_twin(self, item: SceneObject) -> bool:
        """Is another of its kind, or like it, on stage with it? Then no ear can tell which of the
        two sounds."""
        return any(
            other.fid != item.fid
            and (other.category == item.category or other.category in item.like)
            and max(item.presence[0], other.presence[0]) < min(item.presence[1], other.presence[1])
            for other in self.objects
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Scene":
        return cls(**{**stored, "objects": tuple(map(_object_from_json, stored["objects"]))})


def _object_from_json(stored: dict[str, Any]) -> SceneObject:
    tuples = ("place", "presence", "groups", "like")
    item = SceneObject(**{k: tuple(v) if k in tuples else v for k, v in stored.items()})
    if item.sound is None:
        return item
    sound = stored["sound"]
    rate = None if sound["rate"] is None else tuple(sound["rate"])
    intervals = tuple(tuple(interval) for interval in sound["intervals"])
    level, cut = tuple(sound["level"]), tuple(sound.get("cut", (0.0, 0.0)))
    known = {**sound, "intervals": intervals, "level": level, "rate": rate, "cut": cut}
    return replace(item, sound=Sound(**known))


@dataclass(frozen=True)
class LabelledScene:
    """A clip's scene graph; `categories` in the order of its objects' numbers."""

    clip_id: str
    scene: Scene

    @property
    def is_null(self) -> bool:
        return self.clip_id.startswith("null_")

    @property
    def categories(self) -> list[str]:
        return [item.category for item in self.scene.objects]


def read_scenes(tree: Path, split: str) -> list[LabelledScene]:
    """The scene graphs of a split, by name."""
    scenes = []
    for path in sorted((tree / "scenes").glob("*.json")):
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["split"] == split:
            scenes.append(LabelledScene(path.stem, Scene.from_json(stored["scene"])))
    if not scenes:
        raise ValueError(
            f"{tree} holds no scene graphs of split {split}: encoders are pretrained on synthetic "
            "clips"
        )
    return scenes
