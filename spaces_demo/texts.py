"""The page's words: English first, Chinese second."""

import json
from pathlib import Path
from typing import Any

from limits import MESSAGES, Limits


FOLDER = Path(__file__).parent
EXAMPLES = FOLDER / "examples"
LANGUAGES = ("en", "zh")


def load_examples() -> dict[str, Any]:
    """What the page offers to try: `examples` with their `video`, `sentences` and `title`, and a
    `note` on the model."""
    return json.loads((EXAMPLES / "examples.json").read_text(encoding="utf-8"))


def load_texts(
    limits: Limits, seconds: float, examples: dict[str, Any]
) -> dict[str, dict[str, str]]:
    """`texts[language][key]`; those of limits and examples are filled in.

    Args:
        limits: of what is taken.
        seconds: that a request may take.
        examples: as `examples.json` holds them.
    """
    texts = json.loads((FOLDER / "texts.json").read_text(encoding="utf-8"))
    texts["en"] = MESSAGES | texts["en"]
    facts = {
        "containers": limits.container_names,
        "seconds": round(limits.seconds),
        "width": limits.width,
        "height": limits.height,
        "pictures": limits.num_pictures,
        "megabytes": round(limits.num_bytes / 1e6),
        "sentences": limits.num_sentences,
        "characters": limits.sentence_length,
        "minutes": round(seconds / 60),
    }
    for language in LANGUAGES:
        texts[language]["limits"] = texts[language]["limits"].format(**facts)
        texts[language]["note"] = examples["note"][language]
        for number, example in enumerate(examples["examples"]):
            texts[language][f"example_{number}"] = example["title"][language]
    return texts


def choose_language(accepted: str | None) -> str:
    """The language of a browser's `Accept-Language`: Chinese if it is asked for first, else
    English."""
    return "zh" if (accepted or "").strip().lower().startswith("zh") else "en"
