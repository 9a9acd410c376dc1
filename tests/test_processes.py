"""How processes of ours end."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from modeling_refavs.cli import main
from modeling_refavs.utils.processes import Terminated, sigterm_as_interrupt


POOL = """
import os, sys, time
from modeling_refavs.utils.processes import sigterm_as_interrupt, worker_pool

def work(number):
    os.write(1, b"%d\\n" % os.getpid())  # at once: two workers share the pipe
    time.sleep(60)

if __name__ == "__main__":
    with sigterm_as_interrupt(), worker_pool(2) as pool:
        list(pool.map(work, range(8)))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent(number, tmp_path):
    (tmp_path / "pool.py").write_text(POOL)
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "pool.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    workers = {int(parent.stdout.readline()) for _ in range(2)}
    assert parent.pid not in workers
    parent.send_signal(number)
    parent.wait(timeout=30)
    deadline = time.monotonic() + 30
    while any(map(is_running, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


FORK = """
import os, signal, sys, time
stop = len(sys.argv) > 1
os.register_at_fork(before=lambda: stop and os.kill(os.getpid(), signal.SIGTERM))
from modeling_refavs.utils.processes import Terminated, sigterm_as_interrupt

try:
    with sigterm_as_interrupt():
        if not os.fork():
            os._exit(0)
        time.sleep(1)
        print("went on")
except Terminated:
    print("ended")
"""


@pytest.mark.parametrize(("words", "expected"), [([], "went on\n"), (["stop"], "ended\n")])
def test_sigterm_is_not_lost_in_a_fork(words, expected):
    answer = subprocess.run([sys.executable, "-c", FORK, *words], capture_output=True, text=True)
    assert (answer.stdout, answer.stderr) == (expected, "")


def test_a_forked_worker_ends_by_sigterm_whatever_it_catches():
    """As a pool ends its workers; the handler of the parent's temporary files is not theirs."""
    with sigterm_as_interrupt():
        pid = os.fork()
        if not pid:
            while True:
                try:
                    time.sleep(60)
                except BaseException:
                    continue
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 30
        while not (ended := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < deadline:
            time.sleep(0.01)
        if not ended[0]:
            os.kill(pid, signal.SIGKILL)
    assert ended == (pid, signal.SIGTERM)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = f"/proc/{pid}/stat"
    try:
        with open(stat) as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_sigterm_is_an_interrupt_and_only_inside():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), sigterm_as_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    found = []
    thread = threading.Thread(target=lambda: found.append(enter()))
    thread.start()
    thread.join()
    assert found == [before]  # signals are the main thread's


def enter():
    with sigterm_as_interrupt():
        return signal.getsignal(signal.SIGTERM)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_command_that_is_stopped_says_so(number, code, monkeypatch, capsys):
    def run(args):
        os.kill(os.getpid(), number)
        time.sleep(10)

    monkeypatch.setattr("modeling_refavs.commands.synthesize.run", run)
    assert main(["synthesize", "out", "--clips", "1"]) == code
    assert capsys.readouterr().err == "refavs synthesize: stopped\n"
