"""A file played as a stream, a pipe, a slow model: every second is answered or said to be
dropped."""

import json
import os
import threading
import time
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from modeling_refavs.cli import main
from modeling_refavs.inference import live, loading
from modeling_refavs.inference.live import (
    LiveAnswer,
    LiveInput,
    LiveSource,
    Waveform,
    box_of,
    follow,
)
from modeling_refavs.inference.segment import segment_video
from modeling_refavs.modeling_outputs_refavs import RefAVSStreamOutput
from modeling_refavs.streaming_refavs import RefAVSStream
from modeling_refavs.video_refavs import read_frames, read_sound, read_steps
from modeling_refavs.visualization.render import Recorder
from tests.conftest import SENTENCES
from tests.media_kit import tone


class Slow:
    """A model that takes its time."""

    def __init__(self, model, seconds):
        self.model, self.seconds = model, seconds

    def __getattr__(self, name):
        return getattr(self.model, name)

    def __call__(self, **inputs):
        time.sleep(self.seconds)
        return self.model(**inputs)


@pytest.fixture
def video(write_clip):
    """6 s; the sound begins at 0.5 s and ends at 4.5 s."""
    return write_clip(
        "clip.ts",
        times=tuple(np.arange(60) / 10),
        end=6.0,
        sound=[(0.5, tone(4, channels=2))],
        sound_codec="mp2",
    )


def drain(source):
    seconds = []
    while taken := source.take():
        seconds += taken
    return seconds


@pytest.fixture
def in_a_hurry(monkeypatch):
    """Files are played faster than they should."""
    monkeypatch.setattr(
        live, "LiveSource", lambda *args, **kwargs: LiveSource(*args, **kwargs, speed=10)
    )


def test_a_played_file_has_the_seconds_of_the_file(video):
    begin = time.monotonic()
    seconds = drain(LiveSource(LiveInput(str(video)), speed=20))
    assert time.monotonic() - begin > 0.25  # 6 s at 20 times their pace
    steps = list(read_steps(video))
    assert [second.number for second in seconds] == list(range(6))
    for second, step in zip(seconds, steps, strict=True):
        np.testing.assert_array_equal(second.frame.rgb, step.frame)
        (sound,) = second.sounds
        np.testing.assert_allclose(sound[0], step.audio[: sound.shape[1]], atol=1e-3)
        assert sound.shape[1] == pytest.approx(len(step.audio), abs=1600)


def test_a_picture_that_stays_is_of_each_second_it_stays(write_clip):
    path = write_clip(times=(0, 0.1, 0.9, 1.05, 3.5, 3.6), end=5.2)
    shown = [second.frame.rgb for second in drain(LiveSource(LiveInput(str(path)), speed=20))]
    np.testing.assert_array_equal(shown, [step.frame for step in read_steps(path)][: len(shown)])
    assert len(shown) == 4  # how long the last picture stays, a live source does not tell


@pytest.mark.parametrize("sound", [True, False])
def test_a_picture_that_stays_is_answered_as_time_goes_on(write_clip, tmp_path, sound):
    """A slide show: variable rates store pictures only when something changes."""
    hum = [(begin / 4, tone(0.25)) for begin in range(48)] if sound else []
    path = write_clip("a.mkv", times=(0.0, 0.1, 9.7, 9.8), end=12.0, sound=hum)
    waveforms = [(16000, "mono"), (48000, "stereo")]
    source = LiveSource(LiveInput(str(path)), None, waveforms, keep_pictures=True, speed=4)
    output = RefAVSStreamOutput(
        0, ("all",), np.ones((1, 48, 64), bool), np.ones(1), np.ones(1), torch.ones(1, 2, 2)
    )
    answers = list(follow(source, SimpleNamespace(step=lambda *_: output)))
    assert [answer.second.number for answer in answers] == list(range(10))
    assert not any(answer.dropped for answer in answers)
    with Recorder(tmp_path / "out.mp4", source) as recorder:
        for answer in answers:
            recorder.record(answer)
    times = [frame.time for frame in read_frames(tmp_path / "out.mp4")]
    assert max(np.diff(times)) < 1.1


def test_a_live_source_gets_the_answers_of_the_file(video, model, processor, monkeypatch):
    monkeypatch.setattr(live, "PATIENCE", 100)  # nothing is dropped, however busy the machine
    stream = RefAVSStream(model, processor, SENTENCES[:2])
    answers = list(follow(LiveSource(LiveInput(str(video)), speed=4), stream))
    expected = segment_video(model, processor, video, SENTENCES[:2])
    assert [answer.second.number for answer in answers] == list(range(6))
    logits = torch.stack([answer.output.mask_logits for answer in answers], dim=1)
    torch.testing.assert_close(logits, expected.mask_logits, rtol=5e-3, atol=5e-3)


def test_a_slow_model_drops_seconds_and_says_so(video, model, processor):
    stream = RefAVSStream(Slow(model, 0.6), processor, SENTENCES[:1])
    answers = list(follow(LiveSource(LiveInput(str(video)), speed=6), stream))
    dropped = [second.number for answer in answers for second in answer.dropped]
    seen = [answer.second.number for answer in answers]
    assert sorted(seen + dropped) == list(range(6))
    assert dropped
    assert stream.num_steps == len(seen) < 6
    assert max(answer.delay for answer in answers) > 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_read_as_it_comes(video, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = video.read_bytes()

    def write():
        with pipe.open("wb") as file:
            for begin in range(0, len(data), 4096):
                file.write(data[begin : begin + 4096])

    threading.Thread(target=write, daemon=True).start()
    seconds = drain(LiveSource(LiveInput(str(pipe), "mpegts"), keep_pictures=True))
    assert [second.number for second in seconds] == list(range(6))
    assert [len(second.pictures) for second in seconds] == [10] * 6


def test_sound_from_elsewhere(write_clip):
    pictures, sound = write_clip("a.mkv"), write_clip("b.mkv", sound=[(0.0, tone(3))])
    seconds = drain(LiveSource(LiveInput(str(pictures)), LiveInput(str(sound)), speed=4))
    assert [second.number for second in seconds] == [0, 1, 2]
    assert seconds[1].sounds[0].shape[1] == 16000
    assert np.abs(seconds[1].sounds[0]).max() > 0.4


@pytest.mark.parametrize(
    ("late", "expected"), [(0.0, 2.0), (0.02, 2.0), (0.5, 2.5), (-0.5, 1.5), (99.0, 2.0)]
)
def test_sound_stands_where_its_time_stamp_puts_it(late, expected):
    waveform = Waveform(16000, "mono")
    for second in range(2):
        frame = av.AudioFrame.from_ndarray(tone(1, channels=2), format="fltp", layout="stereo")
        frame.sample_rate = 16000
        waveform.push(frame, second * (1 + late))
    assert waveform.end == round(expected * 16000)
    assert waveform.take(8000).shape == (1, 8000)
    assert waveform.take(8000).shape == (1, 0)
    assert waveform.take(99_000).shape == (1, round(expected * 16000) - 8000)


def test_the_command(video, model, processor, in_a_hurry, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loading, "load_model", lambda name, device, dtype: (model, processor))
    output = tmp_path / "out.mp4"
    assert main(["live", str(video), *SENTENCES[:2], "--model", "m", "--output", str(output)]) == 0
    printed, told = capsys.readouterr()
    lines = [json.loads(line) for line in printed.splitlines()]
    assert sum(1 + line["dropped"] for line in lines) == 6
    assert {"second", "dropped", "delay", "expressions"} == set(lines[0])
    assert [entry["text"] for entry in lines[0]["expressions"]] == SENTENCES[:2]
    assert "s answered" in told
    recorded = list(read_frames(output))
    assert len(recorded) == 60
    np.testing.assert_allclose([frame.time for frame in recorded], np.arange(60) / 10, atol=2e-3)
    heard = np.concatenate(list(read_sound(output, 16000, "mono")), axis=1)[0]
    assert np.abs(heard[:7000]).max() < 0.05
    assert np.abs(heard[9000:70000]).max() > 0.3


def test_lost_seconds_are_silent_in_the_recording(video, tmp_path):
    seconds = drain(
        LiveSource(
            LiveInput(str(video)), None, [(16000, "mono"), (48000, "stereo")], True, speed=20
        )
    )
    output = RefAVSStreamOutput(
        0, ("all",), np.ones((1, 48, 64), bool), np.ones(1), np.ones(1), torch.ones(1, 2, 2)
    )
    source = SimpleNamespace(has_sound=True, frame_rate=10.0)
    with Recorder(tmp_path / "out.mp4", source) as recorder:
        for number in (1, 3):
            recorder.record(LiveAnswer(seconds[number], output, [], 0.0))
    heard = np.concatenate(list(read_sound(tmp_path / "out.mp4", 16000, "mono")), axis=1)[0]
    loud = [
        bool(np.abs(heard[begin + 2000 : begin + 14000]).max() > 0.3)
        for begin in range(0, 64000, 16000)
    ]
    assert loud == [False, True, False, True]


def test_it_stops_when_told(video, model, processor, in_a_hurry, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loading, "load_model", lambda name, device, dtype: (model, processor))
    assert main(["live", str(video), SENTENCES[0], "--model", "m", "--seconds", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_ctrl_c_leaves_a_whole_recording(
    video, model, processor, in_a_hurry, tmp_path, monkeypatch, capsys
):
    class Stopped:
        def __getattr__(self, name):
            return getattr(model, name)

        def __call__(self, **inputs):
            if len(calls) == 2:
                raise KeyboardInterrupt
            calls.append(1)
            return model(**inputs)

    calls, output = [], tmp_path / "out.mkv"
    monkeypatch.setattr(loading, "load_model", lambda name, device, dtype: (Stopped(), processor))
    assert main(["live", str(video), SENTENCES[0], "--model", "m", "--output", str(output)]) == 0
    assert len(list(read_frames(output))) >= 20
    assert {path.name for path in tmp_path.iterdir()} == {"clip.ts", "out.mkv"}


MISTAKES = {
    "no such device": (["nowhere.mp4", "a dog"], "nowhere.mp4: no such file, device or stream"),
    "an empty sentence": (["clip.mkv", " "], "sentence 1 is empty"),
    "no video": (
        ["notes.txt", "a dog", "--format", "matroska"],
        "cannot be opened as a live source",
    ),
    "no format": (
        ["clip.mkv", "a dog", "--format", "crystal-ball"],
        "cannot be opened as a live source",
    ),
    "sound that is not there": (
        ["clip.mkv", "a dog", "--sound", "nowhere"],
        "nowhere: no such file",
    ),
    "a container that is not written": (
        ["clip.mkv", "a dog", "--output", "out.avi"],
        "must end in",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_line(
    mistake, write_clip, model, processor, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "load_model", lambda name, device, dtype: (model, processor))
    write_clip("clip.mkv")
    (tmp_path / "notes.txt").write_text("Dear diary")
    arguments, words = MISTAKES[mistake]
    assert main(["live", *arguments, "--model", "m"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_boxes():
    mask = np.zeros((20, 30), dtype=bool)
    assert box_of(mask) is None
    mask[3:7, 10:25] = True
    assert box_of(mask) == [10, 3, 25, 7]
