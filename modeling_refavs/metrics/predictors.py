"""Where predictions come from: a model, or masks that another program wrote."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..video_refavs import read_wav
from .scoring import Truth, to_mask


SENTENCES_AT_ONCE = 8  # 10 frames of 384x384: 0.4 GB of masks each


class ModelPredictor:
    """A clip through the backbone once, all its sentences asked together.

    Args:
        model, processor: [`RefAVSForSegmentation`] and [`RefAVSProcessor`].
    """

    def __init__(self, model: Any, processor: Any):
        self.model, self.processor = model, processor

    @torch.inference_mode()
    def __call__(self, clip: dict[str, Any], truths: Sequence[Truth]) -> Iterator[np.ndarray]:
        """Of each sentence of a row of configuration `clips` the probabilities `(frames, height,
        width)` float32."""
        inputs = self.processor(
            text=[sentence["expression"] for sentence in clip["expressions"]],
            frames=clip["frames"],
            audio=read_wav(clip["audio"]),
            sampling_rate=clip["sampling_rate"],
            device=self.model.device,
        ).to(dtype=self.model.dtype)
        names = ("input_ids", "attention_mask", "clip_index")
        texts = {name: inputs.pop(name) for name in names if name in inputs}
        features = self.model.encode_clips(**inputs)
        for start in range(0, len(truths), SENTENCES_AT_ONCE):
            group = slice(start, start + SENTENCES_AT_ONCE)
            outputs = self.model.segment(
                features, **{name: values[group] for name, values in texts.items()}
            )
            for mask_logits, truth in zip(outputs.mask_logits.float(), truths[group], strict=True):
                size = truth.masks.shape[-2:]
                resized = torch.nn.functional.interpolate(
                    mask_logits[None], size=size, mode="bilinear"
                )[0]
                yield resized.sigmoid().cpu().numpy()


class FolderPredictor:
    """`folder/<uid>/0000{0..9}.png`, as `gt_mask` has them: any value above 0 is the object."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ValueError(f"--predictions {folder}: no such folder")

    def check(self, uids: Iterable[str], frames: int) -> None:
        """`ValueError` unless each sentence has its files."""
        uids = list(uids)
        lacking = [path for uid in uids for path in self._paths(uid, frames) if not path.is_file()]
        if lacking:
            sentences = len({path.parent for path in lacking})
            raise ValueError(
                f"--predictions {self.folder}: lacks masks of {sentences} of {len(set(uids))} "
                f"sentences, first {lacking[0]}"
            )

    def __call__(self, clip: dict[str, Any], truths: Sequence[Truth]) -> Iterator[np.ndarray]:
        for sentence, truth in zip(clip["expressions"], truths, strict=True):
            paths = self._paths(sentence["uid"], len(truth.masks))
            yield np.stack([_read(path, truth) for path in paths]).astype(np.float32)

    def _paths(self, uid: str, frames: int) -> list[Path]:
        return [self.folder / uid / f"{frame:05d}.png" for frame in range(frames)]


def _read(path: Path, truth: Truth) -> np.ndarray:
    """A predicted mask at the size it is scored at; it must come at that size, or at the
    truth's."""
    size = truth.masks.shape[-2:]
    try:
        with Image.open(path) as picture:
            if picture.size[::-1] not in (truth.file_size, size):
                sizes = " or ".join(
                    f"{width}x{height}" for height, width in dict.fromkeys((truth.file_size, size))
                )
                raise ValueError(
                    f"{path}: must be {sizes} pixels, got {picture.width}x{picture.height}"
                )
            return to_mask(picture, size)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as an image: {error}") from error
