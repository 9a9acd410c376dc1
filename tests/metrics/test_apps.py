"""The metrics' Spaces: what a drawing is worth, and that the page can be built."""

import importlib
import sys

import numpy as np
import pytest
from PIL import Image

from .conftest import METRICS


gradio = pytest.importorskip("gradio")
BLANK = {"composite": None}


def drawing(rows: int, grey: int = 255) -> dict:
    """A 256x256 picture whose upper `rows` rows are grey; smaller and in another mode, as an upload
    may be."""
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[: rows // 4] = grey
    return {"composite": Image.fromarray(pixels)}


@pytest.fixture
def app(request, monkeypatch):
    """`app.py` as the Space runs it: in its own folder."""
    monkeypatch.syspath_prepend(str(METRICS / request.param))
    for name in ("app", request.param):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("app")
    for name in ("app", request.param):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("app", ["refavs_jaccard"], indirect=True)
def test_jaccard(app):
    text, picture = app.compare(drawing(128), drawing(64), "true_negatives")
    assert text.startswith("# J = 0.5000")
    assert picture.shape == (256, 256, 3)
    assert "`exact` decides" in app.compare(BLANK, drawing(64), "exact")[0]
    assert isinstance(app.build_demo(), gradio.Blocks)


@pytest.mark.parametrize("app", ["refavs_fscore"], indirect=True)
def test_fscore(app):
    text, curve = app.compare(drawing(128), drawing(128, grey=128))
    assert text.startswith("# F = 1.0000")
    assert curve["F"].to_numpy()[200] == 0
    assert app.compare(BLANK, drawing(64))[1] is None
    assert isinstance(app.build_demo(), gradio.Blocks)


@pytest.mark.parametrize("app", ["refavs_null"], indirect=True)
def test_null(app):
    assert app.judge(drawing(128), BLANK).startswith("# S = 0.5000")
    assert isinstance(app.build_demo(), gradio.Blocks)


@pytest.mark.parametrize("app", ["refavs_noref"], indirect=True)
def test_noref(app):
    assert app.judge(BLANK, BLANK, False).startswith("# N-acc = 1\n")
    assert app.judge(BLANK, drawing(4), False).startswith("# N-acc = 0\n")
    assert app.judge(BLANK, drawing(4), True).startswith("# T-acc = 1\n")
    assert isinstance(app.build_demo(), gradio.Blocks)
