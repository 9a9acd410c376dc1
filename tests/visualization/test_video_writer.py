"""The written video: its codec, its times, its sound; and nothing left behind on failure."""

import av
import numpy as np
import pytest

from modeling_refavs.utils.files import whole_file, whole_folder
from modeling_refavs.visualization import video_writer
from modeling_refavs.visualization.video_writer import SOUND_RATE, Encoding, write_video
from modeling_refavs.visualization.yuv import from_rgb
from tests.media_kit import read_transparent, tone


TIMES = (0.0, 0.1, 0.15, 1.0, 1.01, 2.5)
END = 3.0


def write(path, size=(64, 48), sound=None):
    with write_video(path, size, 30.0, sound) as video:
        for time, end in zip(TIMES, (*TIMES[1:], END), strict=True):
            video.write(np.full((size[1], size[0], 3), (200, 30, 30), dtype=np.uint8), time, end)


CODECS = {
    ".mp4": ("h264", "aac"),
    ".mov": ("h264", "aac"),
    ".mkv": ("h264", "aac"),
    ".webm": ("vp9", "opus"),
}


@pytest.mark.parametrize("suffix", [*CODECS, ".MP4"])
def test_browsers_play_it_with_its_own_times_and_sound(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    write(path, sound=iter([tone(1, SOUND_RATE, 2), tone(1.7, SOUND_RATE, 2)]))
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == CODECS[suffix.lower()]
        assert video.pix_fmt == "yuv420p"
        frames = list(container.decode(video))
        np.testing.assert_allclose([frame.time for frame in frames], TIMES, atol=1e-3)
        assert frames[-1].time + frames[-1].duration * frames[-1].time_base == pytest.approx(
            END, abs=2e-3
        )
    with av.open(str(path)) as container:
        heard = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    assert heard.shape[1] / SOUND_RATE == pytest.approx(2.7, abs=0.03)
    np.testing.assert_allclose(
        heard[:, 4800:120000], tone(2.7, SOUND_RATE, 2)[:, 4800:120000], atol=0.05
    )


@pytest.mark.parametrize("name", ["out.mp4", "out.webm"])
def test_colours_survive(tmp_path, name):
    write(tmp_path / name)
    with av.open(str(tmp_path / name)) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(picture.astype(int) - (200, 30, 30)).max() <= 6


def test_webm_can_be_transparent(tmp_path):
    picture = np.zeros((48, 64, 4), dtype=np.uint8)
    picture[10:30, 20:50] = (200, 30, 30, 255)
    with write_video(tmp_path / "out.webm", (64, 48), 30.0, transparent=True) as video:
        for time in (0.0, 0.5, 0.6):
            video.write(picture, time, time + 0.1)
    pictures = read_transparent(tmp_path / "out.webm")
    assert len(pictures) == 3
    for read in pictures:
        np.testing.assert_array_equal(read[..., 3] > 127, picture[..., 3] > 127)
        assert np.abs(read[14:26, 24:46].astype(int) - picture[14:26, 24:46]).max() <= 6


def test_frames_in_yuv_are_taken_as_they_are(tmp_path):
    colour = np.full((48, 64, 3), (200, 30, 30), np.uint8)
    with write_video(tmp_path / "rgb.mkv", (64, 48), 30.0) as video:
        video.write(colour, 0.0, 0.1)
    with write_video(tmp_path / "yuv.mkv", (63, 47), 30.0) as video:
        video.write(from_rgb(colour), 0.0, 0.1)
        with pytest.raises(ValueError, match=r"\(63, 47\).*got \(66, 48\) of yuv420p"):
            video.write(from_rgb(colour[:, :33].repeat(2, axis=1)), 0.1, 0.2)
    pictures = []
    for name in ("rgb.mkv", "yuv.mkv"):
        with av.open(str(tmp_path / name)) as container:
            pictures.append(next(container.decode(video=0)).to_ndarray())
    np.testing.assert_array_equal(*pictures)


def test_a_graphics_unit_is_taken_where_there_is_one(tmp_path, monkeypatch):
    """FFV1 in place of a graphics unit's encoder, which the test machine need not have."""
    for encoders, codec in ((("nothing", "ffv1"), "ffv1"), (("nothing",), "h264")):
        hardware = [Encoding(name, "aac", {}) for name in encoders]
        monkeypatch.setattr(video_writer, "HARDWARE", hardware)
        with write_video(tmp_path / "a.mkv", (128, 96), 25.0, encoder="auto") as video:
            video.write(np.zeros((96, 128, 3), np.uint8), 0.0, 0.04)
        with av.open(str(tmp_path / "a.mkv")) as container:
            assert container.streams.video[0].codec_context.name == codec


def test_an_error_of_the_encoder_is_raised(tmp_path):
    def sound():
        yield tone(1, SOUND_RATE, 2)
        raise ValueError("the sound is damaged")

    def write_all():
        with write_video(tmp_path / "out.mp4", (64, 48), 30.0, sound()) as video:
            for index in range(100):
                video.write(np.zeros((48, 64, 3), np.uint8), index / 10, index / 10 + 0.1)

    with pytest.raises(ValueError, match="the sound is damaged"):
        write_all()
    assert not list(tmp_path.iterdir())


def test_other_containers_cannot_be_transparent(tmp_path):
    with (
        pytest.raises(ValueError, match=r"\.mp4 cannot be transparent: use \.webm"),
        write_video(tmp_path / "out.mp4", (64, 48), 30, transparent=True),
    ):
        pass


def test_the_index_comes_first(tmp_path):
    write(tmp_path / "out.mp4")
    data = (tmp_path / "out.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_odd_sides_gain_a_pixel(tmp_path):
    write(tmp_path / "out.mp4", size=(63, 47))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].format.width == 64
        assert container.streams.video[0].format.height == 48


def test_times_that_round_to_one_tick_are_kept_apart(tmp_path):
    with write_video(tmp_path / "out.mp4", (64, 48), 30.0) as video:
        for time in (0.0, 1e-7, 2e-7):
            video.write(np.zeros((48, 64, 3), dtype=np.uint8), time, time + 1e-7)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(list(container.decode(video=0))) == 3


@pytest.mark.parametrize("name", ["out.avi", "out", "out.mp3"])
def test_other_containers_are_refused(tmp_path, name):
    with (
        pytest.raises(ValueError, match=r"must end in \.mp4, \.mov, \.mkv, \.webm"),
        write_video(tmp_path / name, (64, 48), 30),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path, failure):
    path = tmp_path / "out.mp4"
    path.write_text("old")

    def broken():
        with write_video(path, (64, 48), 30.0) as video:
            for index in range(100):  # more than the encoder keeps to itself
                video.write(np.zeros((48, 64, 3), dtype=np.uint8), index / 10, index / 10 + 0.1)
            assert len(list(tmp_path.iterdir())) == 2
            raise failure

    with pytest.raises(failure):
        broken()
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]
    assert path.read_text() == "old"


def test_wrong_picture_size_names_both(tmp_path):
    with (
        pytest.raises(ValueError, match=r"\(64, 48\).*3 channels.*\(60, 40\)"),
        write_video(tmp_path / "out.mp4", (64, 48), 30.0) as video,
    ):
        video.write(np.zeros((40, 60, 3), dtype=np.uint8), 0.0, 0.1)


def test_folder_appears_whole_or_not_at_all(tmp_path):
    def broken():
        with whole_folder(tmp_path / "masks") as folder:
            (folder / "a").write_text("a")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        broken()
    assert not list(tmp_path.iterdir())
    (tmp_path / "masks").mkdir()
    with whole_folder(tmp_path / "masks") as folder:
        (folder / "a").write_text("a")
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")] == ["masks", "masks/a"]


def test_file_has_the_rights_that_files_usually_have(tmp_path):
    (tmp_path / "usual").write_text("")
    with whole_file(tmp_path / "ours") as unfinished:
        unfinished.write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode
