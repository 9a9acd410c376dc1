"""The sound of a video as a picture, to stand under its seconds."""

import numpy as np
from PIL import Image

from modeling_refavs.feature_extraction_refavs import (
    SAMPLING_RATE,
    WINDOW_LENGTH,
    log_mel_spectrogram,
)
from modeling_refavs.video_refavs import VideoInfo, read_sound


COLUMNS = 25  # a second
FRAMES = 4  # of the log-mel spectrogram, 10 ms each, in a column
INK = (120, 130, 150)  # shows on white and on black
SILENCE = np.log(0.01)  # of a log-mel spectrogram
LOUDEST = 4.5  # above silence; less is drawn as the loudest of the video is


def draw_spectrogram(info: VideoInfo, seconds: float) -> Image.Image | None:
    """The log-mel spectrogram that the model hears, loud parts opaque, on nothing: for light and
    dark pages.

    Args:
        info: of the video.
        seconds: of sound that are drawn; the picture is 25 pixels wide a second and 64 high, low
            tones below.

    Returns:
        An RGBA picture; None if there is no sound track.
    """
    if not info.has_audio:
        return None
    wanted = round(seconds * SAMPLING_RATE)
    samples = np.zeros(wanted + WINDOW_LENGTH, dtype=np.float32)
    done = 0
    for block in read_sound(info, SAMPLING_RATE, "mono", info.start_time):
        block = block[0, : wanted - done]  # (1, n) -> (n,)
        samples[done : done + len(block)] = block
        done += len(block)
        if done == wanted:
            break
    loudness = log_mel_spectrogram(samples) - SILENCE  # (frames, 64)
    loudness = (
        loudness[: len(loudness) // FRAMES * FRAMES]
        .reshape(-1, FRAMES, loudness.shape[1])
        .max(axis=1)
    )
    opacity = (loudness / max(loudness.max(initial=0), LOUDEST)).clip(0, 1)
    pixels = np.empty((*opacity.T.shape, 4), dtype=np.uint8)
    pixels[..., :3] = INK
    pixels[..., 3] = np.round(255 * opacity.T[::-1])
    return Image.fromarray(pixels)
