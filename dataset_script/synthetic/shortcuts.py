"""How well guessers do that lack a modality, measured on clips that leave a choice: those of two
objects or more."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from .baselines import GUESSERS, Question, jaccard
from .conditions import World
from .scene import Scene
from .templates import FAMILIES


# guessers learn on one half of the clips and are measured on the other, and the other way round
FOLDS = 2
LINE = 0.6  # mean J that a guesser without a family's own modality must stay below


def measure_shortcuts(folder: str | Path) -> dict[str, dict[str, float]]:
    """Mean J of each guesser for each family of sentences, on the clips of a folder that hold two
    objects or more.

    Args:
        folder: a synthetic benchmark, of some 1,000 clips or more.

    Returns:
        By family and "all", by guesser; "sentences" is how many there were.
    """
    questions = _load(Path(folder))
    if not questions:
        raise ValueError(
            f"{folder} holds no sentence about a clip of two objects or more: make more clips"
        )
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for fold in range(FOLDS):
        known = [question for question in questions if question.clip % FOLDS != fold]
        asked = [question for question in questions if question.clip % FOLDS == fold]
        for name, learn in GUESSERS.items():
            guess = learn(known)
            for question in asked:
                score = jaccard(guess(question), question.masks[question.fid])
                scores[question.family][name].append(score)
                scores["all"][name].append(score)
    families = [family for family in (*FAMILIES, "all") if family in scores]
    return {
        family: {
            "sentences": len(scores[family]["biggest"]),
            **{name: float(np.mean(values)) for name, values in scores[family].items()},
        }
        for family in families
    }


def format_shortcuts(table: dict[str, dict[str, float]]) -> str:
    """The measurements as a Markdown table."""
    lines = [
        "| family | sentences | " + " | ".join(GUESSERS) + " |",
        "|---" * (len(GUESSERS) + 2) + "|",
    ]
    for family, row in table.items():
        cells = [f"{row[name]:.2f}" for name in GUESSERS]
        lines.append(f"| {family} | {row['sentences']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _load(folder: Path) -> list[Question]:
    questions = []
    for path in tqdm(sorted((folder / "scenes").glob("*.json")), unit="clip", desc="shortcuts"):
        stored = json.loads(path.read_text())
        if len(stored["scene"]["objects"]) < 2 or path.stem.startswith("null_"):
            continue
        world = World(Scene.from_json(stored["scene"]))
        clip = int(path.stem.split("-")[1].split("_")[0])
        masks = np.array(
            [_masks(folder / "gt_mask" / path.stem / f"fid_{item.fid}") for item in world.objects]
        )
        for said in stored["expressions"]:
            questions.append(
                Question(clip, world, masks, said["template"], said["slots"], said["fid"])
            )
    return questions


def _masks(folder: Path) -> np.ndarray:
    return np.array([np.asarray(Image.open(path)) > 0 for path in sorted(folder.glob("*.png"))])
