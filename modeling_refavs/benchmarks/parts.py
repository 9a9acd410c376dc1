"""What `refavs benchmark` measures.

Top to bottom: what the machine does at best, settings timed in turn, the parts of a forward pass,
reading a video, the memory of `refavs segment` on a long one, and its time beside a transcoder's.
"""

import json
import multiprocessing
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..feature_extraction_refavs import SAMPLING_RATE
from ..streaming_refavs import RefAVSStream
from ..video_refavs import read_frames, read_steps
from ..visualization.video_writer import H264, SOUND_LAYOUT, SOUND_RATE
from ..visualization.yuv import blank_frame, paste, planes_of
from .workloads import EXPRESSION, WORKLOADS, Workload, make_model, make_processor


MATRIX_SIZE = 2048  # height and width of the matrices that are multiplied
COPIED = 2**28  # bytes: more than any cache holds
PEAK_REPEATS = 5
PARTS = {
    "Swin": "model.mask2former.pixel_level_module.encoder",
    "pixel decoder": "model.mask2former.pixel_level_module.decoder",
    "VGGish": "model.audio_encoder",
    "RoBERTa": "model.text_encoder",
    "fusion": ("model.audio_fusion", "model.visual_fusion"),
    "integration": "model.integration",
    "CATF": "model.catf",
    "transformer decoder": "model.mask2former.transformer_module",
}  # name -> path of the modules in RefAVSForSegmentation
READ_SECONDS, READ_SIZE, READ_RATE = 10, (1280, 720), 25  # s; width, height; frames a second
LONG_VIDEO_SECONDS = (90, 900)  # of a short and of a long one
LONG_VIDEO_SIZE, LONG_VIDEO_RATE = (1920, 1080), 2  # width, height; frames a second
LONG_VIDEO_EXPRESSIONS = ("the guitar", "the first object to make a sound")
LARGE_VIDEO_SECONDS, LARGE_VIDEO_SIZE = (4, 16), (3840, 2160)
SHIPPED_CLIP = Path(__file__).parents[2] / "spaces_demo" / "examples" / "bell_first.mp4"
GRAIN = 2.2  # standard deviation, of 255 levels
RENDERED_SECONDS, RENDERED_SIZE, RENDERED_RATE = 60, (1920, 1080), 30  # s; pixels; frames a second
RENDERED_EXPRESSION = "the house"  # seen throughout the shipped clip


@dataclass(frozen=True)
class Options:
    """What all settings have in common.

    Args:
        model: folder of a saved model; None: random weights at the paper's size.
        device: cpu, cuda, cuda:1, mps.
        frames, sentences: of the clip; `sentences` expressions are segmented in it.
        size: height and width of a frame, pixels.
        threads: of PyTorch on the CPU.
    """

    model: str | None
    device: str
    frames: int
    sentences: int
    size: int
    threads: int


def wait_for(device: str) -> None:
    """Wait until an accelerator has finished."""
    if device != "cpu":
        torch.accelerator.synchronize()


def peak_memory(device: str = "cpu") -> float:
    """The largest memory use of this process so far, GiB; on CUDA, of the GPU's memory."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_reserved() / 2**30
    status = Path("/proc/self/status")  # ru_maxrss starts at the parent's value
    if status.is_file():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure_peak(device: str = "cpu", dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """Measure the machine's limits on large matrix products and large copies.

    Returns:
        `gflop_per_s` of the fastest product, `gb_per_s` read and written by the fastest copy.
    """
    scale = 1 if device == "cpu" else 4  # an accelerator is not busy with less
    size, copied = MATRIX_SIZE * scale, COPIED * scale
    one, other = torch.randn(2, size, size, device=device).to(dtype)
    block = torch.ones(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(block)
    product = _fastest(lambda: torch.mm(one, other), device)
    copy = _fastest(lambda: target.copy_(block), device)
    return {
        "gflop_per_s": round(2 * size**3 / product / 1e9, 1),
        "gb_per_s": round(2 * copied / copy / 1e9, 1),
    }


def _fastest(run: Callable[[], object], device: str) -> float:
    seconds = []
    for _ in range(PEAK_REPEATS + 1):
        begin = time.perf_counter()
        run()
        wait_for(device)
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])


def take_turns(
    workload: str, settings: Sequence[str], options: Options, repeats: int
) -> dict[str, dict[str, Any]]:
    """Time the settings in turn, each in a process of its own.

    Args:
        workload: name out of `WORKLOADS`.
        settings: names out of `SETTINGS`.
        repeats: turns after a first one that is not counted.

    Returns:
        For each setting `seconds`, one for each counted turn; `fastest` of them; and `peak_gib`
        of the process.

    Raises:
        ValueError: a process ended early.
    """
    workers: dict[str, tuple[BaseProcess, Connection]] = {}
    try:
        for setting in settings:
            workers[setting] = _start(workload, setting, options)
            _receive(setting, workers[setting][1])  # ready: models are built one at a time
        seconds: dict[str, list[float]] = {setting: [] for setting in settings}
        for _ in range(1 + repeats):
            for setting, (_, connection) in workers.items():
                connection.send("run")
                seconds[setting].append(_receive(setting, connection))
        results = {}
        for setting, (_, connection) in workers.items():
            connection.send("memory")
            counted = [round(value, 5) for value in seconds[setting][1:]]
            peak = round(_receive(setting, connection), 2)
            results[setting] = {"seconds": counted, "fastest": min(counted), "peak_gib": peak}
        return results
    finally:
        for process, connection in workers.values():
            connection.close()  # the process ends
            process.join()


def _start(workload: str, setting: str, options: Options) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    arguments = (there, workload, setting, options)
    process = context.Process(target=_serve, args=arguments, daemon=True)
    process.start()
    there.close()
    return process, here


def _receive(setting: str, connection: Connection) -> Any:
    try:
        return connection.recv()
    except EOFError:
        raise ValueError(
            f"{setting}: its process ended; its error stands above, or the memory did not suffice"
        ) from None


def _serve(connection: Connection, workload: str, setting: str, options: Options) -> None:
    torch.set_num_threads(options.threads)
    model = make_model(setting, options.model, options.device)
    run = WORKLOADS[workload](Workload(model, options.frames, options.sentences, options.size))
    connection.send("ready")
    while (request := _next_request(connection)) is not None:
        if request == "memory":
            connection.send(peak_memory(options.device))
            continue
        begin = time.perf_counter()
        run()
        wait_for(options.device)
        connection.send(time.perf_counter() - begin)


def _next_request(connection: Connection) -> str | None:
    try:
        return connection.recv()
    except EOFError:
        return None


@torch.no_grad()
def measure_parts(options: Options, repeats: int) -> dict[str, dict[str, float]]:
    """Time the parts of a forward pass, in float32 on a CPU and in bf16 on an accelerator.

    FLOPs are those of matrix products and convolutions, without the sampling of deformable
    attention.

    Returns:
        For each of `PARTS` and for `whole`: `seconds` in the fastest pass, their `share`, `tflop`
        and `of_peak`, the fraction of the machine's fastest matrix product.
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


def generate_video(path: Path, seconds: int, size: tuple[int, int], fps: int) -> None:
    """Write a video of a red square that moves over a grey frame, with a tone of 250 Hz.

    Args:
        size: width and height, pixels.
    """
    width, height = size
    background = np.full((height, width, 3), 90, dtype=np.uint8)
    square = height // 4  # its height and width, pixels
    with av.open(str(path), "w") as container:
        video = container.add_stream(
            "libx264", rate=fps, options={"preset": "ultrafast", "crf": "30"}
        )
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLING_RATE, layout="mono")
        times = np.arange(SAMPLING_RATE) / SAMPLING_RATE
        tone = 0.3 * np.sin(2 * np.pi * 250 * times).astype(np.float32)
        for second in range(seconds):
            for number in range(second * fps, (second + 1) * fps):
                image, left = background.copy(), (7 * number) % (width - square)
                image[square : 2 * square, left : left + square] = (205, 45, 40)
                container.mux(video.encode(av.VideoFrame.from_ndarray(image)))
            frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = SAMPLING_RATE, Fraction(1, SAMPLING_RATE)
            frame.pts = second * SAMPLING_RATE
            container.mux(audio.encode(frame))
        container.mux([*video.encode(), *audio.encode()])


def measure_reading(options: Options) -> dict[str, float]:
    """Compare the time for reading a 720p video with the time of the model.

    Returns:
        Seconds for a second of video: `decode` all its frames and its sound, `prepare` them for
        the model, `segment`; and `share_of_reading`, the fraction that is not the model's.
    """
    torch.set_num_threads(options.threads)
    setting = "eemc" if options.device == "cpu" else "graphs"
    model = make_model(setting, options.model, options.device)
    processor = make_processor(model, options.size)
    stream = RefAVSStream(model, processor, [EXPRESSION])
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        generate_video(video, READ_SECONDS, READ_SIZE, READ_RATE)
        begin = time.perf_counter()
        steps = list(read_steps(video))
        decode = (time.perf_counter() - begin) / len(steps)
    begin = time.perf_counter()
    for step in steps:
        processor(frames=[step.frame], audio=step.audio, sampling_rate=SAMPLING_RATE)
    prepare = (time.perf_counter() - begin) / len(steps)
    stream.step(steps[0].frame, steps[0].audio)  # the first step is slower
    timed = steps[1:4]
    begin = time.perf_counter()
    for step in timed:
        stream.step(step.frame, step.audio)
    whole = (time.perf_counter() - begin) / len(timed)  # preparing is part of a step
    return {
        "decode": round(decode, 4),
        "prepare": round(prepare, 4),
        "segment": round(whole - prepare, 4),
        "share_of_reading": round((decode + prepare) / (decode + whole), 3),
    }


def measure_memory(options: Options) -> list[dict[str, Any]]:
    """Measure `refavs segment` on a short and on a long video of the same kind, and on two of 4K.

    Returns:
        For each video its `seconds` and `size`, and of the process that segments it: `peak_MiB`,
        `segmenting_times_real_time`, `wall_seconds` and `processor_seconds`.

    Raises:
        ValueError: there is no model, or the command failed.
    """
    if options.model is None:
        raise ValueError("--part memory: give --model: it runs refavs segment")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seconds in LONG_VIDEO_SECONDS:
            video = Path(folder) / f"{seconds}.mp4"
            generate_video(video, seconds, LONG_VIDEO_SIZE, LONG_VIDEO_RATE)
            rows.append(_measure_segment(video, options.model, LONG_VIDEO_EXPRESSIONS))
        for seconds in LARGE_VIDEO_SECONDS:
            video = Path(folder) / f"large_{seconds}.mp4"
            _record_apart(video, seconds, LARGE_VIDEO_SIZE)
            rows.append(_measure_segment(video, options.model, [RENDERED_EXPRESSION]))
    return rows


def _measure_segment(
    video: Path, model: str, expressions: Sequence[str], *outputs: str
) -> dict[str, Any]:
    """Run `refavs segment` on a video in a process of its own; `outputs` are further arguments."""
    output, summary = video.with_suffix(".out.mp4"), video.with_suffix(".json")
    command = [sys.executable, "-m", "modeling_refavs.cli", "segment", str(video)]
    command += [*expressions, "--model", model, *outputs]
    command += ["--output", str(output), "--summary", str(summary)]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # Popen did not see it end
    if status:
        raise ValueError(f"refavs segment failed with status {process.returncode}")
    facts = json.loads(summary.read_text(encoding="utf-8"))
    return {
        "seconds": facts["video"]["duration"],
        "size": f"{facts['video']['width']}x{facts['video']['height']}",
        "peak_MiB": round(usage.ru_maxrss / 1024),
        "segmenting_times_real_time": facts["throughput"],
        "wall_seconds": round(time.perf_counter() - begin, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
    }


def _record_apart(*clip: Any) -> None:
    """[`record_clip`] in a process of its own: the peak of this one counts as that of all that it
    starts later."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        process.submit(record_clip, *clip).result()


def record_clip(path: Path, seconds: int, size: tuple[int, int]) -> None:
    """Write the shipped clip again and again, enlarged, 30 frames a second, with the grain of a
    camera, which is what an encoder works on; as large a file as a camera's.

    Args:
        size: width and height, pixels.

    Raises:
        ValueError: the clip is not here.
    """
    if not SHIPPED_CLIP.is_file():
        raise ValueError(f"{SHIPPED_CLIP}: not here: it comes with the repository")
    (width, height), random = size, np.random.default_rng(0)
    grain = random.normal(0, GRAIN, (5, height, width)).round().astype(np.int16)
    with av.open(str(SHIPPED_CLIP)) as clip, av.open(str(path), "w") as container:
        pictures = list(clip.decode(video=0))
        options = {"preset": "veryfast", "crf": "21"}
        video = container.add_stream("libx264", rate=RENDERED_RATE, options=options)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = container.add_stream("aac", rate=SOUND_RATE, layout=SOUND_LAYOUT)
        rate = clip.streams.video[0].average_rate
        for number in range(seconds * RENDERED_RATE):
            picture = pictures[int(number * rate / RENDERED_RATE) % len(pictures)]
            frame, planes = blank_frame(size)
            enlarged = picture.reformat(*size, format="yuv420p", interpolation="BICUBIC")
            paste(planes, planes_of(enlarged))
            planes[0][:] = np.clip(planes[0] + grain[number % len(grain)], 0, 255)
            container.mux(video.encode(frame))
            if number % RENDERED_RATE == 0:
                noise = random.normal(0, 0.1, (2, SOUND_RATE)).astype(np.float32)
                frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout=SOUND_LAYOUT)
                frame.sample_rate = SOUND_RATE
                frame.pts = number // RENDERED_RATE * SOUND_RATE
                container.mux(audio.encode(frame))
        container.mux([*video.encode(), *audio.encode()])


def transcode(source: Path, target: Path, threads: int) -> None:
    """Encode a video's frames as `refavs segment` does and copy its sound, as `ffmpeg -i source
    -c:v libx264 -c:a copy target` with the same options."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        pictures, sound = reader.streams.video[0], reader.streams.audio[0]
        pictures.thread_type = "AUTO"
        video = writer.add_stream(H264.video, rate=pictures.average_rate, options=H264.options)
        video.width, video.height, video.pix_fmt = pictures.width, pictures.height, "yuv420p"
        video.thread_type, video.codec_context.thread_count = "FRAME", threads
        audio = writer.add_stream_from_template(sound)
        for packet in reader.demux(pictures, sound):
            if packet.stream is pictures:
                for frame in packet.decode():
                    frame.pict_type = 0  # the encoder's choice
                    writer.mux(video.encode(frame))
            elif packet.size:
                packet.stream = audio
                writer.mux(packet)
        writer.mux(video.encode())


def measure_rendering(options: Options, repeats: int) -> list[dict[str, Any]]:
    """Compare `refavs segment` on a video of 1080p, one sentence that fits throughout, with the
    mere transcoding of the video, in turn.

    Returns:
        For the transcoding, for an overlay alone and with all other outputs: `wall_seconds` and
        `processor_seconds`, medians, and both as multiples of the transcoding's; for the parts of
        the work, in one process each, the processor seconds alone.

    Raises:
        ValueError: there is no model, or the command failed.
    """
    if options.model is None:
        raise ValueError("--part rendering: give --model: it runs refavs segment")
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        record_clip(video, RENDERED_SECONDS, RENDERED_SIZE)
        timed: dict[str, list[tuple[float, float]]] = {}
        for _ in range(repeats):
            for name, run in _renderings(video, options).items():
                timed.setdefault(name, []).append(run())
    medians = {name: np.median(seconds, axis=0) for name, seconds in timed.items()}
    return [
        {
            "what": name,
            "wall_seconds": round(float(wall), 1),
            "processor_seconds": round(float(processor), 1),
            "times_the_wall": round(float(wall / medians["transcode"][0]), 2),
            "times_the_processor": round(float(processor / medians["transcode"][1]), 2),
        }
        for name, (wall, processor) in medians.items()
    ]


def _renderings(video: Path, options: Options) -> dict[str, Callable[[], tuple[float, float]]]:
    """What is timed; each gives its seconds on the wall and of the processor."""
    extra = [f"--masks={video.parent / 'masks'}", f"--contact-sheet={video.parent / 'sheet.png'}"]
    extra += [f"--coco={video.parent / 'coco.json'}", f"--cvat={video.parent / 'cvat.xml'}"]
    threads = f"--threads={options.threads}"

    def segment(*outputs: str) -> tuple[float, float]:
        shutil.rmtree(video.parent / "masks", ignore_errors=True)
        facts = _measure_segment(video, options.model, [RENDERED_EXPRESSION], threads, *outputs)
        return facts["wall_seconds"], facts["processor_seconds"]

    def decode() -> None:
        for _ in read_frames(video):
            pass

    return {
        "transcode": lambda: _time(transcode, video, video.with_suffix(".mkv"), options.threads),
        "overlay": segment,
        "overlay, masks, sheet, COCO, CVAT": lambda: segment(*extra),
        "of these: decoding once": lambda: _time(decode),
        "of these: importing and loading the model": lambda: _time(_load, options.model),
    }


def _load(model: str) -> None:
    """Import what `refavs segment` does and load the model, in a process of its own."""
    code = f"""
import os
from modeling_refavs.utils.processes import no_garbage_collection
with no_garbage_collection():
    import torch
    from modeling_refavs.inference.loading import load_model
    load_model({model!r}, torch.device("cpu"))
os._exit(0)  # as `refavs` ends
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def _time(run: Callable[..., None], *arguments: Any) -> tuple[float, float]:
    """Seconds on the wall and of the processor, those of child processes too."""

    def processor() -> float:
        return time.process_time() + sum(os.times()[2:4])  # which counts in hundredths

    begin, used = time.perf_counter(), processor()
    run(*arguments)
    return time.perf_counter() - begin, processor() - used
