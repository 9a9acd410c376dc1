"""The commands as a user meets them: exit codes, one clear line, no traceback."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import dataset_script
from dataset_script.media_files import frame_paths
from modeling_refavs.cli import main


SOURCES = sorted(Path(dataset_script.__file__).parent.glob("*.py"))


def test_check(tree, tmp_path, capsys):
    assert main(["dataset", "check", str(tree), "--report", str(tmp_path / "report.json")]) == 0
    printed = capsys.readouterr()
    assert "25 rows, 6 clips" in printed.out
    assert "Training can go on." in printed.out
    assert "checking clips: 100%" in printed.err
    assert json.loads((tmp_path / "report.json").read_text())["can_train"] is True


def test_check_of_a_damaged_tree(tree, tmp_path, capsys):
    frame_paths(tree, "ccccccccccc_0_10000")[0].unlink()
    assert main(["dataset", "check", str(tree)]) == 1
    assert "load with damaged='skip' (22 of 25 rows)" in capsys.readouterr().out


def test_stats(tree, tmp_path, capsys):
    assert main(["dataset", "stats", str(tree), "--output", str(tmp_path / "out")]) == 0
    assert "## Splits (the paper's Table 2)" in capsys.readouterr().out
    assert (tmp_path / "out" / "statistics.md").is_file()


def test_export(tree, tmp_path, capsys):
    command = [
        "dataset",
        "export",
        str(tree),
        str(tmp_path / "out"),
        "--configurations",
        "clips",
        "expressions",
    ]
    assert main([*command, "--paper-splits", "--shard-mb", "1"]) == 0
    printed = capsys.readouterr()
    assert "10 shards, 31 rows, 0 sentences left out" in printed.out
    assert "exporting: 100%" in printed.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "nowhere"], "nowhere does not exist"),
        (["check", "{tree}", "--num-proc", "0"], "num_proc must be 1 or more"),
        (["stats", "nowhere"], "nowhere does not exist"),
        (["stats", "{tree}", "--output", "{tree}/metadata.csv"], "is a file"),
        (["export", "{tree}", "{tree}"], "is no export"),
        (
            ["export", "{tree}", "{tree}/out", "--configurations", "rows"],
            "configuration must be one of",
        ),
        (["export", "{tree}", "{tree}/out", "--shard-mb", "0"], "shard size above 0"),
        (["export", "{tree}/metadata.csv", "{tree}/out"], "give the folder"),
    ],
)
def test_a_mistake_is_one_line(tree, capsys, arguments, words):
    assert main(["dataset", *(argument.format(tree=tree) for argument in arguments)]) == 2
    printed = capsys.readouterr().err.strip().splitlines()[-1]
    assert printed.startswith("refavs dataset: ")
    assert words in printed


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_dataset_script_imports_nothing_of_the_models(source):
    for node in ast.walk(ast.parse(source.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        ours = {name for name in names if name.split(".")[0] == "modeling_refavs"}
        files = {"modeling_refavs.mask_rle", "modeling_refavs.video_refavs"}
        utils = {f"modeling_refavs.utils.{name}" for name in ("files", "markdown", "processes")}
        assert not ours - files - utils


def test_checking_and_counting_do_without_datasets():
    code = (
        "import sys, dataset_script.checking, dataset_script.statistics_report; "
        "sys.exit('datasets' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
