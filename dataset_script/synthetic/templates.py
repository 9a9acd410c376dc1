"""The paper's sentence templates (Ref-AVS supplement, Fig. 4), for this world's things.

A template is a set of conditions and the English forms of them; a word in braces is a slot. Everything that a form
says is a condition, and "object" says nothing. Not taken over: a thing held by a person (there are no hands here).
"""

from dataclasses import dataclass

from .categories import CATEGORIES
from .conditions import Condition
from .drawing import COLOURS, SURFACES


SLOTS: dict[str, dict[str, str]] = {
    "thing": {name: name for name in CATEGORIES},
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


THING = Condition("category", "{thing}")
OTHER = (Condition("category", "{other}"),)
COLOUR = Condition("colour", "{colour}")
SURFACE = Condition("surface", "{surface}")
MOTION = Condition("motion", "{motion}")
SOUNDING = Condition("sounding")
LOOKS = (
    Template("thing", "semantic", 1, ("semantic",), (THING,), ("The {thing}.",), 1),
    Template("colour", "appearance", 1, ("appearance",), (COLOUR,), ("The {colour} object.",), 1),
    Template("surface", "appearance", 1, ("appearance",), (SURFACE,), ("The {surface} object.",), 1),
    Template(
        "colour thing",
        "appearance",
        1,
        ("semantic", "appearance"),
        (COLOUR, THING),
        ("The {colour} {thing}.",),
        3,
    ),
    Template(
        "surface thing",
        "appearance",
        1,
        ("semantic", "appearance"),
        (SURFACE, THING),
        ("The {surface} {thing}.",),
        3,
    ),
    Template(
        "motion",
        "action",
        1,
        ("action",),
        (MOTION,),
        ("The object that is {motion}.", "The object {motion}."),
        1,
    ),
    Template(
        "motion thing",
        "action",
        2,
        ("semantic", "action"),
        (MOTION, THING),
        ("The {thing} that is {motion}.",),
        3,
    ),
    Template(
        "colour motion",
        "appearance + action",
        2,
        ("appearance", "action"),
        (COLOUR, MOTION),
        ("The {colour} object that is {motion}.",),
        3,
    ),
)


def _spatial() -> tuple[Template, ...]:
    beside = Condition("{place}", landmark=OTHER)
    return (
        Template("place", "spatial", 1, ("spatial",), (beside,), ("The object {place} the {other}.",), 3),
        Template(
            "place thing",
            "spatial",
            1,
            ("semantic", "spatial"),
            (THING, beside),
            ("The {thing} {place} the {other}.",),
            4,
        ),
    )


def _temporal() -> tuple[Template, ...]:
    said = (
        (
            "throughout",
            1,
            1,
            "The object appearing through the entire video.",
            "The object that is in view all the time.",
        ),
        (
            "first to appear",
            1,
            2,
            "The first object to appear in the video.",
            "The object appearing first in the video.",
        ),
        (
            "last to appear",
            1,
            2,
            "The last object to appear in the video.",
            "The object appearing last in the video.",
        ),
        (
            "appears before",
            2,
            3,
            "The object appearing before the {other}.",
            "The object that appears before the {other}.",
        ),
        (
            "appears after",
            2,
            3,
            "The object appearing after the {other}.",
            "The object that appears after the {other}.",
        ),
        (
            "appears longer",
            2,
            3,
            "The object appearing longer than the {other}.",
            "The object in view longer than the {other}.",
        ),
        ("appears shorter", 2, 3, "The object appearing for a shorter time than the {other}."),
    )
    return tuple(
        Template(
            kind,
            "spatial + temporal",
            grade,
            ("spatial", "temporal"),
            (_said(kind, forms),),
            tuple(forms),
            objects,
        )
        for kind, grade, objects, *forms in said
    )


def _sounds() -> tuple[Template, ...]:
    said = (
        ("acoustic", "sounding", 2, 1, "The sounding object.", "The object making a sound."),
        ("acoustic", "silent", 2, 1, "The silent object.", "The object making no sound."),
        ("acoustic + action", "loudest", 4, 2, "The object making the loudest sound.", "The loudest object."),
        ("acoustic + action", "quietest", 4, 2, "The object making the quietest sound."),
        ("acoustic + action", "louder", 4, 3, "The object making a louder sound than the {other}."),
        ("acoustic + action", "quieter", 4, 3, "The object making a quieter sound than the {other}."),
        ("acoustic + temporal", "louder over time", 5, 1, "The object whose volume is larger over the time.", "The object getting louder over time."),
        ("acoustic + temporal", "quieter over time", 5, 1, "The object whose volume is lower over the time.", "The object getting quieter over time."),
        ("acoustic + temporal", "faster over time", 5, 1, "The object whose rhythm is faster over the time.", "The object whose rhythm gets faster."),
        ("acoustic + temporal", "slower over time", 5, 1, "The object whose rhythm is slower over the time.", "The object whose rhythm gets slower."),
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
    thing = Template(
        "sounding thing",
        "acoustic",
        1,
        ("semantic", "acoustic"),
        (SOUNDING, THING),
        ("The sounding {thing}.",),
        3,
    )
    return thing, *(
        Template(kind, family, grade, _dimensions(family), (_said(kind, forms),), tuple(forms), objects)
        for family, kind, grade, objects, *forms in said
    )


def _audio_visual() -> tuple[Template, ...]:
    near, beside = Condition("near", landmark=OTHER), Condition("{place}", landmark=OTHER)
    said = (
        ("near sounding", 5, 3, (Condition("near", landmark=(SOUNDING,)),), "The object near the sounding object."),
        ("near first sounding", 3, 3, (Condition("near", landmark=(Condition("first to sound"),)),), "The object near the first sounding object.", "The object near the first object to make a sound."),
        ("near last sounding", 3, 3, (Condition("near", landmark=(Condition("last to sound"),)),), "The object near the last sounding object.", "The object near the last object to make a sound."),
        ("first sounding near", 3, 4, (Condition("first to sound"), near), "The first sounding object near the {other}."),
        ("surface sounding", 3, 3, (SURFACE, SOUNDING), "The {surface} and sounding object."),
        ("colour sounding", 3, 3, (COLOUR, SOUNDING), "The {colour} object that is making a sound."),
        ("surface louder", 1, 4, (SURFACE, Condition("louder", landmark=OTHER)), "The {surface} object that makes a louder sound than the {other}."),
        ("sounding place", 3, 4, (SOUNDING, beside), "The sounding object {place} the {other}."),
    )  # fmt: skip
    return tuple(
        Template(name, "audio-visual", grade, _cues(name, conditions), conditions, tuple(forms), objects)
        for name, grade, objects, conditions, *forms in said
    )


def _said(kind: str, forms: list[str]) -> Condition:
    return Condition(kind, landmark=OTHER if "{other}" in forms[0] else ())


def _dimensions(family: str) -> tuple[str, ...]:
    return tuple(family.split(" + "))


def _cues(name: str, conditions: tuple[Condition, ...]) -> tuple[str, ...]:
    looks = tuple("appearance" for c in conditions if c.kind in ("surface", "colour"))
    place = tuple("spatial" for c in conditions if c.kind in ("near", "{place}"))
    time = ("temporal",) if "first" in name or "last" in name else ()
    return ("acoustic", *looks, *place, *time)


TEMPLATES: dict[str, Template] = {
    template.name: template for template in (*LOOKS, *_spatial(), *_temporal(), *_sounds(), *_audio_visual())
}
FAMILIES = tuple(dict.fromkeys(template.family for template in TEMPLATES.values()))
