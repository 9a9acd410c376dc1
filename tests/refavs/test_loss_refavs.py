"""The criterion is Mask2Former's, with every pixel in place of random points."""

import pytest
import torch
from transformers.models.mask2former import modeling_mask2former
from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

from modeling_refavs.grounding_refavs import grounding_criterion
from modeling_refavs.loss_refavs import (
    RefAVSLossCounts,
    binary_cross_entropy,
    count_masks,
    dice_loss,
    matching_cost,
    set_criterion,
)
from tests.conftest import make_config


FRAMES, QUERIES, SIZE = 6, 5, 12


@pytest.fixture
def config():
    config = make_config().mask2former_config
    config.train_num_points = SIZE * SIZE
    return config


@pytest.fixture
def predictions():
    generator = torch.Generator().manual_seed(0)
    masks = 3 * torch.randn(FRAMES, QUERIES, SIZE, SIZE, generator=generator)
    classes = torch.randn(FRAMES, QUERIES, 2, generator=generator)
    labels = (torch.rand(FRAMES, SIZE, SIZE, generator=generator) > 0.6).float()
    labels[2] = labels[4] = 0
    return masks.requires_grad_(), classes.requires_grad_(), labels


def test_it_is_mask2formers_loss_when_its_points_are_the_pixels(config, predictions, monkeypatch):
    masks, classes, labels = predictions
    centres = (torch.arange(SIZE) + 0.5) / SIZE
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="ij")[::-1], dim=-1).flatten(0, 1)
    monkeypatch.setattr(
        modeling_mask2former.torch, "rand", lambda n, points, two, **_: grid.expand(n, -1, -1)
    )
    monkeypatch.setattr(
        Mask2FormerLoss,
        "sample_points_using_uncertainty",
        lambda self, logits, *_: grid.expand(len(logits), -1, -1),
    )
    weights = {
        "loss_mask": config.mask_weight,
        "loss_dice": config.dice_weight,
        "loss_cross_entropy": config.class_weight,
    }
    theirs = Mask2FormerLoss(config, weights)(
        masks_queries_logits=masks,
        class_queries_logits=classes,
        mask_labels=[mask[None][mask.any()[None]] for mask in labels],
        class_labels=[torch.zeros(int(mask.any()), dtype=torch.long) for mask in labels],
    )
    ours = set_criterion(masks, classes, labels, config)
    for name, weight in weights.items():
        torch.testing.assert_close(ours[name], weight * theirs[name], rtol=1e-5, atol=1e-6)
    inputs = (masks, classes)
    expected = torch.autograd.grad(
        sum(weight * theirs[name] for name, weight in weights.items()), inputs
    )
    for gradient, other in zip(
        torch.autograd.grad(sum(ours.values()), inputs), expected, strict=True
    ):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-7)


def test_the_matching_cost_is_that_of_each_query_alone(config, predictions):
    masks, _, labels = predictions
    logits, flat = masks.detach().flatten(2), labels.flatten(1)
    cost = matching_cost(logits, flat, config)
    for query in range(QUERIES):
        entropy = binary_cross_entropy(logits[:, query], flat)
        expected = config.mask_weight * entropy + config.dice_weight * dice_loss(
            logits[:, query], flat
        )
        torch.testing.assert_close(cost[:, query], expected)


def test_only_the_matched_masks_need_a_gradient(config, predictions):
    masks, classes, labels = predictions
    frames = torch.arange(FRAMES)
    whole = set_criterion(masks, classes, labels, config)
    short = set_criterion(
        masks.detach(), classes, labels, config, predict=lambda chosen: masks[frames, chosen]
    )
    for name, part in whole.items():
        torch.testing.assert_close(short[name], part)
    gradients = [
        torch.autograd.grad(sum(parts.values()), masks, retain_graph=True)[0]
        for parts in (whole, short)
    ]
    torch.testing.assert_close(*gradients)


def test_pieces_of_an_update_sum_to_the_whole(config, predictions):
    masks, classes, labels = predictions
    whole = sum(set_criterion(masks, classes, labels, config).values())
    counts = count_masks(labels)
    pieces = [
        sum(set_criterion(masks[part], classes[part], labels[part], config, counts).values())
        for part in (slice(0, 1), slice(1, None))
    ]
    torch.testing.assert_close(sum(pieces), whole)
    alone = sum(set_criterion(masks[:1], classes[:1], labels[:1], config).values())
    assert not torch.isclose(alone, pieces[0])


def test_labels_of_another_size_are_averaged(config, predictions):
    masks, classes, labels = predictions
    fine = labels.repeat_interleave(3, dim=1).repeat_interleave(3, dim=2)
    for name, part in set_criterion(masks, classes, fine, config).items():
        torch.testing.assert_close(part, set_criterion(masks, classes, labels, config)[name])


def test_frames_without_the_object_only_teach_that_it_is_not_there(config, predictions):
    masks, classes, labels = predictions
    parts = set_criterion(masks, classes, torch.zeros_like(labels), config)
    assert parts["loss_mask"] == parts["loss_dice"] == 0
    assert parts["loss_cross_entropy"] > 0


def test_counts():
    labels = torch.zeros(3, 4, 4)
    labels[1, 2, 2] = 1
    assert count_masks(labels) == RefAVSLossCounts(torch.tensor(1), torch.tensor(3))


def test_visual_tokens_are_to_light_up_where_the_object_is():
    labels = torch.zeros(2, 8, 8)
    labels[0, :4, :4] = 1  # all of the first of 2 x 2 cells
    labels[0, 4:6, 4:] = 1  # half of the last
    right = torch.logit(torch.tensor([[1.0, 0, 0, 0.5], [0, 0, 0, 0]]), eps=1e-6)
    least = (
        4 * 0.25 * torch.log(torch.tensor(2.0)) / 4 / 2
    )  # what is left of the cell that is half covered
    torch.testing.assert_close(grounding_criterion(right, labels), least, atol=1e-4, rtol=1e-4)
    assert grounding_criterion(right.flip(1), labels) > 5 * least
    counts = RefAVSLossCounts(torch.tensor(1), torch.tensor(4))
    torch.testing.assert_close(
        grounding_criterion(right, labels, counts), least / 2, atol=1e-4, rtol=1e-4
    )
