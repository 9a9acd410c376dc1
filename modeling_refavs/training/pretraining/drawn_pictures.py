"""Pictures of synthetic scenes, drawn when they are asked for: as many as are wanted, and none of them is kept."""

import io

import numpy as np
import torch
from PIL import Image
from transformers.image_processing_utils import BaseImageProcessor

from dataset_script.schema import NUM_FRAMES
from dataset_script.synthetic.categories import CATEGORIES, SEEN
from dataset_script.synthetic.drawing import COLOURS, SURFACES, draw
from dataset_script.synthetic.generate import JPEG_QUALITY
from dataset_script.synthetic.sampling import OBJECT_COUNTS, sample_scene
from dataset_script.synthetic.scene import Scene, SceneObject


SIZE = 96  # pixels, height and width
MASK_SIZE = 32  # of the labels
MOST = len(OBJECT_COUNTS)  # objects in a scene
LOOKS = (tuple(CATEGORIES), tuple(COLOURS), SURFACES)  # what an object looks like
POSE = ("cosine and sine of its turn", "", "x", "y of its centre, in frames", "log of its radius")


class DrawnPictures(torch.utils.data.Dataset):
    """Picture n depends on `(seed, n)` alone. Its objects are of kinds that training clips hold, its moment one that they store.

    Each is a dictionary: `pixels (96, 96, 3)` uint8; of the objects in view, in front of the others first or not, `masks (objects, 96, 96)` bool,
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
        "looks": np.array([look_of(item) for item in shown], dtype=np.int64).reshape(-1, len(LOOKS)),
        "poses": np.array([pose_of(scene, item, time) for item in shown], dtype=np.float32).reshape(-1, len(POSE)),
    }


def look_of(item: SceneObject) -> tuple[int, int, int]:
    """The numbers of an object's category, colour and surface."""
    return tuple(
        names.index(name) for names, name in zip(LOOKS, (item.category, item.colour, item.surface), strict=True)
    )


def pose_of(scene: Scene, item: SceneObject, time: float) -> tuple[float, ...]:
    """Cosine and sine of its turn; its centre as shares of the frame; the log of its radius in sixths of the frame."""
    turn = np.deg2rad(scene.angle(item, time))
    x, y = scene.centre(item, np.array([time]))[0] / (scene.width, scene.height)
    return float(np.cos(turn)), float(np.sin(turn)), float(x), float(y), float(np.log(6 * item.radius))


class PictureCollator:
    """Pictures to a batch, where each has room for the most objects that there can be.

    `pixel_values (N, 3, 96, 96)`; `mask_labels (N, 4, 32, 32)`, the share of each cell that an object covers; `shown (N, 4)` bool; `looks (N, 4, 3)`; `poses (N, 4, 5)`.
    """

    def __init__(self, image_processor: BaseImageProcessor):
        self.image_processor = image_processor

    def __call__(self, rows: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
        batch = {
            "pixel_values": self.image_processor([row["pixels"] for row in rows], return_tensors="pt")["pixel_values"],
            "mask_labels": torch.zeros(len(rows), MOST, MASK_SIZE, MASK_SIZE),
            "shown": torch.zeros(len(rows), MOST, dtype=torch.bool),
            "looks": torch.zeros(len(rows), MOST, len(LOOKS), dtype=torch.long),
            "poses": torch.zeros(len(rows), MOST, len(POSE)),
        }
        for index, row in enumerate(rows):
            count, cell = len(row["masks"]), SIZE // MASK_SIZE
            cells = row["masks"].reshape(count, MASK_SIZE, cell, MASK_SIZE, cell).mean(axis=(2, 4), dtype=np.float32)
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
