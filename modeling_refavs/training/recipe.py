"""A recipe: a YAML file of arguments, and words of the command line that win over it."""

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from .arguments import DataArguments, ModelArguments, RefAVSTrainingArguments


ARGUMENT_CLASSES = (ModelArguments, DataArguments, RefAVSTrainingArguments)
Arguments = tuple[ModelArguments, DataArguments, RefAVSTrainingArguments]


class RecipeParser(HfArgumentParser):
    """A mistake is a `ValueError` of one line."""

    def error(self, message: str):
        raise ValueError(message)


def read_recipe(recipe: str | Path, overrides: Sequence[str] = ()) -> Arguments:
    """A YAML file of `name: value`, and `--name value` that win over it; `--config.name value` sets one entry of `config`,
    `--config.mask2former_config.class_weight 5` one deeper in it.

    Raises:
        ValueError: the file cannot be read, or a name or a value is not known.
    """
    try:
        values = yaml.safe_load(Path(recipe).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{recipe}: cannot be read as a recipe: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{recipe}: a recipe is a list of `name: value`, got {type(values).__name__}")
    _check_names(values, f"{recipe}: ")
    words = _merge_entries(values, list(overrides))
    _check_names((word[2:].partition("=")[0] for word in words if word.startswith("--")), "--")
    parser = RecipeParser(ARGUMENT_CLASSES, allow_abbrev=False)
    return parser.parse_args_into_dataclasses([*_as_words(values), *words], look_for_args_file=False)


def _merge_entries(values: dict[str, Any], words: list[str]) -> list[str]:
    """`--config.name value` goes into `values`; the other words are returned."""
    rest = []
    while words:
        word = words.pop(0)
        if not word.startswith("--config."):
            rest.append(word)
            continue
        name, equals, value = word[len("--config.") :].partition("=")
        if not equals and not words:
            raise ValueError(f"{word}: a value is missing")
        _set_entry(values, ["config", *name.split(".")], yaml.safe_load(value if equals else words.pop(0)))
    return rest


def _set_entry(values: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        values[name] = values.get(name) or {}
        values = values[name]
    values[path[-1]] = value


def _as_words(values: dict[str, Any]) -> list[str]:
    """Entries of a recipe as a command line has them, so that both are understood alike; null leaves the default."""
    words = []
    for name, value in values.items():
        if isinstance(value, list) and not any(isinstance(item, (list, dict)) for item in value):
            words += [f"--{name}", *map(str, value)]
        elif name == "fsdp" and value is True:
            words.append("--fsdp")  # a flag; a word after it would be its older form
        elif value is not None:
            words.append(f"--{name}={json.dumps(value) if isinstance(value, (dict, list)) else value}")
    return words


def _check_names(names: Iterable[str], place: str) -> None:
    known = [entry.name for kind in ARGUMENT_CLASSES for entry in fields(kind) if entry.init]
    for name in names:
        if str(name).replace("-", "_") not in known:
            nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
            raise ValueError(f"{place}{name} is not known: did you mean `{nearest}`?")
