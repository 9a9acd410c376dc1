"""One picture of a few clips, to look at: frames, each sentence's mask outlined, and the sound's
spectrogram."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.io import wavfile
from scipy.ndimage import binary_dilation
from scipy.signal import stft


FRAMES = (0, 2, 4, 6, 8)  # of a clip, as far as it goes
OUTLINE = (255, 60, 220)
TEXT_HEIGHT = 15  # pixels


def contact_sheet(folder: str | Path, clips: Sequence[str], side: int = 96) -> Image.Image:
    """Draw a column per clip: a row of frames for each sentence, and the spectrogram (0-8 kHz)
    under them.

    Args:
        folder: a synthetic benchmark.
        clips: names of its clips.
        side: height of a frame in the picture, pixels.
    """
    columns = [_stack(_clip_blocks(Path(folder), clip, side), along=1) for clip in clips]
    return _stack(columns, along=0)


def _stack(pictures: Sequence[Image.Image], along: int) -> Image.Image:
    """Pictures beside (0) or under (1) each other, with a little space between columns."""
    steps = np.cumsum(
        [0] + [picture.size[along] + (1 - along) * TEXT_HEIGHT for picture in pictures]
    ).tolist()
    across = max(picture.size[1 - along] for picture in pictures)
    stack = Image.new("RGB", (steps[-1], across) if along == 0 else (across, steps[-1]), "white")
    for picture, start in zip(pictures, steps, strict=False):
        stack.paste(picture, (start, 0) if along == 0 else (0, start))
    return stack


def _clip_blocks(folder: Path, clip: str, side: int) -> list[Image.Image]:
    stored = json.loads((folder / "scenes" / f"{clip}.json").read_text())
    objects = stored["scene"]["objects"]
    names = [
        f"{item['fid']} {item['category']}{' (sounding)' if item['sound'] else ''}"
        for item in objects
    ]
    shown = len(list((folder / "media" / clip / "frames").iterdir()))
    blocks = []
    for expression in stored["expressions"]:
        fid = expression["fid"]
        frames = [
            _outlined(folder, clip, fid or 0, number, side) for number in FRAMES if number < shown
        ]
        row = Image.fromarray(np.concatenate(frames, axis=1))
        meaning = "nothing" if fid is None else names[fid]
        blocks += [_line(f'"{expression["text"]}"  = {meaning}', row.width, bold=True), row]
    title = _line(f"{clip}  {stored['split']}: {', '.join(names)}", blocks[-1].width)
    rate, samples = wavfile.read(folder / "media" / clip / "audio.wav")
    return [title, *blocks, _spectrogram(samples / 32768, rate, blocks[-1].width, side // 2)]


def _outlined(folder: Path, clip: str, fid: int, number: int, side: int) -> np.ndarray:
    frame = Image.open(folder / "media" / clip / "frames" / f"{number}.jpg")
    mask = Image.open(folder / "gt_mask" / clip / f"fid_{fid}" / f"{number:05d}.png")
    size = (side * frame.width // frame.height, side)
    pixels = np.asarray(frame.resize(size)).copy()
    inside = np.asarray(mask.resize(size)) > 127
    pixels[binary_dilation(inside, iterations=2) & ~inside] = OUTLINE
    pixels[:, -1] = 255
    return pixels


def _spectrogram(samples: np.ndarray, rate: int, width: int, height: int) -> Image.Image:
    _, _, values = stft(samples, rate, nperseg=512, noverlap=352)
    loudness = np.log(np.abs(values[::-1]) + 1e-5)
    scaled = (loudness - np.log(1e-5)) / (np.log(0.1) - np.log(1e-5))
    return (
        Image.fromarray((scaled.clip(0, 1) * 255).astype(np.uint8))
        .resize((width, height))
        .convert("RGB")
    )


def _line(text: str, width: int, bold: bool = False) -> Image.Image:
    line = Image.new("RGB", (width, TEXT_HEIGHT), "white")
    font = ImageFont.load_default(size=TEXT_HEIGHT - 3)
    ImageDraw.Draw(line).text((2, 0), text, fill="black" if bold else "gray", font=font)
    return line
