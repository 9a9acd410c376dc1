"""Loading as someone does who has nothing of ours installed.

The same file is the module that starts a clean room and, run as a script, what happens inside: no
relative imports.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


OURS = ("modeling_refavs", "dataset_script")
TIMEOUT = 1800  # s: a large data set is downloaded inside
SENTENCES = ["the first object to make a sound", "the red object"]
SIZE, SECONDS, RATE = (90, 120), 3, 16_000  # height and width, s, Hz: of the clip that is asked


def load_in_clean_room(
    kind: str, source: str | Path, revision: str | None = None, token: str | None = None
) -> Any:
    """What one of the functions below returns in a process, and a cache, of its own.

    Args:
        kind: out of `ROOMS`.
        source: a folder; or, with a revision, an id on the Hub.
        token: for a private repository; no other reaches the process.

    Raises:
        ValueError: it does not load; the message ends as the traceback does.
    """
    with tempfile.TemporaryDirectory(prefix="refavs-clean-room-") as home:
        wanted = [str(source), revision] if revision else [str(Path(source).resolve())]
        command = [sys.executable, "-IB", __file__, kind, *wanted]
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.endswith(("_CACHE", "_TOKEN"))
        }
        caches = {"HF_HOME": home, "MPLCONFIGDIR": home, "HF_HUB_OFFLINE": "0" if revision else "1"}
        environment = kept | caches | ({"HF_TOKEN": token} if token else {})
        try:
            result = subprocess.run(
                command,
                cwd=home,
                env=environment,
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"{source} is not loaded after {TIMEOUT} s") from error
    if result.returncode:
        reason = " ".join(result.stderr.strip().splitlines()[-1:])
        raise ValueError(f"{source} does not load where this package is not installed: {reason}")
    return json.loads(result.stdout.splitlines()[-1])


def ask_model(segment: Callable) -> list[Any]:
    """What a pipeline finds in a small clip, as JSON takes it: of each sentence the run lengths of
    its masks."""
    import numpy as np

    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    frames = []
    for second in range(SECONDS):
        frame = np.stack([columns * 2, rows * 2, np.full(SIZE, 60)], axis=-1).astype(np.uint8)
        frame[(rows - 45) ** 2 + (columns - 40 - 15 * second) ** 2 < 20**2] = (220, 30, 30)
        frames.append(frame)
    audio = 0.3 * np.sin(2 * np.pi * 440 * np.arange(SECONDS * RATE) / RATE).astype(np.float32)
    answers = segment(
        {"frames": frames, "audio": audio, "sampling_rate": RATE},
        text=SENTENCES,
        threshold=0.5,
        return_rle=True,
    )
    return [[mask["counts"] for mask in answer["rle"]] for answer in answers]


def model(source: str, revision: str | None) -> list[Any]:
    from transformers import pipeline

    return ask_model(
        pipeline(model=source, revision=revision, trust_remote_code=True, device="cpu")
    )


def metric(source: str, revision: str | None) -> dict[str, float]:
    """Of two frames with an object and two without, and of a sentence that refers to nothing."""
    import evaluate

    loaded = evaluate.load(source, revision=revision)
    found, nothing = [[0.9, 0.1], [0.8, 0.1]], [[0.9, 0.1], [0.1, 0.1]]
    truth, empty = [[1, 0], [0, 0]], [[0, 0], [0, 0]]
    return loaded.compute(
        predictions=[[found, nothing], [nothing, nothing]],
        references=[[truth, truth], [empty, empty]],
    )


def dataset(source: str, revision: str | None) -> dict[str, int]:
    """Rows of each split; of each the first row is decoded."""
    from datasets import load_dataset

    splits = load_dataset(source, revision=revision)
    for split in splits.values():
        first = split[0]
        for frame in first["frames"]:
            frame.load()
        if not first["audio"].startswith(b"RIFF"):
            raise ValueError(f"the first row of {split.split} has no WAV file in audio")
    return {name: len(split) for name, split in splits.items()}


def space(source: str, revision: str | None) -> list[str]:
    """Import app.py as the Space does. Returns which packages of ours it took, all out of the
    folder."""
    for name in OURS:
        sys.modules.pop(name, None)
    os.chdir(source)
    sys.path.insert(0, source)
    __import__("app")
    taken = {name: sys.modules[name].__file__ for name in OURS if sys.modules.get(name)}
    for name, file in taken.items():
        if not Path(file).is_relative_to(source):
            raise ModuleNotFoundError(f"No module named {name!r} in the folder")
    return sorted(taken)


ROOMS = {room.__name__: room for room in (model, metric, dataset, space)}

if __name__ == "__main__":
    sys.modules |= dict.fromkeys(OURS)  # as if they were not installed
    _, _kind, _source, *_revision = sys.argv
    _answer = ROOMS[_kind](_source, *(_revision or [None]))
    sys.stdout.write(f"\n{json.dumps(_answer)}\n")
