"""What a sentence says, as far as its words are known: the conditions of
`dataset_script.synthetic.conditions`, and the words that say more."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..synthetic.conditions import Condition
from ..synthetic.objects import CATEGORIES
from ..taxonomy import PAPER_TAXONOMY


MAKES = r"(?:(?:mak|produc|generat|creat)(?:es?|ing)|emit(?:s|ting)?)"
SOUND = r"(?:an? |the |some |any )?(?:sound|noise)s?"
VIDEO = r"(?: (?:in|of) the (?:video|clip))?"
IS = r"(?:(?:that|which|who) )?(?:is |are )?"
NOUN = r"(?P<noun>(?:[\w-]+ ){0,2}?[\w-]+)"  # stays in the sentence when its phrase is taken out
SHOWN = r"(?:appear(?:s|ing)?|visible|in view|seen|shown)"
ENDS = r"(?: side)?(?! of\b)"
# What one does and what is done to it goes on to the end: "by the man on the left". It is none of
# "with the longest sound" and "making a sound".
ACTION = (
    r"by|wearing|using|with (?!(?:the |an? )?(?:\w+est|\w+er|intermittent|continuous)\b)"
    rf"|(?!{MAKES}|(?:appear|sound|standing on|sitting on|lying on)\w*)\w+ing (?:(?:on|at|to|in) )?"
    r"(?=(?:the|an?|his|her) )"
)
SIDE = r"(?:on|at|in) the (?:far )?"

# What stands before "the dog" to say how something lies, appears or sounds in regard to it.
RELATIONS = {
    "left": rf"(?:(?:{SIDE}|to the )?left(?:[- ]hand)?(?: side)? of)",
    "right": rf"(?:(?:{SIDE}|to the )?right(?:[- ]hand)?(?: side)? of)",
    "in front": r"in front of",
    "behind": r"behind",
    "near": r"(?:near(?: to)?|next to|beside|close to|adjacent to)",
    "under": r"(?:under|underneath|below|beneath)",
    "above": r"above",
    "on": r"(?:(?:standing|sitting|lying) on|on top of|on(?! the (?:far )?(?:left|right)))",
    "appears before": rf"{SHOWN} before",
    "appears after": rf"{SHOWN} after",
    "appears longer": rf"{SHOWN} (?:for (?:a )?)?longer(?: time)? than",
    "appears shorter": rf"{SHOWN} (?:for (?:a )?)?shorter(?: time)? than",
    "sounds before": rf"(?:{MAKES} {SOUND}|sound(?:s|ing)|heard) before",
    "sounds after": rf"(?:{MAKES} {SOUND}|sound(?:s|ing)|heard) after",
    "sounds longer": rf"(?:(?:with|having|has|{MAKES}) )?(?:a |the )?longer "
    r"sound(?:ing)? duration than|sound(?:s|ing) longer than",
    "sounds shorter": rf"(?:(?:with|having|has|{MAKES}) )?(?:a |the )?shorter "
    r"sound(?:ing)? duration than|sound(?:s|ing) shorter than",
    "louder": rf"(?:{MAKES} )?(?:a )?louder (?:sound |noise )?than",
    "quieter": rf"(?:{MAKES} )?(?:a )?(?:quieter|softer) (?:sound |noise )?than",
    "faster rhythm": rf"(?:{MAKES} {SOUND} )?(?:with |at )?(?:a )?faster rhythm than",
    "slower rhythm": rf"(?:{MAKES} {SOUND} )?(?:with |at )?(?:a )?slower rhythm than",
}


def _ordinal(word: str) -> str:
    return (
        rf"{word} {NOUN} {IS}(?:to (?:make|produce|emit) {SOUND}|to sound|heard|{MAKES} {SOUND})"
        rf"|{word} sounding|(?:heard|sounding|{MAKES} {SOUND}) {word}"
    )


def _over_time(change: str) -> str:
    return rf"{change} over (?:the )?time|{change}"


# What is said without regard to another thing; the first that is found is taken.
PROPERTIES = {
    "throughout": rf"{SHOWN} (?:through(?:out)?|during|for|in) the (?:entire|whole) (?:video|clip)"
    rf"|{SHOWN} (?:all the time|throughout{VIDEO}|through the video)|always {SHOWN}",
    "first to appear": rf"first {NOUN} (?:to appear|appearing){VIDEO}|{SHOWN} first{VIDEO}",
    "last to appear": rf"last {NOUN} (?:to appear|appearing){VIDEO}|{SHOWN} last{VIDEO}",
    "first to sound": _ordinal("first"),
    "second to sound": _ordinal("second"),
    "last to sound": _ordinal("last"),
    "longest sound": r"(?:with |having )?the longest (?:sound(?:ing)?(?: duration)?|duration)"
    r"|sound(?:s|ing) (?:the )?longest",
    "shortest sound": r"(?:with |having )?the shortest (?:sound(?:ing)?(?: duration)?|duration)"
    r"|sound(?:s|ing) (?:the )?shortest",
    "louder over time": _over_time(
        r"(?:whose (?:volume|sound) (?:rises|is (?:larger|louder)|increases|grows|gets louder)"
        r"|(?:getting|gets|becoming) louder)"
    ),
    "quieter over time": _over_time(
        r"(?:whose (?:volume|sound) (?:falls|is (?:lower|quieter)|decreases|gets quieter)"
        r"|(?:getting|gets|becoming) quieter)"
    ),
    "faster over time": _over_time(r"whose rhythm (?:(?:gets|is|becomes) faster|speeds up)"),
    "slower over time": _over_time(r"whose rhythm (?:(?:gets|is|becomes) slower|slows down)"),
    "fastest rhythm": rf"(?:{MAKES} (?:{SOUND} )?)?(?:with |at )?the fastest rhythm",
    "slowest rhythm": rf"(?:{MAKES} (?:{SOUND} )?)?(?:with |at )?the slowest rhythm",
    "loudest": rf"(?:{MAKES} |with )?(?:the )?loudest (?:sound|noise)|loudest",
    "quietest": rf"(?:{MAKES} |with )?(?:the )?quietest (?:sound|noise)|quietest",
    "at all times": rf"keeps? (?:on )?{MAKES} {SOUND}(?: at all times| all the time)?"
    rf"|(?:sounding|{MAKES} {SOUND}) (?:all the time|at all times)",
    "intermittent": rf"(?:{MAKES} |with )?(?:an? |the )?intermittent sounds?",
    "continuous": rf"(?:{MAKES} |with )?(?:an? |the )?continuous sounds?"
    rf"|{MAKES} {SOUND} continuously",
    "silent": rf"{MAKES} no (?:sound|noise)|(?:not|never|\w+n't) {MAKES} {SOUND}"
    r"|silent|(?:stays? )?quiet|(?:cannot|can not) be heard",
    "sounding": rf"{MAKES} {SOUND}|can be heard|(?:we|you) can hear|source of the sound|sounding",
    "leftmost": rf"left[- ]?most|{SIDE}left(?:[- ]hand)?{ENDS}",
    "rightmost": rf"right[- ]?most|{SIDE}right(?:[- ]hand)?{ENDS}",
    "topmost": r"topmost|at the top",
    "lowest": r"lowest|at the bottom",
    "biggest": r"biggest|largest",
    "smallest": r"smallest",
}
# A head that names no kind; and words that say nothing.
ANYTHING, SAYS_NOTHING = (
    frozenset(words.split())
    for words in (
        "object objects thing things one ones item entity what which who something source",
        "the a an that which is are was be being been of in and with it video clip here there "
        "where show me find segment you can see please to",
    )
)
NO_NOUNS = frozenset({"silent", "tonal", "percussive", "noisy", "voiced"})  # super-categories
PEOPLE = {"person": "human", "people": "human", "human": "human"}


@dataclass(frozen=True)
class Statement:
    """What a sentence says of an object.

    Args:
        conditions: what is known to be said.
        phrases: the words that say each of them.
        others: words that say something else, such as "red"; nobody can tell of what it is true.
        names_kind: whether a kind of things is named, and not just "the object".
    """

    conditions: tuple[Condition, ...]
    phrases: tuple[str, ...]
    others: tuple[str, ...]
    names_kind: bool

    def without(self, place: int) -> tuple[Condition, ...]:
        """The conditions but that at `place`."""
        return self.conditions[:place] + self.conditions[place + 1 :]


def parse_sentence(text: str, kinds: Iterable[tuple[str, str]] = ()) -> Statement:
    """
    Args:
        kinds: (category, super-category) of what may be named beside the paper's and the drawn
            ones.
    """
    nouns = {word: Condition("group", group) for word, group in PEOPLE.items()}
    named = {**PAPER_TAXONOMY.categories, **{n: c.super_category for n, c in CATEGORIES.items()}}
    named |= dict(kinds)
    groups = set(named.values()) - NO_NOUNS
    nouns |= {_token(group): Condition("group", group) for group in groups}
    nouns |= {_token(name): Condition("category", name) for name in named}
    words = " ".join(re.sub(r"[^\w\s'-]|_", " ", text.lower()).split())
    words = re.sub(r"\bfinal\b", "last", re.sub(r"\binitial\b", "first", words))
    for token in sorted((token for token in nouns if "-" in token), key=len, reverse=True):
        words = re.sub(rf"\b{token.replace('-', '[ -]?')}\b", token, words)
    return _parse(words, nouns)


def _token(name: str) -> str:
    return "-".join(re.findall(r"\w+", name.lower()))


def _parse(words: str, nouns: dict[str, Condition]) -> Statement:
    conditions, phrases, others = [], [], []
    relation, action = _first_relation(words), re.search(rf"\b(?:{ACTION})", words)
    if action and not (relation and relation[1].start() < action.start()):
        others.append(words[action.start() :])
        words = words[: action.start()]
    elif relation:
        kind, match = relation
        landmark = _parse(words[match.end() :], nouns)
        conditions.append(Condition(kind, landmark=landmark.conditions))
        phrases.append(words[match.start() :])
        words = words[: match.start()]
        if not landmark.conditions or landmark.others:  # which one is meant nobody can tell
            conditions, others = [], [phrases.pop()]
    for kind, pattern in PROPERTIES.items():
        match = re.search(rf"\b(?:{pattern})\b", words)
        if match:
            noun = match.groupdict().get("noun") or ""
            conditions.append(Condition(kind))
            phrases.append(match.group())
            words = f"{words[: match.start()]} {noun} {words[match.end() :]}"
    head, more = _head(words.split(), nouns)
    if head in nouns:
        conditions.insert(0, nouns[head])
        phrases.insert(0, head)
    return Statement(tuple(conditions), tuple(phrases), (*more, *others), head in nouns)


def _first_relation(words: str) -> tuple[str, re.Match] | None:
    """The leftmost of all relations, of several that begin there the longest."""
    found = [
        (match.start(), -match.end(), kind, match)
        for kind, pattern in RELATIONS.items()
        if (match := re.search(rf"\b(?:{pattern}) (?=(?:the|an?) )", words))
    ]
    return min(found)[2:] if found else None


def _head(tokens: list[str], nouns: dict[str, Condition]) -> tuple[str, list[str]]:
    """The word that says what is meant, and the words that say more of it."""
    head = next((token for token in tokens if token in nouns or token in ANYTHING), "")
    rest = [token for token in tokens if token not in SAYS_NOTHING and token not in ANYTHING]
    if head in rest:
        rest.remove(head)
    return head, rest
