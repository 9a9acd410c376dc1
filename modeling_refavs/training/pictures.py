"""The image processor in two halves: what is done once, and what is done each time a frame is seen."""

import numpy as np
import torch

from ..processing_refavs import RefAVSProcessor


def resize(processor: RefAVSProcessor, frames: list[np.ndarray]) -> np.ndarray:
    """What the image processor does before it normalises: `(frames, 3, H, W)` uint8."""
    resized = processor.image_processor(
        frames, do_rescale=False, do_normalize=False, input_data_format="channels_last"
    )
    return np.stack(resized["pixel_values"])


def pixel_table(processor: RefAVSProcessor) -> torch.Tensor:
    """The image processor's value of each uint8 value in each channel, `(3, 256)`."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)  # one row of 256 grey pixels
    values = processor.image_processor([ramp], do_resize=False, input_data_format="channels_last")["pixel_values"]
    return torch.from_numpy(np.asarray(values[0], dtype=np.float32)[:, 0])


def normalize(frames: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """`(..., 3, H, W)` uint8 -> the image processor's float32."""
    channels = torch.arange(3).view(3, 1, 1)
    return table[channels, frames.long()]
