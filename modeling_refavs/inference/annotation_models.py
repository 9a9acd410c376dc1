"""The models of `refavs annotate`: the embedded default (annotation_default.py, mask_tracking.py),
and in place of any part of it a model of transformers, if one is named (docs/annotate.md)."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModelForZeroShotObjectDetection, AutoProcessor
from transformers.image_processing_base import ImageProcessingMixin
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES as DETECTORS,
)

from dataset_script.annotate.models import (
    AnnotationModels,
    Candidate,
    Detector,
    Prompt,
    Segmenter,
    Tracker,
)

from ..feature_extraction_refavs import SAMPLING_RATE
from .annotation_default import (
    HOP,
    WINDOW,
    GrabCutSegmenter,
    NamedSounds,
    QueryDetector,
    QueryMasks,
    SoundIntervals,
    drop_doubles,
)
from .loading import check_model, choose_device, load_model, load_sound_classifier
from .mask_tracking import MaskTracker


# model_type -> how the classes are called. Weights for videos serve single frames too, and not the
# reverse: those for frames have no memory.
FAMILIES = {"sam2": "Sam2", "edgetam": "EdgeTam", "sam3_tracker": "Sam3Tracker"}
VIDEO_FAMILIES = {
    "sam2_video": "Sam2",
    "edgetam_video": "EdgeTam",
    "sam3_tracker_video": "Sam3Tracker",
    "sam3_video": "Sam3Tracker",
}
MASK_LOGIT = 10.0  # of a pixel of a mask that is given, as Sam2Video has it
BOX_SCORE = 0.25  # of a box, from which it is a candidate: Grounding DINO's own
MOST_BOXES = 10  # of a frame that are turned to masks
CLASSIFIED = 0.2  # probability of a class of sound, from which it is heard
ANYTHING = "object"  # that a detector is asked for where no text is given


def load_annotation_models(
    segmenter: str | None = None,
    tracker: str | None = None,
    detector: str | None = None,
    checkpoint: str | None = None,
    audio_classifier: str | None = None,
    device: str = "auto",
) -> AnnotationModels:
    """What the page works with; models are loaded only where they are named.

    Args:
        segmenter, tracker: folder or id of a SAM2, EdgeTAM or SAM3; a tracker must be one for
            videos. None: GrabCut, and [`MaskTracker`].
        detector: of a model for zero-shot object detection, such as Grounding DINO or OWLv2. None:
            the checkpoint's mask queries.
        checkpoint: of a [`RefAVSForSegmentation`]. None: no candidates but of `detector`, no
            proposals, and sounds are told by loudness alone.
        audio_classifier: folder of YAMNet with its classes, as `refavs parts fetch` writes `audio`;
            it is asked in place of the checkpoint's sounds.
        device: see [`choose_device`].

    Raises:
        ValueError: there is no such model, or it is of another kind.
    """
    chosen = choose_device(device)
    queries = own_detector = sounds = None
    if checkpoint is not None:
        check_model(checkpoint, "--checkpoint")
        model, processor = load_model(checkpoint, chosen, graphs=False)
        if model.config.model_type != "refavs":
            raise ValueError(
                f"--checkpoint {checkpoint}: a {model.config.model_type} model: annotation needs "
                "one of type refavs"
            )
        queries = QueryMasks(model, processor)
        own_detector = QueryDetector(queries)
        if model.base_model.alignment is not None and model.config.use_audio_cues:
            sounds = NamedSounds(model, processor)
    if audio_classifier is not None:
        sounds = ClassifiedSounds(load_sound_classifier(audio_classifier))
    segment: Segmenter = GrabCutSegmenter(own_detector)
    if segmenter is not None:
        segment = SamSegmenter(*_load_sam("--segmenter", segmenter, chosen))
    track: Tracker = MaskTracker(queries)
    if tracker is not None:
        track = SamTracker(*_load_sam("--tracker", tracker, chosen, video=True))
    detect: Detector | None = own_detector
    if detector is not None:
        detect = BoxDetector(*_load_detector(detector, chosen), segment)
    return AnnotationModels(segment, track, detect, SoundIntervals(sounds))


def _model_type(option: str, name: str) -> str:
    check_model(name, option)
    return _load(option, name, AutoConfig.from_pretrained).model_type


def _load(option: str, name: str, load: Any) -> Any:
    try:
        return load(name)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{option} {name}: cannot be loaded: {reason}") from error


class ClassifiedSounds:
    """Which windows of a sound a classifier of sounds takes for a category, by the names of its
    classes.

    Args:
        hear: of `load_sound_classifier`.
    """

    def __init__(self, hear: Callable[[np.ndarray], dict[str, float]]):
        self.hear = hear

    def __call__(self, samples: np.ndarray, category: str) -> np.ndarray:
        """As [`NamedSounds`] does; no window where no class is called by the category's name."""
        width, hop = round(WINDOW * SAMPLING_RATE), round(HOP * SAMPLING_RATE)
        words = set(category.lower().split())
        heard = []
        for start in range(0, len(samples) - width + 1, hop):
            window = np.pad(samples[start : start + width], (0, SAMPLING_RATE - width))
            likely = [
                probability
                for name, probability in self.hear(window).items()
                if words <= set(re.findall(r"[a-z]+", name.lower()))
            ]
            heard.append(max(likely, default=0.0) >= CLASSIFIED)
        return np.array(heard, bool)


# SAM


class SamPixels:
    """Frames as a SAM takes them: squares, normalised. transformers' own processors of these
    models do the same and need torchvision.

    Args:
        model: of any of [`FAMILIES`].
        mean, std: of each channel.
    """

    def __init__(self, model: Any, mean: Sequence[float], std: Sequence[float]):
        self.device, self.dtype = model.device, model.dtype
        size = model.config.prompt_encoder_config.image_size
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.mean, self.std = (torch.tensor(value).view(3, 1, 1) for value in (mean, std))

    def __call__(self, frames: Sequence[np.ndarray]) -> torch.Tensor:
        """Frames `(height, width, 3)` uint8 to `(frames, 3, size, size)`."""
        pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float()
        pixels = nn.functional.interpolate(
            pixels, self.size, mode="bilinear", align_corners=False, antialias=True
        )
        pixels = (pixels.round().clamp(0, 255) / 255 - self.mean) / self.std
        return pixels.to(self.device, self.dtype)

    def places(self, points: Sequence[Sequence[float]], frame_size: tuple[int, int]) -> Any:
        """(x, y) pairs in a frame's pixels as pairs in the square's."""
        scale = np.array([self.size[1] / frame_size[1], self.size[0] / frame_size[0]])
        places = np.asarray(points, np.float64).reshape(-1, 2) * scale
        return torch.as_tensor(places, dtype=self.dtype, device=self.device)


def _load_sam(
    option: str, name: str, device: torch.device, video: bool = False
) -> tuple[Any, SamPixels]:
    kind = _model_type(option, name)
    families = VIDEO_FAMILIES if video else {**FAMILIES, **VIDEO_FAMILIES}
    if kind not in families:
        raise ValueError(
            f"{option} {name}: a {kind} model: it must be one of {', '.join(families)}"
        )
    architecture = getattr(transformers, families[kind] + ("VideoModel" if video else "Model"))
    model = _load(option, name, architecture.from_pretrained).to(device).eval()
    try:
        fields, _ = ImageProcessingMixin.get_image_processor_dict(name)
    except OSError:  # it has no such file
        fields = {}
    usual = (0.5, 0.5, 0.5) if families[kind] == "Sam3Tracker" else None
    mean = fields.get("image_mean") or usual or (0.485, 0.456, 0.406)
    std = fields.get("image_std") or usual or (0.229, 0.224, 0.225)
    return model, SamPixels(model, mean, std)


class SamSegmenter:
    """A `Segmenter` of dataset_script/annotate/models.py: a SAM, asked with clicks, a box and a
    mask. What it makes of the last frame is remembered, so that clicks are answered quickly."""

    def __init__(self, model: Any, pixels: SamPixels):
        self.model, self.pixels = model, pixels
        self._last: tuple[bytes, list[torch.Tensor]] | None = None

    @torch.inference_mode()
    def segment(self, frame: np.ndarray, prompt: Prompt) -> np.ndarray:
        """See `Segmenter.segment`."""
        size, inputs = frame.shape[:2], {}
        if prompt.points:
            inputs["input_points"] = self.pixels.places(prompt.points, size)[None, None]
            labels = torch.tensor(prompt.labels, dtype=torch.int32, device=self.model.device)
            inputs["input_labels"] = labels[None, None]
        if prompt.box is not None:
            inputs["input_boxes"] = self.pixels.places(prompt.box, size).reshape(1, 1, 4)
        if prompt.mask is not None:
            mask = torch.as_tensor(prompt.mask, device=self.model.device).to(self.model.dtype)
            inputs["input_masks"] = (2 * mask - 1)[None, None] * MASK_LOGIT
        ambiguous = len(prompt.points) == 1 and len(inputs) == 2  # one click may mean a part
        outputs = self.model(
            image_embeddings=self._embed(frame), multimask_output=ambiguous, **inputs
        )
        best = outputs.iou_scores[0, 0].argmax()
        return _to_mask(outputs.pred_masks[:, 0, best], size)

    def _embed(self, frame: np.ndarray) -> list[torch.Tensor]:
        key = frame.tobytes()
        if self._last is None or self._last[0] != key:
            self._last = key, self.model.get_image_embeddings(self.pixels([frame]))
        return list(self._last[1])


def _to_mask(logits: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """`(1, h, w)` to `(height, width)` bool."""
    resized = nn.functional.interpolate(logits[None].float(), size, mode="bilinear")
    return (resized[0, 0] > 0).cpu().numpy()


class SamTracker:
    """A `Tracker` of dataset_script/annotate/models.py: the video model of a SAM."""

    def __init__(self, model: Any, pixels: SamPixels):
        self.model, self.pixels = model, pixels
        name = type(model).__name__.replace("Model", "InferenceSession")
        self._session = getattr(transformers, name)

    @torch.inference_mode()
    def track(
        self, frames: Sequence[np.ndarray], pivot: int, masks: dict[int, np.ndarray]
    ) -> Iterator[tuple[int, dict[int, np.ndarray]]]:
        """See `Tracker.track`; a pixel that two objects have is of the one that has it more
        surely."""
        size = frames[pivot].shape[:2]
        shown = {fid: mask for fid, mask in masks.items() if mask.any()}
        absent = {fid: np.zeros(size, bool) for fid in masks.keys() - shown.keys()}
        video = self.pixels(frames)
        for reverse in (False, True):
            places = range(pivot) if reverse else range(pivot + 1, len(frames))
            if not shown or not places:
                yield from ((place, dict(absent)) for place in places)
                continue
            session = self._start(video, size, pivot, shown)
            steps = self.model.propagate_in_video_iterator(
                session, start_frame_idx=pivot, reverse=reverse
            )
            for outputs in steps:
                if outputs.frame_idx != pivot:
                    found = self._settle(outputs.pred_masks[:, 0], size)
                    yield outputs.frame_idx, {**absent, **dict(zip(shown, found, strict=True))}

    def _start(
        self,
        video: torch.Tensor,
        size: tuple[int, int],
        pivot: int,
        masks: dict[int, np.ndarray],
    ) -> Any:
        session = self._session(
            video=video,
            video_height=size[0],
            video_width=size[1],
            inference_device=self.model.device,
            inference_state_device=self.model.device,
            video_storage_device=self.model.device,
            dtype=self.model.dtype,
        )
        for fid, mask in masks.items():
            index = session.obj_id_to_idx(fid)
            whole = torch.as_tensor(mask, device=self.model.device)[None, None].float()
            resized = nn.functional.interpolate(
                whole, self.pixels.size, mode="bilinear", antialias=True
            )
            session.add_mask_inputs(index, pivot, (resized >= 0.5).float())
        session.obj_with_new_inputs = list(masks)
        self.model(session, frame_idx=pivot)
        return session

    def _settle(self, logits: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
        """`(objects, h, w)` to masks `(objects, height, width)` bool that do not overlap."""
        resized = nn.functional.interpolate(logits[:, None].float(), size, mode="bilinear")[:, 0]
        own = resized >= resized.amax(0, keepdim=True)
        return ((resized > 0) & own).cpu().numpy()


# Detectors


def _load_detector(name: str, device: torch.device) -> tuple[Any, Any]:
    kind = _model_type("--detector", name)
    if kind not in DETECTORS:
        raise ValueError(
            f"--detector {name}: a {kind} model: it must be one for zero-shot object detection: "
            f"{', '.join(DETECTORS)}"
        )
    load = partial(_load, "--detector", name)
    model = load(AutoModelForZeroShotObjectDetection.from_pretrained).to(device).eval()
    return model, load(AutoProcessor.from_pretrained)


class BoxDetector:
    """A `Detector` of dataset_script/annotate/models.py: a model that finds boxes by text, which a
    segmenter turns to masks.

    Args:
        model, processor: of AutoModelForZeroShotObjectDetection.
        segmenter: what is asked with each box.
    """

    def __init__(self, model: Any, processor: Any, segmenter: Segmenter):
        self.model, self.processor, self.segmenter = model, processor, segmenter

    @torch.inference_mode()
    def detect(self, frame: np.ndarray, text: str = "") -> list[Candidate]:
        """See `Detector.detect`; without a text, things are asked for as objects."""
        phrases = [part.strip().lower() for part in text.split(".") if part.strip()] or [ANYTHING]
        inputs = self.processor(images=[frame], text=[phrases], return_tensors="pt")
        outputs = self.model(**inputs.to(self.model.device))
        (found,) = self.processor.post_process_grounded_object_detection(
            outputs, threshold=BOX_SCORE, target_sizes=[frame.shape[:2]], text_labels=[phrases]
        )
        order = found["scores"].argsort(descending=True, stable=True).tolist()[:MOST_BOXES]
        candidates = []
        for place in order:
            left, top, right, bottom = found["boxes"][place].tolist()
            height, width = frame.shape[:2]
            box = (max(0, left), max(0, top), min(width - 1, right), min(height - 1, bottom))
            if box[0] < box[2] and box[1] < box[3]:
                mask = self.segmenter.segment(frame, Prompt(box=box))
                score = float(found["scores"][place])
                said = found["text_labels"][place] or ""  # tokens, of one phrase or more
                label = next((phrase for phrase in phrases if phrase in said), "")
                candidates.append(Candidate(mask, label, score))
        candidates = [candidate for candidate in candidates if candidate.mask.any()]
        return [candidates[place] for place in drop_doubles([c.mask for c in candidates])]
