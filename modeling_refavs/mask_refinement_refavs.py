"""Ours, not the paper's: the picture says where a mask ends.

Masks are smooth, and of a quarter of the picture's sides. Here a pixel counts the more, the
likelier its colour is inside the mask than outside, as in the first step of GrabCut (Rother et al.,
SIGGRAPH 2004), and a guided filter (He et al., ECCV 2010) lets the mask end where the picture's
colours change. Nothing of it is learned, so it holds for photographs that no training has seen.
"""

import torch
from torch import nn


LEVELS = 32  # of each colour channel
RARE = 1e-5  # added to the share of each colour
MAX_LOGIT = 4.0  # of a mask, up to which the colours count
SHARPNESS = 2.0  # how much more both count
RADIUS = 3  # pixels, of the filter's windows
SMOOTH = 1e-4  # variance of the picture, [0, 1] ** 2, below which a window has no edge


def refine_masks(mask_logits: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Masks that end where the colours of their pictures do; one that covers no pixel stays as it
    is.

    Args:
        mask_logits: `(rows, h, w)`.
        pictures: `(rows, 3, h, w)`, of any range.

    Returns:
        `(rows, h, w)`, logits.
    """
    # half precision cannot count pixels
    logits = mask_logits.to(torch.promote_types(mask_logits.dtype, torch.float32))
    pictures = pictures.to(logits.dtype)
    low, high = (end(pictures, (1, 2, 3), keepdim=True) for end in (torch.amin, torch.amax))
    pictures = (pictures - low) / (high - low).clamp(min=1e-3)
    near = logits.clamp(-MAX_LOGIT, MAX_LOGIT)
    colour = compare_colours((SHARPNESS * near).sigmoid(), pictures)
    masks = guided_filter((SHARPNESS * (near + colour)).sigmoid(), pictures)
    refined = MAX_LOGIT * (2 * masks - 1) + logits - near  # beyond that as before
    covers = (mask_logits > 0).flatten(1).any(1)[:, None, None]
    return torch.where(covers, refined.to(mask_logits.dtype), mask_logits)


def compare_colours(masks: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """The logarithm of how much likelier each pixel's colour is inside its mask than outside, by
    histograms of both, `(rows, h, w)`.

    Args:
        masks: probabilities, `(rows, h, w)`.
        pictures: `(rows, 3, h, w)` in [0, 1].
    """
    levels = (pictures * LEVELS).long().clamp(max=LEVELS - 1)
    colours = ((levels[:, 0] * LEVELS + levels[:, 1]) * LEVELS + levels[:, 2]).flatten(1)
    counts = masks.new_zeros(len(masks), 2, LEVELS**3)
    weights = torch.stack([masks, 1 - masks], dim=1).flatten(2)
    counts = counts.scatter_add(2, colours[:, None].expand_as(weights), weights)
    counts = nn.functional.avg_pool3d(counts.unflatten(2, (LEVELS,) * 3), 3, 1, 1).flatten(2)
    shares = counts / counts.sum(2, keepdim=True).clamp(min=RARE) + RARE
    inside, outside = shares.log().unbind(1)
    return (inside - outside).gather(1, colours).unflatten(1, masks.shape[1:])


def guided_filter(masks: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """In each window the linear function of the colours that comes nearest to the mask; each pixel
    has the mean of its windows' functions: He et al.'s filter for colours, `(rows, h, w)`.

    Args:
        masks: `(rows, h, w)`.
        pictures: `(rows, 3, h, w)` in [0, 1].
    """
    masks = masks[:, None]
    products = (pictures[:, :, None] * pictures[:, None]).flatten(1, 2)
    means = window_means(torch.cat([pictures, masks, pictures * masks, products], dim=1))
    colour, mask, both, products = means.split([3, 1, 3, 9], dim=1)
    covariance = products.unflatten(1, (3, 3)) - colour[:, :, None] * colour[:, None]
    covariance = covariance + SMOOTH * torch.eye(3).to(colour).view(1, 3, 3, 1, 1)
    slopes = solve(covariance, both - colour * mask)
    offsets = mask - (slopes * colour).sum(1, keepdim=True)
    slopes, offsets = window_means(torch.cat([slopes, offsets], dim=1)).split([3, 1], dim=1)
    return ((slopes * pictures).sum(1, keepdim=True) + offsets).squeeze(1)


def window_means(values: torch.Tensor) -> torch.Tensor:
    """Of the window around each pixel, at the border of the part that there is."""
    size = 2 * RADIUS + 1
    return nn.functional.avg_pool2d(values, size, 1, RADIUS, count_include_pad=False)


def solve(matrices: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """`x (rows, 3, h, w)` of `matrices @ x = values`, by elimination: where all colours are of one
    hue the determinant is lost in rounding.

    Args:
        matrices: `(rows, 3, 3, h, w)`, symmetric and positive definite.
        values: `(rows, 3, h, w)`.
    """
    (a, b, c), (_, d, e), (_, _, f) = (row.unbind(1) for row in matrices.unbind(1))
    x, y, z = values.unbind(1)
    d, e, f = d - b / a * b, e - b / a * c, f - c / a * c
    y, z = y - b / a * x, z - c / a * x
    z = (z - e / d * y) / (f - e / d * e)
    y = (y - e * z) / d
    x = (x - b * y - c * z) / a
    return torch.stack([x, y, z], dim=1)


__all__ = ["refine_masks"]
