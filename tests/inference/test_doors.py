"""The same file through every door: the steps, the pipeline, `refavs segment`, `refavs live` and
the page's work give the model the same pictures and the same sound."""

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from modeling_refavs import video_refavs
from modeling_refavs.cli import main
from modeling_refavs.inference import loading
from modeling_refavs.inference.live import LiveInput, LiveSource
from modeling_refavs.pipeline_refavs import RefAVSPipeline
from modeling_refavs.video_refavs import read_steps
from tests.media_kit import (
    beep_of,
    beeps,
    counter,
    number_of,
    patches,
    patches_of,
    set_matrix,
    write_movie,
)
from tests.spaces_demo.conftest import FOLDER


DOORS = ["steps", "pipeline", "segment", "live", "page"]
COUNTING = [counter(number) for number in range(75)]
SENTENCE = "the red circle"


class Witness:
    """A processor that keeps the pictures and the sound of each second that it is shown."""

    def __init__(self, processor):
        self.processor, self.seconds = processor, []

    def __getattr__(self, name):
        return getattr(self.processor, name)

    def resize_frames(self, frames):
        return frames  # as they are read

    def __call__(self, frames=None, audio=None, **inputs):
        clips = frames if frames and isinstance(frames[0], list) else [frames or []]
        sounds = audio if isinstance(audio, list) else [audio]
        for clip, sound in zip(clips, sounds, strict=True):
            for second, frame in enumerate(clip):
                heard = None if sound is None else sound[16000 * second : 16000 * (second + 1)]
                self.seconds.append((frame, heard))
        return self.processor(frames=frames, audio=audio, **inputs)


@pytest.fixture(autouse=True)
def warn_again():
    video_refavs.warn_once.cache_clear()


@pytest.fixture
def through(model, processor, monkeypatch, tmp_path):
    """What the model is given of a file: (picture, sound) of each second."""

    def take(door, source):
        witness = Witness(processor)
        monkeypatch.setattr(loading, "load_model", lambda *_: (model, witness))
        if door == "steps":
            return [(step.frame, step.audio) for step in read_steps(source)]
        if door == "pipeline":
            pipe = RefAVSPipeline(model=model, processor=witness)
            pipe(source if isinstance(source, bytes) else str(source), text=SENTENCE)
        if door == "segment":
            output = tmp_path / "out.mp4"
            arguments = ["--model", "m", "--mode", "matte", "--output", str(output)]
            assert main(["segment", str(source), SENTENCE, *arguments]) == 0
        if door == "live":
            seconds = live_seconds(source)
            return [(second.frame.rgb, (second.sounds or [[None]])[0][0]) for second in seconds]
        if door == "page":
            monkeypatch.syspath_prepend(FOLDER)
            from limits import Limits
            from work import work

            (tmp_path / "page").mkdir(exist_ok=True)
            asked = {"video": str(source), "expressions": [SENTENCE]}
            request = {**asked, "kind": "segment", "folder": tmp_path / "page"}
            work(model, witness, request, Limits(), lambda *_: None)
        return witness.seconds

    return take


def live_seconds(source):
    live, seconds = LiveSource(LiveInput(str(source)), speed=20), []
    while taken := live.take():
        seconds += taken
    return seconds


def numbers_and_beeps(seconds):
    """Of the middle of each second, since a live source may end a little early."""
    return [
        (number_of(picture), None if sound is None else beep_of(sound[2000:14000]))
        for picture, sound in seconds
    ]


def copy_tracks(path, sources, defaults):
    """The first tracks of several files in one, those in `defaults` flagged as the default."""
    inputs = [av.open(str(source)) for source in sources]
    with av.open(str(path), "w") as output:
        pairs = [(file, track) for file in inputs for track in file.streams]
        copies = {pair: output.add_stream_from_template(pair[1]) for pair in pairs}
        for number, copy in enumerate(copies.values()):
            copy.disposition = 1 if number in defaults else 0
        packets = [(file, packet) for file in inputs for packet in file.demux() if packet.size]
        for file, packet in sorted(packets, key=lambda pair: pair[1].dts * pair[1].time_base):
            packet.stream = copies[file, packet.stream]
            output.mux(packet)
    for file in inputs:
        file.close()
    return path


SHARP = {"crf": "12"}


@pytest.mark.parametrize("door", DOORS)
def test_the_default_tracks_are_taken(tmp_path, through, door):
    backward = [counter(200 - number) for number in range(75)]
    other = write_movie(tmp_path / "a.mp4", backward, sound=beeps(3)[:, ::-1], options=SHARP)
    usual = write_movie(tmp_path / "b.mp4", COUNTING, sound=beeps(3), options=SHARP)
    path = copy_tracks(tmp_path / "both.mkv", [other, usual], defaults=(2, 3))
    assert numbers_and_beeps(through(door, path)) == [(0, 0), (25, 1), (50, 2)]


@pytest.mark.parametrize("door", DOORS)
def test_a_thumbnail_track_before_the_video_is_not_the_video(tmp_path, through, door):
    thumbnail = write_movie(tmp_path / "a.mp4", [counter(99, (64, 48))], 1, "mjpeg", "yuvj420p")
    usual = write_movie(tmp_path / "b.mp4", COUNTING, sound=beeps(3), options=SHARP)
    path = copy_tracks(tmp_path / "both.mp4", [thumbnail, usual], defaults=(0, 1, 2))
    assert numbers_and_beeps(through(door, path)) == [(0, 0), (25, 1), (50, 2)]


@pytest.mark.parametrize("door", DOORS)
def test_a_turned_mirrored_anamorphic_video(tmp_path, through, door):
    picture = patches((96, 64))
    path = write_movie(tmp_path / "a.mp4", [picture] * 50, aspect=Fraction(4, 3), options=SHARP)
    seconds = through(door, set_matrix(path, (0, 1, 1, 0)))
    assert [shown.shape for shown, _ in seconds] == [(128, 64, 3)] * 2
    expected = patches_of(picture.swapaxes(0, 1))
    np.testing.assert_allclose(patches_of(seconds[1][0]), expected, atol=6)


def write_with_hole(path, sound_codec="aac"):
    """Sound of 6 s, of which 1.5 s are missing from 2 s on."""
    pictures = [counter(number) for number in range(150)]

    def lose(packet):
        hidden = 2.0 <= float(packet.pts * packet.time_base) < 3.5
        return None if packet.stream.type == "audio" and hidden else packet

    sound = beeps(6, 48000)
    return write_movie(
        path,
        pictures,
        sound=sound,
        sound_codec=sound_codec,
        sound_rate=48000,
        mux=lose,
        options=SHARP,
    )


@pytest.mark.parametrize(
    ("door", "name"),
    [*((door, "a.mkv") for door in DOORS), ("pipeline", "a.ts"), ("live", "a.mp4")],
)
def test_a_hole_in_the_sound_is_silence(tmp_path, through, door, name):
    heard = [sound for _, sound in through(door, write_with_hole(tmp_path / name))]
    assert [beep_of(sound[2000:14000]) for sound in heard[:2] + heard[4:]] == [0, 1, 4, 5]
    assert beep_of(heard[2][2000:14000]) is None
    assert beep_of(heard[3][2000:6000]) is None
    assert beep_of(heard[3][10000:14000]) == 3


@pytest.mark.parametrize("door", [door for door in DOORS if door not in ("page", "live")])
@pytest.mark.parametrize("kind", ["path", "bytes"])
@pytest.mark.parametrize(("name", "options"), [("a.ts", {}), ("a.mp4", {"movflags": "+faststart"})])
def test_a_file_cut_short_gives_what_is_there(tmp_path, through, door, kind, name, options, caplog):
    pictures = [counter(number) for number in range(250)]
    whole = write_movie(tmp_path / name, pictures, sound=beeps(10), options=SHARP, **options)
    data = whole.read_bytes()
    cut = data[: len(data) * 6 // 10]
    path = tmp_path / f"cut{whole.suffix}"
    path.write_bytes(cut)
    if kind == "bytes" and door == "segment":
        pytest.skip("a command takes files")
    seconds = numbers_and_beeps(through(door, cut if kind == "bytes" else path))
    assert 4 <= len(seconds) <= 8
    assert seconds[:4] == [(0, 0), (25, 1), (50, 2), (75, 3)]
    if name == "a.mp4":
        assert "of the 10.0 s that the file declares" in caplog.text


def test_an_animated_avif_is_a_video(tmp_path, through):
    frames = [Image.fromarray(counter(number)) for number in (0, 25, 50)]
    path = tmp_path / "a.avif"
    try:
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=1000, quality=95)
    except (OSError, KeyError):
        pytest.skip("Pillow writes no AVIF here")
    for door in ("steps", "pipeline", "segment"):
        assert [number_of(picture) for picture, _ in through(door, path)] == [0, 25, 50]
