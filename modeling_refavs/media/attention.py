"""One picture of what the model reads to find an object: second by second, sound, places and words."""

import argparse
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..feature_extraction_refavs import SAMPLING_RATE
from .cue_attention import CueAttention, attend, divide_attention
from .cue_panels import draw_modalities, draw_pictures, draw_places, draw_spectrogram, draw_words
from .loading import choose_device, load_model
from .opening import probe_video
from .segmentation import check_request
from .steps import read_steps
from .writing import whole_file


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURE_SUFFIXES = (".png", ".pdf", ".svg")
COLUMN = 1.3  # inches, of a second
LEFT, RIGHT, TOP, BOTTOM, GAP = 2.0, 0.2, 1.0, 0.65, 0.32  # inches, around and between the rows
FOOTNOTE = (
    "Attention of the mask queries to the cue tokens (CATF, Eq. 5), mean of layers and heads; the query that claims the "
    "object counts most.\nThe cues have told each other of themselves before (Eq. 1 and 4): a share says where the model "
    "looks, not what it could not do without."
)
LONGER_SIDE = 400  # pixels of a picture; more would not be seen


@dataclass
class Seen:
    """What is known of the seconds that are drawn; each list has one entry a second."""

    frames: list[np.ndarray] = field(default_factory=list)
    audio: list[np.ndarray | None] = field(default_factory=list)
    masks: list[np.ndarray] = field(default_factory=list)
    presence: list[float] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)


def run_explain(args: argparse.Namespace) -> None:
    """`refavs explain`: draw one sentence's attention.

    Raises:
        ValueError: any input or output that cannot work.
    """
    if args.output.suffix.lower() not in PICTURE_SUFFIXES:
        raise ValueError(f"{args.output}: the plot must end in {', '.join(PICTURE_SUFFIXES)}")
    if not args.output.resolve().parent.is_dir():
        raise ValueError(f"{args.output}: there is no such folder to write to")
    check_request([args.expression], args.threshold)
    probe_video(args.video)
    model, processor = load_model(args.model, choose_device(args.device), graphs=False)
    figure = plot_cues(
        model, processor, args.video, args.expression,
        start=args.start, num_steps=args.seconds, threshold=args.threshold,
    )  # fmt: skip
    with whole_file(args.output) as unfinished:
        figure.savefig(unfinished)


def plot_cues(
    model: Any,
    processor: Any,
    path: str | Path,
    expression: str,
    *,
    start: int = 0,
    num_steps: int = 10,
    threshold: float = 0.5,
) -> "Figure":
    """Draw what the model attends to, beside the pictures with the mask and the log-mel spectrogram.

    Args:
        model, processor: [`RefAVSForSegmentation`] and [`RefAVSProcessor`].
        path: any video file that PyAV reads.
        expression: one sentence.
        start: the first second that is drawn; the ones before feed the memory.
        num_steps: how many seconds are drawn, at most.
        threshold: the probability above which a pixel is of the object.

    Returns:
        matplotlib's figure: `figure.savefig("cues.png")`.

    Raises:
        ValueError: the sentence is empty, a number out of range, the file no video, the model of another kind, or the
            video over before `start`.
    """
    check_request([expression], threshold)
    if start < 0 or num_steps < 1:
        raise ValueError(f"start must be at least 0 and num_steps at least 1, got {start} and {num_steps}")
    seen = look(model, processor, path, expression, start, num_steps, threshold)
    attention = divide_attention(model, processor, expression, np.stack(seen.weights))
    return _draw(seen, attention, expression, start)


def look(
    model: Any, processor: Any, path: str | Path, expression: str, start: int, num_steps: int, threshold: float
) -> Seen:
    """Run a video's seconds through the model, up to the last one that is drawn."""
    seen, memory = Seen(), None
    for index, step in enumerate(islice(read_steps(path, SAMPLING_RATE), start + num_steps)):
        inputs = processor(text=[expression], frames=[step.frame], audio=step.audio, sampling_rate=SAMPLING_RATE)
        outputs, weights = attend(model, **inputs.to(model.device, model.dtype), memory=memory)
        memory = outputs.memory
        if index >= start:
            stride = -(-max(step.frame.shape) // LONGER_SIDE)
            frame = step.frame[::stride, ::stride]
            presence = outputs.presence_logits[0, 0].float().sigmoid().item()
            (mask,) = processor.post_process_masks(outputs, frame.shape[:2], threshold)
            seen.frames.append(frame)
            seen.audio.append(step.audio)
            seen.masks.append(mask[0] & (presence > threshold))
            seen.presence.append(presence)
            seen.weights.append(weights[0].cpu().numpy())
    if not seen.frames:
        raise ValueError(f"{path}: it is over before {start} s: choose an earlier start")
    return seen


def _draw(seen: Seen, attention: CueAttention, expression: str, start: int) -> "Figure":
    num_steps = len(seen.frames)
    picture = COLUMN * seen.frames[0].shape[0] / seen.frames[0].shape[1]
    heights = [picture, picture, 0.8, 1.3, *([0.23 * (len(attention.words) + 1)] if attention.words else [])]
    figure, (pictures, places, sound, bars, *table) = _stack(heights, num_steps)
    draw_pictures(pictures, seen.frames, seen.masks, seen.presence)
    draw_places(places, seen.frames, attention.visual)
    draw_spectrogram(sound, seen.audio)
    draw_modalities(bars, attention)
    for axes in table:
        draw_words(axes, attention)
    for axes in (pictures, places, sound, bars, *table):
        axes.set(xlim=(0, num_steps), xticks=[])
        axes.spines[:].set_visible(False)
    pictures.set_xticks(np.arange(num_steps) + 0.5, [f"{start + k} s" for k in range(num_steps)])
    pictures.tick_params(axis="x", length=0, labeltop=True, labelbottom=False)
    width, height = figure.get_size_inches()
    size = min(15, 72 * width / (0.65 * len(expression) + 1))  # points; a bold letter is about 0.65 of its size wide
    figure.text(0.15 / width, 1 - 0.27 / height, f"“{expression}”", size=size, weight="bold", va="center")
    figure.text(0.15 / width, 1 - 0.56 / height, "What the model reads to find it, second by second", va="center")
    figure.text(0.15 / width, 0.12 / height, FOOTNOTE, size=7.5, color="#777777", linespacing=1.4)
    return figure


def _stack(heights: list[float], num_steps: int) -> tuple["Figure", list["Axes"]]:
    """Rows of these heights (inches) under one another, room for titles around them."""
    from matplotlib.figure import Figure  # takes a second, and only who asks for a plot needs it

    width = LEFT + COLUMN * max(num_steps, 4) + RIGHT
    height = TOP + sum(heights) + GAP * (len(heights) - 1) + BOTTOM
    figure, under, rows = Figure(figsize=(width, height), dpi=110, facecolor="white"), height - TOP, []
    for row in heights:
        under -= row
        rows.append(figure.add_axes((LEFT / width, under / height, COLUMN * num_steps / width, row / height)))
        under -= GAP
    return figure, rows
