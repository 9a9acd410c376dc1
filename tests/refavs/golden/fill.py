"""The weights and inputs of the golden answers: each tensor depends on the seed, its name and its
shape alone.

Each has a generator of its own, drawn in float64 in C order, scaled, and then rounded to float32.
"""

import hashlib
import math

import numpy as np
import torch


NOT_FILLED = (
    ".relative_position_index",
    ".criterion.empty_weight",
)  # buffers, as the model makes them
QUERIES = ("queries_embedder.weight", "queries_features.weight")
TABLES = ("level_embed", "level_embed.weight", "relative_position_bias_table")


def fill_state_dict(shapes: dict[str, list[int]], seed: int) -> dict[str, torch.Tensor]:
    return {
        name: torch.from_numpy(fill(name, shape, seed))
        for name, shape in shapes.items()
        if not name.endswith(NOT_FILLED)
    }


def fill(name: str, shape: list[int], seed: int) -> np.ndarray:
    offset, scale = mean_and_deviation(name, shape)
    return (offset + scale * _generator(seed, name).standard_normal(shape)).astype(np.float32)


def mean_and_deviation(name: str, shape: list[int]) -> tuple[float, float]:
    leaf = name.rpartition(".")[2]
    if leaf.startswith("beta_"):
        return 1.0, 0.1
    if name.endswith(
        ("sampling_offsets.bias", *QUERIES)
    ):  # wide, so that the 100 queries find different masks
        return 0.0, 0.5
    if name.endswith(TABLES):
        return 0.0, 0.02
    if len(shape) > 1:
        return 0.0, 1 / math.sqrt(math.prod(shape[1:]))
    return (0.0, 0.02) if leaf.endswith("bias") else (1.0, 0.1)  # of a norm


def make_inputs(seed: int, clips: int, frames: int = 10) -> dict[str, torch.Tensor]:
    """Frame f of clip b is row `b * frames + f` of the draw: the first clip is the same however
    many there are."""

    def normal(name, *shape):
        values = _generator(seed, f"input:{name}").standard_normal(shape).astype(np.float32)
        return torch.from_numpy(values)

    return {
        "pixel_values": normal("pixel_values", clips * frames, 3, 384, 384).unflatten(
            0, (clips, frames)
        ),
        "audio_features": normal("feat_aud", clips, frames, 128),
        "text_features": normal("feat_text", clips, 25, 768),
        "mask_labels": torch.from_numpy(_ellipses(seed, clips * frames)).unflatten(
            0, (clips, frames)
        ),
    }


def _ellipses(seed: int, count: int, size: int = 256) -> np.ndarray:
    """`(count, size, size)` in {0, 1}: the union of one to three ellipses each. Unlike the rest,
    depends on the count."""
    generator = _generator(seed, f"input:gt:{count}x{size}x{size}")
    rows, columns = np.mgrid[:size, :size].astype(np.float64)
    masks = np.zeros((count, size, size), np.float32)
    for mask in masks:
        for _ in range(1 + int(generator.integers(0, 3))):
            row, column, height, width = generator.random(4)
            height, width = (0.05 + 0.25 * height) * size, (0.05 + 0.25 * width) * size
            mask[
                ((rows - row * size) / height) ** 2 + ((columns - column * size) / width) ** 2 <= 1
            ] = 1
    return masks


def _generator(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8]
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
