"""`refavs benchmark` on a small model: what it measures, writes and refuses, but no durations."""

import json

import pytest
import torch
from PIL import Image

from modeling_refavs.benchmarks import parts, workloads
from modeling_refavs.benchmarks.parts import measure_peak, peak_memory
from modeling_refavs.benchmarks.report import benchmark_text
from modeling_refavs.benchmarks.workloads import UNSUPPORTED, WORKLOADS, Workload, make_model
from modeling_refavs.cli import main
from tests.conftest import make_released_model


CHECKPOINT = "spaces_demo/synthetic_checkpoint"
SMALL = (
    "--model",
    CHECKPOINT,
    "--size",
    "96",
    "--frames",
    "2",
    "--sentences",
    "2",
    "--threads",
    "1",
    "--repeats",
    "1",
)


def test_benchmark_writes_json_table_and_plot(tmp_path, capsys):
    arguments = [
        "--part",
        "several",
        "parts",
        "--settings",
        "released",
        "plain",
        "eemc",
        "--output",
        str(tmp_path),
    ]
    assert main(["benchmark", *SMALL, *arguments]) == 0
    table = capsys.readouterr().out
    report = json.loads((tmp_path / "benchmark.json").read_text())
    assert set(report["timed"]["several"]) == {
        "plain",
        "eemc",
    }  # a saved model has no released one beside it
    for result in report["timed"]["several"].values():
        assert len(result["seconds"]) == 1
        assert result["fastest"] > 0
        assert 0.1 < result["peak_gib"] < 4
    assert sum(part["share"] for name, part in report["parts"].items() if name != "whole") <= 1.01
    assert report["parts"]["Swin"]["tflop"] > 0
    assert "| eemc |" in table
    assert "| transformer decoder |" in table
    with Image.open(tmp_path / "benchmark.png") as picture:
        assert picture.size[0] > picture.size[1]


@pytest.mark.parametrize(
    ("setting", "workload"),
    [
        (s, w)
        for s in ("eemc", "bf16", "graphs", "int8")
        for w in WORKLOADS
        if s not in UNSUPPORTED.get(w, ())
    ],
)
def test_every_workload_runs_twice(setting, workload):
    run = WORKLOADS[workload](
        Workload(make_model(setting, CHECKPOINT), num_frames=2, num_expressions=2, size=96)
    )
    run()
    run()


@pytest.mark.parametrize(("setting", "passes"), [("released", 2), ("released_once", 1)])
def test_released_model_runs_once_for_each_expression(setting, passes, monkeypatch):
    tiny = make_released_model()
    monkeypatch.setitem(workloads.SETTINGS, "released_once", lambda load: tiny)
    monkeypatch.setattr(workloads, "released_once", lambda load: tiny)
    workload = Workload(
        make_model(setting, None), tiny.config.num_frames, num_expressions=3, size=96
    )
    counted = []
    tiny.mask2former.pixel_level_module.register_forward_hook(lambda *_: counted.append(1))
    workload.several()()
    assert len(counted) == 3 * passes
    workload.training()()
    assert len(counted) == 4 * passes


def test_make_model_puts_every_tensor_on_the_device():
    """Some of transformers' parameters are made on the CPU whatever `torch.device` is active."""
    model = make_model("bf16", None, "meta")
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"meta"}


def test_training_seconds_are_per_sentence():
    timed = {
        "released": {"fastest": 4.0, "peak_gib": 1.0},
        "eemc": {"fastest": 5.0, "peak_gib": 2.0},
    }
    text = benchmark_text({"options": {"frames": 10, "sentences": 5}, "timed": {"training": timed}})
    assert "| eemc | 1.0000 | 4.00 | 2.0 |" in text


def test_bad_options_are_refused(tmp_path, capsys):
    assert (
        main(["benchmark", *SMALL, "--settings", "faster", "--output", str(tmp_path / "out")]) == 2
    )
    assert "--settings faster: must be of released, released_once, plain" in capsys.readouterr().err
    assert main(["benchmark", *SMALL, "--frames", "0", "--output", str(tmp_path / "out")]) == 2
    assert "--frames must be at least 1, got 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert (
        main(
            [
                "benchmark",
                *SMALL,
                "--part",
                "training",
                "--settings",
                "int8",
                "--output",
                str(tmp_path),
            ]
        )
        == 2
    )
    assert "--part training: none of --settings int8 can do it" in capsys.readouterr().err


def test_memory_of_segment_on_a_generated_video(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(parts, "LONG_VIDEO_SECONDS", (2,))
    monkeypatch.setattr(parts, "LONG_VIDEO_SIZE", (96, 64))
    assert main(["benchmark", *SMALL, "--part", "memory", "--output", str(tmp_path)]) == 0
    assert "| seconds | size | peak MiB |" in capsys.readouterr().out
    (video,) = json.loads((tmp_path / "benchmark.json").read_text())["memory"]
    assert (video["seconds"], video["size"]) == (pytest.approx(2, abs=0.1), "96x64")
    assert video["peak_MiB"] > 100
    with pytest.raises(ValueError, match="--part memory: give --model"):
        parts.measure_memory(parts.Options(None, "cpu", 2, 1, 96, 1))


def test_peak_speed_and_memory_are_measured():
    peak = measure_peak()
    assert peak["gflop_per_s"] > 1
    assert peak["gb_per_s"] > 0.1
    block = torch.ones(2**26)
    assert peak_memory() > block.nbytes / 2**30
