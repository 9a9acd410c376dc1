"""One Parquet file of an export: which clips go into it, and how it is written in flat memory."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from modeling_refavs.utils.files import sha256, whole_file

from .annotations import Clip
from .examples import Tree, clip_examples, usable_part
from .media_files import media_paths
from .schema import SPLITS, features_of


FORMAT = 1  # of the shards' bytes: with another number every shard is written again
ROW_GROUP_BYTES = 8 * 2**20  # of media, or one clip where that is more


@dataclass(frozen=True)
class Shard:
    """A file of the export, its clips, and a digest of all that decides its bytes."""

    name: str
    configuration: str
    clips: tuple[Clip, ...]
    digest: str


def plan_shards(tree: Tree, configuration: str, shard_bytes: int) -> Iterator[Shard]:
    """Cut each split into shards of whole clips, by the size of their files on disk."""
    for split in SPLITS:
        parts: list[list[Clip]] = []
        states: list[list[str]] = []
        room = 0
        for clip in (clip for clip in tree.clips if clip.split == split):
            size, state = _media_state(tree.root, clip)
            if not parts or room < size:
                parts.append([])
                states.append([])
                room = shard_bytes
            parts[-1].append(clip)
            states[-1].append(state)
            room -= size
        for index, (clips, state) in enumerate(zip(parts, states, strict=True)):
            name = f"{configuration}/{split}-{index:05d}-of-{len(parts):05d}.parquet"
            deciding = repr(
                (FORMAT, tree.damaged, sorted(tree.taxonomy.categories.items()), clips, state)
            )
            yield Shard(
                name, configuration, tuple(clips), hashlib.sha256(deciding.encode()).hexdigest()
            )


def write_shard(tree: Tree, shard: Shard, path: Path, advance: Callable[[], object]) -> dict:
    """Write a shard under a temporary name, then under its own.

    Args:
        advance: called once a clip.

    Returns:
        The manifest's entry: digest, sha256, rows, rows left out because their files are damaged,
        bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    entry = {"digest": shard.digest, "rows": 0, "left_out": 0}
    schema = features_of(shard.configuration).arrow_schema
    # A clip's sentences follow each other: the dictionary stores their common frames and sound once
    # a row group.
    with whole_file(path) as unfinished:
        with pq.ParquetWriter(
            unfinished, schema, compression="zstd", use_dictionary=True
        ) as writer:
            for rows in _row_groups(tree, shard, entry, advance):
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                entry["rows"] += len(rows)
        entry |= {"bytes": unfinished.stat().st_size, "sha256": sha256(unfinished)}
    return entry


def _row_groups(
    tree: Tree, shard: Shard, entry: dict, advance: Callable[[], object]
) -> Iterator[list[dict]]:
    """Rows in groups of whole clips, so that a clip's media stand in one dictionary."""
    waiting, waiting_bytes = [], 0
    for clip in shard.clips:
        usable, _ = usable_part(tree, clip)
        entry["left_out"] += len(clip.rows) - (len(usable.rows) if usable else 0)
        rows = list(_rows(tree, usable, shard.configuration)) if usable else []
        size = sum(row_bytes for _, row_bytes in rows)
        if waiting and waiting_bytes + size > ROW_GROUP_BYTES:
            yield waiting
            waiting, waiting_bytes = [], 0
        waiting += [row for row, _ in rows]
        waiting_bytes += size
        advance()
    yield waiting


def _rows(tree: Tree, clip: Clip, configuration: str) -> Iterator[tuple[dict, int]]:
    """A clip's rows with bytes in place of paths, and the bytes of each row's media."""
    pictures: dict[str, dict] = {}  # a clip's sentences share them: each file is read once

    def read(picture: str | dict) -> dict:
        if isinstance(picture, dict):
            return picture
        if picture not in pictures:
            pictures[picture] = {
                "bytes": Path(picture).read_bytes(),
                "path": os.path.basename(picture),
            }
        return pictures[picture]

    for _, example in clip_examples(tree, clip, configuration):
        row = {**example, "frames": [read(frame) for frame in example["frames"]]}
        if "masks" in row:
            row["masks"] = [read(mask) for mask in row["masks"]]
            masks = row["masks"]
        else:
            row["objects"] = [
                {**item, "masks": [read(mask) for mask in item["masks"]]} for item in row["objects"]
            ]
            masks = [mask for item in row["objects"] for mask in item["masks"]]
        yield (
            row,
            len(row["audio"]) + sum(len(picture["bytes"]) for picture in (*row["frames"], *masks)),
        )


def _media_state(root: Path, clip: Clip) -> tuple[int, str]:
    """The bytes of a clip's files together, and each one's size and time of change."""
    states = []
    for path in media_paths(root, clip):
        try:
            state = path.stat()
            states.append((state.st_size, state.st_mtime_ns))
        except OSError:
            states.append((0, 0))
    return sum(size for size, _ in states), repr(states)
