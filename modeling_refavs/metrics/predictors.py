"""Where predictions come from: a model, masks that another program wrote, or what was saved of a
model."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..modeling_outputs_refavs import RefAVSClipFeatures
from ..utils.files import is_new, whole_file, whole_folder
from ..video_refavs import read_wav
from .scoring import Prediction, Truth, to_mask


SENTENCES_AT_ONCE = 8  # 10 frames of 384x384: 0.4 GB of masks each
SAVED, SCORES = "predictions.json", "scores.json"  # of saved predictions: of all, of a sentence
SMALLEST = (32, 32)  # height and width of blank frames, where a model is to hear alone
FULL = 65_535  # the value of probability 1 in a saved mask, 16 bits a pixel


@dataclass(frozen=True)
class Question:
    """What a model is asked.

    Args:
        frames: pictures, one a second.
        waveform: `(channels, samples)` float32 at `sampling_rate` Hz.
        expressions: sentences.
    """

    frames: Sequence[Any]
    waveform: np.ndarray
    sampling_rate: int
    expressions: Sequence[str]

    @classmethod
    def of_clip(cls, clip: dict[str, Any]) -> "Question":
        """Of a row of configuration `clips`."""
        expressions = [sentence["expression"] for sentence in clip["expressions"]]
        return cls(clip["frames"], read_wav(clip["audio"]), clip["sampling_rate"], expressions)


class ModelPredictor:
    """A clip through the backbone once, all its sentences asked together.

    Args:
        model, processor: [`RefAVSForSegmentation`] and [`RefAVSProcessor`].
    """

    def __init__(self, model: Any, processor: Any):
        self.model, self.processor = model, processor

    def __call__(self, clip: dict[str, Any], truths: Sequence[Truth]) -> Iterator[Prediction]:
        """Of each sentence of a row of configuration `clips`, at the size of its truth."""
        question = Question.of_clip(clip)
        sizes = [truth.masks.shape[-2:] for truth in truths]
        yield from self.answer(self.encode(question), question.expressions, sizes)

    @torch.inference_mode()
    def encode(self, question: Question) -> RefAVSClipFeatures:
        """What does not depend on the sentences."""
        return self.model.encode_clips(**self._process(question))

    @torch.inference_mode()
    def exchange_sound(
        self, features: RefAVSClipFeatures, question: Question
    ) -> RefAVSClipFeatures:
        """The features of a clip with the sound of `question`: its frames are not encoded again."""
        blank = [np.zeros((*SMALLEST, 3), np.uint8)] * len(question.frames)
        inputs = self._process(replace(question, frames=blank), do_resize=False)
        sound = self.model.encode_clips(**inputs)
        heard = {name: sound[name] for name in ("audio_features", "audio_mask") if name in sound}
        return RefAVSClipFeatures(**{**features, **heard})

    @torch.inference_mode()
    def answer(
        self,
        features: RefAVSClipFeatures,
        expressions: Sequence[str],
        sizes: Sequence[tuple[int, int]],
    ) -> Iterator[Prediction]:
        """Of each expression, asked of the one clip, its masks at one of `sizes`, (height,
        width)."""
        texts = self.processor(text=list(expressions), device=self.model.device)
        texts["clip_index"] = torch.zeros(
            len(expressions), dtype=torch.long, device=self.model.device
        )
        for start in range(0, len(sizes), SENTENCES_AT_ONCE):
            group = slice(start, start + SENTENCES_AT_ONCE)
            outputs = self.model.segment(
                features, **{name: values[group] for name, values in texts.items()}
            )
            ious = outputs.get("iou_scores")  # (expressions,) or (expressions, frames)
            for index, size in enumerate(sizes[group]):
                resized = torch.nn.functional.interpolate(
                    outputs.mask_logits[index, None].float(), size=size, mode="bilinear"
                )[0]
                yield Prediction(
                    resized.sigmoid().cpu().numpy(),
                    outputs.presence_logits[index].float().sigmoid().cpu().numpy(),
                    None if ious is None else ious[index].float().mean().item(),
                )

    def _process(self, question: Question, **options: Any) -> Any:
        return self.processor(
            frames=question.frames,
            audio=question.waveform,
            sampling_rate=question.sampling_rate,
            device=self.model.device,
            **options,
        ).to(dtype=self.model.dtype)


class FolderPredictor:
    """Masks that another program wrote: `folder/<uid>/0000{0..9}.png`, as `gt_mask` has them: any
    value above 0 is the object. Sentences of one uid share them."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ValueError(f"--predictions {folder}: no such folder")

    def check(self, clips: Iterable[Sequence[dict[str, Any]]], frames: int) -> None:
        """`ValueError` unless each sentence has its files.

        Args:
            clips: of each clip the sentences, with their `uid`.
        """
        folders = [folder for sentences in clips for folder in self.folders_of(sentences)]
        lacking = [
            path
            for folder in dict.fromkeys(folders)
            for path in self.paths_in(folder, frames)
            if not path.is_file()
        ]
        if lacking:
            sentences = len({path.parent for path in lacking})
            raise ValueError(
                f"--predictions {self.folder}: lacks masks of {sentences} of {len(set(folders))} "
                f"sentences, first {lacking[0]}"
            )

    def __call__(self, clip: dict[str, Any], truths: Sequence[Truth]) -> Iterator[Prediction]:
        for folder, truth in zip(self.folders_of(clip["expressions"]), truths, strict=True):
            yield self.read(folder, truth)

    def folders_of(self, sentences: Sequence[dict[str, Any]]) -> list[Path]:
        """Of each sentence of a clip."""
        return [self.folder / sentence["uid"] for sentence in sentences]

    def paths_in(self, folder: Path, frames: int) -> list[Path]:
        """The files of a sentence."""
        return [folder / f"{frame:05d}.png" for frame in range(frames)]

    def read(self, folder: Path, truth: Truth) -> Prediction:
        paths = self.paths_in(folder, len(truth.masks))
        size = truth.masks.shape[-2:]
        masks = [to_mask(_open(path, (truth.file_size, size)), size) for path in paths]
        return Prediction(np.stack(masks).astype(np.float32))


class SavedPredictor(FolderPredictor):
    """What was saved of a model: `folder/<uid>/0000{0..9}.png`, whose values are probabilities
    times 65,535, and `scores.json`. The second sentence of one uid in a clip has `<uid>.2`.

    Args:
        mask_size: that the scores are asked for at.
    """

    def __init__(self, folder: str | Path, mask_size: int | None):
        super().__init__(folder)
        saved = json.loads((self.folder / SAVED).read_text(encoding="utf-8"))
        if saved["mask_size"] != mask_size:
            raise ValueError(
                f"--predictions {folder}: saved at --mask-size {saved['mask_size'] or 'own'} and "
                f"scored at no other, got {mask_size or 'own'}"
            )

    def folders_of(self, sentences: Sequence[dict[str, Any]]) -> list[Path]:
        seen: Counter[str] = Counter()
        folders = []
        for sentence in sentences:
            uid = sentence["uid"]
            seen[uid] += 1
            folders.append(self.folder / (uid if seen[uid] == 1 else f"{uid}.{seen[uid]}"))
        return folders

    def paths_in(self, folder: Path, frames: int) -> list[Path]:
        return [*super().paths_in(folder, frames), folder / SCORES]

    def read(self, folder: Path, truth: Truth) -> Prediction:
        *paths, scores = self.paths_in(folder, len(truth.masks))
        pictures = [_open(path, (truth.masks.shape[-2:],)) for path in paths]
        values = np.stack([np.asarray(picture) for picture in pictures])
        if values.dtype.itemsize < 2:
            raise ValueError(f"{folder}: saved masks have 16 bits a pixel, got {pictures[0].mode}")
        known = json.loads(scores.read_text(encoding="utf-8"))
        presence = known["presence"]
        return Prediction(
            values.astype(np.float32) / np.float32(FULL),
            None if presence is None else np.array(presence),
            known["iou"],
        )


def open_predictions(folder: str | Path, mask_size: int | None) -> FolderPredictor:
    """Masks of another program, or what `--save-predictions` wrote."""
    if (Path(folder) / SAVED).is_file():
        return SavedPredictor(folder, mask_size)
    return FolderPredictor(folder)


class SavingPredictor:
    """Saves what a model predicts, sentence by sentence, and gives what was saved, so that whoever
    scores the folder finds the same. A clip that is saved already is not asked again.

    Args:
        predictor: the model.
        folder: made if it is not there.
        about: what the predictions depend on, `mask_size` among it, in types that JSON has.

    Raises:
        ValueError: the folder holds predictions of something else.
    """

    def __init__(self, predictor: ModelPredictor, folder: str | Path, about: dict[str, Any]):
        self.predictor, self.folder = predictor, Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / SAVED
        if not path.exists():
            if not is_new(self.folder):
                raise ValueError(f"--save-predictions {folder}: holds other files: give a new one")
            with whole_file(path) as unfinished:
                unfinished.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if changed := [name for name, value in about.items() if earlier.get(name) != value]:
            raise ValueError(
                f"--save-predictions {folder}: holds predictions of something else "
                f"({', '.join(changed)} differ): give another folder, or remove it"
            )
        self.saved = SavedPredictor(folder, about["mask_size"])

    def __call__(self, clip: dict[str, Any], truths: Sequence[Truth]) -> Iterator[Prediction]:
        folders = self.saved.folders_of(clip["expressions"])
        if not all(map(Path.is_dir, folders)):
            for folder, prediction in zip(folders, self.predictor(clip, truths), strict=True):
                if not folder.is_dir():
                    _save(folder, prediction)
        yield from self.saved(clip, truths)


def _save(folder: Path, prediction: Prediction) -> None:
    presence = prediction.presence
    scores = {
        "presence": None if presence is None else presence.tolist(),
        "iou": prediction.iou,
    }
    values = np.rint(prediction.probabilities * FULL).astype(np.uint16)
    with whole_folder(folder) as unfinished:
        for frame, picture in enumerate(values):
            Image.fromarray(picture).save(unfinished / f"{frame:05d}.png")
        (unfinished / SCORES).write_text(json.dumps(scores) + "\n", encoding="utf-8")


def _open(path: Path, allowed: Sequence[tuple[int, int]]) -> Image.Image:
    """A predicted mask, of one of the sizes (height, width) that are allowed."""
    try:
        with Image.open(path) as picture:
            picture.load()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as an image: {error}") from error
    if picture.size[::-1] not in allowed:
        sizes = " or ".join(f"{width}x{height}" for height, width in dict.fromkeys(allowed))
        raise ValueError(f"{path}: must be {sizes} pixels, got {picture.width}x{picture.height}")
    return picture
