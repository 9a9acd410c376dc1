"""Trees in the official layout, drawn on the spot: small pictures, short real sounds, every file
readable."""

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset_script.annotations import Annotation, group_clips, write_annotations
from dataset_script.media_files import frame_paths, mask_paths, sound_path, write_mask


SENTENCES = (
    "The {} on the left.",
    "The object making the loudest sound.",
    "The {} being played by the man.",
)


def write_clip(
    root: Path,
    clip_id: str,
    fids: tuple[int, ...],
    size: tuple[int, int] = (48, 36),
    rate: int = 2000,
    seed: int = 0,
) -> None:
    """Ten frames of noise, 10 s of mono sound, and for each fid ten masks with a moving square."""
    generator = np.random.default_rng([seed, *clip_id.encode()])
    width, height = size
    picture = generator.integers(0, 255, (height // 4, width // 4, 3), dtype=np.uint8)
    sound_path(root, clip_id).parent.mkdir(parents=True, exist_ok=True)
    frame_paths(root, clip_id)[0].parent.mkdir(exist_ok=True)
    for index, path in enumerate(frame_paths(root, clip_id)):
        Image.fromarray(np.roll(picture, index, axis=1)).resize(size).save(path, quality=90)
    with wave.open(str(sound_path(root, clip_id)), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(generator.integers(-9000, 9000, 10 * rate, dtype=np.int16).tobytes())
    for fid in fids:
        mask_paths(root, clip_id, fid)[0].parent.mkdir(parents=True, exist_ok=True)
        for index, path in enumerate(mask_paths(root, clip_id, fid)):
            mask = np.zeros((height, width), dtype=bool)
            if not clip_id.startswith("null_"):
                mask[fid : fid + height // 2, index : index + width // 3] = True
            write_mask(path, mask)


def rows_of(
    clip_id: str, split: str, objects: dict[int, str], sentences: int = 3
) -> list[Annotation]:
    """`sentences` rows for each object {fid: category} of a clip; their lines are set when the csv
    is read."""
    rows = []
    for fid, category in objects.items():
        for number in range(1, sentences + 1):
            vid = clip_id.split("-", 1)[1] if clip_id.startswith("null_") else clip_id
            sentence = f"{SENTENCES[number % 3].format(category)[:-1]} number {fid}."
            rows.append(Annotation(0, f"{clip_id}_{category}_{number}", vid, split, fid, sentence))
    return rows


def write_tree(root: Path, rows: list[Annotation], **media) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    write_annotations(root / "metadata.csv", rows)
    for clip in group_clips(rows):
        write_clip(root, clip.clip_id, tuple(clip.fids), **media)
    return root


def clean_rows() -> list[Annotation]:
    return [
        *rows_of("-aaaaaaaaaa_0_10000", "train", {0: "cello", 1: "man"}),
        *rows_of("bbb_bbbbbbb_5000_15000", "train", {0: "dog"}),
        *rows_of("ccccccccccc_0_10000", "val", {0: "piano"}),
        *rows_of("ddddddddddd_0_10000", "test_s", {0: "violin", 1: "woman"}),
        *rows_of("eeeeeeeeeee_0_10000", "test_u", {0: "tiger"}),
        *rows_of("null_c-ggggggggggg_0_10000", "test_n", {0: "null"}, sentences=4),
    ]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree without any irregularity."""
    return write_tree(tmp_path / "REFAVS", clean_rows())


@pytest.fixture
def make_tree() -> Callable[..., Path]:
    return write_tree


@pytest.fixture
def make_rows() -> Callable[..., list[Annotation]]:
    return rows_of
