"""What the documents say: their commands parse, their Python runs, their links and files exist."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from modeling_refavs.cli import make_parser
from modeling_refavs.hub.card import CardFacts, read_facts


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
    """Files are named by the end of their path."""
    text = re.sub(r"https?://\S+", "", read(name))
    for file in set(re.findall(r"\b[a-z_][a-z_0-9/]*\.(?:py|yaml)\b", text)):
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


@pytest.mark.parametrize("name", ["README.md", "docs/inference.md", "docs/outputs.md"])
def test_python_runs(name, tmp_path, monkeypatch, capsys):
    (tmp_path / "spaces_demo").symlink_to(ROOT / "spaces_demo")
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    assert blocks(name, "python")
    for block in blocks(name, "python"):
        exec(compile(block, name, "exec"), namespace)
    if name == "docs/outputs.md":
        assert (tmp_path / "cues.png").stat().st_size > 10_000


def test_publishing_lists_every_card_fact(tmp_path):
    text = blocks("docs/publishing.md", "yaml")[0]
    (tmp_path / "card_facts.yaml").write_text(text)
    facts = read_facts(tmp_path / "card_facts.yaml")
    assert facts.commands == ["refavs synthesize TREE --clips 4000"]
    named = set(re.findall(r"^(\w+):", text, flags=re.MULTILINE))
    assert {field.name for field in fields(CardFacts)} - named == {"language", "citation"}
