"""A file from a stranger that breaks each limit, and the words that it meets."""

import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from limits import LimitError, Limits, check_sentences, check_video
from PIL import Image

from modeling_refavs import video_refavs
from modeling_refavs.inference.live import LiveInput
from tests.media_kit import tone


SMALL = Limits(width=64, height=48, seconds=3.0, num_pictures=30, num_bytes=200_000)


def write_bomb(path: Path, side: int = 16_000) -> Path:
    """31 kB that become 32 MB, or 768 MB as RGB: one black PNG in a video container."""
    picture = io.BytesIO()
    Image.new("1", (side, side)).save(picture, "PNG")
    with av.open(str(path), "w") as container:
        video = container.add_stream("png", rate=1)
        video.width = video.height = side
        video.pix_fmt = "monob"
        packet = av.Packet(picture.getvalue())
        packet.stream, packet.pts, packet.dts, packet.time_base = video, 0, 0, Fraction(1)
        container.mux(packet)
    return path


def write_sound(path: Path, seconds: float = 1.0) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(seconds), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16_000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def refusal(path: Path, limits: Limits = SMALL) -> LimitError:
    with pytest.raises(LimitError) as refused:
        check_video(path, limits)
    assert str(refused.value).count("\n") == 0
    return refused.value


def test_what_keeps_the_limits_is_told_of(write_clip):
    info = check_video(write_clip(sound=[(0.0, tone(3))]), SMALL)
    assert (info.size, info.has_audio) == ((64, 48), True)
    assert check_video(write_clip("silent.mp4"), SMALL).has_audio is False


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"num_bytes": 1_000}, "size", "MB"),
        ({"width": 40}, "pixels", "64x48 pixels; at most 40x48"),
        ({"seconds": 1.0}, "length", "lasts 3 s; at most 1 s"),
        ({"num_pictures": 29}, "pictures", "more than 29 pictures"),
        ({"containers": ("avi",)}, "format", "MP4"),
    ],
)
def test_each_limit_alone_refuses(write_clip, change, kind, words):
    error = refusal(write_clip(), replace(SMALL, **change))
    assert error.kind == kind
    assert words in str(error)


def test_a_decoder_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(video_refavs, "MAX_PICTURE_PIXELS", SMALL.num_pixels)
    for name in ("bomb.mov", "bomb.avi"):
        path = write_bomb(tmp_path / name)
        assert path.stat().st_size < 50_000
        assert refusal(path).kind == "damaged"


def test_no_picture_above_the_bound_is_decoded_anywhere_in_the_package(tmp_path):
    with pytest.raises(ValueError, match="not one frame could be decoded"):
        video_refavs.probe_video(write_bomb(tmp_path / "bomb.mov", side=12_000))
    assert video_refavs.probe_video(write_bomb(tmp_path / "small.mov", side=120)).size == (120, 120)


def test_pictures_that_grow_on_display(write_clip):
    assert refusal(write_clip(aspect=Fraction(16))).kind == "pixels"


def test_sound_that_goes_on_after_the_pictures(write_clip):
    assert (
        refusal(write_clip(sound=[(0.0, tone(20))]), replace(SMALL, num_bytes=10**7)).kind
        == "length"
    )


def test_a_sound_file_is_no_video(tmp_path):
    assert refusal(write_sound(tmp_path / "song.m4a")).kind == "sound_only"


def test_a_broken_file(write_clip, tmp_path):
    whole = write_clip("whole.mp4").read_bytes()
    for name, data in {
        "text.mp4": b"Dear diary",
        "cut.mp4": whole[: len(whole) // 2],
        "empty.mp4": b"",
    }.items():
        (tmp_path / name).write_bytes(data)
        assert refusal(tmp_path / name).kind == "format", name
    body = bytearray(whole)
    begin = body.index(b"mdat") + 4
    body[begin : begin + 2000] = bytes(2000)
    (tmp_path / "zeros.mp4").write_bytes(body)
    with pytest.raises(LimitError):
        check_video(tmp_path / "zeros.mp4", replace(SMALL, num_pictures=10_000))


@pytest.mark.parametrize("name", ["list.mp4", "list.mkv", "list.m3u8", "list.ffconcat"])
def test_a_list_opens_no_other_file(write_clip, tmp_path, name):
    """FFmpeg would follow it."""
    secret = write_clip("secret.mp4")
    for text in (
        f"ffconcat version 1.0\nfile {secret.name}\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        f"\n#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nfile://{secret}\n#EXT-X-ENDLIST\n",
    ):
        (tmp_path / name).write_text(text)
        assert refusal(tmp_path / name).kind == "format"
        for source in (tmp_path / name, text.encode()):
            words = "not a media file" if text[0] == "\n" else "names other files"
            with pytest.raises(ValueError, match=words):
                video_refavs.probe_video(source)
        with pytest.raises(ValueError, match=words):
            LiveInput(str(tmp_path / name)).open()


@pytest.mark.parametrize(
    ("sentences", "kind"),
    [(["", "  "], "no_sentence"), (["a dog"] * 6, "too_many"), (["a dog", "x" * 201], "too_long")],
)
def test_sentences_have_limits(sentences, kind):
    with pytest.raises(LimitError) as refused:
        check_sentences(sentences, Limits())
    assert refused.value.kind == kind


def test_sentences_lose_what_is_empty():
    assert check_sentences([" the cat ", "", "the drum"], Limits()) == ["the cat", "the drum"]


def test_a_recording_that_declares_no_length_is_counted(write_clip):
    """As browsers record."""
    data = write_clip("clip.mkv").read_bytes()
    stream = write_clip("recorded.mkv")
    with av.open(str(stream)) as container:
        assert container.duration
    number = data.index(b"\x44\x89")  # Matroska's Duration: its name becomes one that is skipped
    stream.write_bytes(data[:number] + b"\xec" + bytes([0x80 | 9]) + data[number + 2 + 9 - 8 :])
    assert np.isclose(refusal(stream, replace(SMALL, seconds=1.0)).facts["most"], 1)
