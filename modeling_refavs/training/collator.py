"""From draws of clips to the arguments of the model."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from .clips import Sentence
from .draws import Draw
from .mirroring import mirror_sentence
from .pictures import normalize
from .preparing import PreparedSplit


MIRROR, SENTENCES, STEPS = range(3)  # what is drawn for a clip


class ClipSample(NamedTuple):
    """A clip, the sentences asked of it, and how it was drawn; a clip of the validation has no draw."""

    clip: int
    sentences: tuple[Sentence, ...]
    mirrored: bool
    draw: Draw | None


class ClipDataset(Dataset):
    """Chooses sentences; reads nothing.

    Args:
        split: prepared.
        expressions_per_clip: so many sentences are drawn each time; None: all.
        mirror: probability that a clip is seen in the mirror.
    """

    def __init__(self, split: PreparedSplit, expressions_per_clip: int | None = None, mirror: float = 0.0):
        self.split, self.expressions_per_clip, self.mirror = split, expressions_per_clip, mirror

    def __len__(self) -> int:
        return len(self.split.clips)

    def __getitem__(self, item: Draw | int) -> ClipSample:
        if isinstance(item, int):
            return ClipSample(item, self.split.clips[item].sentences, False, None)
        sentences = self.split.clips[item.clip].sentences
        sentences = tuple(filter(item.may_ask, sentences))
        if self.expressions_per_clip is not None and len(sentences) > self.expressions_per_clip:
            chosen = item.generator(SENTENCES).permutation(len(sentences))[: self.expressions_per_clip]
            sentences = tuple(sentences[index] for index in sorted(chosen))
        mirrored = self.mirror > 0 and item.generator(MIRROR).random() < self.mirror
        return ClipSample(item.clip, sentences, mirrored, item)


class ClipCollator:
    """A batch of clips with all their sentences, as `forward` of [`RefAVSForSegmentation`] takes it.

    Args:
        split: that the samples are of.
        table: `(3, 256)`, see [`pixel_table`].
        padding: the tokenizer's token that fills up shorter sentences.
        steps_per_clip: so many steps of the batch are learned from, drawn each time; None: all.
        history: so many steps before those are seen; None: all.
        decode: False where F_V, if it is kept, is all that is needed of the frames.
    """

    def __init__(
        self,
        split: PreparedSplit,
        table: torch.Tensor,
        padding: int = 1,
        steps_per_clip: int | None = None,
        history: int | None = None,
        decode: bool = True,
    ):
        self.split, self.table, self.padding, self.steps_per_clip = split, table, padding, steps_per_clip
        self.history = history
        self.decode = decode or split.frame_features is None

    def __call__(self, samples: Sequence[ClipSample]) -> dict[str, torch.Tensor | tuple[torch.Tensor, ...]]:
        clips = [sample.clip for sample in samples]
        num_steps = self.split.frames.shape[1]
        steps = np.arange(num_steps)
        chosen, first = {}, 0
        if self.steps_per_clip is not None and self.steps_per_clip < num_steps and samples[0].draw is not None:
            steps = np.sort(samples[0].draw.generator(STEPS).permutation(num_steps)[: self.steps_per_clip])
            first = 0 if self.history is None else max(0, steps[0] - self.history)
            chosen["step_index"] = torch.from_numpy(steps - first)
        passed = slice(first, steps[-1] + 1)  # what comes after the last of them changes nothing: EEMC is causal
        frames = {}
        seen = passed
        if self.split.frame_features is not None:
            frames["frame_features"] = self._stack(self.split.frame_features, clips, passed)
            seen = steps  # of the others F_V is enough
        if self.split.vision:
            frames["vision_features"] = tuple(self._stack(stage, clips, seen) for stage in self.split.vision)
        elif self.decode:
            frames["pixel_values"] = self._pixel_values(samples, seen)
        rest = {**self._sound(clips, passed), **self._text(samples), "mask_labels": self._masks(samples, steps)}
        return {**frames, **rest, **chosen}  # the first tells Trainer how many clips there are

    @staticmethod
    def _stack(array: np.ndarray, clips: list[int], steps: slice | np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.stack([array[clip, steps] for clip in clips])).float()

    def _pixel_values(self, samples: Sequence[ClipSample], steps: slice | np.ndarray) -> torch.Tensor:
        """`(clips, frames, 3, H, W)`."""
        frames = np.stack([self.split.frames[sample.clip, steps] for sample in samples])
        for row, sample in enumerate(samples):
            if sample.mirrored:
                frames[row] = frames[row, ..., ::-1].copy()
        return normalize(torch.from_numpy(frames), self.table)

    def _masks(self, samples: Sequence[ClipSample], steps: np.ndarray) -> torch.Tensor:
        """`(expressions, steps, h, w)` bool."""
        size = self.split.mask_size
        rows = [sentence.mask_row for sample in samples for sentence in sample.sentences]
        bits = np.stack([self.split.masks[row][steps] for row in rows])
        masks = np.unpackbits(bits, axis=-1, count=size * size).reshape(*bits.shape[:2], size, size).astype(bool)
        mirrored = np.array([sample.mirrored for sample in samples for _ in sample.sentences])
        masks[mirrored] = masks[mirrored][..., ::-1]
        return torch.from_numpy(masks)

    def _sound(self, clips: list[int], passed: slice) -> dict[str, torch.Tensor]:
        arrays = {
            name: torch.from_numpy(np.stack([array[clip, passed] for clip in clips]))
            for name, array in self.split.sound.items()
        }
        if "audible" in arrays:
            arrays["input_features_mask"] = arrays.pop("audible").unsqueeze(-1)  # of a second as a whole
        return arrays

    def _text(self, samples: Sequence[ClipSample]) -> dict[str, torch.Tensor]:
        sentences = [
            mirror_sentence(sentence.text) if sample.mirrored else sentence.text
            for sample in samples
            for sentence in sample.sentences
        ]
        spans = [slice(*self.split.text_spans[sentence]) for sentence in sentences]
        lengths = torch.tensor([span.stop - span.start for span in spans])
        name = "text_features" if "text_features" in self.split.text else "input_ids"
        rows = [torch.from_numpy(np.array(self.split.text[name][span])) for span in spans]
        padding = self.padding if name == "input_ids" else 0.0
        return {
            name: torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding),
            "attention_mask": (torch.arange(int(lengths.max())) < lengths[:, None]).long(),
            "clip_index": torch.repeat_interleave(torch.tensor([len(sample.sentences) for sample in samples])),
        }
