"""What `sample_levels` of `deformable_attention.py` does, as Triton kernels: samples are weighed as
they are read, and none is kept.

A program takes a block of rows, a row being one head of one query. It goes through the row's
samples and adds up four pixels of each, in single precision. On the way back it reads the same
pixels again, and adds up what they are asked to change.
"""

import functools

import torch
from transformers.utils import is_triton_available


if (
    is_triton_available()
):  # who loads the code from the Hub need not have it: nothing but CUDA imports this file
    import triton
    import triton.language as tl


ROWS = 8  # of a program
FORWARD_WARPS, BACKWARD_WARPS = 1, 2  # the fastest of 1, 2, 4 and 8 on an H200, with that many rows


@triton.jit
def _pixel(first, column, row, width, inside, heads, channel, CHANNELS: tl.constexpr):
    """Where one pixel of each row's head lies, `(rows, channels)`, and whether there is one."""
    places = (first + (row * width + column) * heads)[:, None] * CHANNELS + channel[None, :]
    return places, inside[:, None] & (channel < CHANNELS)[None, :]


@triton.jit
def _sample(x, y, height, width):
    """Of places in pixels: the pixel above and to the left, how far the place is from it, and which
    of four columns and rows exist.

    What is far away or no number is outside, and its share 0.
    """
    left, top = tl.floor(x), tl.floor(y)
    in_left, in_right = (left >= 0) & (left < width), (left >= -1) & (left < width - 1)
    in_top, in_bottom = (top >= 0) & (top < height), (top >= -1) & (top < height - 1)
    column = tl.where(in_left | in_right, left, 0.0)
    row = tl.where(in_top | in_bottom, top, 0.0)
    right, below = (
        tl.where(in_left | in_right, x - left, 0.0),
        tl.where(in_top | in_bottom, y - top, 0.0),
    )
    return (
        column.to(tl.int32),
        row.to(tl.int32),
        right[:, None],
        below[:, None],
        in_left,
        in_right,
        in_top,
        in_bottom,
    )


@triton.jit
def _forward(
    value,
    levels,
    x,
    y,
    weights,
    output,
    num_rows,
    queries,
    heads,
    pixels,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel, real = tl.arange(0, BLOCK), rows < num_rows
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for level in tl.static_range(LEVELS):
        height, width = tl.load(levels + level * 3), tl.load(levels + level * 3 + 1)
        first = (
            rows // (heads * queries) * pixels + tl.load(levels + level * 3 + 2)
        ) * heads + rows % heads
        for point in tl.static_range(POINTS):
            sample = rows * (LEVELS * POINTS) + level * POINTS + point
            column, row, right, below, in_left, in_right, in_top, in_bottom = _sample(
                tl.load(x + sample, mask=real, other=-9.0),
                tl.load(y + sample, mask=real, other=-9.0),
                height,
                width,
            )
            at, there = _pixel(
                first, column, row, width, in_left & in_top, heads, channel, CHANNELS
            )
            one = tl.load(value + at, mask=there, other=0.0).to(tl.float32)
            at, there = _pixel(
                first, column + 1, row, width, in_right & in_top, heads, channel, CHANNELS
            )
            two = tl.load(value + at, mask=there, other=0.0).to(tl.float32)
            at, there = _pixel(
                first, column, row + 1, width, in_left & in_bottom, heads, channel, CHANNELS
            )
            three = tl.load(value + at, mask=there, other=0.0).to(tl.float32)
            at, there = _pixel(
                first, column + 1, row + 1, width, in_right & in_bottom, heads, channel, CHANNELS
            )
            four = tl.load(value + at, mask=there, other=0.0).to(tl.float32)
            weight = tl.load(weights + sample, mask=real, other=0.0).to(tl.float32)[:, None]
            upper, lower = one + (two - one) * right, three + (four - three) * right
            total += weight * (upper + (lower - upper) * below)
    places = rows[:, None] * CHANNELS + channel[None, :]
    tl.store(
        output + places,
        total.to(output.dtype.element_ty),
        mask=real[:, None] & (channel < CHANNELS)[None, :],
    )


@triton.jit
def _backward(
    value,
    levels,
    x,
    y,
    weights,
    change,
    value_change,
    x_change,
    y_change,
    weights_change,
    num_rows,
    queries,
    heads,
    pixels,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel, real = tl.arange(0, BLOCK), rows < num_rows
    kept = real[:, None] & (channel < CHANNELS)[None, :]
    asked = tl.load(change + rows[:, None] * CHANNELS + channel[None, :], mask=kept, other=0.0).to(
        tl.float32
    )
    for level in tl.static_range(LEVELS):
        height, width = tl.load(levels + level * 3), tl.load(levels + level * 3 + 1)
        first = (
            rows // (heads * queries) * pixels + tl.load(levels + level * 3 + 2)
        ) * heads + rows % heads
        for point in tl.static_range(POINTS):
            sample = rows * (LEVELS * POINTS) + level * POINTS + point
            column, row, right, below, in_left, in_right, in_top, in_bottom = _sample(
                tl.load(x + sample, mask=real, other=-9.0),
                tl.load(y + sample, mask=real, other=-9.0),
                height,
                width,
            )
            weight = tl.load(weights + sample, mask=real, other=0.0).to(tl.float32)[:, None]
            weighed = asked * weight
            at, there = _pixel(
                first, column, row, width, in_left & in_top, heads, channel, CHANNELS
            )
            one = tl.load(value + at, mask=there, other=0.0).to(tl.float32)
            tl.atomic_add(value_change + at, weighed * (1 - right) * (1 - below), mask=there & kept)
            at, there = _pixel(
                first, column + 1, row, width, in_right & in_top, heads, channel, CHANNELS
            )
            two = tl.load(value + at, mask=there, other=0.0).to(tl.float32)
            tl.atomic_add(value_change + at, weighed * right * (1 - below), mask=there & kept)
            at, there = _pixel(
                first, column, row + 1, width, in_left & in_bottom, heads, channel, CHANNELS
            )
            three = tl.load(value + at, mask=there, other=0.0).to(tl.float32)
            tl.atomic_add(value_change + at, weighed * (1 - right) * below, mask=there & kept)
            at, there = _pixel(
                first, column + 1, row + 1, width, in_right & in_bottom, heads, channel, CHANNELS
            )
            four = tl.load(value + at, mask=there, other=0.0).to(tl.float32)
            tl.atomic_add(value_change + at, weighed * right * below, mask=there & kept)
            upper, lower = one + (two - one) * right, three + (four - three) * right
            along_x = (two - one) * (1 - below) + (four - three) * below
            tl.store(x_change + sample, tl.sum(weighed * along_x, axis=1), mask=real)
            tl.store(y_change + sample, tl.sum(weighed * (lower - upper), axis=1), mask=real)
            seen = tl.sum(asked * (upper + (lower - upper) * below), axis=1)
            tl.store(weights_change + sample, seen.to(weights_change.dtype.element_ty), mask=real)


class _SampleLevels(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, x, y, weights, shapes):
        value, x, y, weights = (tensor.contiguous() for tensor in (value, x, y, weights))
        ctx.save_for_backward(value, x, y, weights)
        ctx.shapes = shapes
        output = value.new_empty(*x.shape[:3], value.shape[-1])
        _launch(_forward, FORWARD_WARPS, shapes, value, x, y, weights, output)
        return output

    @staticmethod
    def backward(ctx, change):
        value, x, y, weights = ctx.saved_tensors
        value_change = torch.zeros_like(value, dtype=torch.float32)
        x_change, y_change, weights_change = (
            torch.empty_like(tensor) for tensor in (x, y, weights)
        )
        changes = (value_change, x_change, y_change, weights_change)
        _launch(
            _backward,
            BACKWARD_WARPS,
            ctx.shapes,
            value,
            x,
            y,
            weights,
            change.contiguous(),
            *changes,
        )
        return value_change.to(value.dtype), x_change, y_change, weights_change, None


def sample_levels_triton(
    value: torch.Tensor,
    shapes: list[tuple[int, int]],
    x: torch.Tensor,
    y: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """See [`sample_levels`]; `x` and `y` in float32."""
    return _SampleLevels.apply(value, x, y, weights, tuple(shapes)).flatten(2)


def _launch(kernel, warps, shapes, value, x, y, weights, *outputs) -> None:
    pixels, heads, channels = value.shape[1:]
    queries, num_rows, points = x.shape[1], x.shape[:3].numel(), x.shape[3] // len(shapes)
    kernel[(triton.cdiv(num_rows, ROWS),)](
        value,
        _level_table(shapes, value.device),
        x,
        y,
        weights,
        *outputs,
        num_rows,
        queries,
        heads,
        pixels,
        LEVELS=len(shapes),
        POINTS=points,
        CHANNELS=channels,
        BLOCK=triton.next_power_of_2(channels),
        ROWS=ROWS,
        num_warps=warps,
    )


@functools.lru_cache(maxsize=64)  # sent once: sending would make the host wait
def _level_table(shapes: tuple[tuple[int, int], ...], device: torch.device) -> torch.Tensor:
    """Height, width and first pixel of each level, int32."""
    rows, first = [], 0
    for height, width in shapes:
        rows.append((height, width, first))
        first += height * width
    return torch.tensor(rows, dtype=torch.int32, device=device)


__all__ = ["sample_levels_triton"]
