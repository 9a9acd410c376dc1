"""Which room may import which (docs/architecture.md)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_imports


ROOT = Path(__file__).parents[1]
ROOM = ROOT / "spaces_demo"
PAGE = ["app", "answer", "service", "texts", "video_input"]
PUBLISHED = sorted(
    path
    for path in (ROOT / "modeling_refavs").glob("*.py")
    if path.name not in ("__init__.py", "auto.py", "cli.py")
)
NEEDED = {
    "torch",
    "numpy",
    "transformers",
    "huggingface_hub",
    "safetensors",
}  # the last two are parts of the third
OPTIONAL = {"scipy", "av", "triton"}  # behind `is_scipy_available` and its like, and inside `try`


def imports(path: Path) -> list[tuple[int, str]]:
    """(level, module) of each import in a file; level 0 is absolute."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or ""))
    return found


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.name)
def test_published_files_are_flat_and_need_only_transformers(path):
    names = {published.stem for published in PUBLISHED}
    for level, module in imports(path):
        if level:
            assert level == 1
            assert module in names, f"{path.name} would not find .{module} on the Hub"
        elif module.split(".")[0] not in sys.stdlib_module_names:
            assert module.split(".")[0] in NEEDED | OPTIONAL


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.name)
def test_who_loads_published_files_needs_only_transformers(path):
    """What transformers itself looks for before it runs code from the Hub, installed here or
    not."""
    assert set(get_imports(path)) <= NEEDED | set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "dataset_script").rglob("*.py")), ids=lambda path: path.name
)
def test_the_data_does_not_know_the_model(path):
    assert not [
        module
        for level, module in imports(path)
        if not level and module.startswith("modeling_refavs")
    ]


@pytest.mark.parametrize("name", PAGE)
def test_the_page_leaves_the_work_to_another_process(name):
    media = {"modeling_refavs", "modeling_refavs.visualization.overlay"}
    for _, module in imports(ROOM / f"{name}.py"):
        assert (
            module in {*PAGE, *media, "gradio", "limits"}
            or module.split(".")[0] in sys.stdlib_module_names
        )


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = (
        "import sys, modeling_refavs.cli as c; c.make_parser(); print([m for m in ('torch', "
        "'transformers', 'av') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_a_clean_room_needs_nothing_of_ours():
    path = ROOT / "modeling_refavs" / "hub" / "clean_room.py"
    names = {module.split(".")[0] for level, module in imports(path) if not level}
    assert not [module for level, module in imports(path) if level]
    assert names - set(sys.stdlib_module_names) <= {"numpy", "transformers", "evaluate", "datasets"}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "modeling_refavs").rglob("*.py")), ids=lambda path: path.name
)
def test_only_the_command_knows_what_publishes(path):
    room = path.relative_to(ROOT / "modeling_refavs")
    if room.parts[0] not in ("hub", "commands"):
        assert not [
            module for level, module in imports(path) if "hub" in module.split(".") and level
        ]
