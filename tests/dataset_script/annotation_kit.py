"""Drawn clips whose masks are known, and models that are simple and exact on them: what is of one
colour is one thing. `python -m tests.dataset_script.annotation_kit TREE NAME` serves the page."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from dataset_script.annotate.models import AnnotationModels, Candidate, Prompt
from dataset_script.annotate.server import serve
from dataset_script.media_files import SAMPLING_RATE, frame_paths, sound_path, write_sound


SIZE = (120, 160)  # (height, width)
CUT = 6  # the step at which the second shot begins
RED, BLUE = (220, 40, 40), (40, 60, 220)
GROUNDS = ((120, 120, 110), (60, 140, 70))
SOUNDING = ((1.0, 3.0), (6.5, 8.0))  # s
TOLERANCE = 90  # distance of colours that are one


def true_masks(step: int) -> dict[str, np.ndarray]:
    """A ball that moves to the right and a block that moves to the left; after the cut the block
    is gone."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    ball = (x - 30 - 8 * step) ** 2 + (y - 40) ** 2 <= 15**2
    block = (abs(x - 125 + 6 * step) <= 14) & (abs(y - 90) <= 12)
    return {"ball": ball, "block": block & (step < CUT)}


def draw_frame(step: int) -> np.ndarray:
    masks = true_masks(step)
    frame = np.empty((*SIZE, 3), dtype=np.uint8)
    frame[:] = GROUNDS[step >= CUT]
    frame[masks["block"]] = BLUE
    frame[masks["ball"]] = RED
    return frame


def draw_clip(tree: Path, clip_id: str) -> None:
    frame_paths(tree, clip_id)[0].parent.mkdir(parents=True)
    for step, path in enumerate(frame_paths(tree, clip_id)):
        Image.fromarray(draw_frame(step)).save(path, quality=95, subsampling=0)
    time = np.arange(10 * SAMPLING_RATE) / SAMPLING_RATE
    loud = sum((start <= time) & (time < end) for start, end in SOUNDING)
    write_sound(sound_path(tree, clip_id), 0.5 * loud * np.sin(2 * np.pi * 440 * time))


def like(frame: np.ndarray, colour: Sequence[float]) -> np.ndarray:
    return np.linalg.norm(frame.astype(float) - np.asarray(colour), axis=-1) < TOLERANCE


class ColourSegmenter:
    """The connected region of the colour at each click; in a box, of the colour at its middle."""

    def segment(self, frame: np.ndarray, prompt: Prompt) -> np.ndarray:
        mask = np.zeros(frame.shape[:2], dtype=bool) if prompt.mask is None else prompt.mask.copy()
        points = list(zip(prompt.points, prompt.labels, strict=True))
        if prompt.box:
            left, top, right, bottom = prompt.box
            points.insert(0, (((left + right) / 2, (top + bottom) / 2), True))
        for (x, y), on in points:
            pixel = int(y), int(x)
            regions, _ = ndimage.label(like(frame, frame[pixel]))
            mask[regions == regions[pixel]] = on
        return mask


class ColourTracker:
    """All that has the mean colour of the object."""

    def track(
        self, frames: Sequence[np.ndarray], pivot: int, masks: dict[int, np.ndarray]
    ) -> Iterator[tuple[int, dict[int, np.ndarray]]]:
        colours = {fid: frames[pivot][mask].mean(axis=0) for fid, mask in masks.items()}
        for place, frame in enumerate(frames):
            if place != pivot:
                yield place, {fid: like(frame, colour) for fid, colour in colours.items()}


class ColourDetector:
    def detect(self, frame: np.ndarray, text: str = "") -> list[Candidate]:
        colours = {"ball": RED, "block": BLUE}
        wanted = {name: c for name, c in colours.items() if not text or name in text}
        return [Candidate(like(frame, colour), name, 0.9) for name, colour in wanted.items()]


class LoudnessProposer:
    def propose(self, samples: np.ndarray, category: str) -> list[tuple[float, float]]:
        loud = np.abs(samples).reshape(-1, SAMPLING_RATE // 10).max(axis=1) > 0.1
        edges = np.flatnonzero(np.diff(np.pad(loud.astype(int), 1))) / 10
        return list(zip(edges[::2], edges[1::2], strict=True))


def make_models() -> AnnotationModels:
    return AnnotationModels(
        ColourSegmenter(), ColourTracker(), ColourDetector(), LoudnessProposer()
    )


if __name__ == "__main__":
    tree, annotator, *review = sys.argv[1:]
    announce = lambda address: print(address, flush=True)  # noqa: E731, T201
    serve(tree, annotator, make_models(), *review, port=0, announce=announce)
