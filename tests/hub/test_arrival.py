"""From `refavs publish` to someone who has nothing of ours installed."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from modeling_refavs import RefAVSForSegmentation, RefAVSPipeline, RefAVSProcessor
from modeling_refavs.cli import main
from modeling_refavs.hub import publish
from modeling_refavs.hub.publish import ModelPublication
from modeling_refavs.utils.files import list_files


ROOT = Path(__file__).parents[2]
METRICS = ROOT / "modeling_refavs" / "metrics"
CLIP = ROOT / "spaces_demo" / "examples" / "bell_first.mp4"
SENTENCE = "the first object to make a sound"

SOMEBODY = """
import sys

sys.modules |= dict.fromkeys(["modeling_refavs", "dataset_script"])  # not installed here
"""
LOADS_EVERYTHING = """
import evaluate
import numpy
from datasets import load_dataset

numpy.save("masks.npy", answers[0]["masks"])
assert type(segment.model).__module__.startswith("transformers_modules.user.refavs")
truth = [[[1, 0], [0, 0]]]
for name, value in {"refavs_jaccard": 0.5, "refavs_fscore": 1.0}.items():
    metric = evaluate.load(f"user/{name}")
    found = metric.compute(predictions=[[[0.9, 0.1], [0.8, 0.1]]], references=truth)[name]
    assert abs(found - value) < 0.5 and found > 0.4, (name, found)
assert evaluate.load("user/refavs_null").compute(predictions=[[[0.0, 0.0]]], references=[[[0, 0]]])["refavs_null"] == 0
assert evaluate.load("user/refavs_noref").compute(predictions=[[[0.0, 0.0]]])["n_acc"] == 1
data = load_dataset("user/ref-avs")
assert {name: len(split) for name, split in data.items()} == {"train": 3, "test_s": 6, "test_u": 3, "test_n": 3}
assert data["test_s"][0]["frames"][9].size == data["test_s"][0]["masks"][9].size == (48, 36)
"""  # noqa: E501


@pytest.fixture
def no_clean_rooms(monkeypatch):
    """They take seconds each, and what is published here is loaded by somebody at the end."""
    for step in ("load_folder", "load_remote"):
        monkeypatch.setattr(publish.Publication, step, lambda *_: None)


@pytest.fixture
def stand_in_space(tmp_path) -> Path:
    """A Space that opens no window."""
    folder = tmp_path / "space"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "__pycache__" / "app.pyc").write_bytes(b"\0")
    (folder / "app.py").write_text(
        "import dataset_script\nimport modeling_refavs.cli\n\ndemo = None\n"
    )
    (folder / "draw_examples.py").write_text("raise SystemExit\n")
    (folder / "requirements.txt").write_text("torch\n")
    header = "title: Demo\nsdk: gradio\nsdk_version: 6.31.0\napp_file: app.py"
    (folder / "README.md").write_text(f"---\n{header}\n---\n\nA demo.\n")
    return folder


def test_a_model_is_published_and_loaded_by_somebody_else(hub, checkpoint, tmp_path, capsys):
    assert main(["publish", "model", str(checkpoint), "user/refavs"]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "it loads without this package" in said
    assert "read back and equal\nloaded by its id" in said
    names = set(hub.files("model", "user/refavs"))
    assert {
        "README.md",
        "config.json",
        "model.safetensors",
        "modeling_refavs.py",
        "pipeline_refavs.py",
    } <= names
    assert not names & {"card_facts.yaml", "evaluation.json", "training_args.bin"}


def test_everything_is_loaded_by_somebody_else(
    hub, no_clean_rooms, checkpoint, tree, tmp_path, capsys
):
    assert main(["publish", "model", str(checkpoint), "user/refavs"]) == 0, capsys.readouterr().err
    assert main(["publish", "metrics", str(METRICS), "user"]) == 0, capsys.readouterr().err
    assert main(["publish", "dataset", str(tree), "user/ref-avs", "--licence", "cc0-1.0"]) == 0, (
        capsys.readouterr().err
    )
    assert b"license: cc0-1.0" in hub.files("dataset", "user/ref-avs")["README.md"]
    assert sorted(hub.repos) == [
        ("dataset", "user/ref-avs"),
        ("model", "user/refavs"),
        ("space", "user/refavs_fscore"),
        ("space", "user/refavs_jaccard"),
        ("space", "user/refavs_noref"),
        ("space", "user/refavs_null"),
    ]
    card = hub.files("model", "user/refavs")["README.md"].decode()
    snippet = re.search(r"```python\n(.*?)```", card, flags=re.DOTALL)[1]  # as written
    shutil.copyfile(CLIP, tmp_path / CLIP.name)
    script = [sys.executable, "-I", "-c", SOMEBODY + snippet + LOADS_EVERYTHING]
    answer = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert answer.returncode == 0, answer.stderr
    segment = RefAVSPipeline(
        model=RefAVSForSegmentation.from_pretrained(checkpoint),
        processor=RefAVSProcessor.from_pretrained(checkpoint),
    )
    masks = segment(str(CLIP), text=[SENTENCE])[0]["masks"]
    assert masks.any()
    assert not masks.all()
    np.testing.assert_array_equal(np.load(tmp_path / "masks.npy"), masks)


@pytest.mark.parametrize(
    "name", ["refavs_jaccard", pytest.param("refavs_noref", marks=pytest.mark.slow)]
)
def test_a_metric_answers_in_the_clean_room_as_here(name, capsys):
    assert main(["publish", "metrics", str(METRICS / name), "user", "--dry-run"]) == 0
    assert f"user/{name} (space)" in capsys.readouterr().out


def test_an_export_comes_back_with_its_splits(hub, tree, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["dataset", "export", str(tree), "OUT"]) == 0
    assert main(["publish", "dataset", "OUT", "user/ref-avs", "--private"]) == 0, (
        capsys.readouterr().err
    )
    assert "loaded by its id" in capsys.readouterr().out
    files = hub.files("dataset", "user/ref-avs")
    assert {"export.json", "SHA256SUMS", "expressions/test_s-00000-of-00001.parquet"} <= set(files)


def test_a_space_holds_all_that_it_imports(hub, stand_in_space, capsys):
    assert main(["publish", "space", str(stand_in_space), "user/demo"]) == 0, (
        capsys.readouterr().err
    )
    files = hub.files("space", "user/demo")
    assert {"app.py", "README.md", "requirements.txt", "LICENSE", "modeling_refavs/cli.py"} <= set(
        files
    )
    assert "dataset_script/synthetic/scene.py" in files
    assert not [name for name in files if "__pycache__" in name or name == "draw_examples.py"]
    assert hub.repos["space", "user/demo"].created["sdk"] == "gradio"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda space: (space / "app.py").write_text("import no_such_module"),
            "No module named 'no_such_module'",
        ),
        (
            lambda space: (space / "requirements.txt").unlink(),
            "no Space: it has no requirements.txt",
        ),
        (
            lambda space: (space / "README.md").write_text("---\ntitle: a\nsdk: gradio\n---\n"),
            "lacks sdk_version, app_file",
        ),
        (
            lambda space: (space / "a.json").write_text('"/home/me/x"'),
            "a.json, line 1: /home/me is a path of this machine",
        ),
    ],
    ids=["app", "requirements", "header", "path"],
)
def test_a_space_that_would_not_run(stand_in_space, capsys, change, words):
    change(stand_in_space)
    assert main(["publish", "space", str(stand_in_space), "user/demo", "--dry-run"]) == 2
    complaint = capsys.readouterr().err
    assert words in complaint
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda folder: (folder / "pytorch_model.bin").write_bytes(b"\x80"),
            "pytorch_model.bin: a pickle runs code",
        ),
        (
            lambda folder: (folder / "tokenizer.json").write_text("{"),
            "does not load where this package is not installed",
        ),
        (
            lambda folder: (folder / "processor_config.json").unlink(),
            "has no processor: save it too",
        ),
        (lambda folder: (folder / "config.json").unlink(), "no checkpoint: it has no config.json"),
        (
            lambda folder: edit(folder / "config.json", model_type="bert"),
            "holds a bert, but a refavs",
        ),
        (
            lambda folder: edit(folder / "config.json", _name_or_path="/home/me/eemc"),
            "/home/me is a path of this machine",
        ),
    ],
    ids=["pickle", "clean room", "processor", "config", "type", "path"],
)
def test_a_model_that_must_not_go(checkpoint, tmp_path, capsys, monkeypatch, change, words):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "model"))
    change(folder)
    monkeypatch.setattr("modeling_refavs.hub.publish.ModelPublication.expected", lambda *_: None)
    assert main(["publish", "model", str(folder), "user/refavs", "--dry-run"]) == 2
    complaint = capsys.readouterr().err
    assert words in complaint
    assert complaint.strip().count("\n") == 0


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_a_training_leaves_beside_the_weights_stays(checkpoint, tmp_path):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "run"))
    (folder / "checkpoint-20").mkdir()
    for name in ("training_args.bin", "trainer_state.json", "curves.png", "recipe.yaml"):
        (folder / name).write_bytes(b"a")
    built = ModelPublication(folder, "user/refavs")
    (tmp_path / "work").mkdir()
    names = set(list_files(built.build(tmp_path / "work")))
    left_out = {
        "checkpoint-20",
        "training_args.bin",
        "trainer_state.json",
        "curves.png",
        "recipe.yaml",
        "evaluation.json",
    }
    assert set(built.left_out) == left_out
    assert not names & left_out
    assert {
        "README.md",
        "model.safetensors",
        "tokenizer.json",
        "processing_refavs.py",
        "eemc.py",
    } <= names


def test_an_answer_that_differs_is_noticed(checkpoint, monkeypatch, capsys):
    monkeypatch.setattr(publish, "load_in_clean_room", lambda *_: [["other"]])
    assert main(["publish", "model", str(checkpoint), "user/refavs", "--dry-run"]) == 2
    assert "it answers otherwise than here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model", "nowhere", "user/a"], "nowhere: no such folder"),
        (
            ["metrics", str(METRICS), "user/other"],
            "no metric for user/other: evaluate loads USER/<name of the folder>",
        ),
        (["dataset", str(METRICS), "user/a"], "holds no metadata.csv"),
    ],
    ids=["source", "metric", "tree"],
)
def test_sources_that_are_none(capsys, arguments, words):
    assert main(["publish", *arguments, "--dry-run"]) == 2
    assert words in capsys.readouterr().err
