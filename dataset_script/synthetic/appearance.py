"""What a scene is made of and what is said of it: drawn things, or a library's photographs. The
scene graph, the conditions and the splits are the same."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from . import drawing, photographs, sounds
from .library import Library, read_library
from .objects import CATEGORIES, NOVELTY, SEEN, UNSEEN, super_category_of
from .sampling import DRAWN, OBJECT_COUNTS, Cast
from .scene import Scene
from .sentences import DRAWN as DRAWN_LANGUAGE
from .sentences import PHOTOGRAPH_TEMPLATES, SLOTS, Language


class Appearance(Protocol):
    """How clips look, sound and are spoken of.

    Args:
        language: what may be said.
        object_counts: share of scenes with 1, 2, ... objects.
        attempts: scenes tried for a wanted template.
        lends_sentences: may a null clip take another clip's sentence as it is?
    """

    language: Language
    object_counts: tuple[float, ...]
    attempts: int
    lends_sentences: bool

    def cast(self, split: str) -> Cast:
        """What its objects look and sound like in a split."""

    def categories(self, split: str) -> tuple[str, ...]:
        """Those of its objects."""

    def referents(self, split: str) -> tuple[str, ...]:
        """The categories that its sentences are about; none for all."""

    def borrowed_from(self, split: str) -> str:
        """The split whose scenes, never drawn, lend a null clip of `split` their sentences."""

    def strange(self, split: str) -> tuple[str, ...]:
        """Names of things that are nowhere."""

    def draw(
        self, scene: Scene, time: float, height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `drawing.draw`."""

    def render_sound(self, scene: Scene) -> np.ndarray:
        """As `sounds.render_sound`."""

    def taxonomy(self, novel: bool) -> dict[str, Any]:
        """The content of `taxonomy.json`."""


class Drawn:
    """Silhouettes and timbres."""

    language = DRAWN_LANGUAGE
    object_counts = OBJECT_COUNTS
    attempts = 800
    lends_sentences = False

    def cast(self, split: str) -> Cast:
        return DRAWN

    def categories(self, split: str) -> tuple[str, ...]:
        return SEEN + self.referents(split)

    def referents(self, split: str) -> tuple[str, ...]:
        return UNSEEN if split == "test_u" else ()

    def borrowed_from(self, split: str) -> str:
        return split

    def strange(self, split: str) -> tuple[str, ...]:
        return ()

    def draw(
        self, scene: Scene, time: float, height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        return drawing.draw(scene, time, height, width)

    def render_sound(self, scene: Scene) -> np.ndarray:
        return sounds.render_sound(scene)

    def taxonomy(self, novel: bool) -> dict[str, Any]:
        kinds = (*CATEGORIES, NOVELTY) if novel else CATEGORIES
        return {
            "categories": {name: super_category_of(name) for name in kinds},
            "unseen": list(UNSEEN),
        }


WEIGHTS = {
    "semantic": 12,
    "acoustic": 10,
    "semantic + acoustic": 6,
    "acoustic + action": 4,
    "acoustic + temporal": 2.5,
    "audio-visual": 4,
    "spatial": 0.8,
}  # of families; others 1


@dataclass(frozen=True, eq=False)
class Photographed:
    """Pictures and recordings of a library."""

    library: Library
    language: Language
    casts: dict[str, photographs.LibraryCast]
    object_counts: tuple[float, ...] = (0.2, 0.42, 0.26, 0.12)
    attempts: int = 25
    lends_sentences: bool = True

    def cast(self, split: str) -> Cast:
        return self.casts[split]

    def categories(self, split: str) -> tuple[str, ...]:
        return self.casts[split].categories

    def referents(self, split: str) -> tuple[str, ...]:
        return ()

    def borrowed_from(self, split: str) -> str:
        return "train"  # names of all seen kinds

    def strange(self, split: str) -> tuple[str, ...]:
        return tuple(self.library.splits[split].strange)

    def draw(
        self, scene: Scene, time: float, height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        return photographs.draw(self.library.folder, scene, time, height, width)

    def render_sound(self, scene: Scene) -> np.ndarray:
        return photographs.render_sound(self.library.folder, scene)

    def taxonomy(self, novel: bool) -> dict[str, Any]:
        kinds = self.library.kinds
        return {
            "categories": {name: kind.super_category for name, kind in kinds.items()},
            "unseen": [name for name, kind in kinds.items() if kind.unseen],
        }


PLACES = ("left", "right", "above", "under", "near")


def speak_of(library: Library) -> Language:
    """Names with their synonyms, the name itself as often as all of them."""
    kinds = library.kinds
    names = {name: (name,) * max(1, len(kind.also)) + kind.also for name, kind in kinds.items()}
    groups = sorted({group for kind in kinds.values() for group in kind.groups})
    sounds = sorted({recording.does for recording in library.recordings})
    words = {
        slot: {value: (word,) for value, word in known.items()} for slot, known in SLOTS.items()
    }
    words |= {"thing": names | {name: (name,) for name in library.strange}, "other": names}
    # what is in front of what depends on circles, which thin cut-outs do not fill
    words["place"] = {place: words["place"][place] for place in PLACES}
    words["group"] = {group: (group,) for group in groups}
    words["does"] = words["cry"] = {word: (word,) for word in sounds}
    return Language(PHOTOGRAPH_TEMPLATES, words, WEIGHTS)


@lru_cache(maxsize=2)
def appearance_of(library: str) -> Appearance:
    """Drawn things without a library's folder."""
    if not library:
        return Drawn()
    found = read_library(Path(library))
    casts = {split: photographs.LibraryCast(found, split) for split in found.splits}
    return Photographed(found, speak_of(found), casts)
