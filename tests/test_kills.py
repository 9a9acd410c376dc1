"""Runs that are killed or stopped at any moment, and asked again, end as if nothing had happened
and leave nothing behind. `REFAVS_SLOW_TESTS=1`: every command, ten times each."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import pytest
from pandas import read_csv, read_parquet

from dataset_script.synthetic import SynthesisOptions, synthesize

from .conftest import SLOW
from .training.conftest import SMOKE


ROOT = Path(__file__).parents[1]
MODEL = ROOT / "spaces_demo" / "synthetic_checkpoint"
TIMES = 10 if SLOW else 1
SIGNALS = {"killed": signal.SIGKILL, "stopped": signal.SIGTERM}
# of commands in OUT: two seconds each and more, so that most moments are of work, not of imports
COMMANDS = {
    "segment": "segment {clip} house drum --model {model} --output OUT/out.mp4 --masks OUT/masks "
    "--coco OUT/coco.json --summary OUT/summary.json",
    "train": "train {recipe} --output_dir OUT/run",
    "evaluate": "evaluate --model {model} --data {tree} --splits test_s --output OUT/scores "
    "--mask-size 64 --draws 20",
    "collect": "collect {clip} --output OUT/tree --limit few_colours=1 flat_areas=1 loudness=-200",
    "synthesize": "synthesize OUT/tree --clips 10 --size 48x64 --workers 2",
    "export": "dataset export {tree} OUT/parquet --configurations clips expressions --shard-mb 1",
}
# Of a training tests/training/test_stops.py asks the same, in less time.
ALWAYS = (("segment", "killed"), ("synthesize", "stopped"))
VOLATILE = {"throughput", "seconds_per_sentence", "seconds"}  # how long it took


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    synthesize(folder / "tree", 24, SynthesisOptions(height=48, width=64))
    synthesize(folder / "clip", 1, SynthesisOptions(height=96, width=128, video=True))
    recipe = SMOKE.read_text().replace("data: smoke_tree", f"data: {folder / 'tree'}")
    recipe += f"\ncache_dir: {folder / 'cache'}\ndisable_tqdm: true\n"
    changes = {"max_steps: 30": "max_steps: 8", "_steps: 15": "_steps: 4"}
    for old, new in changes.items():
        recipe = recipe.replace(old, new)
    (folder / "recipe.yaml").write_text(recipe)
    return {
        "model": MODEL,
        "clip": next(folder.glob("clip/media/*/video.mp4")),
        "tree": folder / "tree",
        "recipe": folder / "recipe.yaml",
    }


def start(command, inputs, output):
    output.mkdir(exist_ok=True)
    words = COMMANDS[command].format(**inputs).replace("OUT", str(output)).split(" ")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with (output.parent / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "modeling_refavs.cli", *words],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def finish(command, inputs, output):
    code = start(command, inputs, output).wait()
    assert code == 0, (output.parent / "log").read_text()


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """`whole(command)`: what an uninterrupted run leaves, and the seconds that it takes."""
    runs = {}

    def run(command):
        if command not in runs:
            output = tmp_path_factory.mktemp(command) / "out"
            begin = time.perf_counter()
            finish(command, inputs, output)
            runs[command] = (contents(output), time.perf_counter() - begin)
        return runs[command]

    return run


def contents(output: Path) -> dict[str, object]:
    """Every file's bytes, or of JSON and the like what does not tell the time or the place."""
    files = sorted(path for path in output.rglob("*") if path.is_file())
    return {str(path.relative_to(output)): content(path, output) for path in files}


def content(path: Path, output: Path) -> object:
    place = str(output)
    if path.suffix == ".json":
        return timeless(json.loads(path.read_text().replace(place, "OUT")))
    if path.suffix == ".jsonl":
        lines = [timeless(json.loads(line)) for line in path.read_text().splitlines()]
        return sorted(lines, key=str)
    if path.name == "sentences.csv":
        return read_csv(path).drop(columns="seconds").to_csv()
    if path.name == "sentences.parquet":
        return read_parquet(path).drop(columns="seconds").to_csv()
    if path.suffix in (".md", ".bin", ".pt", ".yaml") or path.name == "curves.png":
        return None  # times of runs and paths stand in it: it is enough that it is there
    return path.read_bytes()


def timeless(value):
    if isinstance(value, dict):
        return {
            key: timeless(entry)
            for key, entry in value.items()
            if key not in VOLATILE and "runtime" not in key and "per_second" not in key
        }
    if isinstance(value, list):
        # Trainer sums up its losses as it returns: killed after the last checkpoint, it does not
        return [timeless(entry) for entry in value if not (is_log(entry) and "train_loss" in entry)]
    return value


def is_log(entry):
    return isinstance(entry, dict) and "step" in entry


def children_of(group: int) -> list[str]:
    """Processes of a group that are left, zombies aside."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="counts processes in /proc")
@pytest.mark.parametrize(("command", "how"), list(product(COMMANDS, SIGNALS)) if SLOW else ALWAYS)
def test_a_run_ends_as_if_nothing_had_happened(command, how, whole, inputs, tmp_path):
    expected, seconds = whole(command)
    moments = random.Random(f"{command} {how}")
    for number in range(TIMES):
        output = tmp_path / str(number) / "out"
        output.parent.mkdir()
        process = start(command, inputs, output)
        try:
            process.wait(timeout=moments.uniform(0.3, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(SIGNALS[how])
        code = process.wait(timeout=60)
        log = (output.parent / "log").read_text()
        assert code in (0, -SIGNALS[how], 128 + SIGNALS[how]), log
        assert "Traceback" not in log
        deadline = time.monotonic() + 15  # those of a data loader look for their parent each 5 s
        while children_of(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not children_of(process.pid)
        if code and contents(output) != expected:  # else it had done all but end
            finish(command, inputs, output)
        assert contents(output) == expected
