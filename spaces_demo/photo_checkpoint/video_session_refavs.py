"""The video session of transformers' Sam2Video and Sam3Video, over [`RefAVSStream`]: what worked
with theirs works with EEMC, and nothing that is kept grows with the video.

A sentence means one object at most, so a prompt and its object have one number. What is remembered
of a sentence is the mean of its own cues (Eq. 3), which Eq. 1 has mixed with its words: a sentence
that is added later starts with an empty memory, unless the video is propagated anew.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import ModelOutput, logging

from .feature_extraction_refavs import SAMPLING_RATE, prepare_waveform
from .modeling_outputs_refavs import RefAVSSegmentationOutput
from .streaming_refavs import RefAVSStream, pair_steps
from .video_refavs import VideoInfo, probe_video, read_steps, to_rgb


# Arguments of Sam3VideoProcessor.init_video_session that say where a stored video and its features
# are kept and in which precision: here none are, and the model decides.
PLACEMENT = {
    "inference_device",
    "inference_state_device",
    "processing_device",
    "video_storage_device",
    "max_vision_features_cache_size",
    "dtype",
}


@dataclass
class RefAVSVideoSegmentationOutput(ModelOutput):
    """What the sentences of a session mean in one step; the names are Sam3Video's.

    Args:
        object_ids: of the sentences that were asked.
        obj_id_to_mask: of each the mask logits `(1, H/4, W/4)`.
        obj_id_to_score: of each the probability that the frame shows its object.
        obj_id_to_iou_score: of each the predicted IoU of its mask, see [`RefAVSIoUHead`]; None
            without that head.
        frame_idx: number of the step, from 0.
    """

    object_ids: list[int] | None = None
    obj_id_to_mask: dict[int, torch.Tensor] | None = None
    obj_id_to_score: dict[int, float] | None = None
    obj_id_to_iou_score: dict[int, float] | None = None
    frame_idx: int | None = None


class RefAVSVideoInferenceSession:
    """A video or a live source, the sentences that are asked of it, and what is remembered of them.

    `prompts` are the sentences by their numbers; `video_height` and `video_width` the size of the
    video, of a live source that of its latest frame.

    Args:
        processor: [`RefAVSProcessor`]; its `init_video_session` makes sessions.
        video, audio, sampling_rate: see there.
    """

    def __init__(
        self,
        processor: Any,
        video: Any = None,
        audio: Any = None,
        sampling_rate: int = SAMPLING_RATE,
    ):
        if not sampling_rate or sampling_rate < 0:
            raise ValueError(f"sampling_rate must be a number of Hz, got {sampling_rate}")
        self.processor, self.sampling_rate = processor, sampling_rate
        self.prompts: dict[int, str] = {}
        self.video_height: int | None = None
        self.video_width: int | None = None
        self.frame_idx = 0  # of the next step
        self._num_prompts = 0  # ever added, since numbers are not given twice
        self._stream: RefAVSStream | None = None
        if isinstance(video, (str, Path, bytes, VideoInfo)):
            video = probe_video(video)
            self.video_width, self.video_height = video.size
            if audio is not None:
                raise ValueError("a video file has its own sound: leave out audio")
        elif video is not None:
            is_array = hasattr(video, "ndim")
            if not hasattr(video, "__len__") or not len(video) or (is_array and video.ndim != 4):
                came = f"{type(video).__name__} {tuple(video.shape) if is_array else ''}".strip()
                raise ValueError(
                    "video must be a path, bytes, a list of at least one frame, or an array "
                    f"(frames, height, width, 3), got {came}: frames that come one by one go to "
                    "the model, as frame="
                )
            self.video_height, self.video_width = to_rgb(video[0]).shape[:2]
            audio = None if audio is None else prepare_waveform(audio, sampling_rate)
        elif audio is not None:
            raise ValueError("audio without a video: pass the sound of each second to the model")
        self._video, self._audio = video, audio

    @property
    def obj_ids(self) -> list[int]:
        return list(self.prompts)

    def add_prompt(self, prompt_text: str) -> int:
        """Ask one more sentence from the next step on. Returns its number, the one that it has if
        it is asked already."""
        for prompt_id, text in self.prompts.items():
            if text == prompt_text:
                return prompt_id
        if self._stream is not None:
            self._stream.add(prompt_text)
        prompt_id, self._num_prompts = self._num_prompts, self._num_prompts + 1
        self.prompts[prompt_id] = prompt_text
        return prompt_id

    def remove_object(self, obj_id: int, strict: bool = False) -> None:
        """Ask the sentence of this object no more, and forget what it remembered.

        Raises:
            ValueError: `strict`, and there is no such object.
        """
        if obj_id in self.prompts:
            text = self.prompts.pop(obj_id)
            if self._stream is not None:
                self._stream.remove(text)
        elif strict:
            raise ValueError(f"there is no object {obj_id}; these are: {self.obj_ids}")

    def reset_tracking_data(self) -> None:
        """Forget all steps; the sentences stay."""
        self._stream, self.frame_idx = None, 0

    def reset_inference_session(self) -> None:
        """The same: there are no features to forget beside."""
        self.reset_tracking_data()

    def reset_state(self) -> None:
        """Forget the sentences too."""
        self.reset_tracking_data()
        self.prompts, self._num_prompts = {}, 0

    def step(
        self, model: Any, frame: Any, audio: Any = None, sampling_rate: int | None = None
    ) -> RefAVSVideoSegmentationOutput:
        """The next second; `frame` and `audio` as in [`RefAVSStream.step`], at the session's rate
        unless another is given.

        Raises:
            ValueError: there is no frame, the steps before were of another model, or what the
                stream refuses.
        """
        if frame is None:
            raise ValueError(
                "a step needs a frame; the session's own video goes through "
                "model.propagate_in_video_iterator(session)"
            )
        if self._stream is None:
            self._stream = RefAVSStream(model, self.processor, list(self.prompts.values()))
        if self._stream.model is not model:
            raise ValueError(
                "the steps so far were of another model: call session.reset_tracking_data()"
            )
        rgb = to_rgb(frame)
        outputs = self._stream.segment(rgb, audio, sampling_rate or self.sampling_rate)
        self.video_height, self.video_width = rgb.shape[:2]
        self.frame_idx += 1
        presence, scores = outputs.presence_logits[:, 0].float().sigmoid(), outputs.iou_scores
        return RefAVSVideoSegmentationOutput(
            object_ids=self.obj_ids,
            obj_id_to_mask=dict(zip(self.prompts, outputs.mask_logits, strict=True)),
            obj_id_to_score=dict(zip(self.prompts, presence.tolist(), strict=True)),
            obj_id_to_iou_score=None
            if scores is None
            else dict(zip(self.prompts, scores[:, 0].tolist(), strict=True)),
            frame_idx=self.frame_idx - 1,
        )

    def propagate(
        self, model: Any, start: int, stop: int | None, show_progress_bar: bool
    ) -> Iterator[RefAVSVideoSegmentationOutput]:
        """Steps `start` to `stop` of the video, with nothing remembered before."""
        self.reset_tracking_data()
        self.frame_idx = start
        if isinstance(self._video, VideoInfo):
            steps = ((step.frame, step.audio) for step in read_steps(self._video, SAMPLING_RATE))
        else:
            steps = pair_steps(self._video, self._audio, SAMPLING_RATE)
        steps = islice(steps, start, stop)
        for frame, audio in logging.tqdm(
            steps, desc="propagate in video", disable=not show_progress_bar
        ):
            yield self.step(model, frame, audio, SAMPLING_RATE)


class RefAVSVideoSessionMixin:
    """The model's part."""

    def propagate_in_video_iterator(
        self,
        inference_session: RefAVSVideoInferenceSession,
        start_frame_idx: int = 0,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
        show_progress_bar: bool = False,
    ) -> Iterator[RefAVSVideoSegmentationOutput]:
        """Ask the session's sentences of its video, one step after the other. A call is a pass of
        its own: it begins with an empty memory, so that sentences that were added after an earlier
        one know the whole past too. Sentences may come and go between two steps.

        Args:
            start_frame_idx: the step to begin with, as if the video began there.
            max_frame_num_to_track: how many steps at most; None: to the end.
            reverse: must be False.
            show_progress_bar: with tqdm.

        Raises:
            ValueError: the session has no video, a number is out of range, or `reverse`.
        """
        if inference_session._video is None:
            raise ValueError(
                "this session has no video: pass frame= to the model, or video= to "
                "init_video_session"
            )
        if reverse:
            raise ValueError("EEMC looks only back (Eq. 3): reverse must be False")
        if start_frame_idx < 0 or (max_frame_num_to_track or 0) < 0:
            raise ValueError(
                "start_frame_idx and max_frame_num_to_track must be at least 0, got "
                f"{start_frame_idx} and {max_frame_num_to_track}"
            )
        stop = None
        if max_frame_num_to_track is not None:
            stop = start_frame_idx + max_frame_num_to_track
        return inference_session.propagate(self, start_frame_idx, stop, show_progress_bar)


class RefAVSVideoSessionProcessorMixin:
    """The processor's part."""

    def init_video_session(
        self,
        video: Any = None,
        audio: Any = None,
        sampling_rate: int = SAMPLING_RATE,
        **placement: Any,
    ) -> RefAVSVideoInferenceSession:
        """
        Args:
            video: a path, the bytes of a file, or frames, one a second, a list or an array of what
                `frames` of the processor may be. A file is read while it is segmented. None: a live
                source, whose frames go to the model.
            audio: of frames, the waveform of the whole video; of a file, its own sound is taken.
            sampling_rate: of `audio`, and of the seconds of sound that go to the model, Hz.
            placement: `inference_device`, `dtype` and the like of Sam3Video are taken and change
                nothing: a session works where its model is, and stores no frames.

        Raises:
            ValueError: what was passed is no video, or no sound.
        """
        if unknown := placement.keys() - PLACEMENT:
            raise TypeError(
                f"init_video_session() got an unexpected keyword argument {min(unknown)!r}"
            )
        return RefAVSVideoInferenceSession(self, video, audio, sampling_rate)

    def add_text_prompt(
        self, inference_session: RefAVSVideoInferenceSession, text: str | list[str]
    ) -> RefAVSVideoInferenceSession:
        """Ask one more sentence, or several, from the next step on; one that is asked already stays
        as it is. Returns the session.

        Raises:
            ValueError: a sentence is empty, or none is given.
        """
        texts = [text] if isinstance(text, str) else list(text)
        self(text=texts)  # refuses all where one is none
        for prompt_text in texts:
            inference_session.add_prompt(prompt_text)
        return inference_session

    def postprocess_outputs(
        self,
        inference_session: RefAVSVideoInferenceSession,
        model_outputs: RefAVSVideoSegmentationOutput,
        original_sizes: Sequence | torch.Tensor | None = None,
        threshold: float = 0.5,
    ) -> dict[str, Any]:
        """The objects that are seen in a step; those of empty masks are left out, as in Sam3Video,
        and those that were removed since.

        Args:
            original_sizes: `[height, width]` of the masks, or a list with that; None: the video's.
            threshold: a pixel is of the object if its probability is above this.

        Returns:
            `object_ids (objects,)` int64; `scores (objects,)`, the probability that the frame shows
            the object; `boxes (objects, 4)`, the first and the last column and row, as left, top,
            right, bottom; `masks (objects, height, width)` bool; `prompt_to_obj_ids`, of each
            sentence with an object a list of its number; and with an IoU head `iou_scores
            (objects,)`.
        """
        size = (inference_session.video_height, inference_session.video_width)
        if original_sizes is not None:
            size = torch.as_tensor(original_sizes).flatten()[:2].tolist()
        found = {}
        for object_id, mask_logits in model_outputs.obj_id_to_mask.items():
            outputs = RefAVSSegmentationOutput(mask_logits=mask_logits.unsqueeze(0))
            mask = self.post_process_masks(outputs, tuple(size), threshold)[0][0]
            if mask.any() and object_id in inference_session.prompts:
                found[object_id] = mask
        masks = np.stack(list(found.values())) if found else np.zeros((0, *size), dtype=bool)

        def scores_of(obj_id_to_score: dict[int, float]) -> torch.Tensor:
            return torch.tensor([obj_id_to_score[object_id] for object_id in found])

        processed = {
            "object_ids": torch.tensor(list(found), dtype=torch.int64),
            "scores": scores_of(model_outputs.obj_id_to_score),
            "boxes": masks_to_boxes(masks),
            "masks": torch.from_numpy(masks),
            "prompt_to_obj_ids": {
                inference_session.prompts[object_id]: [object_id] for object_id in found
            },
        }
        if model_outputs.obj_id_to_iou_score is not None:
            processed["iou_scores"] = scores_of(model_outputs.obj_id_to_iou_score)
        return processed


def masks_to_boxes(masks: np.ndarray) -> torch.Tensor:
    """`(objects, height, width)` bool, none empty, to `(objects, 4)` float32: left, top, right,
    bottom, the last two included, as torchvision's function of this name has them."""
    ends = []
    for axis in (1, 2):  # columns, rows
        seen = masks.any(axis=axis)
        ends += [seen.argmax(axis=1), seen.shape[1] - 1 - seen[:, ::-1].argmax(axis=1)]
    left, right, top, bottom = ends
    return torch.from_numpy(np.stack([left, top, right, bottom], axis=1)).float()


__all__ = [
    "RefAVSVideoInferenceSession",
    "RefAVSVideoSegmentationOutput",
    "RefAVSVideoSessionMixin",
    "RefAVSVideoSessionProcessorMixin",
    "masks_to_boxes",
]
