"""Sound of any layout, codec and value: mixed as FFmpeg mixes it, or refused in one line."""

import numpy as np
import pytest

from modeling_refavs.inference.live import Waveform
from modeling_refavs.video_refavs import probe_video, read_sound, read_steps, read_wav
from tests.media_kit import (
    beep_of,
    beeps,
    counter,
    sound_frame,
    tone,
    write_movie,
    write_sound,
)


SIDE = 0.5**0.5  # -3 dB
LAYOUTS = {  # how loud each channel is on the left, in the order of the file (ITU-R BS.775)
    "mono": (1,),
    "stereo": (1, 0),
    "2.1": (1, 0, 0),
    "3.0": (1, 0, SIDE),
    "4.0": (1, 0, SIDE, 0.5),
    "quad": (1, 0, SIDE, 0),
    "5.0": (1, 0, SIDE, SIDE, 0),
    "5.1": (1, 0, SIDE, 0, SIDE, 0),
    "5.1(side)": (1, 0, SIDE, 0, SIDE, 0),
    "6.1": (1, 0, SIDE, 0, 0.5, SIDE, 0),
    "7.1": (1, 0, SIDE, 0, SIDE, 0, SIDE, 0),
    "7.1(wide)": (1, 0, SIDE, 0, SIDE, 0, 1, 0),
    "9 channels": (1 / 9,) * 9,
    "5.1.4": (1, 0, SIDE, 0, SIDE, 0, SIDE, 0, 0, 0),
    "11 channels": (1 / 11,) * 11,
    "7.1.4": (1, 0, SIDE, 0, SIDE, 0, SIDE, 0, SIDE, 0, 0, 0),
    "13 channels": (1 / 13,) * 13,
    "14 channels": (1, 0, SIDE, 0, SIDE, 0, 1, 0, SIDE, 0, SIDE, 0, 0, 0),
    "15 channels": (1 / 15,) * 15,
    "16 channels": (1, 0, SIDE, 0, SIDE, 0, 1, 0, SIDE, 0, SIDE, 0, 0, 0, 0, 0),
}
TURN = 400  # samples


def one_after_the_other(num_channels: int) -> np.ndarray:
    """`(channels, samples)`: channel k alone sounds in turn k."""
    return 0.5 * np.eye(num_channels, dtype=np.float32).repeat(TURN, axis=1)


def loudness(heard: np.ndarray) -> np.ndarray:
    """Of each turn, at its middle."""
    return 2 * heard[TURN // 2 :: TURN]


def read_all(path, layout):
    return np.concatenate(list(read_sound(path, 16000, layout)), axis=1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_mixed_as_ffmpeg_mixes_it(tmp_path, layout):
    left = np.array(LAYOUTS[layout])
    samples = one_after_the_other(len(left))
    path = write_sound(tmp_path / "sound.wav", samples, "pcm_f32le", layout)
    stereo, mono = read_all(path, "stereo"), read_all(path, "mono")
    np.testing.assert_allclose(loudness(stereo[0]), left, atol=1e-3)
    np.testing.assert_allclose(mono[0], stereo.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(read_wav(path.read_bytes()).mean(axis=0), mono[0], atol=1e-6)
    for name, expected in {"stereo": stereo, "mono": mono}.items():
        waveform = Waveform(16000, name)
        waveform.push(sound_frame(samples, layout=layout), 0.0)
        np.testing.assert_allclose(waveform.take(10**6), expected, atol=1e-6)


@pytest.mark.parametrize("num_channels", range(1, 17))
def test_planar_sound_of_many_channels_is_read(tmp_path, num_channels):
    """Of eight and more PyAV counts the planes wrongly."""
    samples = one_after_the_other(num_channels)
    layout = f"{num_channels} channels"
    packed = write_sound(tmp_path / "packed.wav", samples, "pcm_s16le", layout)
    planar = write_sound(tmp_path / "planar.wv", samples, "wavpack", layout)
    np.testing.assert_allclose(read_all(planar, "mono"), read_all(packed, "mono"), atol=1e-3)


@pytest.mark.parametrize("codec", ["aac", "flac", "pcm_f32le"])
def test_a_video_with_sound_of_eight_channels(write_clip, codec):
    sound = [(0.0, tone(3, 48000, channels=8, loudness=0.1))]
    path = write_clip("a.mkv", sound=sound, rate=48000, sound_codec=codec, layout="7.1")
    heard = np.concatenate([step.audio for step in read_steps(path)])
    expected = 0.1 * (1 + 3 * SIDE)  # front, and centre, side and back at -3 dB
    assert np.abs(heard[2000:-2000]).max() == pytest.approx(expected, abs=0.02)


def test_a_voice_in_the_centre_is_as_loud_as_in_stereo(tmp_path):
    voice = tone(1)
    centre = np.concatenate([voice * (channel == 2) for channel in range(6)])
    surround = write_sound(tmp_path / "5.1.wav", centre, "pcm_f32le", "5.1")
    stereo = np.concatenate([voice * SIDE] * 2)
    stereo = write_sound(tmp_path / "stereo.wav", stereo, "pcm_f32le", "stereo")
    for layout in ("mono", "stereo"):
        np.testing.assert_allclose(read_all(surround, layout), read_all(stereo, layout), atol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
def test_samples_that_are_no_sound_are_refused_by_the_files_name(write_clip, value):
    sound = tone(3)
    sound[0, 20_000] = value
    path = write_clip("loud.mkv", sound=[(0.0, sound)], sound_codec="pcm_f32le")
    with pytest.raises(ValueError, match=r"loud\.mkv: its sound holds samples of") as error:
        list(read_steps(path))
    assert "\n" not in str(error.value)
    waveform = Waveform(16000, "mono")
    waveform.push(sound_frame(sound), 0.0)  # a live source goes on
    assert np.isfinite(waveform.take(48_000)).all()


def write_stamped(path, stamp):
    """Six seconds, the packets of sound stamped anew: `stamp` takes and gives s."""

    def mux(packet):
        if packet.stream.type == "audio":
            time = stamp(float(packet.pts * packet.time_base))
            packet.pts = packet.dts = round(time / packet.time_base)
        return packet

    pictures = [counter(number) for number in range(150)]
    return write_movie(path, pictures, sound=beeps(6), sound_codec="pcm_s16le", mux=mux)


@pytest.mark.parametrize(
    "stamp",
    [lambda time: time * 1.05, lambda time: time * 0.96, lambda time: time + 0.7],
    ids=["a slow clock", "a fast clock", "a late start"],
)
def test_the_stamps_decide_where_sound_stands(tmp_path, stamp):
    path = write_stamped(tmp_path / "a.mkv", stamp)
    heard = np.concatenate([step.audio for step in read_steps(path)])
    for second in range(5):
        begin = round((stamp(second + 0.25) + 0.1) * 16000)
        assert beep_of(heard[begin : begin + 4000]) == second


@pytest.mark.parametrize("flags", ["frag_keyframe+empty_moov", "frag_every_frame", ""])
def test_sound_that_starts_below_zero_and_fragments(tmp_path, flags):
    """An encoder's delay is written as time before zero."""
    pictures = [counter(number) for number in range(75)]
    path = write_movie(tmp_path / "a.mp4", pictures, sound=beeps(3), movflags=flags)
    steps = list(read_steps(path))
    assert [beep_of(step.audio[500:15500]) for step in steps[:3]] == [0, 1, 2]


def test_integers_that_were_never_scaled_are_loud_but_read(write_clip):
    path = write_clip("loud.mkv", sound=[(0.0, 32768 * tone(3))], sound_codec="pcm_f32le")
    assert max(np.abs(step.audio).max() for step in read_steps(path)) > 10_000


def test_sound_of_an_unknown_codec_is_left_out_with_a_warning(write_clip, caplog):
    path = write_clip("a.mkv", sound=[(0.0, tone(3))])
    path.write_bytes(path.read_bytes().replace(b"A_PCM/INT/LIT", b"A_XYZ/INT/LIT"))
    assert not probe_video(path).has_audio
    assert [step.audio for step in read_steps(path)] == [None] * 3
    assert "cannot decode" in caplog.text


def test_a_layout_is_mono_or_stereo(tmp_path):
    path = write_sound(tmp_path / "a.wav", tone(1), "pcm_f32le", "mono")
    with pytest.raises(ValueError, match=r"'mono', 'stereo' or None, got '5\.1'"):
        next(read_sound(path, 16000, "5.1"))
