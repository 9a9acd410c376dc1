"""RefAVSPipeline: `pipeline("referring-audio-visual-segmentation", model=...)`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Pipeline

from .configuration_refavs import PIPELINE_TYPES
from .feature_extraction_refavs import SAMPLING_RATE
from .mask_rle import encode_rle
from .modeling_outputs_refavs import RefAVSSegmentationOutput, mask_scores
from .streaming_refavs import pair_steps
from .video_refavs import read_steps


@dataclass
class _Video:
    """A video on its way through the model: its seconds to come, its sentences, and their answers
    so far."""

    steps: Iterator[tuple[np.ndarray, np.ndarray | None]]
    expressions: list[str]
    size: tuple[int, int] | None = None
    mask_logits: list[torch.Tensor] | None = None  # each (expressions, steps, h, w)
    presence: list[torch.Tensor] | None = None  # each (expressions, steps)
    iou_scores: list[torch.Tensor] | None = None  # likewise; empty without an IoU head


class RefAVSPipeline(Pipeline):
    """Segments what sentences mean in videos with sound.

    Example:
        pipe = pipeline("referring-audio-visual-segmentation", model="folder or id",
        trust_remote_code=True) answers = pipe("clip.mp4", text=["the dog that is barking", "the
        guitar"], return_rle=True) print(answers[0]["expression"], answers[0]["presence"])
    """

    _load_processor = True
    _load_tokenizer = _load_image_processor = _load_feature_extractor = _load_video_processor = (
        False
    )

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if (came := self.model.config.model_type) not in PIPELINE_TYPES:
            raise ValueError(
                f"this task needs a model of type {' or '.join(PIPELINE_TYPES)}, got {came}"
            )

    def __call__(self, videos: Any, **kwargs) -> list:
        """
        Args:
            videos: one video or a list of them; a list gives a list of answers, a generator or data
                set a generator. A video is a path, the bytes of a file, or a dict with `frames`,
                one a second, and, if there is sound, `audio` and its `sampling_rate`, each as
                [`RefAVSProcessor`] takes it. A dict may also hold
                `video`, a path or bytes, and its own `text`.
            text: a sentence or a list of them, asked of every video that has no text of its own.
            threshold: a pixel is of the object if its probability is above this; default 0.5.
            return_rle: COCO run lengths in place of masks, which take 2 MB a second of 1080p;
                default False.
            steps_per_chunk: seconds of a video that go through the model together; default 10.
            batch_size: videos of a list that go through the model together; default 1.

        Returns:
            For each video a list with a dict for each sentence: `expression`; `masks (seconds,
                height, width)` bool, or `rle`,
            one `{"size": [height, width], "counts": str}` a second; `presence (seconds,)`, the
            probability that the object is in the frame; `score`, the mean probability of the
            masks' pixels, 0 if there are none; of a model with an IoU head `iou_scores
            (seconds,)`, the predicted IoU of each mask.

        Raises:
            ValueError: a video or a sentence that cannot be understood.
        """
        return [] if isinstance(videos, list) and not videos else super().__call__(videos, **kwargs)

    def get_iterator(
        self,
        inputs: Iterable,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict,
        forward_params: dict,
        postprocess_params: dict,
    ) -> Iterator[list[dict[str, Any]]]:
        """Videos differ in length, sentences and size: a batch of them is a list."""
        waiting = iter(inputs)
        while batch := list(islice(waiting, batch_size)):
            batch = [self.preprocess(video, **preprocess_params) for video in batch]
            for answers in self.forward(batch, **forward_params):
                yield self.postprocess(answers, **postprocess_params)

    def run_single(self, inputs: Any, *params: dict) -> list[dict[str, Any]]:
        return next(self.get_iterator([inputs], 0, 1, *params))

    def _sanitize_parameters(
        self,
        text: str | list[str] | None = None,
        threshold: float | None = None,
        return_rle: bool | None = None,
        steps_per_chunk: int | None = None,
    ) -> tuple[dict, dict, dict]:
        if threshold is not None and not 0 < threshold < 1:
            raise ValueError(
                f"the threshold must lie between 0 and 1, both excluded, got {threshold}"
            )
        if steps_per_chunk is not None and steps_per_chunk < 1:
            raise ValueError(f"steps_per_chunk must be at least 1, got {steps_per_chunk}")
        return (
            _given(text=text),
            _given(steps_per_chunk=steps_per_chunk),
            _given(threshold=threshold, return_rle=return_rle),
        )

    def preprocess(self, video: Any, text: str | list[str] | None = None) -> _Video:
        """Nothing is decoded yet: the seconds are read when the model asks for them."""
        fields = dict(video) if isinstance(video, dict) else {"video": video}
        text = fields.pop("text", text)
        expressions = [text] if isinstance(text, str) else list(text or [])
        if not expressions:
            raise ValueError("a sentence is needed: pass text=, a sentence or a list of them")
        if "frames" in fields and set(fields) <= {"frames", "audio", "sampling_rate"}:
            return _Video(pair_steps(**fields), expressions)
        if set(fields) == {"video"} and isinstance(fields["video"], (str, Path, bytes)):
            steps = (
                (step.frame, step.audio) for step in read_steps(fields["video"], SAMPLING_RATE)
            )
            return _Video(steps, expressions)
        came = sorted(fields) if isinstance(video, dict) else type(video).__name__
        raise ValueError(
            f"a video is a path, bytes, or a dict of frames, audio and sampling_rate, got {came}"
        )

    def _forward(self, videos: list[_Video], steps_per_chunk: int = 10) -> list[dict[str, Any]]:
        """All videos side by side, a few seconds of each at a time; the memory goes on from one
        chunk to the next."""
        running, memory = list(videos), None
        while running:
            chunks = [list(islice(video.steps, steps_per_chunk)) for video in running]
            if not all(chunks):
                rows = [
                    bool(chunk)
                    for video, chunk in zip(running, chunks, strict=True)
                    for _ in video.expressions
                ]
                memory = memory and memory.map(
                    lambda values, rows=rows: values[torch.tensor(rows, device=values.device)]
                )
                running = [video for video, chunk in zip(running, chunks, strict=True) if chunk]
                chunks = [chunk for chunk in chunks if chunk]
            if running:
                memory = self._segment(running, chunks, memory)
        return [self._collect(video) for video in videos]

    def _segment(self, videos: list[_Video], chunks: list[list], memory: Any) -> Any:
        """One chunk of each video through the model. Returns the memory."""
        sounds = [[sound for _, sound in chunk if sound is not None] for chunk in chunks]
        inputs = self.processor(
            text=[video.expressions for video in videos],
            frames=[[frame for frame, _ in chunk] for chunk in chunks],
            audio=[np.concatenate(sound) if sound else None for sound in sounds],
            sampling_rate=SAMPLING_RATE,
            device=self.device,
        )
        outputs = self.model(**inputs.to(dtype=self.model.dtype), memory=memory)
        first = 0
        for video, chunk in zip(videos, chunks, strict=True):
            rows, steps = slice(first, first + len(video.expressions)), slice(len(chunk))
            first = rows.stop
            if video.size is None:
                video.size = chunk[0][0].shape[:2]
                video.mask_logits, video.presence, video.iou_scores = [], [], []
            video.mask_logits.append(outputs.mask_logits[rows, steps].float().cpu())
            video.presence.append(outputs.presence_logits[rows, steps].float().sigmoid().cpu())
            if outputs.iou_scores is not None:
                video.iou_scores.append(outputs.iou_scores[rows, steps].float().cpu())
        return outputs.memory

    def _collect(self, video: _Video) -> dict[str, Any]:
        if video.size is None:
            raise ValueError("a video without a single frame cannot be segmented")
        return {
            "expressions": video.expressions,
            "size": video.size,
            "mask_logits": torch.cat(video.mask_logits, dim=1),
            "presence": torch.cat(video.presence, dim=1),
            "iou_scores": torch.cat(video.iou_scores, dim=1) if video.iou_scores else None,
        }

    def postprocess(
        self, answers: dict[str, Any], threshold: float = 0.5, return_rle: bool = False
    ) -> list[dict[str, Any]]:
        """See `__call__`."""
        scores = mask_scores(answers["mask_logits"], threshold).tolist()
        iou_scores, results = answers["iou_scores"], []
        for row, expression in enumerate(answers["expressions"]):
            masks = self._masks(answers["mask_logits"][row], answers["size"], threshold)
            found = (
                {"rle": [encode_rle(mask) for mask in masks]}
                if return_rle
                else {"masks": np.stack(list(masks))}
            )
            found |= {"presence": answers["presence"][row].numpy(), "score": scores[row]}
            if iou_scores is not None:
                found["iou_scores"] = iou_scores[row].numpy()
            results.append({"expression": expression, **found})
        return results

    def _masks(
        self, mask_logits: torch.Tensor, size: tuple[int, int], threshold: float
    ) -> Iterator[np.ndarray]:
        """`(seconds, h, w)` to one mask after the other, `(height, width)` bool."""
        for logits in mask_logits:
            outputs = RefAVSSegmentationOutput(mask_logits=logits[None, None])
            yield self.processor.post_process_masks(outputs, size, threshold)[0][0]

    def save_pretrained(self, save_directory: str | Path, **kwargs) -> None:
        """Model, processor and all code, so that `pipeline(task, model=folder,
        trust_remote_code=True)` works anywhere."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


def _given(**parameters: Any) -> dict[str, Any]:
    """What a caller left out keeps the default of where it is used."""
    return {name: value for name, value in parameters.items() if value is not None}


__all__ = ["RefAVSPipeline"]
