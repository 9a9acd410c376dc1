"""Pictures of synthetic scenes, drawn when they are asked for: as many as are wanted, and none of
them is kept."""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy.optimize import linear_sum_assignment
from torch import nn
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessorPil,
    Trainer,
    TrainingArguments,
)
from transformers.image_processing_utils import BaseImageProcessor

from dataset_script.media_files import frame_paths, mask_paths, read_mask
from dataset_script.schema import NUM_FRAMES
from dataset_script.synthetic.drawing import COLOURS, SURFACES, draw
from dataset_script.synthetic.generate import JPEG_QUALITY
from dataset_script.synthetic.objects import CATEGORIES, SEEN
from dataset_script.synthetic.sampling import OBJECT_COUNTS, sample_scene
from dataset_script.synthetic.scene import Scene, SceneObject, read_scenes

from ..loss_refavs import binary_cross_entropy, dice_loss, matching_cost


SIZE = 96  # pixels, height and width
MASK_SIZE = 32  # of the labels
MOST = len(OBJECT_COUNTS)  # objects in a scene
LOOKS = (tuple(CATEGORIES), tuple(COLOURS), SURFACES)  # what an object looks like
POSE = ("cosine and sine of its turn", "", "x", "y of its centre, in frames", "log of its radius")


class DrawnPictures(torch.utils.data.Dataset):
    """Picture n depends on `(seed, n)` alone. Its objects are of kinds that training clips hold,
    its moment one that they store.

    Each is a dictionary: `pixels (96, 96, 3)` uint8; of the objects in view, in front of the others
        first or not, `masks (objects, 96, 96)` bool,
    `looks (objects, 3)` of [`look_of`] and `poses (objects, 5)` of [`pose_of`].
    """

    def __init__(self, length: int, seed: int):
        self.length, self.seed = length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([self.seed, 0, index])  # of three numbers: a clip's is of two
        scene = sample_scene(rng, 1 + int(rng.choice(MOST, p=OBJECT_COUNTS)), SEEN, muted=True)
        time = float(rng.integers(NUM_FRAMES))
        pixels, masks = draw(scene, time, SIZE, SIZE)
        return {"pixels": _as_jpeg(pixels), **label_objects(scene, time, masks)}


def label_objects(scene: Scene, time: float, masks: np.ndarray) -> dict[str, np.ndarray]:
    """Masks, looks and poses of the objects that `masks (objects, h, w)` show."""
    shown = [item for item in scene.objects if masks[item.fid].any()]
    return {
        "masks": masks[[item.fid for item in shown]],
        "looks": np.array([look_of(item) for item in shown], dtype=np.int64).reshape(
            -1, len(LOOKS)
        ),
        "poses": np.array([pose_of(scene, item, time) for item in shown], dtype=np.float32).reshape(
            -1, len(POSE)
        ),
    }


def look_of(item: SceneObject) -> tuple[int, int, int]:
    """The numbers of an object's category, colour and surface."""
    return tuple(
        names.index(name)
        for names, name in zip(LOOKS, (item.category, item.colour, item.surface), strict=True)
    )


def pose_of(scene: Scene, item: SceneObject, time: float) -> tuple[float, ...]:
    """Cosine and sine of its turn; its centre as shares of the frame; the log of its radius in
    sixths of the frame."""
    turn = np.deg2rad(scene.angle(item, time))
    x, y = scene.centre(item, np.array([time]))[0] / (scene.width, scene.height)
    return (
        float(np.cos(turn)),
        float(np.sin(turn)),
        float(x),
        float(y),
        float(np.log(6 * item.radius)),
    )


class PictureCollator:
    """Pictures to a batch, where each has room for the most objects that there can be.

    `pixel_values (N, 3, 96, 96)`; `mask_labels (N, 4, 32, 32)`, the share of each cell that an
    object covers; `shown (N, 4)` bool; `looks (N, 4, 3)`; `poses (N, 4, 5)`.
    """

    def __init__(self, image_processor: BaseImageProcessor):
        self.image_processor = image_processor

    def __call__(self, rows: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
        batch = {
            "pixel_values": self.image_processor(
                [row["pixels"] for row in rows], return_tensors="pt"
            )["pixel_values"],
            "mask_labels": torch.zeros(len(rows), MOST, MASK_SIZE, MASK_SIZE),
            "shown": torch.zeros(len(rows), MOST, dtype=torch.bool),
            "looks": torch.zeros(len(rows), MOST, len(LOOKS), dtype=torch.long),
            "poses": torch.zeros(len(rows), MOST, len(POSE)),
        }
        for index, row in enumerate(rows):
            count, cell = len(row["masks"]), SIZE // MASK_SIZE
            cells = (
                row["masks"]
                .reshape(count, MASK_SIZE, cell, MASK_SIZE, cell)
                .mean(axis=(2, 4), dtype=np.float32)
            )
            batch["mask_labels"][index, :count] = torch.from_numpy(cells)
            batch["shown"][index, :count] = True
            batch["looks"][index, :count] = torch.from_numpy(row["looks"])
            batch["poses"][index, :count] = torch.from_numpy(row["poses"])
        return batch


def _as_jpeg(pixels: np.ndarray) -> np.ndarray:
    """As a stored frame is read again."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
    with Image.open(buffer) as picture:
        return np.asarray(picture.convert("RGB"))


def set_loss(
    mask_logits: torch.Tensor,
    class_logits: torch.Tensor,
    mask_labels: torch.Tensor,
    class_labels: torch.Tensor,
    shown: torch.Tensor,
    config: Mask2FormerConfig,
) -> torch.Tensor:
    """
    Args:
        mask_logits: `(layers, N, queries, h, w)`.
        class_logits: `(layers, N, queries, classes + 1)`, the last of which is no object.
        mask_labels: `(N, objects, h, w)` in [0, 1]; class_labels: `(N, objects)`.
        shown: `(N, objects)` bool, those that there are; they come first.
        config: `mask_weight`, `dice_weight`, `class_weight` and `no_object_weight`.

    Returns:
        The sum over the layers.
    """
    layers = len(mask_logits)
    logits, likely = (
        mask_logits.flatten(0, 1).flatten(2).float(),
        class_logits.flatten(0, 1).float(),
    )
    labels, classes = (
        values.repeat(layers, *[1] * (values.ndim - 1)) for values in (mask_labels, class_labels)
    )
    labels = labels.flatten(2)
    with torch.no_grad():
        cost = torch.stack(
            [matching_cost(logits, label, config) for label in labels.unbind(1)], dim=-1
        )
        cost -= config.class_weight * likely.softmax(-1).gather(
            2, classes[:, None].expand(-1, logits.shape[1], -1)
        )
        picture, query, item = (
            index.to(logits.device) for index in match(cost, shown.sum(1).repeat(layers))
        )
    matched, truth = logits[picture, query], labels[picture, item]
    masks = (len(picture) / layers) or 1.0
    nothing = likely.shape[-1] - 1
    target = torch.full(likely.shape[:2], nothing, device=logits.device)
    target[picture, query] = classes[picture, item]
    weights = torch.ones(nothing + 1, device=logits.device)
    weights[nothing] = config.no_object_weight
    cross_entropy = nn.functional.cross_entropy(
        likely.flatten(0, 1), target.flatten(), weights
    )  # a mean over all layers
    return (
        config.mask_weight * binary_cross_entropy(matched, truth).sum() / masks
        + config.dice_weight * dice_loss(matched, truth).sum() / masks
        + config.class_weight * cross_entropy * layers
    )


def match(
    cost: torch.Tensor, counts: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The cheapest query for each object: the numbers of picture, query and object of each pair.

    Args:
        cost: `(N, queries, objects)`.
        counts: `(N,)`, objects that there are.
    """
    pairs = [
        (picture, query, item)
        for picture, (costs, count) in enumerate(
            zip(cost.cpu().numpy(), counts.tolist(), strict=True)
        )
        for query, item in zip(*linear_sum_assignment(costs[:, :count]), strict=True)
    ]
    return torch.tensor(pairs, dtype=torch.long).reshape(-1, 3).unbind(1)


SCORED, SCORED_BATCH = 400, 20  # frames
WORKERS = max(1, (os.cpu_count() or 1) - 1)  # processes that draw
POSE_SCALES = (
    1.0,
    1.0,
    0.25,
    0.25,
    0.2,
)  # about what each number of a pose varies by; places in tokens of Swin's last stage
TOLD_WEIGHT = 4.0  # of what Swin's last stage tells, beside Mask2Former's loss


def make_config(labels: list[str]) -> Mask2FormerConfig:
    """Maps at a third of the frame's size: half of what a mask at a quarter loses, at 1.8 times its
    cost."""
    swin = {
        "model_type": "swin",
        "image_size": SIZE,
        "patch_size": 3,
        "embed_dim": 32,
        "depths": [1, 1, 2, 2],
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


class StoredPictures(torch.utils.data.Dataset):
    """Every frame of a split's clips but those of null references, which have no masks; as
    [`DrawnPictures`] gives them."""

    def __init__(self, tree: Path, split: str):
        self.tree = tree
        self.scenes = [scene for scene in read_scenes(tree, split) if not scene.is_null]

    def __len__(self) -> int:
        return len(self.scenes) * NUM_FRAMES

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        scene, frame = self.scenes[index // NUM_FRAMES], index % NUM_FRAMES
        with Image.open(frame_paths(self.tree, scene.clip_id)[frame]) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        numbers = range(len(scene.categories))
        masks = np.stack(
            [read_mask(mask_paths(self.tree, scene.clip_id, fid)[frame]) for fid in numbers]
        )
        return {"pixels": pixels, **label_objects(scene.scene, float(frame), masks)}


class TellingMask2Former(nn.Module):
    """Mask2Former, and a linear layer that reads off Swin's last stage what each object looks like
    and how it stands."""

    def __init__(self, model: Mask2FormerForUniversalSegmentation):
        super().__init__()
        self.model = model
        self.tell = nn.Linear(
            model.config.backbone_config.hidden_size, sum(map(len, LOOKS)) + len(POSE)
        )
        self.register_buffer("scales", torch.tensor(POSE_SCALES), persistent=False)
        model.model.pixel_level_module.encoder.register_forward_hook(self._keep_last_stage)

    def _keep_last_stage(self, _module, _inputs, outputs) -> None:
        self.last_stage = outputs.feature_maps[-1]

    def read(self, mask_labels: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """What the last stage's mean over each object tells.

        Args:
            mask_labels: `(N, objects, h, w)`.

        Returns:
            Logits `(N, objects, names)` of each of `LOOKS`, and poses `(N, objects, 5)`.
        """
        size = self.last_stage.shape[-2:]
        weights = nn.functional.adaptive_avg_pool2d(mask_labels, size)
        shares = weights / weights.sum((2, 3), keepdim=True).clamp(min=1e-6)
        *looks, pose = self.tell(torch.einsum("nchw,nohw->noc", self.last_stage, shares)).split(
            [*map(len, LOOKS), len(POSE)], dim=-1
        )
        rows, columns = (torch.arange(side, device=shares.device) + 0.5 for side in size)
        around = torch.stack(
            [(shares.sum(2) * columns).sum(-1), (shares.sum(3) * rows).sum(-1)], dim=-1
        )
        turn, place, radius = (pose * self.scales).split([2, 2, 1], dim=-1)
        place = (place + around) / torch.tensor([size[1], size[0]], device=shares.device)
        return looks, torch.cat([turn, place, radius], dim=-1)

    def forward(self, pixel_values, mask_labels, shown, looks, poses) -> dict[str, torch.Tensor]:
        outputs = self.model(pixel_values, output_auxiliary_logits=True)
        layers = [*outputs.auxiliary_logits, outputs]
        masks, classes = (
            torch.stack([layer[name] for layer in layers])
            for name in ("masks_queries_logits", "class_queries_logits")
        )
        loss = set_loss(masks, classes, mask_labels, looks[..., 0], shown, self.model.config)
        said, stood = self.read(mask_labels)
        named = [
            nn.functional.cross_entropy(part[shown], looks[shown][:, index], reduction="sum")
            for index, part in enumerate(said)
        ]
        # a place is told in tokens: a picture has `size` of them
        scales = self.scales / self.scales.new_tensor(
            [1, 1, self.last_stage.shape[-1], self.last_stage.shape[-2], 1]
        )
        posed = ((stood - poses)[shown].abs() / scales).sum()
        return {"loss": loss + TOLD_WEIGHT * (sum(named) + posed) / shown.sum().clamp(min=1)}


class _Trainer(Trainer):
    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """What is saved is a plain module, whose names on disk are those in memory."""
        self.model.load_state_dict(load_file(Path(resume_from_checkpoint, "model.safetensors")))


@torch.no_grad()
def score(
    reader: TellingMask2Former, pictures: StoredPictures, collator: PictureCollator
) -> dict[str, Any]:
    """Of the objects in pictures of a split: how well the best query that claims one covers it, and
    whether it names it; and how
    often Swin's last stage tells category, colour and surface, and by how much it errs in degrees,
    pixels and octaves."""
    coverage, named, told, errors = [], [], [], []
    chosen = (
        np.linspace(0, len(pictures) - 1, min(SCORED, len(pictures))).round().astype(int).tolist()
    )
    for start in range(0, len(chosen), SCORED_BATCH):
        rows = [pictures[index] for index in chosen[start : start + SCORED_BATCH]]
        batch = collator(rows)
        outputs = reader.model(batch["pixel_values"])
        shown, looks, poses = (batch[name] for name in ("shown", "looks", "poses"))
        said, stood = reader.read(batch["mask_labels"])
        told.append(torch.stack([part.argmax(-1) for part in said], dim=-1)[shown] == looks[shown])
        errors.append(_pose_errors(stood[shown], poses[shown]))
        claims = outputs.class_queries_logits.argmax(dim=-1)
        masks = (
            nn.functional.interpolate(
                outputs.masks_queries_logits, size=(SIZE, SIZE), mode="bilinear"
            )
            > 0
        )
        for found, classes, row in zip(masks, claims, rows, strict=True):
            found, classes = found[classes < len(CATEGORIES)], classes[classes < len(CATEGORIES)]
            for truth, label in zip(
                torch.from_numpy(row["masks"]), row["looks"][:, 0], strict=True
            ):
                overlaps = (found & truth).sum((1, 2)) / (found | truth).sum((1, 2)).clamp(min=1)
                coverage.append(float(overlaps.max()) if len(found) else 0.0)
                named.append(bool(len(found)) and bool(classes[overlaps.argmax()] == label))
    last_stage = torch.cat(told).double().mean(dim=0).tolist()
    return {
        "iou": float(np.mean(coverage)),
        "category_accuracy": float(np.mean(named)),
        "last_stage_accuracy": dict(
            zip(("category", "colour", "surface"), last_stage, strict=True)
        ),
        "last_stage_error": dict(
            zip(
                ("turn_degrees", "place_pixels", "size_octaves"),
                torch.cat(errors).median(0).values.tolist(),
                strict=True,
            )
        ),
        "objects": len(named),
    }


def _pose_errors(found: torch.Tensor, poses: torch.Tensor) -> torch.Tensor:
    """`(objects, 5)` each -> `(objects, 3)`: degrees, pixels, octaves."""
    turn = torch.atan2(found[:, 1], found[:, 0]) - torch.atan2(poses[:, 1], poses[:, 0])
    degrees = torch.rad2deg(torch.atan2(turn.sin(), turn.cos())).abs()
    pixels = (found - poses)[:, 2:4].norm(dim=1) * SIZE
    return torch.stack([degrees, pixels, (found - poses)[:, 4].abs() / np.log(2)], dim=1)


def pretrain_vision(
    tree: Path, output: Path, arguments: TrainingArguments, resume: bool = False
) -> None:
    """Train on pictures that are drawn meanwhile, score on a synthetic tree's, and save a folder
    that
    `from_backbones(mask2former=...)` takes."""
    image_processor = Mask2FormerImageProcessorPil(size={"height": SIZE, "width": SIZE})
    collator = PictureCollator(image_processor)
    torch.manual_seed(arguments.seed)
    reader = TellingMask2Former(Mask2FormerForUniversalSegmentation(make_config(list(CATEGORIES))))
    pictures = DrawnPictures(
        arguments.max_steps * arguments.train_batch_size * arguments.world_size, arguments.seed
    )
    arguments.dataloader_num_workers = WORKERS
    trainer = _Trainer(reader, arguments, data_collator=collator, train_dataset=pictures)
    trainer.train(resume_from_checkpoint=resume)
    if trainer.is_world_process_zero():
        reader = reader.eval().cpu()
        scores = score(reader, StoredPictures(tree, "val"), collator)
        reader.model.save_pretrained(output)
        image_processor.save_pretrained(output)
        (output / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
