"""The pictures that Mask2Former is pretrained on, and its loss."""

import itertools
import json

import numpy as np
import pytest
import torch
from transformers import Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessorPil

from dataset_script.synthetic.drawing import draw
from dataset_script.synthetic.objects import CATEGORIES, UNSEEN
from modeling_refavs.research import pretrain_vision as vision
from modeling_refavs.research.pretrain_vision import (
    MOST,
    SIZE,
    DrawnPictures,
    PictureCollator,
    _as_jpeg,
    label_objects,
    match,
    set_loss,
)


@pytest.fixture(scope="module")
def pictures():
    drawn = DrawnPictures(60, seed=3)
    return [drawn[index] for index in range(len(drawn))]


@pytest.fixture(scope="module")
def batch(pictures):
    return PictureCollator(Mask2FormerImageProcessorPil(size={"height": SIZE, "width": SIZE}))(
        pictures[:12]
    )


@pytest.fixture(scope="module")
def reader():
    torch.manual_seed(0)
    model = Mask2FormerForUniversalSegmentation(vision.make_config(list(CATEGORIES)))
    return vision.TellingMask2Former(model).eval()


def test_a_picture_depends_on_its_number_alone(pictures):
    again, other = DrawnPictures(10**6, seed=3)[7], DrawnPictures(60, seed=4)[7]
    assert all((again[name] == pictures[7][name]).all() for name in again)
    assert (other["pixels"] != again["pixels"]).any()


def test_only_kinds_of_training_are_drawn(pictures):
    drawn = {list(CATEGORIES)[look[0]] for picture in pictures for look in picture["looks"]}
    assert len(drawn) > 10
    assert not drawn & set(UNSEEN)


def test_a_pose_tells_where_an_object_is(pictures):
    """Of an object alone in a picture, as its mask does."""
    alone = [picture for picture in pictures if len(picture["masks"]) == 1]
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    for picture in alone:
        mask, (_, _, x, y, size) = picture["masks"][0], picture["poses"][0]
        reach = np.exp(size) / 6 * SIZE  # the shape fills a box of twice that
        assert abs(columns[mask].mean() - x * SIZE) < reach / 2
        assert abs(rows[mask].mean() - y * SIZE) < reach / 2
        assert abs(columns[mask] - x * SIZE).max() < 1.5 * reach
    turned = [picture["poses"][:, 1] != 0 for picture in pictures]
    assert (
        0 < np.concatenate(turned).mean() < 0.3
    )  # what spins, a sixth of what can sound, but at second 0


def test_what_is_drawn_is_what_is_stored(tree):
    stored = vision.StoredPictures(tree, "train")
    for index in (0, 34):
        scene, time = stored.scenes[index // 10].scene, float(index % 10)
        pixels, masks = draw(scene, time, SIZE, SIZE)
        found = stored[index]
        assert (found["pixels"] == _as_jpeg(pixels)).all()
        for name, expected in label_objects(scene, time, masks).items():
            assert (found[name] == expected).all(), name


def test_a_batch_keeps_every_object(pictures, batch):
    assert batch["shown"].sum(1).tolist() == [len(picture["masks"]) for picture in pictures[:12]]
    for index, picture in enumerate(pictures[:12]):
        covered = batch["mask_labels"][index, : len(picture["masks"])].sum((1, 2)) * 9
        assert covered.tolist() == pytest.approx(picture["masks"].sum((1, 2)).tolist(), abs=1e-2)
        assert not batch["mask_labels"][index, len(picture["masks"]) :].any()


def test_the_cheapest_queries_are_found():
    cost = torch.randn(40, 5, MOST, generator=torch.Generator().manual_seed(0))
    counts = torch.arange(40) % (MOST + 1)
    picture, query, item = match(cost, counts)
    for index, count in enumerate(counts.tolist()):
        chosen = picture == index
        assert sorted(item[chosen].tolist()) == list(range(count))
        ways = itertools.permutations(range(5), count)
        least = min(sum(float(cost[index, way[k], k]) for k in range(count)) for way in ways)
        assert float(cost[index, query[chosen], item[chosen]].sum()) == pytest.approx(least)


@torch.no_grad()
def test_the_loss_is_that_of_transformers(reader, batch):
    """But for its random points of a mask and ours of all: within a hundredth."""
    outputs = reader.model(batch["pixel_values"], output_auxiliary_logits=True)
    layers = [*outputs.auxiliary_logits, outputs]
    logits = [
        torch.stack([layer[f"{name}_queries_logits"] for layer in layers])
        for name in ("masks", "class")
    ]
    classes, shown = batch["looks"][..., 0], batch["shown"]
    found = set_loss(*logits, batch["mask_labels"], classes, shown, reader.model.config)
    labels = {
        "mask_labels": [
            masks[there] for masks, there in zip(batch["mask_labels"], shown, strict=True)
        ],
        "class_labels": [names[there] for names, there in zip(classes, shown, strict=True)],
    }
    expected = reader.model(batch["pixel_values"], **labels).loss
    assert float(found) == pytest.approx(float(expected), rel=1e-2)


def test_a_picture_without_objects_is_no_mistake(reader, batch):
    empty = {**batch, "shown": torch.zeros_like(batch["shown"])}
    assert reader(**empty)["loss"].isfinite()
    reader(**empty)["loss"].backward()


def test_it_learns_to_tell(reader, batch):
    """A few steps on one batch: the loss falls, and what stands nearer to the truth is told
    nearer."""
    optimizer = torch.optim.AdamW(reader.parameters(), 1e-3)
    losses, errors = [], []
    for _ in range(12):
        loss = reader(**batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 5.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        _, poses = reader.read(batch["mask_labels"])
        errors.append(float((poses - batch["poses"])[batch["shown"]].abs().mean().detach()))
    assert losses[-1] < 0.9 * losses[0]
    assert errors[-1] < errors[0]


def test_scores_are_written(parts):
    scores = json.loads((parts / "mask2former" / "scores.json").read_text())
    assert scores["objects"] > 0
    assert set(scores["last_stage_accuracy"]) == {"category", "colour", "surface"}
    assert 0 <= scores["last_stage_error"]["turn_degrees"] <= 180
    assert scores["last_stage_error"]["place_pixels"] > 0
