"""Tiny models of the paper's Table 3, and layers written once more, plainly and in double
precision, from a model's weights: what the golden tests compare with."""

import math

import torch
from torch.nn import functional

from modeling_refavs import (
    RefAVSAVSegFormerForSegmentation,
    RefAVSReferFormerForSegmentation,
    RefAVSTPAVIForSegmentation,
)
from tests.conftest import make_config, stir


BASELINES = {
    "avsegformer": (
        RefAVSAVSegFormerForSegmentation,
        {
            "num_queries": 12,
            "num_layers": 2,
            "generator_size": 48,
            "query_mixer_size": 40,
            "upsampling": 2,
        },
    ),
    "referformer": (RefAVSReferFormerForSegmentation, {"num_layers": 2}),
    "tpavi": (RefAVSTPAVIForSegmentation, {}),
}
Weights = dict[str, torch.Tensor]


def baseline_config(name: str, **overrides):
    kind, sizes = BASELINES[name]
    ours = make_config()
    shared = {
        "vision_config": ours.vision_config.to_dict(),
        "text_config": ours.text_config.to_dict(),
        "audio_config": ours.audio_config.to_dict(),
        "hidden_size": 32,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "dropout": 0.0,
    }
    return kind.config_class(**{**shared, **sizes, **overrides})


def make_baseline(name: str, **overrides):
    """In eval mode, and no weight where it started."""
    torch.manual_seed(0)
    model = BASELINES[name][0](baseline_config(name, **overrides)).eval()
    stir(model)
    return model


def part(weights: Weights, prefix: str) -> Weights:
    return {
        name.removeprefix(f"{prefix}."): value
        for name, value in weights.items()
        if name.startswith(f"{prefix}.")
    }


def linear(weights: Weights, prefix: str, states: torch.Tensor) -> torch.Tensor:
    found = part(weights, prefix)
    return states @ found["weight"].T + found.get("bias", 0)


def layer_norm(weights: Weights, prefix: str, states: torch.Tensor, eps=1e-5) -> torch.Tensor:
    found = part(weights, prefix)
    centred = states - states.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return scaled * found["weight"] + found["bias"]


def convolve(weights: Weights, prefix: str, maps: torch.Tensor, **options) -> torch.Tensor:
    found = part(weights, prefix)
    return functional.conv2d(maps, found["weight"], found.get("bias"), **options)


def group_norm(weights: Weights, prefix: str, maps: torch.Tensor, groups: int) -> torch.Tensor:
    found = part(weights, prefix)
    split = maps.unflatten(1, (groups, -1)).flatten(2)
    split = (split - split.mean(-1, keepdim=True)) / (
        split.var(-1, correction=0, keepdim=True) + 1e-5
    ).sqrt()
    return split.view_as(maps) * found["weight"][:, None, None] + found["bias"][:, None, None]


def attend(queries, keys, values, heads: int, hidden=None) -> torch.Tensor:
    """Head by head, row by row; `hidden (rows, keys)`."""
    size = queries.shape[-1] // heads
    rows = []
    for row in range(len(queries)):
        parts = []
        for head in range(heads):
            of_head = slice(head * size, (head + 1) * size)
            scores = queries[row, :, of_head] @ keys[row, :, of_head].T / math.sqrt(size)
            if hidden is not None:
                scores = scores.masked_fill(hidden[row], -torch.inf)
            parts.append(scores.softmax(-1) @ values[row, :, of_head])
        rows.append(torch.cat(parts, dim=-1))
    return torch.stack(rows)


def multihead(weights: Weights, prefix: str, query, key, value, heads=4, hidden=None):
    """torch's MultiheadAttention."""
    found = part(weights, prefix)
    size = query.shape[-1]
    bias = found.get("in_proj_bias", query.new_zeros(3 * size))
    projected = [
        states @ found["in_proj_weight"][start : start + size].T + bias[start : start + size]
        for states, start in zip((query, key, value), (0, size, 2 * size), strict=True)
    ]
    return linear(found, "out_proj", attend(*projected, heads, hidden))


def sine(height: int, width: int, size: int, normalised: bool) -> torch.Tensor:
    """`(height, width, size)`: first of the row, then of the column."""
    table = torch.zeros(height, width, size, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            for axis, (place, length) in enumerate(((y, height), (x, width))):
                where = place + 1.0
                if normalised:
                    where = (where - 0.5) / (length + 1e-6) * 2 * math.pi
                for k in range(size // 2):
                    angle = where / 10_000 ** (2 * (k // 2) / (size // 2))
                    value = math.sin(angle) if k % 2 == 0 else math.cos(angle)
                    table[y, x, axis * (size // 2) + k] = value
    return table


def deformable(weights, prefix, queries, tokens, shapes, references, heads=4, points=4):
    """`references (rows, queries, 2 or 4)`, alike for all levels."""
    found = part(weights, prefix)
    rows, count, size = queries.shape
    values = linear(found, "value_proj", tokens)
    offsets = linear(found, "sampling_offsets", queries)
    offsets = offsets.view(rows, count, heads, len(shapes), points, 2)
    shares = linear(found, "attention_weights", queries).view(rows, count, heads, -1).softmax(-1)
    shares = shares.view(rows, count, heads, len(shapes), points)
    summed, start = 0, 0
    for level, (height, width) in enumerate(shapes):
        maps = values[:, start : start + height * width].view(rows, height, width, heads, -1)
        start += height * width
        moved = offsets[:, :, :, level]
        if references.shape[-1] == 2:
            moved = moved / torch.tensor([width, height], dtype=torch.float64)
        else:
            moved = moved / points * references[:, :, None, None, 2:] * 0.5
        places = references[:, :, None, None, :2] + moved  # (rows, queries, heads, points, 2)
        maps = maps.permute(0, 3, 4, 1, 2).flatten(0, 1)
        grid = (2 * places - 1).transpose(1, 2).flatten(0, 1)
        sampled = functional.grid_sample(maps, grid, align_corners=False)
        sampled = sampled.unflatten(0, (rows, heads))  # (rows, heads, d, queries, points)
        summed = summed + (sampled * shares[:, :, :, level].transpose(1, 2)[:, :, None]).sum(-1)
    return linear(found, "output_proj", summed.permute(0, 3, 1, 2).reshape(rows, count, size))


def encode_levels(weights: Weights, maps, normalised: bool, activation, heads=4):
    """The deformable encoder on maps `(rows, D, h, w)`: tokens and shapes."""
    shapes = [tuple(level.shape[-2:]) for level in maps]
    tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)
    size = tokens.shape[-1]
    position = torch.cat(
        [
            sine(*shape, size, normalised).flatten(0, 1) + weights["level_embed"][level]
            for level, shape in enumerate(shapes)
        ]
    )
    places = torch.cat(
        [
            torch.tensor(
                [
                    [(x + 0.5) / width, (y + 0.5) / height]
                    for y in range(height)
                    for x in range(width)
                ]
            )
            for height, width in shapes
        ]
    )[None].expand(len(tokens), -1, -1)
    number = 0
    while f"layers.{number}.mlp.fc1.weight" in weights:
        layer = part(weights, f"layers.{number}")
        attended = deformable(
            layer,
            "self_attn",
            tokens + position,
            tokens,
            shapes,
            places.expand(len(tokens), -1, -1),
        )
        tokens = layer_norm(layer, "self_attn_layer_norm", tokens + attended)
        inner = activation(linear(layer, "mlp.fc1", tokens))
        tokens = layer_norm(layer, "final_layer_norm", tokens + linear(layer, "mlp.fc2", inner))
        number += 1
    return tokens, shapes


def split_tokens(tokens, shapes):
    maps, start = [], 0
    for height, width in shapes:
        level = tokens[:, start : start + height * width]
        maps.append(level.transpose(1, 2).unflatten(2, (height, width)))
        start += height * width
    return maps
