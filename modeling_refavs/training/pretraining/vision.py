"""A small Mask2Former that finds and names every object of a frame, as the one of the paper was trained on ADE20K (Sec. 5.1).

The paper's Swin had learned ImageNet's classes before. Without such a start Mask2Former leaves nothing in Swin's last stage, which
EEMC makes its visual cues of (docs/reproduction.md). So here that stage learns to tell what an object is, what colour and what surface.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessorPil,
    Trainer,
    TrainingArguments,
)

from dataset_script.media_files import frame_paths, mask_paths, read_mask
from dataset_script.schema import NUM_FRAMES
from dataset_script.synthetic.categories import CATEGORIES
from dataset_script.synthetic.drawing import COLOURS, SURFACES
from dataset_script.synthetic.scene import SceneObject

from .scenes import read_scenes


SIZE = 96  # pixels, height and width
SCORED, SCORED_BATCH = 400, 20  # frames
LOOKS = (tuple(CATEGORIES), tuple(COLOURS), SURFACES)  # what Swin's last stage learns to tell of an object
LOOKS_WEIGHT = 4.0  # of that loss, beside Mask2Former's


def make_config(labels: list[str]) -> Mask2FormerConfig:
    """Maps at a third of the frame's size: half of what a mask at a quarter loses, at 1.8 times its cost."""
    swin = {
        "model_type": "swin",
        "image_size": SIZE,
        "patch_size": 3,
        "embed_dim": 32,
        "depths": [1, 1, 2, 1],
        "num_heads": [1, 2, 4, 8],
        "window_size": 4,
        "drop_path_rate": 0.0,
        "initializer_range": 0.08,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }
    return Mask2FormerConfig(
        backbone_config=swin,
        feature_size=64,
        mask_feature_size=64,
        hidden_dim=64,
        encoder_feedforward_dim=128,
        dim_feedforward=256,
        encoder_layers=2,
        decoder_layers=4,
        num_attention_heads=8,
        num_queries=10,
        train_num_points=1024,
        class_weight=10.0,
        id2label=dict(enumerate(labels)),
    )


class Frames(torch.utils.data.Dataset):
    """Every frame of a split's clips but those of null references, which have no masks; `mirror` is a probability."""

    def __init__(self, tree: Path, split: str, mirror: float = 0.0):
        self.tree, self.mirror = tree, mirror
        self.scenes = [scene for scene in read_scenes(tree, split) if not scene.is_null]

    def __len__(self) -> int:
        return len(self.scenes) * NUM_FRAMES

    def __getitem__(self, index: int) -> dict:
        scene, frame = self.scenes[index // NUM_FRAMES], index % NUM_FRAMES
        with Image.open(frame_paths(self.tree, scene.clip_id)[frame]) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        masks = np.stack(
            [read_mask(mask_paths(self.tree, scene.clip_id, fid)[frame]) for fid in range(len(scene.categories))]
        )
        shown = masks.any(axis=(1, 2))
        looks = np.array([look_of(item) for item in scene.scene.objects])[shown]
        if torch.rand(()) < self.mirror:
            pixels, masks = pixels[:, ::-1], masks[:, :, ::-1]
        return {"pixels": pixels, "masks": masks[shown], "looks": looks}


def look_of(item: SceneObject) -> tuple[int, int, int]:
    """The numbers of an object's category, colour and surface."""
    return tuple(
        names.index(name) for names, name in zip(LOOKS, (item.category, item.colour, item.surface), strict=True)
    )


class Collator:
    def __init__(self, image_processor: Mask2FormerImageProcessorPil):
        self.image_processor = image_processor

    def __call__(self, rows: list[dict]) -> dict:
        pixels = [np.ascontiguousarray(row["pixels"]) for row in rows]
        return {
            "pixel_values": self.image_processor(pixels, return_tensors="pt")["pixel_values"],
            "mask_labels": [torch.from_numpy(np.ascontiguousarray(row["masks"])).float() for row in rows],
            "looks": [torch.from_numpy(row["looks"]) for row in rows],
        }


class NamingMask2Former(nn.Module):
    """Mask2Former, and a linear layer that reads off Swin's last stage what each object looks like."""

    def __init__(self, model: Mask2FormerForUniversalSegmentation):
        super().__init__()
        self.model = model
        self.looks = nn.Linear(model.config.backbone_config.hidden_size, sum(map(len, LOOKS)))
        model.model.pixel_level_module.encoder.register_forward_hook(self._keep_last_stage)

    def _keep_last_stage(self, _module, _inputs, outputs) -> None:
        self.last_stage = outputs.feature_maps[-1]

    def read_looks(self, mask_labels: list[torch.Tensor]) -> torch.Tensor:
        """`(objects, categories + colours + surfaces)` logits, of the last stage's mean over each object."""
        weights = [nn.functional.adaptive_avg_pool2d(masks, self.last_stage.shape[-2:]) for masks in mask_labels]
        shares = [weight / weight.sum((1, 2), keepdim=True).clamp(min=1e-6) for weight in weights]
        means = [
            torch.einsum("chw,ohw->oc", stage, share) for stage, share in zip(self.last_stage, shares, strict=True)
        ]
        return self.looks(torch.cat(means))

    def forward(self, pixel_values, mask_labels, looks) -> dict[str, torch.Tensor]:
        classes = [look[:, 0] for look in looks]
        loss = self.model(pixel_values, mask_labels=mask_labels, class_labels=classes).loss
        logits = self.read_looks(mask_labels).split([len(names) for names in LOOKS], dim=1)
        said = zip(logits, torch.cat(looks).T, strict=True)
        return {"loss": loss + LOOKS_WEIGHT * sum(nn.functional.cross_entropy(*pair) for pair in said)}


class _Trainer(Trainer):
    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """What is saved is a plain module, whose names on disk are those in memory."""
        self.model.load_state_dict(load_file(Path(resume_from_checkpoint, "model.safetensors")))


@torch.no_grad()
def score(reader: NamingMask2Former, frames: Frames, collator: Collator) -> dict[str, float]:
    """Of the objects in frames of a split: how well the best query that claims one covers it, and whether it names it; and how
    often Swin's last stage tells category, colour and surface."""
    coverage, named, told = [], [], []
    for start in range(0, min(SCORED, len(frames)), SCORED_BATCH):
        batch = collator([frames[index * (len(frames) // SCORED)] for index in range(start, start + SCORED_BATCH)])
        outputs = reader.model(batch["pixel_values"])
        logits = reader.read_looks(batch["mask_labels"]).split([len(names) for names in LOOKS], dim=1)
        said = torch.stack([part.argmax(dim=1) for part in logits], dim=1)
        told.append(said == torch.cat(batch["looks"]))
        claims = outputs.class_queries_logits.argmax(dim=-1)
        masks = nn.functional.interpolate(outputs.masks_queries_logits, size=(SIZE, SIZE), mode="bilinear") > 0
        for found, classes, truths, looks in zip(masks, claims, batch["mask_labels"], batch["looks"], strict=True):
            found, classes = found[classes < len(CATEGORIES)], classes[classes < len(CATEGORIES)]
            for truth, label in zip(truths.bool(), looks[:, 0], strict=True):
                overlaps = (found & truth).sum((1, 2)) / (found | truth).sum((1, 2)).clamp(min=1)
                coverage.append(float(overlaps.max()) if len(found) else 0.0)
                named.append(bool(len(found)) and bool(classes[overlaps.argmax()] == label))
    last_stage = torch.cat(told).double().mean(dim=0).tolist()
    return {
        "iou": float(np.mean(coverage)),
        "category_accuracy": float(np.mean(named)),
        "last_stage_accuracy": dict(zip(("category", "colour", "surface"), last_stage, strict=True)),
        "objects": len(named),
    }


def pretrain_vision(tree: Path, output: Path, arguments: TrainingArguments, resume: bool = False) -> None:
    """Train on the frames of a synthetic tree and save a folder that `from_backbones(mask2former=...)` takes."""
    image_processor = Mask2FormerImageProcessorPil(size={"height": SIZE, "width": SIZE})
    collator = Collator(image_processor)
    torch.manual_seed(arguments.seed)
    reader = NamingMask2Former(Mask2FormerForUniversalSegmentation(make_config(list(CATEGORIES))))
    trainer = _Trainer(reader, arguments, data_collator=collator, train_dataset=Frames(tree, "train", mirror=0.5))
    trainer.train(resume_from_checkpoint=resume)
    if trainer.is_world_process_zero():
        reader = reader.eval().cpu()
        scores = score(reader, Frames(tree, "val"), collator)
        reader.model.save_pretrained(output)
        image_processor.save_pretrained(output)
        (output / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
