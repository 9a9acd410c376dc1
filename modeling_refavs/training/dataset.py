"""The clips of a split before anything is decoded: their sentences, and where frames, masks and
sound come from."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
from PIL import Image

from dataset_script.builder_refavs import load_refavs
from dataset_script.taxonomy import NULL_CATEGORY

from ..video_refavs import read_wav


_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
)  # what Pillow raises on damage


class NameMixture(NamedTuple):
    """F_T is the sum of `shares` times F_T of `texts`, sentences of equally many tokens."""

    texts: tuple[str, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Sentence:
    """
    Args:
        text: as it stands in the csv, but for spaces.
        is_null: it refers to nothing.
        mask_row: its object's place among all objects of the split.
        category: its object's.
        family: known in synthetic trees only.
        mixture: in place of `text`, if it is given; drawn in training.
    """

    text: str
    is_null: bool
    mask_row: int
    category: str = ""
    family: str | None = None
    mixture: NameMixture | None = None


@dataclass(frozen=True, slots=True)
class PreparedClip:
    clip_id: str
    sentences: tuple[Sentence, ...]

    @property
    def categories(self) -> frozenset[str]:
        """Of the objects that its sentences refer to."""
        return frozenset(sentence.category for sentence in self.sentences)

    @property
    def is_null(self) -> bool:
        """All its sentences refer to nothing."""
        return all(sentence.is_null for sentence in self.sentences)


class SplitRows:
    """Rows of configuration `clips` whose frames and sound are decoded when they are asked for.

    Args:
        data: a tree, an export or an export's id.
        split: its name.
        max_clips: at most so many, spread evenly over the split.
    """

    def __init__(
        self,
        data: str,
        split: str,
        max_clips: int | None = None,
        paper_splits: bool = False,
        damaged: str = "error",
        num_proc: int = 1,
        cache_dir: Path | None = None,
    ):
        if not Path(data).exists() and not re.fullmatch(r"[\w.-]+/[\w.-]+", data):
            raise ValueError(
                f"data {data}: no such folder: give a tree, an export, or an export's id on the Hub"
            )
        if not (Path(data) / "metadata.csv").is_file():
            damaged = "error"  # chosen when a tree is exported
        rows = load_refavs(
            data,
            "clips",
            split,
            paper_splits=paper_splits,
            damaged=damaged,
            num_proc=num_proc if num_proc > 1 else None,
            cache_dir=cache_dir,
        )
        if max_clips is not None and max_clips < len(rows):
            rows = rows.select(np.linspace(0, len(rows) - 1, max_clips).round().astype(int))
        self.digest = (
            rows._fingerprint
        )  # of the tree's files or the export's shards, and of the choice of rows
        self.scenes = Path(data, "scenes")
        rows = rows.with_format("arrow")  # as stored: frames are paths or bytes
        self.rows = rows.select_columns(["clip_id", "expressions", "objects"])
        self.frames = rows.select_columns(["clip_id", "frames"])
        self.sounds = rows.select_columns(["clip_id", "audio", "sampling_rate"])

    def __len__(self) -> int:
        return len(self.rows)

    def read_clips(self, families: bool = False) -> list[PreparedClip]:
        """Of all rows, in order; with the `families` of their sentences, from the scenes of a
        synthetic tree."""
        if families and not self.scenes.is_dir():
            raise ValueError(
                f"families: {self.scenes} does not exist: only a synthetic tree knows families"
            )
        clips, first_row = [], 0
        for row in _iterate(self.rows):
            fids = [thing["fid"] for thing in row["objects"]]
            known = _read_families(self.scenes / f"{row['clip_id']}.json") if families else {}
            sentences = [
                Sentence(
                    text=" ".join(sentence["expression"].split()),
                    is_null=sentence["category"] == NULL_CATEGORY,
                    mask_row=first_row + fids.index(sentence["fid"]),
                    category=sentence["category"],
                    family=known.get(sentence["uid"]),
                )
                for sentence in row["expressions"]
            ]
            clips.append(PreparedClip(row["clip_id"], tuple(sentences)))
            first_row += len(fids)
        return clips

    def count_objects(self) -> list[int]:
        """Of each clip; `mask_row` counts them through."""
        return [len(row["objects"]) for row in _iterate(self.rows)]

    def read_frames(self, index: int) -> list[np.ndarray]:
        """Of clip `index`, `(height, width, 3)` uint8 each."""
        row = _row(self.frames, index)
        return [
            np.asarray(_open(frame, f"frame {number} of clip {row['clip_id']}").convert("RGB"))
            for number, frame in enumerate(row["frames"])
        ]

    def read_masks(self, index: int) -> list[list[Image.Image]]:
        """Of clip `index`, a list of frames for each object."""
        row = _row(self.rows, index)
        return [
            [
                _open(mask, f"mask {number} of clip {row['clip_id']}")
                for number, mask in enumerate(thing["masks"])
            ]
            for thing in row["objects"]
        ]

    def read_sound(self, index: int) -> tuple[np.ndarray, int]:
        """Of clip `index`, `(channels, samples)` and their rate in Hz."""
        row = _row(self.sounds, index)
        try:
            return read_wav(row["audio"]), row["sampling_rate"]
        except (OSError, ValueError, IndexError) as error:
            raise ValueError(
                f"media/{row['clip_id']}/audio.wav: cannot be read as sound: {error}"
            ) from error


def _row(rows: datasets.Dataset, index: int) -> dict[str, Any]:
    return rows[index].to_pylist()[0]


def _iterate(rows: datasets.Dataset, batch: int = 512) -> Iterator[dict[str, Any]]:
    for table in rows.iter(batch):
        yield from table.to_pylist()


def _open(picture: dict[str, Any], name: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(picture["bytes"]) if picture["bytes"] else picture["path"])
        image.load()
        return image
    except _UNREADABLE as error:
        raise ValueError(
            f"{picture['path'] or name}: cannot be read as an image: {error}"
        ) from error


def _read_families(scene: Path) -> dict[str, str]:
    entries = json.loads(scene.read_text(encoding="utf-8"))["expressions"]
    return {entry["uid"]: entry["family"] for entry in entries}
