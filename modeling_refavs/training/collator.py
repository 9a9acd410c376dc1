"""From draws of clips to the arguments of the model."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from .augmentation import NameMixup
from .cache import PreparedSplit, normalize
from .dataset import PreparedClip, Sentence
from .sampler import Draw


Steps = slice | np.ndarray

# What is drawn for a clip. The numbers are part of the seed of every draw, so they stay.
SENTENCES, STEPS, NAMES = 1, 2, 3


class ClipSample(NamedTuple):
    """A clip, the sentences asked of it, and how it was drawn; a clip of the validation has no
    draw."""

    clip: int
    sentences: tuple[Sentence, ...]
    draw: Draw | None


class ClipDataset(Dataset):
    """Chooses sentences; reads nothing.

    Args:
        split: prepared.
        expressions_per_clip: so many sentences are drawn each time; None: all.
        name_mixup, unnamed: as in `DataArguments`.
    """

    def __init__(
        self,
        split: PreparedSplit,
        expressions_per_clip: int | None = None,
        name_mixup: float = 0.0,
        unnamed: Collection[str] = (),
    ):
        self.split, self.expressions_per_clip = split, expressions_per_clip
        self.mix_names: NameMixup | None = None
        if name_mixup or unnamed:
            self.mix_names = NameMixup(split.clips, name_mixup, split.text_spans, unnamed)

    def __len__(self) -> int:
        return len(self.split.clips)

    def __getitem__(self, item: Draw | int) -> ClipSample:
        if isinstance(item, int):
            clip = self.split.clips[item]
            return ClipSample(
                item,
                self._mix_names(clip, clip.sentences, np.random.default_rng(item)),
                None,
            )
        clip = self.split.clips[item.clip]
        sentences = tuple(filter(item.may_ask, clip.sentences))
        if self.expressions_per_clip is not None and len(sentences) > self.expressions_per_clip:
            chosen = item.generator(SENTENCES).permutation(len(sentences))[
                : self.expressions_per_clip
            ]
            sentences = tuple(sentences[index] for index in sorted(chosen))
        sentences = self._mix_names(clip, sentences, item.generator(NAMES))
        return ClipSample(item.clip, sentences, item)

    def _mix_names(
        self, clip: PreparedClip, sentences: tuple[Sentence, ...], rng: np.random.Generator
    ) -> tuple[Sentence, ...]:
        return (
            sentences if self.mix_names is None else self.mix_names(sentences, clip.categories, rng)
        )


class ClipCollator:
    """A batch of clips with all their sentences, as `forward` of [`RefAVSForSegmentation`] takes
    it.

    Args:
        split: that the samples are of.
        table: `(3, 256)`, see [`pixel_table`].
        padding: the tokenizer's token that fills up shorter sentences.
        steps_per_clip: so many steps of the batch are learned from, drawn each time; None: all.
        single_step: one step alone of each clip, another for each, is seen and learned from.
        decode: False where F_V, if it is kept, is all that is needed of the frames.
        feature_pooling: of kept stages, all but the last, which cues are made of, squares of so
            many cells are averaged.
    """

    def __init__(
        self,
        split: PreparedSplit,
        table: torch.Tensor,
        padding: int = 1,
        steps_per_clip: int | None = None,
        single_step: bool = False,
        decode: bool = True,
        feature_pooling: int = 1,
    ):
        self.split, self.table, self.padding, self.steps_per_clip = (
            split,
            table,
            padding,
            steps_per_clip,
        )
        self.single_step, self.feature_pooling = single_step, feature_pooling
        self.decode = decode or split.frame_features is None

    def __call__(
        self, samples: Sequence[ClipSample]
    ) -> dict[str, torch.Tensor | tuple[torch.Tensor, ...]]:
        passed, steps, chosen = self._choose_steps(samples)
        frames, seen = {}, passed
        if self.split.frame_features is not None:
            frames["frame_features"] = self._stack(self.split.frame_features, samples, passed)
            seen = steps  # of the others F_V is enough
        if self.split.vision:
            *finer, last = (self._stack(stage, samples, seen) for stage in self.split.vision)
            frames["vision_features"] = (*map(self._pool, finer), last)
        elif self.decode:
            frames["pixel_values"] = self._pixel_values(samples, seen)
        rest = {
            **self._sound(samples, passed),
            **self._text(samples),
            "mask_labels": self._masks(samples, steps),
        }
        return {**frames, **rest, **chosen}  # the first tells Trainer how many clips there are

    def _choose_steps(
        self, samples: Sequence[ClipSample]
    ) -> tuple[list[Steps], list[Steps], dict[str, torch.Tensor]]:
        """Of each clip the steps that the model is given and those that are learned from; and how
        the model is told."""
        num_steps, count = self.split.frames.shape[1], len(samples)
        if samples[0].draw is None:
            return [slice(None)] * count, [slice(None)] * count, {}
        if self.single_step:
            own = [sample.draw.generator(STEPS).integers(num_steps, size=1) for sample in samples]
            return own, own, {}
        if self.steps_per_clip is None or self.steps_per_clip >= num_steps:
            return [slice(None)] * count, [slice(None)] * count, {}
        steps = np.sort(
            samples[0].draw.generator(STEPS).permutation(num_steps)[: self.steps_per_clip]
        )
        passed = slice(
            steps[-1] + 1
        )  # what comes after the last of them changes nothing: EEMC is causal
        return [passed] * count, [steps] * count, {"step_index": torch.from_numpy(steps)}

    @staticmethod
    def _stack(
        array: np.ndarray, samples: Sequence[ClipSample], steps: list[Steps]
    ) -> torch.Tensor:
        taken = np.stack(
            [array[sample.clip, own] for sample, own in zip(samples, steps, strict=True)]
        )
        return torch.from_numpy(taken if taken.dtype == bool else taken.astype(np.float32))

    def _pool(self, stage: torch.Tensor) -> torch.Tensor:
        """`(clips, frames, C, h, w)` to less height and width."""
        if self.feature_pooling == 1:
            return stage
        pooled = torch.nn.functional.avg_pool2d(
            stage.flatten(0, 1), self.feature_pooling, ceil_mode=True
        )
        return pooled.unflatten(0, stage.shape[:2])

    def _pixel_values(self, samples: Sequence[ClipSample], steps: list[Steps]) -> torch.Tensor:
        """`(clips, frames, 3, H, W)`."""
        frames = np.stack(
            [
                self.split.frames[sample.clip, own]
                for sample, own in zip(samples, steps, strict=True)
            ]
        )
        return normalize(torch.from_numpy(frames), self.table)

    def _masks(self, samples: Sequence[ClipSample], steps: list[Steps]) -> torch.Tensor:
        """`(expressions, steps, h, w)` bool."""
        size = self.split.mask_size
        asked = [
            (sentence, own)
            for sample, own in zip(samples, steps, strict=True)
            for sentence in sample.sentences
        ]
        bits = np.stack([self.split.masks[sentence.mask_row][own] for sentence, own in asked])
        masks = (
            np.unpackbits(bits, axis=-1, count=size * size)
            .reshape(*bits.shape[:2], size, size)
            .astype(bool)
        )
        return torch.from_numpy(masks)

    def _sound(self, samples: Sequence[ClipSample], passed: list[Steps]) -> dict[str, torch.Tensor]:
        arrays = {
            name: self._stack(array, samples, passed) for name, array in self.split.sound.items()
        }
        if "audible" in arrays:
            arrays["input_features_mask"] = arrays.pop("audible").unsqueeze(
                -1
            )  # of a second as a whole
        return arrays

    def _text(self, samples: Sequence[ClipSample]) -> dict[str, torch.Tensor]:
        sentences = [sentence for sample in samples for sentence in sample.sentences]
        name = "text_features" if "text_features" in self.split.text else "input_ids"
        rows = [torch.from_numpy(self._text_row(name, sentence)) for sentence in sentences]
        lengths = torch.tensor([len(row) for row in rows])
        padding = self.padding if name == "input_ids" else 0.0
        return {
            name: torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding),
            "attention_mask": (torch.arange(int(lengths.max())) < lengths[:, None]).long(),
            "clip_index": torch.repeat_interleave(
                torch.tensor([len(sample.sentences) for sample in samples])
            ),
        }

    def _text_row(self, name: str, sentence: Sentence) -> np.ndarray:
        """`(L,)` tokens or `(L, D)` F_T."""

        def read(text: str) -> np.ndarray:
            return np.array(self.split.text[name][slice(*self.split.text_spans[text])])

        if sentence.mixture is None:
            return read(sentence.text)
        return sum(
            share * read(text).astype(np.float32)
            for text, share in zip(*sentence.mixture, strict=True)
        )
