"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159, Eq. 3) of Mask2Former's
pixel decoder, fast on a CPU and on CUDA.

transformers samples each level with `grid_sample` and keeps every sample before it weighs them.
Here a bilinear sample is what it is, a weighted sum of four pixels, and a query's samples of all
levels one bag of pixels: on a CPU
`embedding_bag` sums them as it reads them, on CUDA the kernel of `deformable_attention_triton.py`.
Other devices go transformers' way.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention,
)
from transformers.utils import is_triton_available


BEFORE, AFTER = (
    1,
    2,
)  # rows and columns of zeros around a level: a sample outside of it is worth nothing


class RefAVSDeformableAttention(Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention):
    """Parameters of transformers' class."""

    def forward(
        self,
        tokens: torch.Tensor,
        position: torch.Tensor,
        reference_points: torch.Tensor,
        shapes: list[tuple[int, int]],
    ) -> torch.Tensor:
        """
        Args:
            tokens: `(batch, pixels, D)`, the levels one after the other; each attends to all.
            position: `(pixels, D)`.
            reference_points: `(1 or batch, pixels, levels, 2)`, where each pixel samples first: x
                and y from 0 to 1.
            shapes: height and width of each level.

        Returns:
            `(batch, pixels, D)`.
        """
        sample = choose_sampling(tokens.device, tokens.dtype)
        if sample is None:
            places = {
                "reference_points": reference_points.to(tokens.dtype),
                "spatial_shapes_list": shapes,
            }
            return super().forward(
                tokens, encoder_hidden_states=tokens, position_embeddings=position, **places
            )[0]
        value, queries = (
            self.value_proj(tokens).unflatten(-1, (self.n_heads, -1)),
            tokens + position,
        )
        weights = self.attention_weights(queries).unflatten(-1, (self.n_heads, -1)).softmax(dim=-1)
        exact = torch.promote_types(
            queries.dtype, torch.float32
        )  # bfloat16 cannot tell pixel 257 from 256
        samples = (self.n_heads, self.n_levels, self.n_points, 2)
        offsets = self.sampling_offsets(queries).unflatten(-1, samples).to(exact)
        heights, widths = zip(*shapes, strict=True)
        x, y = (
            offsets[..., axis] + self._centres(reference_points[..., axis].to(exact), sizes)
            for axis, sizes in enumerate((widths, heights))
        )
        return self.output_proj(sample(value, shapes, x.flatten(3), y.flatten(3), weights))

    @staticmethod
    def _centres(points: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
        """Of `(batch, queries, levels)` in 0 to 1 the pixels of each level, `(batch, queries, 1,
        levels, 1)`."""
        pixels = [point * size - 0.5 for point, size in zip(points.unbind(-1), sizes, strict=True)]
        return torch.stack(pixels, dim=-1)[:, :, None, :, None]


def choose_sampling(device: torch.device, dtype: torch.dtype) -> Callable[..., torch.Tensor] | None:
    """The fastest that does what [`sample_levels`] does on this device, in this precision; None:
    there is none."""
    if device.type == "cuda" and dtype != torch.float64 and is_triton_available():
        from .deformable_attention_triton import sample_levels_triton

        return sample_levels_triton
    return sample_levels if device.type == "cpu" else None


def sample_levels(
    value: torch.Tensor,
    shapes: list[tuple[int, int]],
    x: torch.Tensor,
    y: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """The weighted sum of bilinear samples of all levels.

    Args:
        value: `(batch, pixels, heads, D)`, the levels one after the other.
        shapes: height and width of each level.
        x, y: `(batch, queries, heads, levels * points)`, pixels of the sample's level; whole
            numbers are the middles of pixels.
        weights: of the same shape.

    Returns:
        `(batch, queries, heads * D)`.
    """
    batch, queries, heads, points = x.shape
    table, starts = _surround(value, shapes)
    points_per_level = points // len(shapes)

    def of_points(values: list[int] | torch.Tensor) -> torch.Tensor:
        """One number for each level -> `(heads * levels * points,)`."""
        return torch.as_tensor(values).repeat_interleave(points_per_level).repeat(heads)

    heights, widths = (of_points(sizes) for sizes in zip(*shapes, strict=True))
    pitch = widths + BEFORE + AFTER
    first = (
        of_points(starts)
        + torch.arange(heads).repeat_interleave(points) * table.shape[2]
        + BEFORE * (pitch + 1)
    )
    first = (
        first + torch.arange(batch)[:, None, None] * heads * table.shape[2]
    )  # pixel (0, 0) of each sample's level

    x, y, weights = (
        values.flatten(2) for values in (x, y, weights)
    )  # (batch, queries, heads * levels * points)
    outside = torch.full_like(widths, -1, dtype=x.dtype)
    x, y = x.clamp(outside, widths.to(x.dtype)), y.clamp(outside, heights.to(y.dtype))
    left, top = x.detach().floor(), y.detach().floor()
    right_share, bottom_share = (x - left).to(weights.dtype), (y - top).to(weights.dtype)
    corner = (top * pitch + left).int() + first.int()
    bottom = weights * bottom_share
    bottom_right, top_right = bottom * right_share, (weights - bottom) * right_share
    shares = (weights - bottom - top_right, top_right, bottom - bottom_right, bottom_right)
    summed = _SumOfPixels.apply(table, corner, pitch.int(), shapes, *shares)
    return summed.view(batch, queries, -1)


class _SumOfPixels(torch.autograd.Function):
    """Of each head of each query the sum of weighted pixels: of every sample one, the next to the
    right, and the two below them.

    Autograd's way back through `embedding_bag` sorts what each pixel is asked to change, for each
    of the four anew, and adds it up one by one. Here the samples are sorted once; then each sum is
    a bag itself, of the samples that have this pixel as their first.
    """

    @staticmethod
    def forward(ctx, table, corner, pitch, shapes, *shares):
        """`table (batch, heads, pixels, D)`; `corner` and `shares (batch, queries, heads *
        samples)`; `pitch (heads * samples,)`."""
        samples = corner.shape[-1] // table.shape[1]
        indices = [
            index.view(-1, samples)
            for index in (corner, corner + 1, corner + pitch, corner + pitch + 1)
        ]
        ctx.save_for_backward(table, *indices, *shares)
        ctx.shapes = shapes
        pixels, shares = table.flatten(0, 2), [share.reshape(-1, samples) for share in shares]
        return sum(map(_sum_bags, indices, [pixels] * 4, shares))

    @staticmethod
    @once_differentiable
    def backward(ctx, change):
        table, *saved = ctx.saved_tensors
        indices, shares, pixels, change = (
            saved[:4],
            saved[4:],
            table.flatten(0, 2),
            change.contiguous(),
        )
        samples, first = indices[0].shape[1], indices[0].flatten()
        order, counts = first.argsort(), first.bincount(minlength=len(pixels))
        asking, starts = order // samples, counts.cumsum(dim=0) - counts
        asked = [
            _sum_bags(asking, change, share.flatten()[order], starts).view(table.shape)
            for share in shares
        ]
        bags = torch.arange(len(change), dtype=first.dtype)
        bag_of, starts = bags.repeat_interleave(samples), bags * samples
        share_changes = [
            torch.ops.aten._embedding_bag_per_sample_weights_backward(
                change, pixels, index.flatten(), starts, bag_of, 0
            ).view(share.shape)
            for index, share in zip(indices, shares, strict=True)
        ]
        return _place_corners(asked, ctx.shapes), None, None, None, *share_changes


def _sum_bags(
    index: torch.Tensor,
    rows: torch.Tensor,
    weights: torch.Tensor,
    starts: torch.Tensor | None = None,
) -> torch.Tensor:
    return nn.functional.embedding_bag(index, rows, starts, per_sample_weights=weights, mode="sum")


def _place_corners(sums: list[torch.Tensor], shapes: list[tuple[int, int]]) -> torch.Tensor:
    """Of each of the four pixels of samples the sums at the place of the first, `(batch, heads,
    pixels, D)` -> all where they belong."""
    placed, *others = sums
    start = 0
    for height, width in shapes:
        pitch = width + BEFORE + AFTER
        end = start + (height + BEFORE + AFTER) * pitch
        for shift, part in zip((1, pitch, pitch + 1), others, strict=True):
            placed[:, :, start + shift : end] += part[:, :, start : end - shift]
        start = end
    return placed


def _surround(value: torch.Tensor, shapes: list[tuple[int, int]]) -> tuple[torch.Tensor, list[int]]:
    """Levels with zeros around each, `(batch, heads, pixels, D)`, and where each starts."""
    levels, starts, end = [], [], 0
    for level, (height, width) in zip(
        value.split([h * w for h, w in shapes], dim=1), shapes, strict=True
    ):
        level = level.transpose(1, 2).unflatten(2, (height, width))
        levels.append(nn.functional.pad(level, (0, 0, BEFORE, AFTER, BEFORE, AFTER)).flatten(2, 3))
        starts.append(end)
        end += levels[-1].shape[2]
    return torch.cat(levels, dim=2), starts


__all__ = ["RefAVSDeformableAttention"]
