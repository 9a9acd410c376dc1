"""Mask2Former's two decoders on a frozen backbone: they learn to find every object in composites of
a library's photographs, whatever it is. The backbone sees each composite once."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter
from torch import nn
from torch.utils.data import DataLoader, default_collate
from tqdm import tqdm
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

from ..configuration_refavs import RefAVSConfig, RefAVSMask2FormerConfig, use_four_stages
from ..encoders_refavs import encode_frames
from ..mask2former_refavs import RefAVSMask2FormerModel
from ..modeling_refavs import RefAVSForSegmentation
from ..training.arguments import read_recipe
from ..training.train import take_class_predictor
from ..utils.files import whole_file
from .pretrain_vision import WORKERS, set_loss


PHOTO_RECIPE = Path(__file__).parent / "recipes" / "photo_single_step.yaml"
WHOLE = RefAVSConfig.model_type
WITH_DECODERS = ("mask2former", WHOLE)  # model types of folders whose decoders are trained further
CELL = 4  # pixels, height and width, of a cell of the labels
CROPPED, PART = 0.7, (0.33, 1.0)  # share of composites that are parts, and of the side
DISTRACTORS = 4  # parts of other grounds in a composite, at most
SCORED = 200  # frames of the validation split
MADE_AT_ONCE = 8  # composites


class Composites(torch.utils.data.Dataset):
    """Frame n depends on `(seed, n)` alone: `pixels (size, size, 3)` uint8 and, of the objects in
    view, `masks (objects, size, size)` bool."""

    def __init__(self, library: str, split: str, length: int, seed: int, size: int):
        self.library, self.split, self.length, self.seed = library, split, length, seed
        self.size = size

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
        size = self.size
        side = round(size / rng.uniform(*PART)) if rng.random() < CROPPED else size
        pixels, masks = appearance.draw(scene, float(rng.integers(NUM_FRAMES)), side, side)
        rows, columns = around(rng, masks, side, size)
        pixels, masks = pixels[rows, columns].copy(), masks[:, rows, columns].copy()
        for _ in range(rng.integers(DISTRACTORS + 1)):
            _cover_with_ground(rng, pixels, masks, appearance.cast(self.split))
        return {"pixels": degrade(rng, pixels), "masks": masks[masks.any(axis=(1, 2))]}


def around(
    rng: np.random.Generator, masks: np.ndarray, side: int, size: int
) -> tuple[slice, slice]:
    """Rows and columns of a part of the picture, about the middle of one of its objects."""
    shown = np.flatnonzero(masks.any(axis=(1, 2)))
    middle = np.full(2, side / 2)
    if len(shown):
        middle = np.argwhere(masks[rng.choice(shown)]).mean(axis=0)
    start = middle - size * rng.uniform(0.3, 0.7, 2)
    top, left = start.clip(0, side - size).round().astype(int).tolist()
    return slice(top, top + size), slice(left, left + size)


def _cover_with_ground(
    rng: np.random.Generator, pixels: np.ndarray, masks: np.ndarray, cast: LibraryCast
) -> None:
    """Cover a part of `pixels (size, size, 3)`, and of the `masks (objects, size, size)` under it,
    with a part of another ground in the form of an object: an edge alone makes no object."""
    size = len(pixels)
    folder, media = cast.library.folder, cast.media
    kinds = sorted(media.pictures)
    pictures = media.pictures[kinds[rng.integers(len(kinds))]]
    form = Image.open(folder / pictures[rng.integers(len(pictures))].file)
    form = form.convert("RGBA").getchannel("A")
    factor = rng.uniform(0.15, 0.6) * size / max(form.size)
    stretch = rng.uniform(0.7, 1.4)
    sides = form.width * factor * stretch, form.height * factor / stretch
    form = form.resize([max(2, round(side)) for side in sides], Image.Resampling.BILINEAR)
    form = form.rotate(rng.uniform(0, 360), Image.Resampling.BILINEAR, expand=True)
    form = form.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.7)))
    cover = Image.new("L", (size, size))
    cover.paste(form, tuple((rng.uniform(-0.3, 0.9, 2) * size).astype(int).tolist()))
    alpha = np.asarray(cover, dtype=np.float32) / 255
    ground = Image.open(folder / media.grounds[rng.integers(len(media.grounds))].file)
    zoom = rng.uniform(1, 3) * size / min(ground.size)
    sides = [max(size, round(side * zoom)) for side in ground.size]
    ground = ground.convert("RGB").resize(sides, Image.Resampling.BILINEAR)
    left, top = (int(rng.integers(side - size + 1)) for side in sides)
    fill = np.asarray(ground.crop((left, top, left + size, top + size)), dtype=np.float32)
    fill = fill * rng.uniform(0.7, 1.2)
    pixels[:] = (pixels + alpha[..., None] * (fill - pixels)).clip(0, 255).astype(np.uint8)
    masks &= alpha < 0.5


def degrade(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """What cameras and files do to a picture as a whole: other colours, none, a coarser grain,
    JPEG."""
    picture, size = Image.fromarray(pixels), len(pixels)
    if rng.random() < 0.5:
        saturation = rng.choice([0.0, rng.uniform(0.3, 1.6)], p=[0.3, 0.7])
        picture = ImageEnhance.Color(picture).enhance(saturation)
        picture = ImageEnhance.Contrast(picture).enhance(rng.uniform(0.6, 1.4))
        picture = ImageEnhance.Brightness(picture).enhance(rng.uniform(0.6, 1.4))
    if rng.random() < 0.3:
        side = round(size * rng.uniform(0.4, 0.9))
        picture = picture.resize((side, side), Image.Resampling.BILINEAR)
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    if rng.random() < 0.5:
        file = BytesIO()
        picture.save(file, "JPEG", quality=int(rng.integers(25, 95)))
        picture = Image.open(file)
    return np.asarray(picture)


class EncodedComposites(torch.utils.data.Dataset):
    """What a frozen backbone makes of composites, kept on disk in float16: `stages`, four maps;
    `mask_labels (most, size / 4, size / 4)`, the share of each cell that an object covers, and
    `shown (most,)` bool: an object there is."""

    def __init__(self, composites: Composites, most: int, folder: Path):
        self.composites, self.most, self.folder = composites, most, folder
        self.side = composites.size // CELL

    def __len__(self) -> int:
        return len(self.composites)

    def make(self, encoder: nn.Module, image_processor: Any) -> None:
        """Those that are not there yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        counts = self._open("counts", (), np.int8)  # objects and one; 0: not there
        labels = self._open("labels", (self.most, self.side, self.side), np.uint8)
        lacking = np.flatnonzero(counts == 0).tolist()
        loader = DataLoader(
            torch.utils.data.Subset(self.composites, lacking),
            MADE_AT_ONCE,
            num_workers=WORKERS,
            collate_fn=list,
        )
        device = next(encoder.parameters()).device
        places = iter(lacking)
        for rows in tqdm(loader, "composites", unit_scale=MADE_AT_ONCE):
            pictures = [row["pixels"] for row in rows]
            pixels = image_processor(pictures, return_tensors="pt")["pixel_values"]
            with torch.no_grad():
                maps = encode_frames(encoder, pixels.to(device))
            files = [
                self._open(f"stage{number}", found.shape[1:], np.float16)
                for number, found in enumerate(maps)
            ]
            for row, *stages in zip(rows, *maps, strict=True):
                place = next(places)
                for file, stage in zip(files, stages, strict=True):
                    file[place] = stage.half().cpu()
                count = len(row["masks"])
                cells = row["masks"].reshape(count, self.side, CELL, self.side, CELL)
                labels[place, :count] = (255 * cells.mean(axis=(2, 4))).round()
                counts[place] = 1 + count

    def _open(self, name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        if not path.exists():
            with whole_file(path) as unfinished:
                np.lib.format.open_memmap(unfinished, "w+", dtype, (len(self), *shape))
        file = np.load(path, mmap_mode="r+")
        if file.shape != (len(self), *shape):
            raise ValueError(
                f"{path}: holds {file.shape} and not {(len(self), *shape)}: give another folder, "
                "or remove it"
            )
        return file

    def __getitem__(self, index: int) -> dict[str, Any]:
        labels, count, *stages = (
            np.load(path, mmap_mode="r")[index]
            for name in ("labels", "counts", "stage*")
            for path in sorted(self.folder.glob(f"{name}.npy"))
        )
        return {
            "stages": [torch.from_numpy(stage.astype(np.float32)) for stage in stages],
            "mask_labels": torch.from_numpy(labels.astype(np.float32) / 255),
            "shown": torch.arange(self.most) < int(count) - 1,
        }


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
        self, stages: list[torch.Tensor], mask_labels: torch.Tensor, shown: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Of [`EncodedComposites`] to `loss`, and of the last layer `mask_logits (N, queries, h,
        w)` and `class_logits (N, queries, 2)`."""
        pixels = self.model.decode_pixels(stages)
        levels = [level.unsqueeze(1) for level in pixels.multi_scale_features]  # a step a clip
        maps = pixels.mask_features.unsqueeze(1)
        decoder = self.model.transformer_module
        queries = decoder.queries_features.weight.expand(len(mask_labels), -1, -1)
        states = decoder(queries, tuple(levels), maps).states
        masks = torch.stack([decoder.predict_masks(layer, maps) for layer in states])
        classes = torch.stack([self.class_predictor(layer) for layer in states])
        labels = torch.zeros_like(shown, dtype=torch.long)
        loss = set_loss(masks, classes, mask_labels, labels, shown, self.model.config)
        return {"loss": loss, "mask_logits": masks[-1], "class_logits": classes[-1]}


def make_finder(vision: str, config: dict[str, Any]) -> ObjectFinder:
    """
    Args:
        vision: folder of a backbone, or of a Mask2Former with its own, or of a model with that, to
            be trained further.
        config: fields of `RefAVSConfig`, of which `mask2former_config`, `vision_config` and
            `adapter_size` say how it is made.
    """
    backbone = AutoConfig.from_pretrained(vision)
    adapter_size = config.get("adapter_size", 64)
    if backbone.model_type == WHOLE:
        whole = RefAVSForSegmentation.from_pretrained(vision)
        finder = ObjectFinder(whole.base_model.mask2former)
        finder.class_predictor.load_state_dict(whole.class_predictor.state_dict())
        return finder
    if backbone.model_type == "mask2former":
        fields = RefAVSMask2FormerConfig.from_pretrained(vision)
        use_four_stages(fields.backbone_config)
        model = RefAVSMask2FormerModel.from_pretrained(
            vision, config=fields, adapter_size=adapter_size
        )
        finder = ObjectFinder(model)
        take_class_predictor(finder, vision)
        return finder
    backbone = AutoConfig.from_pretrained(vision, **config.get("vision_config", {}))
    if not hasattr(backbone, "out_features"):
        raise ValueError(f"{vision}: {backbone.model_type} is no backbone")
    use_four_stages(backbone)
    fields = RefAVSMask2FormerConfig(**config["mask2former_config"], backbone_config=backbone)
    model = RefAVSMask2FormerModel(fields, adapter_size)
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


def training_arguments(output: Path, **arguments: Any) -> TrainingArguments:
    """Those of every training on what a frozen part made once: it is kept in `output/run`, and goes
    on from its last checkpoint."""
    return TrainingArguments(
        str(output / "run"),
        lr_scheduler_type="cosine",
        use_cpu=not torch.cuda.is_available(),
        save_total_limit=1,
        remove_unused_columns=False,
        report_to=[],
        **arguments,
    )


def pretrain_decoders(
    vision: str,
    library: str,
    output: Path,
    recipe: Path = PHOTO_RECIPE,
    composites: int = 5000,
    steps: int = 1200,
    batch_size: int = 16,
    learning_rate: float = 1e-3,
    seed: int = 0,
    kept: float = 0.0,
) -> dict[str, float]:
    """Train, or go on with a training that was stopped, and save a folder that
    `from_backbones(mask2former=...)` takes, with the class head as Mask2Former's files have it.
    Returns its scores on composites of the validation split.

    Args:
        vision: folder of the backbone, or of a Mask2Former, or a model with one, that is trained
            further.
        library: that the photographs are of.
        recipe: whose `config` says how large the decoders are, and whose `image_size` how large
            frames are.
        composites: to learn from; what the backbone makes of them is kept in `output/run`, 2.4 MB
            of each of 384x384 where the backbone is `parts/paired`.
        kept: share of the weights that a Mask2Former had, in the mean with what it has learned:
            composites make decoders forget photographs, means of weights much less (arXiv
            2109.01903).

    Raises:
        ValueError: `kept` is no share, or of a backbone, which has no decoders to keep.
    """
    if not 0 <= kept < 1:
        raise ValueError(f"kept must be at least 0 and below 1, got {kept}")
    if kept and AutoConfig.from_pretrained(vision).model_type not in WITH_DECODERS:
        raise ValueError(f"kept: {vision} is a backbone and has no decoders to keep")
    arguments = training_arguments(
        output,
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        label_names=["mask_labels"],
        warmup_steps=0.07,  # share of all steps
        weight_decay=0.01,
        max_grad_norm=5.0,
        logging_steps=20,
        save_steps=100,
        dataloader_num_workers=WORKERS,
    )
    torch.manual_seed(seed)
    most = len(appearance_of(library).object_counts)  # a bad library is refused at once
    start = read_recipe(recipe)[0]
    finder = make_finder(vision, start.config).to(arguments.device)
    side = {"height": start.image_size, "width": start.image_size}
    image_processor = AutoImageProcessor.from_pretrained(vision, size=side)
    encoder = finder.train().model.pixel_level_module.encoder
    sets = []
    for split, length, chosen in (("train", composites, seed), ("val", SCORED, seed + 1)):
        drawn = Composites(library, split, length, chosen, start.image_size)
        sets.append(EncodedComposites(drawn, most, output / "run" / split))
        sets[-1].make(encoder, image_processor)
    before = {name: value.clone() for name, value in finder.named_parameters()}
    trainer = Trainer(finder, arguments, default_collate, train_dataset=sets[0])
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(output / "run")))
    finder = finder.eval()
    with torch.no_grad():
        for name, value in finder.named_parameters():
            value.lerp_(before[name], kept)
    scores = score(finder, DataLoader(sets[1], batch_size=20))
    head = finder.class_predictor.state_dict(prefix="class_predictor.")
    finder.model.save_pretrained(output, state_dict={**finder.model.state_dict(), **head})
    image_processor.save_pretrained(output)
    (output / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    return scores
