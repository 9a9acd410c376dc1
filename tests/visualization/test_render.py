"""What is drawn: the right colour at the right time and place, the sentence legible, the sound the
clip's own."""

import numpy as np
import pytest
from PIL import Image

from modeling_refavs.inference.export import write_outputs
from modeling_refavs.inference.segment import segment_video
from modeling_refavs.video_refavs import read_frames, read_sound
from modeling_refavs.visualization.contact_sheet import MAX_COLUMNS, draw_contact_sheet
from modeling_refavs.visualization.overlay import (
    COLOURS,
    FAINT,
    INK,
    Captions,
    font_of,
    tint_of,
    wrap,
)
from modeling_refavs.visualization.render import (
    MIN_CANVAS,
    render_frames,
    render_video,
    rendered_video_writer,
)
from tests.media_kit import tone


@pytest.fixture
def half(write_clip, fake_model):
    """A clip whose left half is meant in second 0 and 2 and not in second 1."""

    def make(**clip):
        path = write_clip(
            **{"times": (0, 0.5, 1.0, 1.4, 1.999, 2.0, 2.5), "end": 3.0, "size": (480, 360), **clip}
        )
        result = segment_video(*fake_model, path, ["the left half"])
        result.presence[0, 1] = 0.1
        return result

    return make


def test_masks_and_pictures_stay_in_step(half, tmp_path):
    result = half()
    render_video(result, tmp_path / "out.mp4")
    drawn, source = list(read_frames(tmp_path / "out.mp4")), list(read_frames(result.info.path))
    np.testing.assert_allclose(
        [frame.time for frame in drawn], [frame.time for frame in source], atol=2e-3
    )
    blueness = [
        frame.rgb[200, 60, 0] - float(frame.rgb[200, 60, 2]) for frame in drawn
    ]  # orange: more red than blue
    assert [value > 40 for value in blueness] == [True, True, False, False, False, True, True]
    for before, after in zip(source, drawn, strict=True):
        assert (
            np.abs(after.rgb[:360, 300:].astype(int) - before.rgb[:, 300:]).max() < 12
        )  # the rest is untouched


def test_the_sound_is_the_clips_own(half, tmp_path):
    result = half(sound=[(0.5, tone(1.5))])
    render_video(result, tmp_path / "out.mp4")
    before, after = (
        np.concatenate(list(read_sound(path, 16000, "mono")), axis=1)[0]
        for path in (result.info.path, tmp_path / "out.mp4")
    )
    assert len(after) == pytest.approx(len(before), abs=400)
    np.testing.assert_allclose(after[8800:31000], before[8800:31000], atol=0.05)
    assert np.abs(after[:7000]).max() < 0.01


def test_a_video_drawn_again_is_the_same_file(half, tmp_path):
    """Whatever its threads do first, and though two are drawn in one pass; a run that was stopped
    is drawn again."""
    result, paths = half(sound=[(0.0, tone(3))]), [tmp_path / f"{name}.mp4" for name in range(4)]
    for path in paths[:2]:
        render_video(result, path)
    write_outputs(result, [rendered_video_writer(result, path) for path in paths[2:]])
    assert len({path.read_bytes() for path in paths}) == 1


def test_tiny_and_rotated_videos_are_enlarged_until_the_caption_can_be_read(half, rotate, tmp_path):
    result = half(name="tiny.mp4", size=(96, 64))
    rotate(result.info.path, 1)
    render_video(segment_again(result), tmp_path / "out.mp4")
    frame = next(read_frames(tmp_path / "out.mp4"))
    height, width = frame.rgb.shape[:2]
    assert min(width, height) >= MIN_CANVAS
    assert height > 96 * 4  # the turned picture, and the caption below it


def segment_again(result):
    from tests.media_kit import FakeModel, FakeProcessor

    return segment_video(FakeModel(), FakeProcessor(), result.info.path, result.expressions)


def test_a_mask_is_light_inside_and_strong_at_its_edge():
    mask = np.zeros((2, 50, 60), dtype=bool)
    mask[1, 10:40, 20:50] = True
    tint = np.asarray(tint_of(mask))
    assert tint.shape == (50, 60, 4)
    assert tint[25, 35].tolist() == [*COLOURS[1], 100]
    assert tint[10, 35].tolist() == [*COLOURS[1], 255]
    assert tint[5, 5].tolist() == [0, 0, 0, 0]
    assert (np.asarray(tint_of(mask[1:], first=1)) == tint).all()


def test_a_contour_shows_on_every_background():
    mask = np.zeros((1, 200, 300), dtype=bool)
    mask[0, 40:160, 60:240] = True
    tint = np.asarray(tint_of(mask)).astype(float)
    across, opacity = tint[30:60, 150, :3], tint[30:60, 150, 3:] / 255
    for background in (*COLOURS, (0, 0, 0), (255, 255, 255), (128, 128, 128)):
        shown = across * opacity + (1 - opacity) * background
        brightness = shown.mean(axis=-1)
        assert np.abs(np.diff(brightness)).max() > 30
        assert (shown == COLOURS[0]).all(axis=-1).any()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_sentences_that_mean_one_object_are_all_seen(count):
    mask = np.zeros((200, 300), dtype=bool)
    mask[40:160, 60:240] = True
    tint = np.asarray(tint_of(np.stack([mask] * count)))
    inside, contour = tint[100, 80:220], tint[40, 60:240]
    for colours, opacity in ((inside, 100), (contour, 255)):
        for number in range(count):
            share = (colours == (*COLOURS[number], opacity)).all(axis=-1).mean()
            assert share == pytest.approx(1 / count, abs=0.1)


def test_the_contour_of_a_part_shows_on_the_whole():
    masks = np.zeros((2, 200, 300), dtype=bool)
    masks[0, 20:180, 20:280] = masks[1, 80:120, 100:200] = True
    for order in ([0, 1], [1, 0]):
        tint = np.asarray(tint_of(masks[order]))
        assert tint[80, 150].tolist() == [*COLOURS[order.index(1)], 255]
        assert tint[20, 150].tolist() == [*COLOURS[order.index(0)], 255]


def test_a_picture_that_stands_is_drawn_again_with_each_step(write_clip, fake_model, tmp_path):
    times = (0.0, 0.1, 0.2, 9.8, 9.9)
    path = write_clip("slides.mkv", times=times, end=10.0, sound=[(0.0, tone(10))])
    result = segment_video(*fake_model, path, ["everything"])
    result.presence[0, 5] = 0.1  # in the middle of it the object is gone for a second
    render_video(result, tmp_path / "out.mp4", mode="matte")
    drawn = list(read_frames(tmp_path / "out.mp4"))
    expected = [0.0, 0.1, 0.2, *range(1, 10), 9.8, 9.9]
    np.testing.assert_allclose([frame.time for frame in drawn], expected, atol=2e-3)
    dark = [frame.time for frame in drawn if frame.rgb.mean() < 100]
    assert dark == [pytest.approx(5, abs=2e-3)]
    render_frames(result, tmp_path / "frames")
    assert len(list((tmp_path / "frames").iterdir())) == 5  # a PNG a frame of the source


@pytest.mark.parametrize("text", ["short", "word " * 200, "unbreakable" * 60])
def test_every_line_fits(text):
    font = font_of(16)
    lines = wrap(text, font, 300, max_lines=3)
    assert 1 <= len(lines) <= 3
    assert all(font.getlength(line) <= 300 for line in lines)
    assert lines[-1].endswith("...") == (len(text) > 100)


def test_the_captions_show_what_has_been_seen_so_far_and_where_we_are():
    captions = Captions(["a dog", "a cat"], duration=4.0, width=480, font_size=16)
    assert captions.lines == [["a dog"], ["a cat"]]
    bands = []
    for time, present in enumerate([(False, False), (True, False), (False, False), (True, False)]):
        captions.update(float(time), present)
        bands.append(np.asarray(captions.draw(float(time))))
    assert bands[0].shape == (captions.height, 480, 3)
    disc, bar = (slice(10, 25), slice(8, 24)), (slice(25, 40), slice(32, None))
    discs, bars = (
        [int((band[part] == COLOURS[0]).all(-1).sum()) for band in bands] for part in (disc, bar)
    )
    assert min(discs[1], discs[3]) > 1.5 * max(discs[0], discs[2])  # full, or a ring
    assert bars[0] == 0 < bars[1] <= bars[2] < bars[3]  # no second is shown before it comes
    assert bars[3] == pytest.approx(2 * bars[1], rel=0.1)
    texts = [band[8:26, 32:100].max() for band in bands]
    assert (texts[0], texts[2]) == (FAINT[0], INK[0])  # faint until it is seen
    assert captions.present == [True, False]


@pytest.mark.parametrize(
    ("seconds", "sound"), [(1, ()), (4, [(0.0, tone(2))]), (25, [(3.0, tone(2))])]
)
def test_contact_sheet(write_clip, fake_model, seconds, sound):
    path = write_clip(times=tuple(range(seconds)), end=seconds, sound=sound)
    result = segment_video(
        *fake_model, path, ["the left half", "everything", "nothing of the kind"]
    )
    sheet = np.asarray(draw_contact_sheet(result))
    first, second = (int(sheet[top, 56, 0]) - int(sheet[top, 56, 2]) for top in (120, 289))
    assert first > 40 > -20 > second  # orange, then blue, over the grey picture of the first column
    assert sheet.shape[1] <= 2 * 16 + MAX_COLUMNS * 164
    assert Image.fromarray(sheet).size[0] >= 640


def test_the_sound_has_the_colour_of_what_is_heard(write_clip, fake_model):
    """The object of the first sentence is the left half, that of the second, about sound, the
    whole: not the same. Then the first is about sound too, and is what is heard."""
    path = write_clip(times=(0, 1, 2, 3), end=4, sound=[(0.0, tone(4))])
    for said, colour in (
        (["the dog", "the thing that is making a sound"], COLOURS[1]),
        (["the thing that is making a sound", "the dog"], COLOURS[0]),
        (["the dog", "the cat"], FAINT),
    ):
        sheet = np.asarray(draw_contact_sheet(segment_video(*fake_model, path, said)))
        strip = sheet[-90:-50, 20:120].reshape(-1, 3)
        values, counts = np.unique(strip[strip.sum(1) > 100], axis=0, return_counts=True)
        assert tuple(values[counts.argmax()]) == colour
