"""What several folders need: files that appear whole, how processes end, Markdown tables."""

from collections.abc import Sequence
from typing import Any


def table(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table: one line of titles, one of rules, one for each row."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )
