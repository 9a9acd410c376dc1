"""Pictures in the planes that encoders take: yuv420p of BT.709 in studio levels.

Decoded frames of that kind stay as they are, others are converted once; colours are blended in the
planes, and only where there are any.
"""

import av
import numpy as np

from ..video_refavs import HD, HLG, PQ, UNTAGGED, Frame


BT709, STUDIO_LEVELS = 1, (0, 1)  # ITU-T H.273; FFmpeg's ranges, 0 is untagged
TARGET = {"dst_colorspace": "ITU709", "dst_color_range": "MPEG"}

Planes = list[np.ndarray]  # Y (h, w), U and V (h / 2, w / 2), uint8


def pad_to_even(picture: np.ndarray) -> np.ndarray:
    """`(height, width, ...)`: an odd side gains a pixel, which is its neighbour's."""
    height, width = (side % 2 for side in picture.shape[:2])
    odd = [(0, height), (0, width)] + [(0, 0)] * (picture.ndim - 2)
    return np.pad(picture, odd, mode="edge") if height or width else picture


def from_rgb(picture: np.ndarray, pix_fmt: str = "yuv420p") -> av.VideoFrame:
    """Convert `picture (height, width, 3 or 4)` uint8, RGB or RGBA; see [`pad_to_even`]."""
    form = "rgba" if picture.shape[2] == 4 else "rgb24"
    frame = av.VideoFrame.from_ndarray(pad_to_even(picture), format=form)
    return frame.reformat(format=pix_fmt, **TARGET)


def blank_frame(size: tuple[int, int]) -> tuple[av.VideoFrame, Planes]:
    """Make a yuv420p frame of `size` (width, height), see [`pad_to_even`], to be filled, and return
    it with its planes."""
    frame = av.VideoFrame(*(side + side % 2 for side in size), "yuv420p")
    return frame, planes_of(frame)


def planes_of(picture: av.VideoFrame) -> Planes:
    """Return Y, U and V of a picture of 8 bits as views of it."""
    return [
        np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width]
        for plane in picture.planes[:3]
    ]


def read_planes(frame: Frame) -> Planes:
    """Return a decoded frame, upright and of the video's size; an odd side of n pixels has
    (n + 1) / 2 samples of U and V."""
    transposed, from_right, from_below = frame.orientation
    is_odd = frame.size[0] % 2 or frame.size[1] % 2
    # Tone mapping is done in RGB; turned about, the pixels of an odd side share colours otherwise.
    if frame.picture.color_trc in (PQ, HLG) or (is_odd and (from_right or from_below)):
        return planes_of(from_rgb(frame.rgb))
    width, height = frame.size[::-1] if transposed else frame.size
    planes = planes_of(_to_yuv420p(frame.picture, width, height))
    planes = [plane.swapaxes(0, 1) for plane in planes] if transposed else planes
    return [plane[:: -1 if from_below else 1, :: -1 if from_right else 1] for plane in planes]


def _to_yuv420p(picture: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    options = {}
    if picture.colorspace == UNTAGGED and (picture.width >= HD[0] or picture.height >= HD[1]):
        options["src_colorspace"] = "ITU709"
    form = (picture.format.name, picture.width, picture.height)
    is_target = form == ("yuv420p", width, height) and picture.color_range in STUDIO_LEVELS
    if is_target and (options or picture.colorspace == BT709):
        return picture
    return picture.reformat(width, height, format="yuv420p", **options, **TARGET)


def paste(planes: Planes, source: Planes, top: int = 0) -> None:
    """Copy `source` into `planes` from row `top` on, which is even; the pixel that an odd side
    lacks is its neighbour's."""
    for plane, part, row in zip(planes, source, (top, top // 2, top // 2), strict=True):
        height, width = part.shape
        plane[row : row + height, :width] = part
        plane[row : row + height, width : width + 1] = part[:, -1:]
        plane[row + height : row + height + 1] = plane[row + height - 1]


class Layer:
    """A picture with opacities, to be laid over frames.

    Args:
        rgba: `(height, width, 4)` uint8; see [`pad_to_even`].
        corner: row and column of its upper left pixel in the frame, both even.
    """

    def __init__(self, rgba: np.ndarray, corner: tuple[int, int] = (0, 0)):
        self._parts: list[tuple[tuple[slice, slice], np.ndarray, np.ndarray]] = []
        rgba = pad_to_even(rgba)
        seen = rgba[..., 3] > 0
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        if not len(rows):
            return
        # Two pixels more: the colour of a pixel is also in the samples above and below it.
        box = (
            slice(max(0, rows[0] // 2 * 2 - 2), rows[-1] // 2 * 2 + 4),
            slice(columns[0] // 2 * 2, columns[-1] // 2 * 2 + 2),
        )
        rgba = np.ascontiguousarray(rgba[box])
        opacity = np.rint(rgba[..., 3] * np.float32(256 / 255))
        for index, plane in enumerate(planes_of(from_rgb(rgba[..., :3], "yuv444p"))):
            added, kept = plane * opacity, 256 - opacity
            if index:
                added, kept = _subsample(added), _subsample(kept)
            top, left = (
                (begin + part.start) // (2 if index else 1)
                for begin, part in zip(corner, box, strict=True)
            )
            place = slice(top, top + len(kept)), slice(left, left + kept.shape[1])
            self._parts.append(
                (place, *(np.rint(each).astype(np.uint16) for each in (kept, added)))
            )

    def blend(self, planes: Planes) -> None:
        """Lay it over the planes of a frame, in place."""
        for plane, (place, kept, added) in zip(planes, self._parts, strict=False):
            mixed = plane[place].astype(np.uint16)
            mixed *= kept
            mixed += added
            mixed += 128  # to round
            mixed >>= 8
            plane[place] = mixed


def _subsample(plane: np.ndarray) -> np.ndarray:
    """`(h, w)` -> `(h / 2, w / 2)` with the weights of FFmpeg's scaler."""
    columns = plane[:, ::2] + plane[:, 1::2]
    rows = np.pad(columns, ((1, 1), (0, 0)), mode="edge")
    return (rows[:-3:2] + 3 * rows[1:-2:2] + 3 * rows[2:-1:2] + rows[3::2]) / 16
