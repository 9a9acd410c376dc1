"""What docs/outputs.md says, runs."""

import re
import shlex
from pathlib import Path

import pytest

from modeling_refavs.cli import make_parser


ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "outputs.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def test_its_python_runs(tmp_path, monkeypatch):
    (tmp_path / "spaces_demo").symlink_to(ROOT / "spaces_demo")
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    for block in blocks("python"):
        exec(compile(block, "docs/outputs.md", "exec"), namespace)
    assert (tmp_path / "cues.png").stat().st_size > 10_000


@pytest.mark.parametrize("command", "".join(blocks("bash")).replace("\\\n", " ").splitlines())
def test_its_commands_are_understood(command):
    assert make_parser().parse_args(shlex.split(command)[1:]).run


def test_links_and_pictures_are_there():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert target.startswith("http") or (ROOT / "docs" / target).exists(), target
