"""Valid files of every kind, with values that can be read back: pictures that count, patches of
known colours, tones at known seconds."""

from fractions import Fraction

import numpy as np
import pytest

from modeling_refavs.video_refavs import probe_video, read_frames, read_steps
from tests.media_kit import (
    beep_of,
    beeps,
    counter,
    number_of,
    patches,
    patches_of,
    set_matrix,
    shift_picture,
    write_movie,
)


COUNTING = [counter(number) for number in range(75)]
FILES = {  # name: pictures' codec, sound's codec, pixel format, sampling rate
    "h264.mp4": ("libx264", "aac", "yuv420p", 44100),
    "hevc.mp4": ("libx265", "alac", "yuv420p", 48000),
    "av1.mp4": ("libsvtav1", "libopus", "yuv420p", 48000),
    "h264.mov": ("libx264", "pcm_s16be", "yuv420p", 22050),
    "prores.mov": ("prores_ks", "pcm_s24le", "yuv422p10le", 48000),
    "mjpeg.mov": ("mjpeg", "pcm_u8", "yuvj420p", 11025),
    "h264.mkv": ("libx264", "flac", "yuv420p", 96000),
    "h264_444.mkv": ("libx264", "eac3", "yuv444p10le", 32000),
    "ffv1.mkv": ("ffv1", "pcm_f32le", "yuv420p", 16000),
    "vp9.webm": ("libvpx-vp9", "libopus", "yuv420p", 48000),
    "vp8.webm": ("libvpx", "libopus", "yuv420p", 48000),
    "mjpeg.avi": ("mjpeg", "pcm_s16le", "yuvj420p", 44100),
    "h264.avi": ("libx264", "ac3", "yuv420p", 48000),
    "h264.ts": ("libx264", "aac", "yuv420p", 48000),
    "mpeg2.ts": ("mpeg2video", "mp2", "yuv420p", 48000),
    "mpeg2.mpg": ("mpeg2video", "mp2", "yuv420p", 44100),
    "mpeg1.mpg": ("mpeg1video", "mp2", "yuv420p", 44100),
    "h264.flv": ("libx264", "aac", "yuv420p", 44100),
    "flv1.flv": ("flv", "libmp3lame", "yuv420p", 22050),
    "mpeg2.mxf": ("mpeg2video", "pcm_s16le", "yuv422p", 48000),
    "wmv2.wmv": ("wmv2", "libmp3lame", "yuv420p", 44100),
    "h264.nut": ("libx264", "pcm_s16le", "yuv420p", 8000),
    "h263.3gp": ("h263", "aac", "yuv420p", 8000),
}
SHARP = {
    "libx264": {"crf": "12"},
    "libx265": {"crf": "12", "x265-params": "log-level=none:pools=none:frame-threads=1"},
}


def write_counting(path, codec="libx264", sound_codec="aac", pix_fmt="yuv420p", rate=44100):
    sound = beeps(3, rate)
    return write_movie(
        path, COUNTING, 25, codec, pix_fmt, sound, sound_codec, rate, options=SHARP.get(codec)
    )


@pytest.mark.parametrize("name", FILES)
def test_each_second_has_its_picture_and_its_tone(tmp_path, name):
    path = write_counting(tmp_path / name, *FILES[name])
    steps = list(read_steps(path))
    assert [number_of(step.frame) for step in steps[:3]] == [0, 25, 50]
    assert [beep_of(step.audio[2000:14000]) for step in steps[:3]] == [0, 1, 2]
    assert sum(step.duration for step in steps) == pytest.approx(3, abs=0.1)
    assert [number_of(frame.rgb) for frame in read_frames(path)] == list(range(75))


@pytest.mark.parametrize("rate", [1, 10, Fraction(24000, 1001), Fraction(30000, 1001), 50, 60])
def test_each_frame_rate_shows_what_stands_at_each_second(tmp_path, rate):
    count = round(3 * rate)
    pictures = [counter(number) for number in range(count)]
    path = write_movie(tmp_path / "a.mp4", pictures, rate, options={"crf": "12"})
    shown = [number_of(step.frame) for step in read_steps(path)]
    assert shown[:3] == [int(second * rate + 1e-6) for second in range(3)]


def test_avi_with_reordered_pictures_shows_all_of_them_in_order(tmp_path):
    """AVI stores no times of display; the stamps that FFmpeg guesses run back."""
    for bframes in (2, 8):
        path = tmp_path / f"{bframes}.avi"
        options = {"bf": str(bframes), "b-pyramid": "normal", "crf": "12"}
        write_movie(path, COUNTING, options=options)
        frames = list(read_frames(path))
        assert [number_of(frame.rgb) for frame in frames] == list(range(75))
        np.testing.assert_allclose([frame.time for frame in frames], np.arange(75) / 25, atol=1e-6)
        assert [frame.index for frame in frames] == list(range(75))
        assert [number_of(step.frame) for step in read_steps(path)] == [0, 25, 50]


MATRICES = {  # of a track header (ISO 14496-12): (a, b, c, d); and what a player makes of it
    "as it is": ((1, 0, 0, 1), lambda rgb: rgb),
    "turned right": ((0, 1, -1, 0), lambda rgb: np.rot90(rgb, -1)),
    "turned over": ((-1, 0, 0, -1), lambda rgb: np.rot90(rgb, 2)),
    "turned left": ((0, -1, 1, 0), np.rot90),
    "mirrored": ((-1, 0, 0, 1), np.fliplr),
    "upside down": ((1, 0, 0, -1), np.flipud),
    "transposed": ((0, 1, 1, 0), lambda rgb: rgb.swapaxes(0, 1)),
    "transversed": ((0, -1, -1, 0), lambda rgb: np.rot90(rgb, 2).swapaxes(0, 1)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_each_display_matrix_is_shown_as_a_player_does(tmp_path, name):
    matrix, displayed = MATRICES[name]
    picture = patches((96, 64))
    path = set_matrix(write_movie(tmp_path / "a.mp4", [picture] * 3), matrix)
    expected = displayed(picture)
    assert probe_video(path).size == expected.shape[1::-1]
    frame = next(read_frames(path))
    assert frame.rgb.shape == expected.shape
    np.testing.assert_allclose(patches_of(frame.rgb), patches_of(expected), atol=6)


@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(16, 11), Fraction(1, 2)])
def test_pixels_that_are_not_square(tmp_path, aspect):
    picture = patches((96, 64))
    path = write_movie(tmp_path / "a.mp4", [picture] * 3, aspect=aspect)
    (step,) = read_steps(path)
    assert step.frame.shape == (64, round(96 * aspect), 3)
    np.testing.assert_allclose(patches_of(step.frame), patches_of(picture), atol=6)


COLOURS = {  # size, matrix of the pixels, tags
    "SD without tags is BT.601": ((96, 64), "ITU601", {}),
    "576 lines without tags are BT.601": ((720, 576), "ITU601", {}),
    "720 lines without tags are BT.709": ((1280, 720), "ITU709", {}),
    "an upright telephone's, without tags, is BT.709": ((720, 1280), "ITU709", {}),
    "tagged BT.709": ((96, 64), "ITU709", {"colorspace": 1}),
    "tagged BT.601": ((1280, 720), "ITU601", {"colorspace": 6}),
    "tagged BT.2020": ((96, 64), "BT2020", {"colorspace": 9}),
    "full range": ((96, 64), "ITU601", {"color_range": 2}),
    "full range of BT.709": ((1280, 720), "ITU709", {"color_range": 2, "colorspace": 1}),
}


@pytest.mark.parametrize("name", COLOURS)
def test_colours_are_those_of_the_source(tmp_path, name):
    size, matrix, tags = COLOURS[name]
    path = write_movie(tmp_path / "a.mp4", [patches(size)] * 2, matrix=matrix, tags=tags)
    frame = next(read_frames(path))
    np.testing.assert_allclose(patches_of(frame.rgb), patches_of(patches(size)), atol=5)


# Grey codes of PQ (1 to 1000 cd/m2) and of HLG, and what FFmpeg 8's scaler (swscale, relative
# colorimetric) makes of them, where it does not clip at white.
HDR = {
    16: ([0.150, 0.246, 0.358, 0.440, 0.508, 0.581, 0.652, 0.752], [28, 55, 97, 143, 191]),
    18: ([0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0], [29, 72, 115, 144, 178]),
}


@pytest.mark.parametrize("transfer", HDR)
def test_hdr_is_tone_mapped(tmp_path, transfer):
    codes, expected = HDR[transfer]
    grey = np.repeat(255 * np.array(codes), 16).round().astype(np.uint8)
    picture = np.broadcast_to(grey[None, :, None], (64, 128, 3)).copy()
    tags = {"colorspace": 9, "color_trc": transfer, "color_primaries": 9}
    path = write_movie(
        tmp_path / "a.mp4",
        [picture] * 2,
        pix_fmt="yuv420p10le",
        matrix="BT2020",
        tags=tags,
        options={"crf": "4"},
    )
    shown = next(read_frames(path)).rgb[32, 8::16].astype(int)
    np.testing.assert_allclose(shown[: len(expected), 1], expected, atol=4)
    assert (np.diff(shown[:, 1]) > 0).all()  # highlights are bent, not cut
    assert np.ptp(shown, axis=1).max() <= 2  # grey stays grey


def woven(number: int, fields: str) -> np.ndarray:
    """Picture `number` of a bar that moves by 4 pixels from field to field."""
    early, late = (np.full((96, 128, 3), 40, np.uint8) for _ in range(2))
    for place, field in ((8 * number, early), (8 * number + 4, late)):
        field[:, 8 + place : 32 + place] = 220
    early[fields == "tff" :: 2] = late[fields == "tff" :: 2]
    return early


@pytest.mark.parametrize("fields", ["tff", "bff"])
@pytest.mark.parametrize(("codec", "name"), [("libx264", "a.mp4"), ("mpeg2video", "a.ts")])
def test_interlaced_pictures_are_whole(tmp_path, codec, name, fields):
    pictures = [woven(number, fields) for number in range(10)]
    options = {"flags": "+ildct+ilme", "b": "8M"}
    path = write_movie(tmp_path / name, pictures, codec=codec, fields=fields, options=options)
    frames = list(read_frames(path))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(10) / 25, atol=1e-3)
    for number, frame in enumerate(frames[1:-1], start=1):
        bright = frame.rgb[20:76, :, 0] > 130
        edges = np.argwhere(np.diff(bright, axis=1))[:, 1].reshape(-1, 2)
        np.testing.assert_allclose(edges, [[7 + 8 * number, 31 + 8 * number]] * 56, atol=1)


@pytest.mark.parametrize("seconds", [-1.28, 0.5, -0.5, 20.0])
def test_one_picture_out_of_time_moves_no_other(tmp_path, seconds):
    options = {"bf": "0", "crf": "12"}
    path = write_movie(tmp_path / "a.ts", COUNTING, sound=beeps(3), options=options)
    frames = list(read_frames(shift_picture(path, 40, seconds)))
    times = {number_of(frame.rgb): frame.time for frame in frames}
    assert [frame.index for frame in frames] == [number_of(frame.rgb) for frame in frames]
    expected = {number: number / 25 for number in range(75)}
    late = expected.pop(40)  # where it stands itself is open
    assert {number: times[number] for number in expected} == pytest.approx(expected, abs=1e-3)
    assert times.get(40, late) == pytest.approx(late, abs=0.04)


def test_lost_packets_move_no_picture(tmp_path):
    packets = []

    def lose(packet):
        packets.append(packet.stream.type == "video")
        return None if packets[-1] and 20 <= sum(packets) < 24 else packet

    options = {"bf": "3", "g": "250", "crf": "12"}
    path = write_movie(tmp_path / "a.ts", COUNTING, sound=beeps(3), options=options, mux=lose)
    last = list(read_frames(path))[-1]
    assert (number_of(last.rgb), round(last.time, 2)) == (74, 2.96)
    steps = list(read_steps(path))
    assert number_of(steps[2].frame) == 50
    assert [beep_of(step.audio[2000:14000]) for step in steps] == [0, 1, 2]
