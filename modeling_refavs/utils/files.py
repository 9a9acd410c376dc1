"""Files and folders that appear whole or not at all, and belong to one process at a time."""

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None

DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_locks: set[int] = set()  # file descriptors that hold a lock


def _drop_locks() -> None:
    """A forked worker would keep its parent's locks after the parent has gone."""
    for descriptor in _locks:
        os.close(descriptor)
    _locks.clear()


if fcntl:
    os.register_at_fork(after_in_child=_drop_locks)


def unfinished_name(path: Path) -> Path:
    """Return what `path` is called while it is written: `.out.part.mp4` for `out.mp4`. The name is
    the same each time, so that the next run replaces what a killed one has left."""
    path = path if path.name else path.absolute()  # "."
    return path.with_name(f".{path.stem}.part{path.suffix}")


# Those above, and what earlier versions called them.
_LEFTOVER = re.compile(r"\..+\.part(\.[^.]*)?|(export|synthesis)\.json\.(tmp|part)")


def is_new(folder: Path) -> bool:
    """Whether a folder is missing, or holds nothing but what a killed run of ours has left."""
    if not folder.exists():
        return True
    return folder.is_dir() and all(_LEFTOVER.fullmatch(path.name) for path in folder.iterdir())


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs have left unfinished directly in a folder."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if _LEFTOVER.fullmatch(path.name):
            _remove(path)


@contextmanager
def lock_folder(folder: str | Path, output: str | Path | None = None) -> Iterator[None]:
    """Make a folder and hold it for this process; the lock ends with the process, however that
    ends.

    Args:
        output: what the folder belongs to, named to whoever finds it held; by default the folder.

    Raises:
        ValueError: another process holds it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder, Path(output or folder), os.O_RDONLY):
        yield


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name in the same folder, renamed to `path` at the end; removed if anything
    fails.

    Raises:
        ValueError: another process writes the same file.
        OSError: names `path`.
    """
    path = Path(path)
    unfinished = unfinished_name(path)
    with _lock(unfinished, path, os.O_RDWR | os.O_CREAT), _naming(path):
        try:
            yield unfinished
            unfinished.replace(path)
        except BaseException:  # not `finally`: renamed, the name may be another process's already
            unfinished.unlink(missing_ok=True)
            raise


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """As [`whole_file`], for a folder that does not exist yet, or is empty."""
    path = Path(path)
    unfinished = unfinished_name(path)
    with _naming(path):
        unfinished.mkdir(exist_ok=True)
    with _lock(unfinished, path, os.O_RDONLY), _naming(path):
        try:
            for leftover in unfinished.iterdir():
                _remove(leftover)
            yield unfinished
            if path.exists():
                path.rmdir()
            unfinished.rename(path)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Yield a new folder among the system's temporary ones, removed at the end; those that killed
    processes have left under the same prefix are removed first."""
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        try:
            with lock_folder(path):
                shutil.rmtree(path, ignore_errors=True)
        except (ValueError, OSError):
            pass  # in use, or another user's
    with tempfile.TemporaryDirectory(prefix=prefix) as folder, lock_folder(folder):
        yield Path(folder)


@contextmanager
def _lock(path: Path, output: Path, flags: int) -> Iterator[None]:
    """Lock the very file or folder that is at `path` when the lock is had."""
    if not fcntl:
        yield
        return
    while True:
        with _naming(output):
            descriptor = os.open(path, flags, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise ValueError(
                f"{output}: another process writes here: wait for it, or give another name"
            ) from error
        except OSError:
            pass  # a file system without locks
        if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            break
        os.close(descriptor)  # it was renamed or removed meanwhile
    _locks.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _locks:  # not so in a forked child
            _locks.remove(descriptor)
            os.close(descriptor)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """A full disk is reported by whoever writes last, without a name or with a temporary one: say
    which output it was."""
    try:
        yield
    except OSError as error:
        nameless = error.filename is None and error.errno in DISK_IS_FULL
        if nameless or error.filename == str(unfinished_name(path)):
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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


def table(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table: one line of titles, one of rules, one for each row."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )
