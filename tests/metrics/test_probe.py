"""What is altered, what answers are compared with, and `refavs probe` from the command line."""

import json

import numpy as np
import pytest
import torch

from dataset_script.builder_refavs import load_refavs
from modeling_refavs.cli import main
from modeling_refavs.metrics.predictors import ModelPredictor, Question
from modeling_refavs.metrics.probe import (
    ALTERATIONS,
    CONVENTIONS,
    UNCHANGED,
    Context,
    _alter_features,
    _score,
    build_table,
    probe_text,
)
from modeling_refavs.metrics.report import Pooling, SentenceFacts
from modeling_refavs.metrics.scoring import Prediction, Truth, score_sentence, true_masks

from ..conftest import make_model, make_released_model


RATE = 1000  # Hz
NAMES = tuple(ALTERATIONS)


@pytest.fixture
def question() -> Question:
    rng = np.random.default_rng(1)
    waveform = rng.normal(0, 0.1, (2, 10 * RATE)).astype(np.float32)
    return Question(list("0123456789"), waveform, RATE, ["The man's dog, barking.", "it"])


def context(seed: int = 0) -> Context:
    other = Question([], np.full((1, 5 * RATE), 0.5, np.float32), 2 * RATE, ["The cat.", "it"])
    return Context(other, np.random.default_rng(seed), 3, "<mask>")


def alter(name: str, question: Question, seed: int = 0):
    return ALTERATIONS[name](question, context(seed))


def test_sounds(question):
    sounds = {name: alter(name, question).question for name in NAMES[1:5]}
    assert not sounds["muted"].waveform.any()
    assert sounds["muted"].waveform.shape == question.waveform.shape
    assert (sounds["other_sound"].waveform == 0.5).all()
    assert sounds["other_sound"].sampling_rate == 2 * RATE
    shifted = sounds["shifted"].waveform
    assert np.array_equal(shifted[:, 3 * RATE :], question.waveform[:, : 7 * RATE])
    assert np.array_equal(shifted[:, : 3 * RATE], question.waveform[:, 7 * RATE :])
    noise = sounds["noise"].waveform
    assert noise.std() == pytest.approx(0.1, rel=0.05)
    assert abs(np.corrcoef(noise[0], question.waveform[0])[0, 1]) < 0.1
    for altered in sounds.values():
        assert altered.expressions == question.expressions
        assert altered.frames == question.frames


def test_noise_in_place_of_silence(question):
    silent = Question(question.frames, np.zeros((1, 10 * RATE), np.float32), RATE, ["it"])
    assert alter("noise", silent).question.waveform.std() == pytest.approx(0.01, rel=0.1)


def test_frames(question):
    order = {name: alter(name, question).frame_index for name in NAMES}
    assert order["frozen"].tolist() == [5] * 10
    assert order["reversed"].tolist() == list(range(10))[::-1]
    assert sorted(order["shuffled"].tolist()) == list(range(10))
    assert order["shuffled"].tolist() != list(range(10))
    assert all(order[name] is None for name in NAMES if name not in NAMES[5:8])


def test_sentences(question):
    other = alter("other_sentence", question)
    assert other.question.expressions == ["The cat."] * 2  # "it" is asked of this clip too
    masked = alter("masked_words", question)
    assert masked.question.expressions == [
        "<mask> man's dog, barking.",
        "The <mask> dog, barking.",
        "The man's <mask>, barking.",
        "The man's dog, <mask>.",
        "<mask>",
    ]
    assert masked.sentence_index.tolist() == [0, 0, 0, 0, 1]


def test_chance_is_the_seeds(question):
    for name in ("noise", "shuffled"):
        one, same, another = (alter(name, question, seed) for seed in (1, 1, 2))
        pairs = (
            (one.question.waveform, one.frame_index),
            (same.question.waveform, same.frame_index),
        )
        assert all(np.array_equal(a, b) for a, b in zip(*pairs, strict=True))
        changed = another.frame_index if name == "shuffled" else another.question.waveform
        assert not np.array_equal(changed, pairs[0][name == "shuffled"])


@pytest.fixture(scope="module")
def clip(tree) -> dict:
    return load_refavs(tree, "clips", "test_s", damaged="trust")[0]


def make_refining_model():
    naming = {"loss_weight": 1.0, "use_alignment": True, "vocabulary_size": 7}
    return make_model(grounding_config={**naming, "object_head_size": 16, "refine_masks": True})


@pytest.mark.parametrize("make", [make_model, make_released_model, make_refining_model])
@pytest.mark.parametrize("name", NAMES)
def test_altered_features_are_those_of_the_altered_clip(name, make, clip, processor):
    """Frames that are put in another order, and sounds that are encoded alone, as if the altered
    clip had been encoded."""
    predictor, question = ModelPredictor(make(), processor), Question.of_clip(clip)
    altered = alter(name, question)
    features = _alter_features(predictor.encode(question), question, altered, predictor)
    order = range(10) if altered.frame_index is None else altered.frame_index
    frames = [question.frames[index] for index in order]
    expected = predictor.encode(
        Question(frames, altered.question.waveform, altered.question.sampling_rate, [])
    )
    assert features.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(features[key], value, atol=1e-4, rtol=1e-4)


class Fixed:
    """Answers what it is given, in place of a model."""

    def __init__(self, masks: list[np.ndarray]):
        self.masks = masks

    def answer(self, features, expressions, sizes):
        assert len(expressions) == len(sizes) == len(self.masks)
        yield from (Prediction(mask.astype(np.float32)) for mask in self.masks)


def test_what_answers_are_compared_with(question):
    """The truth moves with the frames; a sentence of several answers has their mean."""
    rng = np.random.default_rng(0)
    truths = [Truth(rng.random((10, 8, 8)) < 0.5, (8, 8)) for _ in question.expressions]
    masks = [truth.masks for truth in truths]
    for name in ("reversed", "shuffled", "frozen"):
        altered = alter(name, question)
        moved = [mask[altered.frame_index] for mask in masks]
        assert _score(altered, None, truths, Fixed(moved))[0] == [1, 1]
    jaccard, predicted = _score(
        alter("masked_words", question),
        None,
        truths,
        Fixed([masks[0], masks[0], masks[0] & False, masks[0] & False, masks[1]]),
    )
    assert jaccard == [0.5, 1]
    assert predicted == pytest.approx([masks[0].mean() / 2, masks[1].mean()])


def test_rows_and_differences(tmp_path):
    """By hand: two clips, three sentences and a null reference."""

    def sentence(expression: str, before: float, after: float, category="dog") -> dict:
        scores = {UNCHANGED: before, "muted": after}
        about = {"uid": expression, "expression": expression, "category": category}
        return {**about, "jaccard": scores, "predicted": scores}

    records = [
        {
            "split": "test_n",
            "index": 0,
            "clip_id": "c",
            "sentences": [sentence("the loud cup", 0.25, 0.04, "null")],
        },
        {
            "split": "test_s",
            "index": 1,
            "clip_id": "b",
            "sentences": [sentence("the loudest", 0.7, 0.1), sentence("the red cup", 0.5, 0.5)],
        },
        {
            "split": "test_s",
            "index": 0,
            "clip_id": "a",
            "sentences": [sentence("the loud dog", 0.9, 0.3)],
        },
    ]
    facts, pooling = SentenceFacts(tmp_path, ()), Pooling(num_draws=50)
    report = build_table(records, ("test_s", "test_n"), (UNCHANGED, "muted"), facts, pooling)
    assert (report["clips"], report["sentences"]) == (3, 4)
    rows = report["rows"]
    assert list(rows) == [
        "all",
        "any acoustic",
        "no acoustic",
        "acoustic",
        "appearance",
        "null references",
    ]
    assert [row["sentences"] for row in rows.values()] == [3, 2, 1, 2, 1, 1]
    found = {
        group: (row["scores"][UNCHANGED]["value"], row["differences"]["muted"]["value"])
        for group, row in rows.items()
    }
    assert found["all"] == pytest.approx((0.7, -0.4))
    assert found["any acoustic"] == pytest.approx((0.8, -0.6))
    assert found["no acoustic"] == pytest.approx((0.5, 0))
    assert found["null references"] == pytest.approx((0.5, -0.3))
    change = rows["any acoustic"]["differences"]["muted"]
    assert (change["low"], change["high"]) == pytest.approx((-0.6, -0.6))


def test_what_is_more_than_chance_is_bold():
    def row(clips: int, low: float, high: float) -> dict:
        changed = {"value": (low + high) / 2, "low": low, "high": high}
        scores = {UNCHANGED: {"value": 0.5}, "muted": {"value": 0.5 + changed["value"]}}
        about = {"sentences": 9, "clips": clips, "measure": "J"}
        return {**about, "scores": scores, "differences": {"muted": changed}}

    report = {
        "subject": "m",
        "data": "d",
        "clips": 9,
        "sentences": 9,
        "seed": 0,
        "shift": 5.0,
        "alterations": [UNCHANGED, "muted"],
        "rows": {
            "clear": row(9, -0.3, -0.1),
            "few clips": row(4, -0.3, -0.1),
            "chance": row(9, -0.3, 0.1),
            "too small to print": row(9, -0.0004, -0.0001),
        },
    }
    text = probe_text(report)
    assert "| clear | 9 | 50.0 | 30.0 **(-20.0)** |" in text
    assert "| few clips | 9 | 50.0 | 30.0 (-20.0) |" in text
    assert "| chance | 9 | 50.0 | 40.0 (-10.0) |" in text
    assert "| too small to print | 9 | 50.0 | 50.0 (-0.0) |" in text


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory, processor):
    folder = tmp_path_factory.mktemp("model")
    make_model().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_from_the_command_line_and_stopped(tree, clip, model_folder, tmp_path, capsys, processor):
    def arguments(output: str, *more: str) -> list[str]:
        fixed = [
            "--splits",
            "test_s",
            "test_n",
            "--draws",
            "20",
            "--output",
            str(tmp_path / output),
        ]
        return ["probe", str(model_folder), "--data", str(tree), *fixed, *more]

    assert main(arguments("whole", "--clips", "2")) == 0
    printed = capsys.readouterr().out
    head = " | ".join(name.replace("_", " ") for name in NAMES)
    assert f"|  | sentences | {head} |" in printed
    assert (tmp_path / "whole" / "probe.md").read_text() == printed
    report = json.loads((tmp_path / "whole" / "probe.json").read_text())
    assert (report["clips"], report["sentences"]) == (4, 20)
    assert report["rows"]["null references"]["measure"] == "S"

    scores = (tmp_path / "whole" / "scores-0.jsonl").read_text().splitlines(keepends=True)
    assert main(arguments("part", "--clips", "1")) == 0
    part = tmp_path / "part" / "scores-0.jsonl"
    part.write_text(part.read_text()[:-300])  # killed while it wrote
    assert main(arguments("part", "--clips", "2")) == 0
    assert sorted(part.read_text().splitlines(keepends=True)) == sorted(scores)
    assert json.loads((tmp_path / "part" / "probe.json").read_text()) == report

    assert main(arguments("part", "--seed", "1")) == 2
    assert "scores of another evaluation (seed differ)" in capsys.readouterr().err

    record = next(json.loads(line) for line in scores if '"test_s", "index": 0' in line)
    truths = true_masks(clip, CONVENTIONS.mask_size)
    predictions = ModelPredictor(make_model(), processor)(clip, truths)
    for sentence, truth, prediction, found in zip(
        clip["expressions"], truths, predictions, record["sentences"], strict=True
    ):
        score = score_sentence(sentence, prediction, truth.masks, CONVENTIONS)
        assert found["jaccard"][UNCHANGED] == pytest.approx(score.jaccard / 10, abs=1e-3)
        assert found["predicted"][UNCHANGED] == pytest.approx(score.predicted / 10, abs=1e-3)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--alterations", "deaf"], "--alterations deaf: must be of unchanged, muted"),
        (["--splits", "test"], "--splits test: must be of train"),
        (["--clips", "0"], "--clips 0: at least one clip"),
        (["--draws", "0"], "bootstrap draws must be at least 1"),
        (["--data", "nowhere"], "--data nowhere: no such folder"),
    ],
)
def test_mistakes(more, words, tree, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["probe", "nowhere", "--data", str(tree), *more]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
