"""Splits and columns: the one place that says what a row of the data set holds (documented in
docs/data.md)."""

from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from datasets import Features

SPLITS = ("train", "val", "test_s", "test_u", "test_n")  # Sec. 5.1: seen, unseen and null test sets
LEFTOVER_SPLIT = "TODO"  # 25 rows of the released csv that belong to no split
CONFIGURATIONS = ("expressions", "clips")
NUM_FRAMES = 10  # one a second
CLIP_MS = 10_000

# `datasets` is imported when columns are asked for, so that reading, checking and counting do
# without it.


def features_of(configuration: str) -> "Features":
    """The columns of a configuration.

    Raises:
        ValueError: for a name that is neither `expressions` nor `clips`.
    """
    if configuration not in CONFIGURATIONS:
        raise ValueError(
            f"configuration must be one of {', '.join(CONFIGURATIONS)}, got {configuration!r}"
        )
    return _expression_features() if configuration == "expressions" else _clip_features()


def _clip_columns() -> dict:
    from datasets import Image, List, Value

    return {
        "clip_id": Value("string"),
        "youtube_id": Value("string"),
        "start_ms": Value("int32"),
        "null_kind": Value("string"),
        "frames": List(Image()),
        "audio": Value("binary"),
        "sampling_rate": Value("int32"),
    }


def _sentence_columns() -> dict:
    from datasets import Value

    return {
        "uid": Value("string"),
        "expression": Value("string"),
        "raw_expression": Value("string"),
        "category": Value("string"),
        "super_category": Value("string"),
        "fid": Value("int32"),
    }


def _expression_features() -> "Features":
    from datasets import Features, Image, List

    return Features({**_sentence_columns(), **_clip_columns(), "masks": List(Image(mode="L"))})


def _clip_features() -> "Features":
    from datasets import Features, Image, List, Value

    objects = List({"fid": Value("int32"), "masks": List(Image(mode="L"))})
    return Features(
        {**_clip_columns(), "expressions": List(_sentence_columns()), "objects": objects}
    )
