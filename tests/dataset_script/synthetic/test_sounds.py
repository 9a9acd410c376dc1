import numpy as np
import pytest
from scipy.io import wavfile
from scipy.signal import stft

from dataset_script.synthetic import Scene
from dataset_script.synthetic.objects import CATEGORIES
from dataset_script.synthetic.scene import SceneObject, Sound
from dataset_script.synthetic.sounds import SAMPLE_RATE, render_sound, render_stems, strokes


TIMBRES = [name for name, category in CATEGORIES.items() if category.timbre]


def make_scene(*sounds, categories=("bell", "fan", "duck"), seed=5, length=10.0):
    objects = tuple(
        SceneObject(
            fid, category, "red", "plain", 0.1, (0.5, 0.5), "still", 0.0, (0.0, 10.0), fid, sound
        )
        for fid, (category, sound) in enumerate(zip(categories, sounds, strict=False))
    )
    return Scene(seed, length, 1.0, 1.0, objects)


def decibels(samples):
    return 10 * np.log10((np.asarray(samples, dtype=float) ** 2).mean() + 1e-12)


def seconds(samples, start, end):
    return samples[..., round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]


def test_stored_sound_is_what_the_stored_scene_sounds_like(benchmark_folder, stored_clips):
    for name, stored in list(stored_clips.items())[:15]:
        rate, samples = wavfile.read(benchmark_folder / "media" / name / "audio.wav")
        assert (rate, samples.dtype, samples.shape) == (16_000, np.int16, (160_000,))
        np.testing.assert_array_equal(samples, render_sound(Scene.from_json(stored["scene"])))


def test_a_stem_sounds_in_its_intervals_only_and_as_loud_as_told(stored_clips):
    checked = 0
    for stored in stored_clips.values():
        scene = Scene.from_json(stored["scene"])
        for item, stem in zip(scene.objects, render_stems(scene), strict=True):
            outside = np.ones(len(stem), dtype=bool)
            for start, end in item.sound.intervals if item.sound else ():
                seconds(outside, start, end)[:] = False
                assert decibels(seconds(stem, start, end)) > -55
                checked += 1
            assert not stem[outside].any()
            if item.sound and item.sound.level[0] == item.sound.level[1]:
                assert decibels(stem[~outside]) == pytest.approx(item.sound.level[0], abs=0.1)
    assert checked > 80


def test_the_mix_follows_the_intervals(stored_clips):
    """Where all are silent there is the background alone, half a second (reverberation) after the
    last sound."""
    pauses = 0
    for stored in stored_clips.values():
        scene = Scene.from_json(stored["scene"])
        mix = render_sound(scene) / 32767
        intervals = [i for item in scene.objects if item.sound for i in item.sound.intervals]
        for second in np.arange(0, 10, 0.5):
            if not any(start < second + 0.5 and second < end + 0.5 for start, end in intervals):
                assert decibels(seconds(mix, second, second + 0.5)) < -53
                pauses += 1
            elif any(start <= second and second + 0.5 <= end for start, end in intervals):
                assert decibels(seconds(mix, second, second + 0.5)) > -57
    assert pauses > 20


def test_the_loudest_object_is_loudest(stored_clips):
    checked = 0
    for stored in stored_clips.values():
        scene = Scene.from_json(stored["scene"])
        for said in stored["expressions"]:
            if said["fid"] is None or said["template"] not in ("loudest", "quietest"):
                continue
            stems = render_stems(scene)
            levels = {
                i.fid: decibels(stems[i.fid][stems[i.fid] != 0]) for i in scene.objects if i.sound
            }
            pick = max if said["template"] == "loudest" else min
            assert pick(levels, key=levels.get) == said["fid"]
            checked += 1
    assert checked > 3


def test_volume_rises_and_falls_with_the_level():
    up, down = (
        Sound(((0.0, 10.0),), (-40, -28), None, 1.0),
        Sound(((0.0, 10.0),), (-28, -40), None, 1.0),
    )
    stems = render_stems(make_scene(up, down, categories=("flute", "rocket")))
    assert decibels(seconds(stems[0], 8, 10)) - decibels(seconds(stems[0], 0, 2)) == pytest.approx(
        9.6, abs=1
    )
    assert decibels(seconds(stems[1], 8, 10)) - decibels(seconds(stems[1], 0, 2)) == pytest.approx(
        -9.6, abs=1
    )


def test_rhythm_is_the_rate_of_strokes():
    steady_beat = Sound(((0.0, 10.0),), (-30, -30), (2.6, 2.6), 1.0)
    faster = Sound(((0.0, 4.0), (6.0, 10.0)), (-30, -30), (1.3, 5.2), 1.0)
    assert len(strokes(steady_beat, (0.0, 10.0))) == 26
    gaps = np.array(
        [length for interval in faster.intervals for _, length in strokes(faster, interval)]
    )
    assert gaps[0] > 0.7
    assert gaps[-3] < 0.22
    envelope = np.abs(render_stems(make_scene(steady_beat, categories=("clock",)))[0])
    loud = envelope.reshape(-1, 160).max(1) > 0.3 * envelope.max()
    assert np.sum(loud[1:] & ~loud[:-1]) + loud[0] == 26, "each stroke is heard"


def log_mel(samples):
    """64 bands of 125-7500 Hz: what a VGGish network is given, averaged over the time."""
    frequency, _, values = stft(samples, SAMPLE_RATE, nperseg=400, noverlap=240, nfft=512)
    mel = 1127 * np.log1p(frequency / 700)
    edges = np.linspace(1127 * np.log1p(125 / 700), 1127 * np.log1p(7500 / 700), 66)
    up = (mel[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    down = (edges[2:] - mel[:, None]) / np.diff(edges)[1:]
    bands = np.abs(values.T) * 200 @ np.maximum(0, np.minimum(up, down))  # 200: the window's sum
    return np.log(bands + 0.01).mean(0)


def test_timbres_are_told_apart_in_the_log_mel_of_the_mix():
    """The nearest known timbre is the right one, over pitches, levels, rhythms and background
    noise."""
    rng = np.random.default_rng(0)

    def heard(name, seed):
        rate = None if rng.random() < 0.5 else (2.6, 2.6)
        sound = Sound(
            ((0.0, 3.0),), (float(rng.uniform(-38, -24)),) * 2, rate, float(rng.uniform(0.94, 1.06))
        )
        spectrum = log_mel(
            seconds(render_sound(make_scene(sound, categories=(name,), seed=seed)) / 32767, 0, 3)
        )
        return (spectrum - spectrum.mean()) / spectrum.std()

    known = {name: np.mean([heard(name, seed) for seed in range(4)], axis=0) for name in TIMBRES}
    right = [
        name == min(known, key=lambda other: np.linalg.norm(known[other] - spectrum))
        for name in TIMBRES
        for spectrum in (heard(name, 10), heard(name, 11), heard(name, 12))
    ]
    assert np.mean(right) >= 0.95
