"""Names that were never read, made of those that were."""

import math
import random
import re
from collections.abc import Collection, Iterable
from dataclasses import replace

import numpy as np

from .dataset import NameMixture, PreparedClip, Sentence


OTHERS = 8  # names at most that a sentence's may be mixed of: all their sentences are prepared
FEWEST = 4  # names in a mixture: the fewer, the nearer to one of them
LARGEST = 0.6  # share of one name


def rename(sentence: Sentence, names: Iterable[str]) -> dict[str, str]:
    """
    Args:
        sentence: that may hold its object's name.
        names: categories.

    Returns:
        Up to eight of the other names, the same each time, and the sentence with each in place of
        its object's; empty if it has none.
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
        unnamed: categories whose names are mixed each time, and into no other.
    """

    def __init__(
        self,
        clips: list[PreparedClip],
        probability: float,
        text_spans: dict[str, tuple[int, int]],
        unnamed: Collection[str] = (),
    ):
        self.names, self.probability, self.unnamed = (
            find_names(clips, unnamed),
            probability,
            frozenset(unnamed),
        )
        self.lengths = {text: end - start for text, (start, end) in text_spans.items()}

    def __call__(
        self, sentences: tuple[Sentence, ...], there: Collection[str], rng: np.random.Generator
    ) -> tuple[Sentence, ...]:
        """`there` are the categories of the clip's objects: no mixture is made of them, and where
        one of them has no name,
        the others keep theirs."""
        keep = not self.unnamed.isdisjoint(there)
        return tuple(self._mix(sentence, there, keep, rng) for sentence in sentences)

    def _mix(
        self, sentence: Sentence, there: Collection[str], keep: bool, rng: np.random.Generator
    ) -> Sentence:
        if sentence.category not in self.unnamed and (keep or rng.random() >= self.probability):
            return sentence
        texts = [text for name, text in rename(sentence, self.names).items() if name not in there]
        first = texts[rng.integers(len(texts))] if texts else ""
        texts = [text for text in texts if self.lengths[text] == self.lengths[first]]
        if len(texts) < FEWEST:
            return sentence
        chosen = rng.permutation(texts)[: rng.integers(FEWEST, len(texts) + 1)]
        return replace(
            sentence, mixture=NameMixture(tuple(map(str, chosen)), draw_shares(len(chosen), rng))
        )


def draw_shares(count: int, rng: np.random.Generator) -> tuple[float, ...]:
    """So many shares, none above 0.6, that sum to 1 and whose squares do: vectors of one length at
    right angles, which names nearly
    are about their mean, keep that length when they are mixed so."""
    while True:
        direction = rng.standard_normal(count)
        direction -= direction.mean()
        shares = 1 / count + math.sqrt(1 - 1 / count) * direction / np.linalg.norm(direction)
        if shares.max() <= LARGEST:
            return tuple(shares.tolist())


def find_names(clips: Iterable[PreparedClip], unnamed: Collection[str] = ()) -> list[str]:
    """The categories of all objects that sentences refer to, but for some."""
    found = {
        sentence.category for clip in clips for sentence in clip.sentences if not sentence.is_null
    }
    return sorted(found - set(unnamed))


def find_renamed(clips: Iterable[PreparedClip], unnamed: Collection[str] = ()) -> list[str]:
    """All sentences that mixtures are made of."""
    clips = list(clips)
    names = find_names(clips, unnamed)
    return sorted(
        {
            text
            for clip in clips
            for sentence in clip.sentences
            for text in rename(sentence, names).values()
        }
    )


def _words(category: str) -> str:
    return category.replace("_", " ")


def _pattern(category: str) -> re.Pattern:
    return re.compile(rf"\b{re.escape(_words(category))}\b", re.IGNORECASE)
