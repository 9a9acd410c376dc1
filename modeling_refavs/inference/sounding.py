"""Which of the objects that were asked for is heard, by the answer to a sentence about sound."""

import re

import numpy as np

from .segment import VideoSegmentation


# Of the sound of this very moment: "the first to make a sound" means its object in silence too.
SOUND_NOW = re.compile(r"making (a |any )?(sound|noise)|sounding|(is|be) heard", re.IGNORECASE)
SIZE = (96, 96)  # pixels, at which masks are compared
SAME = 0.5  # IoU of two masks that show one object


def find_sounding(segmentation: VideoSegmentation) -> np.ndarray | None:
    """`(expressions, steps)` bool: whether the object of each expression is seen and is the one
    that an expression such as "the animal that is making a sound" found in that step.

    None if no expression is of that kind or the video has no sound.
    """
    asked = [bool(SOUND_NOW.search(expression)) for expression in segmentation.expressions]
    if not any(asked) or not segmentation.info.has_audio:
        return None
    steps = [
        _same_object(segmentation.masks(step, SIZE), np.array(asked))
        for step in range(segmentation.num_steps)
    ]
    return np.stack(steps, axis=1)


def _same_object(masks: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """`masks (expressions, height, width)` to `(expressions,)`."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    both = flat @ flat[asked].T  # (expressions, asked)
    union = flat.sum(1)[:, None] + flat[asked].sum(1) - both
    return (both > SAME * union).any(axis=1)
