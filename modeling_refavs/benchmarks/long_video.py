"""Peak memory and throughput of `refavs segment` on a short and a long video of the same kind.

python -m modeling_refavs.benchmarks.long_video --model spaces_demo/synthetic_checkpoint --seconds 90 900 --size 1920x1080 --fps 2
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


SAMPLING_RATE = 16_000  # Hz


def main() -> None:
    args = make_parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for seconds in args.seconds:
            video = Path(folder) / f"{seconds}.mp4"
            generate_video(video, seconds, args.size, args.fps)
            sys.stdout.write(json.dumps(measure(video, args.sentences, args.model, args.options)) + "\n")
            sys.stdout.flush()


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--seconds", type=int, nargs="+", default=[90, 900])
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split("x"))), default=(320, 240), help="WxH")
    parser.add_argument("--fps", type=int, default=5, help="pictures a second of the generated video")
    parser.add_argument("--sentences", nargs="+", default=["the guitar", "the first object to make a sound"])
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="handed on to refavs segment; last")
    return parser


def generate_video(path: Path, seconds: int, size: tuple[int, int], fps: int) -> None:
    """A bright square on its way over a grey picture, and a hum."""
    width, height = size
    picture = np.full((height, width, 3), 90, dtype=np.uint8)
    side = height // 4
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "crf": "30"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLING_RATE, layout="mono")
        hum = 0.3 * np.sin(2 * np.pi * 250 * np.arange(SAMPLING_RATE) / SAMPLING_RATE).astype(np.float32)
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


def measure(video: Path, sentences: list[str], model: str, options: list[str]) -> dict:
    """Run `refavs segment` in a process of its own."""
    output, summary = video.with_suffix(".out.mp4"), video.with_suffix(".json")
    command = [sys.executable, "-m", "modeling_refavs.cli", "segment", str(video), *sentences, "--model", model]
    command += ["--output", str(output), "--summary", str(summary), *options]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"refavs segment failed with status {os.waitstatus_to_exitcode(status)}")
    facts = json.loads(summary.read_text())
    return {
        "seconds": facts["video"]["duration"],
        "size": f"{facts['video']['width']}x{facts['video']['height']}",
        "peak_MiB": round(usage.ru_maxrss / 1024),
        "segmenting_times_real_time": facts["throughput"],
        "wall_seconds": round(time.perf_counter() - begin, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
    }


if __name__ == "__main__":
    main()
