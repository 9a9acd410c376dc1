"""The four modules as `evaluate` loads them: the released code's numbers, and one convention."""

import ast
import doctest
import inspect
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import evaluate
import numpy as np
import pytest
import torch

from modeling_refavs.metrics.refavs_fscore import refavs_fscore
from modeling_refavs.metrics.refavs_jaccard import refavs_jaccard
from modeling_refavs.metrics.refavs_noref import refavs_noref
from modeling_refavs.metrics.refavs_null import refavs_null

from .conftest import METRICS, GoldenCase


POOLED = ("jaccard", "fscore", "null")
NAMES = (*POOLED, "noref")
MODULES = (refavs_jaccard, refavs_fscore, refavs_null, refavs_noref)
RELEASED = {"jaccard": "mask_iou", "fscore": "Eval_Fmeasure", "null": "metric_s_for_null"}
PER_FRAME = {"jaccard": "per_frame_mask_iou", "fscore": "per_frame_Fmeasure"}
POOLINGS = (
    {"pooling": "dataset"},
    {"pooling": "released", "batch_size": 4},
    {"pooling": "released", "batch_size": 3},
)


def value_of(
    metric: evaluate.EvaluationModule, predictions=None, references=None, **options
) -> float:
    """The metric's only value; of N-acc and T-acc their sum, without those that are NaN."""
    values = metric.compute(predictions=predictions, references=references, **options)
    name = metric.name.replace("ref_avs", "refavs")
    return values[name] if name in values else float(np.nansum([*values.values()]))


@pytest.mark.parametrize("name", POOLED)
def test_the_released_code_answers_the_same(name, load, case: GoldenCase):
    truth = None if name == "null" else [case.truth]
    value = value_of(load(name, logits=True), [case.logits], truth, pooling="released")
    assert value == pytest.approx(case.answers[RELEASED[name]], abs=1e-6)


@pytest.mark.parametrize("name", PER_FRAME)
def test_and_of_each_frame(name, load, case: GoldenCase):
    metric = load(name, logits=True)
    values = [
        value_of(metric, case.logits[None, frame], case.truth[None, frame], pooling="released")
        for frame in range(10)
    ]
    np.testing.assert_allclose(values, case.answers[PER_FRAME[name]], atol=1e-6)
    # one frame a sentence, one sentence a batch: the mean of the per-frame values
    pooled = value_of(metric, case.logits, case.truth, pooling="released", batch_size=1)
    assert pooled == pytest.approx(np.mean(values), abs=1e-12)


@pytest.mark.parametrize("name", POOLED)
def test_a_small_last_batch_weighs_as_much_as_a_full_one(name, load, sentences):
    predictions, truths = sentences
    metric = load(name)
    references = [None] * 10 if name == "null" else truths

    def batch_value(start: int) -> float:
        part = None if name == "null" else references[start : start + 4]
        return value_of(
            metric, predictions[start : start + 4], part, pooling="released", batch_size=4
        )

    values = [batch_value(start) for start in (0, 4, 8)]
    whole = value_of(
        metric, predictions, None if name == "null" else truths, pooling="released", batch_size=4
    )
    assert whole == pytest.approx(np.mean(values), abs=1e-12)
    assert whole != pytest.approx(
        value_of(metric, predictions, None if name == "null" else truths), abs=1e-4
    )


@pytest.mark.parametrize("pooling", POOLINGS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_the_size_of_the_batches_that_are_added_does_not_matter(name, pooling, load, sentences):
    predictions, truths = sentences
    truths = [truth & (index % 3 > 0) for index, truth in enumerate(truths)]  # null references too
    metric, values = load(name), []
    for size in (1, 3, 7, 10):
        for start in range(0, 10, size):
            metric.add_batch(
                predictions=predictions[start : start + size],
                references=truths[start : start + size],
            )
        values.append(value_of(metric, **pooling))
    for prediction, truth in zip(predictions, truths, strict=True):
        metric.add(prediction=prediction, reference=truth)
    assert (
        len(
            {*values, value_of(metric, **pooling), value_of(metric, predictions, truths, **pooling)}
        )
        == 1
    )


def share_of(
    name: str, process: int, cache: str, predictions: list, truths: list, pooling: dict
) -> dict | None:
    metric = evaluate.load(
        str(METRICS / f"refavs_{name}"),
        num_process=2,
        process_id=process,
        experiment_id="both",
        cache_dir=cache,
    )
    share = slice(0, 3) if process == 0 else slice(3, None)
    metric.add_batch(predictions=predictions[share], references=truths[share])
    return metric.compute(**pooling)


@pytest.mark.parametrize("pooling", POOLINGS[:2], ids=str)
def test_two_processes_give_the_number_of_one(pooling, load, sentences, tmp_path):
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        for name in NAMES:
            shares = [
                pool.submit(share_of, name, i, str(tmp_path), *sentences, pooling) for i in (0, 1)
            ]
            first, second = (share.result(timeout=60) for share in shares)
            assert second is None
            assert first == load(name).compute(
                predictions=sentences[0], references=sentences[1], **pooling
            )


def test_combined(load, sentences):
    predictions, truths = sentences
    truths = [truth & (index > 3) for index, truth in enumerate(truths)]
    combined = evaluate.combine([load(name) for name in NAMES])
    combined.add_batch(predictions=predictions[:6], references=truths[:6])
    for prediction, truth in zip(predictions[6:], truths[6:], strict=True):
        combined.add(prediction, truth)
    values = combined.compute(pooling="released", batch_size=2)
    assert list(values) == ["refavs_jaccard", "refavs_fscore", "refavs_null", "n_acc", "t_acc"]
    for name in NAMES:
        alone = load(name).compute(
            predictions=predictions, references=truths, pooling="released", batch_size=2
        )
        assert alone.items() <= values.items()


def test_s_is_of_null_references_only(load, sentences):
    predictions, _ = sentences
    null = np.zeros_like(predictions[0])
    assert value_of(
        load("null"), [predictions[0], predictions[3]], [null, np.ones_like(predictions[3])]
    ) == value_of(load("null"), predictions[:1])


EMPTY = np.zeros((2, 4, 4))
QUARTER = np.repeat([[1, 0, 0, 0]], 4, axis=0)[None].repeat(2, axis=0)
ONE_PIXEL = EMPTY.copy()
ONE_PIXEL[1, 3, 3] = 0.6
ANSWERS = [  # predictions, references, N-acc, T-acc
    ([EMPTY, ONE_PIXEL], [EMPTY, EMPTY], 0.5, np.nan),
    ([EMPTY, ONE_PIXEL], [QUARTER, QUARTER], np.nan, 0.5),
    (
        [EMPTY, ONE_PIXEL, ONE_PIXEL, EMPTY, EMPTY],
        [EMPTY, EMPTY, QUARTER, QUARTER, EMPTY],
        2 / 3,
        0.5,
    ),
    ([ONE_PIXEL], [QUARTER[:, ::-1]], np.nan, 1.0),  # wrongly, but answered
    ([EMPTY] * 4, [EMPTY, QUARTER] * 2, 1.0, 0.0),  # who never answers
    ([ONE_PIXEL] * 4, [EMPTY, QUARTER] * 2, 0.0, 1.0),  # who always does
]


@pytest.mark.parametrize(("predictions", "references", "n_acc", "t_acc"), ANSWERS)
def test_null_references_left_empty_and_others_answered(
    predictions, references, n_acc, t_acc, load
):
    found = load("noref").compute(predictions=predictions, references=references)
    assert found == pytest.approx({"n_acc": n_acc, "t_acc": t_acc}, nan_ok=True)
    strict = load("noref", threshold=0.7).compute(predictions=predictions, references=references)
    assert strict["t_acc"] == pytest.approx(t_acc * 0, nan_ok=True)  # 0.6 is no answer


def test_without_references_all_are_null(load):
    metric = load("noref")
    found = metric.compute(predictions=[EMPTY, ONE_PIXEL, EMPTY, EMPTY])
    assert found == pytest.approx({"n_acc": 0.75, "t_acc": np.nan}, nan_ok=True)


@pytest.mark.parametrize("kind", [list, torch.tensor, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_lists_tensors_and_arrays(name, kind, load, sentences):
    predictions, truths = sentences
    converted = [
        kind(prediction.tolist() if kind is list else prediction) for prediction in predictions
    ]
    assert value_of(load(name), converted, truths) == value_of(load(name), predictions, truths)


@pytest.mark.parametrize("name", NAMES)
def test_logits_probabilities_and_masks(name, load, sentences):
    predictions, truths = sentences
    logits = [np.log(prediction / (1 - prediction + 1e-9) + 1e-9) for prediction in predictions]
    probabilities = value_of(load(name), predictions, truths)
    assert value_of(load(name, logits=True), logits, truths) == pytest.approx(
        probabilities, abs=1e-3
    )
    masks = [(prediction > 0.5) for prediction in predictions]
    expected = value_of(load(name), [mask.astype(float) for mask in masks], truths)
    for shown in (
        masks,
        [mask * np.uint8(255) for mask in masks],
        [mask.astype(int) for mask in masks],
    ):
        assert value_of(load(name), shown, truths) == expected


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_callers_arrays_stay_as_they_were(name, logits, load, sentences):
    predictions, truths = ([array.copy() for array in arrays] for arrays in sentences)
    for array in (*predictions, *truths):
        array.flags.writeable = False
    load(name, logits=logits).compute(predictions=predictions, references=truths)
    for arrays, originals in zip((predictions, truths), sentences, strict=True):
        assert all(
            np.array_equal(array, original)
            for array, original in zip(arrays, originals, strict=True)
        )


CONVENTIONS = [
    ("jaccard", {}, EMPTY, EMPTY, 1.0),
    ("jaccard", {}, QUARTER, EMPTY, 0.75),  # true negatives
    ("jaccard", {}, EMPTY, QUARTER, 0.0),
    ("jaccard", {}, QUARTER, QUARTER, 1.0),
    ("jaccard", {"empty_truth": "exact"}, EMPTY, EMPTY, 1.0),
    ("jaccard", {"empty_truth": "exact"}, QUARTER, EMPTY, 0.0),
    ("jaccard", {"empty_truth": "skip"}, QUARTER, EMPTY, np.nan),
    (
        "jaccard",
        {"empty_truth": "skip"},
        np.stack([EMPTY[0], QUARTER[0]]),
        np.stack([EMPTY[0], QUARTER[0]]),
        1.0,
    ),
    ("fscore", {}, EMPTY, EMPTY, np.nan),
    (
        "fscore",
        {},
        EMPTY,
        QUARTER,
        1.3 * 0.25 / (0.3 * 0.25 + 1),
    ),  # threshold 0 predicts everything
    ("fscore", {}, QUARTER, QUARTER, 1.0),
    ("fscore", {"beta2": 1}, EMPTY, QUARTER, 0.4),
    ("null", {}, EMPTY, EMPTY, 0.0),
    ("null", {}, QUARTER, EMPTY, 0.5),
    ("null", {}, QUARTER, QUARTER, np.nan),
    ("jaccard", {"threshold": 0.7}, QUARTER * 0.6, QUARTER, 0.0),
    ("null", {"threshold": 0.7}, QUARTER * 0.6, EMPTY, 0.0),
]


@pytest.mark.parametrize(("name", "options", "prediction", "truth", "value"), CONVENTIONS)
def test_conventions(name, options, prediction, truth, value, load):
    assert value_of(load(name, **options), [prediction], [truth]) == pytest.approx(
        value, nan_ok=True
    )


def test_f_by_its_definition(sentences):
    prediction, truth = sentences[0][7], sentences[1][7]
    prediction[0, 0, :5] = refavs_fscore.thresholds()[
        [1, 100, 150, 200, 254]
    ]  # on the very edge: predicted
    expected = []
    for threshold in torch.linspace(0, 1 - 1e-10, 255).numpy():
        predicted = prediction >= threshold
        hits, predicted, true = (
            (mask.sum((1, 2))) for mask in (predicted & truth, predicted, truth)
        )
        with np.errstate(invalid="ignore"):
            precision, recall = hits / predicted, hits / true
            expected.append(np.nan_to_num(1.3 * precision * recall / (0.3 * precision + recall)))
    shown = truth.any(axis=(1, 2))
    assert 0 < shown.sum() < len(shown)
    np.testing.assert_allclose(
        refavs_fscore.score_frames(prediction, truth), np.stack(expected, 1)[shown], atol=1e-12
    )


@pytest.mark.parametrize("number", [2, 3, 10, 255, 256, 1000])
def test_thresholds_are_torchs_to_the_last_bit(number):
    steps = refavs_fscore.thresholds(number)
    assert np.array_equal(steps, torch.linspace(0, 1 - 1e-10, number).numpy())
    around = np.concatenate(
        [steps, np.nextafter(steps, np.float32(2)), np.nextafter(steps, np.float32(-1))]
    ).clip(0, 1)
    assert np.array_equal(
        refavs_fscore._levels(around, number), np.searchsorted(steps, around, "right") - 1
    )


MISTAKES = [
    (
        {},
        [np.full((1, 2, 2), 3.0)],
        "probabilities must lie in [0, 1], got 3 to 3: load with logits=True",
    ),
    ({}, [np.full((1, 2, 2), np.nan)], "predictions hold NaN"),
    ({}, [np.zeros((1, 1, 2, 2))], "must be (frames, height, width), got (1, 1, 2, 2)"),
    ({}, [np.zeros((0, 2, 2))], "must be (frames, height, width), got (0, 2, 2)"),
    ({}, [np.zeros((1, 2, 3))], "the size of its predictions, (1, 2, 3), got (1, 2, 2)"),
    ({}, [np.zeros((1, 2, 2))] * 2, "2 predictions, but 1 references"),
    ({"pooling": "released"}, [np.zeros((1, 2, 2))], "pooling is an argument of compute()"),
    ({"treshold": 0.3}, [np.zeros((1, 2, 2))], "there is no option 'treshold'"),
]


@pytest.mark.parametrize(
    ("options", "predictions", "words"), MISTAKES, ids=lambda value: str(value)[:30]
)
@pytest.mark.parametrize("name", NAMES)
def test_mistakes(name, options, predictions, words, load):
    with pytest.raises(ValueError, match=re.escape(words)):
        load(name, **options).compute(predictions=predictions, references=[np.zeros((1, 2, 2))])


@pytest.mark.parametrize(
    "options", [{"pooling": "batch"}, {"pooling": "released", "batch_size": 0}]
)
@pytest.mark.parametrize("name", NAMES)
def test_unknown_poolings(name, options, load):
    with pytest.raises(ValueError, match="must be"):
        load(name).compute(predictions=[EMPTY], references=[QUARTER], **options)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("jaccard", {"threshold": 1}, "threshold must lie in"),
        ("jaccard", {"empty_truth": "one"}, "empty_truth must be one of"),
        ("fscore", {"num_thresholds": 1}, "num_thresholds must be at least 2"),
        ("null", {"threshold": -1}, "threshold must lie in"),
    ],
)
def test_unknown_conventions(name, options, words, load):
    with pytest.raises(ValueError, match=words):
        load(name, **options)


def test_what_is_kept_does_not_grow_with_the_frames(load):
    metric = load("fscore")
    for _ in range(3):
        metric.add_batch(
            predictions=[np.zeros((10, 128, 128))], references=[np.ones((10, 128, 128))]
        )
    metric.writer.write_examples_on_file()
    assert metric.writer._num_bytes < 3 * 3000


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_is_published_alone(name):
    known = {
        *sys.stdlib_module_names,
        "evaluate",
        "datasets",
        "numpy",
        "pandas",
        "PIL",
        "gradio",
        f"refavs_{name}",
    }
    for path in (METRICS / f"refavs_{name}").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert {found.split(".")[0] for found in names} <= known


def test_what_the_four_repeat_is_the_same():
    for function in ("to_probabilities", "to_masks", "check_pooling", "check_options"):
        texts = {inspect.getsource(getattr(module, function)) for module in MODULES}
        assert len(texts) == 1, function


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__[-13:])
def test_the_documented_example(module, monkeypatch):
    load = evaluate.load
    monkeypatch.setattr(evaluate, "load", lambda name: load(str(METRICS / name)))
    example = doctest.DocTestParser().get_doctest(
        module._KWARGS_DESCRIPTION, {"evaluate": evaluate}, module.__name__, None, 0
    )
    assert len(example.examples) > 1
    assert doctest.DocTestRunner().run(example).failed == 0
