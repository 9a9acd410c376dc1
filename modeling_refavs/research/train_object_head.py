"""The object head alone, on clips of a library's photographs and recordings: every part before it
is frozen and sees each clip once, and of each scene more is said than a data set would hold."""

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import AutoModelForImageClassification, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from dataset_script.schema import NUM_FRAMES
from dataset_script.synthetic.appearance import appearance_of
from dataset_script.synthetic.clips import SynthesisOptions, SyntheticClip, make_clip, split_of
from dataset_script.synthetic.conditions import World
from dataset_script.synthetic.sentences import Expression, as_null, find_expressions
from dataset_script.synthetic.sounds import SAMPLE_RATE

from ..modeling_refavs import RefAVSForSegmentation
from ..object_head_refavs import (
    RefAVSObjects,
    compare,
    object_criterion,
)
from ..processing_refavs import RefAVSProcessor
from ..training.class_names import FRAME_DEVIATION, embed_names, fit_linear, mix_names, spread
from ..utils.files import whole_file
from .pretrain_decoders import around, degrade


PIXELS = 320  # height and width of a clip as it is drawn
CROPPED, PART = 0.6, (0.4, 1.0)  # share of clips that are parts of a picture, and of its side
TRUTH = 96  # of the masks that queries are compared with
# Of the grounding logits 0.3, by `val`: without them the choice is right in 0.67, with 0.3 in 0.68
GROUNDING_CONFIG = {"object_head_size": 96, "object_score_bias": 0.0, "grounding_weight": 0.3}
NULL_SHARE = 0.2  # of the clips, those whose sentences refer to nothing
BORROWED = 3  # clips whose sentences are tried as null references of another
SENTENCES, STEPS = 4, 4  # of a clip at a time
MORE_NULLS = 0.1  # of a clip's sentences, those of other clips that mean nothing in it
SWAPPED = 0.7  # of sentences, those read with the words of another of their form
FOLDS = 4  # of kinds: F'_V of an object comes from a map that was fitted without its kind
FITTED_IOU = 0.6  # of a query with the object that it is taken for in that fit
SAME_IOU = 0.3  # of a query with the object whose fold it is of
FITTED_STEPS = slice(0, None, 3)
SCORED = 100  # clips of the validation split


@dataclass(frozen=True)
class Said:
    """A sentence of a clip: the number of its object among the clip's, -1 for none, and its form,
    what is asked whatever it is asked of."""

    text: str
    row: int
    form: str


class DrawnClips(Dataset):
    """Clips of one split, drawn when they are asked for: `frames (10, 3, H, W)` uint8, `masks
    (objects, 10, 96, 96)` bool, the sound's log-mel examples `mel (10, 96, 64)` and `audible
    (10,)`, the objects' `kinds`, and `said`."""

    def __init__(
        self, library: str, split: str, length: int, seed: int, processor: RefAVSProcessor
    ):
        self.options = SynthesisOptions(
            seed=seed, height=PIXELS, width=PIXELS, null_share=NULL_SHARE, library=library
        )
        self.appearance, self.processor = appearance_of(library), processor
        numbers, number = [], 0
        while len(numbers) < length:
            if split_of(number) == split:
                numbers.append(number)
            number += 1
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = make_clip(self.options, self.numbers[index])
        times = self.options.times
        # As composites, a part of a larger picture: objects of a photograph fill the frame too
        rng = np.random.default_rng([self.options.seed, self.numbers[index], 2])
        side = round(PIXELS / rng.uniform(*PART)) if rng.random() < CROPPED else PIXELS
        drawn = [self.appearance.draw(clip.scene, float(t), side, side) for t in times]
        part = around(rng, drawn[rng.integers(len(drawn))][1], side, PIXELS)
        look = int(rng.integers(1 << 32))  # the same for all frames
        frames = [degrade(np.random.default_rng(look), frame[part]) for frame, _ in drawn]
        masks = np.stack([masks[(slice(None), *part)] for _, masks in drawn], axis=1)
        masks = torch.from_numpy(masks).float()
        masks = nn.functional.interpolate(masks, (TRUTH, TRUTH), mode="area") > 0.5
        sound = self.appearance.render_sound(clip.scene)
        heard = self.processor.extract_audio([np.atleast_2d(sound)], SAMPLE_RATE, NUM_FRAMES)
        return {
            "frames": self.processor.resize_frames(frames),
            "masks": masks.numpy(),
            "mel": heard["input_features"][0],
            "audible": heard["input_features_mask"][0].any(axis=-1),
            "kinds": [item.category for item in clip.scene.objects],
            "said": list(self._say(clip, index)),
        }

    def _say(self, clip: SyntheticClip, index: int) -> Iterator[Said]:
        """All templates that fit the scene, in one way each, and what is true of nothing in it."""
        rng = np.random.default_rng([self.options.seed, self.numbers[index], 1])
        world, language = World(clip.scene), self.appearance.language
        said = list(clip.expressions)
        if clip.expressions[0].fid is not None:
            for template in language.templates.values():
                if found := find_expressions(world, template, language):
                    ways = found[rng.integers(len(found))]
                    said.append(ways[rng.integers(len(ways))])
        for other in rng.choice(self.numbers, BORROWED):
            nulls = (as_null(world, one) for one in make_clip(self.options, other).expressions)
            said += [null for null in nulls if null is not None]
        for one in {one.text: one for one in said}.values():
            yield Said(" ".join(one.text.split()), -1 if one.fid is None else one.fid, form_of(one))


def form_of(expression: Expression) -> str:
    slots = expression.slots
    return " ".join([expression.template, *(slots[n] for n in ("motion", "place") if n in slots)])


class EncodedClips(Dataset):
    """What a frozen model makes of drawn clips, a file each in `folder`: the fields of
    [`RefAVSObjects`], `iou (10, num_queries, objects)` of each mask with each object, -1 where it
    is not in view, and `audio_features (10, C)`, in float16; `audible`, `said` and `kinds`."""

    def __init__(self, clips: DrawnClips, model: RefAVSForSegmentation, folder: Path):
        self.clips, self.model, self.folder = clips, model, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.paths = [folder / f"{number:06d}.npz" for number in clips.numbers]

    def __len__(self) -> int:
        return len(self.clips)

    def make(self) -> None:
        """Those that are not there yet, by all processors: forked processes share the model."""
        lacking = [index for index, path in enumerate(self.paths) if not path.exists()]
        subset = torch.utils.data.Subset(self, lacking)
        loader = DataLoader(subset, batch_size=None, num_workers=os.cpu_count())
        for _ in tqdm(loader, f"{self.folder.name}: clips seen by the model", len(lacking)):
            pass

    def __getitem__(self, index: int) -> int:
        clip = self.clips[index]
        arrays = encode_clip(self.model, self.clips.processor, clip)
        said = [[one.text, str(one.row), one.form] for one in clip["said"]]
        with whole_file(self.paths[index]) as unfinished, open(unfinished, "wb") as file:
            np.savez(file, **arrays, said=np.array(said), kinds=np.array(clip["kinds"]))
        return index

    def read(self) -> list[dict[str, Any]]:
        clips = []
        for path in self.paths:
            clip = dict(np.load(path))
            clip["said"] = [Said(text, int(row), form) for text, row, form in clip["said"].tolist()]
            clip["kinds"] = clip["kinds"].tolist()
            clips.append(clip)
        return clips


@torch.no_grad()
def encode_clip(
    model: RefAVSForSegmentation, processor: RefAVSProcessor, clip: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Of one of [`DrawnClips`]."""
    frames = list(clip["frames"])
    pixels = processor.image_processor(frames, do_resize=False, return_tensors="pt")
    mel, audible = (torch.from_numpy(clip[name])[None] for name in ("mel", "audible"))
    encoded = model.encode_clips(pixels["pixel_values"][None], mel, audible[..., None])
    objects, masks = model.find_objects(encoded)
    truth = torch.from_numpy(clip["masks"]).float().flatten(2).transpose(0, 1)
    found = nn.functional.interpolate(masks, (TRUTH, TRUTH), mode="bilinear")
    found = (found > 0).float().flatten(2)
    both, area = found @ truth.transpose(1, 2), truth.sum(-1)[:, None]
    iou = both / (found.sum(-1, keepdim=True) + area - both).clamp(min=1)
    arrays = {
        **vars(objects),
        "iou": iou.masked_fill(area == 0, -1.0),
        "audio_features": encoded.audio_features[0],
    }
    arrays = {name: array.half().numpy() for name, array in arrays.items()}
    return {**arrays, "audible": clip["audible"]}


class ObjectQuestions(Dataset):
    """Sentences asked of frames: item n, `SENTENCES` of a clip at `STEPS` of its steps, follows
    from `(seed, n)`.

    Args:
        clips: as [`EncodedClips`] reads them.
        visual: F'_V of each clip's queries, `(10, num_queries, D)`.
        words: F_T of each text, `(L, C)` float16.
        length: of the training.
    """

    def __init__(
        self,
        clips: list[dict[str, Any]],
        visual: list[torch.Tensor],
        words: dict[str, torch.Tensor],
        length: int,
        seed: int,
        swapped: float = SWAPPED,
    ):
        self.clips, self.visual, self.words = clips, visual, words
        self.length, self.seed, self.swapped = length, seed, swapped
        alike = defaultdict(set)
        for one in (one for clip in clips for one in clip["said"]):
            alike[one.form, len(words[one.text])].add(one.text)
        self.alike = {key: sorted(texts) for key, texts in alike.items()}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.seed, index])
        number = int(rng.integers(len(self.clips)))
        said = self.clips[number]["said"]
        own, nulls = ([one for one in said if (one.row < 0) == null] for null in (False, True))
        asked = []
        for _ in range(SENTENCES):
            group = nulls if nulls and (not own or rng.random() < MORE_NULLS) else own
            asked.append(group[rng.integers(len(group))])
        return self.ask(number, asked, rng.permutation(NUM_FRAMES)[:STEPS], rng)

    def ask(
        self, number: int, asked: list[Said], steps: np.ndarray, rng: np.random.Generator
    ) -> dict[str, torch.Tensor]:
        """Rows of all sentences at all steps."""
        clip = self.clips[number]

        def rows(array: np.ndarray | torch.Tensor) -> torch.Tensor:
            chosen = torch.as_tensor(array[steps])
            return chosen.repeat(len(asked), *[1] * (chosen.dim() - 1)).float()

        def read(texts: list[str]) -> torch.Tensor:
            states = nn.utils.rnn.pad_sequence([self.words[text] for text in texts], True)
            return states.float().repeat_interleave(len(steps), dim=0)

        lengths = torch.tensor([len(self.words[one.text]) for one in asked])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        iou = torch.from_numpy(clip["iou"][steps].astype(np.float32))
        of_object = [
            iou[..., one.row] if one.row >= 0 else torch.zeros_like(iou[..., 0]) for one in asked
        ]
        shown = [
            iou[:, 0, one.row] >= 0 if one.row >= 0 else torch.zeros(len(steps)) > 0
            for one in asked
        ]
        return {
            **{name: rows(clip[name]) for name in ("shown", "facts", "overlaps", "audio_features")},
            "visual": rows(self.visual[number]),
            "audible": rows(clip["audible"]) > 0,
            "text_features": read([one.text for one in asked]),
            "read_features": read([self._swap(one, rng) for one in asked]),
            "text_mask": mask.repeat_interleave(len(steps), dim=0),
            "iou": torch.cat(of_object).clamp(min=0),
            "in_view": torch.cat(shown),
        }

    def _swap(self, one: Said, rng: np.random.Generator) -> str:
        """Another sentence of as many tokens that asks the same of something else: what is named
        shall be known by likeness alone."""
        if rng.random() >= self.swapped:
            return one.text
        alike = self.alike[one.form, len(self.words[one.text])]
        return alike[rng.integers(len(alike))]


def collate(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Rows after rows; sentences are padded to the longest."""
    longest = max(item["text_mask"].shape[1] for item in items)

    def pad(name: str, rows: torch.Tensor) -> torch.Tensor:
        if name not in ("text_features", "read_features", "text_mask"):
            return rows
        missing = longest - rows.shape[1]
        return nn.functional.pad(rows, (0, 0) * (rows.dim() - 2) + (0, missing))

    return {name: torch.cat([pad(name, item[name]) for item in items]) for name in items[0]}


class ObjectHeadTraining(nn.Module):
    """The head, and what it reads of the frozen model."""

    def __init__(self, model: RefAVSForSegmentation):
        super().__init__()
        self.head = model.object_predictor
        self.frozen = nn.ModuleList([model.model.naming, model.model.cue_projection])
        self.frozen.requires_grad_(False)

    def forward(
        self,
        shown: torch.Tensor,
        facts: torch.Tensor,
        overlaps: torch.Tensor,
        visual: torch.Tensor,
        audio_features: torch.Tensor,
        audible: torch.Tensor,
        text_features: torch.Tensor,
        read_features: torch.Tensor,
        text_mask: torch.Tensor,
        iou: torch.Tensor,
        in_view: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Of [`ObjectQuestions`] to `loss` and `logits (rows, num_queries + 1)`."""
        naming, projection = self.frozen
        audio = projection.audio(audio_features)
        likenesses = compare(
            naming.classify(shown),
            visual,
            naming.naming(text_features),
            projection.project_text(text_features),
            text_mask,
            audio,
            audible,
        )
        objects = RefAVSObjects(shown, facts, overlaps)
        logits = self.head(objects, likenesses, read_features, text_mask, audio, audible)
        return {"loss": object_criterion(logits, iou, in_view), "logits": logits}


@torch.no_grad()
def fit_folds(
    model: RefAVSForSegmentation,
    processor: RefAVSProcessor,
    classifier: str,
    clips: list[dict[str, Any]],
    words: dict[str, torch.Tensor],
) -> list[torch.Tensor]:
    """F'_V of each clip's queries, `(10, num_queries, D)`, by maps as in [`start_from_class_names`]
    that were fitted without the kind of the object that a query shows. The model's own map knows
    the kinds of training, and the head would learn to trust it more than it may elsewhere."""
    parts = model.base_model
    names = AutoModelForImageClassification.from_pretrained(classifier).config.id2label.values()
    names = embed_names(parts.text_encoder, processor, list(names))
    kinds = sorted({kind for clip in clips for kind in clip["kinds"]})
    fold_of = {kind: number % FOLDS for number, kind in enumerate(kinds)}
    meanings = {text: states.float().mean(0) for text, states in words.items()}
    features, targets, folds = [], [], []
    for clip in clips:
        for row, kind in enumerate(clip["kinds"]):
            texts = [meanings[one.text] for one in clip["said"] if one.row == row]
            iou = clip["iou"][FITTED_STEPS, :, row]
            best = iou.argmax(1)
            fits = np.flatnonzero(iou.max(1) > FITTED_IOU)
            if texts and len(fits):
                features.append(clip["shown"][FITTED_STEPS][fits, best[fits]])
                targets.append(torch.stack(texts).mean(0).expand(len(fits), -1))
                folds += [fold_of[kind]] * len(fits)
    if not features:
        raise ValueError("no mask of the model shows an object of these clips: train its decoders")
    features = torch.from_numpy(np.concatenate(features)).float()
    targets, folds = parts.cue_projection.project_text(torch.cat(targets)), torch.tensor(folds)
    seen = spread(
        np.concatenate([clip["shown"].reshape(-1, clip["shown"].shape[-1]) for clip in clips])
    )
    seen = torch.from_numpy(seen).float()
    mixed = torch.cat([mix_names(parts.naming.classify(part), names) for part in seen.split(2048)])
    mixed = parts.cue_projection.project_text(mixed)
    maps = []
    for fold in range(FOLDS):
        maps.append(nn.Linear(features.shape[1], targets.shape[1]))
        others = folds != fold
        fit_linear(maps[-1], [(features[others], targets[others]), (seen, mixed)], FRAME_DEVIATION)
    visual = []
    for number, clip in enumerate(clips):
        iou = torch.from_numpy(clip["iou"]).float()
        all_folds = torch.stack([fold(torch.from_numpy(clip["shown"]).float()) for fold in maps])
        own = torch.tensor([fold_of[kind] for kind in clip["kinds"]])[iou.argmax(-1)]
        chosen = torch.where(iou.amax(-1) > SAME_IOU, own, number % FOLDS)
        visual.append(all_folds.take_along_dim(chosen[None, ..., None], 0)[0].half())
    return visual


@torch.no_grad()
def read_words(
    model: RefAVSForSegmentation, processor: RefAVSProcessor, texts: set[str]
) -> dict[str, torch.Tensor]:
    """F_T of each text, `(L, C)` float16."""
    words, ordered = {}, sorted(texts)
    for start in range(0, len(ordered), 64):
        part = ordered[start : start + 64]
        tokens = processor(part, return_tensors="pt")
        states, mask = model.base_model.encode_text(tokens["input_ids"], tokens["attention_mask"])
        for text, row, real in zip(part, states.half(), mask, strict=True):
            words[text] = row[real]
    return words


@torch.no_grad()
def score(training: ObjectHeadTraining, questions: ObjectQuestions) -> dict[str, float]:
    """Of all frames: the mean IoU of the chosen mask where the object is in view (`iou`), and how
    often nothing is chosen where there is nothing (`nothing`)."""
    training.eval()
    iou, nothing = [], []
    rng = np.random.default_rng(0)
    for number, clip in enumerate(questions.clips):
        rows = questions.ask(number, clip["said"], np.arange(NUM_FRAMES), rng)
        logits, shown = training(**rows)["logits"], rows["in_view"]
        best = logits[:, :-1].argmax(1)
        chosen = logits[:, :-1].logsumexp(1) > logits[:, -1]
        reached = rows["iou"].take_along_dim(best[:, None], 1).squeeze(1) * chosen
        iou += reached[shown].tolist()
        nothing += (~chosen)[~shown].float().tolist()
    return {"iou": float(np.mean(iou)), "nothing": float(np.mean(nothing))}


def train_object_head(
    model: str,
    classifier: str,
    library: str,
    output: Path,
    clips: int = 1600,
    steps: int = 1500,
    batch_size: int = 12,
    learning_rate: float = 1e-3,
    seed: int = 28,
) -> dict[str, float]:
    """Train, or go on with a training that was stopped, and save the model with its object head.
    Returns its scores on clips of the validation split.

    Args:
        model: folder of a model whose CATF changes no query; an object head that it has is trained
            further.
        classifier: folder of the image classifier that its `projection_init` was made with.
        library: that the photographs and recordings are of.
        clips: to learn from; what the model makes of one takes 0.4 MB in `output/run`.

    Raises:
        ValueError: the model's queries follow what is asked.
    """
    torch.manual_seed(seed)
    processor = RefAVSProcessor.from_pretrained(model)
    loaded = RefAVSForSegmentation.from_pretrained(
        model, strict=False, grounding_config=GROUNDING_CONFIG
    )
    if loaded.model.catf.changes_queries:
        raise ValueError(f"{model}: its queries follow what is asked, since its CATF is trained")
    appearance_of(library)  # a bad library is refused at once
    arguments = TrainingArguments(
        str(output / "run"),
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        warmup_steps=50,
        lr_scheduler_type="cosine",
        weight_decay=0.02,
        max_grad_norm=1.0,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=50,
        save_steps=250,
        save_total_limit=1,
        remove_unused_columns=False,
        label_names=["iou"],
        report_to=[],
        seed=seed,
    )
    loaded, sets = loaded.eval(), []
    for split, length in (("train", clips), ("val", SCORED)):
        drawn = DrawnClips(library, split, length, seed, processor)
        sets.append(EncodedClips(drawn, loaded, output / "run" / split))
        sets[-1].make()
    learned, scored = (encoded.read() for encoded in sets)
    texts = {one.text for clip in [*learned, *scored] for one in clip["said"]}
    words = read_words(loaded, processor, texts)
    visual = fit_folds(loaded, processor, classifier, learned, words)
    questions = ObjectQuestions(learned, visual, words, steps * batch_size, seed)
    training = ObjectHeadTraining(loaded)
    trainer = Trainer(training, arguments, collate, train_dataset=questions)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(output / "run")))
    with torch.no_grad():
        project = loaded.base_model.cue_projection.visual
        visual = [project(torch.from_numpy(clip["shown"]).float()).half() for clip in scored]
    scores = score(training, ObjectQuestions(scored, visual, words, 0, seed, swapped=0.0))
    loaded.save_pretrained(output)
    processor.save_pretrained(output)
    (output / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    return scores
