"""Masks that the colours of the picture refine."""

import numpy as np
import pytest
import torch

from modeling_refavs import RefAVSForSegmentation
from modeling_refavs.mask_refinement_refavs import (
    RADIUS,
    SMOOTH,
    compare_colours,
    guided_filter,
    refine_masks,
)
from modeling_refavs.object_head_refavs import choose_query
from tests.conftest import SENTENCES, make_model


GROUNDING = {"loss_weight": 1.0, "use_alignment": True, "vocabulary_size": 7}
HEAD = {**GROUNDING, "object_head_size": 16}
close = torch.testing.assert_close


@pytest.fixture
def disc() -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(48), torch.arange(64), indexing="ij")
    return (y - 20) ** 2 + (x - 30) ** 2 < 12**2


@pytest.fixture
def pictures(disc) -> torch.Tensor:
    """A reddish disc on a ground of green and blue, both with noise, `(1, 3, 48, 64)`."""
    colours = torch.tensor([[0.7, 0.3, 0.3], [0.2, 0.5, 0.6]])
    noise = 0.05 * torch.randn(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    return colours[(~disc).long()].permute(2, 0, 1) + noise


def iou(mask_logits: torch.Tensor, truth: torch.Tensor) -> float:
    mask = mask_logits[0] > 0
    return float((mask & truth).sum() / (mask | truth).sum())


def as_logits(mask: torch.Tensor) -> torch.Tensor:
    return torch.where(mask, 3.0, -3.0)[None]


@pytest.mark.parametrize("shift", [(0, 4), (2, -2), (-2, 0)])
def test_a_mask_ends_where_the_colours_change(disc, pictures, shift):
    """Of what a mask has too much and too little most is put right."""
    mask = as_logits(disc.roll(shift, (0, 1)))
    missed = 1 - iou(mask, disc)
    assert 1 - iou(refine_masks(mask, pictures), disc) < missed / 2
    assert iou(refine_masks(as_logits(disc), pictures), disc) > 0.95


def test_the_range_of_pixel_values_does_not_matter(disc, pictures):
    mask = as_logits(disc.roll(3, 1))
    close(refine_masks(mask, 4.4 * pictures - 2.1), refine_masks(mask, pictures), atol=0.05, rtol=0)


def test_a_mask_of_nothing_stays_and_a_plain_picture_moves_none(disc, pictures):
    nothing = torch.full((1, 48, 64), -0.1)
    assert torch.equal(refine_masks(nothing, pictures), nothing)
    mask = as_logits(disc)
    plain = refine_masks(mask, torch.full((1, 3, 48, 64), 0.3))
    assert plain.isfinite().all()
    assert iou(plain, disc) > 0.95


def test_logits_beyond_the_range_of_the_colours_keep_their_distance(disc, pictures):
    """F is the best over all thresholds: a mask that is doubted must not vanish in its ground."""
    before = 5 * as_logits(disc)
    refined = refine_masks(before, pictures)
    assert (refined - before).abs().max() < 9  # from one end of the range to the other
    assert refined[0, 20, 30] > 14
    assert refined[0, 45, 5] < -14


def test_each_mask_is_refined_alone_and_in_half_precision(disc, pictures):
    masks = torch.cat([as_logits(disc.roll(shift, 1)) for shift in (-4, 0, 4)])
    frames = torch.cat([pictures, 1 - pictures, pictures.roll(2, 1)])
    together = refine_masks(masks, frames)
    for row in range(3):
        close(refine_masks(masks[row : row + 1], frames[row : row + 1]), together[row : row + 1])
    half = refine_masks(masks.half(), frames)
    assert half.dtype == torch.float16
    close(half.float(), together, atol=0.01, rtol=0.01)


def test_colours_are_compared_by_their_histograms():
    """Of 32 levels a channel, each smoothed with its 26 neighbours."""
    rng = np.random.default_rng(0)
    pictures, masks = rng.random((2, 3, 5, 6)) * 0.2, rng.random((2, 5, 6))
    found = compare_colours(*map(torch.from_numpy, (masks, pictures)))
    for row, y, x in np.ndindex(2, 5, 6):
        levels = (pictures[row] * 32).astype(int)
        near = (abs(levels - levels[:, y, x][:, None, None]) <= 1).all(0)
        shares = [(near * part).sum() / 27 for part in (masks[row], 1 - masks[row])]
        spread = (3 - (levels == 0)).prod(0) / 27
        totals = [(spread * part).sum() for part in (masks[row], 1 - masks[row])]
        inside, outside = (s / t + 1e-5 for s, t in zip(shares, totals, strict=True))
        np.testing.assert_allclose(found[row, y, x], np.log(inside / outside), rtol=1e-6)


def test_the_filter_is_linear_in_the_colours_of_each_window():
    """By the normal equations of each window, one after the other."""
    rng = np.random.default_rng(0)
    height, width = 9, 8
    picture, mask = rng.random((3, height, width)), rng.random((height, width))
    functions = np.zeros((height, width, 4))
    windows = {
        (y, x): np.s_[max(0, y - RADIUS) : y + RADIUS + 1, max(0, x - RADIUS) : x + RADIUS + 1]
        for y, x in np.ndindex(height, width)
    }
    for place, window in windows.items():
        colours, values = picture[(slice(None), *window)].reshape(3, -1), mask[window].ravel()
        covariance = np.cov(colours, bias=True) + SMOOTH * np.eye(3)
        with_mask = (colours * values).mean(1) - colours.mean(1) * values.mean()
        slopes = np.linalg.solve(covariance, with_mask)
        functions[place] = [*slopes, values.mean() - slopes @ colours.mean(1)]
    found = guided_filter(torch.from_numpy(mask)[None], torch.from_numpy(picture)[None])[0]
    for (y, x), window in windows.items():
        mean = functions[window].reshape(-1, 4).mean(0)
        np.testing.assert_allclose(found[y, x], mean[:3] @ picture[:, y, x] + mean[3], rtol=1e-8)


def test_a_film_without_colours(disc, pictures):
    """Three channels that are one leave the filter's equations all but undetermined."""
    grey = pictures.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    masks = as_logits(disc.roll(4, 1)).sigmoid()
    close(
        guided_filter(masks, grey),
        guided_filter(masks.double(), grey.double()).float(),
        atol=1e-3,
        rtol=0,
    )
    assert iou(refine_masks(as_logits(disc), grey), disc) > 0.9


def test_the_chosen_mask_is_refined_and_no_surer_than_that_it_is_there(disc, pictures):
    masks = torch.stack([as_logits(disc.roll(4, 1)), as_logits(~disc)], dim=1)
    logits = torch.tensor([[1.0, 0.0, 0.5]])
    mask, presence = choose_query(masks, logits, pictures)
    close(mask, refine_masks(masks[:, 0], pictures).clamp(max=presence.item()))
    close(presence, choose_query(masks, logits)[1])


def test_a_model_refines_by_the_frames_that_it_is_given(processor, clip, tmp_path):
    model = make_model(grounding_config=HEAD)
    inputs = processor(text=SENTENCES, **clip)
    with torch.no_grad():
        as_it_is = model(**inputs)
        assert model.encode_clips(inputs["pixel_values"]).pictures is None
        model.config.grounding_config.refine_masks = True
        refined = model(**inputs)
        clips = model.encode_clips(inputs["pixel_values"])
    size = as_it_is.mask_logits.shape[-2:]
    frames = torch.nn.functional.interpolate(
        inputs["pixel_values"].flatten(0, 1), size=size, mode="area"
    )
    close(clips.pictures.flatten(0, 1), frames)
    of_sentences = frames.unflatten(0, clips.pictures.shape[:2])[inputs["clip_index"]]
    chosen = as_it_is.class_queries_logits.softmax(-1)[..., 0].argmax(-1)
    masks = as_it_is.masks_queries_logits.take_along_dim(chosen[..., None, None, None], 2)
    expected = refine_masks(masks.flatten(0, 2), of_sentences.flatten(0, 1))
    expected = expected.view_as(refined.mask_logits)
    close(refined.mask_logits, expected.minimum(refined.presence_logits[..., None, None]))
    assert not torch.equal(refined.mask_logits, as_it_is.mask_logits)
    close(refined.presence_logits, as_it_is.presence_logits)
    model.save_pretrained(tmp_path)
    loaded = RefAVSForSegmentation.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        close(loaded(**inputs).mask_logits, refined.mask_logits)


def test_it_needs_an_object_head():
    with pytest.raises(ValueError, match="refine_masks needs object_head_size"):
        make_model(grounding_config={**GROUNDING, "refine_masks": True})
