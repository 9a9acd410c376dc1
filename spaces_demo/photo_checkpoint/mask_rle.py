"""Run-length encoded masks as COCO writes them: runs down the columns, the first of them of zeros.

The compressed string is the one of pycocotools, byte for byte: each run but the first three is
written as its difference to the run two before it, in digits of five bits, the lowest first, each
with a sixth bit that says whether more follow.
"""

from typing import Any

import numpy as np


DIGIT_BITS = 5
SIGN_BIT, MORE_BIT = 0x10, 0x20
FIRST_CHARACTER = ord("0")


def encode_rle(mask: np.ndarray, compressed: bool = True) -> dict[str, Any]:
    """A mask as COCO's RLE.

    Args:
        mask: `(h, w)`, bool or numbers, of which everything but 0 is the object.
        compressed: counts as a string, or as the list of runs that COCO calls uncompressed.

    Returns:
        `{"size": [h, w], "counts": str}`, or `"counts": list[int]`; JSON holds it as it is.

    Raises:
        ValueError: the mask has not two dimensions.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"a mask must be (height, width), got {mask.shape}")
    counts = count_runs(mask.ravel(order="F"))
    return {
        "size": list(mask.shape),
        "counts": _to_string(counts) if compressed else counts.tolist(),
    }


def decode_rle(rle: dict[str, Any]) -> np.ndarray:
    """COCO's RLE, compressed or not, as a mask.

    Args:
        rle: `size` and `counts`, the latter a string, bytes or a list of runs.

    Returns:
        `(h, w)` bool.

    Raises:
        ValueError: the counts are damaged, or do not fill the size.
    """
    (height, width), counts = rle["size"], rle["counts"]
    runs = (
        _from_string(counts)
        if isinstance(counts, (str, bytes))
        else np.asarray(counts, dtype=np.int64)
    )
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(
            f"runs of {runs.sum()} pixels do not fill a mask of {height} x {width}: the RLE is "
            "damaged"
        )
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape((height, width), order="F")


def count_runs(pixels: np.ndarray) -> np.ndarray:
    """Lengths `(runs,)` of zeros, ones, zeros, ... in `pixels (n,)`; the first is 0 if a one comes
    first."""
    pixels = pixels != 0
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    begins = [0, 0] if pixels[:1].any() else [0]
    return np.diff(np.concatenate([begins, changes, [len(pixels)]]).astype(np.int64))


def _to_string(counts: np.ndarray) -> str:
    values = counts.copy()
    values[3:] -= counts[1:-2]
    digits, unfinished = [], np.ones(len(values), dtype=bool)
    while unfinished.any():
        digit = values & (2**DIGIT_BITS - 1)
        values >>= DIGIT_BITS
        more = values != np.where(digit & SIGN_BIT, -1, 0)
        digits.append(np.where(unfinished, digit + MORE_BIT * more + FIRST_CHARACTER, 0))
        unfinished &= more
    characters = (
        np.stack(digits, axis=1).astype(np.uint8) if digits else np.zeros(0, dtype=np.uint8)
    )
    return characters[characters > 0].tobytes().decode("ascii")


def _from_string(text: str | bytes) -> np.ndarray:
    data = text.encode() if isinstance(text, str) else text
    digits = np.frombuffer(data, dtype=np.uint8).astype(np.int64) - FIRST_CHARACTER
    last = (digits & MORE_BIT) == 0
    if not len(digits) or not last[-1] or (digits < 0).any() or (digits >= 2 * MORE_BIT).any():
        raise ValueError(f"these are no COCO RLE counts: {text[:40]!r}")
    ends = np.flatnonzero(last)
    begins = np.concatenate([[0], ends[:-1] + 1])
    places = DIGIT_BITS * (np.arange(len(digits)) - np.repeat(begins, ends - begins + 1))
    values = np.add.reduceat((digits & (2**DIGIT_BITS - 1)) << places, begins)
    negative = (digits[ends] & SIGN_BIT) != 0
    values[negative] -= np.int64(1) << (places[ends][negative] + DIGIT_BITS)
    values[1::2] = values[1::2].cumsum()  # each was the difference to the run two before it, ...
    values[2::2] = values[2::2].cumsum()  # ... but for the first three
    return values


__all__ = ["count_runs", "decode_rle", "encode_rle"]
