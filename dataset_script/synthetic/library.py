"""A cut-out library: photographed things, recorded sounds and grounds in a folder, and which split
may use which."""

import hashlib
import json
import wave
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import TypeVar

import numpy as np


LIBRARY_FILE = "library.json"
SPLITS = ("train", "val", "test_s", "test_u", "test_n")
ORDER = ("train", "test_s", "val", "test_n", "test_u")  # in which splits get a kind's sounds
SAMPLE_RATE = 16_000  # Hz, of every sound of a library
CUTTABLE = 1.2  # s: a recording that long may be cut in two, for two splits
QUIET = 0.02  # s, the grain in which the quietest place for a cut is sought


@dataclass(frozen=True)
class Kind:
    """A kind of thing.

    Args:
        super_category: as in `taxonomy.json`.
        also: synonyms.
        groups: wider words, the super-category's among them.
        like: kinds that could be taken for this one: no sentence depends on the difference.
        unseen: only `test_u` shows it.
    """

    super_category: str
    also: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    like: tuple[str, ...] = ()
    unseen: bool = False


@dataclass(frozen=True)
class Picture:
    """A PNG with alpha, relative to the library. All pictures of one `thing` go to one split."""

    file: str
    kind: str
    thing: str
    source: str
    licence: str


@dataclass(frozen=True)
class Recording:
    """A 16 kHz mono WAV, of which `start` to `end` (s) may be used. All recordings of one `voice`
    go to one split. `does`: what one hears the thing doing, as in "the barking dog"."""

    file: str
    kind: str
    voice: str
    does: str
    source: str
    licence: str
    start: float = 0.0
    end: float = 0.0

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class Ground:
    """A background."""

    file: str
    source: str
    licence: str


@dataclass(frozen=True)
class Media:
    """What the clips of one split are made of."""

    pictures: dict[str, list[Picture]]
    recordings: dict[str, list[Recording]]
    grounds: list[Ground]
    strange: list[str]


@dataclass(frozen=True)
class Library:
    """`strange`: names of things that no picture shows, for null sentences."""

    folder: Path
    kinds: dict[str, Kind]
    pictures: tuple[Picture, ...]
    recordings: tuple[Recording, ...]
    grounds: tuple[Ground, ...]
    strange: tuple[str, ...] = ()
    splits: dict[str, Media] = field(default_factory=dict)


def read_library(folder: str | Path) -> Library:
    """Read `library.json` and divide what it lists among the splits.

    Raises:
        ValueError: if the folder holds no library, names a missing file or leaves a split with
            nothing.
    """
    folder = Path(folder)
    path = folder / LIBRARY_FILE
    if not path.is_file():
        raise ValueError(f"{folder} holds no {LIBRARY_FILE}: make one with `refavs library build`")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        kinds = {
            name: Kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in kind.items()})
            for name, kind in stored["kinds"].items()
        }
        pictures = tuple(Picture(**row) for row in stored["pictures"])
        recordings = tuple(Recording(**row) for row in stored["sounds"])
        grounds = tuple(Ground(**row) for row in stored["backgrounds"])
        strange = tuple(stored.get("strange", ()))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not a library's table: {error!r}") from error
    for row in (*pictures, *recordings, *grounds):
        if not (folder / row.file).is_file():
            raise ValueError(f"{path} lists {row.file}, which is missing")
        if getattr(row, "kind", None) not in (None, *kinds):
            raise ValueError(f"{path} gives {row.file} the kind {row.kind!r}, which it lacks")
    recordings = tuple(_with_end(folder, recording) for recording in recordings)
    library = Library(folder, kinds, pictures, recordings, grounds, strange)
    library.splits.update(divide(library))
    for split, media in library.splits.items():
        for name in ("pictures", "grounds"):
            if not getattr(media, name):
                raise ValueError(
                    f"{folder} leaves no {name} for {split}: it takes ten grounds, a kind that is "
                    "unseen and kinds with five things or more"
                )
    return library


def _with_end(folder: Path, recording: Recording) -> Recording:
    if recording.end:
        return recording
    try:
        with wave.open(str(folder / recording.file)) as file:
            shape = file.getframerate(), file.getnchannels(), file.getsampwidth()
            seconds = file.getnframes() / file.getframerate()
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{folder / recording.file} is no WAV file: {error}") from error
    if shape != (SAMPLE_RATE, 1, 2) or not seconds:
        raise ValueError(f"{folder / recording.file} must be 16-bit mono at {SAMPLE_RATE} Hz")
    return Recording(**{**asdict(recording), "end": seconds})


def read_samples(path: Path, start: float, end: float) -> np.ndarray:
    """A part of a recording `(samples,)` float64, -1 to 1."""
    with wave.open(str(path)) as file:
        file.setpos(round(start * SAMPLE_RATE))
        raw = file.readframes(round((end - start) * SAMPLE_RATE))
    return np.frombuffer(raw, dtype="<i2") / 32768


def divide(library: Library) -> dict[str, Media]:
    """What each split may use: no picture, sound or ground is in two.

    Of a seen kind's things the first are train's; others go to test_s first, then to val and
    test_n. Its sounds go where its pictures are; where they are fewer, long ones are cut at their
    quietest place. test_u has the unseen kinds alone.
    """
    found = {split: (defaultdict(list), defaultdict(list), [], []) for split in SPLITS}
    second = cycle(("test_s", "test_s", "test_s", "val", "test_s", "test_s", "test_n"))
    third = cycle(("val", "train", "test_n"))
    for name in sorted(library.kinds, key=_shuffled):
        things = _groups((p for p in library.pictures if p.kind == name), "thing")
        voices = _groups((r for r in library.recordings if r.kind == name), "voice")
        unseen = library.kinds[name].unseen
        picture_splits = (
            ["test_u"] * len(things) if unseen else _picture_splits(len(things), second, third)
        )
        order = [split for split in ORDER if split in picture_splits] or ["train"]
        sounds = _cut(library, voices, len(order))
        sound_splits = [
            order[0 if index >= 2 * len(order) else index % len(order)]
            for index in range(len(sounds))
        ]
        for split, group in zip(picture_splits, things, strict=True):
            found[split][0][name] += group
        for split, group in zip(sound_splits, sounds, strict=True):
            found[split][1][name] += group
    shares = ("train",) * 6 + ("test_s", "test_u", "test_n", "val")
    for index, ground in enumerate(sorted(library.grounds, key=lambda g: _shuffled(g.file))):
        # the first five, one each: the smallest library that works
        found[SPLITS[index] if index < len(SPLITS) else shares[index % len(shares)]][2].append(
            ground
        )
    strange = sorted(library.strange, key=_shuffled)
    cut = 2 * len(strange) // 3
    for split, names in (
        ("train", strange[:cut]),
        ("val", strange[:cut]),
        ("test_n", strange[cut:]),
    ):
        found[split][3].extend(names)
    return {split: Media(dict(p), dict(r), g, s) for split, (p, r, g, s) in found.items()}


def _picture_splits(count: int, second: Iterable[str], third: Iterable[str]) -> list[str]:
    if count <= 1:
        return ["train"] * count
    if count == 2:
        return ["train", next(second)]
    if count <= 4:
        return ["train"] * (count - 2) + ["test_s", next(third)]
    return ["train"] * (count - 3) + ["test_s", "val", "test_n"]


Row = TypeVar("Row", Picture, Recording)


def _groups(rows: Iterable[Row], key: str) -> list[list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[getattr(row, key)].append(row)
    return list(groups.values())


def _cut(library: Library, voices: Sequence[list[Recording]], count: int) -> list[list[Recording]]:
    """Cut the longest single recording in two until there are `count` or none is long enough."""
    voices = list(voices)
    while voices and len(voices) < count:
        alone = [voice for voice in voices if len(voice) == 1 and voice[0].seconds >= CUTTABLE]
        if not alone:
            break
        longest = max(alone, key=lambda voice: voice[0].seconds)
        at = voices.index(longest)
        voices[at : at + 1] = [[half] for half in _halves(library, longest[0])]
    return voices


def _halves(library: Library, recording: Recording) -> tuple[Recording, Recording]:
    """The larger part first; the cut is the quietest place between 45 and 65 %."""
    samples = read_samples(library.folder / recording.file, recording.start, recording.end)
    grain = int(QUIET * SAMPLE_RATE)
    loud = (samples[: len(samples) // grain * grain].reshape(-1, grain) ** 2).mean(1)
    low, high = int(len(loud) * 0.45), int(len(loud) * 0.65)
    cut = recording.start + (low + int(loud[low:high].argmin()) + 0.5) * QUIET
    parts = (
        Recording(**{**asdict(recording), "end": round(cut, 3)}),
        Recording(**{**asdict(recording), "start": round(cut, 3)}),
    )
    return tuple(sorted(parts, key=lambda part: -part.seconds))


def _shuffled(name: str) -> str:
    """An order that no one chose, the same everywhere."""
    return hashlib.sha256(name.encode()).hexdigest()


def library_digest(folder: str | Path) -> str:
    return hashlib.sha256((Path(folder) / LIBRARY_FILE).read_bytes()).hexdigest()
