"""A cut-out library from Debian packages, which are unpacked without installing them; library.yaml
says what is taken."""

import io
import json
import os
import shutil
import struct
import subprocess
import tempfile
import wave
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import yaml
from PIL import Image, ImageDraw

from .library import LIBRARY_FILE, SAMPLE_RATE


MANIFEST = Path(__file__).with_name("library.yaml")
GROUND_SIDE = 640  # pixels, the longer side of a stored background
PICTURE_SIDE = 512
LONGEST = 12.0  # s of a stored sound
SILENCE = 30.0  # dB under the loudest moment: trimmed at both ends
SUPER_WORDS = {
    "animal": "animal",
    "human": "person",
    "vehicle": "vehicle",
    "plant": "plant",
    "food": "food",
}
CELL, COLUMNS = 110, 12  # of a contact sheet


def build_library(output: str | Path, packages: str | Path | None = None) -> dict[str, int]:
    """Make a library.

    Args:
        output: a folder that does not exist yet.
        packages: a folder with the .deb files; without it they are fetched by `apt-get download`.

    Returns:
        How many kinds, pictures, sounds and backgrounds it holds.

    Raises:
        ValueError: if the folder exists, or a package or a file in it cannot be had.
    """
    output = Path(output)
    if output.exists():
        raise ValueError(f"{output} exists: choose another folder, or remove it")
    manifest = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f".{output.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            roots = _unpack(manifest["packages"], Path(scratch), packages and Path(packages))
            table = _fill(manifest, roots, unfinished)
        (unfinished / LIBRARY_FILE).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        _draw_sheets(table, unfinished)
        os.replace(unfinished, output)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return {name: len(table[name]) for name in ("kinds", "pictures", "sounds", "backgrounds")}


def _unpack(packages: dict[str, Any], scratch: Path, given: Path | None) -> dict[str, Path]:
    """The folder of each package's media."""
    roots = {}
    for name, package in packages.items():
        debian = package["debian"]
        if given is None:
            _run(f"cannot fetch {debian}", "apt-get", "download", debian, folder=scratch)
        files = sorted((given or scratch).glob(f"{debian}_*.deb"))
        if not files:
            raise ValueError(f"{given} holds no {debian}_*.deb")
        _run(
            f"cannot unpack {files[-1]}",
            "dpkg-deb",
            "-x",
            files[-1].resolve(),
            scratch / name,
            folder=scratch,
        )
        roots[name] = scratch / name / package["root"]
    return roots


def _run(failure: str, *command: str | Path, folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ValueError(f"{failure}: {command[0]} is not on this machine") from error
    except subprocess.CalledProcessError as error:
        raise ValueError(
            f"{failure}: {(error.stderr.strip().splitlines() or ['?'])[-1]}"
        ) from error


def _fill(manifest: dict[str, Any], roots: dict[str, Path], folder: Path) -> dict[str, Any]:
    """Write every file of the library; returns its table."""
    packages = manifest["packages"]
    table: dict[str, Any] = {"kinds": {}, "pictures": [], "sounds": [], "backgrounds": []}

    def read(name: str, kind: str) -> tuple[bytes, dict[str, str]]:
        source, path = name.split(":", 1)
        path = path if Path(path).suffix else path + packages[source].get(kind, "")
        origin = {
            "source": f"{packages[source]['debian']}: {path}",
            "licence": packages[source]["licence"],
        }
        return _content(roots[source], path), origin

    for name in ("pictures", "sounds", "backgrounds"):
        (folder / name).mkdir(parents=True)
    for super_category, kinds in manifest["kinds"].items():
        for kind, about in kinds.items():
            wider = [*about.get("groups", ()), *filter(None, [SUPER_WORDS.get(super_category)])]
            table["kinds"][kind] = {
                "super_category": super_category,
                "also": about.get("also", []),
                "groups": wider,
                "like": about.get("like", []),
                "unseen": kind in manifest["unseen"],
            }
            stem = kind.replace(" ", "-")
            for thing, number, name in _numbered(about.get("pictures", ())):
                content, origin = read(name, "picture")
                file = f"pictures/{stem}-{number}.png"
                _write(folder / file, _picture, content, name)
                table["pictures"].append(
                    {"file": file, "kind": kind, "thing": f"{stem}-{thing}", **origin}
                )
            for voice, number, name in _numbered(about.get("sounds", ())):
                name, _, does = name.partition(" = ")
                content, origin = read(name, "sound")
                file = f"sounds/{stem}-{number}.wav"
                _write(folder / file, _sound, content, name)
                row = {
                    "file": file,
                    "kind": kind,
                    "voice": f"{stem}-{voice}",
                    "does": does or about["does"],
                }
                table["sounds"].append({**row, **origin})
    for source, names in manifest["backgrounds"].items():
        for name in names:
            content, origin = read(f"{source}:{name}", "ground")
            file = f"backgrounds/{source}-{Path(name).stem}.jpg"
            _write(folder / file, _ground, content, name)
            table["backgrounds"].append({"file": file, **origin})
    table["strange"] = manifest["strange"]
    return table


def _numbered(names: list[str | list[str]]) -> Iterator[tuple[int, int, str]]:
    """(number of the thing, number of the picture, its name) of each, from a list with nested lists
    of views."""
    number = 0
    for thing, views in enumerate(names, 1):
        for view in [views] if isinstance(views, str) else views:
            number += 1
            yield thing, number, view


def _content(root: Path, path: str) -> bytes:
    """A file's bytes; in a Qt resource collection `collection/path` is the file whose name ends
    so."""
    try:
        if (root / path).is_file():
            return (root / path).read_bytes()
        collection, _, rest = path.partition("/")
        return next(
            content
            for name, content in _resources(root / f"{collection}.rcc").items()
            if name.endswith(f"/{rest}")
        )
    except (OSError, StopIteration, struct.error) as error:
        raise ValueError(f"{root} lacks {path}") from error


@lru_cache(maxsize=4)
def _resources(path: Path) -> dict[str, bytes]:
    """The files in a Qt resource collection (`qres`, big-endian): a tree of 22-byte nodes, names in
    UTF-16, data plain or behind zlib with four bytes of length before it."""
    raw = path.read_bytes()
    version, tree, data, names = struct.unpack(">IIII", raw[4:20])
    size = 22 if version >= 2 else 14
    found = {}

    def walk(node: int, prefix: str) -> None:
        at = tree + node * size
        name_at, flags = struct.unpack(">IH", raw[at : at + 6])
        (length,) = struct.unpack(">H", raw[names + name_at : names + name_at + 2])
        text = raw[names + name_at + 6 : names + name_at + 6 + 2 * length].decode("utf-16-be")
        name = f"{prefix}/{text}" if node else ""
        if flags & 2:
            count, first = struct.unpack(">II", raw[at + 6 : at + 14])
            for child in range(first, first + count):
                walk(child, name)
        else:
            start = data + struct.unpack(">I", raw[at + 10 : at + 14])[0]
            (length,) = struct.unpack(">I", raw[start : start + 4])
            content = raw[start + 4 : start + 4 + length]
            found[name] = zlib.decompress(content[4:]) if flags & 1 else content

    walk(0, "")
    return found


def _write(path: Path, make: Callable[[bytes], bytes], content: bytes, name: str) -> None:
    try:
        path.write_bytes(make(content))
    except (OSError, av.FFmpegError) as error:
        raise ValueError(f"{name} cannot be read: {error}") from error


def _picture(content: bytes) -> bytes:
    """Cropped to what is opaque, the longer side at most `PICTURE_SIDE`."""
    picture = Image.open(io.BytesIO(content)).convert("RGBA")
    box = picture.getchannel("A").point(lambda alpha: 255 * (alpha > 16)).getbbox()
    if box is None:
        raise OSError("nothing in it is opaque")
    picture = picture.crop(box)
    picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
    return _encoded(picture, "PNG")


def _ground(content: bytes) -> bytes:
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    picture.thumbnail((GROUND_SIDE, GROUND_SIDE), Image.Resampling.LANCZOS)
    return _encoded(picture, "JPEG", quality=92)


def _encoded(picture: Image.Image, kind: str, **settings: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **settings)
    return buffer.getvalue()


def _sound(content: bytes) -> bytes:
    """16 kHz mono, silence trimmed at both ends, the loudest sample at -1 dB."""
    with av.open(io.BytesIO(content)) as container:
        resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        frames += resampler.resample(None)
    samples = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    grain = SAMPLE_RATE // 50
    loud = np.sqrt((samples[: len(samples) // grain * grain].reshape(-1, grain) ** 2).mean(1))
    if not len(loud) or loud.max() < 1e-4:
        raise OSError("nothing is heard in it")
    heard = np.flatnonzero(loud > loud.max() * 10 ** (-SILENCE / 20))
    samples = samples[heard[0] * grain : (heard[-1] + 1) * grain][: int(LONGEST * SAMPLE_RATE)]
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples / np.abs(samples).max() * 29204).astype("<i2").tobytes())
    return buffer.getvalue()


def _draw_sheets(table: dict[str, Any], folder: Path) -> None:
    """`sheet-<super-category>.png`, to look at: every picture with its kind, a star where sounds
    are."""
    sounding = {row["kind"] for row in table["sounds"]}
    kinds = table["kinds"]
    for super_category in dict.fromkeys(kind["super_category"] for kind in kinds.values()):
        rows = [
            row
            for row in table["pictures"]
            if kinds[row["kind"]]["super_category"] == super_category
        ]
        height = CELL + 14
        sheet = Image.new(
            "RGB", (COLUMNS * CELL, -(-len(rows) // COLUMNS) * height), (120, 150, 120)
        )
        for index, row in enumerate(rows):
            x, y = index % COLUMNS * CELL, index // COLUMNS * height
            picture = Image.open(folder / row["file"])
            picture.thumbnail((CELL - 4, CELL - 4))
            sheet.paste(picture, (x + 2, y + 2), picture)
            label = row["kind"] + (" *" if row["kind"] in sounding else "")
            ImageDraw.Draw(sheet).text((x + 2, y + CELL), label, fill="white")
        sheet.save(folder / f"sheet-{super_category}.png")
