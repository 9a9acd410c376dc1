"""Files of a folder that goes to the Hub: their names, sizes and digests."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path


READ_BYTES = 2**20
CACHES = ("__pycache__", ".*", "*.pyc", "*.egg-info")  # never published


def list_files(folder: Path) -> list[str]:
    """Names relative to the folder, with /, sorted; what the client would not send is not among them."""
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
