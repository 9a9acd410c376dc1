"""How well a tracker of `refavs annotate` propagates masks: J in all frames of a tree's clips but
the pivot, whose true masks it is given."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dataset_script.annotate.clip_media import read_clip_frames
from dataset_script.annotate.models import Tracker
from dataset_script.annotate.tree import mask_jaccard
from dataset_script.annotations import group_clips, read_annotations, split_clip_id
from dataset_script.media_files import mask_paths, read_mask


# What `deform` does to a frame: scale e^x, degrees, shift and bends as shares of the width.
SCALE, TURN, SHIFT, BEND = 0.22, 12.0, 0.04, 0.018


@dataclass(frozen=True)
class Propagation:
    """
    Args:
        jaccard: mean J over all frames of all objects but their pivots; two empty masks have J 1.
        shown: likewise over the frames that show the object.
        absent: likewise over those that do not, the share of empty masks; NaN where there are none.
        masks: how many were compared.
        clips: of which.
    """

    jaccard: float
    shown: float
    absent: float
    masks: int
    clips: int


def measure_propagation(
    tracker: Tracker,
    tree: str | Path,
    split: str = "val",
    max_clips: int | None = None,
    deformed: bool = False,
    progress: Callable[[str, float], None] | None = None,
) -> Propagation:
    """Every object of a split's clips, from one pivot: the frame in which most is seen of the
    objects. Those that it does not show have another one, likewise.

    Args:
        tree: in the layout of Ref-AVS Bench; objects without a sentence count too.
        max_clips: the first of the split, in the order of their names; None: all. Null references,
            whose masks are empty, are left out.
        deformed: each frame is scaled, turned and bent at random, as the objects of the synthetic
            benchmark, which are cut-outs, never are: see [`deform`].
        progress: is told each clip and the mean J so far.

    Raises:
        ValueError: the split shows no object.
    """
    clips = group_clips(read_annotations(Path(tree, "metadata.csv")).rows)
    names = sorted({clip.clip_id for clip in clips if clip.split == split})
    names = [name for name in names if split_clip_id(name)["null_kind"] is None][:max_clips]
    scores: list[tuple[float, bool]] = []  # J, and whether the object is to be seen
    for name in names:
        frames, truth = read_clip(tree, name)
        if deformed:
            frames, truth = deform(frames, truth)
        for pivot, fids in choose_pivots(truth):
            known = {fid: truth[fid][pivot] for fid in fids}
            for place, found in tracker.track(frames, pivot, known):
                scores += [
                    (mask_jaccard(found[fid], truth[fid][place]), bool(truth[fid][place].any()))
                    for fid in fids
                ]
        if progress is not None and scores:
            progress(name, float(np.mean([score for score, _ in scores])))
    if not scores:
        raise ValueError(f"{tree}: split {split} shows no object in two frames or more")
    values, seen = (np.array(column) for column in zip(*scores, strict=True))
    return Propagation(
        float(values.mean()),
        float(values[seen].mean()) if seen.any() else float("nan"),
        float(values[~seen].mean()) if not seen.all() else float("nan"),
        len(values),
        len(names),
    )


def read_clip(tree: str | Path, clip_id: str) -> tuple[list[np.ndarray], dict[int, np.ndarray]]:
    """Frames `(height, width, 3)` uint8, and of each object its masks `(frames, height, width)`
    bool at their size."""
    frames = read_clip_frames(tree, clip_id)
    size = frames[0].shape[1::-1]
    truth = {}
    for folder in sorted(Path(tree, "gt_mask", clip_id).glob("fid_*")):
        fid = int(folder.name.removeprefix("fid_"))
        masks = [read_mask(path).astype(np.uint8) for path in mask_paths(tree, clip_id, fid)]
        masks = [cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) for mask in masks]
        truth[fid] = np.stack(masks) > 0
    return frames, truth


def choose_pivots(truth: dict[int, np.ndarray]) -> list[tuple[int, list[int]]]:
    """The frame in which most is seen of all objects, each relative to its fullest mask, and the
    objects that it shows; then another for the others, and so on. Objects that are never seen have
    none."""
    areas = {fid: masks.sum((1, 2)) for fid, masks in truth.items()}
    areas = {fid: area / area.max() for fid, area in areas.items() if area.max() > 0}
    pivots = []
    while areas:
        seen = sum(areas.values())
        fullest = np.flatnonzero(seen >= seen.max() - 0.02 * len(areas))
        pivot = int(fullest[np.abs(fullest - (len(seen) - 1) / 2).argmin()])  # nearest the middle
        fids = [fid for fid, area in areas.items() if area[pivot] > 0]
        pivots.append((pivot, fids))
        areas = {fid: area for fid, area in areas.items() if fid not in fids}
    return pivots


def deform(
    frames: list[np.ndarray], truth: dict[int, np.ndarray]
) -> tuple[list[np.ndarray], dict[int, np.ndarray]]:
    """Each frame with its masks scaled, turned, shifted and bent by a smooth random map of its own;
    always the same for as many frames of the same size."""
    rng = np.random.default_rng(0)
    height, width = frames[0].shape[:2]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    middle = np.array([width, height]) / 2
    new_frames, new_truth = [], {fid: [] for fid in truth}
    for place, frame in enumerate(frames):
        turn = np.deg2rad(rng.uniform(-TURN, TURN))
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        rotation /= np.exp(rng.uniform(-SCALE, SCALE))
        shift = rng.uniform(-SHIFT, SHIFT, 2) * width
        places = (grid - middle) @ rotation.T + middle + shift
        bends = rng.normal(0, BEND * width, (5, 5, 2))
        places += cv2.resize(bends, (width, height), interpolation=cv2.INTER_CUBIC)
        x, y = np.moveaxis(places.astype(np.float32), -1, 0)
        border = {"borderMode": cv2.BORDER_REFLECT}
        new_frames.append(cv2.remap(frame, x, y, cv2.INTER_LINEAR, **border))
        for fid, masks in truth.items():
            mask = masks[place].astype(np.float32)
            new_truth[fid].append(cv2.remap(mask, x, y, cv2.INTER_LINEAR, **border) > 0.5)
    return new_frames, {fid: np.stack(masks) for fid, masks in new_truth.items()}
