"""Sentences that a scene makes true of exactly one object, or of none: unique, clear, and without a
needless word."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from .conditions import Condition, World, only_one
from .templates import SLOTS, TEMPLATES, Template


SENTENCES = (2, 5, 8, 9)  # at most, of a clip of 1-4 objects
WEIGHTS = {
    "acoustic": 2,
    "acoustic + action": 3,
    "acoustic + temporal": 5,
    "audio-visual": 5,
    "spatial": 3,
}  # others 1


@dataclass(frozen=True)
class Expression:
    """A sentence about a clip.

    Args:
        text: in English.
        template, family, grade, dimensions: see `Template`.
        slots: what fills the template's slots.
        fid: the object that it refers to, None if it is true of nothing.
        margin: its clarity, the smallest over the objects, in units of the stated gaps.
    """

    text: str
    template: str
    slots: dict[str, str]
    family: str
    grade: int
    dimensions: tuple[str, ...]
    fid: int | None
    margin: float


def find_expressions(world: World, template: Template) -> list[tuple[Expression, ...]]:
    """All that a template can say of one object of a clip, and nothing needless: a tuple of ways to
    say it each."""
    found = []
    for slots in _fillings(world, template):
        conditions = conditions_of(template, slots)
        fid = world.refer(conditions)
        if fid is not None and is_needed(world, conditions, fid):
            words = {slot: SLOTS[slot][value] for slot, value in slots.items()}
            about = (template.name, slots, template.family, template.grade, template.dimensions)
            margin = _clarity(world, conditions)
            found.append(
                tuple(
                    Expression(form.format(**words), *about, fid, margin) for form in template.forms
                )
            )
    return found


def conditions_of(template: Template, slots: dict[str, str]) -> tuple[Condition, ...]:
    """What a sentence says."""
    return tuple(_fill(condition, slots) for condition in template.conditions)


def is_needed(world: World, conditions: tuple[Condition, ...], fid: int) -> bool:
    """Is every condition needed: without it, would the sentence be clearly true of another object
    too?

    A landmark is named in the sentence, so it does not count as another object. What is heard must
    be needed even by
    someone who sees that cups never sound: there the object and the other must both be able to
        sound. In a clip of
    one object no word can narrow the choice, and a sentence may hold only one condition.
    """
    if len(world.objects) == 1:
        return len(conditions) == 1
    for condition in conditions:
        rest = tuple(other for other in conditions if other is not condition)
        landmarks = {world.refer(other.landmark) for other in conditions if other.landmark}
        rivals = [
            i for i in np.flatnonzero(world.together(rest) >= 1) if i != fid and i not in landmarks
        ]
        if any(inner.acoustic for inner in condition.landmark):
            if not _depends_on_ear(world, condition, fid):
                return False
        elif condition.acoustic:
            rivals = [i for i in rivals if _equally_audible(world, condition, fid, i)]
        if not rivals:
            return False
    return True


def _depends_on_ear(world: World, condition: Condition, fid: int) -> bool:
    """Would another object be meant if another one were the landmark that is heard, as it well
    could be?"""
    landmark = world.refer(condition.landmark)
    others = [i for i in range(len(world.objects)) if i != landmark and world.could_sound(i)]
    answers = {only_one(world.beside(condition.kind, other)) for other in others}
    return world.could_sound(landmark) and bool(answers - {None, fid})


def _equally_audible(world: World, condition: Condition, one: int, two: int) -> bool:
    """Do the frames not tell of which object the heard condition is true? Which of two that take
    turns sounds, neither."""
    turns = (
        condition.kind == "sounding" and world.objects[one].category == world.objects[two].category
    )
    return turns or (world.could_sound(one) and world.could_sound(two))


def choose_expressions(
    rng: np.random.Generator,
    world: World,
    referents: tuple[str, ...] = (),
    first: str | None = None,
) -> list[Expression]:
    """Draw a clip's sentences, no template twice and the harder families more often. None if
    `first` does not fit.

    Args:
        rng: the only source of chance.
        world: the clip.
        referents: only sentences about objects of these categories, if any are given.
        first: a template to begin with.
    """
    weights = np.array([WEIGHTS.get(template.family, 1) for template in TEMPLATES.values()])
    order = rng.choice(
        list(TEMPLATES), len(TEMPLATES), replace=False, p=weights / weights.sum()
    ).tolist()
    chosen: list[Expression] = []
    for name in sorted(order, key=lambda name: name != first):
        if len(chosen) < SENTENCES[len(world.objects) - 1]:
            found = find_expressions(world, TEMPLATES[name])
            found = [
                ways
                for ways in found
                if not referents or world.objects[ways[0].fid].category in referents
            ]
            if found:
                ways = found[rng.integers(len(found))]
                chosen.append(ways[rng.integers(len(ways))])
            elif name == first:
                return []
    return chosen


def as_null(world: World, expression: Expression) -> Expression | None:
    """The sentence of another clip as a null sentence of this one, if it is clearly true of nothing
    here.

    Its landmarks exist, and of several conditions each is needed: without it the sentence would be
    true of something.
    """
    conditions = conditions_of(TEMPLATES[expression.template], expression.slots)
    if (world.together(conditions) > -1).any():
        return None
    for condition in conditions:
        rest = tuple(other for other in conditions if other is not condition)
        alone = len(world.objects) == 1 or world.refer(condition.landmark) is None
        if (condition.landmark and alone) or (world.together(rest) < 1).all():
            return None
    return replace(expression, fid=None, margin=_clarity(world, conditions))


def _clarity(world: World, conditions: tuple[Condition, ...]) -> float:
    return round(float(np.abs(world.together(conditions)).min()), 3)


def _fillings(world: World, template: Template) -> Iterator[dict[str, str]]:
    """Values for a template's slots, of those that the clip shows."""
    attributes = {
        "thing": "category",
        "other": "category",
        "colour": "colour",
        "surface": "surface",
        "motion": "motion",
    }
    shown = {
        slot: {getattr(item, name) for item in world.objects} for slot, name in attributes.items()
    }
    shown["place"] = set(SLOTS["place"])
    for values in product(
        *([value for value in SLOTS[slot] if value in shown[slot]] for slot in template.slots)
    ):
        slots = dict(zip(template.slots, values, strict=True))
        if slots.get("thing") is None or slots.get("thing") != slots.get("other"):
            yield slots


def _fill(condition: Condition, values: dict[str, str]) -> Condition:
    landmark = tuple(_fill(inner, values) for inner in condition.landmark)
    return Condition(condition.kind.format(**values), condition.value.format(**values), landmark)
