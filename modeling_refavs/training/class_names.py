"""A shared start: F'_V, F'_A and F'_T begin as maps into one space, that of the text encoder.

Classifiers of pictures and of sounds know their classes by name. What one makes of a
feature, a mixture of its ten likeliest classes, becomes one of those names' embeddings (ConSE,
Norouzi et al., ICLR 2014); F'_V and F'_A start as the linear maps that come nearest to it (ridge
regression), F'_V also to what sentences say of the objects in training, and F'_T as the projection
on the main axes of names and sentences. So a name that is never read in training still means
something.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import (
    AutoModelForAudioClassification,
    AutoModelForImageClassification,
    PreTrainedModel,
)
from transformers.optimization import get_cosine_schedule_with_warmup
from transformers.utils import cached_file

from ..grounding_refavs import RefAVSNamingHead
from ..processing_refavs import RefAVSProcessor
from .cache import PreparedSplit


NUM_CLASSES = 10  # that a mixture is of
RIDGE = 10.0  # in units of a feature's variance: a weaker one pointed worse at names never read
FRAME_DEVIATION = 2.0  # of F'_V, to which positions of deviation 0.7 are added
OBJECT_STEPS = slice(0, None, 3)  # of a clip, in which its objects are looked at
FORMS = (  # what may be said of a noun
    "{}",
    "The {}.",
    "the {} that is making a sound",
    "The {} on the left.",
    "the {} that moves",
    "a photo of a {}",
    "Find the {}.",
    "Where is the {}?",
    "the {} in the video",
    "The sounding {}.",
    "The biggest {}.",
    "The object to the right of the {}.",
    "Show me the {}.",
    "the {} here",
)
VERB_FORMS = (  # and of what does so
    "{}",
    "The {} one.",
    "the one that is {}",
    "what is {}",
    "who is {}",
    "the {} thing",
    "the thing that is {}",
    "Find what is {}.",
)
TRUE_FORMS, NEAR_FORMS = 6, 2  # of a noun that is true of a class, and of one that is near it
# what may stand before a noun, in the first of three texts, and changes nothing of what it names
MODIFIERS = (
    "big black coffee glass happy kitchen metal my old other red toy white wild wooden young"
)
NEARNESS = 0.7  # of each step from a noun to the wider one that is true
NAMING_EPOCHS, NAMING_STEPS = 24, 1000  # of all nouns, and at least
NAMING_BATCH, NAMING_RATE = 256, 2e-3
VERBS_STEPS, NOT_VERBS = 1500, 8  # every eighth noun is said to be of no sound
BLUR = 0.3  # of a token's deviation
RARE = -6.0  # the logit from which it learns that a word names a class
ROWS = 60_000  # features that a map is fitted to, at most
AT_ONCE, NAMES_AT_ONCE = 2048, 256  # rows, names


@torch.no_grad()
def embed_names(
    encoder: PreTrainedModel, processor: RefAVSProcessor, names: Sequence[str]
) -> torch.Tensor:
    """`(names, D)`: the mean of each name's F_T. Of several synonyms with commas, the first."""
    names = [name.partition(",")[0].replace("_", " ") for name in names]
    return torch.stack(
        [tokens.float().mean(0) for tokens in read_tokens(encoder, processor, names)]
    )


@torch.no_grad()
def mix_names(probabilities: torch.Tensor, names: torch.Tensor) -> torch.Tensor:
    """ConSE: `(N, classes)` and `(classes, D)` -> `(N, D)`, the mean of the likeliest classes'
    names, weighted by their probabilities."""
    likely = probabilities.topk(min(NUM_CLASSES, probabilities.shape[1]))
    weights = likely.values / likely.values.sum(1, keepdim=True).clamp(min=1e-9)
    return (weights[..., None] * names[likely.indices]).sum(1)


@torch.no_grad()
def fit_linear(
    layer: nn.Linear,
    parts: Sequence[tuple[torch.Tensor, torch.Tensor]],
    deviation: float = 1.0,
    ridge: float = RIDGE,
) -> float:
    """Set `layer` to the ridge regression of targets on features that are standardised, then to a
    mean square of `deviation ** 2`. Returns the squared correlation of what it gives with the
    targets.

    Args:
        parts: pairs of features `(N, C)` and targets `(N, D)`, each centred and of equal weight.
    """
    mean, spread = parts[0][0].mean(0).double(), parts[0][0].std(0).double().clamp(min=1e-3)
    gram, cross = 0.0, 0.0
    centred = []
    for features, targets in parts:
        x, y = (features.double() - mean) / spread, targets.double() - targets.double().mean(0)
        x = x - x.mean(0)
        centred.append((x, y))
        gram, cross = gram + x.T @ x / len(x), cross + x.T @ y / len(x) / y.square().mean().sqrt()
    gram += ridge * len(parts) * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram, cross)
    scale = deviation / torch.cat([x @ weight for x, _ in centred]).square().mean().sqrt()
    weight = scale * weight / spread[:, None]
    layer.weight.copy_(weight.T)
    layer.bias.copy_(-mean @ weight)
    found, wanted = centred[0][0] @ (weight * spread[:, None]), centred[0][1]
    return float((found * wanted).sum() ** 2 / (found.square().sum() * wanted.square().sum()))


def read_nouns(classifier: str, name: str) -> Any:
    """Of a classifier its nouns, from a file beside it: of each class what it is called,
    `class_names.json`, or, of a class of sounds, what makes it, `class_makers.json`; or, of other
    nouns, one of these that is true of them and how wide of them it is, `near_names.json`; or, of
    verbs, nouns of what does so, `sound_verbs.json`; or, of a class of sounds, verbs of what makes
    it, `class_verbs.json`.

    Raises:
        ValueError: there is none.
    """
    path = cached_file(classifier, name, _raise_exceptions_for_missing_entries=False)
    if path is None:
        raise ValueError(
            f"{classifier}: has no {name}, which `refavs parts fetch` writes into a new folder"
        )
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def fit_naming(
    head: RefAVSNamingHead,
    classifier: nn.Linear,
    class_names: Sequence[Sequence[str]],
    near_names: Mapping[str, tuple[str, int]],
    verbs: Mapping[str, Sequence[str]],
    encoder: PreTrainedModel,
    processor: RefAVSProcessor,
) -> None:
    """The classifier's weights, and what a word names: of each noun, in some of `FORMS`, the words
    together shall name the classes that it is true of, and less surely those of a wider noun; of
    each verb, those of what does so.

    Raises:
        ValueError: the classifier is of another size than the head.
    """
    sizes = [len(head.classifier.weight), len(classifier.weight), len(class_names)]
    if len(set(sizes)) > 1:
        raise ValueError(
            "grounding_config.vocabulary_size is {}, the classifier has {} classes and there are "
            "names of {}".format(*sizes)
        )
    head.classifier.load_state_dict(classifier.state_dict())
    words, true_of = find_true(class_names, near_names, verbs)
    rng = np.random.default_rng(0)
    rows, texts = say(words, near_names, verbs, rng)
    steps = max(NAMING_STEPS, NAMING_EPOCHS * len(texts) // NAMING_BATCH)
    learn_words(head.naming, read_tokens(encoder, processor, texts), true_of[rows], steps, rng)


def fit_verbs(
    head: RefAVSNamingHead,
    class_verbs: Sequence[Sequence[str]],
    nouns: Sequence[str],
    encoder: PreTrainedModel,
    processor: RefAVSProcessor,
) -> None:
    """Which sounds a word is of: those whose class has it among its verbs, and a noun of none."""
    verbs = sorted({verb for words in class_verbs for verb in words})
    row = {verb: number for number, verb in enumerate(verbs, len(nouns))}
    true_of = torch.zeros(len(nouns) + len(verbs), len(class_verbs))
    for column, words in enumerate(class_verbs):
        true_of[[row[verb] for verb in words], column] = 1
    rng = np.random.default_rng(0)
    rows, texts = say([*nouns, *verbs], {}, dict.fromkeys(verbs), rng)
    tokens = read_tokens(encoder, processor, texts)
    learn_words(head.verbs, tokens, true_of[rows], VERBS_STEPS, rng)


@torch.enable_grad()
def learn_words(
    head: nn.Sequential,
    tokens: Sequence[torch.Tensor],
    true_of: torch.Tensor,
    steps: int,
    rng: np.random.Generator,
) -> None:
    """To name with the words of a text together what is true of it.

    Args:
        tokens: F_T of each text, `(L, C)`.
        true_of: how surely each class is, `(texts, classes)`.
    """
    nn.init.constant_(head[-1].bias, RARE)
    head.requires_grad_(True)
    optimizer = torch.optim.AdamW(head.parameters(), NAMING_RATE, weight_decay=0.02)
    schedule = get_cosine_schedule_with_warmup(optimizer, 100, steps)
    for _ in range(steps):
        drawn = rng.integers(len(tokens), size=min(NAMING_BATCH, len(tokens)))
        states, wanted = [tokens[index].float() for index in drawn], true_of[drawn]
        named = head(blur(torch.cat(states)))
        # the logarithm of the probability that no word names a class, so that each word learns
        none = nn.functional.logsigmoid(-named).split([len(words) for words in states])
        none = torch.stack([words.sum(0) for words in none]).clamp(max=-1e-6)
        losses = -wanted * torch.log(-torch.expm1(none)) - (1 - wanted) * none
        # a noun that is true of many classes shall not count for as much more
        losses = losses / (1 + wanted.sum(1, keepdim=True)).sqrt()
        optimizer.zero_grad()
        (losses.sum() / len(drawn)).backward()
        optimizer.step()
        schedule.step()
    head.requires_grad_(False)


def say(
    words: Sequence[str],
    near_names: Mapping[str, Any],
    verbs: Mapping[str, Any],
    rng: np.random.Generator,
) -> tuple[torch.Tensor, list[str]]:
    """Texts of one noun or verb each, and its place among `words`, of which verbs are the last."""
    rows, texts, modifiers = [], [], MODIFIERS.split()
    first_verb = len(words) - len(verbs)
    for row, noun in enumerate(words[:first_verb]):
        count = NEAR_FORMS if noun in near_names else TRUE_FORMS
        for number, form in enumerate(rng.permutation(len(FORMS))[:count]):
            before = "" if number % 3 else f"{rng.choice(modifiers)} "
            texts.append(FORMS[form].format(before + noun))
            rows.append(row)
    for row, verb in enumerate(verbs, first_verb):
        texts += [form.format(verb) for form in VERB_FORMS]
        rows += [row] * len(VERB_FORMS)
    return torch.tensor(rows), texts


def blur(tokens: torch.Tensor) -> torch.Tensor:
    """With noise, so that words which are alike name much the same."""
    return tokens + BLUR * tokens.std() * torch.randn_like(tokens)


def find_true(
    class_names: Sequence[Sequence[str]],
    near_names: Mapping[str, tuple[str, int]],
    verbs: Mapping[str, Sequence[str]],
) -> tuple[list[str], torch.Tensor]:
    """All nouns and verbs, and how surely each is true of each class, `(words, classes)` in
    [0, 1]."""
    named = sorted({name.lower() for names in class_names for name in names})
    row = {noun: index for index, noun in enumerate(named)}
    true_of = torch.zeros(len(named), len(class_names))
    for column, names in enumerate(class_names):
        true_of[[row[name.lower()] for name in names], column] = 1
    near = [NEARNESS**steps * true_of[row[wider.lower()]] for wider, steps in near_names.values()]
    true_of = torch.stack([*true_of, *near])
    row |= {noun: index for index, noun in enumerate(near_names, len(row))}
    does = [true_of[[row[noun] for noun in nouns]].amax(0) for nouns in verbs.values()]
    return [*named, *near_names, *verbs], torch.stack([*true_of, *does])


@torch.no_grad()
def read_tokens(
    encoder: PreTrainedModel, processor: RefAVSProcessor, texts: Sequence[str]
) -> list[torch.Tensor]:
    """F_T of each text, `(L, C)` in float16."""
    read = []
    for start in range(0, len(texts), NAMES_AT_ONCE):
        tokens = processor.tokenize(list(texts[start : start + NAMES_AT_ONCE]))
        ids, mask = (torch.from_numpy(tokens[key]) for key in ("input_ids", "attention_mask"))
        states = encoder(ids, attention_mask=mask).last_hidden_state.half()
        read += [row[real > 0] for row, real in zip(states, mask, strict=True)]
    return read


@torch.no_grad()
def fit_makers(
    head: RefAVSNamingHead,
    classifier: nn.Linear,
    class_makers: Sequence[Sequence[str]],
    class_names: Sequence[Sequence[str]],
) -> None:
    """The classifier of sounds, and which classes of pictures bear a noun of what makes each sound:
    the fewer they are, the more each counts.

    Raises:
        ValueError: one of them is of another size than the head.
    """
    found = len(class_makers), len(class_names), len(classifier.weight)
    if found != (head.makers.in_features, head.makers.out_features, head.makers.in_features):
        raise ValueError(
            f"grounding_config.sound_classes is {head.makers.in_features} and vocabulary_size "
            f"{head.makers.out_features}, there are makers of {found[0]} sounds, names of "
            f"{found[1]} classes, and the classifier of sounds has {found[2]}"
        )
    head.sounds.load_state_dict(classifier.state_dict())
    named = [{noun.lower() for noun in nouns} for nouns in class_names]
    for sound, nouns in enumerate(class_makers):
        wanted = {noun.lower() for noun in nouns}
        makes = torch.tensor([bool(wanted & nouns) for nouns in named]).float()
        head.makers.weight[:, sound] = makes / makes.sum().clamp(min=1)


def spread(array: np.ndarray, rows: int = ROWS) -> np.ndarray:
    """At most so many rows, evenly spread."""
    return array[np.linspace(0, len(array) - 1, min(rows, len(array))).astype(int)]


@torch.no_grad()
def classify(
    head: Callable[[torch.Tensor], torch.Tensor], features: torch.Tensor, names: torch.Tensor
) -> torch.Tensor:
    """The mixture of names for each row of `features`; `head` gives class probabilities."""
    return torch.cat([mix_names(head(part), names) for part in features.split(AT_ONCE)])


def find_objects(split: PreparedSplit) -> tuple[torch.Tensor, torch.Tensor]:
    """What the objects of a split look like and what is said of them: F_V `(N, C)`, the mean over
    the tokens that one covers, weighted by the squares of its cover, and `(N, D)`, the mean of a
    sentence's F_T."""
    size, (height, width) = split.mask_size, split.frame_features.shape[-2:]
    features, sentences = [], []
    for index, clip in enumerate(split.clips):
        said: dict[int, set[str]] = {}
        for sentence in clip.sentences:
            if not sentence.is_null:
                said.setdefault(sentence.mask_row, set()).add(sentence.text)
        maps = torch.from_numpy(split.frame_features[index, OBJECT_STEPS].astype(np.float32))
        for row, texts in said.items():
            bits = np.unpackbits(split.masks[row][OBJECT_STEPS], axis=-1, count=size * size)
            masks = torch.from_numpy(bits).float().unflatten(-1, (1, size, size))
            cover = nn.functional.adaptive_avg_pool2d(masks, (height, width)).square()
            total = cover.sum((1, 2, 3))
            seen = total > 0
            means = (maps * cover).sum((2, 3))[seen] / total[seen, None]
            for text in sorted(texts):
                first, last = split.text_spans[text]
                states = torch.from_numpy(np.array(split.text["text_features"][first:last])).float()
                features.append(means)
                sentences.append(states.mean(0).expand(len(means), -1))
    return torch.cat(features), torch.cat(sentences)


@torch.no_grad()
def start_from_class_names(
    model: PreTrainedModel,
    processor: RefAVSProcessor,
    image_classifier: str,
    audio_classifier: str,
    split: PreparedSplit,
) -> dict[str, float]:
    """Fit the three projections. Returns the squared correlation of each with its targets.

    Args:
        model, processor: with the encoders that the classifiers stand on.
        image_classifier, audio_classifier: folders or Hub ids of
            [`RefAVSEfficientNetLiteForImageClassification`] and
            [`RefAVSYamnetForAudioClassification`].
        split: with F_V, F_A and F_T.

    Raises:
        ValueError: a classifier reads other features than the model's.
    """
    parts, projection = model.base_model, model.base_model.cue_projection
    seeing = AutoModelForImageClassification.from_pretrained(image_classifier).eval()
    hearing = AutoModelForAudioClassification.from_pretrained(audio_classifier).eval()
    frame_features, audio_features = split.frame_features, split.sound["audio_features"]
    maps = spread(frame_features.reshape(-1, *frame_features.shape[2:]), 1500)
    seen = torch.from_numpy(maps.astype(np.float32)).flatten(2).transpose(1, 2).flatten(0, 1)
    seen = torch.from_numpy(spread(seen.numpy()))
    heard = torch.from_numpy(spread(audio_features.reshape(-1, audio_features.shape[-1])))
    heard = heard.float()
    for what, classifier, features in (("frames", seeing, seen), ("sound", hearing, heard)):
        if features.shape[1] != classifier.classifier.in_features:
            raise ValueError(
                f"projection_init: the classifier of {what} reads "
                f"{classifier.classifier.in_features} features, and the model has "
                f"{features.shape[1]}"
            )
    pictures, sounds = (
        embed_names(parts.text_encoder, processor, list(classifier.config.id2label.values()))
        for classifier in (seeing, hearing)
    )
    objects, sentences = find_objects(split)
    names, middle = torch.cat([pictures, sounds]), sentences.mean(0)
    axes, explained = main_axes([names, sentences], projection.text.out_features)
    scale = 1 / ((sentences - middle) @ axes).square().mean().sqrt()
    projection.text.weight.copy_((scale * axes).T)
    projection.text.bias.copy_(-scale * middle @ axes)
    mixed = classify(lambda rows: seeing.classifier(rows).softmax(-1), seen, pictures)
    heard_names = classify(lambda rows: hearing.classifier(rows).sigmoid(), heard, sounds)
    if parts.naming is not None:
        names_of = read_nouns(image_classifier, "class_names.json")
        near = read_nouns(image_classifier, "near_names.json")
        verbs = read_nouns(image_classifier, "sound_verbs.json")
        read = (parts.text_encoder, processor)
        fit_naming(parts.naming, seeing.classifier, names_of, near, verbs, *read)
        if parts.naming.makers is not None:
            makers = read_nouns(audio_classifier, "class_makers.json")
            fit_makers(parts.naming, hearing.classifier, makers, names_of)
    return {
        "text": explained,
        "frames": fit_linear(
            projection.visual,
            [(objects, sentences @ axes), (seen, mixed @ axes)],
            FRAME_DEVIATION,
        ),
        "sound": fit_linear(projection.audio, [(heard, heard_names @ axes)]),
    }


def main_axes(parts: Sequence[torch.Tensor], size: int) -> tuple[torch.Tensor, float]:
    """Principal axes `(D, size)` of tensors `(N, D)` of equal weight, and their share of the
    variance."""
    covariance = 0.0
    for part in parts:
        centred = part - part.mean(0)
        covariance = covariance + centred.T @ centred / centred.square().sum()
    values, axes = torch.linalg.eigh(covariance)
    axes, values = axes.flip(1)[:, :size], values.flip(0)[:size]  # the main ones first
    return nn.functional.pad(axes, (0, max(0, size - axes.shape[1]))), float(
        values.sum() / len(parts)
    )


__all__ = ["start_from_class_names"]
