"""What this machine does at best, which the parts of a model are held against."""

import json
import multiprocessing
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..feature_extraction_refavs import SAMPLING_RATE
from ..streaming_refavs import RefAVSStream
from ..video_refavs import read_steps
from .workloads import SENTENCE, WORKLOADS, Workload, make_model, make_processor


SIDE = 2048  # of the square matrices that are multiplied
COPIED = 2**28  # bytes: more than any cache holds
REPEATS = 5


def measure_peak(device: str = "cpu", dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """The fastest of a few large matrix products, GFLOP/s, and of a few large copies, GB/s read and
    written."""
    scale = 1 if device == "cpu" else 4  # an accelerator is not busy with less
    side, copied = SIDE * scale, COPIED * scale
    one, other = torch.randn(2, side, side, device=device).to(dtype)
    block = torch.ones(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(block)
    product = _fastest(lambda: torch.mm(one, other), device)
    copy = _fastest(lambda: target.copy_(block), device)
    return {
        "gflop_per_s": round(2 * side**3 / product / 1e9, 1),
        "gb_per_s": round(2 * copied / copy / 1e9, 1),
    }


def wait_for(device: str) -> None:
    """Until an accelerator has done all its work."""
    if device != "cpu":
        torch.accelerator.synchronize()


def peak_memory(device: str = "cpu") -> float:
    """GiB, the most that this process has held so far; on CUDA, of the GPU's memory."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_reserved() / 2**30
    status = Path("/proc/self/status")  # what getrusage tells begins with the parent's
    if status.is_file():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _fastest(run: Callable[[], object], device: str) -> float:
    seconds = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        run()
        wait_for(device)
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])


@dataclass(frozen=True)
class Options:
    """What all settings have in common; `model` is a folder, or None for random weights at the
    paper's size."""

    model: str | None
    device: str
    frames: int
    sentences: int
    size: int
    threads: int


def take_turns(
    workload: str, settings: Sequence[str], options: Options, repeats: int
) -> dict[str, dict[str, Any]]:
    """Seconds and peak memory of each setting.

    Returns:
        Of each setting `seconds`, one for each turn after a first that is not counted; `fastest`;
        and `peak_gib` of the process.
    """
    context = multiprocessing.get_context("spawn")
    workers = {}
    try:
        for setting in settings:
            here, there = context.Pipe()
            process = context.Process(
                target=_serve, args=(there, workload, setting, options), daemon=True
            )
            process.start()
            there.close()
            workers[setting] = (process, here)
            _receive(setting, here)  # it is ready: one at a time makes its model
        seconds: dict[str, list[float]] = {setting: [] for setting in settings}
        for _ in range(1 + repeats):
            for setting, (_, here) in workers.items():
                here.send("run")
                seconds[setting].append(_receive(setting, here))
        results = {}
        for setting, (_, here) in workers.items():
            here.send("memory")
            counted = [round(value, 5) for value in seconds[setting][1:]]
            peak = round(_receive(setting, here), 2)
            results[setting] = {"seconds": counted, "fastest": min(counted), "peak_gib": peak}
        return results
    finally:
        for process, here in workers.values():
            here.close()  # it ends
            process.join()


def _receive(setting: str, here: Connection) -> Any:
    try:
        return here.recv()
    except EOFError:
        raise ValueError(
            f"{setting}: its process ended; its error stands above, or the memory did not suffice"
        ) from None


def _serve(there: Connection, workload: str, setting: str, options: Options) -> None:
    torch.set_num_threads(options.threads)
    model = make_model(setting, options.model, options.device)
    run = WORKLOADS[workload](Workload(model, options.frames, options.sentences, options.size))
    there.send("ready")
    while (asked := _next(there)) is not None:
        if asked == "memory":
            there.send(peak_memory(options.device))
            continue
        begin = time.perf_counter()
        run()
        wait_for(options.device)
        there.send(time.perf_counter() - begin)


def _next(there: Connection) -> str | None:
    try:
        return there.recv()
    except EOFError:
        return None


LONG_VIDEO_SECONDS, LONG_VIDEO_SIZE, LONG_VIDEO_RATE = (
    (90, 900),
    (1920, 1080),
    2,
)  # s; width, height; frames a second
LONG_VIDEO_EXPRESSIONS = ("the guitar", "the first object to make a sound")


def generate_video(path: Path, seconds: int, size: tuple[int, int], fps: int) -> None:
    """A bright square on its way over a grey frame, and a hum."""
    width, height = size
    picture = np.full((height, width, 3), 90, dtype=np.uint8)
    side = height // 4
    with av.open(str(path), "w") as container:
        video = container.add_stream(
            "libx264", rate=fps, options={"preset": "ultrafast", "crf": "30"}
        )
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLING_RATE, layout="mono")
        hum = 0.3 * np.sin(2 * np.pi * 250 * np.arange(SAMPLING_RATE) / SAMPLING_RATE).astype(
            np.float32
        )
        for second in range(seconds):
            for number in range(fps):
                shown, left = picture.copy(), (7 * (second * fps + number)) % (width - side)
                shown[side : 2 * side, left : left + side] = (205, 45, 40)
                container.mux(video.encode(av.VideoFrame.from_ndarray(shown)))
            frame = av.AudioFrame.from_ndarray(hum[None], format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = SAMPLING_RATE, Fraction(1, SAMPLING_RATE)
            frame.pts = second * SAMPLING_RATE
            container.mux(audio.encode(frame))
        container.mux([*video.encode(), *audio.encode()])


def measure_memory(options: Options) -> list[dict[str, Any]]:
    """Peak memory and throughput of `refavs segment`, in a process of its own, on a short and a
    long video of the same kind."""
    if options.model is None:
        raise ValueError("--part memory: give --model: it runs refavs segment")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seconds in LONG_VIDEO_SECONDS:
            video = Path(folder) / f"{seconds}.mp4"
            generate_video(video, seconds, LONG_VIDEO_SIZE, LONG_VIDEO_RATE)
            rows.append(_segment_apart(video, options.model))
    return rows


def _segment_apart(video: Path, model: str) -> dict[str, Any]:
    output, summary = video.with_suffix(".out.mp4"), video.with_suffix(".json")
    command = [
        sys.executable,
        "-m",
        "modeling_refavs.cli",
        "segment",
        str(video),
        *LONG_VIDEO_EXPRESSIONS,
    ]
    command += ["--model", model, "--output", str(output), "--summary", str(summary)]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise ValueError(f"refavs segment failed with status {os.waitstatus_to_exitcode(status)}")
    facts = json.loads(summary.read_text())
    return {
        "seconds": facts["video"]["duration"],
        "size": f"{facts['video']['width']}x{facts['video']['height']}",
        "peak_MiB": round(usage.ru_maxrss / 1024),
        "segmenting_times_real_time": facts["throughput"],
        "wall_seconds": round(time.perf_counter() - begin, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
    }


PARTS = {
    "Swin": "model.mask2former.pixel_level_module.encoder",
    "pixel decoder": "model.mask2former.pixel_level_module.decoder",
    "VGGish": "model.audio_encoder",
    "RoBERTa": "model.text_encoder",
    "fusion": ("model.audio_fusion", "model.visual_fusion"),
    "integration": "model.integration",
    "CATF": "model.catf",
    "transformer decoder": "model.mask2former.transformer_module",
}


@torch.no_grad()
def measure_parts(options: Options, repeats: int) -> dict[str, dict[str, float]]:
    """In float32 on a CPU, in bf16 on an accelerator; of each part and of the whole: `seconds` in
    the fastest of some forwards, their `share`, `tflop` and `of_peak`.

    FLOPs are those of products and convolutions; what deformable attention samples is not among
    them.
    """
    torch.set_num_threads(options.threads)
    model = make_model("eemc" if options.device == "cpu" else "bf16", options.model, options.device)
    inputs = Workload(model, options.frames, options.sentences, options.size).inputs(
        options.sentences
    )
    timed = [_time_parts(model, inputs, options.device) for _ in range(1 + repeats)][1:]
    seconds = min(timed, key=lambda parts: parts["whole"])
    with FlopCounterMode(display=False) as counter:
        model(**inputs)
    counts = counter.get_flop_counts()
    flops = {part: sum(_flops(counts, path) for path in _paths(part)) for part in PARTS}
    flops["whole"] = counter.get_total_flops()
    peak = measure_peak(options.device, model.dtype)["gflop_per_s"] * 1e9
    return {
        part: {
            "seconds": round(seconds[part], 5),
            "share": round(seconds[part] / seconds["whole"], 3),
            "tflop": round(flops[part] / 1e12, 6),
            "of_peak": round(flops[part] / seconds[part] / peak, 2),
        }
        for part in (*PARTS, "whole")
    }


def _time_parts(model: nn.Module, inputs: dict[str, torch.Tensor], device: str) -> dict[str, float]:
    seconds, started = dict.fromkeys(PARTS, 0.0), {}

    def start(module, *_):
        wait_for(device)
        started[module] = time.perf_counter()

    with ExitStack() as hooks:
        for part in PARTS:

            def stop(module, *_, part=part):
                wait_for(device)
                seconds[part] += time.perf_counter() - started[module]

            for path in _paths(part):
                module = model.get_submodule(path)
                hooks.callback(module.register_forward_pre_hook(start).remove)
                hooks.callback(module.register_forward_hook(stop).remove)
        begin = time.perf_counter()
        model(**inputs)
        wait_for(device)
        return {**seconds, "whole": time.perf_counter() - begin}


def _paths(part: str) -> tuple[str, ...]:
    paths = PARTS[part]
    return (paths,) if isinstance(paths, str) else paths


def _flops(counts: dict[str, dict], path: str) -> int:
    return sum(counts[f"RefAVSForSegmentation.{path}"].values())


SECONDS, SIZE, RATE = 10, (1280, 720), 25  # of the video: width, height; frames a second


def measure_reading(options: Options) -> dict[str, float]:
    """Seconds a second of a 720p video: `decode` all its frames and its sound, `prepare` for the
    model, `segment`; and what
    share of the whole is not the model."""
    torch.set_num_threads(options.threads)
    model = make_model(
        "eemc" if options.device == "cpu" else "graphs", options.model, options.device
    )
    processor = make_processor(model, options.size)
    stream = RefAVSStream(model, processor, [SENTENCE])
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        generate_video(video, SECONDS, SIZE, RATE)
        begin = time.perf_counter()
        steps = list(read_steps(video))
        decode = (time.perf_counter() - begin) / len(steps)
    begin = time.perf_counter()
    for step in steps:
        processor(frames=[step.frame], audio=step.audio, sampling_rate=16000, return_tensors="pt")
    prepare = (time.perf_counter() - begin) / len(steps)
    stream.step(steps[0].frame, steps[0].audio)
    begin = time.perf_counter()
    for step in steps[1:4]:
        stream.step(step.frame, step.audio)
    whole = (time.perf_counter() - begin) / 3  # preparing is part of a step
    return {
        "decode": round(decode, 4),
        "prepare": round(prepare, 4),
        "segment": round(whole - prepare, 4),
        "share_of_reading": round((decode + prepare) / (decode + whole), 3),
    }
