"""The three modes without captions: what is the object, and what became of everything else."""

import numpy as np
import pytest
from PIL import Image

from modeling_refavs.inference.segment import segment_video
from modeling_refavs.video_refavs import read_frames, read_sound
from modeling_refavs.visualization.render import (
    blur_rest,
    cut_out,
    draw_matte,
    render_frames,
    render_video,
)
from tests.media_kit import read_transparent, tone


SENTENCES = ["the left half", "nothing at all"]


@pytest.fixture
def result(write_clip, fake_model):
    """One second, its left half meant, then one in which nothing is; odd sides."""
    path = write_clip(
        "clip.mp4", times=(0, 0.5, 1.0, 1.5), end=2.0, size=(194, 142), sound=[(0.0, tone(2))]
    )
    result = segment_video(*fake_model, path, SENTENCES[:1])
    result.presence[0, 1] = 0.1
    return result


@pytest.fixture
def scene():
    """A red disc on blue and green stripes, and its mask."""
    rows, columns = np.mgrid[:240, :320]
    rgb = np.where(columns[..., None] % 2, (0, 0, 200), (0, 200, 0)).astype(np.uint8)
    mask = (rows - 120) ** 2 + (columns - 160) ** 2 < 60**2
    rgb[mask] = (250, 0, 0)
    return rgb, mask


def test_a_cutout_is_the_object_on_nothing(scene):
    rgb, mask = scene
    picture = cut_out(rgb, mask)
    np.testing.assert_array_equal(picture[..., 3], mask * 255)
    np.testing.assert_array_equal(picture[mask, :3], rgb[mask])
    assert not picture[~mask].any()  # hidden, and gone: nothing of the rest is left in the file


def test_a_matte_is_white_on_black(scene):
    _, mask = scene
    matte = draw_matte(mask)
    assert (matte.shape, matte.dtype) == ((240, 320, 3), np.uint8)
    np.testing.assert_array_equal(matte, mask[..., None] * np.full(3, 255))


def test_all_but_the_object_is_blurred(scene):
    rgb, mask = scene
    picture = blur_rest(rgb, mask)
    np.testing.assert_array_equal(picture[mask], rgb[mask])
    rest = picture[~mask].astype(int)
    assert (
        np.abs(rest - (0, 100, 100)).max() < 25
    )  # the stripes are gone, and no red has run into them
    np.testing.assert_array_equal(blur_rest(rgb, np.ones_like(mask)), rgb)
    assert (
        np.abs(blur_rest(rgb, np.zeros_like(mask))[120, 160].astype(int) - (250, 0, 0)).max() < 10
    )


def test_a_transparent_video(result, tmp_path):
    render_video(result, tmp_path / "out.webm", mode="cutout")
    pictures = read_transparent(tmp_path / "out.webm")
    shown = np.stack([picture[..., 3] > 127 for picture in pictures])
    assert len(pictures) == 4
    expected = np.stack([result.masks(step)[0] for step in (0, 0, 1, 1)])
    assert (shown[:, :142, :194] != expected).mean() < 0.01
    assert expected[0].any()
    assert not expected[2:].any()
    heard, own = (
        np.concatenate(list(read_sound(path, 16000, "mono")), axis=1)[0]
        for path in (tmp_path / "out.webm", result.info.path)
    )
    assert len(heard) == pytest.approx(len(own), abs=400)
    np.testing.assert_allclose(heard[1600:30000], own[1600:30000], atol=0.05)


@pytest.mark.parametrize("mode", ["cutout", "matte", "blur-rest"])
def test_a_video_has_the_clips_own_size(result, tmp_path, mode):
    render_video(result, tmp_path / "out.mp4", mode=mode)
    drawn, source = list(read_frames(tmp_path / "out.mp4")), list(read_frames(result.info.path))
    np.testing.assert_allclose(
        [frame.time for frame in drawn], [frame.time for frame in source], atol=2e-3
    )
    for step, before, after in zip((0, 0, 1, 1), source, drawn, strict=True):
        mask = result.masks(step)[0]
        assert after.rgb.shape == before.rgb.shape
        object_, rest = {
            "cutout": (before.rgb, 0),
            "matte": (255, 0),
            "blur-rest": (before.rgb, before.rgb),
        }[mode]
        expected = np.where(mask[..., None], object_, rest).astype(int)
        assert np.median(np.abs(after.rgb - expected)) <= 3
        assert (np.abs(after.rgb - expected).max(axis=-1) < 30).mean() > 0.95


@pytest.mark.parametrize("mode", ["overlay", "cutout", "matte", "blur-rest"])
def test_a_folder_of_pictures_is_what_the_video_shows(result, tmp_path, mode):
    done = []
    render_frames(result, tmp_path / "frames", done.append, mode)
    render_video(result, tmp_path / "out.mp4", mode=mode)
    files, frames = sorted((tmp_path / "frames").iterdir()), list(read_frames(tmp_path / "out.mp4"))
    assert [file.name for file in files] == [f"frame_{index:06d}.png" for index in range(4)]
    assert sum(done) == 2
    for file, frame in zip(files, frames, strict=True):
        picture = Image.open(file)
        assert picture.mode == ("RGBA" if mode == "cutout" else "RGB")
        picture = np.asarray(picture)[..., :3]
        height, width = picture.shape[:2]
        assert (
            np.abs(picture.astype(int) - frame.rgb[:height, :width]).max(axis=-1) < 40
        ).mean() > 0.95


def test_several_sentences_are_taken_together(result, fake_model, tmp_path):
    both = segment_video(*fake_model, result.info.path, ["the left half", "everything"])
    render_frames(both, tmp_path / "frames", mode="matte")
    assert np.asarray(Image.open(tmp_path / "frames" / "frame_000000.png")).min() == 255


def test_an_unknown_mode_is_named(result, tmp_path):
    with pytest.raises(ValueError, match="one of overlay, cutout, matte, blur-rest, got 'sepia'"):
        render_video(result, tmp_path / "out.mp4", mode="sepia")
