"""Mask2Former's set criterion for a few objects a picture, all pictures and layers at once.

transformers' own matches picture by picture, at random points of the masks; on an accelerator it waits for each of them. Here every pixel
counts, and the costs of a batch are fetched once. The weights and the means are Mask2Former's.
"""

import torch
from scipy.optimize import linear_sum_assignment
from torch import nn
from transformers import Mask2FormerConfig

from ...loss_refavs import binary_cross_entropy, dice_loss, matching_cost


def set_loss(
    mask_logits: torch.Tensor,
    class_logits: torch.Tensor,
    mask_labels: torch.Tensor,
    class_labels: torch.Tensor,
    shown: torch.Tensor,
    config: Mask2FormerConfig,
) -> torch.Tensor:
    """
    Args:
        mask_logits: `(layers, N, queries, h, w)`.
        class_logits: `(layers, N, queries, classes + 1)`, the last of which is no object.
        mask_labels: `(N, objects, h, w)` in [0, 1]; class_labels: `(N, objects)`.
        shown: `(N, objects)` bool, those that there are; they come first.
        config: `mask_weight`, `dice_weight`, `class_weight` and `no_object_weight`.

    Returns:
        The sum over the layers.
    """
    layers = len(mask_logits)
    logits, likely = mask_logits.flatten(0, 1).flatten(2).float(), class_logits.flatten(0, 1).float()
    labels, classes = (values.repeat(layers, *[1] * (values.ndim - 1)) for values in (mask_labels, class_labels))
    labels = labels.flatten(2)
    with torch.no_grad():
        cost = torch.stack([matching_cost(logits, label, config) for label in labels.unbind(1)], dim=-1)
        cost -= config.class_weight * likely.softmax(-1).gather(2, classes[:, None].expand(-1, logits.shape[1], -1))
        picture, query, item = (index.to(logits.device) for index in match(cost, shown.sum(1).repeat(layers)))
    matched, truth = logits[picture, query], labels[picture, item]
    masks = (len(picture) / layers) or 1.0
    nothing = likely.shape[-1] - 1
    target = torch.full(likely.shape[:2], nothing, device=logits.device)
    target[picture, query] = classes[picture, item]
    weights = torch.ones(nothing + 1, device=logits.device)
    weights[nothing] = config.no_object_weight
    cross_entropy = nn.functional.cross_entropy(
        likely.flatten(0, 1), target.flatten(), weights
    )  # a mean over all layers
    return (
        config.mask_weight * binary_cross_entropy(matched, truth).sum() / masks
        + config.dice_weight * dice_loss(matched, truth).sum() / masks
        + config.class_weight * cross_entropy * layers
    )


def match(cost: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The cheapest query for each object: the numbers of picture, query and object of each pair.

    Args:
        cost: `(N, queries, objects)`.
        counts: `(N,)`, objects that there are.
    """
    pairs = [
        (picture, query, item)
        for picture, (costs, count) in enumerate(zip(cost.cpu().numpy(), counts.tolist(), strict=True))
        for query, item in zip(*linear_sum_assignment(costs[:, :count]), strict=True)
    ]
    return torch.tensor(pairs, dtype=torch.long).reshape(-1, 3).unbind(1)
