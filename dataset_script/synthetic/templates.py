"""The paper's sentence templates (Ref-AVS supplement, Fig. 4), for this world's things.

A template is a set of conditions and the English forms of them; a word in braces is a slot.
Everything that a form says is a condition, and "object" says nothing. Not taken over: a thing held
by a person (there are no hands here).
"""

from dataclasses import dataclass

from .categories import CATEGORIES, NOVELTY
from .conditions import Condition
from .drawing import COLOURS, SURFACES


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
}


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
    """

    name: str
    family: str
    grade: int
    dimensions: tuple[str, ...]
    conditions: tuple[Condition, ...]
    forms: tuple[str, ...]
    objects: int

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
    ("appearance + action", "colour motion", 2, 3, (COLOUR, MOTION), "The {colour} object that is {motion}."),
    ("spatial", "place", 1, 3, (PLACE,), "The object {place} the {other}."),
    ("spatial", "place thing", 1, 4, (THING, PLACE), "The {thing} {place} the {other}."),
)  # fmt: skip
# family, name, which is also the one condition's kind, grade, objects, the ways to say it
ONE_FACT = (
    ("spatial + temporal", "throughout", 1, 1, "The object appearing through the entire video.", "The object that is in view all the time."),
    ("spatial + temporal", "first to appear", 1, 2, "The first object to appear in the video.", "The object appearing first in the video."),
    ("spatial + temporal", "last to appear", 1, 2, "The last object to appear in the video.", "The object appearing last in the video."),
    ("spatial + temporal", "appears before", 2, 3, "The object appearing before the {other}.", "The object that appears before the {other}."),
    ("spatial + temporal", "appears after", 2, 3, "The object appearing after the {other}.", "The object that appears after the {other}."),
    ("spatial + temporal", "appears longer", 2, 3, "The object appearing longer than the {other}.", "The object in view longer than the {other}."),
    ("spatial + temporal", "appears shorter", 2, 3, "The object appearing for a shorter time than the {other}."),
    ("acoustic", "sounding", 2, 1, "The sounding object.", "The object making a sound."),
    ("acoustic", "silent", 2, 1, "The silent object.", "The object making no sound."),
    ("acoustic + action", "loudest", 4, 2, "The object making the loudest sound.", "The loudest object."),
    ("acoustic + action", "quietest", 4, 2, "The object making the quietest sound."),
    ("acoustic + action", "louder", 4, 3, "The object making a louder sound than the {other}."),
    ("acoustic + action", "quieter", 4, 3, "The object making a quieter sound than the {other}."),
    ("acoustic + temporal", "louder over time", 5, 1, "The object whose volume rises over time.", "The object getting louder over time."),
    ("acoustic + temporal", "quieter over time", 5, 1, "The object whose volume falls over time.", "The object getting quieter over time."),
    ("acoustic + temporal", "faster over time", 5, 1, "The object whose rhythm gets faster over time.", "The object whose rhythm speeds up."),
    ("acoustic + temporal", "slower over time", 5, 1, "The object whose rhythm gets slower over time.", "The object whose rhythm slows down."),
    ("acoustic + temporal", "first to sound", 5, 2, "The first object to make a sound."),
    ("acoustic + temporal", "last to sound", 5, 2, "The last object to make a sound."),
    ("acoustic + temporal", "sounds before", 5, 3, "The object making a sound before the {other}."),
    ("acoustic + temporal", "sounds after", 5, 3, "The object making a sound after the {other}."),
    ("acoustic + temporal", "at all times", 5, 1, "The object that keeps making sound at all times."),
    ("acoustic + temporal", "longest sound", 5, 2, "The object with the longest sound duration.", "The object that sounds longest."),
    ("acoustic + temporal", "shortest sound", 5, 2, "The object with the shortest sound duration."),
    ("acoustic + temporal", "sounds longer", 5, 3, "The object with a longer sound duration than the {other}."),
    ("acoustic + temporal", "sounds shorter", 5, 3, "The object with a shorter sound duration than the {other}."),
    ("acoustic + temporal", "fastest rhythm", 5, 2, "The object making a sound with the fastest rhythm."),
    ("acoustic + temporal", "slowest rhythm", 5, 2, "The object making a sound with the slowest rhythm."),
    ("acoustic + temporal", "faster rhythm", 5, 3, "The object making a sound with a faster rhythm than the {other}."),
    ("acoustic + temporal", "slower rhythm", 5, 3, "The object making a sound with a slower rhythm than the {other}."),
    ("acoustic + temporal", "intermittent", 5, 1, "The object making an intermittent sound."),
    ("acoustic + temporal", "continuous", 5, 1, "The object making a continuous sound."),
)  # fmt: skip
# as LOOKS
SOUND_AND_LOOKS = (
    ("acoustic", "sounding thing", 1, 3, (SOUNDING, THING), "The sounding {thing}."),
    ("audio-visual", "near sounding", 5, 3, (_near(SOUNDING),), "The object near the sounding object."),
    ("audio-visual", "near first sounding", 3, 3, (_near(FIRST),), "The object near the first sounding object.", "The object near the first object to make a sound."),
    ("audio-visual", "near last sounding", 3, 3, (_near(LAST),), "The object near the last sounding object.", "The object near the last object to make a sound."),
    ("audio-visual", "first sounding near", 3, 4, (FIRST, NEAR), "The first sounding object near the {other}."),
    ("audio-visual", "surface sounding", 3, 3, (SURFACE, SOUNDING), "The {surface} and sounding object."),
    ("audio-visual", "colour sounding", 3, 3, (COLOUR, SOUNDING), "The {colour} object that is making a sound."),
    ("audio-visual", "surface louder", 1, 4, (SURFACE, Condition("louder", landmark=OTHER)), "The {surface} object that makes a louder sound than the {other}."),
    ("audio-visual", "sounding place", 3, 4, (SOUNDING, PLACE), "The sounding object {place} the {other}."),
)  # fmt: skip


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
FAMILIES = tuple(dict.fromkeys(template.family for template in TEMPLATES.values()))
