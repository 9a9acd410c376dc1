"""What docs/publishing.md says is what is there."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from modeling_refavs.cli import make_parser
from modeling_refavs.hub.card import CardFacts, read_facts


TEXT = (Path(__file__).parents[1] / "docs" / "publishing.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "command", [line for line in "".join(blocks("bash")).splitlines() if line.startswith("refavs ")]
)
def test_the_commands_are_understood(command):
    assert make_parser().parse_args(shlex.split(command)[1:]).run


def test_the_facts_are_all_there_are(tmp_path):
    (tmp_path / "card_facts.yaml").write_text(blocks("yaml")[0])
    facts = read_facts(tmp_path / "card_facts.yaml")
    assert facts.commands == ["refavs synthesize TREE --clips 4000"]
    named = set(re.findall(r"^(\w+):", blocks("yaml")[0], flags=re.MULTILINE))
    assert {field.name for field in fields(CardFacts)} - named == {"language", "citation"}
