"""The frame of a training."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

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


VALIDATED = LOG[1:2]


@pytest.fixture
def draw(tmp_path):
    """The picture `(height, width)` of some stages."""

    def draw(*stages):
        draw_curves([(f"stage {n}", log) for n, log in enumerate(stages)], tmp_path / "curves.png")
        assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
        return np.asarray(Image.open(tmp_path / "curves.png").convert("L"))

    return draw


def test_as_many_panels_as_there_are_kinds_of_curves(draw):
    pictures = [draw(log) for log in (LOG, [LOG[0], LOG[2]], VALIDATED, [])]
    assert {picture.shape[1] for picture in pictures} == {880}  # a README shows it as it is
    heights = [picture.shape[0] for picture in pictures]
    assert heights[0] > heights[1] > heights[3]
    assert heights[0] > heights[2]


def test_curves_that_are_there_are_drawn(draw):
    pictures = [draw(LOG[: number + 1]).tobytes() for number in range(len(LOG))]
    assert len(set(pictures)) == 3


def test_stages_stand_one_behind_the_other(monkeypatch, tmp_path):
    """The second begins at the last step of the first, and each curve is named once."""
    figures = []
    monkeypatch.setattr(
        Figure, "savefig", lambda self, path, **_: figures.append(self) or path.touch()
    )
    draw_curves([("cues", LOG), ("masks", LOG)], tmp_path / "curves.png")
    loss = figures[0].axes[0]
    steps = {tuple(line.get_xdata()) for line in loss.lines if line.get_linestyle() == "-"}
    assert steps == {(1, 2), (1,), (3, 4), (3,)}
    assert [text.get_text() for text in loss.texts] == ["cues", "masks"]
    labels = [text.get_text() for text in loss.get_legend().get_texts()]
    assert sorted(labels) == sorted(set(labels))
    bottom, top = loss.get_ylim()
    assert 0 < bottom < 0.5
    assert top > 3
    assert [axis.get_ylabel() for axis in figures[0].axes] == [
        "loss",
        "learning rate",
        "validation",
    ]
    assert figures[0].axes[-1].get_xlabel() == "step"
