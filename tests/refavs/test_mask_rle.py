"""COCO's run-length encoding: there and back, and byte for byte what pycocotools writes."""

import numpy as np
import pytest

from modeling_refavs.mask_rle import decode_rle, encode_rle


def blocks(height: int, width: int, seed: int) -> np.ndarray:
    """Some rectangles: few runs, some of them long."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), dtype=bool)
    for _ in range(3):
        top, left = rng.integers(0, height), rng.integers(0, width)
        mask[top : top + rng.integers(1, height), left : left + rng.integers(1, width)] ^= True
    return mask


MASKS = {
    "empty": np.zeros((5, 7), dtype=bool),
    "full": np.ones((5, 7), dtype=bool),
    "one pixel": np.ones((1, 1), dtype=bool),
    "first pixel": np.arange(12).reshape(3, 4) == 0,
    "last pixel": np.arange(12).reshape(3, 4) == 11,
    "noise": np.random.default_rng(0).random((40, 30)) < 0.5,
    **{f"blocks {seed}": blocks(360, 640, seed) for seed in range(5)},
}


@pytest.fixture(params=MASKS, ids=str)
def mask(request) -> np.ndarray:
    return MASKS[request.param]


@pytest.mark.parametrize("compressed", [True, False])
def test_there_and_back(mask, compressed):
    rle = encode_rle(mask, compressed)
    assert rle["size"] == list(mask.shape)
    assert isinstance(rle["counts"], str if compressed else list)
    decoded = decode_rle(rle)
    assert decoded.dtype == bool
    np.testing.assert_array_equal(decoded, mask)


def test_runs_go_down_the_columns_and_begin_with_zeros():
    mask = np.array([[1, 0, 0], [1, 0, 1]])
    assert encode_rle(mask, compressed=False)["counts"] == [0, 2, 3, 1]
    assert encode_rle(mask)["counts"] == "023O"  # 0, 2, 3, then 1 as 1 - 2 = -1


def test_pycocotools_writes_the_same_string_and_reads_ours(mask):
    coco = pytest.importorskip("pycocotools.mask")
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encode_rle(mask)["counts"] == theirs["counts"].decode()
    np.testing.assert_array_equal(coco.decode(encode_rle(mask)), mask)
    np.testing.assert_array_equal(decode_rle(theirs), mask)


@pytest.mark.parametrize(
    ("rle", "words"),
    [
        ({"size": [2, 3], "counts": [1, 2]}, "3 pixels do not fill a mask of 2 x 3"),
        ({"size": [2, 3], "counts": [8, -2]}, "damaged"),
        ({"size": [2, 3], "counts": "023"}, "5 pixels do not fill"),
        ({"size": [2, 3], "counts": "é"}, "no COCO RLE counts"),
        ({"size": [2, 3], "counts": "0Q"}, "no COCO RLE counts"),
        ({"size": [2, 3], "counts": ""}, "no COCO RLE counts"),
    ],
)
def test_damage_is_named(rle, words):
    with pytest.raises(ValueError, match=words):
        decode_rle(rle)


def test_a_batch_of_masks_is_refused():
    with pytest.raises(ValueError, match=r"\(height, width\), got \(2, 3, 4\)"):
        encode_rle(np.zeros((2, 3, 4)))
