"""What is drawn in the planes of YUV is what is drawn in RGB."""

from fractions import Fraction

import numpy as np
import pytest

from modeling_refavs.inference.segment import segment_video
from modeling_refavs.visualization.render import make_drawer
from modeling_refavs.visualization.yuv import from_rgb, planes_of
from tests.media_kit import set_matrix, write_movie
from tests.refavs.test_media_values import MATRICES


FILES = {  # name of the file, its size, and how it is written
    "as encoders take it": ("a.mp4", (480, 360), {"matrix": "ITU709", "tags": {"colorspace": 1}}),
    "untagged HD": ("a.mp4", (1280, 96), {"matrix": "ITU709"}),
    "BT.601": ("a.mp4", (480, 360), {}),
    "BT.2020": ("a.mp4", (480, 360), {"matrix": "BT2020", "tags": {"colorspace": 9}}),
    "full range": (
        "a.mp4",
        (480, 360),
        {"matrix": "ITU709", "tags": {"colorspace": 1, "color_range": 2}},
    ),
    "odd sides": ("a.mkv", (481, 363), {"codec": "ffv1", "pix_fmt": "yuv444p"}),
    "odd sides of BT.709": (
        "a.mkv",
        (481, 363),
        {"codec": "ffv1", "matrix": "ITU709", "tags": {"colorspace": 1}},
    ),
    "4:4:4": ("a.mp4", (480, 360), {"pix_fmt": "yuv444p"}),
    "10 bit": ("a.mkv", (480, 360), {"codec": "ffv1", "pix_fmt": "yuv420p10le"}),
    "10 bit of BT.709": (
        "a.mkv",
        (480, 360),
        {
            "codec": "ffv1",
            "pix_fmt": "yuv422p10le",
            "matrix": "ITU709",
            "tags": {"colorspace": 1},
        },
    ),
    "HDR": (
        "a.mkv",
        (480, 360),
        {
            "codec": "ffv1",
            "pix_fmt": "yuv420p10le",
            "matrix": "BT2020",
            "tags": {"colorspace": 9, "color_trc": 16, "color_primaries": 9},
        },
    ),
    "alpha": ("a.mkv", (480, 360), {"codec": "ffv1", "pix_fmt": "yuva420p"}),
    "RGB with alpha": ("a.mov", (480, 360), {"codec": "png", "pix_fmt": "rgba"}),
    "grey": ("a.mkv", (480, 360), {"codec": "ffv1", "pix_fmt": "gray"}),
    "pixels that are not square": ("a.mp4", (480, 360), {"aspect": Fraction(4, 3)}),
    "tiny": ("a.mp4", (96, 64), {}),
    "narrow": ("a.mp4", (96, 480), {}),
}


def smooth(size: tuple[int, int]) -> np.ndarray:
    """Colours that change slowly: 4:2:0 holds them."""
    columns, rows = (np.linspace(0, 1, side) for side in size)
    red, green = np.broadcast_arrays(40 + 170 * columns[None], 60 + 120 * rows[:, None])
    return np.stack([red, green, 230 - red / 2], axis=-1).astype(np.uint8)


def compare(path, fake_model, atol=2):
    """Every mode, both ways, of two sentences; but for the line where frame and captions meet,
    whose colours the RGB way mixes."""
    result = segment_video(*fake_model, path, ["the left half", "everything"])
    for mode in ("overlay", "cutout", "matte"):
        drawer = make_drawer(result, mode, transparent=False)
        item = list(result.masked_frames())[-1]
        picture = drawer.draw_yuv(item)
        picture = from_rgb(picture) if isinstance(picture, np.ndarray) else picture
        expected = from_rgb(drawer.draw(item))
        assert (picture.width, picture.height) == (expected.width, expected.height)
        seam = (result.info.height + 1) // 2  # in U and V
        for index, plane in enumerate(planes_of(picture)):
            difference = np.abs(plane.astype(int) - planes_of(expected)[index])
            if index and mode == "overlay":
                difference[seam - 1 : seam + 1] = 0
            assert difference.max() <= atol


@pytest.mark.parametrize("kind", FILES)
def test_both_ways_give_the_same_colours(tmp_path, fake_model, kind):
    name, size, options = FILES[kind]
    options = {"options": {"crf": "4"} if name == "a.mp4" else {}, **options}
    path = write_movie(tmp_path / name, [smooth(size)] * 2, **options)
    compare(path, fake_model, atol=4 if "10 bit" in kind else 2)  # 8 bits of RGB are 2 levels off


@pytest.mark.parametrize("size", [(480, 362), (481, 363)])
@pytest.mark.parametrize("name", MATRICES)
def test_both_ways_turn_alike(tmp_path, fake_model, name, size):
    options = {"matrix": "ITU709", "tags": {"colorspace": 1}, "options": {"crf": "4"}}
    options["pix_fmt"] = "yuv444p" if size[0] % 2 else "yuv420p"
    path = write_movie(tmp_path / "a.mp4", [smooth(size)] * 2, **options)
    compare(set_matrix(path, MATRICES[name][0]), fake_model)
