"""A synthetic Ref-AVS Bench on disk: frames, sounds, masks and sentences in the real layout."""

import csv
import io
import json
import wave
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import asdict, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from PIL import Image
from tqdm import tqdm

from modeling_refavs.utils.files import is_new, lock_folder, whole_file
from modeling_refavs.utils.processes import worker_pool

from .appearance import Appearance, Drawn, appearance_of
from .clips import (
    COLUMNS,
    SPLITS,
    VID_START,
    SynthesisOptions,
    clip_names,
    make_clip,
    split_of,
)
from .library import library_digest
from .scene import Scene
from .sounds import SAMPLE_RATE


FPS = 25


def encode_video(
    scene: Scene, sound: np.ndarray, height: int, width: int, appearance: Appearance | None = None
) -> bytes:
    """H.264 and AAC, playable in a browser.

    Args:
        scene: the scene graph.
        sound: its samples `(samples,)` int16 at 16 kHz.
        height, width: of the frames, pixels, even.
        appearance: of its objects; drawn ones without.
    """
    appearance = appearance or Drawn()
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        picture = container.add_stream("libx264", rate=FPS, options={"crf": "18"})
        picture.height, picture.width, picture.pix_fmt = height, width, "yuv420p"
        picture.thread_count = 1  # same bytes on every machine
        voice = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for number in range(round(scene.seconds * FPS)):
            frame, _ = appearance.draw(scene, number / FPS, height, width)
            container.mux(picture.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(picture.encode())
        samples = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
        samples.sample_rate, samples.time_base, samples.pts = (
            SAMPLE_RATE,
            Fraction(1, SAMPLE_RATE),
            0,
        )
        container.mux(voice.encode(samples))
        container.mux(voice.encode())
    return buffer.getvalue()


JPEG_QUALITY = 92


def synthesize(
    output: str | Path,
    clips: int,
    options: SynthesisOptions | None = None,
    workers: int = 1,
    splits: Collection[str] = SPLITS,
) -> None:
    """Write `clips` clips into a folder. A run that was stopped goes on where it was.

    Args:
        output: the folder; made if it does not exist.
        clips: how many; more of them later add to the same folder.
        options: see `SynthesisOptions`.
        workers: processes. They change nothing but the time.
        splits: clips of others are counted, and left out.

    Raises:
        ValueError: on bad numbers or splits, or a folder that holds something else.
    """
    options = options or SynthesisOptions()
    for name, value in (("clips", clips), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    if unknown := sorted(set(splits) - set(SPLITS)):
        raise ValueError(
            f"splits must be of {', '.join(dict.fromkeys(SPLITS))}, got {', '.join(unknown)}"
        )
    appearance_of(options.library)  # a bad library is refused before anything is made
    wanted = [index for index in range(clips) if split_of(index) in splits]
    output = Path(output)
    write = partial(write_clip, output, options)
    with ExitStack() as stack:
        stack.enter_context(lock_folder(output))
        _claim(output, options)
        mapped = map
        if workers > 1:
            pool = stack.enter_context(worker_pool(workers))
            mapped = partial(pool.map, chunksize=4)
        done = tqdm(mapped(write, wanted), total=len(wanted), unit="clip", desc="synthesize")
        rows = [row for clip_rows in done for row in clip_rows]
        _write_tables(output, options, rows)


def _write_tables(
    output: Path, options: SynthesisOptions, rows: list[dict[str, str | int]]
) -> None:
    taxonomy = appearance_of(options.library).taxonomy(options.novelty_share > 0)
    _replace(output / "taxonomy.json", _json(taxonomy))
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    _replace(output / "metadata.csv", table.getvalue().encode())


def write_clip(output: Path, options: SynthesisOptions, index: int) -> list[dict[str, str | int]]:
    """Write one clip unless it is there; its scene graph comes last and says that it is. Returns
    its metadata rows."""
    for name in clip_names(options, index):
        done = output / "scenes" / f"{name}.json"
        if done.exists():
            return _stored_rows(done)
    clip = make_clip(options, index)
    rows = list(clip.rows())
    appearance = appearance_of(options.library)
    done = output / "scenes" / f"{clip.name}.json"
    media, masks = output / "media" / clip.name, output / "gt_mask" / clip.name
    sound = appearance.render_sound(clip.scene)
    _replace(media / "audio.wav", _wav(sound))
    for number, time in enumerate(options.times):
        frame, visible = appearance.draw(clip.scene, float(time), options.height, options.width)
        _replace(media / "frames" / f"{number}.jpg", _image(frame, "JPEG", quality=JPEG_QUALITY))
        shown = visible[:1] & False if clip.name.startswith("null_") else visible
        for fid, mask in enumerate(shown):
            _replace(
                masks / f"fid_{fid}" / f"{number:05d}.png",
                _image(mask.astype(np.uint8) * 255, "PNG"),
            )
    if options.video:
        size = options.height, options.width
        _replace(media / "video.mp4", encode_video(clip.scene, sound, *size, appearance))
    sentences = [
        {"uid": row["uid"], **asdict(expression)}
        for row, expression in zip(rows, clip.expressions, strict=True)
    ]
    _replace(
        done, _json({"split": clip.split, "scene": clip.scene.to_json(), "expressions": sentences})
    )
    return rows


def _stored_rows(path: Path) -> list[dict[str, str | int]]:
    """The metadata rows of a clip that is there, from its scene graph."""
    stored = json.loads(path.read_bytes())
    vid = path.stem[path.stem.index(VID_START) :]
    return [
        dict(zip(COLUMNS, (vid, e["uid"], stored["split"], e["fid"] or 0, e["text"]), strict=True))
        for e in stored["expressions"]
    ]


def _claim(output: Path, options: SynthesisOptions) -> None:
    """Note in the folder what is made there, and refuse to mix two worlds."""
    note = output / "synthesis.json"
    made = asdict(options)
    if options.library:
        made["library"] = library_digest(options.library)
    if note.exists() and _read_options(note) != replace(options, library=made["library"]):
        raise ValueError(
            f"{output} holds clips made with other options ({note}): choose another folder"
        )
    if not note.exists() and not is_new(output):
        raise ValueError(
            f"{output} is not empty and holds no synthetic benchmark: choose another folder"
        )
    _replace(note, _json(made))


def _read_options(note: Path) -> SynthesisOptions | None:
    """None if it holds something else. An older note lacks what was fixed then; `library` is its
    digest."""
    try:
        return SynthesisOptions(**json.loads(note.read_bytes()))
    except (TypeError, ValueError):
        return None


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished:
        unfinished.write_bytes(content)


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def _wav(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()


def _image(pixels: np.ndarray, kind: str, **settings: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **settings)
    return buffer.getvalue()
