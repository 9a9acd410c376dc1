"""Predicted IoUs beside the true ones."""

import math

import numpy as np
import pytest

from modeling_refavs.research.mask_quality import calibrate, measure_mask_quality
from tests.conftest import make_model


def test_calibration_of_known_predictions():
    rng = np.random.default_rng(0)
    predicted = rng.random(200_000)
    true = (rng.random(200_000) < predicted).astype(float)  # right as often as it says
    found = calibrate(predicted, true)
    assert found.calibration_error < 0.01
    assert found.correlation == pytest.approx(math.sqrt(1 / 12) / 0.5, abs=0.01)
    assert calibrate(predicted, np.clip(predicted - 0.2, 0, 1)).calibration_error == pytest.approx(
        0.18, abs=0.01
    )
    constant = calibrate(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    assert (constant.masks, constant.calibration_error) == (2, 0.0)
    assert math.isnan(constant.correlation)


def test_error_is_that_of_the_definition():
    rng = np.random.default_rng(1)
    predicted, true = np.append(rng.random(300), 1.0), rng.random(301)
    error = 0.0
    for low in range(10):
        inside = [
            (p, t)
            for p, t in zip(predicted, true, strict=True)
            if low <= 10 * p < low + 1 + (low == 9)
        ]
        mean = np.mean(inside, axis=0)
        error += len(inside) / 301 * abs(mean[0] - mean[1])
    assert calibrate(predicted, true).calibration_error == pytest.approx(error)


def test_measured_of_a_tree(processor, tree):
    model = make_model(grounding_config={"use_iou_head": True})
    found = measure_mask_quality(model, processor, tree, max_clips=2, steps_per_clip=3)
    assert found["all"].masks % 3 == 0
    assert found["found_by_score"].masks == found["found"].masks <= found["all"].masks
    assert found["found_by_score"].true == found["found"].true
    assert found["found_by_score"].predicted > 0.5  # the mean of what lies above 0.5
    assert 0 < found["all"].predicted < 1
    with pytest.raises(ValueError, match="predicts no IoU"):
        measure_mask_quality(make_model(), processor, tree)
