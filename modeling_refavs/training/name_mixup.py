"""Names that were never read: in training, an object's name may become a mixture of two others' (mixup, arXiv 1710.09412, of F_T).

A name that stands in no training sentence comes out of RoBERTa between those that do. To a model that knew each name alone it means
none of the objects, and so nothing; after this it means some object, if not which of several (docs/reproduction.md, section 10).
"""

import random
import re
from collections.abc import Collection, Iterable
from dataclasses import replace

import numpy as np

from .clips import NameMixture, PreparedClip, Sentence


OTHERS = 8  # names at most that a sentence's may be mixed of: all their sentences are prepared
SHARES = (0.3, 0.7)  # of the first of two names


def rename(sentence: Sentence, names: Iterable[str]) -> dict[str, str]:
    """
    Args:
        sentence: that may hold its object's name.
        names: categories.

    Returns:
        Up to eight of the other names, the same each time, and the sentence with each in place of its object's; empty if it has none.
    """
    if sentence.is_null or not (name := _pattern(sentence.category)).search(sentence.text):
        return {}
    others = sorted(set(names) - {sentence.category})
    drawn = random.Random(sentence.text).sample(others, min(OTHERS, len(others)))
    return {other: name.sub(_words(other), sentence.text) for other in drawn}


class NameMixup:
    """
    Args:
        clips: of the training split.
        probability: that a name is mixed.
        text_spans: of each prepared sentence, where its tokens start and end.
    """

    def __init__(self, clips: list[PreparedClip], probability: float, text_spans: dict[str, tuple[int, int]]):
        self.names, self.probability = find_names(clips), probability
        self.lengths = {text: end - start for text, (start, end) in text_spans.items()}

    def __call__(
        self, sentences: tuple[Sentence, ...], there: Collection[str], rng: np.random.Generator
    ) -> tuple[Sentence, ...]:
        """`there` are the categories of the clip's objects: no mixture is made of them."""
        return tuple(self._mix(sentence, there, rng) for sentence in sentences)

    def _mix(self, sentence: Sentence, there: Collection[str], rng: np.random.Generator) -> Sentence:
        if rng.random() >= self.probability:
            return sentence
        texts = [text for name, text in rename(sentence, self.names).items() if name not in there]
        pairs = [(one, two) for one in texts for two in texts if one < two and self.lengths[one] == self.lengths[two]]
        if not pairs:
            return sentence
        return replace(sentence, mixture=NameMixture(*pairs[rng.integers(len(pairs))], rng.uniform(*SHARES)))


def find_names(clips: Iterable[PreparedClip]) -> list[str]:
    """The categories of all objects that sentences refer to."""
    return sorted({sentence.category for clip in clips for sentence in clip.sentences if not sentence.is_null})


def find_renamed(clips: Iterable[PreparedClip]) -> list[str]:
    """All sentences that mixtures are made of."""
    clips = list(clips)
    names = find_names(clips)
    return sorted({text for clip in clips for sentence in clip.sentences for text in rename(sentence, names).values()})


def _words(category: str) -> str:
    return category.replace("_", " ")


def _pattern(category: str) -> re.Pattern:
    return re.compile(rf"\b{re.escape(_words(category))}\b", re.IGNORECASE)
