"""How processes of ours begin and end: on request, as Ctrl-C ends them, and never later than their
parent."""

import gc
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Import thousands of modules without looking for garbage among them again and again, which
    takes a quarter longer."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Terminated(KeyboardInterrupt):
    """SIGTERM came: what catches Ctrl-C catches this too."""


def _stop(number: int, frame: object) -> None:
    raise Terminated


def _hold_sigterm() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _release_sigterm() -> None:
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    except Terminated:  # which gets lost here, inside the fork: it comes again behind it
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGTERM)).start()


def _release_sigterm_in_worker() -> None:
    if signal.getsignal(signal.SIGTERM) is _stop:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _release_sigterm()


# A pool ends its forked workers by SIGTERM and waits for ever for one that catches it, or to which
# it came before Python was ready again after the fork
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_hold_sigterm,
        after_in_parent=_release_sigterm,
        after_in_child=_release_sigterm_in_worker,
    )


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Raise [`Terminated`] where SIGTERM would end the process, so that temporary files go. Workers
    that are forked meanwhile end by it as ever."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def worker_pool(workers: int) -> Iterator["ProcessPoolExecutor"]:
    """Processes that end at once when the work is given up, and with their parent."""
    from concurrent.futures import ProcessPoolExecutor  # `refavs --help` needs none of it

    pool = ProcessPoolExecutor(workers, initializer=end_with_parent)
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def end_with_parent() -> None:
    """Let this worker end when its parent does, however that ends; Ctrl-C is the parent's."""
    import multiprocessing

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
