"""`refavs evaluate`, from the command line to the files it leaves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dataset_script.annotations import read_annotations
from dataset_script.media_files import mask_paths
from modeling_refavs.cli import main

from ..conftest import make_model
from .conftest import METRICS


ROOT = METRICS.parents[1]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory, processor) -> Path:
    folder = tmp_path_factory.mktemp("model")
    make_model().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def masks(tree, tmp_path_factory) -> Path:
    """The truth, but for the first frame of each object, where nothing is predicted."""
    folder = tmp_path_factory.mktemp("masks")
    for row in read_annotations(tree / "metadata.csv").rows:
        (folder / row.uid).mkdir()
        for path in mask_paths(tree, row.clip_id, row.fid):
            mask = Image.open(path)
            (Image.new("L", mask.size) if path.stem == "00000" else mask).save(
                folder / row.uid / path.name
            )
    return folder


def test_a_folder_of_masks(tree, masks, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = [
        "evaluate",
        "--predictions",
        str(masks),
        "--data",
        str(tree),
        "--output",
        str(output),
    ]
    assert (
        main([*arguments, "--by", "length", "category", "--draws", "50", "--mask-size", "own"]) == 0
    )
    printed, progress = capsys.readouterr()
    assert "| Seen (test_s) | 3 | 18 | 90.00 [90.0, 90.0] |" in printed
    empty = "0.000 [0.000, 0.000] | 100.00 [100.0, 100.0] | - |"
    assert f"| Null (test_n) | 3 | 12 | - | - | - | {empty}" in printed
    assert "Presence" not in printed  # masks do not say it
    assert "evaluating: 100%" in progress
    report = json.loads((output / "report.json").read_text())
    assert report["mix"]["jaccard"]["value"] == pytest.approx(0.9)
    assert report["breakdowns"]["category"]["man"]["sentences"] == 9
    assert (output / "report.md").read_text() == printed
    names = {path.name for path in output.iterdir()}
    tables = {"sentences.csv", "sentences.parquet"}
    assert names == {"report.json", "report.md", "request.json", "scores-0.jsonl"} | tables | {
        f"clips_{split}.png" for split in ("test_s", "test_u", "test_n")
    }
    assert Image.open(output / "clips_test_s.png").width > 1000

    scores = (output / "scores-0.jsonl").read_bytes()
    assert main([*arguments, "--pooling", "released", "--draws", "50", "--mask-size", "own"]) == 0
    printed, progress = capsys.readouterr()
    assert "the mean over batches of 4 sentences" in printed
    assert "9 clips were done" in progress
    assert (output / "scores-0.jsonl").read_bytes() == scores

    assert main([*arguments, "--threshold", "0.3"]) == 2
    assert "scores of another evaluation (conventions differ)" in capsys.readouterr().err
    os.utime(next(masks.glob("*/00004.png")), (1, 1))
    os.utime(next((tree / "gt_mask").glob("*/*/00004.png")), (1, 1))
    assert main([*arguments, "--mask-size", "own"]) == 2
    assert "(subject_files, data_files differ)" in capsys.readouterr().err


def test_a_model(tree, model_folder, tmp_path, capsys):
    arguments = [
        "evaluate",
        "--model",
        str(model_folder),
        "--data",
        str(tree),
        "--splits",
        "test_n",
    ]
    assert (
        main(
            [
                *arguments,
                "--output",
                str(model_folder / "evaluation"),
                "--draws",
                "20",
                "--mask-size",
                "64",
            ]
        )
        == 0
    )
    assert "| Null (test_n) | 3 | 12 | - | - | - |" in capsys.readouterr().out
    assert (
        main(
            [
                *arguments,
                "--output",
                str(model_folder / "evaluation"),
                "--draws",
                "20",
                "--mask-size",
                "64",
            ]
        )
        == 0
    )
    assert "3 clips were done" in capsys.readouterr().err


def test_saved_predictions_score_to_the_same_digits(tree, model_folder, tmp_path, capsys):
    """And so does what was stopped half way."""
    fixed = ["--data", str(tree), "--draws", "20", "--mask-size", "48", "--splits"]
    splits, saved = ["test_s", "test_n"], str(tmp_path / "saved")

    def evaluate(*subject: str, output: str, splits=splits) -> dict:
        folder = ["--output", str(tmp_path / output)]
        assert main(["evaluate", *subject, *fixed, *splits, *folder]) == 0, capsys.readouterr().err
        report = json.loads((tmp_path / output / "report.json").read_text())
        return {name: report[name] for name in ("splits", "presence")}

    model = ["--model", str(model_folder), "--save-predictions", saved]
    evaluate(*model, output="part", splits=["test_s", "--clips", "1"])
    assert len(list((tmp_path / "saved").glob("*/scores.json"))) == 6
    whole = evaluate(*model, output="whole")
    assert whole["presence"]["frames"] == 300
    assert evaluate("--predictions", saved, output="again") == whole
    plain = evaluate("--model", str(model_folder), output="plain")["splits"]["test_s"]
    for name in ("jaccard", "fscore", "t_acc"):
        difference = plain[name]["value"] - whole["splits"]["test_s"][name]["value"]
        assert abs(difference) < 1e-4
    capsys.readouterr()
    compared = [str(tmp_path / name) for name in ("whole", "again")]
    assert main(["evaluate", "--compare", *compared]) == 0
    printed = capsys.readouterr().out
    assert "30 sentences of 6 clips" in printed
    assert printed.count("| +0.00 | [+0.00, +0.00] | 1.000 |") == 5  # J, F, J&F, T-acc; N-acc


def test_two_processes_write_the_report_of_one(tree, masks, cache, tmp_path):
    reports = []
    for number in (1, 2):
        output = tmp_path / str(number)
        launcher = (
            ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
            if number == 2
            else []
        )
        command = [
            sys.executable,
            "-m",
            *launcher,
            "modeling_refavs.cli",
            "evaluate",
            "--predictions",
            str(masks),
        ]
        command += [
            "--data",
            str(tree),
            "--output",
            str(output),
            "--draws",
            "50",
            "--mask-size",
            "64",
        ]
        environment = {**os.environ, "HF_DATASETS_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("# Evaluation of") == 1
        assert len(list(output.glob("scores-*.jsonl"))) == number
        report = json.loads((output / "report.json").read_text())
        reports.append(
            {name: value for name, value in report.items() if name != "seconds_per_sentence"}
        )
    assert len((tmp_path / "2" / "scores-1.jsonl").read_text().splitlines()) == 4
    assert reports[0] == reports[1]


MISTAKES = {
    "no such split": (["--splits", "test"], "--splits test: must be of train, val"),
    "a split that is not there": (["--splits", "val"], "Unknown split"),
    "no such breakdown": (["--by", "colour"], "--by colour: must be of grade"),
    "no grades": (["--by", "grade"], "--by grade: "),
    "no such data": (["--data", "nowhere"], "--data nowhere: no such folder"),
    "no such masks": (["--predictions", "nowhere"], "--predictions nowhere: no such folder"),
    "masks of nothing": (["--predictions", "."], "lacks masks of 48 of 48 sentences"),
    "a threshold out of range": (["--threshold", "1"], "a threshold must lie in [0, 1), got 1.0"),
    "no batch": (["--batch-size", "0"], "batch_size must be at least 1, got 0"),
    "no draw": (["--draws", "0"], "the number of bootstrap draws must be at least 1, got 0"),
    "no clip": (["--clips", "0"], "--clips 0: at least one clip of each split is needed"),
    "nothing to save": (["--save-predictions", "p"], "--save-predictions keeps what a model"),
    "no size": (["--mask-size", "0"], "the mask size must be at least 1 pixel, got 0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_line_and_exit_code_2(
    mistake, tree, masks, tmp_path, monkeypatch, capsys
):
    change, words = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "--predictions", str(masks), "--data", str(tree), *change]) == 2
    printed, error = capsys.readouterr()
    assert printed == ""
    assert words in error.splitlines()[-1]
    assert error.splitlines()[-1].startswith("refavs evaluate: ")
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_a_model_or_masks(tree, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "--data", str(tree)])
    assert stopped.value.code == 2
    assert "--model --predictions --compare is required" in capsys.readouterr().err
    assert main(["evaluate", "--predictions", "masks"]) == 2
    assert "--data is needed" in capsys.readouterr().err
