"""Files that appear whole, one writer an output, and what killed runs left."""

import errno
import os
import subprocess
import sys
import time

import pytest

from modeling_refavs.utils.files import (
    is_new,
    lock_folder,
    remove_leftovers,
    whole_file,
    whole_folder,
)


HOLD = """
import sys
from modeling_refavs.utils.files import lock_folder, whole_file, whole_folder
with {what}(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def hold(tmp_path):
    """`hold("whole_file", path)`: another process that writes there."""
    processes = []

    def start(what, path):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD.format(what=what), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("what", [whole_file, whole_folder, lock_folder])
def test_an_output_has_one_writer_at_a_time(what, tmp_path, hold):
    path = tmp_path / "out.d"
    if what is lock_folder:
        path.mkdir()
    holder = hold(what.__name__, path)
    with (
        pytest.raises(ValueError, match=r"out\.d: another process writes here: wait"),
        what(path),
    ):
        pass
    holder.kill()  # the lock ends with the process, and what it left is replaced
    holder.wait()
    with what(path) as unfinished:
        if what is whole_file:
            unfinished.write_text("ours")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.d"]


def test_a_forked_worker_does_not_keep_the_lock(tmp_path):
    """As workers of a data loader would, which outlive a killed parent by seconds."""
    code = (
        "import os, sys, time\n"
        "from modeling_refavs.utils.files import lock_folder\n"
        "with lock_folder(sys.argv[1]):\n"
        "    if os.fork() == 0: time.sleep(60)\n"
        "    time.sleep(0.2); print('forked', flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert parent.stdout.readline() == "forked\n"
        parent.kill()
        parent.wait()
        with lock_folder(tmp_path):
            pass
    finally:
        os.killpg(parent.pid, 9)


def test_writers_take_turns_and_nothing_is_lost(tmp_path):
    """Whoever opens the temporary file just before it is renamed does not write into the result."""
    path = tmp_path / "out.txt"
    code = (
        "import sys\n"
        "from modeling_refavs.utils.files import whole_file\n"
        "done = 0\n"
        "while done < 300:\n"
        "    try:\n"
        "        with whole_file(sys.argv[1]) as unfinished:\n"
        "            unfinished.write_text(sys.argv[2] * 1000)\n"
        "        done += 1\n"
        "    except ValueError: pass\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), letter]) for letter in "ab"]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            assert path.read_text() in ("a" * 1000, "b" * 1000)
        time.sleep(0.001)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.txt"]


@pytest.mark.parametrize("name", [".out.part.mp4", ".masks.part", "export.json.tmp"])
def test_leftovers_are_known(name, tmp_path):
    (tmp_path / name).touch()
    assert is_new(tmp_path)
    (tmp_path / "diary.txt").touch()
    assert not is_new(tmp_path)
    remove_leftovers(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["diary.txt"]


def test_a_full_disk_is_named(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*/out\.txt'"),
        whole_file(tmp_path / "out.txt"),
    ):
        raise full
    with (
        pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*/no/out\.txt'"),
        whole_file(tmp_path / "no" / "out.txt"),
    ):
        pass
    assert not any(tmp_path.iterdir())
