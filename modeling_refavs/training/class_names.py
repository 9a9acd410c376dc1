"""A shared start: F'_V, F'_A and F'_T begin as maps into one space, that of the text encoder.

Classifiers of pictures and of sounds know their classes by name. What one makes of a
feature, a mixture of its ten likeliest classes, becomes one of those names' embeddings (ConSE,
Norouzi et al., ICLR 2014); F'_V and F'_A start as the linear maps that come nearest to it (ridge
regression), and F'_T as the projection on the main axes of all names. So a name that is never read
in training still means something.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from transformers import (
    AutoModelForAudioClassification,
    AutoModelForImageClassification,
    PreTrainedModel,
)

from ..processing_refavs import RefAVSProcessor


NUM_CLASSES = 10  # that a mixture is of
RIDGE = 1e-2  # in units of the features' mean variance
ROWS = 60_000  # features that a map is fitted to, at most
AT_ONCE = 2048  # rows


@torch.no_grad()
def embed_names(
    encoder: PreTrainedModel, processor: RefAVSProcessor, names: Sequence[str]
) -> torch.Tensor:
    """`(names, D)`: the mean of each name's F_T. Of several synonyms with commas, the first."""
    names = [name.partition(",")[0].replace("_", " ") for name in names]
    tokens = processor.tokenize(names)
    ids, mask = (torch.from_numpy(tokens[key]) for key in ("input_ids", "attention_mask"))
    states = encoder(ids, attention_mask=mask).last_hidden_state
    return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


@torch.no_grad()
def mix_names(probabilities: torch.Tensor, names: torch.Tensor) -> torch.Tensor:
    """ConSE: `(N, classes)` and `(classes, D)` -> `(N, D)`, the mean of the likeliest classes'
    names, weighted by their probabilities."""
    likely = probabilities.topk(min(NUM_CLASSES, probabilities.shape[1]))
    weights = likely.values / likely.values.sum(1, keepdim=True).clamp(min=1e-9)
    return (weights[..., None] * names[likely.indices]).sum(1)


@torch.no_grad()
def fit_linear(layer: nn.Linear, features: torch.Tensor, targets: torch.Tensor) -> float:
    """Set `layer` to the ridge regression of `targets (N, D)` on `features (N, C)`, then to unit
    deviation. Returns the share of the targets' variance that it explains."""
    x, y = features.double(), targets.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram, x.T @ y)
    predicted = x @ weight
    scale = 1 / predicted.square().mean().sqrt().clamp(min=1e-9)
    layer.weight.copy_((scale * weight).T)
    layer.bias.copy_(-scale * x_mean @ weight)
    return float(1 - (y - predicted).square().sum() / y.square().sum())


def spread(array: np.ndarray, rows: int = ROWS) -> np.ndarray:
    """At most so many rows, evenly spread."""
    return array[np.linspace(0, len(array) - 1, min(rows, len(array))).astype(int)]


@torch.no_grad()
def classify(
    head: Callable[[torch.Tensor], torch.Tensor], features: torch.Tensor, names: torch.Tensor
) -> torch.Tensor:
    """The mixture of names for each row of `features`; `head` gives class probabilities."""
    return torch.cat([mix_names(head(part), names) for part in features.split(AT_ONCE)])


@torch.no_grad()
def start_from_class_names(
    model: PreTrainedModel,
    processor: RefAVSProcessor,
    image_classifier: str,
    audio_classifier: str,
    frame_features: np.ndarray,
    audio_features: np.ndarray,
) -> dict[str, float]:
    """Fit the three projections. Returns the share of variance that each explains.

    Args:
        model, processor: with the encoders that the classifiers stand on.
        image_classifier, audio_classifier: folders or Hub ids of
            [`RefAVSEfficientNetLiteForImageClassification`] and
            [`RefAVSYamnetForAudioClassification`].
        frame_features: F_V of some clips, `(clips, steps, C, h, w)`.
        audio_features: F_A, `(clips, steps, D)`.

    Raises:
        ValueError: a classifier reads other features than the model's.
    """
    parts, projection = model.base_model, model.base_model.cue_projection
    seeing = AutoModelForImageClassification.from_pretrained(image_classifier).eval()
    hearing = AutoModelForAudioClassification.from_pretrained(audio_classifier).eval()
    maps = spread(frame_features.reshape(-1, *frame_features.shape[2:]), 1500)
    seen = torch.from_numpy(maps.astype(np.float32)).flatten(2).transpose(1, 2).flatten(0, 1)
    seen = torch.from_numpy(spread(seen.numpy()))
    heard = torch.from_numpy(spread(audio_features.reshape(-1, audio_features.shape[-1])))
    heard = heard.float()
    heads = (
        ("frames", seeing, seen, projection.visual),
        ("sound", hearing, heard, projection.audio),
    )
    for what, classifier, features, _ in heads:
        if features.shape[1] != classifier.classifier.in_features:
            raise ValueError(
                f"projection_init: the classifier of {what} reads "
                f"{classifier.classifier.in_features} features, and the model has "
                f"{features.shape[1]}"
            )
    embedded = [
        embed_names(parts.text_encoder, processor, list(classifier.config.id2label.values()))
        for classifier in (seeing, hearing)
    ]
    middle = torch.cat(embedded).mean(0)
    centred = torch.cat(embedded) - middle
    axes = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)  # the main ones first
    size = projection.text.out_features
    axes = nn.functional.pad(axes[:, :size], (0, max(0, size - axes.shape[1])))
    explained = {"text": float((centred @ axes).square().sum() / centred.square().sum())}
    scale = 1 / (centred @ axes).square().mean().sqrt()
    projection.text.weight.copy_((scale * axes).T)
    projection.text.bias.copy_(-scale * middle @ axes)
    activations = (lambda logits: logits.softmax(-1), torch.sigmoid)
    for (what, classifier, features, layer), names, activate in zip(
        heads, embedded, activations, strict=True
    ):
        names = (names - middle) @ axes
        mixed = classify(
            lambda rows, c=classifier, a=activate: a(c.classifier(rows)), features, names
        )
        explained[what] = fit_linear(layer, features, mixed)
    return explained


__all__ = ["start_from_class_names"]
