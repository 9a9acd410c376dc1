"""What the rules have against sentences, and what they suggest."""

import re
from itertools import product

import numpy as np
import pytest

from dataset_script.annotate.annotation import (
    Annotation,
    AnnotationStore,
    ObjectAnnotation,
    SentenceAnnotation,
)
from dataset_script.annotate.measure_rules import measure_rules
from dataset_script.annotate.sentence_parser import parse_sentence
from dataset_script.annotate.sentence_rules import (
    check_sentence,
    clarity_remarks,
    describe_sentence,
    suggest_sentences,
)
from dataset_script.statistics import sentence_cues
from dataset_script.synthetic.conditions import Condition
from dataset_script.synthetic.generate import synthesize
from dataset_script.synthetic.sentences import SLOTS, TEMPLATES, conditions_of


SIZE = (60, 100)
ALWAYS = range(10)


def thing(
    fid: int, category: str, left: int, sounding=(), steps=ALWAYS, side: int = 12, group="animal"
) -> ObjectAnnotation:
    masks = {}
    for step in range(10):
        masks[step] = np.zeros(SIZE, dtype=bool)
        if step in steps:
            masks[step][20 : 20 + side, left : left + side] = True
    return ObjectAnnotation(
        fid, category, group, "#e6194b", masks, frozenset(), tuple(map(tuple, sounding))
    )


def clip(*objects: ObjectAnnotation) -> Annotation:
    return Annotation("aaa_0_10000", SIZE, objects=objects)


# A dog on the left barks first and all the time; one on the right, seen from step 4 on, barks
# after it; between them a cat is silent.
DOGS = clip(
    thing(1, "dog", 5, [(0.0, 10.0)], side=20),
    thing(2, "dog", 80, [(5.0, 6.0), (8.0, 9.0)], range(4, 10)),
    thing(5, "cat", 45),
    thing(6, "chair", 30, group="silent", side=6),
)


def remarks(text: str, fid: int | None, annotation: Annotation = DOGS) -> str:
    return " | ".join(check_sentence(annotation, SentenceAnnotation(text, fid)))


@pytest.mark.parametrize(
    ("text", "fid"),
    [
        ("The cat.", 5),
        ("The leftmost dog.", 1),
        ("The dog on the left.", 1),
        ("The dog on the right side.", 2),
        ("The last dog to make a sound.", 2),
        ("The first object to make a sound.", 1),
        ("The object that keeps making sound at all times.", 1),
        ("The object making an intermittent sound.", 2),
        ("The last object to appear in the video.", 2),
        ("The dog to the right of the cat.", 2),
        ("The dog on the left of the cat.", 1),
        ("The silent animal.", 5),
        ("The biggest dog.", 1),
        ("The dog with the longest sound duration.", 1),
        ("The object appearing after the cat.", 2),
        ("The brown dog.", 1),  # nobody can tell
        ("The dog making a sound by biting the man on the left.", 2),
        ("The object making the loudest sound.", 2),
        ("The dog in front of the cat.", 2),
        ("The sheep.", None),
        ("The barking dog.", None),
        ("The second cat to make a sound.", None),
        ("The object behind the dog on the left.", 5),
    ],
)
def test_nothing_is_said_against(text, fid):
    assert remarks(text, fid) == ""


@pytest.mark.parametrize(
    ("text", "fid", "words"),
    [
        ("The dog.", 1, r"it fits object 2 \(dog\) too"),
        ("The object making a sound.", 2, r"it fits object 1 \(dog\) too"),
        ("The animal.", 5, r"it fits object 1 \(dog\) and object 2 \(dog\) too"),
        ("The leftmost dog.", 2, r'"leftmost" is not true of object 2 \(dog\)'),
        ("The first dog to make a sound.", 2, r'"first to make a sound" is not true|"first dog to'),
        ("The brown dog on the left.", 2, '"on the left" is not true of object 2'),
        ("The silent brown dog.", 1, '"silent" is not true'),
        ("The object making the loudest sound.", 5, "is not true of object 5"),
        ("The object near the dog.", 5, r'"near the dog" does not say which one: object 1 \(dog\)'),
        ("The dog to the left of the cat.", 2, '"to the left of the cat" is not true of object 2'),
        ("The object appearing through the entire video.", 2, "is not true of object 2"),
        ("The cat on the left.", 5, '"on the left" is not needed'),
        ("The cat making no sound.", 5, '"making no sound" is not needed'),
        ("The first and barking cat.", 5, '"first barking" is not needed'),
        ("The cat.", None, r"it fits object 5 \(cat\), and a null sentence must fit nothing"),
        ("The sounding dog on the right.", None, r"it fits object 2 \(dog\)"),
        ("The object.", 1, "it names neither an object nor a property"),
        ("it barks first.", 1, 'nothing is named before "it"'),
    ],
)
def test_what_is_said_against(text, fid, words):
    assert re.search(words, remarks(text, fid)), remarks(text, fid)


def test_an_object_that_is_not_there():
    with pytest.raises(ValueError, match="there is no object 3"):
        check_sentence(DOGS, SentenceAnnotation("The dog.", 3))


def test_nothing_is_known_of_what_is_not_annotated_yet():
    mute = clip(thing(0, "dog", 5), thing(1, "cat", 60))
    assert remarks("The silent object.", 0, mute) == ""
    assert remarks("The first object to make a sound.", 1, mute) == ""
    first = thing(0, "dog", 5)
    bare = clip(
        ObjectAnnotation(0, "dog", "animal", "#e6194b", {3: first.masks[3]}), thing(1, "cat", 60)
    )
    assert remarks("The last object to appear in the video.", 1, bare) == ""
    assert remarks("The object appearing through the entire video.", 0, bare) == ""
    nothing = clip(ObjectAnnotation(0, "dog", "animal", "#e6194b"), thing(1, "cat", 60))
    assert remarks("The object on the left.", 1, nothing) == ""
    assert "is not true" in remarks("The cat.", 0, nothing)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the dog", "capital"),
        ("The dog", "full stop"),
        ("The  dog.", "needless spaces"),
        ("The big_dog.", "needless spaces"),
        ("NO.", "no sentence"),
        ("[Error] 3.", "no sentence"),
        ("The dog that is not without a hat.", "negates twice"),
        ("Both dogs.", "several objects"),
        (" ".join(["The", *["very"] * 25, "old", "dog."]), "28 words"),
    ],
)
def test_clarity(text, words):
    assert words in " | ".join(clarity_remarks(text))
    assert clarity_remarks("The dog that is old.") == []


EXAMPLES = {
    "thing": ("bell", "guitar"),
    "other": ("car",),
    "place": tuple(SLOTS["place"]),
    "colour": ("red",),
    "surface": ("striped",),
    "motion": tuple(SLOTS["motion"]),
}
NOT_TOLD = ("colour", "surface", "motion")


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=lambda template: template.name)
def test_the_parser_knows_every_template(template):
    """What the generator says, in each of its forms, the parser hears."""
    for values in product(*(EXAMPLES[slot] for slot in template.slots)):
        slots = dict(zip(template.slots, values, strict=True))
        said = {c for c in conditions_of(template, slots) if c.kind not in NOT_TOLD}
        told = {c.kind for c in conditions_of(template, slots)} & set(NOT_TOLD)
        for form in template.forms:
            text = form.format(**{slot: SLOTS[slot][value] for slot, value in slots.items()})
            statement = parse_sentence(text)
            assert set(statement.conditions) == said, text
            assert bool(statement.others) == bool(told), text
            assert len(statement.phrases) == len(statement.conditions)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=lambda template: template.name)
def test_grades_and_cues_are_those_of_the_templates(template):
    slots = {slot: EXAMPLES[slot][0] for slot in template.slots}
    text = template.forms[0].format(**{slot: SLOTS[slot][value] for slot, value in slots.items()})
    if "surface" not in template.name:  # "striped" is no word of the released data
        assert describe_sentence(text) == (sentence_cues(text), template.grade)


def test_names_of_several_words():
    statement = parse_sentence("The hair dryer near the fire engine.", [("fire engine", "machine")])
    engine = Condition("category", "fire engine")
    assert set(statement.conditions) == {
        Condition("category", "hair-dryer"),
        Condition("near", landmark=(engine,)),
    }
    assert statement.others == ()


def test_what_is_said_of_others_is_not_said_of_the_object():
    statement = parse_sentence("The object making a sound by being played by the man on the left.")
    assert statement.conditions == (Condition("sounding"),)
    assert statement.others == ("by being played by the man on the left",)


def test_suggestions():
    found = {fid: suggest_sentences(DOGS, fid) for fid in (1, 2, 5, 6)}
    assert "The cat." in found[5]
    assert "The dog." not in found[1] + found[2]
    assert "The first object to make a sound." in found[1]
    assert "The last object to appear in the video." in found[2]
    assert "The dog on the left." in found[1]
    every = [text for texts in found.values() for text in texts]
    assert len(set(every)) == len(every)  # none is true of two
    for fid, texts in found.items():
        for text in texts:
            assert remarks(text, fid) == ""
            for other in set(found) - {fid}:
                assert remarks(text, other), text
    assert not {"The silent.", "The silent chair."} & set(found[6])
    people = clip(thing(0, "man", 5, group="human"), thing(1, "cat", 60))
    assert suggest_sentences(people, 0)[:1] == ["The man."]
    assert "The person." in suggest_sentences(people, 0)
    taken = Annotation(
        DOGS.clip_id, SIZE, objects=DOGS.objects, sentences=(SentenceAnnotation("The cat.", 5),)
    )
    assert "The cat." not in suggest_sentences(taken, 5)


def test_drawn_sentences_keep_the_rules(tmp_path):
    synthesize(tmp_path / "drawn", 8)
    counts = measure_rules(tmp_path / "drawn")
    assert counts["kept"]["all"] >= 10
    assert counts["kept"]["remarked"] == counts["null"]["remarked"] == 0
    assert counts["moved"]["remarked"] >= counts["moved"]["all"] / 2 > 0
    assert counts["suggested"]["sentences"] > counts["suggested"]["objects"] > 0
    assert AnnotationStore(tmp_path / "drawn", "any").clip_ids() == []
