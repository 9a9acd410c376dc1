"""How well masks are propagated: by trackers whose score is known."""

from collections.abc import Iterator

import numpy as np
import pytest

from dataset_script.media_files import mask_paths, save_frame, write_mask


pytest.importorskip("cv2")

from modeling_refavs.research.propagation import (
    choose_pivots,
    deform,
    measure_propagation,
    read_clip,
)


SIZE = (24, 32)


def box(left: int, width: int = 8) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[8:16, left : left + width] = True
    return mask


# Object 1 moves and is gone at the end, and 4 is there when 1 is not
TRUTH = {
    1: np.stack([box(step) if step < 7 else np.zeros(SIZE, bool) for step in range(10)]),
    4: np.stack([box(20, step - 5) if step > 6 else np.zeros(SIZE, bool) for step in range(10)]),
}


@pytest.fixture
def tree(tmp_path):
    rows = ["vid,uid,split,fid,exp"]
    for clip in ("null_c-other_0_10000", "clip_0_10000"):
        rows.append(f"vid,{clip}_object_1,val,1,The box.")
        (tmp_path / "media" / clip / "frames").mkdir(parents=True)
        for step in range(10):
            frame = np.full((*SIZE, 3), 60, np.uint8)
            save_frame(tmp_path / "media" / clip / "frames" / f"{step}.jpg", frame)
        for fid, masks in TRUTH.items():
            paths = mask_paths(tmp_path, clip, fid)
            paths[0].parent.mkdir(parents=True)
            for path, mask in zip(paths, masks, strict=True):
                write_mask(path, mask)
    (tmp_path / "metadata.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


class Still:
    """A tracker that leaves every mask where it is, and keeps what it is asked."""

    def __init__(self):
        self.asked = []

    def track(self, frames, pivot, masks) -> Iterator[tuple[int, dict[int, np.ndarray]]]:
        self.asked.append((pivot, sorted(masks)))
        for place in range(len(frames)):
            if place != pivot:
                yield place, masks


def test_a_still_tracker_scores_what_it_must(tree):
    tracker = Still()
    found = measure_propagation(tracker, tree)
    assert tracker.asked == [(4, [1]), (9, [4])]
    # object 1 from step 4: boxes of 8 that lie n apart share 8 - n; object 4 of width 4 from step 9
    seen = [(8 - n) / (8 + n) for n in (4, 3, 2, 1, 1, 2)] + [2 / 4, 3 / 4]
    assert found.shown == pytest.approx(np.mean(seen))
    assert found.absent == 0.0
    assert found.jaccard == pytest.approx(sum(seen) / 18)
    assert (found.masks, found.clips) == (18, 1)


def test_the_truth_scores_one(tree):
    class Truth(Still):
        def track(self, frames, pivot, masks):
            for place in set(range(10)) - {pivot}:
                yield place, {fid: TRUTH[fid][place] for fid in masks}

    found = measure_propagation(Truth(), tree)
    assert (found.jaccard, found.shown, found.absent) == (1.0, 1.0, 1.0)


def test_a_split_without_objects_is_refused(tree):
    with pytest.raises(ValueError, match="split train shows no object"):
        measure_propagation(Still(), tree, "train")


def test_pivots_are_the_fullest_frames():
    assert choose_pivots(TRUTH) == [(4, [1]), (9, [4])]
    assert choose_pivots({1: np.zeros((10, *SIZE), bool)}) == []
    both = {1: TRUTH[1], 2: np.roll(TRUTH[1], 1, axis=0)}
    assert choose_pivots(both) == [(4, [1, 2])]


def test_a_deformed_clip_is_bent_with_its_masks(tree):
    frames, truth = read_clip(tree, "clip_0_10000")
    pictures = [np.repeat(np.where(mask, 255, 0)[..., None], 3, -1) for mask in truth[1]]
    bent, masks = deform([picture.astype(np.uint8) for picture in pictures], truth)
    assert len(bent) == len(frames) == 10
    for frame, mask, before in zip(bent, masks[1], truth[1], strict=True):
        np.testing.assert_array_equal(mask, frame[..., 0] > 127)
        assert mask.any() == before.any()
    assert any((mask != before).any() for mask, before in zip(masks[1], truth[1], strict=True))
    again, _ = deform([picture.astype(np.uint8) for picture in pictures], truth)
    np.testing.assert_array_equal(again, bent)
