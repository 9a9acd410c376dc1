"""Whether the model answers by what a sentence is about: the effects of `refavs explain` over a
synthetic benchmark, whose sentences are known to need each of their words."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dataset_script.statistics import CUE_WORDS

from ..feature_extraction_refavs import SAMPLING_RATE
from ..inference.dependence import Dependence, Question, measure_dependence
from ..video_refavs import read_wav


ARTICLES = ("a", "an", "the")
ACOUSTIC = CUE_WORDS["acoustic"].split()
SURE = 0.5  # of the seconds, in which something must be found for an answer to have what to lose


@dataclass(frozen=True)
class Effects:
    """Means over the sentences of one dimension that the model finds something for.

    Args:
        sentences: how many.
        no_sound, swapped_sound, muted_second, no_memory: see [`Dependence`]; a muted second is the
            one of the clip that matters most.
        key_word: of masked words that name, colour or place a thing or speak of sound.
        article: of masked articles.
    """

    sentences: int
    no_sound: float
    swapped_sound: float
    muted_second: float
    no_memory: float
    key_word: float
    article: float


def measure_effects(
    model: Any, processor: Any, folder: str | Path, clips: int = 200
) -> dict[str, Effects]:
    """By dimension: "acoustic" (alone or with others), "appearance" (colours and surfaces, without
    any other) and "all".

    Args:
        model, processor: see [`segment_video`].
        folder: of a drawn benchmark.
        clips: of it, the first ones; one sentence of each dimension is asked of each.

    Raises:
        ValueError: there is no clip.
    """
    found: dict[str, list[tuple[Dependence, set[str]]]] = defaultdict(list)
    for path in islice(_clips(Path(folder)), clips):
        stored = json.loads(path.read_text(encoding="utf-8"))
        features = _encode(model, processor, Path(folder, "media", path.stem))
        for name, said in _sentences(stored["expressions"]).items():
            question = Question(model, processor, features, said["text"])
            if question.ask().masks.any(axis=(2, 3)).mean() >= SURE:
                keys = {*" ".join(said["slots"].values()).lower().split(), *ACOUSTIC}
                found[name].append((measure_dependence(question), keys - {*ARTICLES}))
    if not found:
        raise ValueError(f"{folder}: no clip of a drawn benchmark is there, or nothing is found")
    found["all"] = [each for group in found.values() for each in group]
    return {name: _average(group) for name, group in found.items()}


def _clips(folder: Path) -> Iterator[Path]:
    return (
        path
        for path in sorted((folder / "scenes").glob("*.json"))
        if not path.stem.startswith("null_")
    )


def _encode(model: Any, processor: Any, media: Path) -> Any:
    frames = [Image.open(path) for path in sorted((media / "frames").iterdir())]
    sound = read_wav((media / "audio.wav").read_bytes())
    inputs = processor(frames=frames, audio=sound, sampling_rate=SAMPLING_RATE)
    return model.encode_clips(**inputs.to(model.device, model.dtype))


def _sentences(expressions: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The first of each dimension."""
    first: dict[str, dict[str, Any]] = {}
    for said in expressions:
        dimensions = said["dimensions"]
        if "acoustic" in dimensions:
            first.setdefault("acoustic", said)
        elif dimensions == ["appearance"]:
            first.setdefault("appearance", said)
    return first


def _average(group: list[tuple[Dependence, set[str]]]) -> Effects:
    words: dict[str, list[float]] = {"key_word": [], "article": []}
    for found, keys in group:
        for word, effect in zip(found.words, found.by_word.tolist(), strict=True):
            kind = word.lower()
            if kind in ARTICLES or kind in keys:
                words["article" if kind in ARTICLES else "key_word"].append(effect)
    effects = {
        name: [getattr(found, name) for found, _ in group]
        for name in ("no_sound", "swapped_sound", "no_memory")
    }
    effects["muted_second"] = [found.by_second.max() for found, _ in group]
    means = {name: float(np.mean(values)) for name, values in {**words, **effects}.items()}
    return Effects(sentences=len(group), **means)
