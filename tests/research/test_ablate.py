"""Which trainings and evaluations `refavs ablate` starts, and the table that it makes of them."""

import json
from pathlib import Path

import pytest

from modeling_refavs.cli import main
from modeling_refavs.research import ablate as ablation
from modeling_refavs.training.checkpoints import STATE_FILE
from tests.training.conftest import SMOKE


def make_report(score: float, is_bench: bool = True) -> dict:
    def estimate(value):
        return {"value": value, "low": value, "high": value}

    part = {"jaccard": estimate(score), "fscore": estimate(2 * score), "null": None}
    return {
        "splits": {
            "test_s": part,
            "test_u": part,
            "test_n": {"jaccard": None, "null": estimate(score / 10)},
        },
        "mix": part,
        "breakdowns": {"grade": {"5": part, "3": {**part, "jaccard": None}}},
        "published": {"table_3": [{"method": "EEMC"}] if is_bench else []},
    }


@pytest.fixture
def commands(monkeypatch):
    """What would have been started; a training leaves its state, an evaluation a report of 0.1
    times its number."""
    started = []

    def run(command, check, stdout):
        words = command[1:]
        started.append(words)
        if "evaluate" in words:
            output = Path(words[words.index("--output") + 1])
            output.mkdir(parents=True, exist_ok=True)
            (output / "report.json").write_text(json.dumps(make_report(0.1 * len(started) / 2)))
        else:
            output = Path(
                next(word for word in words if word.startswith("--output_dir")).partition("=")[2]
            )
            output.mkdir(parents=True, exist_ok=True)
            (output / STATE_FILE).write_text("{}")
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(ablation.subprocess, "run", run)
    return started


def test_every_variant_is_trained_and_scored(commands, recipe, tmp_path, capsys):
    words = [
        "ablate",
        str(recipe),
        "--output",
        str(tmp_path / "out"),
        "--seeds",
        "0",
        "1",
        "--by",
        "grade",
    ]
    assert main([*words, "--set", "--max_steps", "3"]) == 0
    assert len(commands) == 20
    folder = tmp_path / "out" / "no_memory" / "seed1"
    training = next(command for command in commands if f"--output_dir={folder}" in command)
    assert training[:4] == ["-m", "modeling_refavs.cli", "train", str(recipe)]
    assert training[4:] == [
        "--max_steps",
        "3",
        "--seed=1",
        "--config.use_cached_memory=false",
        f"--output_dir={folder}",
    ]
    table = capsys.readouterr().out
    assert "| EEMC | 35.00 ± 35.36 | 70.00 ± 70.71 |" in table
    assert (
        "| EEMC without audio, paper | 27.27 | 49.2 | 43.64 | 65.6 | 35.46 | 57.4 | 0.010 |"
        in table
    )
    assert "| grade | full | no_text | no_audio | no_memory | no_modality_encoding |" in table
    assert "| 3 | - | - | - | - | - |" in table
    assert (tmp_path / "out" / "ablation.md").read_text() == table
    scores = json.loads((tmp_path / "out" / "ablation.json").read_text())["scores"]
    assert scores["full"][0]["Null S"] == pytest.approx(0.01)


def test_the_papers_rows_are_for_its_data():
    reports = {"full": [make_report(0.5)], "no_audio": [make_report(0.4)]}
    assert "| EEMC, paper | 34.20 |" in ablation.ablation_text(reports)
    others = {name: [make_report(0.5, is_bench=False)] for name in reports}
    assert "paper" not in ablation.ablation_text(others)


def test_stages_go_on_from_one_another(commands, recipe, tmp_path):
    assert (
        main(["ablate", str(recipe), str(SMOKE), "--output", str(tmp_path), "--only", "no_audio"])
        == 0
    )
    folder = tmp_path / "no_audio" / "seed0"
    stages = [
        [str(recipe), "--seed=0", "--config.use_audio_cues=false", f"--output_dir={folder}/stage1"],
        [str(SMOKE), "--seed=0", f"--model={folder}/stage1", f"--output_dir={folder}"],
    ]
    assert [command[3:] for command in commands[:2]] == stages
    assert commands[2][commands[2].index("--model") + 1] == str(folder)
    assert len(commands) == 3


def test_what_is_trained_is_not_trained_again(commands, recipe, tmp_path):
    words = [
        "ablate",
        str(recipe),
        "--output",
        str(tmp_path / "out"),
        "--only",
        "full",
        "--processes",
        "2",
    ]
    assert main(words) == 0
    assert commands[0][:4] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    assert "± " not in (tmp_path / "out" / "ablation.md").read_text()
    assert main(words) == 0
    assert ["evaluate" in command for command in commands] == [False, True, True]


def test_mistakes(commands, recipe, tmp_path, monkeypatch, capsys):
    assert main(["ablate", str(recipe), "--only", "no_sound"]) == 2
    assert "--only no_sound: must be of full, no_text" in capsys.readouterr().err
    assert main(["ablate", str(recipe), "--set", "--max_step", "3"]) == 2
    assert "did you mean `max_steps`" in capsys.readouterr().err
    assert not commands
    monkeypatch.setattr(
        ablation.subprocess, "run", lambda *_, **__: type("Done", (), {"returncode": 2})
    )
    assert main(["ablate", str(recipe), "--output", str(tmp_path)]) == 2
    assert (
        f"training {tmp_path}/full/seed0 failed (exit code 2); run again" in capsys.readouterr().err
    )
