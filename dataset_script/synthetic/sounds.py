"""Sound from a scene: one stem per object, then the mix with a little reverberation and background
noise."""

import numpy as np
from scipy.signal import fftconvolve

from .objects import Timbre, timbre_of
from .scene import Scene, SceneObject, Sound


SAMPLE_RATE = 16_000  # Hz
TOP = 7_600  # Hz, no partial above: half the sample rate, less a margin
BACKGROUND_LEVEL = -58.0  # dB of full scale
REVERB = (0.12, 0.12)  # s to fall by 1/e, gain beside the dry sound
FADE = 0.015  # s, at both ends of a stroke, against clicks
NOTE = 0.7  # the part of the time between two strokes that a held note fills
ROLL = 15.0  # strokes a second of a steady sound whose strokes die away


def render_stems(scene: Scene) -> np.ndarray:
    """What each object alone sounds like, dry: `(objects, samples)` float64, zeros for the
    silent."""
    stems = np.zeros((len(scene.objects), round(scene.seconds * SAMPLE_RATE)))
    for item in scene.objects:
        if item.sound is not None:
            stems[item.fid] = _stem(scene, item, item.sound, stems.shape[1])
    return stems


def render_sound(scene: Scene) -> np.ndarray:
    """The clip's sound `(samples,)` int16 at 16 kHz mono."""
    rng = np.random.default_rng([scene.seed, 2])
    dry = render_stems(scene).sum(0)
    decay, gain = REVERB
    tail = rng.normal(size=int(3 * decay * SAMPLE_RATE))
    tail *= np.exp(-np.arange(len(tail)) / (decay * SAMPLE_RATE))
    tail *= gain / np.sqrt((tail**2).sum())
    mix = dry + fftconvolve(dry, tail)[: len(dry)]
    mix += noise(len(mix), 40, 2500, rng) * 10 ** (BACKGROUND_LEVEL / 20)
    mix *= min(1.0, 0.98 / np.abs(mix).max())
    return np.round(mix * 32767).astype(np.int16)


def strokes(sound: Sound, interval: tuple[float, float]) -> list[tuple[float, float]]:
    """(start, seconds until the next) of each stroke in one interval: the rate glides over the
    sound's whole span."""
    start, end = interval
    found = []
    while start < end - 0.02:
        rate = ROLL if sound.rate is None else float(np.interp(start, sound.span, sound.rate))
        found.append((start, min(1 / rate, end - start)))
        start += 1 / rate
    return found


def _stem(scene: Scene, item: SceneObject, sound: Sound, samples: int) -> np.ndarray:
    timbre = timbre_of(item.category, scene.seed)
    rng = np.random.default_rng([scene.seed, 3, item.fid])
    stem = np.zeros(samples)
    sounding = np.zeros(samples, dtype=bool)
    for interval in sound.intervals:
        held = sound.rate is None and timbre.decay == 0
        pieces = [(interval[0], interval[1] - interval[0])] if held else strokes(sound, interval)
        fill = NOTE if sound.rate is not None and timbre.decay == 0 else 1.0
        for start, seconds in pieces:
            first = round(start * SAMPLE_RATE)
            note = _stroke(timbre, seconds * fill, sound.pitch, rng)[: samples - first]
            stem[first : first + len(note)] += note
        sounding[round(interval[0] * SAMPLE_RATE) : round(interval[1] * SAMPLE_RATE)] = True
    stem /= np.sqrt((stem[sounding] ** 2).mean())
    return stem * 10 ** (sound.level_at(np.arange(samples) / SAMPLE_RATE) / 20)


def _stroke(timbre: Timbre, seconds: float, pitch: float, rng: np.random.Generator) -> np.ndarray:
    """One stroke, note or call, of any loudness. A long held note repeats its glide every 0.8 s, as
    a voice breathes."""
    time = np.arange(max(2, round(seconds * SAMPLE_RATE))) / SAMPLE_RATE
    glide_seconds = min(seconds, 0.8)
    frequency = np.interp((time % glide_seconds) / glide_seconds, (0, 0.5, 1), timbre.glide)
    frequency *= (
        timbre.pitch * pitch * (1 + timbre.wobble[1] * np.sin(2 * np.pi * timbre.wobble[0] * time))
    )
    phase = 2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE
    wave = np.zeros(len(time))
    for ratio, gain in timbre.partials:
        if ratio * timbre.pitch * pitch * max(timbre.glide) < TOP:
            wave += gain * np.sin(ratio * phase + rng.uniform(0, 2 * np.pi))
    low, high, noise_gain = timbre.noise
    if noise_gain:
        wave += noise_gain * noise(len(time), low * pitch, min(high * pitch, TOP), rng)
    wave *= 1 - timbre.flutter[1] * (0.5 + 0.5 * np.sin(2 * np.pi * timbre.flutter[0] * time))
    if timbre.decay:
        wave *= np.exp(-time / timbre.decay)
    fade = np.minimum(1, np.minimum(time / (FADE / 5 if timbre.decay else FADE), time[::-1] / FADE))
    return wave * fade


def noise(samples: int, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    """Noise between two frequencies (Hz), root mean square 1."""
    spectrum = np.fft.rfft(rng.normal(size=samples))
    frequency = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    spectrum[(frequency < low) | (frequency > high)] *= 0.03
    wave = np.fft.irfft(spectrum, samples)
    return wave / np.sqrt((wave**2).mean())
