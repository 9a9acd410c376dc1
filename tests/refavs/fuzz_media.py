"""Reads each file that standard input names, through every reader, and says how it went: a process
of its own, so that a crash costs one file. `python -m tests.refavs.fuzz_media`"""

import sys
import time

import numpy as np

from modeling_refavs.video_refavs import probe_video, read_frames, read_sound, read_steps


def read_all(path: str) -> None:
    """As `refavs segment` does: the steps, every picture, and the sound of the result."""
    info = probe_video(path)
    for step in read_steps(info):
        assert step.frame.shape == (info.height, info.width, 3)
        assert step.audio is None or np.isfinite(step.audio).all()
    times = [frame.time for frame in read_frames(info) if frame.rgb.size]
    assert times == sorted(set(times))
    for block in read_sound(info, 48_000, "stereo", info.start_time):
        assert block.shape[0] == 2


def main() -> None:
    for line in sys.stdin:
        begin = time.process_time()
        try:
            read_all(line.rstrip("\n"))
            outcome = "read"
        except ValueError as error:
            lines = str(error).splitlines()
            outcome = "refused" if len(lines) == 1 else f"{len(lines)} lines: {error!r}"
        except Exception as error:  # what a test must see
            outcome = f"{type(error).__name__}: {error}"
        seconds = time.process_time() - begin
        sys.stdout.write(f"{seconds:.2f} {outcome}".replace("\n", " ") + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
