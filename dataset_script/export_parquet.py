"""`refavs dataset export`: Parquet with the media inside, named splits, a card, checksums; goes on
when killed."""

import json
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from modeling_refavs.utils.files import is_new, lock_folder, remove_leftovers, whole_file

from .dataset_card import CardFacts, card_text
from .examples import open_tree
from .schema import features_of
from .shards import Shard, plan_shards, write_shard


MANIFEST = "export.json"
CHECKSUMS = "SHA256SUMS"
CARD = "README.md"
SHARD_BYTES = 128 * 2**20  # of media; whoever streams a shard holds it in memory


def export(
    root: str | Path,
    output: str | Path,
    configurations: tuple[str, ...] = ("expressions",),
    *,
    paper_splits: bool = False,
    damaged: str = "error",
    licence: str = "other",
    shard_bytes: int = SHARD_BYTES,
    progress: bool = False,
) -> dict:
    """Write a tree as Parquet that `load_dataset(output)` reads, with the splits' own names.

    A shard appears under its name only when it is whole. A second run keeps every shard whose clips
    are
    unchanged and writes the others: a killed export goes on, a mended tree is brought up to date.

    Args:
        root: the unpacked archive.
        output: a new or empty folder, or that of an earlier export.
        configurations: `expressions`, `clips`, or both; the first is what `load_dataset(output)`
            gives.
        paper_splits: as in `open_tree`.
        damaged: as in `open_tree`.
        licence: the card's licence, an id of the Hub's list; `other` comes with a note.
        shard_bytes: bytes of media after which a new shard begins.
        progress: a bar on stderr.

    Returns:
        The manifest, which also stands in `export.json`: for each shard its rows, the rows left out
        because their files are damaged, its bytes and SHA-256.

    Raises:
        ValueError: when the tree cannot be read or `output` holds something else.
    """
    if not configurations or shard_bytes <= 0:
        raise ValueError("an export needs a configuration and a shard size above 0")
    for configuration in configurations:
        features_of(configuration)
    output, tree = Path(output), open_tree(root, paper_splits, damaged)
    _read_manifest(output)  # what holds something else is refused untouched
    shards = [
        shard
        for name in dict.fromkeys(configurations)
        for shard in plan_shards(tree, name, shard_bytes)
    ]
    facts = CardFacts(tree, tuple(dict.fromkeys(configurations)), licence, paper_splits)
    with lock_folder(output):
        for folder in (output, *(path for path in output.glob("*") if path.is_dir())):
            remove_leftovers(folder)
        return _write_shards(output, shards, facts, progress)


def _write_shards(output: Path, shards: list[Shard], facts: CardFacts, progress: bool) -> dict:
    tree, earlier = facts.tree, _read_manifest(output)
    manifest = {"paper_splits": facts.paper_splits, "damaged": tree.damaged, "shards": {}}
    _write(output / MANIFEST, _json({**manifest, "shards": earlier}))
    total = sum(len(shard.clips) for shard in shards)
    with tqdm(total=total, desc="exporting", unit="clip", disable=not progress) as bar:
        for shard in shards:
            entry = earlier.get(shard.name)
            if _is_current(entry, shard, output):
                bar.update(len(shard.clips))
            else:
                entry = write_shard(tree, shard, output / shard.name, bar.update)
            manifest["shards"][shard.name] = entry
            _write(output / MANIFEST, _json({**manifest, "shards": earlier | manifest["shards"]}))
    _remove(output, earlier.keys() - manifest["shards"].keys())
    _finish(output, manifest, facts)
    return manifest


def _finish(output: Path, manifest: dict, facts: CardFacts) -> None:
    sums = "".join(f"{entry['sha256']}  {name}\n" for name, entry in manifest["shards"].items())
    _write(output / CHECKSUMS, sums)
    _write(output / CARD, card_text(facts, manifest["shards"]))
    _write(output / MANIFEST, _json(manifest))


def _is_current(entry: dict | None, shard: Shard, output: Path) -> bool:
    path = output / shard.name
    unchanged = entry is not None and entry["digest"] == shard.digest
    return unchanged and path.is_file() and path.stat().st_size == entry["bytes"]


def _read_manifest(output: Path) -> dict[str, dict]:
    """The shards of an earlier export to `output`; none for a new or empty folder."""
    if is_new(output):
        return {}
    try:
        return dict(json.loads((output / MANIFEST).read_text(encoding="utf-8"))["shards"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{output} holds something that is no export: give a new or empty folder"
        ) from error


def _remove(output: Path, names: Iterable[str]) -> None:
    """Remove shards of an earlier plan."""
    for path in [output / name for name in names]:
        path.unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()


def _json(content: dict) -> str:
    return json.dumps(content, indent=1) + "\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
