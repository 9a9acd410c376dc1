"""What the documents say: their commands parse, their Python runs, their links and files exist."""

import ast
import builtins
import csv
import inspect
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from PIL import Image

from dataset_script.export_videos import export_videos
from dataset_script.synthetic import SynthesisOptions, synthesize
from modeling_refavs.cli import main, make_parser
from modeling_refavs.hub.card import CardFacts, read_facts
from modeling_refavs.training.checkpoints import RECIPE_FILE
from tests.conftest import SLOW


ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "model_card.md",
    "spaces_demo/README.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
]
FOLDERS = ["modeling_refavs", "dataset_script", "spaces_demo", "tests"]
TORCHRUN = re.compile(r"^torchrun .*-m modeling_refavs\.cli ")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", read(name), flags=re.MULTILINE | re.DOTALL)


def commands(name: str) -> list[str]:
    lines = "".join(blocks(name, "bash")).replace("\\\n", " ").splitlines()
    lines = [TORCHRUN.sub("refavs ", line) for line in lines]
    return [line for line in lines if line.startswith("refavs ")]


def anchors(name: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", read(name), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    ("name", "command"), [(name, command) for name in DOCUMENTS for command in commands(name)]
)
def test_commands_parse(name, command):
    arguments = shlex.split(command, comments=True)[1:]
    assert make_parser().parse_args(arguments).run


@pytest.mark.parametrize("name", ["docs/outputs.md", "docs/performance.md", "docs/training.md"])
def test_documents_about_commands_have_some(name):
    assert commands(name)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_and_anchors_exist(name):
    for target in re.findall(r"\]\(([^)]+)\)", read(name)):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        linked = (ROOT / name).parent / path if path else ROOT / name
        assert linked.exists(), target
        assert not anchor or anchor in anchors(str(linked)), target


@pytest.mark.parametrize("name", DOCUMENTS)
def test_named_files_exist(name):
    """Files are named by the end of their path; one of them is what a training writes."""
    text = re.sub(r"https?://\S+", "", read(name))
    for file in set(re.findall(r"\b[a-z_][a-z_0-9/]*\.(?:py|yaml)\b", text)) - {RECIPE_FILE}:
        assert (ROOT / file).exists() or any(
            any((ROOT / folder).rglob(file)) for folder in FOLDERS
        ), file


@pytest.mark.parametrize("name", DOCUMENTS)
def test_named_modules_exist(name):
    """`package.module`, or `package.module.attribute`."""
    pattern = r"\b(?:modeling_refavs|dataset_script)(?:\.(?!py\b)[a-z_]+)+"
    for dotted in set(re.findall(pattern, read(name))):
        place = ROOT.joinpath(*dotted.split("."))
        module = place.with_suffix(".py")
        assert place.is_dir() or module.exists() or place.parent.with_suffix(".py").exists(), dotted


def test_readme_shows_code_before_line_25():
    text = read("README.md")
    assert text[: text.index("```python")].count("\n") < 25


# What cannot run here says so in its first line; its Python must compile and its names exist.
MARKS = (
    "needs a GPU",
    "needs weights from the Hub",
    "needs an account on the Hub",
    "needs a camera",
    "needs a running page",
    "needs a person at the page",
    "needs PEFT",
    "needs the network",
    "needs COCO",
    "needs a library",
    "takes hours",
)
SHORTER = {
    "--clips 60": "--clips 15 --size 48",
    "--clips 1000": "--clips 4 --size 48",
    "recipes/smoke.yaml": "recipes/smoke.yaml --max_steps 2 --eval_steps 2 --save_steps 2",
    "recipes/finetune.yaml": "recipes/finetune.yaml --model spaces_demo/synthetic_checkpoint "
    "--max_steps 2 --eval_steps 2 --save_steps 2",
    "refavs evaluate": "refavs evaluate --mask-size 32 --draws 20",
    "refavs probe": "refavs probe --draws 20",
    "--fps video": "--fps 1.5",
    "--fps 5": "--fps 1.5",
}
READERS_OWN = {  # what a document takes for granted, by the words that name it
    "REFAVS": lambda folder, tree: (folder / "REFAVS").symlink_to(tree),
    "runs/eemc": lambda folder, tree: copy_checkpoint(folder / "runs" / "eemc"),
    " own mine": lambda folder, tree: bring_videos(folder, tree),
    "--predictions masks": lambda folder, tree: predict_nothing(folder / "masks", tree),
}


def blocks_in_order(name: str) -> list[tuple[str, str | None, str]]:
    """(language, mark, text) of each block of Python or shell."""
    found = re.findall(r"^```(python|py|bash|sh)\n(.*?)^```", read(name), re.MULTILINE | re.DOTALL)
    marked = []
    for language, text in found:
        first = text.partition("\n")[0]
        mark = first.removeprefix("# ") if first.startswith(("# needs", "# takes")) else None
        marked.append((language, mark, text))
    return marked


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """What stands for Ref-AVS Bench."""
    folder = tmp_path_factory.mktemp("tree")
    synthesize(folder, 30, SynthesisOptions(height=48, width=64))
    return folder


def copy_checkpoint(folder: Path) -> None:
    folder.parent.mkdir()
    shutil.copytree(ROOT / "spaces_demo" / "synthetic_checkpoint", folder)


def bring_videos(folder: Path, tree: Path) -> None:
    """Videos of one's own, in another data set's form."""
    export_videos("ref-youtube-vos", tree, folder / "own")
    (folder / "own_test").symlink_to(folder / "own")


def predict_nothing(folder: Path, tree: Path) -> None:
    """Masks of another program."""
    with (tree / "metadata.csv").open(newline="") as file:
        uids = [row["uid"] for row in csv.DictReader(file) if row["split"].startswith("test")]
    for uid in uids:
        (folder / uid).mkdir(parents=True)
        for frame in range(10):
            Image.new("L", (64, 48)).save(folder / uid / f"{frame:05d}.png")


RUNNING = [name for name in DOCUMENTS if blocks_in_order(name)]


@pytest.mark.parametrize("name", RUNNING)
def test_every_block_runs_in_order(name, tree, tmp_path, monkeypatch, capfd):
    """In a clean folder beside the repository's own."""
    for folder in ("spaces_demo", "modeling_refavs", "dataset_script"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    for words, bring in READERS_OWN.items():
        if words in read(name):
            bring(tmp_path, tree)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # caches
    namespace: dict = {}
    for language, mark, text in blocks_in_order(name):
        assert mark is None or mark in MARKS
        if language in ("bash", "sh"):
            if mark is None:
                for line in text.replace("\\\n", " ").splitlines():
                    run_command(line)
        elif mark is None:
            exec(compile(text, name, "exec"), namespace)
        elif mark == "needs PEFT":  # tests/training/test_lora.py runs it
            compile(text, name, "exec")
        else:
            check_names(text, namespace)


def run_command(line: str) -> None:
    if not SLOW:
        line = TORCHRUN.sub("refavs ", line)
        for words, fewer in SHORTER.items():
            line = line.replace(words, fewer)
    program, *words = shlex.split(line, comments=True) or ["#"]
    if program == "refavs":
        assert main(words) == 0, line
    elif program == "torchrun":
        subprocess.run([sys.executable, "-m", "torch.distributed.run", *words], check=True)
    elif program == "pip":
        assert words[:2] == ["install", "-e"]
        assert f'"{words[2][2:-1]}": ' in (ROOT / "setup.py").read_text()
    else:
        assert program == "#", line


def check_names(code: str, namespace: dict) -> None:
    """All names of a block that cannot run here exist, and so do the keywords of its calls."""
    parsed = ast.parse(code)
    for node in parsed.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            exec(ast.unparse(node), namespace)
    names = [node for node in ast.walk(parsed) if isinstance(node, ast.Name)]
    made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    for node in names:
        assert node.id in made | namespace.keys() | vars(builtins).keys(), node.id
    for call in (node for node in ast.walk(parsed) if isinstance(node, ast.Call)):
        root = call.func
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name) and root.id not in made and root is not call.func:
            called = eval(ast.unparse(call.func), namespace)
            if inspect.isbuiltin(called):
                continue  # it has no signature to read
            kinds = inspect.signature(called).parameters.values()
            if not any(kind.kind is inspect.Parameter.VAR_KEYWORD for kind in kinds):
                assert {word.arg for word in call.keywords} <= {kind.name for kind in kinds}


def test_shorter_commands_are_of_the_documents():
    text = "".join(map(read, DOCUMENTS))
    assert [words for words in [*SHORTER, *READERS_OWN] if words not in text] == []


@pytest.mark.parametrize("code", ["undefined(1)", "import torch\ntorch.no_such_name()"])
def test_a_block_with_a_wrong_name_is_found(code):
    with pytest.raises((AssertionError, AttributeError)):
        check_names(code, {})


def test_publishing_lists_every_card_fact(tmp_path):
    text = blocks("docs/publishing.md", "yaml")[0]
    (tmp_path / "card_facts.yaml").write_text(text)
    facts = read_facts(tmp_path / "card_facts.yaml")
    assert facts.commands == ["refavs synthesize TREE --clips 4000"]
    named = set(re.findall(r"^(\w+):", text, flags=re.MULTILINE))
    assert {field.name for field in fields(CardFacts)} - named == {"language", "citation"}
