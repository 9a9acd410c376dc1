"""RefAVSProcessor: frames, sound and sentences in, tensors out; the model's answer in, masks of the
video's size out."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoTokenizer,
    BatchEncoding,
    BatchFeature,
    ProcessorMixin,
)
from transformers.dynamic_module_utils import custom_object_save
from transformers.processing_utils import ProcessingKwargs, Unpack
from transformers.utils import logging

from .feature_extraction_refavs import RefAVSFeatureExtractor, extract_seconds, prepare_waveform
from .pipeline_refavs import RefAVSPipeline
from .video_refavs import to_rgb
from .video_session_refavs import RefAVSVideoSessionProcessorMixin


logger = logging.get_logger(__name__)

PARTS = ("text_kwargs", "images_kwargs", "audio_kwargs")
KEYWORDS = {"common_kwargs", *PARTS}.union(
    *(ProcessingKwargs.__annotations__[part].__annotations__ for part in PARTS)
)


class RefAVSProcessor(RefAVSVideoSessionProcessorMixin, ProcessorMixin):
    """Combines an image processor, a feature extractor of sound and a tokenizer.

    Args:
        image_processor: resizes each frame to a fixed size, 384x384 in the paper.
        feature_extractor: of the audio encoder; [`RefAVSFeatureExtractor`] for VGGish and YAMNet.
        tokenizer: of the text encoder.
        max_text_length: L, tokens of a sentence; a longer one is cut, with a warning (Sec. 5.1).
        sentence_case: begin sentences with a capital and end them with a full stop, for a text
            encoder that has read no others.
    """

    def __init__(
        self,
        image_processor,
        feature_extractor,
        tokenizer,
        max_text_length: int = 25,
        sentence_case: bool = False,
        **kwargs,
    ):
        super().__init__(image_processor, feature_extractor, tokenizer, **kwargs)
        self.max_text_length = max_text_length
        self.sentence_case = sentence_case

    @classmethod
    def from_backbones(
        cls,
        mask2former: str | None = None,
        text_model: str | None = None,
        image_size: int = 384,
        *,
        vision: str | None = None,
        audio_model: str | None = None,
        **kwargs: Any,
    ) -> "RefAVSProcessor":
        """The processor that goes with [`RefAVSForSegmentation.from_backbones`].

        Args:
            mask2former, text_model, vision, audio_model: Hub ids or local folders, as there; of
                the picture's part the mean and deviation of pixel values are taken, of the text's
                the tokenizer, of the sound's the feature extractor (without `audio_model`,
                VGGish's).
            image_size: every frame is resized to this height and width (384 in Sec. 4.2).
            kwargs: of [`RefAVSProcessor`], such as `max_text_length`.

        Raises:
            ValueError: the image processor would pad frames of this size; masks are not padded.
        """
        size = {"height": image_size, "width": image_size}
        image_processor = AutoImageProcessor.from_pretrained(
            vision or mask2former, size=size, do_center_crop=False
        )
        divisor = getattr(image_processor, "size_divisor", None)  # Mask2Former's has one
        if divisor and image_size % divisor:
            raise ValueError(
                f"image_size must be a multiple of {divisor}, to which frames are "
                f"padded, out of line with their masks, got {image_size}"
            )
        feature_extractor = RefAVSFeatureExtractor()
        if audio_model and AutoConfig.from_pretrained(audio_model).model_type != "refavs_vggish":
            feature_extractor = AutoFeatureExtractor.from_pretrained(audio_model)
        return cls(
            image_processor, feature_extractor, AutoTokenizer.from_pretrained(text_model), **kwargs
        )

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> Any:
        """Write the processor and, since the configuration of the model names it, the pipeline's
        code."""
        saved = super().save_pretrained(save_directory, **kwargs)
        custom_object_save(RefAVSPipeline, save_directory)
        return saved

    def __call__(
        self,
        text: str | list | None = None,
        frames: Any = None,
        audio: Any = None,
        sampling_rate: int | None = None,
        return_tensors: str | None = "pt",
        device: str | torch.device | None = None,
        *,
        videos: Any = None,
        **kwargs: Unpack[ProcessingKwargs],
    ) -> BatchFeature:
        """
        One clip: `text` is a sentence or a list of them, `frames` one frame a second, `audio` one
            waveform.
        Several clips: each of the three is a list with one entry a clip.

        Args:
            text: sentences. An empty one is an error; white space around and inside is tidied.
            frames: PIL images, arrays or tensors, `(height, width, 3)` or `(3, height, width)`,
                uint8 or floats in [0, 1]; a list of them or one stacked array. Without frames only
                `text` is processed.
            audio: `(samples,)`, `(channels, samples)` or `(samples, channels)`; frame k goes with
                second k. Silence is a sound like any other. None, or sound that ends early: the
                steps without it are marked as padding and the model answers them from frame and
                sentence.
            sampling_rate: of `audio`, in Hz; anything but 16 kHz is resampled.
            device: where the tensors shall be. With torchvision's image processor frames are
                resized there too.
            videos: `frames` by the name that they have in transformers.
            kwargs: as in all of transformers' processors: `text_kwargs` (such as `max_length` or
                `padding`), `images_kwargs` (such as `do_resize`), `audio_kwargs`
                (`sampling_rate`), `common_kwargs` (`return_tensors`), or their entries one by one.

        Returns:
            `pixel_values (clips, frames, 3, H, W)`, `frame_mask (clips, frames)`, `input_features
            (clips, frames, 96, 64)`,
            `input_features_mask (clips, frames, 96)`, `input_ids (expressions, tokens)`,
            `attention_mask` alike and
            `clip_index (expressions,)`, left out where sentence n is asked of clip n. Masks are 1
            where there is something, 0 in padding.

        Raises:
            ValueError: what was passed cannot be understood; the message says what came and what to
                do.
        """
        if frames is not None and videos is not None:
            raise ValueError("frames and videos are two names of one argument: pass one of them")
        frames = videos if frames is None else frames
        if text is None and frames is None and audio is None:
            raise ValueError("nothing to process: pass text, frames or sound")
        if unknown := [name for name in kwargs if name not in KEYWORDS]:
            raise TypeError(f"__call__() got an unexpected keyword argument {unknown[0]!r}")
        if kwargs:
            kwargs = self._merge_kwargs(ProcessingKwargs, **kwargs)
        of_text, of_images, of_audio = (kwargs.get(part, {}) for part in PARTS)
        for options in (of_text, of_images):
            return_tensors = options.pop("return_tensors", return_tensors)
        sampling_rate = of_audio.get("sampling_rate", sampling_rate)
        inputs = {}
        clips = None if frames is None else _as_clips(frames)
        if clips is not None:
            inputs |= self._process_frames(clips, device, of_images)
            inputs |= self._process_audio(audio, sampling_rate, [len(clip) for clip in clips])
        elif audio is not None:
            waveforms = list(audio) if _is_list_of_waveforms(audio) else [audio]
            seconds = [self._count_seconds(waveform, sampling_rate) for waveform in waveforms]
            inputs |= self._process_audio(waveforms, sampling_rate, seconds)
        if text is not None:
            inputs |= self._process_text(text, None if clips is None else len(clips), of_text)
        inputs = BatchFeature(inputs, tensor_type=return_tensors)
        return inputs if device is None else inputs.to(device)

    def extract_audio(
        self, waveforms: list, sampling_rate: int | None, num_seconds: int
    ) -> dict[str, np.ndarray]:
        """What the audio encoder is given of each second; see [`RefAVSFeatureExtractor`] or, where
        the feature extractor is one of transformers' own, [`extract_seconds`]."""
        if hasattr(self.feature_extractor, "mode"):
            features = self.feature_extractor(
                waveforms, sampling_rate=sampling_rate, num_examples=num_seconds
            )
            return dict(features)
        return extract_seconds(self.feature_extractor, waveforms, sampling_rate, num_seconds)

    def normalize_text(self, sentence: str) -> str:
        """A sentence as it is tokenized: white space tidied and, with `sentence_case`, a capital at
        its
        beginning and a full stop at its end.

        Raises:
            ValueError: it is empty.
        """
        return self._normalize([sentence])[0]

    def tokenize(self, sentences: list[str], **options: Any) -> BatchEncoding:
        """The tokens that the text encoder is given, padded to the longest sentence and cut to
        `max_text_length`, unless the tokenizer's `options` say otherwise.

        Returns:
            `input_ids` and `attention_mask`, `(sentences, L)` each, as numpy arrays; `word_ids(n)`
            tells of which word of `normalize_text(sentences[n])` each token is.

        Raises:
            ValueError: a sentence is empty.
        """
        usual = {"padding": "longest", "truncation": True, "max_length": self.max_text_length}
        return self.tokenizer(
            self._normalize(sentences), **{**usual, **options, "return_tensors": "np"}
        )

    def post_process_masks(
        self,
        outputs: Any,
        target_sizes: tuple[int, int] | list[tuple[int, int]],
        threshold: float = 0.5,
    ) -> list[np.ndarray]:
        """Binary masks at the video's own size.

        Args:
            outputs: of the model, or anything with `mask_logits (expressions, frames, h, w)`.
            target_sizes: `(height, width)` of the video, or one pair for each sentence.
            threshold: a pixel is of the object if its probability is above this.

        Returns:
            For each sentence a bool array `(frames, height, width)`.
        """
        mask_logits = outputs.mask_logits.detach().float()
        if not isinstance(target_sizes[0], (tuple, list)):
            target_sizes = [target_sizes] * len(mask_logits)
        if len(target_sizes) != len(mask_logits):
            raise ValueError(
                f"one target size for each of {len(mask_logits)} sentences, got {len(target_sizes)}"
            )
        level = torch.logit(torch.tensor(threshold)).item()
        masks = []
        for logits, size in zip(mask_logits, target_sizes, strict=True):
            resized = torch.nn.functional.interpolate(
                logits.unsqueeze(1), size=tuple(size), mode="bilinear"
            )
            masks.append((resized.squeeze(1) > level).cpu().numpy())
        return masks

    @property
    def model_input_names(self) -> list[str]:
        return [
            "pixel_values",
            "frame_mask",
            "input_features",
            "input_features_mask",
            "input_ids",
            "attention_mask",
            "clip_index",
        ]

    def resize_frames(self, frames: list[np.ndarray]) -> np.ndarray:
        """What happens to frames `(h, w, 3)` uint8 before they are normalised: `(frames, 3, H, W)`
        uint8, which `frames` takes in their place to the same effect."""
        resized = self.image_processor(
            frames, do_rescale=False, do_normalize=False, input_data_format="channels_last"
        )
        return np.stack([np.asarray(frame) for frame in resized["pixel_values"]])

    def _process_frames(
        self, clips: list[list], device: str | torch.device | None, options: dict[str, Any]
    ) -> dict[str, Any]:
        if not all(clips):
            raise ValueError(
                f"clip {[len(clip) for clip in clips].index(0)} has no frame: at least one is "
                "needed"
            )
        pictures = [to_rgb(frame) for clip in clips for frame in clip]
        if device is not None and getattr(self.image_processor, "backend", None) == "torchvision":
            pictures = [
                torch.from_numpy(picture).to(device) for picture in pictures
            ]  # to be turned and resized there
        options = {"input_data_format": "channels_last", **options}
        resized = self.image_processor(pictures, **options)["pixel_values"]
        resized = torch.stack([torch.as_tensor(picture) for picture in resized])
        lengths = [len(clip) for clip in clips]
        pixel_values = resized.new_zeros(len(clips), max(lengths), *resized.shape[1:])
        frame_mask = np.zeros((len(clips), max(lengths)), dtype=np.int64)
        for index, (length, clip) in enumerate(zip(lengths, resized.split(lengths), strict=True)):
            pixel_values[index, :length], frame_mask[index, :length] = clip, 1
        on_cpu = pixel_values.device.type == "cpu"
        return {
            "pixel_values": pixel_values.numpy() if on_cpu else pixel_values,
            "frame_mask": frame_mask,
        }

    def _process_audio(
        self, audio: Any, sampling_rate: int | None, num_frames: list[int]
    ) -> dict[str, np.ndarray]:
        waveforms = [audio] if len(num_frames) == 1 and not _is_list_of_waveforms(audio) else audio
        waveforms = [None] * len(num_frames) if waveforms is None else waveforms
        if len(waveforms) != len(num_frames):
            raise ValueError(
                f"one waveform (or None) for each of {len(num_frames)} clips, got {len(waveforms)}"
            )
        features = self.extract_audio(waveforms, sampling_rate, max(num_frames))
        for mask, frames in zip(features["input_features_mask"], num_frames, strict=True):
            mask[frames:] = 0  # sound beyond the last frame of a shorter clip
        return features

    def _normalize(self, sentences: list[str]) -> list[str]:
        sentences = [" ".join(sentence.split()) for sentence in sentences]
        if not all(sentences):
            raise ValueError(
                f"sentence {sentences.index('')} is empty: say in words which object is meant"
            )
        return [_to_sentence_case(text) for text in sentences] if self.sentence_case else sentences

    def _count_seconds(self, waveform: Any, sampling_rate: int | None) -> int:
        rate = self.feature_extractor.sampling_rate
        num_samples = len(prepare_waveform(waveform, sampling_rate, rate))
        if hasattr(self.feature_extractor, "count_examples"):
            return self.feature_extractor.count_examples(num_samples)
        return -(-num_samples // rate)

    def _process_text(
        self, text: str | list, num_clips: int | None, options: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        sentences, clip_index = _as_sentences(text, num_clips)
        lengths = [len(ids) for ids in self.tokenizer(self._normalize(sentences))["input_ids"]]
        longest = options.get("max_length", self.max_text_length)
        for sentence, length in zip(sentences, lengths, strict=True):
            if length > longest and options.get("truncation", True):
                begin = sentence if len(sentence) <= 200 else f"{sentence[:200]}..."
                logger.warning(f"cut to {longest} tokens from {length}: {begin!r}")
        tokens = self.tokenize(sentences, **options)
        text_inputs = {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}
        return (
            text_inputs
            if clip_index is None
            else {**text_inputs, "clip_index": np.array(clip_index)}
        )


def _to_sentence_case(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _as_clips(frames: Any) -> list[list]:
    """Whatever holds frames -> a list of clips, each a list of single frames."""
    dimensions = _dimensions(frames)
    if dimensions in (2, 3):
        return [[frames]]
    if dimensions == 4:
        return [list(frames)]
    if dimensions == 5 or (
        len(frames) and (isinstance(frames[0], (list, tuple)) or _dimensions(frames[0]) == 4)
    ):
        return [list(clip) for clip in frames]
    return [list(frames)]


def _dimensions(frames: Any) -> int:
    """Of an array, a tensor or an image; 0 for a list."""
    if isinstance(frames, (list, tuple)):
        return 0
    return (
        np.ndim(frames) if hasattr(frames, "ndim") or hasattr(frames, "__array_interface__") else 0
    )


def _is_list_of_waveforms(audio: Any) -> bool:
    return isinstance(audio, (list, tuple)) and (not audio or not np.isscalar(audio[0]))


def _as_sentences(text: str | list, num_clips: int | None) -> tuple[list[str], list[int] | None]:
    """Sentences in one list, and the clip of each: None where that is sentence n of clip n, so
    that rows of one clip and one sentence may be stacked, and without frames."""
    if isinstance(text, str):
        text = [text]
    if not text:
        raise ValueError("no sentence was given: pass at least one")
    if num_clips is None or (
        num_clips == 1 and all(isinstance(sentence, str) for sentence in text)
    ):
        groups = [text]
    elif len(text) == num_clips:
        groups = [[entry] if isinstance(entry, str) else list(entry) for entry in text]
    else:
        raise ValueError(
            f"one sentence, or a list of sentences, for each of {num_clips} clips: got {len(text)}"
        )
    sentences = [sentence for group in groups for sentence in group]
    for sentence in sentences:
        if not isinstance(sentence, str):
            raise ValueError(f"a sentence must be a string, got {type(sentence).__name__}")
    if num_clips is None or all(len(group) == 1 for group in groups):
        return sentences, None
    return sentences, [index for index, group in enumerate(groups) for _ in group]


RefAVSProcessor.register_for_auto_class()


__all__ = ["RefAVSProcessor"]
