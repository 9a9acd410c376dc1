"""Mask2Former's two decoders on a frozen backbone: they learn to find every object in composites of
a library's photographs, whatever it is."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint

from dataset_script.schema import NUM_FRAMES
from dataset_script.synthetic.appearance import appearance_of
from dataset_script.synthetic.photographs import LibraryCast
from dataset_script.synthetic.sampling import sample_scene

from ..configuration_refavs import RefAVSMask2FormerConfig, use_four_stages
from ..mask2former_refavs import RefAVSMask2FormerModel
from ..training.arguments import read_recipe
from .pretrain_vision import WORKERS, set_loss


PHOTO_RECIPE = Path(__file__).parent / "recipes" / "photo_single_step.yaml"
SIZE = 256  # pixels, height and width
MASK_SIZE = SIZE // 4  # of the labels
CROPPED, PART = 0.7, (0.33, 1.0)  # share of composites that are parts, and of the side
DISTRACTORS = 4  # parts of other grounds in a composite, at most
SCORED = 200  # frames of the validation split


class Composites(torch.utils.data.Dataset):
    """Frame n depends on `(seed, n)` alone: `pixels (256, 256, 3)` uint8 and, of the objects in
    view, `masks (objects, 256, 256)` bool."""

    def __init__(self, library: str, split: str, length: int, seed: int):
        self.library, self.split, self.length, self.seed = library, split, length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([self.seed, 0, index])
        appearance = appearance_of(self.library)
        shares = appearance.object_counts
        scene = sample_scene(
            rng,
            1 + int(rng.choice(len(shares), p=shares)),
            appearance.categories(self.split),
            muted=True,
            cast=appearance.cast(self.split),
        )
        # A part of a larger picture, so that objects fill the frame and reach beyond it too
        side = round(SIZE / rng.uniform(*PART)) if rng.random() < CROPPED else SIZE
        pixels, masks = appearance.draw(scene, float(rng.integers(NUM_FRAMES)), side, side)
        rows, columns = _around(rng, masks, side)
        pixels, masks = pixels[rows, columns].copy(), masks[:, rows, columns].copy()
        for _ in range(rng.integers(DISTRACTORS + 1)):
            _cover_with_ground(rng, pixels, masks, appearance.cast(self.split))
        return {"pixels": _degrade(rng, pixels), "masks": masks[masks.any(axis=(1, 2))]}


def _around(rng: np.random.Generator, masks: np.ndarray, side: int) -> tuple[slice, slice]:
    """Rows and columns of a part of the picture, about the middle of one of its objects."""
    shown = np.flatnonzero(masks.any(axis=(1, 2)))
    middle = np.full(2, side / 2)
    if len(shown):
        middle = np.argwhere(masks[rng.choice(shown)]).mean(axis=0)
    start = middle - SIZE * rng.uniform(0.3, 0.7, 2)
    top, left = start.clip(0, side - SIZE).round().astype(int).tolist()
    return slice(top, top + SIZE), slice(left, left + SIZE)


def _cover_with_ground(
    rng: np.random.Generator, pixels: np.ndarray, masks: np.ndarray, cast: LibraryCast
) -> None:
    """Cover a part of `pixels (256, 256, 3)`, and of the `masks (objects, 256, 256)` under it, with
    a part of another ground in the form of an object: an edge alone makes no object."""
    folder, media = cast.library.folder, cast.media
    kinds = sorted(media.pictures)
    pictures = media.pictures[kinds[rng.integers(len(kinds))]]
    form = Image.open(folder / pictures[rng.integers(len(pictures))].file)
    form = form.convert("RGBA").getchannel("A")
    factor = rng.uniform(0.15, 0.6) * SIZE / max(form.size)
    stretch = rng.uniform(0.7, 1.4)
    sides = form.width * factor * stretch, form.height * factor / stretch
    form = form.resize([max(2, round(side)) for side in sides], Image.Resampling.BILINEAR)
    form = form.rotate(rng.uniform(0, 360), Image.Resampling.BILINEAR, expand=True)
    form = form.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.7)))
    cover = Image.new("L", (SIZE, SIZE))
    cover.paste(form, tuple((rng.uniform(-0.3, 0.9, 2) * SIZE).astype(int).tolist()))
    alpha = np.asarray(cover, dtype=np.float32) / 255
    ground = Image.open(folder / media.grounds[rng.integers(len(media.grounds))].file)
    zoom = rng.uniform(1, 3) * SIZE / min(ground.size)
    sides = [max(SIZE, round(side * zoom)) for side in ground.size]
    ground = ground.convert("RGB").resize(sides, Image.Resampling.BILINEAR)
    left, top = (int(rng.integers(side - SIZE + 1)) for side in sides)
    fill = np.asarray(ground.crop((left, top, left + SIZE, top + SIZE)), dtype=np.float32)
    fill = fill * rng.uniform(0.7, 1.2)
    pixels[:] = (pixels + alpha[..., None] * (fill - pixels)).clip(0, 255).astype(np.uint8)
    masks &= alpha < 0.5


def _degrade(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """What cameras and files do to a picture as a whole: other colours, none, a coarser grain,
    JPEG."""
    picture = Image.fromarray(pixels)
    if rng.random() < 0.5:
        saturation = rng.choice([0.0, rng.uniform(0.3, 1.6)], p=[0.3, 0.7])
        picture = ImageEnhance.Color(picture).enhance(saturation)
        picture = ImageEnhance.Contrast(picture).enhance(rng.uniform(0.6, 1.4))
        picture = ImageEnhance.Brightness(picture).enhance(rng.uniform(0.6, 1.4))
    if rng.random() < 0.3:
        side = round(SIZE * rng.uniform(0.4, 0.9))
        picture = picture.resize((side, side), Image.Resampling.BILINEAR)
        picture = picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    if rng.random() < 0.5:
        file = BytesIO()
        picture.save(file, "JPEG", quality=int(rng.integers(25, 95)))
        picture = Image.open(file)
    return np.asarray(picture)


class CompositeCollator:
    """`pixel_values (N, 3, 256, 256)`; `mask_labels (N, objects, 64, 64)`, the share of each cell
    that an object covers, and `shown (N, objects)` bool: an object there is."""

    def __init__(self, image_processor: Any, most: int):
        self.image_processor, self.most = image_processor, most

    def __call__(self, rows: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
        pictures = [row["pixels"] for row in rows]
        labels = torch.zeros(len(rows), self.most, MASK_SIZE, MASK_SIZE)
        shown = torch.zeros(len(rows), self.most, dtype=torch.bool)
        for index, row in enumerate(rows):
            count = len(row["masks"])
            cells = row["masks"].reshape(count, MASK_SIZE, 4, MASK_SIZE, 4)
            labels[index, :count] = torch.from_numpy(cells.mean(axis=(2, 4), dtype=np.float32))
            shown[index, :count] = True
        pixels = self.image_processor(pictures, return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixels, "mask_labels": labels, "shown": shown}


class ObjectFinder(nn.Module):
    """Mask2Former with one class: an object."""

    def __init__(self, model: RefAVSMask2FormerModel):
        super().__init__()
        self.model = model
        self.class_predictor = nn.Linear(model.config.hidden_dim, 2)  # an object, nothing

    def train(self, mode: bool = True) -> "ObjectFinder":
        """The backbone stays as it is, and adapters change nothing yet."""
        super().train(mode)
        self.model.pixel_level_module.encoder.eval().requires_grad_(False)
        for name, parameter in self.model.named_parameters():
            if ".adapter." in name:
                parameter.requires_grad_(False)
        return self

    def forward(
        self, pixel_values: torch.Tensor, mask_labels: torch.Tensor, shown: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Returns `loss`, and of the last layer `mask_logits (N, queries, h, w)` and `class_logits
        (N, queries, 2)`."""
        with torch.no_grad():
            stages = self.model.encode_frames(pixel_values)
        pixels = self.model.decode_pixels(stages)
        levels = [level.unsqueeze(1) for level in pixels.multi_scale_features]  # a step a clip
        maps = pixels.mask_features.unsqueeze(1)
        decoder = self.model.transformer_module
        queries = decoder.queries_features.weight.expand(len(pixel_values), -1, -1)
        states = decoder(queries, tuple(levels), maps).states
        masks = torch.stack([decoder.predict_masks(layer, maps) for layer in states])
        classes = torch.stack([self.class_predictor(layer) for layer in states])
        labels = torch.zeros_like(shown, dtype=torch.long)
        loss = set_loss(masks, classes, mask_labels, labels, shown, self.model.config)
        return {"loss": loss, "mask_logits": masks[-1], "class_logits": classes[-1]}


def make_finder(vision: str, config: dict[str, Any]) -> ObjectFinder:
    """
    Args:
        vision: folder of a backbone.
        config: fields of `RefAVSConfig`, of which `mask2former_config`, `vision_config` and
            `adapter_size` say how it is made.
    """
    backbone = AutoConfig.from_pretrained(vision, **config.get("vision_config", {}))
    use_four_stages(backbone)
    fields = RefAVSMask2FormerConfig(**config["mask2former_config"], backbone_config=backbone)
    model = RefAVSMask2FormerModel(fields, config.get("adapter_size", 64))
    level = model.pixel_level_module
    level.encoder = type(level.encoder).from_pretrained(vision, config=backbone)
    return ObjectFinder(model)


@torch.no_grad()
def score(finder: ObjectFinder, batches: Any) -> dict[str, float]:
    """Mean IoU, at a quarter of the frame's size, of each object with the query that covers it best
    (`best`) and with the best of those that say that they are an object (`found`)."""
    best, found = [], []
    for batch in batches:
        outputs = finder(**batch)
        masks = outputs["mask_logits"] > 0
        claims = outputs["class_logits"].argmax(-1) == 0
        truth = batch["mask_labels"] > 0.5
        both = (masks[:, :, None] & truth[:, None]).sum((-1, -2))
        either = (masks[:, :, None] | truth[:, None]).sum((-1, -2)).clamp(min=1)
        overlap = both / either  # (N, queries, objects)
        best += overlap.amax(1)[batch["shown"]].tolist()
        found += (overlap * claims[..., None]).amax(1)[batch["shown"]].tolist()
    return {"best": float(np.mean(best)), "found": float(np.mean(found)), "objects": len(best)}


def pretrain_decoders(
    vision: str,
    library: str,
    output: Path,
    recipe: Path = PHOTO_RECIPE,
    steps: int = 2000,
    batch_size: int = 16,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> dict[str, float]:
    """Train, or go on with a training that was stopped, and save a folder that
    `from_backbones(mask2former=...)` takes, with the class head as Mask2Former's files have it.
    Returns its scores on composites of the validation split.

    Args:
        vision: folder of the backbone.
        library: that the photographs are of.
        recipe: whose `config` says how large the decoders are.
    """
    arguments = TrainingArguments(
        str(output / "run"),
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        warmup_steps=0.07,  # share of all steps
        lr_scheduler_type="cosine",
        weight_decay=0.01,
        max_grad_norm=5.0,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=20,
        save_steps=100,
        save_total_limit=1,
        remove_unused_columns=False,
        label_names=["mask_labels"],
        dataloader_num_workers=WORKERS,
        report_to=[],
        seed=seed,
    )
    torch.manual_seed(seed)
    appearance_of(library)  # a bad library is refused before anything is made
    finder = make_finder(vision, read_recipe(recipe)[0].config)
    size = {"height": SIZE, "width": SIZE}
    image_processor = AutoImageProcessor.from_pretrained(vision, size=size)
    collator = CompositeCollator(image_processor, len(appearance_of(library).object_counts))
    length = steps * arguments.train_batch_size * arguments.world_size
    trainer = Trainer(
        finder,
        arguments,
        data_collator=collator,
        train_dataset=Composites(library, "train", length, seed),
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(output / "run")))
    finder = finder.eval()
    validation = Composites(library, "val", SCORED, seed + 1)
    batches = torch.utils.data.DataLoader(validation, batch_size=20, collate_fn=collator)
    scores = score(finder, batches)
    head = finder.class_predictor.state_dict(prefix="class_predictor.")
    finder.model.save_pretrained(output, state_dict={**finder.model.state_dict(), **head})
    image_processor.save_pretrained(output)
    (output / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    return scores
