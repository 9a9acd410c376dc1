"""The paper's three rules for sentences (Sec. 3.4), as far as an annotation can tell: one object
only, no needless word, clear."""

import re

import numpy as np

from ..annotations import ERROR_PREFIX, PLACEHOLDER
from ..statistics import CUE_WORDS, LONGEST_SHOWN, sentence_cues
from ..synthetic.conditions import Condition
from ..synthetic.sentences import (
    ALL_TEMPLATES,
    SLOTS,
    TEMPLATES,
    Language,
    Template,
    find_expressions,
)
from .annotated_world import AnnotatedWorld
from .annotation import Annotation, SentenceAnnotation
from .sentence_parser import ANYTHING, NO_NOUNS, RELATIONS, Statement, parse_sentence


PRONOUNS, NEGATIONS = (
    frozenset(words.split())
    for words in (
        "it he she they him her them his its their hers theirs",
        "no not never without cannot nothing neither nor silent",
    )
)
KINDS = ("category", "group")


def check_sentence(annotation: Annotation, sentence: SentenceAnnotation) -> list[str]:
    """What the three rules have against a sentence; nothing where they are kept, as far as masks,
    sounding intervals and categories tell.

    Colours, loudness, rhythm, depth and actions are not in an annotation: of sentences that speak
    of these alone nothing is said.

    Raises:
        ValueError: the sentence means an object that is not there.
    """
    remarks = clarity_remarks(sentence.text)
    world = AnnotatedWorld(annotation)
    statement = parse_sentence(sentence.text, _kinds(annotation))
    if not statement.conditions and not statement.others:
        return [*remarks, "it names neither an object nor a property"]
    remarks += _landmark_remarks(world, statement)
    if sentence.fid is None:
        return remarks + _null_remarks(world, statement)
    target = [thing.fid for thing in annotation.objects].index(annotation.find(sentence.fid).fid)
    unique = _uniqueness_remarks(world, statement, target)
    return remarks + (unique or _necessity_remarks(world, statement, target))


def _kinds(annotation: Annotation) -> list[tuple[str, str]]:
    return [(thing.category, thing.super_category) for thing in annotation.objects]


def _name(world: AnnotatedWorld, index: int) -> str:
    thing = world.annotation.objects[index]
    return f"object {thing.fid} ({thing.category})"


def fits(world: AnnotatedWorld, statement: Statement) -> np.ndarray:
    """The margin of a whole sentence for each object, `(objects,)`; where it says what cannot be
    told, nothing is certain but what is false."""
    margins = world.together(statement.conditions)
    return np.minimum(margins, 0.0) if statement.others else margins


def _uniqueness_remarks(world: AnnotatedWorld, statement: Statement, target: int) -> list[str]:
    for place, phrase in enumerate(statement.phrases):
        margin = _margin(world, statement, place)[target]
        if margin <= -1:
            return [f'"{phrase}" is not true of {_name(world, target)}']
    margins = fits(world, statement)
    rivals = [index for index in np.flatnonzero(margins >= 1) if index != target]
    if rivals:
        return [f"it fits {' and '.join(_name(world, index) for index in rivals)} too"]
    return []


def _margin(world: AnnotatedWorld, statement: Statement, place: int) -> np.ndarray:
    """Of one condition; a superlative is one among those of the sentence's kind."""
    condition = statement.conditions[place]
    kinds = tuple(c for c in statement.conditions if c.kind in KINDS)
    if condition.kind in KINDS:
        return world.margins(condition)
    among = world.together((*kinds, condition))
    return np.where(world.together(kinds) >= 1, among, world.margins(condition))


def _necessity_remarks(world: AnnotatedWorld, statement: Statement, target: int) -> list[str]:
    """Words without which the sentence would fit no other object either. The noun is none of them:
    every sentence has one."""
    if len(statement.conditions) + bool(statement.others) < 2:
        return []
    remarks = []
    for place, phrase in enumerate(statement.phrases):
        noun = statement.conditions[place].kind in KINDS
        alone = not noun and _is_alone(world, statement.without(place), target)
        if alone and not statement.others:
            remarks.append(f'"{phrase}" is not needed: no other object fits without it either')
    if statement.others and _is_alone(world, statement.conditions, target):
        words = " ".join(statement.others)
        remarks.append(f'"{words}" is not needed: no other object fits without it either')
    return remarks


def _is_alone(world: AnnotatedWorld, conditions: tuple[Condition, ...], target: int) -> bool:
    """Is all else excluded? Of a landmark its own relation is never true."""
    margins = world.together(conditions)
    return bool((np.delete(margins, target) <= -1).all())


def _null_remarks(world: AnnotatedWorld, statement: Statement) -> list[str]:
    found = np.flatnonzero(fits(world, statement) >= 1)
    if not len(found):
        return []
    names = " and ".join(_name(world, index) for index in found)
    return [f"it fits {names}, and a null sentence must fit nothing"]


def _landmark_remarks(world: AnnotatedWorld, statement: Statement) -> list[str]:
    remarks = []
    for condition, phrase in zip(statement.conditions, statement.phrases, strict=True):
        found = np.flatnonzero(world.together(condition.landmark) >= 1)
        if condition.landmark and len(found) > 1:
            names = " and ".join(_name(world, index) for index in found)
            remarks.append(f'"{phrase}" does not say which one: {names} fit')
    return remarks


def clarity_remarks(text: str) -> list[str]:
    """What is unclear in a sentence's words, whatever the clip."""
    words = re.findall(r"[\w'-]+", text.lower())
    remarks = []
    if text.strip() == PLACEHOLDER or text.startswith(ERROR_PREFIX):
        return ["it is no sentence"]
    if len(words) > LONGEST_SHOWN:
        remarks.append(f"it has {len(words)} words, of which the model reads about {LONGEST_SHOWN}")
    if text != " ".join(text.split()) or "_" in text:
        remarks.append("it has needless spaces, or _ for a space")
    if text[:1].islower() or not text.rstrip().endswith((".", "?")):
        remarks.append("it should begin with a capital and end with a full stop")
    if words and words[0] in PRONOUNS:
        remarks.append(f'nothing is named before "{words[0]}"')
    if sum(word in NEGATIONS or word.endswith("n't") for word in words) > 1:
        remarks.append("it negates twice")
    if {"objects", "things", "both", "all"} & set(words[:3]):
        remarks.append("it speaks of several objects, and a sentence means one")
    return remarks


# Families and grades


def describe_sentence(text: str) -> tuple[list[str], int]:
    """The cues that a sentence's words speak of, as `refavs evaluate --by dimension` tells them,
    and its grade, 1-5: that of the paper's template that says the same, else the highest of those
    that say a part of it.

    Example:
        >>> describe_sentence("The last dog to make a sound.")
        (['acoustic', 'temporal'], 5)
    """
    statement = parse_sentence(text)
    words = set(re.findall(r"[a-z]+", text.lower()))
    named = statement.names_kind or not words & ANYTHING
    said = {_aspect(condition) for condition in statement.conditions}
    others = set(" ".join(statement.others).split())
    looks, acts = (set(CUE_WORDS[cue].split()) for cue in ("appearance", "action"))
    said |= {"looks"} if others & looks else set()
    moves = others & acts or any(word.endswith("ing") for word in others - looks)
    said |= {"motion"} if moves else set()
    said |= {"kind"} if named else set()
    grade = _GRADES.get(frozenset(said))
    parts = [value for aspects, value in _GRADES.items() if aspects <= said]
    return sentence_cues(text), grade or max(parts, default=1)


def _aspect(condition: Condition) -> str:
    """What a condition speaks of, whatever its words are."""
    kind = {"category": "kind", "group": "kind", "colour": "looks", "surface": "looks"}.get(
        condition.kind, condition.kind
    )
    if kind == "{place}" or kind in tuple(RELATIONS)[:8]:
        kind = "place"
    marks = sorted({_aspect(mark) for mark in condition.landmark} - {"kind"})
    return " ".join([kind, *marks])


_GRADES = {
    frozenset(map(_aspect, template.conditions)): template.grade
    for template in reversed(TEMPLATES.values())
}


# Suggestions


def _suggested() -> dict[str, Template]:
    """The paper's templates, and those of places and of order within a kind."""
    more = ("group", "leftmost", "rightmost", "topmost", "lowest", "biggest", "smallest")
    also = {
        name: template
        for name, template in ALL_TEMPLATES.items()
        if template.needs == "any" and any(word in name for word in (*more, "second"))
    }
    return {**TEMPLATES, **also}


_SUGGESTED = _suggested()


def suggest_sentences(annotation: Annotation, fid: int) -> list[str]:
    """Sentences of the paper's families that the annotation shows to be true of this object alone,
    with no needless word; those that are there already are left out.

    Raises:
        ValueError: there is no such object.
    """
    thing = annotation.find(fid)
    world = AnnotatedWorld(annotation)
    target = [other.fid for other in annotation.objects].index(thing.fid)
    kinds = {other.category: (other.category,) for other in annotation.objects}
    nouns = sorted({other.super_category for other in annotation.objects} - NO_NOUNS)
    groups = {group: ("person" if group == "human" else group,) for group in nouns}
    words = {
        slot: {value: (word,) for value, word in named.items()} for slot, named in SLOTS.items()
    }
    words |= {"thing": kinds, "other": kinds, "group": groups}
    language = Language(_SUGGESTED, words, {})
    texts = [
        ways[0].text
        for template in _SUGGESTED.values()
        for ways in find_expressions(world, template, language)
        if ways[0].fid == target
    ]
    present = {sentence.text for sentence in annotation.sentences}
    return [
        text
        for text in dict.fromkeys(texts)
        if text not in present and not check_sentence(annotation, SentenceAnnotation(text, fid))
    ]
