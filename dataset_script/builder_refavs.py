"""Ref-AVS Bench as a `datasets` builder: memory-mapped, streamed, in several processes, from the
layout on disk."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import datasets

from .annotations import Clip
from .examples import Tree, clip_examples, find_csv, open_tree, usable_part
from .schema import CONFIGURATIONS, SPLITS, features_of
from .taxonomy import TAXONOMY_FILE


logger = datasets.logging.get_logger(__name__)

VERSION = datasets.Version("1.0.0")  # of the columns


@dataclass
class RefAVSBuilderConfig(datasets.BuilderConfig):
    """`paper_splits` and `damaged` as in `open_tree`; `data_dir` is the unpacked archive."""

    paper_splits: bool = False
    damaged: str = "error"


class RefAVSBuilder(datasets.GeneratorBasedBuilder):
    """Builder over an unpacked archive.

    The cache holds paths of frames and masks, and sounds; its name holds a digest of the tree, so
    that changed data are read anew.
    """

    VERSION = VERSION
    BUILDER_CONFIG_CLASS = RefAVSBuilderConfig
    BUILDER_CONFIGS = [RefAVSBuilderConfig(name=name, version=VERSION) for name in CONFIGURATIONS]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "expressions"
    DEFAULT_WRITER_BATCH_SIZE = (
        16  # rows of 1-2 MB wait in memory; the default would keep 1,000 of them
    )

    def __init__(self, *args, data_dir: str | Path, hash: str | None = None, **kwargs):
        data_dir = str(find_csv(data_dir).parent.resolve())
        super().__init__(*args, data_dir=data_dir, hash=hash or digest_tree(data_dir), **kwargs)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="Ref-AVS Bench: objects in videos with sound, referred to by sentences "
            "(arXiv 2407.10957)",
            features=features_of(self.config.name),
            homepage="https://gewu-lab.github.io/Ref-AVS",
        )

    def _split_generators(self, dl_manager) -> list[datasets.SplitGenerator]:
        tree = open_tree(self.config.data_dir, self.config.paper_splits, self.config.damaged)
        by_split = {split: [clip for clip in tree.clips if clip.split == split] for split in SPLITS}
        without_clips = replace(tree, clips=())
        # a list is what `datasets` takes as shards: any number of processes or workers share the
        # clips
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"clips": clips, "tree": without_clips})
            for split, clips in by_split.items()
            if clips
        ]

    def _generate_examples(self, clips: list[Clip], tree: Tree) -> Iterator[tuple[str, dict]]:
        for clip in clips:
            usable, problems = usable_part(tree, clip)
            if problems:
                logger.warning(
                    f"{clip.clip_id}: rows left out, {problems[0].code} {problems[0].where}"
                )
            if usable is not None:
                yield from clip_examples(tree, usable, self.config.name)


def load_refavs(
    path: str | Path,
    configuration: str = "expressions",
    split: str | None = None,
    *,
    paper_splits: bool = False,
    damaged: str = "error",
    streaming: bool = False,
    num_proc: int | None = None,
    cache_dir: str | Path | None = None,
):
    """Load Ref-AVS Bench from an unpacked archive, or from an export: a folder or an id on the Hub.

    Args:
        path: a folder that holds metadata.csv; else whatever `datasets.load_dataset` takes.
        configuration: `expressions`, a row a sentence, or `clips`, a row a clip with all its
            sentences.
        split: `train`, `val`, `test_s`, `test_u`, `test_n` or sums as `test_s+test_u`; None for
            all, as a dict.
        paper_splits: test_u with the unseen categories only, as the paper counts it.
        damaged: `error` stops at a missing or broken file, `skip` leaves its rows out, `trust` does
            not look.

    Raises:
        ValueError: when the tree cannot be read, or an option does not apply to an export.

    Example:
        >>> clips = load_refavs("REFAVS", "clips", "train")  # doctest: +SKIP
        >>> clips[0]["expressions"][0]["expression"]  # doctest: +SKIP
        'The object making the loudest sound.'
    """
    features_of(configuration)
    cache_dir = None if cache_dir is None else str(cache_dir)
    if not (Path(path).is_dir() and (Path(path) / "metadata.csv").is_file()):
        if paper_splits or damaged != "error":
            raise ValueError(
                f"paper_splits and damaged are chosen when a tree is exported; {path} is not a tree"
            )
        return datasets.load_dataset(
            str(path),
            configuration,
            split=split,
            streaming=streaming,
            num_proc=num_proc,
            cache_dir=cache_dir,
        )
    builder = RefAVSBuilder(
        config_name=configuration,
        data_dir=path,
        paper_splits=paper_splits,
        damaged=damaged,
        cache_dir=cache_dir,
    )
    if streaming:
        return builder.as_streaming_dataset(split=split)
    try:
        builder.download_and_prepare(num_proc=num_proc)
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, ValueError):  # ours, in one line
            raise error.__cause__ from None
        raise
    return builder.as_dataset(split=split)


def digest_tree(root: str | Path) -> str:
    """A digest of metadata.csv, taxonomy.json and every media file's name, size and time of
    change."""
    digest = hashlib.sha256()
    for name in ("metadata.csv", TAXONOMY_FILE):
        file = Path(root, name)
        digest.update(file.read_bytes() if file.exists() else b"")
        digest.update(b"\0")
    for top in ("media", "gt_mask"):
        for folder, folders, files in os.walk(Path(root, top)):
            folders.sort()
            for name in sorted(files):
                state = os.stat(os.path.join(folder, name))
                digest.update(f"{folder}/{name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]
