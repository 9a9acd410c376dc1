"""A video as a folder of PNGs, one a picture."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from .writing import whole_folder


FAST = 3  # of PNG's compression levels 0 to 9: half the time of the usual 6, files a few percent larger


class FrameFolderWriter:
    """Takes pictures as [`VideoWriter`] does: made by [`write_frame_folder`]."""

    def __init__(self, folder: Path):
        self.folder, self.num_frames = folder, 0

    def write(self, picture: np.ndarray, time: float, end: float) -> None:
        """`picture (height, width, 3 or 4)` uint8, RGB or RGBA; a folder has no clock, so its times are not kept."""
        Image.fromarray(picture).save(self.folder / frame_name(self.num_frames), compress_level=FAST)
        self.num_frames += 1


@contextmanager
def write_frame_folder(folder: str | Path) -> Iterator[FrameFolderWriter]:
    """Write `folder/frame_000000.png` and so on; the folder, new or empty, appears when it is complete."""
    with whole_folder(folder) as unfinished:
        yield FrameFolderWriter(unfinished)


def frame_name(index: int) -> str:
    """Of picture number `index` of a video, from 0; CVAT names a video's pictures so too."""
    return f"frame_{index:06d}.png"
