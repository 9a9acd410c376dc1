"""A few natural photographs, that nothing is trained on, with masks made by hand or with MobileSAM:
what a user's picture would get. They are in Python packages (gradio, scikit-image) and not copied
here."""

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..mask_rle import decode_rle
from ..modeling_refavs import RefAVSForSegmentation
from ..processing_refavs import RefAVSProcessor


PHOTOGRAPHS = Path(__file__).with_name("natural.json")


@dataclass
class NaturalScores:
    """
    Args:
        jaccard: mean J over names of what is there.
        null: mean S over names of what is not, [0, 1].
        likeliest: mean IoU of the query with the highest object score, whatever that is.
        best: mean IoU of the query that covers the object best.
        photographs: seen; those of packages that are not installed are left out.
    """

    jaccard: float
    null: float
    likeliest: float
    best: float
    photographs: int


def read_photographs() -> list[tuple[Image.Image, np.ndarray, dict]]:
    """Of those whose package is installed: the picture, of its mask's size, the object's mask
    `(H, W)` bool, and the entry of `natural.json` with the names of what is there and is not."""
    found = []
    for entry in json.loads(PHOTOGRAPHS.read_text(encoding="utf-8")):
        package, _, path = entry["image"].partition("/")
        spec = find_spec(package)
        if spec is not None and (file := Path(spec.origin).parent / path).exists():
            mask = decode_rle(entry["mask"]) > 0
            picture = Image.open(file).convert("RGB").resize(mask.shape[::-1])
            found.append((picture, mask, entry))
    return found


@torch.no_grad()
def measure_natural(model: RefAVSForSegmentation, processor: RefAVSProcessor) -> NaturalScores:
    """
    Raises:
        ValueError: no photograph is there.
    """
    photographs = read_photographs()
    if not photographs:
        raise ValueError("neither gradio nor scikit-image is installed: there is no photograph")
    there, absent, likeliest, best = [], [], [], []
    for picture, mask, entry in photographs:
        names = entry["names"]
        outputs = model(**processor(text=names + entry["absent"], frames=[picture]))
        queries = _enlarge(outputs.masks_queries_logits[: len(names), 0], mask.shape)
        scores = outputs.class_queries_logits[: len(names), 0] @ torch.tensor([1.0, -1.0])
        for row, first in enumerate(scores.argmax(-1).tolist()):
            overlaps = [_iou(query, mask) for query in queries[row]]
            likeliest.append(overlaps[first])
            best.append(max(overlaps))
        answers = _enlarge(outputs.mask_logits, mask.shape)[:, 0]
        there += [_iou(answer, mask) for answer in answers[: len(names)]]
        absent += [float(answer.mean() ** 0.5) for answer in answers[len(names) :]]
    means = (float(np.mean(values)) for values in (there, absent, likeliest, best))
    return NaturalScores(*means, len(photographs))


def _enlarge(logits: torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
    return (nn.functional.interpolate(logits, shape, mode="bilinear") > 0).numpy()


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))
