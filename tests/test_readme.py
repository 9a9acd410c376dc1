"""What README says, runs."""

import re
import shlex
from pathlib import Path

import pytest

from modeling_refavs.cli import make_parser


ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("refavs ")]


def test_the_first_lines_that_run_come_before_line_25():
    assert README[: README.index("```python")].count("\n") < 25


def test_the_python_of_the_readme_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    namespace: dict = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), namespace)


@pytest.mark.parametrize("command", commands())
def test_the_commands_of_the_readme_are_understood(command):
    assert make_parser().parse_args(shlex.split(command)[1:]).run


def test_links_and_pictures_are_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
