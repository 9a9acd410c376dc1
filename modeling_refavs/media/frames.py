"""A video's pictures, each with the time at which it is on display."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

from .opening import VideoInfo, clock_broke, decode, open_media, picture_stream, probe_video, quarter_turns


@dataclass(frozen=True)
class Frame:
    """One picture on display from `time` to `end`, in s from the first picture."""

    time: float
    end: float
    picture: av.VideoFrame
    size: tuple[int, int]

    @cached_property
    def rgb(self) -> np.ndarray:
        """`(height, width, 3)` uint8, upright, of the video's size even where the stream changes its own."""
        turns = quarter_turns(self.picture)
        width, height = self.size[::-1] if turns % 2 else self.size
        picture = self.picture.reformat(width=width, height=height, format="rgb24")
        return np.ascontiguousarray(np.rot90(picture.to_ndarray(), turns))


def read_frames(path: str | Path) -> Iterator[Frame]:
    """Every picture of a video, in order; one after the other without gaps or overlaps, at any frame rate.

    Raises:
        ValueError: the file is no video: see [`probe_video`].
    """
    info = probe_video(path)
    with open_media(path) as container:
        stream = picture_stream(container)
        for (time, picture), (end, _) in pairwise(_timed(decode(container, stream), info)):
            yield Frame(time, end, picture, info.size)


def _timed(pictures: Iterator[av.VideoFrame], info: VideoInfo) -> Iterator[tuple[float, av.VideoFrame | None]]:
    """(time, picture), times strictly rising from 0; at last (end, None)."""
    usual = 1 / info.frame_rate  # s from one picture to the next
    start, time, length = info.start_time, -usual, usual
    for picture in pictures:
        now = time + usual if picture.time is None else picture.time - start
        if clock_broke(time, now, info.duration):
            start, now = picture.time - (time + usual), time + usual
        if now > time:  # else a second picture for the same moment
            time, length = now, float((picture.duration or 0) * picture.time_base) or usual
            yield time, picture
    yield time + length, None
