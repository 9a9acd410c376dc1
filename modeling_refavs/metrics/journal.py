"""Scores on disk, clip by clip, so that an evaluation that was stopped, in whatever way, goes on."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..media.writing import whole_file


Record = dict[str, Any]


class Journal:
    """`folder/request.json`, what is evaluated, and `folder/scores-<process>.jsonl`, a line a clip.

    Each process appends to a file of its own. A line counts once it has its end: one that was cut short is evaluated
    anew. The number of processes may change from one run to the next.

    Args:
        folder: made if it is not there.
        request: what the scores depend on, in types that JSON has.
        process: the number of this process.

    Raises:
        ValueError: the folder holds the scores of another request.
    """

    def __init__(self, folder: str | Path, request: dict[str, Any], process: int = 0):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._claim(request)
        self.done = {(record["split"], record["index"]) for record in self.read()}
        path = self.folder / f"scores-{process}.jsonl"
        _cut_torn_line(path)
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error) -> None:
        self._file.close()

    def append(self, record: Record) -> None:
        """Add a clip: its `split`, its `index` there, and whatever else is known of it."""
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._file.flush()

    def read(self) -> Iterator[Record]:
        """All clips of all processes, one at a time, in no order."""
        for path in sorted(self.folder.glob("scores-*.jsonl")):
            with path.open(encoding="utf-8") as file:
                yield from (json.loads(line) for line in file if line.endswith("\n"))

    def _claim(self, request: dict[str, Any]) -> None:
        path = self.folder / "request.json"
        if not path.exists():
            with whole_file(path) as unfinished:
                unfinished.write_text(json.dumps(request, indent=2) + "\n", encoding="utf-8")
        earlier = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name, value in request.items() if earlier.get(name) != value]
        if changed:
            raise ValueError(
                f"{self.folder} holds scores of another evaluation ({', '.join(changed)} differ): "
                "give another --output, or remove it"
            )


def _cut_torn_line(path: Path) -> None:
    if path.exists() and (text := path.read_bytes()) and not text.endswith(b"\n"):
        os.truncate(path, text.rfind(b"\n") + 1)
