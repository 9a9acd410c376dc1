"""Does a model listen, watch and read? The same clips with the sound, the frames or the sentence
altered: the score of whoever needs what was taken must fall, and no other."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch

from dataset_script.taxonomy import NULL_CATEGORY

from ..modeling_outputs_refavs import RefAVSClipFeatures
from ..utils.files import lock_folder, table, whole_file
from .evaluation import (
    append_remaining,
    check_splits,
    describe_model,
    first_clips,
    join_processes,
    load_clips,
    load_predictor,
)
from .predictors import ModelPredictor, Question
from .refavs_jaccard.refavs_jaccard import pool as pool_jaccard
from .refavs_jaccard.refavs_jaccard import score_frames as jaccard_frames
from .refavs_null.refavs_null import pool as pool_null
from .refavs_null.refavs_null import score_frames as predicted_shares
from .report import Estimate, Pooling, SentenceFacts, estimate, in_order
from .scoring import Conventions, Journal, Record, Truth, true_masks


UNCHANGED = "unchanged"
MIN_NOISE = 0.01  # RMS of noise in place of silence: -40 dB of full scale
MIN_CLIPS = 5  # the draws of fewer clips are too much alike to tell chance from more
CONVENTIONS = Conventions()


@dataclass(frozen=True)
class Context:
    """What an alteration may use beside the question.

    Args:
        other: the question of another clip of the split, without its frames.
        rng: of this clip and alteration alone.
        shift: s, by which sound is moved.
        mask_token: what the tokenizer has in place of a hidden word.
    """

    other: Question
    rng: np.random.Generator
    shift: float
    mask_token: str


@dataclass(frozen=True)
class Altered:
    """A question that was altered, and what its answers are compared with.

    Args:
        frame_index: `(frames,)`, which of the question's frames, and so of the true masks, is shown
            in each second; None: all in order.
        sentence_index: `(expressions,)`, whose truth each answer is compared with; the score of a
            sentence is the mean over its answers. None: expression n is sentence n.
    """

    question: Question
    frame_index: np.ndarray | None = None
    sentence_index: np.ndarray | None = None


def _leave(question: Question, context: Context) -> Altered:
    return Altered(question)


def _mute(question: Question, context: Context) -> Altered:
    return Altered(replace(question, waveform=np.zeros_like(question.waveform)))


def _take_other_sound(question: Question, context: Context) -> Altered:
    other = context.other
    return Altered(replace(question, waveform=other.waveform, sampling_rate=other.sampling_rate))


def _shift_sound(question: Question, context: Context) -> Altered:
    """The end comes first: no sound is lost."""
    samples = round(context.shift * question.sampling_rate)
    return Altered(replace(question, waveform=np.roll(question.waveform, samples, axis=-1)))


def _make_noise(question: Question, context: Context) -> Altered:
    """White, as loud as the clip in the mean."""
    level = max(np.sqrt(np.mean(question.waveform**2)), MIN_NOISE)
    noise = level * context.rng.standard_normal(question.waveform.shape, dtype=np.float32)
    return Altered(replace(question, waveform=noise.clip(-1, 1)))


def _freeze_frames(question: Question, context: Context) -> Altered:
    """The one in the middle, all the time."""
    count = len(question.frames)
    return Altered(question, np.full(count, count // 2))


def _reverse_frames(question: Question, context: Context) -> Altered:
    return Altered(question, np.arange(len(question.frames))[::-1].copy())


def _shuffle_frames(question: Question, context: Context) -> Altered:
    return Altered(question, context.rng.permutation(len(question.frames)))


def _take_other_sentences(question: Question, context: Context) -> Altered:
    """Each is one that the clip itself is not asked, where there is one."""
    others = sorted(set(context.other.expressions) - set(question.expressions))
    drawn = context.rng.choice(others or context.other.expressions, len(question.expressions))
    return Altered(replace(question, expressions=drawn.tolist()))


def _mask_words(question: Question, context: Context) -> Altered:
    """Each word of each sentence once; punctuation stays."""
    masked, sentence_index = [], []
    for index, expression in enumerate(question.expressions):
        spans = [word.span() for word in re.finditer(r"\w[\w'-]*", expression)]
        for begin, end in spans or [(len(expression), len(expression))]:
            masked.append(f"{expression[:begin]}{context.mask_token}{expression[end:]}")
            sentence_index.append(index)
    return Altered(
        replace(question, expressions=masked), sentence_index=np.array(sentence_index, dtype=int)
    )


ALTERATIONS: dict[str, Callable[[Question, Context], Altered]] = {
    UNCHANGED: _leave,
    "muted": _mute,
    "other_sound": _take_other_sound,
    "shifted": _shift_sound,
    "noise": _make_noise,
    "frozen": _freeze_frames,
    "reversed": _reverse_frames,
    "shuffled": _shuffle_frames,
    "other_sentence": _take_other_sentences,
    "masked_words": _mask_words,
}


@dataclass(frozen=True)
class ProbeRequest:
    """What is probed, and how.

    Args:
        model: a folder, or an id on the Hub.
        data: a tree, an export, or an export's id on the Hub; its `splits`.
        alterations: names out of `ALTERATIONS`; the clips as they are come first in any case.
        num_clips: of each split the first so many; None: all.
        shift: s, of "shifted".
        seed: of other clips, noise and order.
        num_draws: bootstrap draws of clips.
        device, dtype: of the model, see [`load_model`].
    """

    model: str
    data: str
    splits: tuple[str, ...]
    alterations: tuple[str, ...] = tuple(ALTERATIONS)
    num_clips: int | None = None
    shift: float = 5.0
    seed: int = 0
    num_draws: int = 1000
    device: str = "auto"
    dtype: str = "float32"


def probe(request: ProbeRequest, output: Path) -> str | None:
    """Ask everything of each clip, into `output`. Returns the table as Markdown; None in all
    processes but the first.

    Raises:
        ValueError: any input that cannot work, before the model is loaded.
    """
    names = tuple(dict.fromkeys((UNCHANGED, *request.alterations)))
    if unknown := [name for name in names if name not in ALTERATIONS]:
        raise ValueError(f"--alterations {unknown[0]}: must be of {', '.join(ALTERATIONS)}")
    check_splits(request.splits, request.num_clips)
    pooling = Pooling(num_draws=request.num_draws)
    with join_processes() as processes:
        with processes.first_alone():
            whole = {split: load_clips(request.data, split) for split in request.splits}
            for split, clips in whole.items():
                if len(clips) < 2:
                    raise ValueError(f"{split} of {request.data} has one clip: there is no other")
            predictor = load_predictor(request.model, request.device, request.dtype, processes)
            mask_token = _mask_token(predictor.processor.tokenizer, names)
        chosen = {split: first_clips(part, request.num_clips) for split, part in whole.items()}
        about = {
            **describe_model(request.model, request.dtype, request.data),
            "alterations": list(names),
            "shift": request.shift,
            "seed": request.seed,
            "conventions": asdict(CONVENTIONS),
        }
        with (
            nullcontext() if processes.rank else lock_folder(output),
            Journal(output, about, processes.rank) as journal,
        ):
            append_remaining(
                chosen,
                journal,
                processes,
                "probing",
                lambda split, index: _probe_clip(
                    whole[split], split, index, predictor, mask_token, request, names
                ),
            )
            processes.wait()
            if processes.rank:
                return None
            records = journal.of_splits({split: len(part) for split, part in chosen.items()})
            facts = SentenceFacts(request.data, ())
            report = {**about, **build_table(records, request.splits, names, facts, pooling)}
            texts = {
                "probe.json": json.dumps(report, indent=2, ensure_ascii=False) + "\n",
                "probe.md": probe_text(report),
            }
            for name, text in texts.items():
                with whole_file(output / name) as unfinished:
                    unfinished.write_text(text, encoding="utf-8")
    return texts["probe.md"]


def _mask_token(tokenizer: Any, names: Sequence[str]) -> str:
    token = tokenizer.mask_token or tokenizer.unk_token
    if token is None and "masked_words" in names:
        raise ValueError(
            "--alterations masked_words: the model's tokenizer has neither a mask token nor one of "
            "unknown words: name the other alterations"
        )
    return token or ""


def _probe_clip(
    clips: Any,
    split: str,
    index: int,
    predictor: ModelPredictor,
    mask_token: str,
    request: ProbeRequest,
    names: Sequence[str],
) -> Record:
    """What depends on chance depends on the seed, the split, the clip and the alteration alone."""
    clip = clips[index]
    question, truths = Question.of_clip(clip), true_masks(clip, CONVENTIONS.mask_size)
    seed = [request.seed, crc32(split.encode()), index]
    place = (index + np.random.default_rng(seed).integers(1, len(clips))) % len(clips)
    columns = ["audio", "sampling_rate", "expressions"]
    other = Question.of_clip({"frames": [], **clips.select_columns(columns)[int(place)]})
    features = predictor.encode(question)
    scores: dict[str, list[list[float]]] = {}
    for name in names:
        rng = np.random.default_rng([*seed, crc32(name.encode())])
        context = Context(other, rng, request.shift, mask_token)
        altered = ALTERATIONS[name](question, context)
        seen = _alter_features(features, question, altered, predictor)
        scores[name] = _score(altered, seen, truths, predictor)
    return {
        "clip_id": clip["clip_id"],
        "sentences": [
            {
                **{key: sentence[key] for key in ("uid", "expression", "category")},
                "jaccard": {name: scores[name][0][number] for name in names},
                "predicted": {name: scores[name][1][number] for name in names},
            }
            for number, sentence in enumerate(clip["expressions"])
        ],
    }


def _alter_features(
    features: RefAVSClipFeatures, question: Question, altered: Altered, predictor: ModelPredictor
) -> RefAVSClipFeatures:
    """What encoding the altered clip would give: each frame is encoded alone, so that it is enough
    to put them in another order."""
    if altered.question.waveform is not question.waveform:
        features = predictor.exchange_sound(features, altered.question)
    if altered.frame_index is None:
        return features
    order = torch.from_numpy(altered.frame_index).to(features.frame_features.device)
    moved = {
        "frame_features": features.frame_features[:, order],
        "mask_features": features.mask_features[:, order],
        "multi_scale_features": tuple(level[:, order] for level in features.multi_scale_features),
    }
    if features.pictures is not None:
        moved["pictures"] = features.pictures[:, order]
    return RefAVSClipFeatures(**{**features, **moved})


def _score(
    altered: Altered,
    features: RefAVSClipFeatures,
    truths: Sequence[Truth],
    predictor: ModelPredictor,
) -> list[list[float]]:
    """Of each sentence the mean J and the mean predicted part of its answers' frames."""
    owners = altered.sentence_index
    owners = np.arange(len(truths)) if owners is None else owners
    sizes = [truths[owner].masks.shape[-2:] for owner in owners]
    answers = predictor.answer(features, altered.question.expressions, sizes)
    jaccard: list[list[float]] = [[] for _ in truths]
    predicted: list[list[float]] = [[] for _ in truths]
    for owner, answer in zip(owners, answers, strict=True):
        masks = truths[owner].masks
        if altered.frame_index is not None:
            masks = masks[altered.frame_index]
        frames = jaccard_frames(
            answer.probabilities, masks, CONVENTIONS.threshold, CONVENTIONS.empty_truth
        )
        shares = predicted_shares(answer.probabilities, CONVENTIONS.null_threshold)
        jaccard[owner].append(frames.mean())
        predicted[owner].append(shares.mean())
    return [[float(np.mean(values)) for values in kind] for kind in (jaccard, predicted)]


def build_table(
    records: Iterable[Record],
    splits: Sequence[str],
    names: Sequence[str],
    facts: SentenceFacts,
    pooling: Pooling,
) -> dict[str, Any]:
    """The scores of each group of sentences under each alteration, and the differences to the
    unchanged clips with their intervals.

    Returns:
        `clips`, `sentences`, and `rows`: of each group its `sentences` and their `clips`, its
        `measure` (J, or S of null references), and the `scores` and `differences` by alteration.
    """
    ordered = sorted(records, key=lambda record: (splits.index(record["split"]), record["index"]))
    sentences = [
        (number, facts_of_sentence["dimension"], sentence)
        for number, record in enumerate(ordered)
        for sentence, facts_of_sentence in zip(
            record["sentences"],
            facts.of_clip(record["clip_id"], record["sentences"]),
            strict=True,
        )
    ]
    is_null = np.array([sentence["category"] == NULL_CATEGORY for _, _, sentence in sentences])
    dimensions = np.array([dimension for _, dimension, _ in sentences])
    clips = np.array([number for number, _, _ in sentences])
    acoustic = np.array(["acoustic" in dimension for dimension in dimensions.tolist()])
    groups = {
        "all": ~is_null,
        "any acoustic": ~is_null & acoustic,
        "no acoustic": ~is_null & ~acoustic,
        **{
            dimension: ~is_null & (dimensions == dimension)
            for dimension in in_order("dimension", set(dimensions[~is_null].tolist()))
        },
        "null references": is_null,
    }
    rows = {}
    for group, members in groups.items():
        if members.any():
            null = group == "null references"
            kind, pool = ("predicted", pool_null) if null else ("jaccard", pool_jaccard)
            columns = {
                name: np.array([sentence[kind][name] for _, _, sentence in sentences])[members]
                for name in names
            }
            measured = {
                name: estimate(pool, column, np.ones(len(column)), clips[members], pooling)
                for name, column in columns.items()
            }
            rows[group] = {
                "sentences": int(members.sum()),
                "clips": len(np.unique(clips[members])),
                "measure": "S" if null else "J",
                **_compare_all(measured),
            }
    return {"clips": len(ordered), "sentences": len(sentences), "rows": rows}


def _compare_all(measured: dict[str, Estimate]) -> dict[str, Any]:
    return {
        "scores": {name: measure.to_json() for name, measure in measured.items()},
        "differences": {
            name: measure.minus(measured[UNCHANGED]).to_json()
            for name, measure in measured.items()
            if name != UNCHANGED
        },
    }


def probe_text(report: dict[str, Any]) -> str:
    """The content of probe.md."""
    names = report["alterations"]
    heads = [name.replace("_", " ") for name in names]
    rows = [(group, row["sentences"], *_cells(row, names)) for group, row in report["rows"].items()]
    body = table(("", "sentences", *heads), rows)
    return (
        f"# Probe of {report['subject']}\n\nData: {report['data']}, {report['clips']} clips, "
        f"{report['sentences']} sentences; seed {report['seed']}, sound shifted by "
        f"{report['shift']:g} s. J in % (S x 100 of null references), and in brackets the "
        "difference to the clips as they are; bold where the middle 95 % of the bootstrap draws of "
        f"clips lie on one side of 0, in {MIN_CLIPS} clips or more.\n\n{body}\n"
    )


def _cells(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    cells = [f"{100 * row['scores'][UNCHANGED]['value']:.1f}"]
    for name in names:
        if name != UNCHANGED:
            change = row["differences"][name]
            text = f"({100 * change['value']:+.1f})"
            apart = round(100 * change["low"], 1) > 0 or round(100 * change["high"], 1) < 0
            if apart and row["clips"] >= MIN_CLIPS:
                text = f"**{text}**"
            cells.append(f"{100 * row['scores'][name]['value']:.1f} {text}")
    return cells
