"""Raw videos whose truth is known become clips, and a report of what was left out."""

import colorsys
import json
import os
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataset_script import collect
from dataset_script.annotations import Clip
from dataset_script.collect import CollectOptions, collect_videos
from dataset_script.collect_rules import (
    RULES,
    brightness,
    content_change,
    cut_strength,
    few_colours,
    flat_areas,
    hsv_cone,
    list_candidates,
    loudness,
    make_rules,
    measure_video,
    split_classes,
)
from dataset_script.media_files import clip_problems
from modeling_refavs.cli import main
from modeling_refavs.feature_extraction_refavs import RefAVSFeatureExtractor
from modeling_refavs.inference.loading import load_sound_classifier
from modeling_refavs.modeling_yamnet import RefAVSYamnetConfig, RefAVSYamnetForAudioClassification
from modeling_refavs.utils.files import lock_folder
from modeling_refavs.video_refavs import probe_video, read_steps
from tests.media_kit import beep_of, beeps, counter, number_of, tone, write_movie


ROOT = Path(__file__).parents[2]
RATE = 10  # frames/s
SIZE = (128, 96)
AUDIOSET = json.loads((ROOT / "spaces_demo/photo_checkpoint/config.json").read_text())
AUDIOSET = [AUDIOSET["audio_config"]["id2label"][str(index)] for index in range(521)]


def scene(seed: int, seconds: int, scale: float = 1.0) -> list[np.ndarray]:
    """A textured picture that drifts: many colours, nothing flat, no cut."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (8, 10, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((SIZE[0] + 40, SIZE[1]), 3)).astype(float)
    picture = (picture + generator.normal(0, 12, picture.shape)).clip(0, 255) * scale
    left = [round(20 + 19 * np.sin(index / 40)) for index in range(seconds * RATE)]
    return [picture[:, x : x + SIZE[0]].astype(np.uint8) for x in left]


def drawing(seconds: int) -> list[np.ndarray]:
    picture = np.full((*SIZE[::-1], 3), (240, 230, 200), dtype=np.uint8)
    picture[20:60, 30:80], picture[50:90, 70:120] = (200, 40, 30), (30, 60, 200)
    return [picture] * (seconds * RATE)


def write(path: Path, pictures: list[np.ndarray], sound: np.ndarray | None = None) -> Path:
    return write_movie(path, pictures, RATE, sound=sound, options={"crf": "18"})


@pytest.fixture
def two_scenes(tmp_path) -> Path:
    """26 s with a cut at 13 s, a tone all the time."""
    return write(tmp_path / "two.mp4", scene(0, 13) + scene(1, 13), tone(26))


def outcomes(tree: Path, source: str) -> dict[int, list[str]]:
    record = json.loads((tree / "collected" / f"{source}.json").read_text())
    return {one["start"]: one["outcome"] for one in record["candidates"]}


def clips(tree: Path) -> list[str]:
    return sorted(path.name for path in (tree / "media").iterdir())


# What is measured


@pytest.mark.parametrize(
    "rgb", [(255, 0, 0), (255, 255, 0), (0, 200, 0), (0, 90, 90), (0, 0, 255), (70, 0, 70)]
)
def test_the_cone_holds_hue_saturation_and_value(rgb):
    hue, saturation, value = colorsys.rgb_to_hsv(*rgb)
    v, x, y = hsv_cone(np.array(rgb, dtype=np.uint8)).tolist()
    assert v == value
    assert np.hypot(x, y) == pytest.approx(saturation * value, rel=1e-5)
    assert np.exp(1j * np.arctan2(y, x)) == pytest.approx(np.exp(2j * np.pi * hue), abs=1e-5)


def test_content_change_is_the_mean_distance():
    red, grey = np.zeros((2, 6, 8, 3), dtype=np.uint8)
    red[:, :, 0], grey[:] = 255, 255
    assert content_change(hsv_cone(red), hsv_cone(red)) == 0
    assert content_change(hsv_cone(red), hsv_cone(grey)) == pytest.approx(255)
    red[:, :4] = 255
    assert content_change(hsv_cone(red), hsv_cone(grey)) == pytest.approx(255 / 2)


def test_a_cut_is_one_step_and_motion_and_flashes_are_several():
    assert cut_strength([0, 2, 3, 60, 2, 3]).round().tolist() == [0, 0, 0, 57, 0, 0]
    assert cut_strength([0, 40, 41, 42, 41, 40]).max() <= 1
    assert cut_strength([0, 1, 60, 60, 1, 1]).max() == 0
    assert cut_strength([0]).tolist() == [0]


def test_shares_of_pictures_drawn_by_hand():
    picture = np.zeros((10, 10, 3), dtype=np.uint8)
    assert (brightness(picture), few_colours(picture), flat_areas(picture)) == (0, 1, 1)
    picture[:, 5:, 1] = 255
    assert brightness(picture) == 0.5
    assert flat_areas(picture) == pytest.approx(0.9)  # not left of the edge
    ramp = np.arange(100, dtype=np.uint8).reshape(10, 10, 1).repeat(3, axis=2)
    assert few_colours(ramp) == pytest.approx(0.32)
    assert flat_areas(ramp) == pytest.approx(0.1)  # the last row has nothing below


def test_loudness_is_rms_below_full_scale():
    second = np.sqrt(2) * 0.1 * np.sin(2 * np.pi * 100 * np.arange(16000) / 16000)
    assert loudness(second.astype(np.float32)) == pytest.approx(-20, abs=1e-3)
    assert loudness(second[:8000].astype(np.float32)) == pytest.approx(-23.01, abs=0.01)
    assert loudness(np.zeros(16000, np.float32)) == loudness(np.zeros(0, np.float32)) == -100


def test_classes_of_music_and_of_what_sounds():
    music, sources = split_classes(tuple(AUDIOSET))
    assert {"Music", "Jazz", "Background music", "Sad music"} <= set(music)
    assert {"Speech", "Singing", "Violin, fiddle", "Dog", "Chainsaw"} <= set(sources)
    assert not {"Silence", "Outside, rural or natural", "Musical instrument"} & set(sources)
    with pytest.raises(ValueError, match="AudioSet's classes, and lacks"):
        split_classes(("Dog", "Cat"))


# Rules


@pytest.mark.parametrize("seconds", [13, 13.4])
def test_a_cut_at_a_known_second_is_in_the_clips_around_it(tmp_path, seconds):
    pictures = (scene(0, 14)[: round(seconds * RATE)] + scene(1, 14))[: 26 * RATE]
    video = measure_video(probe_video(write(tmp_path / "v.mp4", pictures, tone(26))))
    assert video.times[video.cuts.argmax()] == pytest.approx(seconds)
    cut = {c.start for c in list_candidates(video, RULES, False) if "scene_cut" in c.broken}
    assert cut == {start for start in range(17) if start < seconds < start + 10}


def test_a_cut_between_frames_of_a_second_each_is_found(tmp_path):
    pictures = scene(0, 13)[::RATE] + scene(1, 13)[::RATE]
    path = write_movie(tmp_path / "slow.mp4", pictures, 1, sound=tone(26))
    candidates = list_candidates(measure_video(probe_video(path)), RULES, False)
    cut = [one.start for one in candidates if "scene_cut" in one.broken]
    assert cut == list(range(4, 13))


@pytest.mark.parametrize(
    ("rule", "pictures", "sound"),
    [
        ("brightness", scene(0, 12, scale=0.05), tone(12)),
        ("brightness", scene(0, 9) + scene(0, 3, scale=0.0), tone(12)),
        ("loudness", scene(0, 12), None),
        ("loudness", scene(0, 12), tone(12, loudness=1e-3)),
        ("few_colours", drawing(12), tone(12)),
        ("flat_areas", drawing(12), tone(12)),
        ("duration", scene(0, 9), tone(9)),
    ],
    ids=["dark", "dark end", "no sound", "faint", "colours", "flat", "short"],
)
def test_each_rule_leaves_out_what_it_is_against(tmp_path, rule, pictures, sound):
    path = write(tmp_path / "v.mp4", pictures, sound)
    collect_videos([path], tree := tmp_path / "tree")
    assert clips(tree) == []
    assert all(rule in broken for broken in outcomes(tree, "v").values())
    first = next(iter(outcomes(tree, "v")))
    record = json.loads((tree / "collected" / "v.json").read_text())
    measured = record["candidates"][first]["measured"][rule]
    assert f"{measured:g}" in (tree / "collected.md").read_text()
    if rule != "duration":  # alone it keeps them out
        broken = {name for one in outcomes(tree, "v").values() for name in one}
        worst = {"brightness": -1, "loudness": -200}
        limits = {name: worst.get(name, 1e3) for name in broken}
        collect_videos([path], tmp_path / "all", CollectOptions(limits=limits))
        assert len(clips(tmp_path / "all")) == 1


def hears(*names: str):
    """What hears these in seconds that are not silent, and nothing else."""
    return lambda samples: {name: 0.9 if name in names else 0.0 for name in AUDIOSET}


def test_music_alone_is_left_out_and_an_instrument_is_not(tmp_path):
    path = write(tmp_path / "v.mp4", scene(0, 10), tone(10))
    for names, kept in ((("Music", "Jazz"), 0), (("Music", "Cello"), 1), (("Speech",), 1)):
        tree = tmp_path / names[-1]
        collect_videos([path], tree, CollectOptions(audio_classifier="it"), hears(*names))
        assert len(clips(tree)) == kept
    assert outcomes(tmp_path / "Jazz", "v") == {0: ["music_bed"]}


# Clips


def test_clips_hold_the_frames_and_the_sound_of_their_seconds(tmp_path):
    pictures = [counter(second) for second in range(26)]
    path = write_movie(tmp_path / "a.b_c.mp4", pictures, 1, sound=beeps(26))
    limits = {"scene_cut": 255, "few_colours": 1, "flat_areas": 1, "brightness": 0}
    collect_videos([path], tree := tmp_path / "tree", CollectOptions(12, limits))
    assert len(clips(tree)) == 2
    for clip in clips(tree):
        assert clip_problems(tree, Clip(clip, "train", ())) == []
        assert clip.startswith("a.b_c_")
        start = int(clip.split("_")[-2]) // 1000
        folder = tree / "media" / clip
        assert sorted(os.listdir(folder / "frames")) == [f"{k}.jpg" for k in range(10)]
        with wave.open(str(folder / "audio.wav")) as file:
            assert file.getparams()[:4] == (1, 2, 16000, 160000)
            sound = np.frombuffer(file.readframes(160000), "<i2").reshape(10, -1) / 32768
        for k in range(10):
            with Image.open(folder / "frames" / f"{k}.jpg") as frame:
                assert number_of(np.asarray(frame)) == start + k
            assert beep_of(sound[k]) == start + k


def test_of_two_that_overlap_the_one_with_more_sound_is_kept(tmp_path):
    sound = np.concatenate([np.zeros((1, 6 * 16000), np.float32), tone(12)], axis=1)
    path = write(tmp_path / "v.mp4", scene(0, 18), sound)
    collect_videos([path], tree := tmp_path / "tree")
    (clip,) = clips(tree)
    assert 6 <= int(clip.split("_")[1]) // 1000 <= 8
    assert outcomes(tree, "v")[0] == ["too near a better one"]


def test_clips_start_as_far_apart_as_asked(two_scenes, tmp_path):
    starts = {}
    for every in (10, 16, 30):
        collect_videos([two_scenes], tree := tmp_path / f"{every}", CollectOptions(every))
        starts[every] = [int(clip.split("_")[1]) // 1000 for clip in clips(tree)]
        assert all(b - a >= every for a, b in zip(starts[every], starts[every][1:], strict=False))
    assert len(starts[10]) == 2
    assert len(starts[30]) == 1


def test_bad_files_are_reported_and_skipped(two_scenes, tmp_path, capsys):
    (tmp_path / "no.mp4").write_bytes(b"no video")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "null_c-x.mp4").write_bytes(two_scenes.read_bytes())
    (tmp_path / "other").mkdir()
    write(tmp_path / "other" / "two.mp4", scene(3, 3))
    names = ["no.mp4", "two.mp4", "empty.mp4", "null_c-x.mp4", "gone.mp4", "other", "other/two.mp4"]
    videos = [str(tmp_path / name) for name in names]
    tree = tmp_path / "tree"
    assert main(["collect", *videos, "--output", str(tree)]) == 0
    assert len(clips(tree)) == 2
    printed, report = capsys.readouterr().out, (tree / "collected.md").read_text()
    for words in ("not a media file", "0 bytes", "rename the file", "no such file", "a folder"):
        assert words in printed
        assert words in report
    assert "of another video of that name" in report
    assert main(["collect", videos[0], "--output", str(tmp_path / "none")]) == 1


def test_a_clip_of_another_origin_is_left_alone(two_scenes, tmp_path):
    collect_videos([two_scenes], whole := tmp_path / "whole")
    there = tmp_path / "tree" / "media" / clips(whole)[0]
    there.mkdir(parents=True)
    report = collect_videos([two_scenes], tmp_path / "tree")
    assert "of another origin" in report["unread"][str(two_scenes)]
    assert clips(tmp_path / "tree") == [there.name]
    assert not list(there.iterdir())


def test_wrong_options_are_refused(two_scenes, tmp_path, capsys):
    command = ["collect", str(two_scenes), "--output", str(tmp_path / "tree")]
    for words, message in (
        (["--every", "5"], "10 s or more"),
        (["--every", "nan"], "10 s or more"),
        (["--limit", "cuts=3"], "no limit can be set for 'cuts'"),
        (["--limit", "duration=3"], "no limit can be set for 'duration'"),
        (["--limit", "scene_cut"], "RULE=VALUE"),
        (["--limit", "scene_cut=inf"], "finite"),
        (["--audio-classifier", str(tmp_path)], "refavs parts fetch"),
    ):
        assert main([*command, *words]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "tree").exists()
    assert main(command) == 0
    assert main([*command, "--every", "20"]) == 2
    assert "collected with other options" in capsys.readouterr().err
    with lock_folder(tmp_path / "tree"):
        assert main(command) == 2
    assert "another process writes here" in capsys.readouterr().err


def test_limits_replace_those_of_the_rules():
    rules = make_rules({"scene_cut": 30})
    assert rules["scene_cut"].limit == 30
    assert rules["loudness"] == RULES["loudness"]


# Stopped


def contents(tree: Path) -> dict[str, bytes]:
    paths = (path for path in tree.rglob("*") if path.is_file())
    return {path.relative_to(tree).as_posix(): path.read_bytes() for path in paths}


def test_a_run_that_was_stopped_goes_on(two_scenes, tmp_path, monkeypatch):
    collect_videos([two_scenes], whole := tmp_path / "whole")
    tree, write_sound, calls = tmp_path / "tree", collect.write_sound, []

    def stop_at_the_second(path, samples):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write_sound(path, samples)

    monkeypatch.setattr(collect, "write_sound", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        collect_videos([two_scenes], tree)
    assert len(clips(tree)) == 1
    (tmp_path / "other").mkdir()
    other = write(tmp_path / "other" / "two.mp4", scene(5, 26), tone(26))
    report = collect_videos([other], tree)
    assert "of another video of that name" in report["unread"][str(other)]
    assert report["clips"] == {}
    collect_videos([two_scenes], tree)
    collect_videos([two_scenes], tree)  # the report is no longer of the other
    assert contents(tree) == contents(whole)
    assert len(calls) == 3  # the first clip was not written again
    monkeypatch.setattr(collect, "measure_video", None)
    collect_videos([two_scenes], tree)  # done: nothing is read
    assert contents(tree) == contents(whole)


def test_a_killed_run_leaves_nothing_behind(two_scenes, tmp_path):
    collect_videos([two_scenes], whole := tmp_path / "whole")
    tree = tmp_path / "tree"
    words = ["collect", str(two_scenes), "--output", str(tree)]
    command = [sys.executable, "-m", "modeling_refavs.cli", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (tree / "media").exists():
            time.sleep(0.01)
        while process.poll() is None and not list((tree / "media").iterdir()):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert main(words) == 0
    assert contents(tree) == contents(whole)


# What hears


def test_the_classifier_names_each_class_of_a_second(tmp_path):
    torch.manual_seed(0)
    config = RefAVSYamnetConfig(
        hidden_sizes=[4, 8], strides=[2, 2], id2label=dict(enumerate(AUDIOSET))
    )
    model = RefAVSYamnetForAudioClassification(config).eval()
    model.save_pretrained(tmp_path / "audio")
    extractor = RefAVSFeatureExtractor(log_offset=0.001)
    extractor.save_pretrained(tmp_path / "audio")
    samples = tone(1)[0]
    heard = load_sound_classifier(str(tmp_path / "audio"))(samples)
    inputs = extractor([samples], 16000, return_tensors="pt")["input_features"]
    with torch.no_grad():
        expected = torch.sigmoid(model(inputs).logits[0, 0])
    assert list(heard) == AUDIOSET
    torch.testing.assert_close(torch.tensor(list(heard.values())), expected)
    path = write(tmp_path / "v.mp4", scene(0, 10), tone(10))
    words = ["--output", str(tmp_path / "tree"), "--audio-classifier", str(tmp_path / "audio")]
    assert main(["collect", str(path), *words]) == 0
    record = json.loads((tmp_path / "tree" / "collected" / "v.json").read_text())
    assert "music_bed" in record["candidates"][0]["measured"]
    assert [len(names) for names in record["heard"]] == [3] * 10


def test_sheets_show_clips_and_what_lies_between_them(two_scenes, tmp_path):
    collect_videos([two_scenes], tree := tmp_path / "tree")
    with Image.open(tree / "collected" / "two_0.jpg") as sheet:
        pixels = np.asarray(sheet).astype(int)
    first = probe_video(two_scenes)
    start = int(clips(tree)[0].split("_")[1]) // 1000
    frame = list(read_steps(first))[start].frame.astype(int)
    shown = pixels[16 + 13 + 4 :][: SIZE[1], 16 : 16 + SIZE[0]]
    assert np.abs(shown - frame).mean() < 8
    below = pixels[16 + 13 + 4 + SIZE[1] :][:48, 16 : 16 + SIZE[0]]
    assert (below > 100).all(axis=-1).any(axis=0).mean() > 0.9  # the tone's waveform
