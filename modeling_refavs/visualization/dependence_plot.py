"""The plot of `refavs explain`: the words under a bar each, what the sound and the past do, and
second by second the answer, the grounding map and the sound."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..inference.dependence import Dependence, ask_video, measure_dependence
from ..inference.segment import check_request
from .explain_plot import (
    FAINT,
    check_steps,
    draw_pictures,
    draw_spectrogram,
    label_row,
    place_picture,
)


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


WIDTH, LEFT, RIGHT = 9.6, 2.1, 0.5  # inches; between the sides a column for each second
TOP, BOTTOM, GAP, BARS, SOUND = 0.85, 0.55, 0.34, 1.25, 1.05  # inches
MOST_COLUMN = 1.3  # inches, of a second
WORD, SOUNDS = "#009e73", "#d55e00"
MAX_FRAME_SIDE = 400  # pixels, at which a frame is drawn
QUALITY = {"ha": "right", "size": 8, "color": "white", "bbox": {"color": "black", "pad": 1}}
FOOTNOTE = (
    "An effect is the mean over the seconds shown of the loss of IoU with the answer, or of "
    "presence if that is more: 0 changes nothing, 1 all."
)


def plot_dependence(
    model: Any,
    processor: Any,
    path: str | Path,
    expression: str,
    *,
    start: int = 0,
    num_steps: int = 10,
    threshold: float = 0.5,
) -> "Figure":
    """Draw what an answer depends on; see [`measure_dependence`].

    Args:
        model, processor, path, expression, start, num_steps, threshold: see [`plot_cues`].

    Returns:
        matplotlib's figure.

    Raises:
        ValueError: as of [`plot_cues`].
    """
    check_request([expression], threshold)
    check_steps(start, num_steps)
    steps = ask_video(model, processor, path, expression, start, num_steps, threshold)
    found = measure_dependence(steps.question)
    stride = -(-max(steps.frames[0].shape) // MAX_FRAME_SIDE)
    frames = [frame[::stride, ::stride] for frame in steps.frames]
    return _draw(found, frames, steps.audio, expression, start)


def _draw(
    found: Dependence,
    frames: list[np.ndarray],
    audio: list[np.ndarray | None],
    expression: str,
    start: int,
) -> "Figure":
    from matplotlib.figure import Figure  # takes a second, and only who asks for a plot needs it

    num_steps, inner = len(frames), WIDTH - LEFT - RIGHT
    column = min(inner / num_steps, MOST_COLUMN)
    picture = column * frames[0].shape[0] / frames[0].shape[1]
    heights = [BARS, picture, *([picture] if found.grounding is not None else []), SOUND]
    gaps = [GAP + 0.3, *[GAP] * (len(heights) - 2)]
    height = TOP + sum(heights) + sum(gaps) + BOTTOM
    figure = Figure(figsize=(WIDTH, height), dpi=180, facecolor="white")
    rows, top = [], height - TOP
    for row, gap in zip(heights, [*gaps, 0.0], strict=True):
        size = (inner if not rows else column * num_steps) / WIDTH
        rows.append(figure.add_axes((LEFT / WIDTH, (top - row) / height, size, row / height)))
        top -= row + gap
    bars, pictures, *maps, sound = rows
    _draw_bars(bars, found)
    masks = [
        _resize(mask, frame.shape)
        for mask, frame in zip(found.answer.masks[0], frames, strict=True)
    ]
    draw_pictures(pictures, frames, masks, found.answer.presence[0].tolist())
    if found.answer.iou_scores is not None:
        for second, score in enumerate(found.answer.iou_scores[0]):
            pictures.text(second + 0.96, 0.05, f"IoU {score:.2f}", **QUALITY)
    for axes in maps:
        _draw_grounding(axes, frames, found.grounding)
    _draw_sound(sound, audio, found.by_second)
    for axes in rows[1:]:
        axes.set(xlim=(0, num_steps), xticks=[])
        axes.spines[:].set_visible(False)
    seconds = [f"{start + second} s" for second in range(num_steps)]
    pictures.set_xticks(np.arange(num_steps) + 0.5, seconds)
    pictures.tick_params(axis="x", length=0, labeltop=True, labelbottom=False)
    size = min(15, 72 * (WIDTH - 0.3) / (0.65 * len(expression) + 1))
    line = {"x": 0.15 / WIDTH, "va": "center"}
    figure.text(y=1 - 0.27 / height, s=f"“{expression}”", size=size, weight="bold", **line)
    figure.text(y=1 - 0.55 / height, s="What the answer depends on", size=11, **line)
    figure.text(y=0.17 / height, s=FOOTNOTE, size=8, color=FAINT, **line)
    return figure


def _draw_bars(axes: "Axes", found: Dependence) -> None:
    """A bar over each word, and one over each of the other things that may be missing."""
    others = {
        "no\nsound": found.no_sound,
        "sound\nswapped": found.swapped_sound,
        "no\nmemory": found.no_memory,
    }
    gap = 0.6
    places = [*range(len(found.words)), *(len(found.words) + gap + 1.2 * n for n in range(3))]
    values = [*found.by_word.tolist(), *others.values()]
    colours = [WORD] * len(found.words) + [SOUNDS] * 2 + ["#777777"]
    drawn = axes.bar(places, values, 0.75, color=colours)
    axes.bar_label(drawn, [f"{value:.2f}" for value in values], size=8.5, padding=1)
    axes.set_xticks(places, [*found.words, *others])
    crowded = len(found.words) > 9
    for label in axes.get_xticklabels():
        is_word = "\n" not in label.get_text()
        label.set(size=9 if is_word and not crowded else 8, weight="bold" if is_word else "normal")
        label.set(rotation=30 if crowded and is_word else 0)
    axes.set(ylim=(0, 1.15), yticks=[0, 0.5, 1], xlim=(-0.6, places[-1] + 0.75))
    axes.tick_params(axis="x", length=0)
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    label_row(
        axes,
        "Each missing",
        "a word masked; no sound, its\nhalves swapped; no past:\neffect, 0 to 1",
    )


def _draw_grounding(axes: "Axes", frames: list[np.ndarray], grounding: np.ndarray) -> None:
    """Each frame in grey under how far the cues say that the object covers each part of it."""
    from matplotlib import colormaps

    for second, (frame, part) in enumerate(zip(frames, grounding, strict=True)):
        grey = Image.fromarray(frame).convert("L").convert("RGB")
        heat = Image.fromarray(part.astype(np.float32)).resize(grey.size, Image.Resampling.BILINEAR)
        colours = colormaps["inferno"](np.asarray(heat).clip(0, 1))[..., :3] * 255
        blend = Image.blend(grey, Image.fromarray(colours.astype(np.uint8)), 0.7)
        place_picture(axes, np.asarray(blend), second)
    axes.set(ylim=(0, 1), yticks=[])
    label_row(
        axes, "Where it grounds", "p(the object is here) from the\ncues alone: 0 black, 1 yellow"
    )


def _draw_sound(axes: "Axes", audio: list[np.ndarray | None], by_second: np.ndarray) -> None:
    """The effect of muting each second, over the spectrogram of what is heard."""
    draw_spectrogram(axes, audio)
    if all(second is None for second in audio):
        return
    over = axes.twinx()
    edges = np.arange(len(by_second) + 1)
    for width, colour in ((4.5, "black"), (2.2, "white")):
        over.stairs(by_second, edges, baseline=None, color=colour, linewidth=width)
    over.set(ylim=(0, 1), yticks=[0, 0.5, 1], ylabel="effect")
    over.tick_params(labelsize=8)
    over.yaxis.label.set_size(8)
    over.spines[:].set_visible(False)
    for second, effect in enumerate(by_second):
        over.text(
            second + 0.5, -0.05, f"{effect:.2f}", ha="center", va="top", size=8.5, clip_on=False
        )
    label_row(axes, "Each second muted", "line and numbers: effect;\nlog-mel spectrogram, kHz")


def _resize(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).resize(shape[1::-1], Image.Resampling.BILINEAR))
