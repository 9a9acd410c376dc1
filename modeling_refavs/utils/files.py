"""Files that appear whole or not at all, videos with sound among them: H.264, and VP9 with
transparency."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary name in the same folder, renamed to `path` at the end; removed if anything
    fails."""
    path = Path(path)
    unfinished = path.with_name(f".{uuid4().hex}{path.suffix}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """As [`whole_file`], for a folder that does not exist yet, or is empty."""
    path = Path(path)
    unfinished = path.with_name(f".{uuid4().hex}")
    try:
        unfinished.mkdir()
        yield unfinished
        if path.exists():
            path.rmdir()
        unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


READ_BYTES = 2**20
CACHES = ("__pycache__", ".*", "*.pyc", "*.egg-info")  # never published


def list_files(folder: Path) -> list[str]:
    """Names relative to the folder, with /, sorted; what the client would not send is not among
    them."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if not {".git", ".cache"} & set(path.parts))


def describe(folder: Path) -> str:
    """A line a file, and their sum."""
    sizes = {name: (folder / name).stat().st_size for name in list_files(folder)}
    lines = [f"{readable_size(size):>10}  {name}" for name, size in sizes.items()]
    return "\n".join([*lines, f"{readable_size(sum(sizes.values())):>10}  in {len(sizes)} files"])


def readable_size(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def copy_tree(source: Path, target: Path, *ignored: str) -> None:
    """Without caches, hidden files and what else is ignored."""
    ignore: Callable = shutil.ignore_patterns(*CACHES, *ignored)
    shutil.copytree(source, target, ignore=ignore, dirs_exist_ok=True)
