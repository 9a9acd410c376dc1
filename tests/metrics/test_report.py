"""The paper's tables, made of scores whose answers are known."""

import json

import numpy as np
import pytest
import scipy.stats
from PIL import Image

from modeling_refavs.metrics.evaluation import Journal
from modeling_refavs.metrics.gallery import Panel, choose_sentences, draw_gallery
from modeling_refavs.metrics.report import (
    PUBLISHED,
    Pooling,
    ScoredSplit,
    SentenceFacts,
    build_report,
    estimate,
    in_order,
    is_bench,
    mean_of,
    pool_jaccard,
    read_splits,
    report_text,
)
from modeling_refavs.metrics.scoring import Conventions, expected_calibration_error, roc_auc


SECONDS = {"load": 0.1, "predict": 0.2, "score": 0.3}
REQUEST = {
    "subject": "m",
    "data": "d",
    "conventions": {
        "mask_size": 256,
        "threshold": 0.4,
        "null_threshold": 0.5,
        "empty_truth": "true_negatives",
    },
    "knows_scenes": True,
}


def sentence(
    uid: str, jaccard: float, fscore=(0.2, 0.4), expression="the dog", category="dog", predicted=0.0
) -> dict:
    """Sums over 10 frames, 5 of which show the object."""
    return {
        "uid": uid,
        "expression": expression,
        "category": category,
        "jaccard": 10 * jaccard,
        "jaccard_frames": 10,
        "fscore": [5 * value for value in fscore],
        "object_frames": 5,
        "predicted": 10 * predicted,
        "frames": 10,
        "answered": predicted > 0 or category != "null",
        "presence": [0.8] * 5 + [0.2] * 5 if category != "null" else [predicted] * 10,
        "shown": [category != "null"] * 5 + [False] * 5,
        "iou": None,
    }


@pytest.fixture
def journal(tmp_path) -> Journal:
    """Two clips of test_s, three of test_u, two of test_n; written in no order."""
    records = [
        ("test_u", 2, [sentence("f", 0.9, (0.8, 0.0), "a b c d e f g h i j k l m n", "cat")]),
        ("test_s", 1, [sentence("c", 0.6, (0.4, 0.2))]),
        (
            "test_s",
            0,
            [sentence("a", 0.0), sentence("b", 0.3, expression="the loud red dog on the left")],
        ),
        ("test_u", 0, [sentence("d", 0.1, (0.0, 0.2))]),
        ("test_u", 1, [sentence("e", 0.5, (0.4, 0.4), category="cat")]),
        ("test_n", 0, [sentence("g", 1.0, category="null", predicted=0.04)]),
        ("test_n", 1, [sentence("h", 1.0, category="null", predicted=0.0)] * 3),
    ]
    with Journal(tmp_path / "out", REQUEST) as journal:
        for split, index, sentences in records:
            record = {
                "split": split,
                "index": index,
                "clip_id": f"{split}{index}",
                "seconds": SECONDS,
            }
            journal.append({**record, "sentences": sentences})
    return journal


def report_of(
    journal: Journal, tmp_path, splits=("test_s", "test_u", "test_n"), by=(), pooling=None
) -> dict:
    return build_report(scores_of(journal, tmp_path, splits, by), by, pooling or Pooling(), REQUEST)


def scores_of(journal: Journal, tmp_path, splits, by=()) -> dict[str, ScoredSplit]:
    records = journal.of_splits(dict.fromkeys(splits, 10))
    return read_splits(records, splits, SentenceFacts(tmp_path, by))


def values(part: dict) -> dict:
    return {
        name: part[name] and pytest.approx(part[name]["value"])
        for name in ("jaccard", "fscore", "null")
    }


def test_table_3(journal, tmp_path):
    report = report_of(journal, tmp_path)
    seen, unseen, null = report["splits"].values()
    assert values(seen) == {"jaccard": 0.3, "fscore": pytest.approx(1 / 3), "null": None}
    assert values(unseen) == {"jaccard": 0.5, "fscore": 0.4, "null": None}
    assert values(null) == {"jaccard": None, "fscore": None, "null": 0.1}
    assert report["mix"]["jaccard"]["value"] == pytest.approx(0.4)
    assert report["mix"]["fscore"]["value"] == pytest.approx((1 / 3 + 0.4) / 2)
    assert seen["jaccard_and_fscore"]["value"] == pytest.approx((0.3 + 1 / 3) / 2)
    assert (seen["clips"], seen["sentences"], null["sentences"]) == (2, 3, 4)
    assert report["seconds_per_sentence"] == {"load": 0.07, "predict": 0.14, "score": 0.21}


def test_released_pooling_depends_on_the_batch(journal, tmp_path):
    report = report_of(journal, tmp_path, pooling=Pooling("released", batch_size=2, num_draws=20))
    seen = report["splits"]["test_s"]
    # a and b, then c alone: means of (0, 0.3) and (0.6), best of (.2, .4) and best of (.4, .2)
    assert values(seen) == {"jaccard": (0.15 + 0.6) / 2, "fscore": 0.4, "null": None}
    assert report["splits"]["test_n"]["null"]["value"] == pytest.approx(np.sqrt(0.02) / 2)


def test_breakdowns(journal, tmp_path):
    report = report_of(journal, tmp_path, by=("length", "category", "dimension"))
    lengths = report["breakdowns"]["length"]
    assert list(lengths) == ["1-4", "5-8", "13+"]
    assert [part["sentences"] for part in lengths.values()] == [4, 1, 1]
    assert lengths["1-4"]["jaccard"]["value"] == pytest.approx((0 + 0.6 + 0.1 + 0.5) / 4)
    assert lengths["1-4"]["null_sentences"] == 4
    assert report["breakdowns"]["category"]["null"]["null"]["value"] == pytest.approx(0.1)
    assert report["breakdowns"]["dimension"]["spatial + acoustic + appearance"]["sentences"] == 1


def test_grades_and_dimensions_of_a_synthetic_tree(journal, tmp_path):
    (tmp_path / "scenes").mkdir()
    for index, uids in enumerate((("d",), ("e",), ("f",))):
        facts = [
            {"uid": uid, "grade": (2, 3, 5)[index], "dimensions": ["acoustic", "temporal"]}
            for uid in uids
        ]
        (tmp_path / "scenes" / f"test_u{index}.json").write_text(json.dumps({"expressions": facts}))
    report = report_of(journal, tmp_path, splits=("test_u",), by=("grade", "dimension"))
    assert {
        name: part["jaccard"]["value"] for name, part in report["breakdowns"]["grade"].items()
    } == {
        "1-2": pytest.approx(0.1),
        "3": pytest.approx(0.5),
        "5": pytest.approx(0.9),
    }
    assert list(report["breakdowns"]["dimension"]) == ["acoustic + temporal"]
    assert report["mix"] is None


def test_grades_are_unknown_without_scenes(tmp_path):
    with pytest.raises(ValueError, match=r"--by grade: .* has no scenes/"):
        SentenceFacts(tmp_path, ("grade",))
    with pytest.raises(
        ValueError, match="--by colour: must be of grade, dimension, length, category"
    ):
        SentenceFacts(tmp_path, ("colour",))
    assert in_order("grade", {"5", "1-2", "3"}) == ["1-2", "3", "5"]


def test_intervals_are_of_clips(journal, tmp_path):
    """test_s holds two clips, so that a draw is one of: the first twice, the second twice, both."""
    scored = scores_of(journal, tmp_path, ("test_s",))["test_s"].sentences
    for pooling in (Pooling(num_draws=200), Pooling("released", 4, num_draws=200)):
        estimate = scored.measure(pooling)["jaccard"]
        assert {round(draw, 6) for draw in estimate.draws.tolist()} == {0.15, 0.3, 0.6}
        assert np.mean(np.isclose(estimate.draws, 0.3)) == pytest.approx(0.5, abs=0.1)
        assert estimate.interval == (pytest.approx(0.15), pytest.approx(0.6))
        assert np.array_equal(estimate.draws, scored.measure(pooling)["jaccard"].draws)


def test_an_interval_covers_the_truth_as_often_as_it_says():
    """Of 200 samples of 60 clips, whose mean is known, the interval should hold it in about 95
    %."""
    rng, covered = np.random.default_rng(1), 0
    clips, counts = np.repeat(np.arange(60), 3), np.full(180, 10)
    for _ in range(200):
        sums = 10 * np.repeat(rng.normal(0.5, 0.1, 60), 3)  # sentences of a clip fall together
        low, high = estimate(pool_jaccard, sums, counts, clips, Pooling(num_draws=200)).interval
        covered += low <= 0.5 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_the_mean_of_estimates(journal, tmp_path):
    scored = scores_of(journal, tmp_path, ("test_s",))["test_s"].sentences
    measures = scored.measure(Pooling(num_draws=50))
    both = mean_of([measures["jaccard"], measures["fscore"]])
    assert np.allclose(both.draws, (measures["jaccard"].draws + measures["fscore"].draws) / 2)


def test_the_page(journal, tmp_path, monkeypatch):
    counts = {"test_s": {3}, "test_u": {3}, "test_n": {4}}
    monkeypatch.setattr("modeling_refavs.metrics.report.BENCH_SENTENCES", counts)
    page = report_text(report_of(journal, tmp_path, by=("length",)))
    assert "| Seen (test_s) | 2 | 3 | 30.00 [15.0, 60.0] |" in page
    assert "| **m** | 30.00 / 33.3 | 50.00 / 40.0 | 40.00 / 36.7 | 0.100 |" in page
    assert "| EEMC | 34.20 / 51.3 | 49.54 / 64.8 | 41.87 / 58.1 | 0.007 |" in page
    assert "| 1-4 | 4 |" in page
    assert page.count("39.66") == 1
    assert "nan" not in page.lower()


def test_published_results_stand_beside_ref_avs_bench_alone(journal, tmp_path):
    page = report_text(report_of(journal, tmp_path, by=("length",)))
    assert "published" not in page
    assert "paper" not in page
    assert "34.20" not in page
    whole = {"test_s": 2288, "test_u": 1656, "test_n": 1028}
    assert is_bench(whole)
    assert is_bench({"test_u": 1454})
    assert not is_bench({**whole, "test_n": 1027})
    assert not is_bench({"val": 1349})
    assert not is_bench({})


def test_answers_and_presence(journal, tmp_path):
    """One of four null references has a pixel; 0.8 is said where the object is, 0.2 where not, and
    the share that is predicted for null references."""
    report = report_of(journal, tmp_path)
    seen, _, null = report["splits"].values()
    assert (seen["t_acc"]["value"], seen["n_acc"]) == (1, None)
    assert (null["n_acc"]["value"], null["t_acc"]) == (0.75, None)
    presence = report["presence"]
    assert presence["frames"] == 100
    assert presence["auc"]["value"] == 1
    expected = (30 * 0.2 + 30 * 0.2 + 10 * 0.04) / 100
    assert presence["calibration_error"]["value"] == pytest.approx(expected)
    page = report_text(report)
    assert "| Null (test_n) | 2 | 4 | - | - | - | 0.100 [0.000, 0.200] | 75.00 [" in page
    assert "over 100 frames of all splits: area under the ROC curve 1.000 [1.000, 1.000]" in page


def test_roc_auc_is_mann_whitneys():
    rng = np.random.default_rng(0)
    labels = rng.random(300) < 0.3
    scores = np.round(rng.random(300) + 0.3 * labels, 1)  # with ties
    u = scipy.stats.mannwhitneyu(scores[labels], scores[~labels]).statistic
    assert roc_auc(scores, labels) == pytest.approx(u / labels.sum() / (~labels).sum())
    assert np.isnan(roc_auc(scores, np.ones(300, dtype=bool)))
    assert np.isnan(roc_auc(np.zeros(0), np.zeros(0, dtype=bool)))


def test_calibration_error_by_its_definition():
    rng = np.random.default_rng(0)
    probabilities = np.concatenate([rng.random(500), [0.0, 1.0]])
    labels = rng.random(502) < probabilities**2
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (probabilities >= low) & (probabilities < low + 1 / 15)
        if low == 14 / 15:
            inside |= probabilities == 1
        if inside.any():
            gap = abs(labels[inside].mean() - probabilities[inside].mean())
            expected += inside.sum() / 502 * gap
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected)
    certain = np.array([0.0, 1.0])
    assert expected_calibration_error(certain, certain == 1) == 0
    assert np.isnan(expected_calibration_error(np.zeros(0), np.zeros(0, dtype=bool)))


def test_published_mix_is_the_mean_of_seen_and_unseen():
    for result in PUBLISHED:
        for mixed, seen, unseen in zip(result.mix, result.seen, result.unseen, strict=True):
            assert mixed == pytest.approx((seen + unseen) / 2, abs=0.0501)


def scored(*scores: float) -> list[dict]:
    return [{"category": "dog", "jaccard": 10 * score, "jaccard_frames": 10} for score in scores]


def empty(predicted: float) -> dict:
    return {"category": "null", "predicted": 10 * predicted, "frames": 10}


def test_best_median_worst_sentence_and_worst_null():
    """A null reference of which nothing is predicted is as good as can be."""
    clips = [
        {"index": 0, "sentences": [*scored(0.5, 0.9), empty(0.2)]},
        {"index": 4, "sentences": [empty(0.0), *scored(0.1, 0.6, 0.4)]},
    ]
    found = [(choice.title, choice.index, choice.sentence) for choice in choose_sentences(clips)]
    assert found == [
        ("best of 5 sentences", 0, 1),
        ("median of 5 sentences", 0, 0),
        ("worst of 5 sentences", 4, 1),
        ("worst of 2 null references", 0, 2),
    ]


def test_few_sentences_show_once():
    def titles(*sentences: dict) -> list[str]:
        chosen = choose_sentences([{"index": 0, "sentences": [*sentences]}])
        return [choice.title.split()[0] for choice in chosen]

    assert titles(*scored(0.5, 0.1)) == ["best", "worst"]
    assert titles(*scored(0.5)) == ["best"]
    assert titles(empty(0.1), empty(0.3), empty(0.0)) == ["best", "median", "worst"]
    assert titles() == []


def test_the_picture_shows_truth_and_prediction():
    masks = np.zeros((3, 8, 8), dtype=bool)
    masks[:2, :4] = True
    frames = [Image.new("RGB", (160, 120), (128, 128, 128))] * 3
    panel = Panel(
        "best of 9 sentences",
        {"expression": "the dog", "category": "dog"},
        frames,
        masks,
        {"prediction": masks[::-1] * 0.9},
    )
    picture = np.asarray(draw_gallery([panel, panel], Conventions()))
    assert picture.shape[0] % 2 == 0
    assert np.array_equal(*np.split(picture, 2))
    coloured = np.ptp(picture[: len(picture) // 2].astype(int), axis=2) > 20
    assert coloured.any(axis=0)[140:].sum() > 3 * 140  # every frame holds a truth or a prediction
    null = Panel(
        "worst of 9 null references",
        {"expression": "the cat", "category": "null"},
        frames,
        masks & False,
        {"prediction": masks * 0.9},
    )
    assert draw_gallery([null], Conventions()).size == (picture.shape[1], picture.shape[0] // 2)


def test_several_predictions_are_below_each_other():
    masks = np.ones((2, 8, 8), dtype=bool)
    frames = [Image.new("RGB", (160, 120), (128, 128, 128))] * 2
    sentence = {"expression": "the dog", "category": "dog"}
    heights = []
    for names in (["one"], ["one", "two"], ["one", "two", "three"]):
        panel = Panel("median", sentence, frames, masks, dict.fromkeys(names, masks * 0.9))
        heights.append(draw_gallery([panel], Conventions()).height)
    assert heights[2] - heights[1] == heights[1] - heights[0] > 120
