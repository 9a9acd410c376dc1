"""A small VGGish whose vector of a second tells which object sounds, how loud and how fast."""

import json
import os
import wave
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from dataset_script.builder_refavs import digest_tree
from dataset_script.media_files import sound_path
from dataset_script.schema import NUM_FRAMES
from dataset_script.synthetic.objects import CATEGORIES, SEEN
from dataset_script.synthetic.scene import Scene, Sound, read_scenes
from modeling_refavs.configuration_refavs import RefAVSAudioConfig
from modeling_refavs.feature_extraction_refavs import (
    NUM_MEL_BANDS,
    NUM_MEL_FRAMES,
    SAMPLING_RATE,
    RefAVSFeatureExtractor,
)
from modeling_refavs.modeling_vggish import RefAVSVggishModel

from ..training.cache import ArrayCache, Arrays


SOUNDING = tuple(name for name in SEEN if CATEGORIES[name].timbre is not None)
# whatever sounds loudest, of any category: what can be said of a sound that has no name
LOUDEST = "loudest"
KINDS = (*SOUNDING, LOUDEST)
INSTANTS = (np.arange(NUM_MEL_FRAMES) + 0.5) / 100  # s, the middle of each mel frame's 10 ms
PRESENT = 0.1  # share of a second's mel frames from which on a kind counts as present
LEVEL_MEAN, LEVEL_SCALE = -28.0, 8.0  # dB of full scale
SCORED_BATCH = 256
STANDARDISED = 8192  # training seconds
WORKERS = min(2, os.cpu_count() or 1)  # processes that compute log-mels


def make_config() -> RefAVSAudioConfig:
    return RefAVSAudioConfig(
        hidden_sizes=[16, 32, 64, 64], depths=[1, 1, 2, 2], intermediate_size=256
    )


def label_seconds(scene: Scene) -> dict[str, np.ndarray]:
    """What each kind's sound is in each second: float32 `(seconds, kinds)`, over the 0.96 s that an
    example spans.

    Returns:
        `share`: of the time in which it sounds; the rest holds only where that is above 0.
        `level`: mean level, dB of full scale.
        `rate`: mean of log2 strokes a second; NaN where the sound is steady.
        `steady`: 1 where the sound has no strokes.
    """
    times = np.arange(round(scene.seconds))[:, None] + INSTANTS  # (seconds, frames)
    heard = np.zeros((len(KINDS), *times.shape), dtype=bool)
    level = np.full(heard.shape, -np.inf)
    rate = np.full(heard.shape, np.nan)
    for item in scene.objects:
        if item.sound is None:
            continue
        kinds = [KINDS.index(name) for name in (item.category, LOUDEST) if name in KINDS]
        for kind in kinds:
            now = sounds_at(item.sound, times) & (item.sound.level_at(times) > level[kind])
            heard[kind] |= now
            level[kind][now] = item.sound.level_at(times[now])
            rate[kind][now] = log_rate_at(item.sound, times[now])
    count = np.maximum(heard.sum(-1), 1)
    stroke = np.isfinite(rate)
    labels = {
        "share": heard.mean(-1),
        "level": np.where(heard, level, 0).sum(-1) / count,
        "rate": np.where(stroke, rate, 0).sum(-1)
        / np.where(stroke.any(-1), stroke.sum(-1), np.nan),
        "steady": (heard & ~stroke).sum(-1) / count,
    }
    return {name: values.T.astype(np.float32) for name, values in labels.items()}


def sounds_at(sound: Sound, times: np.ndarray) -> np.ndarray:
    return np.any([(times >= start) & (times < end) for start, end in sound.intervals], axis=0)


def log_rate_at(sound: Sound, times: np.ndarray) -> np.ndarray:
    """log2 of the strokes a second; NaN of a steady sound."""
    return (
        np.full(times.shape, np.nan)
        if sound.rate is None
        else np.log2(np.interp(times, sound.span, sound.rate))
    )


def log_mel_of(tree: Path, clip_ids: list[str], index: int) -> np.ndarray:
    """`(10, 96, 64)` float16: the examples of a clip's ten seconds."""
    with wave.open(str(sound_path(tree, clip_ids[index])), "rb") as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    features = RefAVSFeatureExtractor()(sound, SAMPLING_RATE, num_examples=NUM_FRAMES)[
        "input_features"
    ]
    return features[0].astype(np.float16)


def log_mels_of(tree: Path, split: str, clip_ids: list[str], cache: ArrayCache) -> np.ndarray:
    """`(clips * 10, 96, 64)` float16, memory-mapped; computed once, 0.12 MB a clip."""

    def parts() -> Iterator[Arrays]:
        for log_mels in cache.read("log-mels", len(clip_ids), partial(log_mel_of, tree, clip_ids)):
            yield {"log_mels": log_mels}

    shapes = {"log_mels": ((len(clip_ids) * NUM_FRAMES, NUM_MEL_FRAMES, NUM_MEL_BANDS), "float16")}
    return cache.get(f"log_mels_{split}", [digest_tree(tree), split], lambda: shapes, parts)[
        "log_mels"
    ]


class Seconds(torch.utils.data.Dataset):
    """Every second of a split's clips, those without a sound too."""

    def __init__(self, tree: Path, split: str, cache: ArrayCache):
        scenes = read_scenes(tree, split)
        self.log_mels = log_mels_of(tree, split, [scene.clip_id for scene in scenes], cache)
        labels = [label_seconds(scene.scene) for scene in scenes]
        self.labels = {name: np.concatenate([clip[name] for clip in labels]) for name in labels[0]}

    def __len__(self) -> int:
        return len(self.log_mels)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        labels = {name: values[index] for name, values in self.labels.items()}
        return {"input_features": self.log_mels[index].astype(np.float32), **labels}


class SoundReader(nn.Module):
    """VGGish with one linear layer that reads the four labels of every kind off its vector."""

    def __init__(self, config: RefAVSAudioConfig):
        super().__init__()
        self.encoder = RefAVSVggishModel(config)
        self.encoder.features[0].register_forward_hook(_channels_last)
        self.head = nn.Linear(config.embedding_size, 4 * len(KINDS))

    def read(self, input_features: torch.Tensor) -> dict[str, torch.Tensor]:
        """`(N, 96, 64)` -> `(N, kinds)` each: share and steady as logits, level in dB, rate in
        octaves."""
        vectors = self.encoder(input_features).last_hidden_state
        share, level, rate, steady = self.head(vectors).chunk(4, dim=-1)
        return {
            "share": share,
            "level": LEVEL_MEAN + LEVEL_SCALE * level,
            "rate": 1 + rate,
            "steady": steady,
        }

    def forward(self, input_features, share, level, rate, steady) -> dict[str, torch.Tensor]:
        said = self.read(input_features)
        present = share >= PRESENT
        stroke = present & rate.isfinite() & (steady == 0)
        losses = (
            5 * nn.functional.binary_cross_entropy_with_logits(said["share"], share),
            _mean_of((said["level"] - level).abs() / LEVEL_SCALE, present),
            _mean_of((said["rate"] - rate.nan_to_num()).abs(), stroke),
            _mean_of(
                nn.functional.binary_cross_entropy_with_logits(
                    said["steady"], steady, reduction="none"
                ),
                present,
            ),
        )
        return {"loss": sum(losses)}


def _channels_last(_module, _inputs, outputs: torch.Tensor) -> torch.Tensor:
    """The layout in which small convolutions take half the time on a CPU; the layers after it keep
    it."""
    return outputs.contiguous(memory_format=torch.channels_last)


def _mean_of(values: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


@torch.no_grad()
def standardise(encoder: RefAVSVggishModel, input_features: torch.Tensor) -> None:
    """Fold into the last layer that each number of the vector has mean 0 and deviation 1 over these
    examples."""
    vectors = torch.cat(
        [encoder(batch).last_hidden_state for batch in input_features.split(SCORED_BATCH)]
    )
    mean, deviation = vectors.mean(0), vectors.std(0).clamp(min=1e-6)
    last = encoder.embeddings[-1]
    last.bias.copy_((last.bias - mean) / deviation)
    last.weight.div_(deviation[:, None])


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean, over the true ones, of the precision at each one's rank."""
    ranked = truth[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    return float(precision[ranked].mean())


@torch.no_grad()
def score(reader: SoundReader, seconds: Seconds) -> dict:
    """What the heads read off the vectors, against the labels."""
    batches = [
        reader.read(
            torch.from_numpy(seconds.log_mels[start : start + SCORED_BATCH].astype(np.float32))
        )
        for start in range(0, len(seconds), SCORED_BATCH)
    ]
    said = {name: torch.cat([batch[name] for batch in batches]).numpy() for name in batches[0]}
    true = seconds.labels
    present = true["share"] >= PRESENT
    stroke = present & np.isfinite(true["rate"]) & (true["steady"] == 0)
    precision = {
        kind: average_precision(said["share"][:, column], present[:, column])
        for column, kind in enumerate(KINDS)
        if present[:, column].any()
    }
    errors = {
        "level_error_db": np.abs(said["level"] - true["level"])[present].mean(),
        "rate_error_octaves": np.abs(said["rate"] - true["rate"])[stroke].mean(),
        "steady_accuracy": ((said["steady"] > 0) == (true["steady"] > 0.5))[present].mean(),
    }
    return {
        "mean_average_precision": float(
            np.mean([value for kind, value in precision.items() if kind != LOUDEST])
        ),
        **{name: float(value) for name, value in errors.items()},
        "average_precision": precision,
    }


def pretrain_audio(
    tree: Path, output: Path, arguments: TrainingArguments, resume: bool = False
) -> None:
    """Train on the seconds of a synthetic tree and save a folder that `from_backbones(vggish=...)`
    takes."""
    with arguments.main_process_first():
        cache = ArrayCache(output.parent / "cache", WORKERS)
        train, val = (Seconds(tree, split, cache) for split in ("train", "val"))
    torch.manual_seed(arguments.seed)
    reader = SoundReader(make_config())
    trainer = Trainer(reader, arguments, train_dataset=train)
    trainer.train(resume_from_checkpoint=resume)
    if trainer.is_world_process_zero():
        reader = reader.eval().cpu()
        scores = score(reader, val)
        sample = np.random.default_rng(arguments.seed).permutation(len(train))[:STANDARDISED]
        standardise(
            reader.encoder, torch.from_numpy(train.log_mels[np.sort(sample)].astype(np.float32))
        )
        reader.encoder.save_pretrained(output)
        for copy_of_the_code in output.glob("*.py"):  # it stands in this package already
            copy_of_the_code.unlink()
        (output / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
