"""How much of the benchmark can be answered without looking ahead: EEMC answers each
second from what has passed (Eq. 3)."""

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dataset_script.synthetic.conditions import World
from dataset_script.synthetic.scene import Scene, SceneObject
from dataset_script.synthetic.sentences import FAMILIES, TEMPLATES, conditions_of


SHORTEST = 0.05  # s, a sound that has just begun is not heard yet


@dataclass(frozen=True)
class Knowledge:
    """Of one family of sentences, over the seconds in which the object is to be seen.

    Args:
        sentences: how many.
        known: the share of seconds at which what has passed already tells which object is meant.
        ceiling: mean J of one who then segments it exactly, and before guesses among the objects
            that may still be meant; seconds without the object count too, as 1.
    """

    sentences: int
    known: float
    ceiling: float


def until(scene: Scene, seconds: float) -> Scene:
    """The scene as it is after its first seconds: what enters or sounds later is not there yet."""
    return replace(
        scene, seconds=seconds, objects=tuple(_until(item, seconds) for item in scene.objects)
    )


def measure_causality(folder: str | Path, split: str = "test_s") -> dict[str, Knowledge]:
    """By family and "all", of the sentences of a synthetic benchmark's split that refer to
    something.

    A motion shows from the second frame on. The numbers are a ceiling for exact masks: mask quality
    multiplies them.
    """
    known: dict[str, list[bool]] = defaultdict(list)
    scores: dict[str, list[float]] = defaultdict(list)
    for path in sorted(Path(folder, "scenes").glob("*.json")):
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["split"] == split and not path.stem.startswith("null_"):
            for family, shares, shown in _ask(
                Scene.from_json(stored["scene"]), stored["expressions"]
            ):
                for name in (family, "all"):
                    known[name] += [bool(share == 1) for share in shares[shown]]
                    scores[name].append(float(np.where(shown, shares, 1.0).mean()))
    if not scores:
        raise ValueError(f"{folder} holds no sentence of split {split} that refers to something")
    return {
        family: Knowledge(
            len(scores[family]), float(np.mean(known[family])), float(np.mean(scores[family]))
        )
        for family in (*FAMILIES, "all")
        if family in scores
    }


def _ask(scene: Scene, expressions: list[dict]):
    """Of each sentence its family, the chance to point at its object at each second, and when that
    is to be seen."""
    times = np.arange(scene.seconds)
    shown = np.array([item.on_stage(times) for item in scene.objects])
    worlds = [World(until(scene, time + 1)) for time in times]
    for said in expressions:
        template = TEMPLATES[said["template"]]
        conditions = conditions_of(template, said["slots"])
        shares = np.zeros(len(times))
        for second, world in enumerate(worlds):
            hidden = (
                second == 0
                and "action" in template.dimensions
                and "acoustic" not in template.dimensions
            )
            if not hidden and world.refer(conditions) == said["fid"]:
                shares[second] = 1
                continue
            possible = shown[:, second] & (hidden | (world.together(conditions) > -1))
            if not possible[said["fid"]]:  # it looks wrong now: only a guess among all is left
                possible = shown[:, second]
            shares[second] = 1 / max(possible.sum(), 1)
        yield template.family, shares, shown[said["fid"]]


def _until(item: SceneObject, seconds: float) -> SceneObject:
    presence = (min(item.presence[0], seconds), min(item.presence[1], seconds))
    sound = item.sound
    if sound is not None:
        intervals = tuple(
            (start, min(end, seconds))
            for start, end in sound.intervals
            if start < seconds - SHORTEST
        )
        if not intervals:
            return replace(item, presence=presence, sound=None)
        end = intervals[-1][1]
        rate = sound.rate and (sound.rate[0], float(np.interp(end, sound.span, sound.rate)))
        sound = replace(
            sound,
            intervals=intervals,
            level=(sound.level[0], float(sound.level_at(end))),
            rate=rate,
        )
    return replace(item, presence=presence, sound=sound)
