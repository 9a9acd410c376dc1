"""Which part of the code may import which (docs/architecture.md)."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_imports


ROOT = Path(__file__).parents[1]
PAGE_FOLDER = ROOT / "spaces_demo"
PAGE = ["app", "answer", "service", "texts"]
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
PACKAGE = sorted((ROOT / "modeling_refavs").rglob("*.py"))
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
def test_the_data_knows_nothing_of_the_model_but_how_files_are_read_and_written(path):
    """`utils`, and two published files that know nothing of the model either."""
    files = {"modeling_refavs.video_refavs", "modeling_refavs.mask_rle"}
    assert not [
        module
        for level, module in imports(path)
        if not level
        and module.startswith("modeling_refavs")
        and not module.startswith("modeling_refavs.utils.")
        and module not in files
    ]


@pytest.mark.parametrize("name", PAGE)
def test_the_page_leaves_the_work_to_another_process(name):
    media = {
        "modeling_refavs",
        "modeling_refavs.visualization.overlay",
        "modeling_refavs.utils.files",
        "modeling_refavs.utils.processes",
    }
    for _, module in imports(PAGE_FOLDER / f"{name}.py"):
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


def test_nothing_but_commands_imports_hub():
    for path in PACKAGE:
        folder = path.relative_to(ROOT / "modeling_refavs").parts[0]
        if folder not in ("hub", "commands"):
            found = [
                module for level, module in imports(path) if level and "hub" in module.split(".")
            ]
            assert not found, path


def test_nothing_but_commands_imports_research():
    for path in [*PACKAGE, *(ROOT / "dataset_script").rglob("*.py"), *PAGE_FOLDER.glob("*.py")]:
        if not {"research", "commands"} & set(path.parts):
            assert not [module for _, module in imports(path) if "research" in module.split(".")]


def test_only_commands_know_argparse():
    for path in [*PACKAGE, *(ROOT / "dataset_script").rglob("*.py")]:
        if "commands" not in path.parts and path.name != "cli.py":
            assert "argparse" not in path.read_text(encoding="utf-8"), path


# What a folder of the package may import beside the published files and `utils`.
ARROWS = {
    "utils": set(),
    "inference": set(),
    "media": {"inference"},
    "visualization": {"inference"},
    "metrics": {"inference", "visualization"},
    "training": {"inference", "metrics"},
    "hub": {"inference", "metrics"},
    "benchmarks": {"inference", "visualization", "training"},
    "research": {"inference", "metrics", "training"},
    "commands": {
        "inference",
        "visualization",
        "metrics",
        "training",
        "hub",
        "benchmarks",
        "research",
    },
}


@pytest.mark.parametrize("folder", ARROWS)
def test_folders_import_along_the_arrows(folder):
    package = ROOT / "modeling_refavs"
    for path in sorted((package / folder).rglob("*.py")):
        depth = len(path.relative_to(package).parts)
        names = {module.split(".")[0] for level, module in imports(path) if level == depth}
        others = {name for name in names if name and (package / name).is_dir()}
        assert others - {folder, "utils"} <= ARROWS[folder], path


def test_there_is_no_import_circle():
    """Imports inside functions count too; those of `TYPE_CHECKING` run nowhere and do not."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for top in ("modeling_refavs", "dataset_script")
        for path in (ROOT / top).rglob("*.py")
    } | {path.stem: path for path in PAGE_FOLDER.glob("*.py")}
    edges = {name: imported_modules(name, path, modules) for name, path in modules.items()}
    while leaves := [name for name, targets in edges.items() if not targets & edges.keys()]:
        for name in leaves:
            del edges[name]
    assert not edges


def imported_modules(name: str, path: Path, modules: dict[str, Path]) -> set[str]:
    """Those of `modules` that one of them imports, by their full names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    packages = {name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)}
    return {module for module in found if module in modules} - {name} - packages


OWNED = {
    "atomic writing": r"^def whole_file\(",
    "journal": r"^class Journal\b",
    "sampling rate": r"^SAMPLING_RATE\b",
    "Markdown table": r"^def table\(",
    "call of the processor's tokenizer": r"processor\.tokenizer\(|^class RefAVSProcessor\b",
}


@pytest.mark.parametrize("what", OWNED)
def test_one_owner(what):
    texts = {path: path.read_text(encoding="utf-8") for path in PACKAGE}
    owners = [path for path, text in texts.items() if re.search(OWNED[what], text, re.MULTILINE)]
    assert len(owners) == 1, owners


def test_there_are_at_most_199_python_files():
    folders = ("modeling_refavs", "dataset_script", "spaces_demo")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    files = [path for path in files if not path.parent.name.endswith("_checkpoint")]  # copies
    assert len(files) + 1 <= 199  # and setup.py
