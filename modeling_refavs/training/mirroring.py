"""A clip in the mirror: frames and masks are flipped, and the sentence says left for right."""

import re


_SIDES = re.compile(r"\b(left|right)(?=(?:most|wards?|-hand|-most)?\b)", re.IGNORECASE)
_OTHER = {"left": "right", "right": "left"}


def mirror_sentence(sentence: str) -> str:
    """
    Example:
        >>> mirror_sentence("The leftmost dog, to the right of the cat.")
        'The rightmost dog, to the left of the cat.'
    """
    return _SIDES.sub(_swap, sentence)


def _swap(match: re.Match) -> str:
    word = match.group()
    other = _OTHER[word.lower()]
    return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other
