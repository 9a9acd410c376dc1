"""`refavs benchmark` on a small model: what it measures, writes and refuses, but no durations."""

import json

import av
import numpy as np
import pytest
import torch
from PIL import Image

from modeling_refavs.benchmarks import parts, report, workloads
from modeling_refavs.benchmarks.parts import measure_peak, peak_memory
from modeling_refavs.benchmarks.report import benchmark_text
from modeling_refavs.benchmarks.workloads import UNSUPPORTED, WORKLOADS, Workload, make_model
from modeling_refavs.cli import main
from modeling_refavs.video_refavs import read_frames
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
    results = json.loads((tmp_path / "benchmark.json").read_text())
    assert set(results["timed"]["several"]) == {
        "plain",
        "eemc",
    }  # a saved model has no released one beside it
    for result in results["timed"]["several"].values():
        assert len(result["seconds"]) == 1
        assert result["fastest"] > 0
        assert 0.1 < result["peak_gib"] < 4
    assert sum(part["share"] for name, part in results["parts"].items() if name != "whole") <= 1.01
    assert results["parts"]["Swin"]["tflop"] > 0
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
    monkeypatch.setattr(parts, "LARGE_VIDEO_SECONDS", ())
    monkeypatch.setattr(parts, "LONG_VIDEO_SIZE", (96, 64))
    assert main(["benchmark", *SMALL, "--part", "memory", "--output", str(tmp_path)]) == 0
    assert "| seconds | size | peak MiB |" in capsys.readouterr().out
    (video,) = json.loads((tmp_path / "benchmark.json").read_text())["memory"]
    assert (video["seconds"], video["size"]) == (pytest.approx(2, abs=0.1), "96x64")
    assert video["peak_MiB"] > 100
    with pytest.raises(ValueError, match="--part memory: give --model"):
        parts.measure_memory(parts.Options(None, "cpu", 2, 1, 96, 1))


def test_rendering_is_held_against_transcoding(tmp_path, monkeypatch, capsys):
    asked = []

    def segment(video, model, expressions, *outputs):
        asked.append([output.split("=")[0] for output in outputs])
        return {"wall_seconds": 3.0, "processor_seconds": 5.0}

    monkeypatch.setattr(parts, "_measure_segment", segment)
    monkeypatch.setattr(parts, "_load", lambda model: None)
    monkeypatch.setattr(report, "measure_peak", lambda device: {})
    monkeypatch.setattr(parts, "RENDERED_SECONDS", 1)
    monkeypatch.setattr(parts, "RENDERED_SIZE", (128, 96))
    assert main(["benchmark", *SMALL, "--part", "rendering", "--output", str(tmp_path)]) == 0
    assert "| what | wall seconds | processor seconds |" in capsys.readouterr().out
    transcode, overlay, everything, *_ = json.loads((tmp_path / "benchmark.json").read_text())[
        "rendering"
    ]
    assert (transcode["times_the_wall"], transcode["times_the_processor"]) == (1.0, 1.0)
    assert overlay["processor_seconds"] == everything["processor_seconds"] == 5.0
    assert asked == [
        ["--threads"],
        ["--threads", "--masks", "--contact-sheet", "--coco", "--cvat"],
    ]


def test_a_transcoded_clip_has_the_same_frames_and_sound(tmp_path, monkeypatch):
    source, target = tmp_path / "a.mp4", tmp_path / "b.mkv"
    parts.record_clip(source, 1, (128, 96))
    parts.transcode(source, target, threads=1)
    frames = [list(read_frames(path)) for path in (source, target)]
    assert len(frames[0]) == len(frames[1]) == parts.RENDERED_RATE
    assert np.abs(frames[0][7].rgb.astype(int) - frames[1][7].rgb).mean() < 4
    packets = []
    for path in (source, target):
        with av.open(str(path)) as container:
            packets.append([bytes(packet) for packet in container.demux(audio=0) if packet.size])
    assert packets[0] == packets[1]


def test_peak_speed_and_memory_are_measured():
    peak = measure_peak()
    assert peak["gflop_per_s"] > 1
    assert peak["gb_per_s"] > 0.1
    block = torch.ones(2**26)
    assert peak_memory() > block.nbytes / 2**30
