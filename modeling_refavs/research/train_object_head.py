"""The object head alone, on clips of a library's photographs and recordings: every part before it
is frozen and sees each clip once, and of each scene more is said than a data set would hold."""

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import (
    AutoModelForAudioClassification,
    AutoModelForImageClassification,
    Trainer,
)
from transformers.trainer_utils import get_last_checkpoint

from dataset_script.schema import NUM_FRAMES
from dataset_script.synthetic.appearance import appearance_of
from dataset_script.synthetic.clips import SynthesisOptions, SyntheticClip, make_clip, split_of
from dataset_script.synthetic.conditions import World
from dataset_script.synthetic.scene import Scene
from dataset_script.synthetic.sentences import Expression, as_null, find_expressions
from dataset_script.synthetic.sounds import SAMPLE_RATE

from ..configuration_refavs import RefAVSConfig
from ..modeling_refavs import RefAVSForSegmentation
from ..object_head_refavs import (
    RefAVSLikenesses,
    RefAVSMeaning,
    RefAVSObjectHead,
    RefAVSObjects,
    compare,
    hear,
    object_criterion,
    remember,
    share,
)
from ..processing_refavs import RefAVSProcessor
from ..training.class_names import (
    FRAME_DEVIATION,
    NOT_VERBS,
    embed_names,
    fit_linear,
    fit_makers,
    fit_verbs,
    mix_names,
    read_nouns,
    spread,
)
from ..utils.files import whole_file
from .pretrain_decoders import around, degrade, training_arguments
from .train_clip_head import find_candidates, fit_clip_head, score_clips


PIXELS = 320  # height and width of a clip as it is drawn
CROPPED, PART = 0.6, (0.4, 1.0)  # share of clips that are parts of a picture, and of its side
TRUTH = 96  # of the masks that queries are compared with
# Of the grounding logits 0.3, by `val`: without them the choice is right in 0.67, with 0.3 in 0.68
GROUNDING_CONFIG = {
    "object_head_size": 96,
    "object_score_bias": 0.0,
    "grounding_weight": 0.3,
    "refine_masks": True,
}
NULL_SHARE = 0.2  # of the clips, those whose sentences refer to nothing
OTHERS = 1000  # clips whose sentences are tried as null references, of each clip those of some
BORROWED = 3
SENTENCES, STEPS = 4, 4  # of a clip at a time
MORE_NULLS = 0.07  # of a clip's sentences, those of other clips that mean nothing in it
OTHER_SOUND = 0.15  # of the clips drawn, those that are heard with a recording of another
NOT_SHOWN = 0.25  # of these, those with a recording of a kind that the clip does not show
SWAPPED = 0.7  # of sentences, those read with the words of another of their form
FOLDS = 4  # of kinds: what is seen and heard is projected by maps fitted without its kind
NAMES = {"thing", "thing in the video", "thing to find", "group"}  # forms that only name a kind
SOUNDING = "sounding"  # the form that asks what sounds, whatever it is
SOUNDS = 0.3  # s of a second in which an object sounds alone, from which F'_A is fitted
WHITENED = 0.1  # of the mean variance of an axis, added to that of each
FITTED_IOU = 0.6  # of a query with the object that it is taken for in that fit
SAME_IOU = 0.3  # of a query with the object whose fold it is of
FITTED_STEPS = slice(0, None, 3)
CLIP = "clip"  # what the clip head is called among the parts that are learned
OF_WORDS = {"text_features": 1, "text_mask": 1, "word_sound": 1, "word_makes": 1}
OF_WORDS |= {"names": 2, "words": 2}
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
            "sounding": sounding_seconds(clip.scene),
            "kinds": [item.category for item in clip.scene.objects],
            "said": list(self._say(clip, index)),
        }

    @cached_property
    def others(self) -> list[tuple[Expression, ...]]:
        """What is said of some of the clips, to be tried as null references of another."""
        return [make_clip(self.options, number).expressions for number in self.numbers[:OTHERS]]

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
        for other in rng.choice(len(self.others), BORROWED):
            nulls = (as_null(world, one) for one in self.others[other])
            said += [null for null in nulls if null is not None]
        for one in {one.text: one for one in said}.values():
            yield Said(" ".join(one.text.split()), -1 if one.fid is None else one.fid, form_of(one))


def sounding_seconds(scene: Scene) -> np.ndarray:
    """`(10, objects)`, how much of each second an object sounds, s."""
    seconds = np.zeros((NUM_FRAMES, len(scene.objects)), dtype=np.float32)
    for row, item in enumerate(scene.objects):
        for start, end in item.sound.intervals if item.sound else ():
            for step in range(NUM_FRAMES):
                seconds[step, row] += max(0.0, min(end, step + 1) - max(start, step))
    return seconds


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
        _ = self.clips.others  # once for all of them
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
    return {**arrays, "audible": clip["audible"], "sounding": clip["sounding"]}


@dataclass(frozen=True)
class Text:
    """What the model reads in a sentence, in float16: F_T `(L, C)`, F'_T `(L, D)`, which classes
    each token names `(L, classes)`, and which sounds some token is of `(sound_classes,)`, see
    [`RefAVSNamingHead`]."""

    words: torch.Tensor
    projected: torch.Tensor
    named: torch.Tensor
    sounds: torch.Tensor


@torch.no_grad()
def read_texts(
    model: RefAVSForSegmentation, processor: RefAVSProcessor, texts: set[str]
) -> dict[str, Text]:
    parts, read, ordered = model.base_model, {}, sorted(texts)
    for start in range(0, len(ordered), 64):
        part = ordered[start : start + 64]
        tokens = processor(part, return_tensors="pt")
        states, mask = parts.encode_text(tokens["input_ids"], tokens["attention_mask"])
        projected, named = parts.cue_projection.project_text(states), parts.naming.name(states)
        sounds = parts.naming.read_verbs(states, mask)
        for text, real, of, *rows in zip(part, mask, sounds, states, projected, named, strict=True):
            read[text] = Text(*(row[real].half() for row in rows), of.half())
    return read


class ObjectQuestions(Dataset):
    """Sentences asked of frames: item n, `SENTENCES` of a clip at `STEPS` of its steps, follows
    from `(seed, n)`.

    Args:
        clips: as [`EncodedClips`] reads them, with what [`ObjectProjections.add_to`] adds.
        texts: all that is said of them.
        length: of the training.
        sounds: seconds in which an object of a kind sounds alone, see
            [`ObjectProjections.project_sounds`].
    """

    def __init__(
        self,
        clips: list[dict[str, Any]],
        texts: dict[str, Text],
        length: int,
        seed: int,
        swapped: float = SWAPPED,
        sounds: dict[str, tuple[torch.Tensor, ...]] | None = None,
    ):
        self.clips, self.texts, self.sounds = clips, texts, sounds or {}
        self.length, self.seed, self.swapped = length, seed, swapped
        said = [one for clip in clips for one in clip["said"]]
        alike = defaultdict(set)
        for one in said:
            alike[self._likeness(one)].add(one.text)
        self.alike = {key: sorted(texts) for key, texts in alike.items()}
        self.about_sound = sorted({one.text for one in said if one.form == SOUNDING})

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.seed, index])
        number = int(rng.integers(len(self.clips)))
        steps = rng.permutation(NUM_FRAMES)[:STEPS]
        # of two things of a kind no ear can tell which sounds
        kinds = self.clips[number]["kinds"]
        sounds = [kind for kind in self.sounds if kinds.count(kind) < 2]
        if sounds and self.about_sound and rng.random() < OTHER_SOUND:
            return self._ask_of_another_sound(number, sounds, steps, rng)
        said = self.clips[number]["said"]
        own, nulls = ([one for one in said if (one.row < 0) == null] for null in (False, True))
        asked = []
        for _ in range(SENTENCES):
            group = nulls if nulls and (not own or rng.random() < MORE_NULLS) else own
            asked.append(group[rng.integers(len(group))])
        return self.ask(number, asked, steps, rng)

    def _ask_of_another_sound(
        self, number: int, sounds: list[str], steps: np.ndarray, rng: np.random.Generator
    ) -> dict[str, torch.Tensor]:
        """What sounds, with any thing that is shown in its turn: in a clip some are silent all the
        time, and what could be guessed from that is not so elsewhere."""
        kinds = self.clips[number]["kinds"]
        alone = [kind for kind in sounds if kind in kinds]
        others = [kind for kind in sounds if kind not in kinds]
        if others and (not alone or rng.random() < NOT_SHOWN):
            row, kind = -1, others[rng.integers(len(others))]
        else:
            kind = alone[rng.integers(len(alone))]
            row = kinds.index(kind)
        texts = rng.choice(self.about_sound, SENTENCES)
        audio = self.sounds[kind][0]
        seconds = rng.integers(len(audio), size=len(steps))
        sound = tuple(part[seconds] for part in self.sounds[kind])
        return self.ask(
            number, [Said(str(text), row, SOUNDING) for text in texts], steps, rng, sound
        )

    def ask(
        self,
        number: int,
        asked: list[Said],
        steps: np.ndarray,
        rng: np.random.Generator,
        sound: tuple[torch.Tensor, ...] | None = None,
        is_silent: bool = False,
    ) -> dict[str, torch.Tensor]:
        """Rows of all sentences at all steps; with `sound`, F'_A `(steps, D)`, what makes it
        `(steps, classes)` and what is heard `(steps, sound_classes)`, or without any, each step as
        if it was the first of a clip."""
        clip, texts = self.clips[number], [self.texts[one.text] for one in asked]

        def rows(array: np.ndarray | torch.Tensor) -> torch.Tensor:
            chosen = torch.as_tensor(array[steps])
            return chosen.repeat(len(asked), *[1] * (chosen.dim() - 1)).float()

        def read(tokens: list[torch.Tensor]) -> torch.Tensor:
            padded = nn.utils.rnn.pad_sequence(tokens, True)
            return padded.float().repeat_interleave(len(steps), dim=0)

        mask = read([torch.ones(len(text.words)) for text in texts]) > 0
        history = rows(clip["history"])
        classes, facts, overlaps = (rows(clip[name]) for name in ("classes", "facts", "overlaps"))
        shared = share(RefAVSObjects(facts[..., :0], facts, overlaps), classes)
        visual = rows(clip["visual"])
        heard = [rows(clip[name]) for name in ("audio", "makers", "audible", "heard")]
        heard = RefAVSMeaning(heard[0], heard[1], heard[2] > 0, heard[3])
        if is_silent:
            history, heard.mask = torch.zeros_like(history), torch.zeros_like(heard.mask)
        if sound is not None:
            audio, makers, sounds = (part.float().repeat(len(asked), 1) for part in sound)
            heard = RefAVSMeaning(audio, makers, torch.ones_like(heard.mask), sounds)
            size = heard.projected.shape[1] + heard.classes.shape[1] + 1
            start = history.new_zeros(len(history), 2, size)
            near, _ = hear(RefAVSMeaning(visual, shared), heard, start)
            history = torch.cat([torch.zeros_like(history[..., : -near.shape[-1]]), near], dim=-1)
        projected, named = (
            read([getattr(text, part) for text in texts]) for part in ("projected", "named")
        )
        sounds = torch.stack([text.sounds for text in texts]).float()
        words = RefAVSMeaning(projected, named, mask, sounds.repeat_interleave(len(steps), dim=0))
        likenesses = compare(RefAVSMeaning(visual, classes), shared, words, heard)
        iou = torch.from_numpy(clip["iou"][steps].astype(np.float32))
        nothing = torch.full_like(iou[..., 0], -1.0)
        iou = torch.cat([iou[..., one.row] if one.row >= 0 else nothing for one in asked])
        return {
            "facts": facts,
            "overlaps": overlaps,
            "history": history,
            **vars(likenesses),
            "text_features": read([self.texts[self._swap(one, rng)].words for one in asked]),
            "text_mask": mask,
            "audio": heard.projected,
            "audible": heard.mask,
            "iou": iou.clamp(min=0),
            "in_view": iou[:, 0] >= 0,
        }

    def _likeness(self, one: Said) -> tuple[str, int]:
        return one.form, len(self.texts[one.text].words)

    def _swap(self, one: Said, rng: np.random.Generator) -> str:
        """Another sentence of as many tokens that asks the same of something else: what is named
        shall be known by likeness alone."""
        if rng.random() >= self.swapped:
            return one.text
        alike = self.alike[self._likeness(one)]
        return alike[rng.integers(len(alike))]


def collate(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Rows after rows; sentences are padded to the longest."""
    longest = max(item["text_mask"].shape[1] for item in items)

    def pad(name: str, rows: torch.Tensor) -> torch.Tensor:
        if name not in OF_WORDS:
            return rows
        after = (0, 0) * (rows.dim() - 1 - OF_WORDS[name])
        return nn.functional.pad(rows, (*after, 0, longest - rows.shape[OF_WORDS[name]]))

    return {name: torch.cat([pad(name, item[name]) for item in items]) for name in items[0]}


class ObjectHeadTraining(nn.Module):
    """The head behind a loss."""

    def __init__(self, head: RefAVSObjectHead):
        super().__init__()
        self.head = head
        for fitted in (head.visual, head.audio, head.whitening):
            fitted.requires_grad_(False)

    def forward(
        self,
        facts: torch.Tensor,
        overlaps: torch.Tensor,
        history: torch.Tensor,
        text_features: torch.Tensor,
        text_mask: torch.Tensor,
        audio: torch.Tensor,
        audible: torch.Tensor,
        iou: torch.Tensor,
        in_view: torch.Tensor,
        **likenesses: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Of [`ObjectQuestions`] to `loss` and `logits (rows, num_queries + 1)`."""
        objects = RefAVSObjects(facts[..., :0], facts, overlaps)  # it reads no features
        likenesses = RefAVSLikenesses(**likenesses)
        read = (text_features, text_mask)
        logits, seen = self.head(objects, history, likenesses, *read, audio, audible)
        loss = object_criterion(logits, iou, in_view)
        return {"loss": loss, "logits": logits, "seen": seen}


class ObjectProjections:
    """F'_V and F'_A for the head, fitted as in [`start_from_class_names`] to more clips: F'_V to
    what names say of an object that is seen, F'_A to what they say of one that sounds alone. There
    is one of each for all kinds, and one without the kinds of each fold: the head would learn to
    trust maps that know a kind more than it may elsewhere.

    Args:
        classifier: folder of the image classifier that the model's `projection_init` was made with.
        clips: to learn from.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: RefAVSForSegmentation,
        processor: RefAVSProcessor,
        classifier: str,
        clips: list[dict[str, Any]],
        texts: dict[str, Text],
    ):
        self.parts = model.base_model
        projection, naming = self.parts.cue_projection, self.parts.naming
        kinds = sorted({kind for clip in clips for kind in clip["kinds"]})
        self.fold_of = {kind: number % FOLDS for number, kind in enumerate(kinds)}
        meanings = self._read_kinds(clips, texts)
        seen = self._gather(self._find_seen(clips), meanings)
        heard = self._gather(self._find_alone(clips), meanings)
        if not len(seen[0]):
            raise ValueError(
                "no mask of the model shows an object of these clips: train its decoders"
            )
        names = AutoModelForImageClassification.from_pretrained(classifier).config.id2label.values()
        names = embed_names(self.parts.text_encoder, processor, list(names))
        shown = np.concatenate(
            [clip["shown"].reshape(-1, clip["shown"].shape[-1]) for clip in clips]
        )
        shown = torch.from_numpy(spread(shown)).float()
        mixed = torch.cat([mix_names(naming.classify(part), names) for part in shown.split(2048)])
        more = shown, projection.project_text(mixed)
        self.visual = self._fit(projection.visual, seen, more, FRAME_DEVIATION)
        more = heard[0], projection.audio(heard[0])
        self.audio = self._fit(projection.audio, heard, more, 1.0)

    def _read_kinds(
        self, clips: list[dict[str, Any]], texts: dict[str, Text]
    ) -> dict[str, torch.Tensor]:
        """F'_T of what names each kind, the mean of all."""
        said = defaultdict(list)
        for clip in clips:
            for one in clip["said"]:
                if one.row >= 0 and one.form in NAMES:
                    said[clip["kinds"][one.row]].append(texts[one.text].projected.float().mean(0))
        return {kind: torch.stack(meanings).mean(0) for kind, meanings in said.items()}

    @torch.no_grad()
    def project_sounds(self, clips: list[dict[str, Any]]) -> dict[str, tuple[torch.Tensor, ...]]:
        """Of the seconds in which each kind sounds alone F'_A, without its kind, what makes them
        and what is heard: `(n, D)`, `(n, classes)` and `(n, sound_classes)`."""
        sounds = defaultdict(list)
        for kind, rows in self._find_alone(clips):
            if len(rows):
                heard, naming = torch.from_numpy(rows).float(), self.parts.naming
                projected = self.audio[self.fold_of[kind]](heard)
                found = projected, naming.find_makers(heard), naming.hear(heard)
                sounds[kind].append([part.half() for part in found])
        return {
            kind: tuple(torch.cat(parts) for parts in zip(*seconds, strict=True))
            for kind, seconds in sorted(sounds.items())
        }

    def _find_seen(self, clips: list[dict[str, Any]]) -> list[tuple[str, np.ndarray]]:
        """F_V of objects under the masks that show them, with their kinds."""
        found = []
        for clip in clips:
            shown = clip["shown"][FITTED_STEPS]
            for row, kind in enumerate(clip["kinds"]):
                iou = clip["iou"][FITTED_STEPS, :, row]
                fits = np.flatnonzero(iou.max(1) > FITTED_IOU)
                found.append((kind, shown[fits, iou.argmax(1)[fits]]))
        return found

    def _find_alone(self, clips: list[dict[str, Any]]) -> list[tuple[str, np.ndarray]]:
        """F_A of the seconds in which an object sounds alone, with its kind."""
        found = []
        for clip in clips:
            for row, kind in enumerate(clip["kinds"]):
                others = np.delete(clip["sounding"], row, axis=1).sum(1)
                alone = (clip["sounding"][:, row] > SOUNDS) & (others == 0) & clip["audible"]
                found.append((kind, clip["audio_features"][alone]))
        return found

    def _gather(
        self, features: list[tuple[str, np.ndarray]], meanings: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features, what they mean, and their folds."""
        features = [(kind, rows) for kind, rows in features if kind in meanings]
        targets = [meanings[kind].expand(len(rows), -1) for kind, rows in features]
        folds = [torch.full((len(rows),), self.fold_of[kind]) for kind, rows in features]
        rows = np.concatenate([rows for _, rows in features])
        return torch.from_numpy(rows).float(), torch.cat(targets), torch.cat(folds)

    def _fit(
        self,
        like: nn.Linear,
        found: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        more: tuple[torch.Tensor, torch.Tensor],
        deviation: float,
    ) -> list[nn.Linear]:
        """One for each fold and one for all kinds; `like` itself where there are no two kinds."""
        features, targets, folds = found
        maps = []
        for fold in range(FOLDS + 1):
            others = folds != fold
            maps.append(like)
            if len(targets[others].unique(dim=0)) > 1:
                maps[-1] = nn.Linear(like.in_features, like.out_features)
                parts = [(features[others], targets[others]), more]
                fit_linear(maps[-1], parts, deviation)
        return maps

    @torch.no_grad()
    def add_to(self, clip: dict[str, Any], number: int | None = None) -> None:
        """What [`remember`] and [`compare`] read, `visual (10, num_queries, D)`, `classes (10,
        num_queries, classes)`, `audio (10, D)`, `makers (10, classes)` and `heard (10,
        sound_classes)`, and what is remembered, `history (10, num_queries, 14)`, in place of the
        features. With `number`, that of a clip of the training, what is seen and heard is projected
        without its kind."""
        shown = torch.from_numpy(clip.pop("shown")).float()
        heard = torch.from_numpy(clip.pop("audio_features")).float()
        naming = self.parts.naming
        classes, makers = naming.classify(shown), naming.find_makers(heard)
        visual, audio = self.visual[-1](shown), self.audio[-1](heard)
        if number is not None:
            folds = torch.tensor([self.fold_of[kind] for kind in clip["kinds"]])
            iou = torch.from_numpy(clip["iou"]).float()
            own = torch.where(iou.amax(-1) > SAME_IOU, folds[iou.argmax(-1)], number % FOLDS)
            visual = torch.stack([fold(shown) for fold in self.visual[:-1]])
            visual = visual.take_along_dim(own[None, ..., None], 0)[0]
            loudest, sounds = clip["sounding"].sum(0).argmax(), clip["sounding"].any()
            audio = self.audio[int(folds[loudest]) if sounds else number % FOLDS](heard)
        facts, overlaps = (torch.from_numpy(clip[name]).float() for name in ("facts", "overlaps"))
        objects = RefAVSMeaning(visual, share(RefAVSObjects(shown, facts, overlaps), classes))
        sound = RefAVSMeaning(audio, makers, torch.from_numpy(clip["audible"]))
        every_step = torch.ones(1, len(shown), dtype=torch.bool)
        history, _ = remember(facts, objects, sound, every_step)
        clip |= {
            "visual": visual.half(),
            "classes": classes.half(),
            "audio": audio.half(),
            "makers": makers.half(),
            "heard": naming.hear(heard).half(),
            "history": history.half(),
        }

    @torch.no_grad()
    def give_to(self, head: RefAVSObjectHead) -> None:
        """What it adds to the model's own."""
        for part, own, maps in self._pair_with(head):
            part.weight.copy_(maps[-1].weight - own.weight)
            part.bias.copy_(maps[-1].bias - own.bias)

    @torch.no_grad()
    def take_from(self, head: RefAVSObjectHead) -> None:
        """What it has learned to add to the model's own is that of all kinds."""
        for part, own, maps in self._pair_with(head):
            maps[-1] = nn.Linear(own.in_features, own.out_features)
            maps[-1].weight.copy_(part.weight + own.weight)
            maps[-1].bias.copy_(part.bias + own.bias)

    def _pair_with(
        self, head: RefAVSObjectHead
    ) -> list[tuple[nn.Linear, nn.Linear, list[nn.Linear]]]:
        own = self.parts.cue_projection
        return [(head.visual, own.visual, self.visual), (head.audio, own.audio, self.audio)]


@torch.no_grad()
def fit_whitening(layer: nn.Linear, texts: list[Text]) -> None:
    """Tokens to mean 0 and, on all their axes but the least, deviation 1."""
    tokens = torch.cat([text.words for text in texts]).double()
    middle = tokens.mean(0)
    values, axes = torch.linalg.eigh((tokens - middle).T @ (tokens - middle) / len(tokens))
    weight = (axes * (values + WHITENED * values.mean()).rsqrt()) @ axes.T
    layer.weight.copy_(weight)
    layer.bias.copy_(-weight @ middle)


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
    sound_classifier: str,
    library: str,
    output: Path,
    clips: int = 2656,
    steps: int = 1300,
    batch_size: int = 12,
    learning_rate: float = 1e-3,
    seed: int = 28,
    learned: Sequence[str] = (),
) -> dict[str, float]:
    """Train, or go on with a training that was stopped, and save the model with its object head.
    Returns its scores on clips of the validation split.

    Args:
        model: folder of a model whose CATF changes no query; an object head that it has is trained
            further.
        classifier, sound_classifier: folders of the classifiers of pictures and of sounds that its
            `projection_init` was made with.
        library: that the photographs and recordings are of.
        clips: to learn from; what the model makes of one takes 0.4 MB in `output/run`.
        learned: parts of a head that the model has, such as `asked`; the others stay as they are.
            Without any all of it is trained. The clip head is trained last in any case; `clip`
            alone trains nothing else.

    Raises:
        ValueError: the model's queries follow what is asked, or it has no such part.
    """
    torch.manual_seed(seed)
    if learned and not RefAVSConfig.from_pretrained(model).has_object_head:
        raise ValueError(f"{model}: has no object head of which parts could be learned")
    processor = RefAVSProcessor.from_pretrained(model)
    hearing = AutoModelForAudioClassification.from_pretrained(sound_classifier)
    names = read_nouns(classifier, "class_names.json")
    makers = read_nouns(sound_classifier, "class_makers.json")
    grounding = {**GROUNDING_CONFIG, "sound_classes": hearing.config.num_labels}
    loaded = RefAVSForSegmentation.from_pretrained(model, strict=False, grounding_config=grounding)
    if loaded.model.catf.changes_queries:
        raise ValueError(f"{model}: its queries follow what is asked, since its CATF is trained")
    head, parts = loaded.object_predictor, dict(loaded.object_predictor.named_children())
    parts[CLIP] = loaded.clip_predictor
    if unknown := set(learned) - set(parts):
        raise ValueError(
            f"learned: the object head has no {', '.join(sorted(unknown))}, but {', '.join(parts)}"
        )
    naming, verbs = loaded.base_model.naming, read_nouns(sound_classifier, "class_verbs.json")
    fit_makers(naming, hearing.classifier, makers, names)
    nouns = list(read_nouns(classifier, "near_names.json"))[::NOT_VERBS]
    fit_verbs(naming, verbs, nouns, loaded.base_model.text_encoder, processor)
    appearance_of(library)  # a bad library is refused at once
    arguments = training_arguments(
        output,
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        label_names=["iou"],
        warmup_steps=50,
        weight_decay=0.02,
        max_grad_norm=1.0,
        logging_steps=50,
        save_steps=250,
    )
    loaded, sets = loaded.eval(), []
    for split, length in (("train", clips), ("val", SCORED)):
        drawn = DrawnClips(library, split, length, seed, processor)
        sets.append(EncodedClips(drawn, loaded, output / "run" / split))
        sets[-1].make()
    seen, scored = (encoded.read() for encoded in sets)
    said = [{one.text for clip in clips for one in clip["said"]} for clips in (seen, scored)]
    texts = read_texts(loaded, processor, set.union(*said))
    projections = ObjectProjections(loaded, processor, classifier, seen, texts)
    if learned:
        projections.take_from(head)
    else:
        projections.give_to(head)
    if not learned or "asked" in learned:
        fit_whitening(head.whitening, [texts[text] for text in sorted(said[0])])
    sounds = projections.project_sounds(seen)
    for number, clip in enumerate(seen):
        projections.add_to(clip, number)
    questions = ObjectQuestions(seen, texts, steps * batch_size, seed, sounds=sounds)
    training = ObjectHeadTraining(head)
    if learned:
        head.requires_grad_(False)
        for name in learned:
            parts[name].requires_grad_(True)
    if set(learned) != {CLIP}:
        trainer = Trainer(training, arguments, collate, train_dataset=questions)
        trainer.train(resume_from_checkpoint=get_last_checkpoint(str(output / "run")))
    head.requires_grad_(False)
    seen = sets[0].read()  # as the model sees them, each kind with its own
    for clip in (*seen, *scored):
        projections.add_to(clip)
    asked, scored = (
        ObjectQuestions(clips, texts, 0, seed, swapped=0.0) for clips in (seen, scored)
    )
    find = partial(find_candidates, training, gates=loaded.base_model.alignment.gates, names=NAMES)
    fit_clip_head(loaded.clip_predictor, find(asked), seed)
    scores = score(training, scored) | score_clips(loaded.clip_predictor, find(scored))
    loaded.save_pretrained(output)
    processor.save_pretrained(output)
    (output / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    return scores
