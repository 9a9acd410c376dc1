"""The object alone, its shape alone, or all around it blurred: pictures for editing, of the video's own size.

Several sentences are taken together: what any of them means is the object. Where nothing fits there is no object.
"""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from .segmentation import VideoSegmentation


BLUR = 1 / 40  # standard deviation, of the picture's longer side
FINE = 4  # standard deviation in pixels at which a picture is blurred: a larger one is shrunk until that is enough


class Composite:
    """Draws a video's pictures in one of the modes `cutout`, `matte` and `blur-rest`.

    Args:
        segmentation: of [`segment_video`].
        mode: see [`cut_out`], [`draw_matte`] and [`blur_rest`].
        transparent: whether a cutout has an alpha channel, or black around the object.
    """

    def __init__(self, segmentation: VideoSegmentation, mode: str, transparent: bool = False):
        self.segmentation, self.size = segmentation, segmentation.info.size
        self.mode, self.transparent = mode, transparent
        self._mask = lru_cache(maxsize=1)(lambda step: segmentation.masks(step).any(axis=0))

    def draw(self, rgb: np.ndarray, time: float) -> np.ndarray:
        """A frame `(height, width, 3)` uint8 on display at `time` (s) to `(height, width, 3)`, or 4 where transparent."""
        mask = self._mask(self.segmentation.step_at(time))
        if self.mode == "matte":
            return draw_matte(mask)
        if self.mode == "blur-rest":
            return blur_rest(rgb, mask)
        picture = cut_out(rgb, mask)
        return picture if self.transparent else picture[..., :3]


def cut_out(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`rgb (h, w, 3)` uint8 where `mask (h, w)`, black and fully transparent elsewhere: `(h, w, 4)` uint8."""
    return np.where(mask[..., None], np.dstack([rgb, np.full(mask.shape, 255, np.uint8)]), np.uint8(0))


def draw_matte(mask: np.ndarray) -> np.ndarray:
    """`mask (h, w)` white on black: `(h, w, 3)` uint8."""
    return np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=-1)


def blur_rest(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`rgb (h, w, 3)` uint8, blurred but where `mask (h, w)`; the object's colours do not run into what is around it."""
    if mask.all():
        return rgb
    rest = cut_out(rgb, ~mask)
    deviation = max(mask.shape) * BLUR
    shrink = max(1, round(deviation / FINE))
    # Premultiplied ("RGBa"): the blur is a mean over what is not the object.
    blurred = Image.fromarray(rest).convert("RGBa").reduce(shrink).filter(ImageFilter.GaussianBlur(deviation / shrink))
    blurred = blurred.convert("RGBA").convert("RGB").resize(mask.shape[::-1], Image.Resampling.BICUBIC)
    return np.where(mask[..., None], rgb, np.asarray(blurred))
