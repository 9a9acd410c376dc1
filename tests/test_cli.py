"""The `refavs` command: what it prints, where, and with which exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from modeling_refavs.cli import main, make_parser
from modeling_refavs.inference import loading
from modeling_refavs.utils.files import lock_folder
from modeling_refavs.visualization.render import MODES, Overlay

from .conftest import make_model
from .media_kit import FakeModel, FakeProcessor, rotate, tone, write_clip


__all__ = ["rotate", "write_clip"]  # fixtures


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(loading, "load_model", lambda *_: (FakeModel(), FakeProcessor()))


@pytest.fixture
def no_model(monkeypatch):
    """Requests that cannot work are refused before seconds are spent on a model."""

    def load(*_):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(loading, "load_model", load)


class NoModel(FakeModel):
    """Of which nothing may be asked."""

    def __call__(self, *args, **kwargs):
        raise AssertionError("the model was asked")


def test_help_needs_no_heavy_import():
    code = (
        "import sys, modeling_refavs.cli as cli\n"
        "try: cli.main(['segment', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'transformers', 'av', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "--contact-sheet" in result.stdout
    assert result.stdout.endswith("[]\n")


def test_the_program_ends_with_all_that_was_said_and_done():
    code = (
        "import atexit; from modeling_refavs import cli; atexit.register(print, 'left'); "
        "cli.main = lambda: print('done') or 3; cli.run()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.returncode) == ("done\nleft\n", 3)


def test_segment_writes_everything_that_was_asked_for(
    write_clip, model, tmp_path, capsys, monkeypatch
):
    video, opened, av_open = write_clip(sound=[(0.0, tone(3))]), [], av.open
    monkeypatch.setattr(
        av, "open", lambda file, *args, **kw: opened.append(file) or av_open(file, *args, **kw)
    )
    output, sheet, masks = tmp_path / "out.mp4", tmp_path / "sheet.png", tmp_path / "masks"
    coco, cvat = tmp_path / "coco.json", tmp_path / "cvat.xml"
    outputs = ["--output", str(output), "--contact-sheet", str(sheet), "--masks", str(masks)]
    outputs += ["--coco", str(coco), "--cvat", str(cvat), "--encoder", "auto"]
    assert (
        main(["segment", str(video), "the left half", "everything", "--model", "m", *outputs]) == 0
    )
    printed, progress = capsys.readouterr()
    assert opened.count(str(video)) == 3  # what it is; for the model and all outputs; their sound
    summary = json.loads(printed)
    assert [entry["text"] for entry in summary["expressions"]] == ["the left half", "everything"]
    assert "drawing: 100%" in progress
    with av.open(str(output)) as container:
        assert {stream.codec_context.name for stream in container.streams} == {"h264", "aac"}
    assert np.asarray(Image.open(masks / "2_everything" / "00002.png")).min() == 255
    assert Image.open(sheet).size[0] >= 640
    assert len(json.loads(coco.read_text())["images"]) == cvat.read_text().count("<image") == 3
    written = {"out.mp4", "sheet.png", "masks", "coco.json", "cvat.xml"}
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mkv", *written}


def test_pictures_without_a_background(write_clip, model, tmp_path):
    arguments = ["segment", str(write_clip()), "the left half", "--model", "m", "--mode", "cutout"]
    assert main([*arguments, "--output", f"{tmp_path}/frames/"]) == 0
    assert len(list((tmp_path / "frames").iterdir())) == 30
    assert Image.open(tmp_path / "frames" / "frame_000000.png").mode == "RGBA"
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mkv", "frames"}


def test_summary_goes_to_a_file_when_asked(write_clip, model, tmp_path, capsys):
    arguments = [
        "segment",
        str(write_clip()),
        "a dog",
        "--model",
        "m",
        "--output",
        str(tmp_path / "out.mkv"),
    ]
    assert main([*arguments, "--summary", str(tmp_path / "summary.json")]) == 0
    assert capsys.readouterr().out == ""
    assert json.loads((tmp_path / "summary.json").read_text())["video"]["steps"] == 3


def test_an_old_output_stays_until_the_new_one_is_complete(
    write_clip, model, tmp_path, capsys, monkeypatch
):
    output = tmp_path / "out.mp4"
    output.write_text("old")

    def fail(*args, **kwargs):
        raise OSError("No space left on device")

    arguments = ["segment", str(write_clip()), "a dog", "--model", "m", "--output", str(output)]
    monkeypatch.setattr("modeling_refavs.visualization.render.Overlay.draw", fail)
    assert main(arguments) == 2
    assert "No space left" in capsys.readouterr().err
    assert output.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mkv", "out.mp4", ".out.mp4.journal"}
    monkeypatch.undo()
    monkeypatch.setattr(loading, "load_model", lambda *_: (FakeModel(), FakeProcessor()))
    assert main(arguments) == 0
    assert output.stat().st_size > 1000
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mkv", "out.mp4"}


MISTAKES = {
    "no such video": ({"video": "nowhere.mp4"}, "nowhere.mp4: no such file"),
    "a text file": ({"video": "notes.txt"}, "notes.txt: not a media file"),
    "0 bytes": ({"video": "empty.mp4"}, "empty.mp4: 0 bytes"),
    "a folder": ({"video": "."}, "a folder"),
    "an empty sentence": ({"sentences": ["a dog", "  "]}, "sentence 2 is empty"),
    "a threshold out of range": ({"--threshold": "1.5"}, "threshold must lie between 0 and 1"),
    "too few frames": ({"--fps": "0.5"}, "at least 1, or 'video', got 0.5"),
    "threads below none": ({"--threads": "-1"}, "--threads must be at least 0, got -1"),
    "smoothing into the past": ({"--smooth": "-1"}, "at least 0, got -1"),
    "no number": ({"--threshold": "nan"}, "threshold must lie between 0 and 1"),
    "output over input": (
        {"video": "clip.mp4", "--output": "clip.mp4"},
        "would overwrite the video",
    ),
    "masks over input": ({"--summary": "clip.mkv"}, "would overwrite the video"),
    "a container that is not written": ({"--output": "out.avi"}, "must end in .mp4"),
    "an unknown frame": ({"--contact-sheet": "sheet.pdf"}, "must end in .png"),
    "a folder that is not there": (
        {"--output": "nowhere/out.mp4"},
        "cannot be written to (No such file",
    ),
    "a folder that is a file": (
        {"--output": "notes.txt/out.mp4"},
        "cannot be written to (Not a directory",
    ),
    "masks among other files": ({"--masks": "."}, "must be new or empty"),
    "frames among other files": ({"--output": "."}, "folder for frames must be new or empty"),
    "two outputs with one name": (
        {"--summary": "s.json", "--masks": "s.json"},
        "two outputs with one name",
    ),
    "an output that is a folder": ({"--summary": "."}, "a folder: give a file name"),
    "an unknown device": ({"--device": "abacus"}, "--device abacus: not on this machine"),
    "a device that is not here": ({"--device": "cuda:99"}, "--device cuda:99: not on this machine"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_line_and_exit_code_2(
    mistake, write_clip, no_model, tmp_path, monkeypatch, capsys
):
    change, words = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    write_clip("clip.mkv")
    write_clip("clip.mp4")
    Path("notes.txt").write_text("Dear diary")
    Path("empty.mp4").touch()
    before = sorted(tmp_path.rglob("*"))
    request = {
        "video": "clip.mkv",
        "sentences": ["a dog"],
        "--output": "out.mp4",
        "--model": "m",
        **change,
    }
    options = [
        part for name, value in request.items() if name.startswith("--") for part in (name, value)
    ]
    assert main(["segment", request["video"], *request["sentences"], *options]) == 2
    printed, error = capsys.readouterr()
    assert printed == ""
    assert words in error
    assert error.startswith("refavs segment: ")
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "model", ["./nowhere", "/nowhere/at/all", "runs/of/mine", "notes.txt", "."]
)
def test_a_missing_model_gets_one_line(model, write_clip, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("Dear diary")
    assert (
        main(["segment", str(write_clip()), "a dog", "--output", "out.mp4", "--model", model]) == 2
    )
    error = capsys.readouterr().err
    assert f"--model {model}: no folder with a config.json" in error
    assert error.count("\n") == 1


def test_a_hub_that_does_not_answer_is_asked_once(write_clip, tmp_path, monkeypatch, capsys):
    asked = []

    def fail(url, timeout):
        asked.append(url)
        raise ConnectionError("Name or service not known\nand more")

    monkeypatch.setattr(loading, "get_hf_file_metadata", fail)
    arguments = [
        "segment",
        str(write_clip()),
        "a dog",
        "--model",
        "no/such",
        "--output",
        str(tmp_path / "out.mp4"),
    ]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert (
        "--model no/such: no such folder, and the Hub does not answer for it: Name or service"
        in error
    )
    assert (len(asked), error.count("\n")) == (1, 1)


@pytest.mark.parametrize("options", [[], ["--mode", "matte"]])
def test_a_video_wider_than_an_encoder_takes_is_refused_before_the_work(
    write_clip, no_model, tmp_path, capsys, options
):
    wide = {"size": (16400, 32), "codec": "mjpeg", "pix_fmt": "yuvj420p"}
    video = write_clip("wide.mkv", times=(0.0,), end=0.1, **wide)
    arguments = ["segment", str(video), "a dog", "--model", "m", *options]
    assert main([*arguments, "--output", str(tmp_path / "out.mp4")]) == 2
    error = capsys.readouterr().err
    assert "at most 16384 pixels a side, this one would have 16400x" in error
    assert error.count("\n") == 1


def test_names_that_are_not_utf8(write_clip, model, tmp_path, capfd):
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    video = write_clip("a.mp4").rename(folder / os.fsdecode(b"\xfe.mp4"))
    outputs = {"--output": "o.mp4", "--masks": "m", "--coco": "c.json", "--cvat": "v.xml"}
    options = [part for name, path in outputs.items() for part in (name, str(folder / path))]
    assert main(["segment", str(video), "a dog", "--model", "m", *options]) == 0
    assert "\N{REPLACEMENT CHARACTER}.mp4" in json.loads(capfd.readouterr().out)["video"]["path"]
    assert len(list(folder.iterdir())) == 5
    assert main(["segment", str(video) + "4", "a dog", "--model", "m", *options[:2]]) == 2
    assert "no such file" in capfd.readouterr().err


def test_missing_arguments_are_argparses_to_tell(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["segment", "clip.mp4", "a dog"])
    assert stopped.value.code == 2
    assert "--model" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "names"), [("--mode", MODES), ("--dtype", loading.PRECISIONS)])
def test_every_choice_is_offered(option, names):
    for name in names:
        make_parser().parse_args(
            ["segment", "clip.mp4", "a dog", "--model", "m", "--output", "o.mp4", option, name]
        )


def test_stopped_by_hand_it_goes_on_when_asked_again(
    write_clip, model, tmp_path, monkeypatch, capsys
):
    draw, drawn = Overlay.draw, []

    def stop_in_the_last_second(*args):
        if len(drawn) == 25:
            raise KeyboardInterrupt
        drawn.append(1)
        return draw(*args)

    monkeypatch.setattr(Overlay, "draw", stop_in_the_last_second)
    arguments = [
        "segment",
        str(write_clip()),
        "a dog",
        "--model",
        "m",
        "--output",
        str(tmp_path / "out.mp4"),
    ]
    assert main(arguments) == 130
    assert "stopped" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mkv", ".out.mp4.journal"}
    monkeypatch.undo()
    monkeypatch.setattr(loading, "load_model", lambda *_: (NoModel(), FakeProcessor()))
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["throughput"] is None
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mkv", "out.mp4"}


def test_killed_when_its_folders_are_written_it_goes_on(write_clip, model, tmp_path, monkeypatch):
    """All outputs are there, and the run is not known to be over."""
    masks, output = tmp_path / "masks", tmp_path / "frames"
    arguments = ["segment", str(write_clip()), "a dog", "--model", "m", "--masks", str(masks)]
    arguments += ["--output", str(output)]

    def kill(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("modeling_refavs.inference.export.to_json", kill)
    assert main(arguments) == 130
    written = sorted(path.name for path in masks.rglob("*"))
    (masks / "1_a-dog" / "00000.png").write_bytes(b"half")
    assert main([*arguments, "--fps", "2"]) == 2  # another request has no right to them
    assert (masks / "1_a-dog" / "00000.png").read_bytes() == b"half"
    monkeypatch.undo()
    monkeypatch.setattr(loading, "load_model", lambda *_: (NoModel(), FakeProcessor()))
    assert main(arguments) == 0
    assert sorted(path.name for path in masks.rglob("*")) == written
    assert Image.open(masks / "1_a-dog" / "00000.png").size
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mkv", "masks", "frames"}
    assert main(arguments) == 2  # a finished run's folders are not new


def test_two_runs_to_one_output(write_clip, model, tmp_path, capsys):
    output = tmp_path / "out.mp4"
    arguments = ["segment", str(write_clip()), "a dog", "--model", "m", "--output", str(output)]
    with lock_folder(tmp_path / ".out.mp4.journal"):
        assert main(arguments) == 2
        assert f"{output}: another process writes here" in capsys.readouterr().err
    assert main(arguments) == 0


def test_segment_with_a_model_from_disk(write_clip, processor, tmp_path, capsys):
    """Nothing faked: a checkpoint, a file with sound, a video out."""
    make_model().save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    video, output = write_clip(sound=[(0.0, tone(3))]), tmp_path / "out.mp4"
    sentences = ["the red circle", "the first object to make a sound"]
    assert (
        main(
            [
                "segment",
                str(video),
                *sentences,
                "--model",
                str(tmp_path / "model"),
                "--output",
                str(output),
            ]
        )
        == 0
    )
    summary = json.loads(capsys.readouterr().out)
    assert [entry["text"] for entry in summary["expressions"]] == sentences
    assert all(len(entry["presence"]) == 3 for entry in summary["expressions"])
    assert output.stat().st_size > 1000
    options = ["--fps", "video", "--masks", str(tmp_path / "masks")]
    arguments = [
        "segment",
        str(video),
        sentences[0],
        "--model",
        str(tmp_path / "model"),
        "--output",
        str(output),
    ]
    assert main([*arguments, *options]) == 0
    assert json.loads(capsys.readouterr().out)["video"]["steps_per_second"] == 10
    assert len(list((tmp_path / "masks" / "1_the-red-circle").iterdir())) == 30


def test_a_missing_extra_is_named_in_one_line(monkeypatch, capsys):
    def run(args):
        import no_such_package  # noqa: F401

    monkeypatch.setattr("modeling_refavs.commands.synthesize.run", run)
    assert main(["synthesize", "out", "--clips", "1"]) == 2
    assert (
        capsys.readouterr().err
        == "refavs synthesize: no_such_package is missing: pip install -e '.[train]'\n"
    )
