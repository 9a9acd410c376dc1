"""Arrays on disk that are made once: a folder of .npy files whose name is a digest of all that they follow from."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from logging import INFO, WARNING
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers.utils import logging


logger = logging.get_logger(__name__)

SPARE = 1 << 28  # bytes that must stay free on the disk
DIGITS = 24  # of a digest, hexadecimal
LARGE = 1 << 30  # bytes that are not taken without a word

Arrays = dict[str, np.ndarray]
Shapes = dict[str, tuple[tuple[int, ...], str]]  # name -> shape, type


class ArrayCache:
    """A folder of such folders.

    Args:
        folder: made if it does not exist.
        num_proc: processes that read what is prepared.
    """

    def __init__(self, folder: str | Path, num_proc: int = 1):
        self.folder, self.num_proc = Path(folder).expanduser(), num_proc
        self.folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str, key: Any, shapes: Callable[[], Shapes], parts: Callable[[], Iterable[Arrays]]) -> Arrays:
        """Memory-mapped arrays, made now if they are not there. Killed meanwhile, nothing half made is left to be found.

        Args:
            name: what they are, for people.
            key: all that they follow from, as JSON takes it.
            shapes: called if they must be made.
            parts: called then; what it yields fills the arrays from the front, one after the other.
        """
        folder = self.folder / f"{name}-{digest(key)}"
        if not folder.is_dir():
            with FileLock(self.folder / ".lock"):  # another run may be making the same
                if not folder.is_dir():
                    self._make(folder, name, shapes(), parts())
        return {file.stem: np.load(file, mmap_mode="r") for file in folder.glob("*.npy")}

    def read(self, name: str, length: int, read: Callable[[int], Any]) -> Iterator[Any]:
        """`read(0)`, `read(1)`, ... in order, in `num_proc` processes, with a bar. What they raise is raised here. What is computed
        meanwhile has the threads that they leave: threads that wait for one another on a busy processor are slow."""
        threads, readers = torch.get_num_threads(), self.num_proc if self.num_proc > 1 else 0
        loader = DataLoader(
            _Reading(length, read),
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=readers,
        )
        torch.set_num_threads(max(1, threads - readers))
        try:
            for item in tqdm(loader, desc=f"preparing {name}", unit="clip", total=length):
                if isinstance(item, ValueError):
                    raise item
                yield item
        finally:
            torch.set_num_threads(threads)

    def _make(self, folder: Path, name: str, shapes: Shapes, parts: Iterable[Arrays]) -> None:
        size = sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in shapes.values())
        free = shutil.disk_usage(self.folder).free
        logger.log(WARNING if size > LARGE else INFO, f"{folder}: {size / 1e9:.2f} GB are made once")
        if size + SPARE > free:
            raise ValueError(
                f"{self.folder}: {name} takes {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free: "
                "make room, or name another folder as cache_dir"
            )
        unfinished = folder.with_name(folder.name + ".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            arrays = {
                key: np.lib.format.open_memmap(unfinished / f"{key}.npy", "w+", dtype=kind, shape=shape)
                for key, (shape, kind) in shapes.items()
            }
            filled = dict.fromkeys(arrays, 0)
            for part in parts:
                for key, rows in part.items():
                    arrays[key][filled[key] : filled[key] + len(rows)] = rows
                    filled[key] += len(rows)
            for array in arrays.values():
                array.flush()
            os.replace(unfinished, folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


class _Reading(Dataset):
    """A worker hands a `ValueError` over as an item, since raised there it would come as a traceback."""

    def __init__(self, length: int, read: Callable[[int], Any]):
        self.length, self.read = length, read

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        try:
            return self.read(index)
        except ValueError as error:
            return error


def _as_it_is(item: Any) -> Any:
    return item


def digest(key: Any) -> str:
    """Of anything that JSON takes."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:DIGITS]


def digest_module(module: torch.nn.Module) -> str:
    """A digest of all weights but those of adapters that change nothing yet."""
    weights, state = hashlib.sha256(), module.state_dict()
    heard = {name.partition(".up.")[0] for name in state if ".adapter.up." in name and state[name].any()}
    for name, tensor in sorted(state.items()):
        adapter, inside, _ = name.partition(".adapter.")
        if inside and adapter + ".adapter" not in heard:
            continue
        weights.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        weights.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return weights.hexdigest()[:DIGITS]
