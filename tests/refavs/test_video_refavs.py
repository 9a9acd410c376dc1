"""Any container, any frame rate, any damage: frames and sound of each second are the right
ones."""

import gc
import io
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from PIL import Image

from modeling_refavs import video_refavs
from modeling_refavs.video_refavs import (
    OpenVideo,
    probe_video,
    read_frames,
    read_sound,
    read_steps,
)
from tests.media_kit import counter, level_of, tone, write_movie


def grey_of(picture: np.ndarray) -> int:
    """Which frame of `write_clip` this is."""
    return round((float(picture[-1, -1].mean()) - level_of(0)) / 3)


def shown(path) -> list[int]:
    return [grey_of(step.frame) for step in read_steps(path)]


@pytest.fixture(autouse=True)
def warn_again():
    video_refavs.warn_once.cache_clear()


def test_constant_frame_rate(write_clip):
    path = write_clip()
    assert shown(path) == [0, 10, 20]
    frames = list(read_frames(path))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(30) / 10, atol=2e-3)
    np.testing.assert_allclose([frame.end for frame in frames], np.arange(1, 31) / 10, atol=2e-3)
    info = probe_video(path)
    assert (info.width, info.height, info.has_audio) == (64, 48, False)
    assert info.duration == pytest.approx(3)


def test_variable_frame_rate_shows_what_is_on_display_at_each_second(write_clip):
    path = write_clip(times=(0, 0.1, 0.9, 1.05, 3.5, 3.6), end=5.2)
    steps = list(read_steps(path))
    assert [grey_of(step.frame) for step in steps] == [0, 2, 3, 3, 5, 5]
    assert sum(step.duration for step in steps) == pytest.approx(5.2, abs=0.01)


@pytest.mark.parametrize(("end", "num_steps"), [(0.1, 1), (0.95, 1), (1.01, 1), (1.2, 2), (2.0, 2)])
def test_a_begun_second_counts_a_rounding_error_does_not(write_clip, end, num_steps):
    steps = list(read_steps(write_clip(times=tuple(np.arange(0, end - 0.05, 0.1)), end=end)))
    assert len(steps) == num_steps
    assert sum(step.duration for step in steps) == pytest.approx(end, abs=2e-3)


def test_one_picture(write_clip):
    (step,) = read_steps(write_clip("one.mp4", times=(0,), end=0.1))
    assert (grey_of(step.frame), step.audio) == (0, None)


def test_clock_that_does_not_start_at_zero(write_clip):
    path = write_clip(times=tuple(5 + np.arange(20) / 10), end=7, sound=[(5.0, tone(2))])
    steps = list(read_steps(path))
    assert [grey_of(step.frame) for step in steps] == [0, 10]
    assert [len(step.audio) for step in steps] == [16000, 16000]
    assert all(np.abs(step.audio).max() > 0.4 for step in steps)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_rotation_flag(write_clip, rotate, turns):
    path = rotate(write_clip("turned.mp4"), turns)
    info, (step, *_) = probe_video(path), read_steps(path)
    assert info.size == ((48, 64) if turns % 2 else (64, 48))
    assert step.frame.shape == (info.height, info.width, 3)
    bright = np.argwhere(step.frame[..., 0] > 200).mean(axis=0) / step.frame.shape[:2]
    corner = {1: (0, 1), 2: (1, 1), 3: (1, 0)}[
        turns
    ]  # where the upper left corner goes when turned right
    assert np.abs(bright - corner).max() < 0.3


def test_oblong_pixels_are_shown_square(write_clip):
    path = write_clip("oblong.mp4", aspect=2)
    assert probe_video(path).size == (128, 48)
    assert next(read_steps(path)).frame.shape == (48, 128, 3)


def test_odd_size(write_clip):
    path = write_clip(size=(63, 47), pix_fmt="yuv444p")
    assert next(read_steps(path)).frame.shape == (47, 63, 3)


def test_pictures_without_times_that_change_their_size(write_clip, tmp_path):
    """Two raw H.264 streams glued together: no time stamps, and a new size half way."""
    glued = tmp_path / "glued.h264"
    parts = write_clip("a.h264"), write_clip("b.h264", size=(96, 64))
    glued.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = list(read_frames(glued))
    assert len(frames) == 60
    assert {frame.rgb.shape for frame in frames} == {(48, 64, 3)}
    assert all(a.end == b.time for a, b in pairwise(frames))


def test_clock_that_restarts(write_clip, tmp_path):
    glued = tmp_path / "glued.ts"
    part = write_clip("part.ts", sound=[(0.0, tone(3))], sound_codec="mp2").read_bytes()
    glued.write_bytes(part + part)
    steps = list(read_steps(glued))
    assert [grey_of(step.frame) for step in steps] == [0, 10, 20, 0, 10, 20]
    assert all(np.abs(step.audio).max() > 0.3 for step in steps)


def test_sound_that_starts_late_has_a_gap_and_ends_early(write_clip):
    path = write_clip(end=4.0, sound=[(0.5, tone(0.5)), (1.75, tone(0.5))])
    heard = [step.audio for step in read_steps(path)]
    assert [len(second) for second in heard] == [16000, 16000, 4000, 0]
    loud = np.abs(np.concatenate(heard).reshape(-1, 400)).max(axis=1) > 0.3  # by 25 ms
    np.testing.assert_array_equal(np.flatnonzero(loud), [*range(20, 40), *range(70, 90)])


def test_overlapping_sound_is_trimmed(write_clip):
    path = write_clip(sound=[(0.0, tone(1.0)), (0.5, tone(1.0, loudness=0.1))])
    heard = np.concatenate([step.audio for step in read_steps(path)])
    assert len(heard) == pytest.approx(24000, abs=20)
    assert np.abs(heard[:15900]).max() > 0.4 > 0.2 > np.abs(heard[16100:]).max()


def test_no_sound_track_is_not_silence(write_clip):
    assert [step.audio for step in read_steps(write_clip())] == [None] * 3


def test_sound_is_the_mean_of_the_channels_at_the_asked_rate(write_clip):
    stereo = np.concatenate(
        [tone(3, 44100, loudness=0.8), np.zeros((1, 3 * 44100), dtype=np.float32)]
    )
    path = write_clip(sound=[(0.0, stereo)], rate=44100)
    heard = np.concatenate([step.audio for step in read_steps(path)])
    np.testing.assert_allclose(heard[100:-100], tone(3, loudness=0.4)[0, 100:-100], atol=0.01)


def test_compressed_sound_stays_in_place(write_clip):
    click = np.zeros((2, 3 * 44100), dtype=np.float32)
    click[:, round(1.5 * 44100) : round(1.5 * 44100) + 40] = 0.9
    path = write_clip("click.mp4", sound=[(0.0, click)], rate=44100, sound_codec="aac")
    heard = np.concatenate(list(read_sound(path, 16000)), axis=1).mean(axis=0)
    assert np.abs(heard).argmax() / 16000 == pytest.approx(1.5, abs=0.002)


def test_sound_longer_than_the_pictures_ends_with_them(write_clip):
    steps = list(read_steps(write_clip(end=3.0, sound=[(0.0, tone(9))])))
    assert [len(step.audio) for step in steps] == [16000] * 3


def test_file_cut_in_the_middle_gives_what_is_there_and_a_warning(write_clip, tmp_path, caplog):
    path = write_clip("whole.mkv", times=tuple(np.arange(60) / 6), end=10, sound=[(0.0, tone(10))])
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with caplog.at_level(logging.WARNING):
        pictures = shown(cut)
    assert 0 < len(pictures) < 10
    assert pictures == shown(path)[: len(pictures)]
    assert "of the 10.0 s that the file declares" in caplog.text


def test_damage_in_the_middle_costs_no_step(write_clip, tmp_path):
    path = write_clip("whole.avi", times=tuple(np.arange(60) / 10), end=6, codec="mpeg4")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = np.random.default_rng(0).bytes(600)
    hurt = tmp_path / "hurt.avi"
    hurt.write_bytes(data)
    assert len(shown(hurt)) == 6


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"", "0 bytes"),
        (b"Dear diary, today no video.\n" * 40, "not a media file"),
        ("head", "not a media file"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"></svg>', "a codec that FFmpeg cannot decode"),
        (b"RIFF....WEBPVP8X....................ANIM....", "an animated WebP"),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(write_clip, tmp_path, content, words):
    path = tmp_path / "bad.mp4"
    if content == "head":
        content = write_clip("good.mp4").read_bytes()[:100]
    if content is not None:
        path.write_bytes(content)
    for read in (
        probe_video,
        lambda path: next(read_steps(path)),
        lambda path: next(read_frames(path)),
    ):
        with pytest.raises(ValueError, match=words) as error:
            read(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("cover", [False, True])
def test_sound_alone_is_no_video(tmp_path, cover):
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libmp3lame", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(1), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    if cover:
        picture = io.BytesIO()
        Image.new("RGB", (40, 30)).save(picture, "png")
        path.write_bytes(id3_tag(picture.getvalue()) + path.read_bytes())
    with pytest.raises(
        ValueError, match=f"no video track in it, only audio{' and cover art' * cover}:"
    ):
        probe_video(path)


def id3_tag(png: bytes) -> bytes:
    """An ID3v2.3 tag with one cover picture."""
    body = b"\0image/png\0\3\0" + png
    frame = b"APIC" + len(body).to_bytes(4, "big") + b"\0\0" + body
    size = bytes((len(frame) >> shift) & 127 for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + size + frame


def test_a_folder_is_no_video(tmp_path):
    with pytest.raises(ValueError, match="a folder"):
        probe_video(tmp_path)


def test_a_still_picture_is_a_video_of_one_step(tmp_path):
    Image.new("RGB", (40, 30), (200, 10, 10)).save(tmp_path / "still.png")
    (step,) = read_steps(tmp_path / "still.png")
    assert step.frame.shape == (30, 40, 3)
    assert step.frame[0, 0].tolist() == [200, 10, 10]


def test_animated_gif(tmp_path):
    colours = [Image.new("RGB", (40, 30), colour) for colour in ("red", "lime", "blue")]
    colours[0].save(tmp_path / "a.gif", save_all=True, append_images=colours[1:], duration=1000)
    strongest = [int(step.frame[5, 5].argmax()) for step in read_steps(tmp_path / "a.gif")]
    assert strongest == [0, 1, 2]


@pytest.mark.parametrize(
    ("before", "now", "declared", "broke"),
    [
        (5.0, 5.04, 10.0, False),
        (5.0, 4.5, 10.0, False),  # overlap: trimmed, not taken for a restart
        (5.0, 3.0, 10.0, True),
        (5.0, 600.0, 700.0, False),  # a slide shown for ten minutes
        (5.0, 600.0, None, False),
        (5.0, 600.0, 10.0, True),
        (80.0, 80.04, 10.0, False),  # longer than declared is not damage
        (5.0, 4000.0, None, True),
    ],
)
def test_which_time_stamps_are_believed(before, now, declared, broke):
    assert video_refavs.clock_broke(before, now, declared) == broke


def test_stamps_that_leap_for_ever_do_not_make_a_video_long(tmp_path):
    info = probe_video(write_movie(tmp_path / "a.mp4", [counter(0)] * 2))  # 25 frames/s
    pictures = [av.VideoFrame(16, 16) for _ in range(4)]
    pictures[-1].duration, pictures[-1].time_base = 10**9, Fraction(1)
    stamps = [info.start_time + number * 1e9 for number in range(4)]
    times = list(video_refavs._timed(iter(zip(stamps, pictures, strict=True)), info))
    assert [time for time, _, _ in times] == pytest.approx(np.arange(5) / info.frame_rate)


def test_sound_that_leaps_for_ever_is_put_where_it_ends(write_clip):
    path = write_clip(sound=[(0.0, tone(1)), (2e6, tone(1))])
    assert probe_video(path).duration is None
    heard = np.concatenate(list(read_sound(path, 16000)), axis=1)
    assert heard.shape[1] == pytest.approx(2 * 16000, abs=1000)


def test_pixels_that_are_no_pixels_are_taken_for_square(write_clip):
    assert probe_video(write_clip("oblong.mp4", aspect=20)).size == (64, 48)


def test_a_picture_without_a_time_base_lasts_as_long_as_usual(tmp_path):
    info = probe_video(write_movie(tmp_path / "a.mp4", [counter(0)] * 2))  # 25 frames/s
    picture = av.VideoFrame(16, 16)
    picture.duration = 7
    assert picture.time_base is None
    times = list(video_refavs._timed(iter([(info.start_time, picture)]), info))
    assert [time for time, _, _ in times] == pytest.approx([0, 1 / info.frame_rate])


def test_pictures_are_given_back_at_once(tmp_path):
    """PyAV's side data holds its picture in a cycle, which the collector comes by late."""
    path = write_movie(tmp_path / "a.mp4", [counter(number) for number in range(40)])
    gc.collect()
    gc.disable()
    try:
        for frame in read_frames(path):
            assert frame.rgb.shape[2] == 3
        del frame
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kept = sum(isinstance(thing, av.VideoFrame) for thing in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert kept <= 2


def list_frames(source) -> list[tuple[float, float, bytes]]:
    return [(frame.time, frame.end, frame.rgb.tobytes()) for frame in read_frames(source)]


def list_sound(source) -> bytes:
    return np.concatenate(list(read_sound(source, 16000, "mono")), axis=1).tobytes()


@pytest.mark.parametrize("most_waiting", [2**25, 3000])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "cut.mkv"])
def test_read_from_one_open_file_equals_read_alone(tmp_path, monkeypatch, name, most_waiting):
    """One after the other, both ways, and in two threads; where more would wait than may, the file
    is opened once more."""
    monkeypatch.setattr(video_refavs, "MOST_WAITING", most_waiting)
    path = tmp_path / name
    pictures = [counter(number) for number in range(60)]
    write_movie(path, pictures, sound=tone(2.4))
    if name == "cut.mkv":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    info, opened = probe_video(path), []
    expected = list_frames(info), list_sound(info)
    open_media = video_refavs.open_media
    monkeypatch.setattr(
        video_refavs,
        "open_media",
        lambda source, *args: opened.append(type(source)) or open_media(source, *args),
    )
    with closing(OpenVideo(info)) as video:
        assert (list_frames(video), list_sound(video)) == expected
    with closing(OpenVideo(info)) as video:
        sound = list_sound(video)
        assert (list_frames(video), sound) == expected
    with closing(OpenVideo(info)) as video, ThreadPoolExecutor(2) as threads:
        found = threads.submit(list_frames, video), threads.submit(list_sound, video)
        assert tuple(future.result() for future in found) == expected
    own = opened.count(type(info)) - 3
    assert own == 0 if most_waiting > 10**6 else own > 0


def test_a_video_without_sound_is_read_from_one_open_file(tmp_path):
    path = write_movie(tmp_path / "a.mp4", [counter(number) for number in range(9)])
    with closing(OpenVideo(probe_video(path))) as video:
        assert list(read_sound(video, 16000)) == []
        assert list_frames(video) == list_frames(path)
