"""How far guessers get that lack a modality: the benchmark must leave no such shortcut."""

import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.optimize import minimize
from tqdm import tqdm

from ..taxonomy import Taxonomy, read_taxonomy
from .conditions import World
from .sampling import MOTIONS
from .scene import Scene
from .sentences import ALL_TEMPLATES, FAMILIES, conditions_of


SHRINKAGE = 3.0  # L2 weight of the learned choice


@dataclass(frozen=True)
class Question:
    """A stored sentence and its clip, whose masks are `(objects, frames, h, w)` bool."""

    clip: int
    world: World
    masks: np.ndarray
    template: str
    slots: dict[str, str]
    fid: int
    taxonomy: Taxonomy

    @property
    def family(self) -> str:
        return ALL_TEMPLATES[self.template].family

    @cached_property
    def looks(self) -> np.ndarray:
        """All that the frames show of each object `(objects, features)`, also in comparison with
        the others."""
        return looks(self.world, self.masks, self.taxonomy)

    @cached_property
    def not_excluded(self) -> np.ndarray:
        """The objects of which everything is true that the sentence says of what can be seen."""
        conditions = conditions_of(ALL_TEMPLATES[self.template], self.slots)
        fits = self.world.together(tuple(c for c in conditions if not c.acoustic)) >= 1
        for landmark in (
            c.landmark for c in conditions if c.landmark and not any(i.acoustic for i in c.landmark)
        ):
            fits[self.world.refer(landmark)] = False
        return fits


def looks(world: World, masks: np.ndarray, taxonomy: Taxonomy) -> np.ndarray:
    area = np.log(masks.sum((1, 2, 3)) + 1.0)
    distances = np.array(
        [[np.hypot(*(a - b).T).mean() for b in world.centres] for a in world.centres]
    )
    neighbour = (distances + 9 * np.eye(len(distances))).min(1)
    place = np.array([centres[0] for centres in world.centres])
    presence = np.array([item.presence for item in world.objects]) / world.scene.seconds
    depth = np.array([item.depth for item in world.objects])
    plain = np.column_stack([area, neighbour, place, presence, depth])
    kinds = [taxonomy.super_category(item.category) for item in world.objects]
    named = [
        *([kind == name for kind in kinds] for name in dict.fromkeys(taxonomy.categories.values())),
        *([item.motion == name for item in world.objects] for name in MOTIONS),
        [world.could_sound(index) for index in range(len(kinds))],
    ]
    extremes = np.column_stack([plain == plain.max(0), plain == plain.min(0)])
    return np.column_stack([plain, extremes, np.array(named).T]).astype(float)


def jaccard(guess: np.ndarray, truth: np.ndarray) -> float:
    """Mean J over frames `(frames, h, w)`, strict: a frame without the object scores 1 if nothing
    is guessed, else 0."""
    both, either = (guess & truth).sum((1, 2)), (guess | truth).sum((1, 2))
    return float(np.where(either > 0, both / np.maximum(either, 1), 1.0).mean())


Guesser = Callable[[Question], np.ndarray]


def _biggest(known: Sequence[Question]) -> Guesser:
    return lambda question: question.masks[question.masks.sum((2, 3)).max(1).argmax()]


def _usual_place(
    keys: Callable[[Question], Sequence[Hashable]],
) -> Callable[[Sequence[Question]], Guesser]:
    """A guesser that sees no frame: the mean mask of the known questions with the same key, cut at
    its best threshold."""

    def learn(known: Sequence[Question]) -> Guesser:
        groups: dict[Hashable, list[np.ndarray]] = defaultdict(list)
        for question in known:
            for key in (*keys(question), None):
                groups[key].append(question.masks[question.fid])

        def guess(question: Question) -> np.ndarray:
            key = next((key for key in keys(question) if len(groups.get(key, ())) >= 8), None)
            if key not in cuts:
                mean = np.mean(groups[key], axis=0)
                tries = [mean > share * mean.max() for share in (0.2, 0.35, 0.5, 0.65, 0.8)]
                cuts[key] = max(
                    tries, key=lambda cut: np.mean([jaccard(cut, truth) for truth in groups[key]])
                )
            return cuts[key]

        cuts: dict[Hashable, np.ndarray] = {}
        return guess

    return learn


def _sentence(question: Question) -> list[Hashable]:
    return [(question.template, *question.slots.values()), question.template]


def _sound(question: Question) -> list[Hashable]:
    heard = tuple(sorted(item.category for item in question.world.objects if item.sound))
    return [("heard", heard), ("heard of", heard[:1])]


def _sentence_and_sound(question: Question) -> list[Hashable]:
    return [(*_sentence(question)[:1], *_sound(question)), *_sentence(question)]


def _best_looking(listens_to_sentence: bool) -> Callable[[Sequence[Question]], Guesser]:
    """A guesser that hears no sound: a choice learned from looks, with the sentence per template
    among what fits it."""

    def learn(known: Sequence[Question]) -> Guesser:
        groups: dict[str, list[Question]] = defaultdict(list)
        for question in known:
            groups[question.template if listens_to_sentence else ""].append(question)
        weights = {
            name: _learn_choice(group, listens_to_sentence) for name, group in groups.items()
        }

        def guess(question: Question) -> np.ndarray:
            weight = weights.get(
                question.template if listens_to_sentence else "", np.zeros(question.looks.shape[1])
            )
            score = question.looks @ weight
            if listens_to_sentence:
                score = np.where(question.not_excluded, score, -np.inf)
            return question.masks[score.argmax()]

        return guess

    return learn


def _learn_choice(known: Sequence[Question], listens_to_sentence: bool) -> np.ndarray:
    """Weights of a choice between the objects of a clip (conditional logit)."""
    options = [
        (q.looks, np.where(q.not_excluded | (not listens_to_sentence), 0.0, -1e3), q.fid)
        for q in known
    ]

    def loss(weight: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = SHRINKAGE * weight @ weight / 2, SHRINKAGE * weight
        for features, excluded, fid in options:
            score = features @ weight + excluded
            share = np.exp(score - score.max())
            share /= share.sum()
            value -= np.log(share[fid] + 1e-12)
            slope = slope + features.T @ share - features[fid]
        return value, slope

    return minimize(loss, np.zeros(options[0][0].shape[1]), jac=True, method="L-BFGS-B").x


GUESSERS: dict[str, Callable[[Sequence[Question]], Guesser]] = {
    "biggest": _biggest,
    "sentence": _usual_place(_sentence),
    "sound": _usual_place(_sound),
    "frames": _best_looking(listens_to_sentence=False),
    "sentence + sound": _usual_place(_sentence_and_sound),
    "sentence + frames": _best_looking(listens_to_sentence=True),
}
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
    questions, taxonomy = [], read_taxonomy(folder)
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
                Question(clip, world, masks, said["template"], said["slots"], said["fid"], taxonomy)
            )
    return questions


def _masks(folder: Path) -> np.ndarray:
    return np.array([np.asarray(Image.open(path)) > 0 for path in sorted(folder.glob("*.png"))])
