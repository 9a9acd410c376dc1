"""The plot of `refavs explain --attention`: rows of frames, places, sound, modalities and words,
where a step is one unit wide in all of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..feature_extraction_refavs import (
    MAX_FREQUENCY,
    MIN_FREQUENCY,
    NUM_MEL_BANDS,
    SAMPLING_RATE,
    WINDOW_LENGTH,
    log_mel_spectrogram,
)
from ..inference.explain import CueAttention, ExplainedSteps, divide_attention, explain_steps
from ..inference.segment import check_request


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


COLUMN = 1.3  # inches, of a second
LEFT, RIGHT, TOP, BOTTOM, ROW_GAP = 2.0, 0.2, 1.0, 0.65, 0.32  # inches, around and between the rows
FOOTNOTE = (
    "Attention of the mask queries to the cue tokens (CATF, Eq. 5), mean of layers and heads; "
    "queries "
    "count by their object score.\nThe cues have been mixed before (Eq. 1 and 4): a share says "
    "where "
    "the model attends, not what its answer depends on."
)
COLOURS = {"sound": "#e69f00", "picture": "#56b4e9", "words": "#009e73", "tags": "#bbbbbb"}
FREQUENCIES = (0.25, 1, 4)  # kHz, marked at the spectrogram
DASHES = (0, (4, 3))
GAP = 0.02  # s, on both sides of a picture
LEGIBLE = 0.1  # of a bar; a smaller share has no room for its number
LABEL = "label"  # marks the texts at the left of a row
FAINT, DARK_ORANGE = "#666666", "#a06d00"


def draw_pictures(
    axes: "Axes", frames: list[np.ndarray], masks: list[np.ndarray], presence: list[float]
) -> None:
    """Each step's frame, in colour where the mask is, and the probability that the object is
    there."""
    for second, (frame, mask, probability) in enumerate(zip(frames, masks, presence, strict=True)):
        grey = np.asarray(Image.fromarray(frame).convert("L").convert("RGB")) // 2
        place_picture(axes, np.where(mask[..., None], frame, grey), second)
        ink = "black" if mask.any() else FAINT
        axes.text(
            second + 0.5,
            -0.04,
            f"{probability:.0%}",
            ha="center",
            va="top",
            size=8,
            color=ink,
        )
    axes.set(ylim=(0, 1), yticks=[])
    label_row(axes, "What it finds", "in colour; below: probability\nthat the object is there")


def draw_places(axes: "Axes", frames: list[np.ndarray], visual: np.ndarray) -> None:
    """Each step's frame in grey under the attention to its places, `(steps, grid, grid)`, on one
    scale."""
    from matplotlib import colormaps

    least, most = visual.min(), visual.max()
    for second, (frame, places) in enumerate(zip(frames, visual, strict=True)):
        grey = Image.fromarray(frame).convert("L").convert("RGB")
        heat = Image.fromarray(
            ((places - least) / max(most - least, 1e-9)).astype(np.float32)
        ).resize(grey.size, Image.Resampling.BILINEAR)
        colours = Image.fromarray(
            (colormaps["inferno"](np.asarray(heat))[..., :3] * 255).astype(np.uint8)
        )
        place_picture(axes, np.asarray(Image.blend(grey, colours, 0.75)), second)
    axes.set(ylim=(0, 1), yticks=[])
    label_row(
        axes,
        "Where it attends",
        f"of all attention, a place gets\n{least:.1%} (black) to {most:.1%} (yellow)",
    )


def draw_spectrogram(axes: "Axes", audio: list[np.ndarray | None]) -> None:
    """The log-mel spectrogram that VGGish hears."""
    label_row(axes, "What it hears", "log-mel spectrogram, kHz")
    if all(second is None for second in audio):
        axes.text(len(audio) / 2, 0.5, "no sound track", ha="center", va="center", color=FAINT)
        axes.set(ylim=(0, 1), yticks=[])
        return
    waveform = np.zeros(len(audio) * SAMPLING_RATE + WINDOW_LENGTH, dtype=np.float32)
    for index, second in enumerate(audio):
        heard = np.zeros(0) if second is None else second[:SAMPLING_RATE]
        waveform[index * SAMPLING_RATE :][: len(heard)] = heard
    mel = log_mel_spectrogram(waveform)[: len(audio) * 100]
    extent = (0, len(audio), 0, NUM_MEL_BANDS)
    axes.imshow(
        mel.T, origin="lower", extent=extent, aspect="auto", cmap="magma", interpolation="nearest"
    )
    low, high = _mel(MIN_FREQUENCY), _mel(MAX_FREQUENCY)
    heights = [
        (_mel(1000 * kilohertz) - low) / (high - low) * NUM_MEL_BANDS for kilohertz in FREQUENCIES
    ]
    axes.set_yticks(heights, [f"{kilohertz:g}" for kilohertz in FREQUENCIES], size=7)
    axes.vlines(range(1, len(audio)), 0, NUM_MEL_BANDS, color="white", linewidth=0.5, alpha=0.5)


def draw_modalities(axes: "Axes", attention: CueAttention) -> None:
    """Stacked bars; dashes mark where they would meet if every cue token got the same."""
    seconds = np.arange(len(attention.audio)) + 0.5
    below, even = np.zeros(len(seconds)), 0.0
    for name, shares in attention.by_modality.items():
        axes.bar(seconds, shares, 0.86, below, color=COLOURS[name], label=name)
        for second, share, bottom in zip(seconds, shares, below, strict=True):
            if name == "sound":
                text = f"sound {share:.0%}" if share else "no sound"
                axes.text(second, -0.03, text, ha="center", va="top", size=7.5, color=DARK_ORANGE)
            elif share >= LEGIBLE:
                axes.text(
                    second, bottom + share / 2, f"{share:.0%}", ha="center", va="center", size=7.5
                )
        below, even = below + shares, even + attention.even[name]
        if 0 < even < 1 - 1e-6:
            axes.axhline(even, color="black", linestyle=DASHES, linewidth=0.8)
    axes.plot(
        [], [], color="black", linestyle=DASHES, linewidth=0.8, label="if all tokens got the same"
    )
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 0.98),
        ncols=5,
        frameon=False,
        fontsize=8,
        borderpad=0,
        handlelength=1.6,
        columnspacing=1.4,
    )
    axes.set(ylim=(0, 1), yticks=[])
    label_row(
        axes,
        "Which cues",
        "of all attention in a second;\ntags are the learned [aud]\nand [vis] of Eq. 4",
    )


def draw_words(axes: "Axes", attention: CueAttention) -> None:
    """A table of seconds and words; the last row is of the tokens that begin and end the
    sentence."""
    shares = np.column_stack([attention.text, attention.ends]).T  # (words + 1, seconds)
    rows, seconds = shares.shape
    scale = {"vmin": shares.min() * 0.7, "vmax": shares.max() * 1.3}  # pale enough for the numbers
    axes.imshow(shares, extent=(0, seconds, rows, 0), aspect="auto", cmap="Greens", **scale)
    for row, second in np.ndindex(rows, seconds):
        text = f"{shares[row, second]:.1%}"
        axes.text(second + 0.5, row + 0.5, text, ha="center", va="center", size=7.5)
    axes.set_yticks(np.arange(rows) + 0.5, [*attention.words, "(start, end)"], size=9)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(rows, 0)
    axes.annotate(
        "Which words",
        (0, 1),
        (-6, 6),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="bottom",
        weight="bold",
        size=9.5,
    )


def place_picture(axes: "Axes", picture: np.ndarray, second: int) -> None:
    axes.imshow(
        picture,
        extent=(second + GAP, second + 1 - GAP, 0, 1),
        aspect="auto",
        interpolation="bilinear",
    )


def label_row(axes: "Axes", title: str, remark: str) -> None:
    """Left of a row, in place of what it had there."""
    for text in [text for text in axes.texts if text.get_gid() == LABEL]:
        text.remove()
    place = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right"}
    place["gid"] = LABEL
    axes.annotate(title, (0, 0.5), (-24, 4), va="bottom", weight="bold", size=9.5, **place)
    axes.annotate(remark, (0, 0.5), (-24, 0), va="top", size=8, color=FAINT, **place)


def _mel(hertz: float) -> float:
    return float(np.log1p(hertz / 700))


def check_steps(start: int, num_steps: int) -> None:
    """Raise `ValueError` for steps that no video has."""
    if start < 0 or num_steps < 1:
        raise ValueError(
            f"start must be at least 0 and num_steps at least 1, got {start} and {num_steps}"
        )


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
    """Draw what the model attends to, beside the pictures with the mask and the log-mel
    spectrogram.

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
        ValueError: the sentence is empty, a number out of range, the file no video, the model of
            another kind, or the video over before `start`.
    """
    check_request([expression], threshold)
    check_steps(start, num_steps)
    steps = explain_steps(model, processor, path, expression, start, num_steps, threshold)
    attention = divide_attention(processor, expression, np.stack(steps.weights), steps.segments)
    return _draw(steps, attention, expression, start)


def _draw(steps: ExplainedSteps, attention: CueAttention, expression: str, start: int) -> "Figure":
    num_steps = len(steps.frames)
    picture = COLUMN * steps.frames[0].shape[0] / steps.frames[0].shape[1]
    heights = [
        picture,
        picture,
        0.8,
        1.3,
        *([0.23 * (len(attention.words) + 1)] if attention.words else []),
    ]
    figure, (pictures, places, sound, bars, *table) = _stack(heights, num_steps)
    draw_pictures(pictures, steps.frames, steps.masks, steps.presence)
    draw_places(places, steps.frames, attention.visual)
    draw_spectrogram(sound, steps.audio)
    draw_modalities(bars, attention)
    for axes in table:
        draw_words(axes, attention)
    for axes in (pictures, places, sound, bars, *table):
        axes.set(xlim=(0, num_steps), xticks=[])
        axes.spines[:].set_visible(False)
    pictures.set_xticks(np.arange(num_steps) + 0.5, [f"{start + k} s" for k in range(num_steps)])
    pictures.tick_params(axis="x", length=0, labeltop=True, labelbottom=False)
    width, height = figure.get_size_inches()
    # points; a bold letter is about 0.65 of its size wide
    size = min(15, 72 * width / (0.65 * len(expression) + 1))
    figure.text(
        0.15 / width, 1 - 0.27 / height, f"“{expression}”", size=size, weight="bold", va="center"
    )
    figure.text(
        0.15 / width,
        1 - 0.56 / height,
        "What the model attends to, second by second",
        va="center",
    )
    figure.text(0.15 / width, 0.12 / height, FOOTNOTE, size=7.5, color="#777777", linespacing=1.4)
    return figure


def _stack(heights: list[float], num_steps: int) -> tuple["Figure", list["Axes"]]:
    """Rows of these heights (inches) under one another, room for titles around them."""
    from matplotlib.figure import Figure  # takes a second, and only who asks for a plot needs it

    width = LEFT + COLUMN * max(num_steps, 4) + RIGHT
    height = TOP + sum(heights) + ROW_GAP * (len(heights) - 1) + BOTTOM
    figure, under, rows = (
        Figure(figsize=(width, height), dpi=110, facecolor="white"),
        height - TOP,
        [],
    )
    for row in heights:
        under -= row
        rows.append(
            figure.add_axes(
                (LEFT / width, under / height, COLUMN * num_steps / width, row / height)
            )
        )
        under -= ROW_GAP
    return figure, rows
