"""Every stored sentence, read as English by code that shares nothing with the generator, against
what was stored.

Space and time on stage are read off the masks, colours and sounds off the stored scene graph. A
reading gives each object +1 (clearly so), -1 (clearly not) or 0 (a stranger could argue), with
thresholds of its own.
"""

import json
import re
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from dataset_script.synthetic.drawing import draw
from dataset_script.synthetic.sentences import FAMILIES, TEMPLATES


MOTIONS = {
    "staying still": "still",
    "moving to the left": "leftwards",
    "moving to the right": "rightwards",
    "bouncing up and down": "bouncing",
    "swaying from side to side": "swaying",
    "spinning": "spinning",
}
PLACES = "to the left of|to the right of|above|under|near|in front of|behind|standing on"
CATEGORIES = (
    "bell|flute|guitar|trumpet|harp|drum|clock|hammer|maraca|tambourine|fan|kettle|car|rocket|drill|"
    "cat|duck|frog|bird|owl|cup|tree|house"
)
EMPTY_WORDS = {"object", "that", "is", "and", ""}


class Reader:
    """One clip, as its files show it."""

    def __init__(self, objects, masks):
        self.objects = objects
        self.sounds = [item["sound"] for item in objects]
        self.count = len(objects)
        self.masks = masks  # (objects, frames, h, w), or None: a null clip stores none
        self.shown = None if masks is None else masks.any((2, 3))

    # ---- each returns a value per object, larger is truer; None cannot have one
    def seen(self):
        if self.masks is not None:
            return self.shown
        times = np.arange(10)
        return np.array(
            [(o["presence"][0] <= times) & (times <= o["presence"][1]) for o in self.objects]
        )

    def middle(self, fid):
        """Centre (frames, 2) in units of the frame's side, x and y: of the mask, or of the graph in
        a null clip."""
        if self.masks is None:
            return np.tile(self.objects[fid]["place"], (10, 1))
        rows, columns = np.indices(self.masks.shape[2:])
        area = np.maximum(self.masks[fid].sum((1, 2)), 1)
        x, y = (
            (self.masks[fid] * axis).sum((1, 2)) / area / self.masks.shape[2]
            for axis in (columns, rows)
        )
        return np.stack([x, y], 1)

    def seconds(self):
        return [None if s is None else sum(b - a for a, b in s["intervals"]) for s in self.sounds]

    def beginning(self):
        return [None if s is None else s["intervals"][0][0] for s in self.sounds]

    def loudness(self):
        return [None if s is None else s["level"] for s in self.sounds]

    def rhythm(self):
        return [None if s is None else (s["rate"] or [0.01, 100]) for s in self.sounds]

    # ---- verdicts
    def most(self, values, gap, sign=1):
        """Largest by a gap. Values are numbers or [low, high]."""
        spans = [
            None if v is None else sorted(np.atleast_1d(v).astype(float) * sign) for v in values
        ]
        verdict = []
        for index, span in enumerate(spans):
            others = [s for i, s in enumerate(spans) if s is not None and i != index]
            if span is None:
                verdict.append(-1)
            elif not others:
                verdict.append(0)
            elif span[0] >= max(s[-1] for s in others) + gap:
                verdict.append(1)
            else:
                verdict.append(-1 if span[-1] <= max(s[0] for s in others) - gap else 0)
        return verdict

    def more(self, values, mark, gap, sign=1):
        spans = [
            None if v is None else sorted(np.atleast_1d(v).astype(float) * sign) for v in values
        ]
        if spans[mark] is None:
            return [0] * self.count
        low, high = spans[mark][0], spans[mark][-1]
        verdict = [
            -1 if s is None else 1 if s[0] >= high + gap else -1 if s[-1] <= low - gap else 0
            for s in spans
        ]
        verdict[mark] = -1
        return verdict

    def beside(self, phrase, mark):
        verdict = [self._beside(phrase, index, mark) for index in range(self.count)]
        verdict[mark] = -1
        return verdict

    def _beside(self, phrase, index, mark):
        both = self.seen()[index] & self.seen()[mark]
        if not both.any():
            return 0
        dx, dy = (self.middle(index) - self.middle(mark))[both].T
        one, two = self.objects[index], self.objects[mark]
        radii = one["radius"] + two["radius"]
        distance = np.hypot(dx, dy)
        always = {
            "to the left of": dx < 0,
            "to the right of": dx > 0,
            "above": dy < 0,
            "under": dy > 0,
            "near": distance - radii < 0.15,
            "in front of": (distance < radii) & (one["depth"] < two["depth"]),
            "behind": (distance < radii) & (one["depth"] > two["depth"]),
            "standing on": (np.abs(dx) < max(one["radius"], two["radius"]))
            & (np.abs(dy + radii) < 0.09),
        }[phrase]
        return 1 if always.all() else -1 if not always.any() else 0

    def named(self, word):
        found = [i for i, item in enumerate(self.objects) if item["category"] == word]
        assert len(found) == 1, f"'the {word}' is one object, found {found}"
        return found[0]

    def unique(self, verdict):
        assert verdict.count(1) == 1
        return verdict.index(1)

    def whether(self, truths):
        return [1 if truth else -1 for truth in truths]

    def grows(self, ends, threshold, still, sign):
        change = [None if e is None else sign * (e[1] - e[0]) for e in ends]
        return [
            -1 if c is None else 1 if c >= threshold else -1 if c <= still else 0 for c in change
        ]

    def last_sound(self):
        verdict = self.most(self.beginning(), 1)
        ends = [-1 if s is None else s["intervals"][-1][1] for s in self.sounds]
        return [
            0 if v == 1 and end < max(ends) - 0.3 else v
            for v, end in zip(verdict, ends, strict=True)
        ]

    def read(self, text):
        """The conditions of a sentence, each as verdicts per object."""
        rest = text.removeprefix("The ").removesuffix(".")
        found = []
        for pattern, rule in RULES:
            if match := re.search(rf"\b(?:{pattern})(?!\S)", rest):
                rest = (rest[: match.start()] + rest[match.end() :]).strip()
                found.append(rule(self, *[group for group in match.groups() if group]))
        assert set(rest.split(" ")) <= EMPTY_WORDS, f"words without meaning in {text!r}: {rest!r}"
        return found


def _log_rates(r):
    return [None if v is None else np.log2(v) for v in r.rhythm()]


def _first_seen(r):
    return [float(np.argmax(seen)) for seen in r.seen()]


def _stay(r):
    return [float(seen.sum()) for seen in r.seen()]


def _order(word):
    return {"first": -1, "before": -1, "last": 1, "after": 1}[word]


def _ordinal(r, word):
    return r.last_sound() if word == "last" else r.most(r.beginning(), 1, -1)


def _sign(word):
    more = ("longer", "longest", "louder", "loudest", "rises", "speeds up", "faster", "fastest")
    less = (
        "shorter",
        "shortest",
        "quieter",
        "quietest",
        "falls",
        "slows down",
        "slower",
        "slowest",
    )
    assert word in more + less
    return 1 if word in more else -1


RULES = [
    (
        r"near the (first|last) (?:sounding object|object to make a sound)",
        lambda r, o: r.beside("near", r.unique(_ordinal(r, o))),
    ),
    (r"near the sounding object", lambda r: r.beside("near", r.unique(r.whether(r.sounds)))),
    (rf"({PLACES}) the (\w+)", lambda r, place, other: r.beside(place, r.named(other))),
    (
        r"(?:appearing|appears) (before|after) the (\w+)",
        lambda r, o, other: r.more(_first_seen(r), r.named(other), 1, _order(o)),
    ),
    (
        r"(?:appearing|in view) (longer) than the (\w+)",
        lambda r, o, other: r.more(_stay(r), r.named(other), 1),
    ),
    (
        r"appearing for a (shorter) time than the (\w+)",
        lambda r, o, other: r.more(_stay(r), r.named(other), 1, -1),
    ),
    (
        r"(?:making|makes) a (louder|quieter) sound than the (\w+)",
        lambda r, o, other: r.more(r.loudness(), r.named(other), 5, _sign(o)),
    ),
    (
        r"making a sound (before|after) the (\w+)",
        lambda r, o, other: r.more(r.beginning(), r.named(other), 1, _order(o)),
    ),
    (
        r"with a (longer|shorter) sound duration than the (\w+)",
        lambda r, o, other: r.more(r.seconds(), r.named(other), 1.5, _sign(o)),
    ),
    (
        r"making a sound with a (faster|slower) rhythm than the (\w+)",
        lambda r, o, other: r.more(_log_rates(r), r.named(other), 0.58, _sign(o)),
    ),
    (
        r"making a sound with the (fastest|slowest) rhythm",
        lambda r, o: r.most(_log_rates(r), 0.58, _sign(o)),
    ),
    (
        r"with the (longest|shortest) sound duration",
        lambda r, o: r.most(r.seconds(), 1.5, _sign(o)),
    ),
    (r"sounds longest", lambda r: r.most(r.seconds(), 1.5)),
    (
        r"making the (loudest|quietest) sound|loudest",
        lambda r, o="loudest": r.most(r.loudness(), 5, _sign(o)),
    ),
    (r"whose volume (rises|falls) over time", lambda r, o: r.grows(r.loudness(), 9, 1, _sign(o))),
    (r"getting (louder|quieter) over time", lambda r, o: r.grows(r.loudness(), 9, 1, _sign(o))),
    (
        r"whose rhythm (?:gets (faster|slower) over time|(speeds up|slows down))",
        lambda r, o: r.grows(
            [None if s is None else np.log2(s["rate"] or [1, 1]) for s in r.sounds],
            0.7,
            0.1,
            _sign(o),
        ),
    ),
    (
        r"keeps making sound at all times",
        lambda r: [
            -1 if s is None else 1 if s > 9.7 else -1 if s < 8.3 else 0 for s in r.seconds()
        ],
    ),
    (
        r"making an intermittent sound",
        lambda r: [
            -1 if s is None else 1 if len(s["intervals"]) > 1 else 0 if s["rate"] else -1
            for s in r.sounds
        ],
    ),
    (
        r"making a continuous sound",
        lambda r: [
            -1 if s is None or len(s["intervals"]) > 1 else 0 if s["rate"] else 1 for s in r.sounds
        ],
    ),
    (r"(first|last)(?= sounding object)", lambda r, o: _ordinal(r, o)),
    (r"(first|last)(?= object to make)", lambda r, o: _ordinal(r, o)),
    (r"to make a sound", lambda r: None),
    (r"making no sound|silent", lambda r: r.whether([s is None for s in r.sounds])),
    (r"making a sound|sounding", lambda r: r.whether(r.sounds)),
    (
        r"appearing through the entire video|in view all the time",
        lambda r: [1 if s == 10 else -1 if s <= 8 else 0 for s in _stay(r)],
    ),
    (r"(first|last)(?= object to appear)", lambda r, o: r.most(_first_seen(r), 1, _order(o))),
    (r"appearing (first|last) in the video", lambda r, o: r.most(_first_seen(r), 1, _order(o))),
    (r"to appear in the video", lambda r: None),
    (
        f"({'|'.join(MOTIONS)})",
        lambda r, o: r.whether([item["motion"] == MOTIONS[o] for item in r.objects]),
    ),
    (
        r"(red|yellow|green|blue|purple|white)",
        lambda r, o: r.whether([item["colour"] == o for item in r.objects]),
    ),
    (
        r"(plain|striped|spotted)",
        lambda r, o: r.whether([item["surface"] == o for item in r.objects]),
    ),
    (f"({CATEGORIES})", lambda r, o: r.whether([item["category"] == o for item in r.objects])),
]


def stored_masks(folder, name, count):
    if name.startswith("null_"):
        return None
    paths = [sorted((folder / "gt_mask" / name / f"fid_{fid}").iterdir()) for fid in range(count)]
    return np.array([[np.asarray(Image.open(path)) > 0 for path in frames] for frames in paths])


def busy_clips(clips):
    """The clips of three and four objects, drawn small: only they hold sentences of all
    templates."""
    for clip in clips:
        if len(clip.scene.objects) >= 3 and clip.expressions[0].fid is not None:
            masks = np.array(
                [draw(clip.scene, float(time), 48, 48)[1] for time in range(10)]
            ).swapaxes(0, 1)
            stored = json.loads(json.dumps(clip.scene.to_json()))
            yield clip.name, Reader(stored["objects"], masks), [asdict(e) for e in clip.expressions]


@pytest.fixture(scope="module")
def readings(benchmark_folder, stored_clips, undrawn_clips):
    """(clip, stored sentence, reader, verdicts of each condition) of every sentence."""
    clips = list(busy_clips(undrawn_clips))
    for name, stored in stored_clips.items():
        objects = stored["scene"]["objects"]
        reader = Reader(objects, stored_masks(benchmark_folder, name, len(objects)))
        clips.append((name, reader, stored["expressions"]))
    found = []
    for name, reader, expressions in clips:
        for expression in expressions:
            conditions = [
                verdict for verdict in reader.read(expression["text"]) if verdict is not None
            ]
            if expression["text"].startswith(("The first sounding", "The last sounding")):
                conditions.remove(reader.whether(reader.sounds))  # said by "first" already
            found.append((name, expression, reader, conditions))
    return found


def test_all_kinds_of_sentences_are_read(readings):
    assert len(readings) > 700
    assert sum(expression["fid"] is None for _, expression, _, _ in readings) > 20
    photographed = {"semantic + acoustic"}  # which drawings have no sentence of
    families = {expression["family"] for _, expression, _, _ in readings}
    assert families == set(FAMILIES) - photographed
    assert len({expression["template"] for _, expression, _, _ in readings}) >= len(TEMPLATES) - 5
    assert len({expression["slots"].get("place") for _, expression, _, _ in readings}) >= 8


def test_every_sentence_is_clearly_true_of_its_object_alone_or_of_none(readings):
    for name, expression, reader, conditions in readings:
        verdict = np.min(conditions, axis=0)
        expected = [1 if fid == expression["fid"] else -1 for fid in range(reader.count)]
        assert verdict.tolist() == expected, (name, expression["text"])


def test_every_word_is_needed(readings):
    for name, expression, reader, conditions in readings:
        fid = expression["fid"]
        if reader.count == 1 and fid is not None:
            assert len(conditions) == 1, (name, expression["text"])
            continue
        for index in range(len(conditions)):
            rest = [[1] * reader.count, *conditions[:index], *conditions[index + 1 :]]
            others = np.flatnonzero(np.min(rest, axis=0) == 1)
            assert len(others) > (1 if fid is not None else 0), (name, expression["text"])


def test_margins_are_stored_and_hold(readings):
    assert all(1 <= expression["margin"] <= 9 for _, expression, _, _ in readings)
    assert min(expression["margin"] for _, expression, _, _ in readings) < 2, (
        "some sentence is near its margin"
    )


def test_same_sentence_has_different_answers(readings):
    answers = {}
    for _, expression, reader, _ in readings:
        if expression["fid"] is not None and reader.count > 1:
            answers.setdefault(expression["text"], set()).add(
                reader.objects[expression["fid"]]["category"]
            )
    assert sum(len(kinds) > 1 for kinds in answers.values()) > 10
