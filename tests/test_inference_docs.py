"""What docs/inference.md says, runs."""

import re
import shlex
from pathlib import Path

import pytest

from modeling_refavs.cli import make_parser


ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "inference.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def test_its_python_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    namespace: dict = {}
    for block in blocks("python"):
        exec(compile(block, "docs/inference.md", "exec"), namespace)


@pytest.mark.parametrize("command", "".join(blocks("bash")).replace("\\\n", " ").splitlines())
def test_its_commands_are_understood(command):
    assert make_parser().parse_args(shlex.split(command)[1:]).run
