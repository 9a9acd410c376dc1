"""A Hub on loopback, for the genuine clients: HF_ENDPOINT=url, HF_TOKEN=TOKEN,
HF_HUB_DISABLE_XET=1."""

import threading
from contextlib import contextmanager
from http.server import ThreadingHTTPServer

from .connection import Fault
from .routes import TOKEN, Repo, Routes


__all__ = ["TOKEN", "Fault", "LoopbackHub", "loopback_hub"]


class LoopbackHub(ThreadingHTTPServer):
    """`repos["model", "user/name"]`, the LFS `objects` by SHA-256, and the `log` of requests."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Routes)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.log: list[str] = []
        self.quota = float("inf")  # bytes of one LFS object

    def files(self, kind: str, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        repo = self.repos[kind, repo_id]
        return {
            path: self.content(entry)
            for path, entry in repo.commits[repo.commit_of(revision)].items()
        }

    def content(self, entry: bytes | str) -> bytes:
        return self.objects[entry] if isinstance(entry, str) else entry

    def handle_error(self, request, client_address) -> None:
        """A client that hung up is no news."""


@contextmanager
def loopback_hub():
    hub = LoopbackHub()
    thread = threading.Thread(target=hub.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
