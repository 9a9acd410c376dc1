"""Which ten seconds of a raw video may become a clip (Ref-AVS, Sec. 3.2): what is measured of
them, and the rules. docs/collecting.md says what each threshold was chosen on."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import median
from typing import NamedTuple

import numpy as np
from PIL import Image

from modeling_refavs.video_refavs import (
    Frame,
    VideoInfo,
    read_frames,
    sound_by_second,
    to_rgb24,
)

from .media_files import SAMPLING_RATE
from .schema import NUM_FRAMES


CHANGE_SIDE, PICTURE_SIDE = 128, 640  # pixels, at most, of what is measured
NEIGHBOURS = 2  # frames before and after one, whose change is taken for motion
DOMINANT_COLOURS = 32
SAME_SHADE = 1  # of 255; neighbouring pixels that differ by no more are flat
SILENCE = -100.0  # dB, of what is quieter or not there
LIKELY, UNLIKELY = 0.3, 0.1  # probability of a class of sound
VOICES = {"Beatboxing", "A capella"}  # which AudioSet has among the genres
ROUNDING = 1e-6  # s

Hearing = Callable[[np.ndarray], dict[str, float]]


class Rule(NamedTuple):
    """What a clip's measure may be: at least or at most `limit`."""

    bound: str
    limit: float
    unit: str
    meaning: str

    def holds(self, measured: float) -> bool:
        return measured >= self.limit if self.bound == "at least" else measured <= self.limit


RULES = {
    "duration": Rule("at least", 9.9, "s", "seconds of frames from the clip's start"),
    "scene_cut": Rule("at most", 20.0, "of 255", "change of a frame beyond that of its neighbours"),
    "brightness": Rule("at least", 0.1, "of 1", "mean V of the darkest of its ten frames"),
    "few_colours": Rule("at most", 0.4, "of pixels", "share of the 32 most frequent colours"),
    "flat_areas": Rule("at most", 0.75, "of pixels", "share of those like their neighbours"),
    "loudness": Rule("at least", -50.0, "dB", "of its loudest second, RMS below full scale"),
    "music_bed": Rule("at most", 0.5, "of seconds", "share of those with music and no source"),
}


def make_rules(limits: Mapping[str, float]) -> dict[str, Rule]:
    """[`RULES`] with other limits.

    Raises:
        ValueError: there is no such rule; a clip would not be ten seconds; no finite number.
    """
    for name, limit in limits.items():
        if name not in RULES or name == "duration":
            others = ", ".join(rule for rule in RULES if rule != "duration")
            raise ValueError(f"no limit can be set for {name!r}, but for {others}")
        if not np.isfinite(limit):
            raise ValueError(f"the limit of {name} must be a finite number, got {limit}")
    return RULES | {name: RULES[name]._replace(limit=limit) for name, limit in limits.items()}


# Of pictures


def hsv_cone(rgb: np.ndarray) -> np.ndarray:
    """`(..., 3)` uint8 -> float32: V, and chroma as a vector on the colour hexagon, whose direction
    is H and whose length is S V at the corners; of 255. Unlike H and S it is steady where a colour
    is dark or grey."""
    red, green, blue = np.moveaxis(rgb.astype(np.float32), -1, 0)
    across = (green - blue) * np.sqrt(np.float32(0.75))
    return np.stack([rgb.max(axis=-1), red - (green + blue) / 2, across], axis=-1)


def content_change(before: np.ndarray, after: np.ndarray) -> float:
    """Mean distance of two pictures' pixels in [`hsv_cone`]; 0 if they are the same."""
    return float(np.linalg.norm(before - after, axis=-1).mean())


def cut_strength(changes: Sequence[float]) -> np.ndarray:
    """How far each frame's change from the one before it exceeds its neighbours': a cut is one
    step, and motion, a flash and noise are several."""
    padded = np.pad(np.asarray(changes, dtype=np.float64), NEIGHBOURS)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEIGHBOURS + 1)
    around = np.delete(windows, NEIGHBOURS, axis=1)
    return np.maximum(windows[:, NEIGHBOURS] - around.max(axis=1, initial=0), 0)


def brightness(rgb: np.ndarray) -> float:
    """Mean V of a picture, in [0, 1]."""
    return float(rgb.max(axis=-1).mean() / 255)


def few_colours(rgb: np.ndarray) -> float:
    """Share of a picture that its most frequent colours cover."""
    colours = rgb.astype(np.uint32) @ np.array([2**16, 2**8, 1], dtype=np.uint32)
    counts = np.sort(np.unique(colours, return_counts=True)[1])
    return float(counts[-DOMINANT_COLOURS:].sum() / counts.sum())


def flat_areas(rgb: np.ndarray) -> float:
    """Share of a picture's pixels that are as the ones to their right and below."""
    shades = np.pad(rgb, ((0, 1), (0, 1), (0, 0)), mode="edge").astype(np.int16)
    here = shades[:-1, :-1]
    steps = np.maximum(np.abs(shades[:-1, 1:] - here), np.abs(shades[1:, :-1] - here))
    return float((steps.max(axis=-1) <= SAME_SHADE).mean())


# Of sound


def loudness(samples: np.ndarray) -> float:
    """RMS in dB below full scale, of a second `(samples,)` that may be cut short."""
    power = float(np.square(samples, dtype=np.float64).sum()) / SAMPLING_RATE
    return max(10 * math.log10(power), SILENCE) if power else SILENCE


@cache
def split_classes(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Of AudioSet's classes in their order those of music as such, its genres, roles and moods;
    and those of what can sound: voices, animals, instruments, machines, things.

    Raises:
        ValueError: these are not AudioSet's classes.
    """
    missing = {"Music", "Pop music", "Scary music", "Silence"} - set(names)
    if missing:
        raise ValueError(
            f"the classifier of sounds must know AudioSet's classes, and lacks {sorted(missing)}"
        )
    first, last = names.index("Pop music"), names.index("Scary music")
    genres = [name for name in names[first : last + 1] if name not in VOICES]
    music = ["Music", *genres]
    known = {*music, "Musical instrument"}  # which of them is not known
    return music, [name for name in names[: names.index("Silence")] if name not in known]


def likeliest(heard: Mapping[str, float]) -> tuple[float, float]:
    """Of a second's classes the highest probability of music as such, and of a source."""
    music, sources = split_classes(tuple(heard))
    return max(heard[name] for name in music), max(heard[name] for name in sources)


# Of a video


@dataclass
class Second:
    """What is measured of second k: the frame on display at k s and the sound from there."""

    picture: Image.Image  # small, to be looked at
    brightness: float
    few_colours: float
    flat_areas: float
    loudness: float = SILENCE
    peaks: np.ndarray = field(default_factory=lambda: np.zeros(CHANGE_SIDE))  # of the waveform
    music: float | None = None
    source: float | None = None
    heard: list[tuple[str, float]] = field(default_factory=list)  # the likeliest classes

    @property
    def is_bed(self) -> bool:
        return self.music is not None and self.music >= LIKELY and self.source < UNLIKELY

    def sounds(self, rules: Mapping[str, Rule]) -> bool:
        """Whether something is heard in it, and is likely a source, where that is known."""
        audible = rules["loudness"].holds(self.loudness)
        return audible and (self.source is None or self.source >= LIKELY)


@dataclass
class Measured:
    """A whole video: its seconds, and when each frame begins that is cut to, how strongly."""

    duration: float  # s
    seconds: list[Second]
    times: np.ndarray
    cuts: np.ndarray

    @property
    def loudest(self) -> float:
        """Of the waveform."""
        return max(float(second.peaks.max()) for second in self.seconds)


def measure_video(info: VideoInfo, hear: Hearing | None = None) -> Measured:
    """Read a video once.

    Args:
        hear: probability of each of AudioSet's classes in a second `(16000,)`; None measures no
            music bed.
    """
    seconds: list[Second] = []
    changes, times, before, end = [], [], None, 0.0
    for frame in read_frames(info):
        now = hsv_cone(to_rgb24(frame.picture, *_fit(frame.size, CHANGE_SIDE)))
        changes.append(0.0 if before is None else content_change(before, now))
        times.append(frame.time)
        before, end = now, frame.end
        if frame.end > len(seconds) + ROUNDING:
            second = _measure_picture(frame)
            while frame.end > len(seconds) + ROUNDING:
                seconds.append(Second(**vars(second)))
    for second, samples in zip(seconds, sound_by_second(info, SAMPLING_RATE), strict=False):
        if samples is not None:
            _measure_sound(second, samples, hear)
    return Measured(end, seconds, np.array(times), cut_strength(changes))


def _fit(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = min(1, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _measure_picture(frame: Frame) -> Second:
    picture = Image.fromarray(frame.rgb)
    rgb = np.asarray(picture.resize(_fit(frame.size, PICTURE_SIDE), Image.Resampling.BICUBIC))
    small = picture.resize(_fit(frame.size, CHANGE_SIDE), Image.Resampling.BICUBIC)
    return Second(small, brightness(rgb), few_colours(rgb), flat_areas(rgb))


def _measure_sound(second: Second, samples: np.ndarray, hear: Hearing | None) -> None:
    second.loudness = loudness(samples)
    whole = np.zeros(SAMPLING_RATE, dtype=np.float32)
    whole[: len(samples)] = samples
    second.peaks = np.abs(whole).reshape(CHANGE_SIDE, -1).max(axis=1)
    if hear is not None and second.loudness > SILENCE:
        heard = hear(whole)
        second.music, second.source = likeliest(heard)
        second.heard = sorted(heard.items(), key=lambda item: -item[1])[:3]


# Of ten seconds


class Candidate(NamedTuple):
    """Ten seconds from `start` s on, what is measured of them, and the rules that they break."""

    start: int
    measured: dict[str, float]
    broken: list[str]
    num_sounding: int  # seconds


def list_candidates(
    video: Measured, rules: Mapping[str, Rule], with_classes: bool
) -> list[Candidate]:
    """One for each whole second from which ten are left; of a video that is too short, its
    start."""
    last = max(0, int(video.duration - rules["duration"].limit + ROUNDING))
    last = min(last, max(0, len(video.seconds) - NUM_FRAMES))
    return [_judge(video, start, rules, with_classes) for start in range(last + 1)]


def _judge(video: Measured, start: int, rules: Mapping[str, Rule], with_classes: bool) -> Candidate:
    seconds = video.seconds[start : start + NUM_FRAMES]
    # a cut at the very start or end parts the clip from others, and lies not inside it
    inside = slice(
        np.searchsorted(video.times, start + ROUNDING, side="right"),
        np.searchsorted(video.times, start + NUM_FRAMES - ROUNDING),
    )
    audible = [second for second in seconds if rules["loudness"].holds(second.loudness)]
    measured = {
        "duration": min(video.duration - start, float(NUM_FRAMES)),
        "scene_cut": float(video.cuts[inside].max(initial=0)),
        "brightness": min(second.brightness for second in seconds),
        "few_colours": median(second.few_colours for second in seconds),
        "flat_areas": median(second.flat_areas for second in seconds),
        "loudness": max(second.loudness for second in seconds),
    }
    if with_classes:
        measured["music_bed"] = sum(second.is_bed for second in audible) / max(len(audible), 1)
    measured = {name: round(value, 3) for name, value in measured.items()}
    broken = [name for name, value in measured.items() if not rules[name].holds(value)]
    return Candidate(start, measured, broken, sum(second.sounds(rules) for second in seconds))


def choose(candidates: Sequence[Candidate], every: float) -> list[Candidate]:
    """Those that break no rule and start `every` s apart or more, in order of time. Of two that
    are nearer the one with more seconds that sound is taken, then the one with the weaker cut,
    then the earlier."""
    ranked = sorted(
        (candidate for candidate in candidates if not candidate.broken),
        key=lambda one: (-one.num_sounding, one.measured["scene_cut"], one.start),
    )
    chosen: list[Candidate] = []
    for candidate in ranked:
        if all(abs(candidate.start - other.start) >= every for other in chosen):
            chosen.append(candidate)
    return sorted(chosen)


__all__ = [
    "RULES",
    "Candidate",
    "Measured",
    "Rule",
    "Second",
    "choose",
    "list_candidates",
    "make_rules",
    "measure_video",
]
