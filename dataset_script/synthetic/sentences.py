"""Templates of the paper's sentence families, and the sentences that they make of a scene."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from .conditions import Condition, World, only_one
from .drawing import COLOURS, SURFACES
from .objects import CATEGORIES, NOVELTY


SLOTS: dict[str, dict[str, str]] = {
    "thing": {name: name for name in (*CATEGORIES, NOVELTY)},
    "other": {name: name for name in CATEGORIES},
    "colour": {name: name for name in COLOURS},
    "surface": {name: name for name in SURFACES},
    "motion": {
        "still": "staying still",
        "leftwards": "moving to the left",
        "rightwards": "moving to the right",
        "bouncing": "bouncing up and down",
        "swaying": "swaying from side to side",
        "spinning": "spinning",
    },
    "place": {
        "left": "to the left of",
        "right": "to the right of",
        "above": "above",
        "under": "under",
        "near": "near",
        "in front": "in front of",
        "behind": "behind",
        "on": "standing on",
    },
    "group": {},
    "does": {},
    "cry": {},
}
AFTER_NOUN = ("playing", "driving", "calling")  # no one says "the playing trumpet"


@dataclass(frozen=True)
class Template:
    """A kind of sentence.

    Args:
        name: unique.
        family: the paper's family.
        grade: the paper's difficulty, 1-5.
        dimensions: the cues that it takes.
        conditions: what it says; values and kinds may hold slots.
        forms: ways to say it.
        objects: how many a clip must hold for every word to be needed.
        needs: of its conditions, those without which it would fit another object too: "all", "any",
            or "none", since people say more than is needed ("the barking dog").
    """

    name: str
    family: str
    grade: int
    dimensions: tuple[str, ...]
    conditions: tuple[Condition, ...]
    forms: tuple[str, ...]
    objects: int
    needs: str = "all"

    @property
    def slots(self) -> tuple[str, ...]:
        return tuple(slot for slot in SLOTS if "{" + slot + "}" in self.forms[0])


THING, COLOUR = Condition("category", "{thing}"), Condition("colour", "{colour}")
SURFACE, MOTION = Condition("surface", "{surface}"), Condition("motion", "{motion}")
SOUNDING, FIRST, LAST = (
    Condition("sounding"),
    Condition("first to sound"),
    Condition("last to sound"),
)
OTHER = (Condition("category", "{other}"),)
PLACE, NEAR = Condition("{place}", landmark=OTHER), Condition("near", landmark=OTHER)


def _near(*landmark: Condition) -> Condition:
    return Condition("near", landmark=landmark)


# family, name, grade, objects, what it says, the ways to say it
LOOKS = (
    ("semantic", "thing", 1, 1, (THING,), "The {thing}."),
    ("appearance", "colour", 1, 1, (COLOUR,), "The {colour} object."),
    ("appearance", "surface", 1, 1, (SURFACE,), "The {surface} object."),
    ("appearance", "colour thing", 1, 3, (COLOUR, THING), "The {colour} {thing}."),
    ("appearance", "surface thing", 1, 3, (SURFACE, THING), "The {surface} {thing}."),
    ("action", "motion", 1, 1, (MOTION,), "The object that is {motion}.", "The object {motion}."),
    ("action", "motion thing", 2, 3, (MOTION, THING), "The {thing} that is {motion}."),
    (
        "appearance + action",
        "colour motion",
        2,
        3,
        (COLOUR, MOTION),
        "The {colour} object that is {motion}.",
    ),
    ("spatial", "place", 1, 3, (PLACE,), "The object {place} the {other}."),
    ("spatial", "place thing", 1, 4, (THING, PLACE), "The {thing} {place} the {other}."),
)
# what is said of the one furthest to a side, or of the biggest
SIDES = {
    "leftmost": ("The {what} on the left.", "the leftmost {what}", "the {what} on the left side"),
    "rightmost": (
        "The {what} on the right.",
        "the rightmost {what}",
        "the {what} on the right side",
    ),
    "topmost": ("The {what} at the top.", "the topmost {what}"),
    "lowest": ("The {what} at the bottom.", "the lowest {what}"),
    "biggest": ("The biggest {what}.", "the largest {what}"),
    "smallest": ("The smallest {what}.", "the smallest {what}"),
}
# family, name, which is also the one condition's kind, grade, objects, the ways to say it
ONE_FACT = (
    (
        "spatial + temporal",
        "throughout",
        1,
        1,
        "The object appearing through the entire video.",
        "The object that is in view all the time.",
    ),
    (
        "spatial + temporal",
        "first to appear",
        1,
        2,
        "The first object to appear in the video.",
        "The object appearing first in the video.",
    ),
    (
        "spatial + temporal",
        "last to appear",
        1,
        2,
        "The last object to appear in the video.",
        "The object appearing last in the video.",
    ),
    (
        "spatial + temporal",
        "appears before",
        2,
        3,
        "The object appearing before the {other}.",
        "The object that appears before the {other}.",
    ),
    (
        "spatial + temporal",
        "appears after",
        2,
        3,
        "The object appearing after the {other}.",
        "The object that appears after the {other}.",
    ),
    (
        "spatial + temporal",
        "appears longer",
        2,
        3,
        "The object appearing longer than the {other}.",
        "The object in view longer than the {other}.",
    ),
    (
        "spatial + temporal",
        "appears shorter",
        2,
        3,
        "The object appearing for a shorter time than the {other}.",
    ),
    ("acoustic", "sounding", 2, 1, "The sounding object.", "The object making a sound."),
    ("acoustic", "silent", 2, 1, "The silent object.", "The object making no sound."),
    (
        "acoustic + action",
        "loudest",
        4,
        2,
        "The object making the loudest sound.",
        "The loudest object.",
    ),
    ("acoustic + action", "quietest", 4, 2, "The object making the quietest sound."),
    ("acoustic + action", "louder", 4, 3, "The object making a louder sound than the {other}."),
    ("acoustic + action", "quieter", 4, 3, "The object making a quieter sound than the {other}."),
    (
        "acoustic + temporal",
        "louder over time",
        5,
        1,
        "The object whose volume rises over time.",
        "The object getting louder over time.",
    ),
    (
        "acoustic + temporal",
        "quieter over time",
        5,
        1,
        "The object whose volume falls over time.",
        "The object getting quieter over time.",
    ),
    (
        "acoustic + temporal",
        "faster over time",
        5,
        1,
        "The object whose rhythm gets faster over time.",
        "The object whose rhythm speeds up.",
    ),
    (
        "acoustic + temporal",
        "slower over time",
        5,
        1,
        "The object whose rhythm gets slower over time.",
        "The object whose rhythm slows down.",
    ),
    ("acoustic + temporal", "first to sound", 5, 2, "The first object to make a sound."),
    ("acoustic + temporal", "last to sound", 5, 2, "The last object to make a sound."),
    ("acoustic + temporal", "sounds before", 5, 3, "The object making a sound before the {other}."),
    ("acoustic + temporal", "sounds after", 5, 3, "The object making a sound after the {other}."),
    (
        "acoustic + temporal",
        "at all times",
        5,
        1,
        "The object that keeps making sound at all times.",
    ),
    (
        "acoustic + temporal",
        "longest sound",
        5,
        2,
        "The object with the longest sound duration.",
        "The object that sounds longest.",
    ),
    ("acoustic + temporal", "shortest sound", 5, 2, "The object with the shortest sound duration."),
    (
        "acoustic + temporal",
        "sounds longer",
        5,
        3,
        "The object with a longer sound duration than the {other}.",
    ),
    (
        "acoustic + temporal",
        "sounds shorter",
        5,
        3,
        "The object with a shorter sound duration than the {other}.",
    ),
    (
        "acoustic + temporal",
        "fastest rhythm",
        5,
        2,
        "The object making a sound with the fastest rhythm.",
    ),
    (
        "acoustic + temporal",
        "slowest rhythm",
        5,
        2,
        "The object making a sound with the slowest rhythm.",
    ),
    (
        "acoustic + temporal",
        "faster rhythm",
        5,
        3,
        "The object making a sound with a faster rhythm than the {other}.",
    ),
    (
        "acoustic + temporal",
        "slower rhythm",
        5,
        3,
        "The object making a sound with a slower rhythm than the {other}.",
    ),
    ("acoustic + temporal", "intermittent", 5, 1, "The object making an intermittent sound."),
    ("acoustic + temporal", "continuous", 5, 1, "The object making a continuous sound."),
)
# as LOOKS
SOUND_AND_LOOKS = (
    ("acoustic", "sounding thing", 1, 3, (SOUNDING, THING), "The sounding {thing}."),
    (
        "audio-visual",
        "near sounding",
        5,
        3,
        (_near(SOUNDING),),
        "The object near the sounding object.",
    ),
    (
        "audio-visual",
        "near first sounding",
        3,
        3,
        (_near(FIRST),),
        "The object near the first sounding object.",
        "The object near the first object to make a sound.",
    ),
    (
        "audio-visual",
        "near last sounding",
        3,
        3,
        (_near(LAST),),
        "The object near the last sounding object.",
        "The object near the last object to make a sound.",
    ),
    (
        "audio-visual",
        "first sounding near",
        3,
        4,
        (FIRST, NEAR),
        "The first sounding object near the {other}.",
    ),
    (
        "audio-visual",
        "surface sounding",
        3,
        3,
        (SURFACE, SOUNDING),
        "The {surface} and sounding object.",
    ),
    (
        "audio-visual",
        "colour sounding",
        3,
        3,
        (COLOUR, SOUNDING),
        "The {colour} object that is making a sound.",
    ),
    (
        "audio-visual",
        "surface louder",
        1,
        4,
        (SURFACE, Condition("louder", landmark=OTHER)),
        "The {surface} object that makes a louder sound than the {other}.",
    ),
    (
        "audio-visual",
        "sounding place",
        3,
        4,
        (SOUNDING, PLACE),
        "The sounding object {place} the {other}.",
    ),
)


def _template(family, name, grade, objects, conditions, *forms: str) -> Template:
    cues = {
        "category": "semantic",
        "colour": "appearance",
        "surface": "appearance",
        "motion": "action",
    }
    taken = [
        cues.get(c.kind) or ("spatial" if c.kind in ("near", "{place}") else None)
        for c in conditions
    ]
    named = [
        part
        for part in family.split(" + ")
        if part in ("spatial", "temporal", "acoustic", "action")
    ]
    heard = ["acoustic"] * any(c.acoustic for c in conditions)
    time = ["temporal"] * ("first" in name or "last" in name)
    dimensions = tuple(dict.fromkeys(cue for cue in (*taken, *named, *heard, *time) if cue))
    return Template(name, family, grade, dimensions, tuple(conditions), forms, objects)


def _one_fact(family, name, grade, objects, *forms: str) -> Template:
    condition = Condition(name, landmark=OTHER if "{other}" in forms[0] else ())
    return _template(family, name, grade, objects, (condition,), *forms)


TEMPLATES: dict[str, Template] = {
    template.name: template
    for template in (
        *(_template(*row) for row in LOOKS),
        *(_one_fact(*row) for row in ONE_FACT),
        *(_template(*row) for row in SOUND_AND_LOOKS),
    )
}

# templates of photographed clips, as LOOKS: what people say. Of the first any condition is
# needed, of the second none: where one is false, only the ear finds out
GROUP, DOES, CRY = (
    Condition("group", "{group}"),
    Condition("does", "{does}"),
    Condition("does", "{cry}"),
)
SILENT = Condition("silent")
PHOTOGRAPHED = (
    (
        "semantic",
        "thing",
        1,
        1,
        (THING,),
        "The {thing}.",
        "the {thing}",
        "{thing}",
    ),
    (
        "semantic",
        "thing to find",
        1,
        1,
        (THING,),
        "Where is the {thing}?",
        "Show me the {thing}.",
        "Find the {thing}.",
        "Segment the {thing}.",
    ),
    (
        "semantic",
        "thing in the video",
        1,
        1,
        (THING,),
        "The {thing} in the video.",
        "The {thing} that you can see.",
        "the {thing} here",
    ),
    ("semantic", "group", 1, 1, (GROUP,), "The {group}.", "the {group}", "{group}"),
    (
        "semantic + acoustic",
        "does",
        2,
        1,
        (DOES,),
        "The one that is {does}.",
        "Who is {does}?",
        "What is {does}?",
    ),
    (
        "acoustic",
        "sounding group",
        2,
        1,
        (SOUNDING, GROUP),
        "The {group} that is making a sound.",
        "The sounding {group}.",
        "Which {group} can be heard?",
        "The {group} making the noise.",
    ),
    (
        "acoustic",
        "silent group",
        2,
        1,
        (SILENT, GROUP),
        "The {group} that makes no sound.",
        "The silent {group}.",
        "The quiet {group}.",
    ),
    ("action", "motion group", 2, 2, (MOTION, GROUP), "The {group} that is {motion}."),
    ("spatial", "place group", 1, 2, (GROUP, PLACE), "The {group} {place} the {other}."),
    *(
        ("spatial", name, 1, 2, (Condition(name),), *(form.format(what="object") for form in forms))
        for name, forms in SIDES.items()
    ),
    *(
        (
            "spatial",
            f"{name} thing",
            1,
            2,
            (Condition(name), THING),
            *(form.format(what="{thing}") for form in forms),
        )
        for name, forms in SIDES.items()
    ),
    *(
        (
            "acoustic + temporal",
            f"{name} group",
            5,
            2,
            (Condition(name), GROUP),
            f"The {ordinal} {{group}} to make a sound.",
            f"The {{group}} that is heard {ordinal}.",
        )
        for name, ordinal in (("first to sound", "first"), ("last to sound", "last"))
    ),
    (
        "acoustic + temporal",
        "second to sound",
        5,
        2,
        (Condition("second to sound"),),
        "The second object to make a sound.",
        "What is heard second?",
    ),
)
OVERSAID = (
    (
        "semantic + acoustic",
        "the one group that sounds",
        2,
        2,
        (SOUNDING, GROUP),
        "The {group} that is making a sound.",
        "Which {group} can be heard?",
        "the {group} we can hear",
    ),
    (
        "semantic + acoustic",
        "sounding named thing",
        2,
        1,
        (SOUNDING, THING),
        "The {thing} that is making a sound.",
        "The sounding {thing}.",
        "the {thing} that we can hear",
    ),
    (
        "semantic + acoustic",
        "silent named thing",
        2,
        1,
        (SILENT, THING),
        "The {thing} that makes no sound.",
        "The silent {thing}.",
    ),
    (
        "semantic + acoustic",
        "cry thing",
        2,
        1,
        (CRY, THING),
        "The {cry} {thing}.",
        "the {cry} {thing}",
    ),
    (
        "semantic + acoustic",
        "does thing",
        2,
        1,
        (DOES, THING),
        "The {thing} that is {does}.",
        "the {thing} which is {does}",
    ),
    (
        "semantic + acoustic",
        "cry group",
        2,
        1,
        (CRY, GROUP),
        "The {cry} {group}.",
        "the {cry} {group}",
    ),
)
MORE_FORMS = {  # of the templates that both share
    "sounding": (
        "What is making the sound?",
        "Which object can be heard?",
        "The source of the sound.",
        "the one that is making noise",
        "the thing we can hear",
    ),
    "silent": (
        "The object that stays quiet.",
        "What makes no sound?",
        "the one that cannot be heard",
    ),
    "loudest": ("What is loudest?",),
    "first to sound": ("What is heard first?", "The object that is heard first."),
    "last to sound": ("What is heard last?",),
}
# colours, surfaces and rhythms of one steady tone are drawn things' alone
DRAWN_ALONE = ("colour", "surface", "continuous", "intermittent", "at all times")


def _photograph_templates() -> dict[str, Template]:
    shared = {
        name: replace(template, forms=template.forms + MORE_FORMS.get(name, ()))
        for name, template in TEMPLATES.items()
        if not any(word in name for word in DRAWN_ALONE)
    }
    own = [replace(_template(*row), needs="any") for row in PHOTOGRAPHED]
    own += [replace(_template(*row), needs="none") for row in OVERSAID]
    return {**shared, **{template.name: template for template in own}}


@dataclass(frozen=True)
class Language:
    """What may be said of a clip: templates, and the words for each value of each slot."""

    templates: dict[str, Template]
    words: dict[str, dict[str, tuple[str, ...]]]
    weights: dict[str, float]


SENTENCES = (2, 5, 8, 9)  # at most, of a clip of 1-4 objects
WEIGHTS = {
    "acoustic": 2,
    "acoustic + action": 3,
    "acoustic + temporal": 5,
    "audio-visual": 5,
    "spatial": 3,
}  # others 1
DRAWN = Language(
    TEMPLATES,
    {slot: {value: (word,) for value, word in words.items()} for slot, words in SLOTS.items()},
    WEIGHTS,
)
PHOTOGRAPH_TEMPLATES = _photograph_templates()
ALL_TEMPLATES = {**TEMPLATES, **PHOTOGRAPH_TEMPLATES}
FAMILIES = tuple(dict.fromkeys(template.family for template in ALL_TEMPLATES.values()))


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


def find_expressions(
    world: World, template: Template, language: Language = DRAWN
) -> list[tuple[Expression, ...]]:
    """All that a template can say of one object of a clip, and nothing needless: a tuple of ways to
    say it each."""
    found = []
    for slots in _fillings(world, template, language):
        conditions = conditions_of(template, slots)
        fid = world.refer(conditions)
        if fid is not None and is_needed(world, conditions, fid, template.needs):
            found.append(ways_to_say(template, slots, fid, _clarity(world, conditions), language))
    return found


def ways_to_say(
    template: Template, slots: dict[str, str], fid: int | None, margin: float, language: Language
) -> tuple[Expression, ...]:
    """Every form with every word for what fills it."""
    about = (template.name, slots, template.family, template.grade, template.dimensions)
    words = [language.words[slot][value] for slot, value in slots.items()]
    return tuple(
        Expression(form.format(**dict(zip(slots, chosen, strict=True))), *about, fid, margin)
        for form in template.forms
        for chosen in product(*words)
    )


def conditions_of(template: Template, slots: dict[str, str]) -> tuple[Condition, ...]:
    """What a sentence says."""
    return tuple(_fill(condition, slots) for condition in template.conditions)


def is_needed(
    world: World, conditions: tuple[Condition, ...], fid: int, needs: str = "all"
) -> bool:
    """Is every condition needed: without it, would the sentence be clearly true of another object
    too?

    A landmark is named in the sentence, so it does not count as another object. What is heard must
    be needed even by
    someone who sees that cups never sound: there the object and the other must both be able to
        sound. In a clip of
    one object no word can narrow the choice, and a sentence may hold only one condition.

    Of a template that needs "any" one is enough, if it speaks of sounds one that is heard; "none"
    asks for nothing. But nothing is said of the sound of what never has one.
    """
    heard = any(condition.acoustic for condition in conditions)
    if needs != "all" and heard and not world.objects[fid].audible:
        return False
    if len(world.objects) == 1:
        return needs != "all" or len(conditions) == 1
    decisive = [c for c in conditions if c.acoustic or needs == "all" or not heard]
    needed = (_is_condition_needed(world, conditions, condition, fid) for condition in decisive)
    return needs == "none" or (any(needed) if needs == "any" else all(needed))


def _is_condition_needed(
    world: World, conditions: tuple[Condition, ...], condition: Condition, fid: int
) -> bool:
    rest = tuple(other for other in conditions if other is not condition)
    landmarks = {world.refer(other.landmark) for other in conditions if other.landmark}
    rivals = [
        i for i in np.flatnonzero(world.together(rest) >= 1) if i != fid and i not in landmarks
    ]
    if any(inner.acoustic for inner in condition.landmark):
        return bool(rivals) and _depends_on_ear(world, condition, fid)
    if condition.acoustic:
        rivals = [i for i in rivals if _equally_audible(world, condition, fid, i)]
    return bool(rivals)


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
    language: Language = DRAWN,
) -> list[Expression]:
    """Draw a clip's sentences, no template twice and the harder families more often. None if
    `first` does not fit.

    Args:
        rng: the only source of chance.
        world: the clip.
        referents: only sentences about objects of these categories, if any are given.
        first: a template to begin with.
        language: what may be said.
    """
    templates = language.templates
    weights = np.array([language.weights.get(t.family, 1) for t in templates.values()])
    order = rng.choice(
        list(templates), len(templates), replace=False, p=weights / weights.sum()
    ).tolist()
    chosen: list[Expression] = []
    for name in sorted(order, key=lambda name: name != first):
        if len(chosen) < SENTENCES[len(world.objects) - 1]:
            found = find_expressions(world, templates[name], language)
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
    true of something. Unless its template needs all, one such condition is enough.
    """
    template = ALL_TEMPLATES[expression.template]
    conditions = conditions_of(template, expression.slots)
    if (world.together(conditions) > -1).any():
        return None
    needed = []
    for condition in conditions:
        rest = tuple(other for other in conditions if other is not condition)
        alone = len(world.objects) == 1 or world.refer(condition.landmark) is None
        if condition.landmark and alone:
            return None
        needed.append((world.together(rest) >= 1).any())
    if not (all(needed) if template.needs == "all" else any(needed)):
        return None
    return replace(expression, fid=None, margin=_clarity(world, conditions))


def _clarity(world: World, conditions: tuple[Condition, ...]) -> float:
    return round(float(np.abs(world.together(conditions)).min()), 3)


def _fillings(world: World, template: Template, language: Language) -> Iterator[dict[str, str]]:
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
    shown["group"] = {group for item in world.objects for group in item.groups}
    shown["does"] = {item.sound.does for item in world.objects if item.sound}
    shown["cry"] = shown["does"] - set(AFTER_NOUN)
    for values in product(
        *(
            [value for value in language.words[slot] if value in shown[slot]]
            for slot in template.slots
        )
    ):
        slots = dict(zip(template.slots, values, strict=True))
        if slots.get("thing") is None or slots.get("thing") != slots.get("other"):
            yield slots


def _fill(condition: Condition, values: dict[str, str]) -> Condition:
    landmark = tuple(_fill(inner, values) for inner in condition.landmark)
    return Condition(condition.kind.format(**values), condition.value.format(**values), landmark)
