"""An mp4 of a scene, with its sound."""

import io
from fractions import Fraction

import av
import numpy as np

from .drawing import draw
from .scene import Scene
from .sounds import SAMPLE_RATE


FPS = 25


def encode_video(scene: Scene, sound: np.ndarray, height: int, width: int) -> bytes:
    """H.264 and AAC, playable in a browser.

    Args:
        scene: the scene graph.
        sound: its samples `(samples,)` int16 at 16 kHz.
        height, width: of the frames, pixels, even.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        picture = container.add_stream("libx264", rate=FPS, options={"crf": "18"})
        picture.height, picture.width, picture.pix_fmt = height, width, "yuv420p"
        picture.thread_count = 1  # same bytes on every machine
        voice = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for number in range(round(scene.seconds * FPS)):
            frame, _ = draw(scene, number / FPS, height, width)
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
