"""Files that are cut, flipped, filled and mixed up: each is read or refused in one line, quickly;
none crashes, whatever is sent. `REFAVS_SLOW_TESTS=1` tries 5,000."""

import subprocess
import sys
from pathlib import Path
from threading import Timer

import numpy as np
import pytest

from tests.conftest import SLOW
from tests.media_kit import beeps, counter, write_movie


NUM_FILES = 5000 if SLOW else 200
SEED = 24
LONGEST = 2.0  # s of processor time for a file
HANG = 300.0  # s of a clock, on a busy machine
ROOT = Path(__file__).parents[2]
KINDS = {  # name: pictures' codec, pixel format, sound's codec, channels
    "a.mp4": ("libx264", "yuv420p", "aac", 8),
    "b.mkv": ("libx264", "yuv420p", "flac", 2),
    "c.webm": ("libvpx-vp9", "yuv420p", "libopus", 1),
    "d.avi": ("libx264", "yuv420p", "pcm_s16le", 2),
    "e.ts": ("mpeg2video", "yuv420p", "mp2", 2),
    "f.mov": ("mjpeg", "yuvj420p", "pcm_s16le", 1),
    "g.mkv": ("ffv1", "yuv420p", "pcm_f32le", 10),
    "h.mpg": ("mpeg1video", "yuv420p", "mp2", 1),
    "i.flv": ("flv", "yuv420p", "libmp3lame", 1),
    "j.mp4": ("libx265", "yuv420p10le", "alac", 2),
    "k.wmv": ("wmv2", "yuv420p", "libmp3lame", 2),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> list[tuple[str, bytes]]:
    """(suffix, content) of each kind: 1.2 s, 64x48 pixels."""
    folder, files = tmp_path_factory.mktemp("whole"), []
    pictures = [counter(number, (64, 48)) for number in range(30)]
    for name, (codec, pix_fmt, sound_codec, num_channels) in KINDS.items():
        quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        sound, options = beeps(2, 48000, num_channels)[:, :57_600], {"g": "6", **quiet}
        path = folder / name
        write_movie(path, pictures, 25, codec, pix_fmt, sound, sound_codec, 48000, options=options)
        files.append((path.suffix, path.read_bytes()))
    return files


def mutate(whole: list[tuple[str, bytes]], rng: np.random.Generator) -> tuple[str, bytes]:
    """(suffix, content) of a file that was whole."""
    suffix, content = whole[rng.integers(len(whole))]
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(len(data)))
        size = int(min(2 ** rng.integers(0, 12), len(data) - place))
        match rng.integers(7):
            case 0:
                del data[max(place, 1) :]
            case 1:
                del data[place : place + size]
                data = data or bytearray(b"\0")
            case 2:
                data[place : place + size] = rng.bytes(size)
            case 3:
                data[place : place + size] = bytes(size)
            case 4:
                for bit in rng.integers(0, 8 * len(data), size=rng.integers(1, 64)):
                    data[bit // 8] ^= 1 << (bit % 8)
            case 5:  # the head, where sizes and counts are
                for bit in rng.integers(0, 8 * min(len(data), 2000), size=rng.integers(1, 16)):
                    data[bit // 8] ^= 1 << (bit % 8)
            case 6:
                suffix, other = whole[rng.integers(len(whole))]
                data[place:] = other[int(rng.integers(len(other))) :] or b"\0"
    return suffix, bytes(data)


class Reader:
    """A process that reads files, started again when it has ended."""

    def __init__(self):
        self.process = None

    def read(self, path: Path) -> str:
        """How it went; the signal, if it ended so."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.refavs.fuzz_media"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd=ROOT,
            )
        hang = Timer(HANG, self.process.kill)
        hang.start()
        print(path, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        hang.cancel()
        if line:
            return line.strip()
        code = self.process.wait()
        self.stop()
        return f"0 ended with {code}"

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.communicate()
            self.process = None


def test_no_file_crashes_hangs_or_leaves_a_traceback(whole, tmp_path):
    rng, reader, bad, outcomes = np.random.default_rng(SEED), Reader(), [], {}
    for number in range(NUM_FILES):
        suffix, data = mutate(whole, rng)
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(data)
        seconds, _, outcome = reader.read(path).partition(" ")
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if outcome not in ("read", "refused") or float(seconds) > LONGEST:
            bad.append((path.name, seconds, outcome))
        else:
            path.unlink()
    reader.stop()
    assert not bad, bad[:10]
    assert min(outcomes["read"], outcomes["refused"]) > NUM_FILES // 20, outcomes
