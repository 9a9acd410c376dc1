"""What docs/performance.md tells to run can be run, and what it names is there."""

import re
import shlex
from pathlib import Path

import pytest

from modeling_refavs.cli import make_parser


ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
COMMANDS = "".join(
    re.findall(r"^```bash\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
).splitlines()


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_are_understood(command):
    assert make_parser().parse_args(shlex.split(command)[1:]).run


def test_the_files_that_it_names_are_there():
    assert COMMANDS
    for name in set(re.findall(r"`([\w/]+\.py)`", TEXT)):
        assert (
            list(ROOT.glob(f"*/{name}"))
            or list(ROOT.glob(f"tests/*/{name}"))
            or (ROOT / name).exists()
        ), name
