"""The frame of a training."""

import numpy as np
import pytest
from PIL import Image

from modeling_refavs.training import curves
from modeling_refavs.training.curves import draw_curves


LOG = [
    {
        "step": 1,
        "loss": 3.0,
        "loss_mask": 1.0,
        "loss_dice": 1.0,
        "loss_cross_entropy": 1.0,
        "learning_rate": 1e-3,
    },
    {"step": 1, "eval_loss": 2.5, "eval_jaccard": 0.3, "eval_null": 0.1},
    {
        "step": 2,
        "loss": 2.0,
        "loss_mask": 0.5,
        "loss_dice": 0.5,
        "loss_cross_entropy": 1.0,
        "learning_rate": 5e-4,
    },
]


@pytest.mark.parametrize("log", [LOG, []], ids=["a run", "nothing"])
def test_one_wide_picture(log, tmp_path):
    draw_curves(log, tmp_path / "curves.png")
    picture = np.asarray(Image.open(tmp_path / "curves.png").convert("L"))
    assert picture.shape[1] > 2 * picture.shape[0]
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_there_is_no_empty_panel(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves, "_draw_panel", lambda axes, title, *_: drawn.append(title))
    draw_curves(LOG[:1], tmp_path / "curves.png")
    assert drawn == ["loss", "learning rate"]


def test_curves_that_are_there_are_drawn(tmp_path):
    for number in range(len(LOG)):
        draw_curves(LOG[: number + 1], tmp_path / f"{number}.png")
    pictures = [(tmp_path / f"{number}.png").read_bytes() for number in range(len(LOG))]
    assert len(set(pictures)) == 3
