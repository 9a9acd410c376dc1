"""Arrays on disk that are made once: a folder of .npy files whose name is a digest of all that they
follow from."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from logging import INFO, WARNING
from multiprocessing import get_start_method
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import FeatureExtractionMixin, ImageProcessingMixin, PreTrainedModel
from transformers.utils import logging

from dataset_script.schema import NUM_FRAMES

from ..encoders_refavs import encode_seconds
from ..metrics.scoring import to_mask
from ..processing_refavs import RefAVSProcessor
from .dataset import PreparedClip, SplitRows


logger = logging.get_logger(__name__)
SPARE = 1 << 28  # bytes that must stay free on the disk
DIGITS = 24  # of a digest, hexadecimal
LARGE = 1 << 30  # bytes that are not taken without a word
Arrays = dict[str, np.ndarray]
Shapes = dict[str, tuple[tuple[int, ...], str]]  # name -> shape, type


class ArrayCache:
    """A folder of such folders.

    Args:
        folder: made if it does not exist.
        num_proc: processes that read what is prepared.
    """

    def __init__(self, folder: str | Path, num_proc: int = 1):
        self.folder, self.num_proc = Path(folder).expanduser(), num_proc
        self.folder.mkdir(parents=True, exist_ok=True)

    def get(
        self,
        name: str,
        key: Any,
        shapes: Callable[[], Shapes],
        parts: Callable[[], Iterable[Arrays]],
    ) -> Arrays:
        """Memory-mapped arrays, made now if they are not there. Killed meanwhile, nothing half made
        is left to be found.

        Args:
            name: what they are, for people.
            key: all that they follow from, as JSON takes it.
            shapes: called if they must be made.
            parts: called then; what it yields fills the arrays from the front, one after the other.
        """
        folder = self.folder / f"{name}-{digest(key)}"
        if not folder.is_dir():
            with FileLock(self.folder / ".lock"):  # another run may be making the same
                if not folder.is_dir():
                    self._make(folder, name, shapes(), parts())
        return {file.stem: np.load(file, mmap_mode="r") for file in folder.glob("*.npy")}

    def read(self, name: str, length: int, read: Callable[[int], Any]) -> Iterator[Any]:
        """`read(0)`, `read(1)`, ... in order, in `num_proc` processes, with a bar. What they raise
        is raised here. What is computed
        meanwhile has the threads that they leave: threads that wait for one another on a busy
            processor are slow."""
        threads, readers = torch.get_num_threads(), self.num_proc if self.num_proc > 1 else 0
        loader = DataLoader(
            _Reading(length, read),
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=readers,
        )
        torch.set_num_threads(max(1, threads - readers))
        try:
            for item in tqdm(loader, desc=f"preparing {name}", unit="clip", total=length):
                if isinstance(item, ValueError):
                    raise item
                yield item
        finally:
            torch.set_num_threads(threads)

    def _make(self, folder: Path, name: str, shapes: Shapes, parts: Iterable[Arrays]) -> None:
        size = sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in shapes.values())
        free = shutil.disk_usage(self.folder).free
        logger.log(
            WARNING if size > LARGE else INFO, f"{folder}: {size / 1e9:.2f} GB are made once"
        )
        if size + SPARE > free:
            raise ValueError(
                f"{self.folder}: {name} takes {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are "
                "free: "
                "make room, or name another folder as cache_dir"
            )
        unfinished = folder.with_name(folder.name + ".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            arrays = {
                key: np.lib.format.open_memmap(
                    unfinished / f"{key}.npy", "w+", dtype=kind, shape=shape
                )
                for key, (shape, kind) in shapes.items()
            }
            filled = dict.fromkeys(arrays, 0)
            for part in parts:
                for key, rows in part.items():
                    arrays[key][filled[key] : filled[key] + len(rows)] = rows
                    filled[key] += len(rows)
            for array in arrays.values():
                array.flush()
            os.replace(unfinished, folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


class _Reading(Dataset):
    """A worker hands a `ValueError` over as an item, since raised there it would come as a
    traceback."""

    def __init__(self, length: int, read: Callable[[int], Any]):
        self.length, self.read = length, read

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        try:
            return self.read(index)
        except ValueError as error:
            return error


def _as_it_is(item: Any) -> Any:
    return item


def digest(key: Any) -> str:
    """Of anything that JSON takes."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:DIGITS]


def digest_module(module: torch.nn.Module) -> str:
    """A digest of all weights but those of adapters that change nothing yet."""
    weights, state = hashlib.sha256(), module.state_dict()
    heard = {
        name.partition(".up.")[0] for name in state if ".adapter.up." in name and state[name].any()
    }
    for name, tensor in sorted(state.items()):
        adapter, inside, _ = name.partition(".adapter.")
        if inside and adapter + ".adapter" not in heard:
            continue
        weights.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        weights.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return weights.hexdigest()[:DIGITS]


def pixel_table(processor: RefAVSProcessor) -> torch.Tensor:
    """The image processor's value of each uint8 value in each channel, `(3, 256)`."""
    ramp = np.repeat(
        np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2
    )  # one row of 256 grey pixels
    values = processor.image_processor([ramp], do_resize=False, input_data_format="channels_last")[
        "pixel_values"
    ]
    return torch.from_numpy(np.asarray(values[0], dtype=np.float32)[:, 0])


def normalize(frames: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """`(..., 3, H, W)` uint8 -> the image processor's float32."""
    channels = torch.arange(3).view(3, 1, 1)
    return table[channels, frames.long()]


SENTENCES_AT_ONCE = 64


@dataclass
class PreparedSplit:
    """A split, memory-mapped.

    Args:
        clips: its sentences.
        frames: `(clips, 10, 3, H, W)` uint8, resized.
        masks: `(objects, 10, bytes)` uint8, eight pixels a byte; `mask_size` is their height and
            width.
        sound: `audio_features (clips, 10, 128)` or `input_features (clips, 10, 96, 64)`, and
            `audible (clips, 10)` bool; empty if sound is not used.
        text: `input_ids (tokens,)` of all sentences one after the other, `text_features (tokens,
            D)` of a frozen encoder.
        text_spans: of each sentence where its tokens start and end.
        vision: the frozen Swin's stages, `(clips, 10, C, h, w)` float16 each; empty if they are
            computed each time.
        frame_features: F_V, what the visual cues are made of, `(clips, 10, C, h, w)` float16; None
            if it is.
    """

    clips: list[PreparedClip]
    frames: np.ndarray
    masks: np.ndarray
    mask_size: int
    sound: Arrays
    text: Arrays
    text_spans: dict[str, tuple[int, int]]
    vision: tuple[np.ndarray, ...] = ()
    frame_features: np.ndarray | None = None


class Preparation:
    """Makes and finds the prepared arrays of splits.

    Args:
        model, processor: [`RefAVSForSegmentation`] and [`RefAVSProcessor`]; the model's frozen
            encoders are run once.
        cache: where arrays are kept.
        mask_size: height and width of masks; None: as the frames'.
        cache_vision: keep what the frozen Swin makes of each frame.
        device: that encoders run on.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: RefAVSProcessor,
        cache: ArrayCache,
        mask_size: int | None = None,
        cache_vision: bool = False,
        device: torch.device | str = "cpu",
    ):
        self.model, self.processor, self.cache, self.device = (
            model.eval(),
            processor,
            cache,
            torch.device(device),
        )
        self.cache_vision, self.config = cache_vision, model.config
        probe = processor.resize_frames([np.zeros((32, 32, 3), dtype=np.uint8)])
        self.frame_shape = probe.shape[1:]
        self.mask_size = mask_size or self.frame_shape[-1]
        if cache_vision and not self.config.freeze_vision_encoder:
            raise ValueError("cache_vision needs a frozen Swin: set freeze_vision_encoder")

    def prepare(
        self,
        rows: SplitRows,
        families: bool = False,
        more_sentences: Sequence[str] = (),
        cache_cues: bool = False,
    ) -> PreparedSplit:
        """
        Args:
            rows: of the split.
            families: read the family of each sentence.
            more_sentences: that may be asked beside the clips' own.
            cache_cues: keep F_V, where not all steps are learned from.

        Raises:
            ValueError: a file cannot be decoded, the disk is too small, or F_V would change in
                training.
        """
        if cache_cues and not self.config.freeze_vision_encoder:
            raise ValueError("cache_cues needs a frozen Swin: set freeze_vision_encoder")
        clips = rows.read_clips(families)
        frames = self._frames(rows)
        sentences = sorted(
            {sentence.text for clip in clips for sentence in clip.sentences} | set(more_sentences)
        )
        text, spans = self._text(sentences)
        return PreparedSplit(
            clips=clips,
            frames=frames,
            masks=self._masks(rows),
            mask_size=self.mask_size,
            sound=self._sound(rows),
            text=text,
            text_spans=spans,
            vision=self._vision(rows, frames) if self.cache_vision else (),
            frame_features=self._frame_features(rows, frames) if cache_cues else None,
        )

    def _frames(self, rows: SplitRows) -> np.ndarray:
        def parts() -> Iterator[Arrays]:
            for frames in self.cache.read(
                "frames", len(rows), partial(_read_frames, rows, self.processor)
            ):
                yield {"frames": frames[None]}

        shapes = {"frames": ((len(rows), NUM_FRAMES, *self.frame_shape), "uint8")}
        return self.cache.get("frames", self._frames_key(rows), lambda: shapes, parts)["frames"]

    def _masks(self, rows: SplitRows) -> np.ndarray:
        def parts() -> Iterator[Arrays]:
            for masks in self.cache.read(
                "masks", len(rows), partial(_read_masks, rows, self.mask_size)
            ):
                yield {"masks": masks}

        def shapes():
            return {
                "masks": (
                    (sum(rows.count_objects()), NUM_FRAMES, -(-(self.mask_size**2) // 8)),
                    "uint8",
                )
            }

        return self.cache.get("masks", ["masks", rows.digest, self.mask_size], shapes, parts)[
            "masks"
        ]

    def _sound(self, rows: SplitRows) -> Arrays:
        """Features of each second, or the audio encoder's vectors if it is frozen."""
        if not self.config.use_audio_cues:
            return {}
        encoder = self.model.base_model.audio_encoder if self.config.freeze_audio_encoder else None
        name = "input_features" if encoder is None else "audio_features"

        @torch.no_grad()
        def encode(sound: tuple[np.ndarray, np.ndarray]) -> Arrays:
            features, audible = sound
            if encoder is not None:
                seconds = torch.from_numpy(features).to(self.device)
                features = encode_seconds(encoder.to(self.device), seconds).cpu().numpy()
            return {name: features, "audible": audible}

        def parts() -> Iterator[Arrays]:
            reading = partial(_read_sound, rows, self.processor)
            yield from map(encode, self.cache.read("sound", len(rows), reading))

        def shapes() -> Shapes:
            first = encode(_read_sound(rows, self.processor, 0))[name]
            return {
                name: ((len(rows), *first.shape[1:]), "float32"),
                "audible": ((len(rows), NUM_FRAMES), "bool"),
            }

        key = [
            "sound",
            rows.digest,
            _settings(self.processor.feature_extractor),
            encoder and digest_module(encoder),
        ]
        return self.cache.get("sound", key, shapes, parts)

    def _text(self, sentences: list[str]) -> tuple[Arrays, dict[str, tuple[int, int]]]:
        """Tokens, and RoBERTa's vectors if it is frozen."""
        tokens = [
            self.processor(sentences[start : start + SENTENCES_AT_ONCE], return_tensors=None)
            for start in range(0, len(sentences), SENTENCES_AT_ONCE)
        ]
        ids = [
            np.array(row)[np.array(mask) > 0]
            for part in tokens
            for row, mask in zip(*_token_rows(part), strict=True)
        ]
        ends = np.cumsum([len(row) for row in ids]).tolist()
        spans = dict(zip(sentences, zip([0, *ends[:-1]], ends, strict=True), strict=True))
        arrays = {"input_ids": np.concatenate(ids)}
        if not self.config.use_text_cues or not self.config.freeze_text_encoder:
            return arrays, spans
        encoder = self.model.base_model.text_encoder

        def parts() -> Iterator[Arrays]:
            for part in tokens:
                rows, mask = (torch.from_numpy(np.stack(values)) for values in _token_rows(part))
                states = self._run(encoder, rows, attention_mask=mask).last_hidden_state.cpu()
                yield {"text_features": states[mask > 0].numpy()}

        shapes = {"text_features": ((ends[-1], encoder.config.hidden_size), "float32")}
        key = ["text", sentences, arrays["input_ids"].tolist(), digest_module(encoder)]
        return arrays | self.cache.get("text", key, lambda: shapes, parts), spans

    def _vision(self, rows: SplitRows, frames: np.ndarray) -> tuple[np.ndarray, ...]:
        """The backbone's four stages."""
        encoder = self.model.base_model.vision_encoder
        arrays = self._of_backbone("vision", rows, frames, encoder, slice(None))
        return tuple(arrays[name] for name in sorted(arrays))

    def _frame_features(self, rows: SplitRows, frames: np.ndarray) -> np.ndarray:
        """F_V, the last stage; of a pair its coarse half alone gives it."""
        encoder = self.model.base_model.vision_encoder
        coarse = getattr(encoder, "coarse", encoder)
        return self._of_backbone("frame_features", rows, frames, coarse, slice(-1, None))["0"]

    def _of_backbone(
        self, name: str, rows: SplitRows, frames: np.ndarray, encoder: nn.Module, stages: slice
    ) -> Arrays:
        """Arrays "0", "1", ... of some of a backbone's stages, in float16."""
        table = pixel_table(self.processor)

        @torch.no_grad()
        def of_clip(index: int) -> list[np.ndarray]:
            encoder.to(self.device)
            pixels = normalize(torch.from_numpy(frames[index].copy()), table).to(self.device)
            return [features.cpu().numpy() for features in encoder(pixels).feature_maps[stages]]

        def parts() -> Iterator[Arrays]:
            # Forked processes share the model and the frames; started otherwise, each would be sent
            # a copy.
            shared = self.device.type == "cpu" and get_start_method() == "fork"
            reading = self.cache if shared else ArrayCache(self.cache.folder)
            for clip in reading.read(name, len(rows), of_clip):
                yield {str(number): features[None] for number, features in enumerate(clip)}

        def shapes():
            return {
                str(number): ((len(rows), *features.shape), "float16")
                for number, features in enumerate(of_clip(0))
            }

        key = [name, self._frames_key(rows), digest_module(encoder)]
        return self.cache.get(name, key, shapes, parts)

    def _frames_key(self, rows: SplitRows) -> list[Any]:
        return ["frames", rows.digest, _settings(self.processor.image_processor)]

    @torch.no_grad()
    def _run(self, encoder: torch.nn.Module, *inputs: torch.Tensor, **more: torch.Tensor) -> Any:
        more = {name: value.to(self.device) for name, value in more.items()}
        return encoder.to(self.device)(*(value.to(self.device) for value in inputs), **more)


def _settings(part: ImageProcessingMixin | FeatureExtractionMixin) -> dict[str, str]:
    """All that the outputs follow from; not where a saved part's code is, since a new one makes the
    same."""
    return {name: str(value) for name, value in part.to_dict().items() if name != "auto_map"}


def _read_frames(rows: SplitRows, processor: RefAVSProcessor, index: int) -> np.ndarray:
    return processor.resize_frames(rows.read_frames(index))


def _read_masks(rows: SplitRows, size: int, index: int) -> np.ndarray:
    """`(objects, 10, bytes)`."""
    masks = [
        [to_mask(picture, (size, size)) for picture in pictures]
        for pictures in rows.read_masks(index)
    ]
    return np.packbits(np.array(masks).reshape(len(masks), NUM_FRAMES, -1), axis=-1)


def _read_sound(
    rows: SplitRows, processor: RefAVSProcessor, index: int
) -> tuple[np.ndarray, np.ndarray]:
    """`(1, 10, ...)` features of each second, and which of them hold sound, `(1, 10)`."""
    sound, rate = rows.read_sound(index)
    features = processor.extract_audio([sound], rate, NUM_FRAMES)
    return features["input_features"], features["input_features_mask"].any(axis=-1)


def _token_rows(tokens: dict[str, Any]) -> tuple[Any, Any]:
    return tokens["input_ids"], tokens["attention_mask"]
