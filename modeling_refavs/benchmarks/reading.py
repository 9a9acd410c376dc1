"""Is reading ever the bottleneck? Seconds that a second of video takes to be decoded, made ready and segmented."""

import tempfile
import time
from pathlib import Path

import torch

from ..media.steps import read_steps
from ..streaming_refavs import RefAVSStream
from .long_video import generate_video
from .settings import make_model
from .turns import Options
from .workloads import SENTENCE, make_processor


SECONDS, SIZE, RATE = 10, (1280, 720), 25  # of the video: width, height; pictures a second


def measure_reading(options: Options) -> dict[str, float]:
    """Seconds a second of a 720p video: `decode` all its pictures and its sound, `prepare` for the model, `segment`; and what
    share of the whole is not the model."""
    torch.set_num_threads(options.threads)
    model = make_model("eemc" if options.device == "cpu" else "graphs", options.model, options.device)
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
