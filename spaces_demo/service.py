"""The page's side of the working process: it is kept warm, asked, ended when it takes too long, and
replaced."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Lock, Timer
from typing import Any

from limits import LimitError

import modeling_refavs


FOLDER = Path(__file__).parent
SECONDS = 180.0  # that one request may take


class StoppedError(RuntimeError):
    """The work ended without an answer.

    Args:
        kind: "time", "failed" or "crashed", a key of the page's texts.
        facts: what stands in that text.
    """

    def __init__(self, kind: str, **facts: Any):
        super().__init__(kind)
        self.kind, self.facts = kind, facts


class Service:
    """Asks a process that `work.py` runs.

    Args:
        model: folder of a model, or its id on the Hub.
        seconds: that one request may take; the process is then ended, and a new one is started.
        work: the script.
    """

    def __init__(self, model: str, seconds: float = SECONDS, work: Path = FOLDER / "work.py"):
        self.model, self.seconds, self.work = model, seconds, work
        self.process: subprocess.Popen | None = None
        self.ready, self.lock = False, Lock()

    def start(self) -> None:
        """Begin to load the model; [`ask`] waits for it."""
        code = Path(modeling_refavs.__file__).parents[
            1
        ]  # the very package that this process imports
        roots = [str(code), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, str(self.work), self.model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(roots)},
        )
        self.ready = False

    def wait(self) -> None:
        """Until the model is loaded; `ValueError` says why it cannot be."""
        if self.process is None or self.process.poll() is not None:
            self.stop()
            self.start()
        if not self.ready:
            reply = json.loads(
                self.process.stdout.readline() or '{"failed": "it ended while it loaded the model"}'
            )
            if "failed" in reply:
                self.stop()
                raise ValueError(reply["failed"])
            self.ready = True

    def ask(self, request: dict[str, Any], tell: Callable[[str, float], None]) -> dict[str, Any]:
        """See [`work.work`].

        Raises:
            LimitError: the request is refused.
            StoppedError: it took too long, or failed.
        """
        with self.lock:
            self.wait()
            process, late = self.process, []
            timer = Timer(self.seconds, lambda: (late.append(True), process.kill()))
            timer.start()
            try:
                return self._converse(process, request, tell)
            except (OSError, EOFError) as error:
                self.stop()
                self.start()
                raise StoppedError(
                    "time" if late else "crashed", most=round(self.seconds)
                ) from error
            finally:
                timer.cancel()

    def _converse(
        self, process: subprocess.Popen, request: dict[str, Any], tell: Callable[[str, float], None]
    ) -> dict[str, Any]:
        print(json.dumps(request), file=process.stdin, flush=True)
        for line in process.stdout:
            reply = json.loads(line)
            if "answer" in reply:
                return reply["answer"]
            if "refused" in reply:
                raise LimitError(reply["refused"], **reply["facts"])
            if "failed" in reply:
                raise StoppedError("failed", reason=reply["failed"])
            tell(reply["stage"], reply["part"])
        raise EOFError("the process ended")

    def stop(self) -> None:
        """End the process."""
        if self.process:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                pipe.close()
            self.process = None
