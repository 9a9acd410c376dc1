"""A row a sentence, and what is told of two such tables."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from modeling_refavs.metrics.report import Pooling, Presences, ScoredSplit, Sentences
from modeling_refavs.metrics.sentence_table import (
    COLUMNS,
    _measure,
    compare,
    read_table,
    write_table,
)


def make_split(seed: int, null: bool = False, clips: int = 12, each: int = 3) -> ScoredSplit:
    """Random scores of sentences; the object is in 1 to 10 of 10 frames, and of one in none."""
    rng = np.random.default_rng(seed)
    count = clips * each
    of_object = np.random.default_rng(7).integers(1, 11, count)
    of_object[2] = 0
    scored = Sentences(
        clips=np.repeat(np.arange(clips), each),
        is_null=np.full(count, null),
        jaccard=10 * rng.random(count),
        jaccard_frames=np.full(count, 10),
        fscore=of_object[:, None] * rng.random((count, 255)),
        object_frames=of_object,
        predicted=rng.random(count) * (rng.random(count) < 0.5),
        frames=np.full(count, 10),
        answered=rng.random(count) < 0.7,
    )
    rows = [
        {
            "clip_id": f"clip{index // each}",
            "uid": f"u{index}",
            "expression": ('the "red", one', "NA", "")[index % 3],
            "category": "null" if null else "dog",
            "presence": rng.random() if index else None,
            "iou_predicted": None,
            "seconds": 0.25,
        }
        for index in range(count)
    ]
    groups = [{"dimension": "acoustic"}] * count
    return ScoredSplit(scored, groups, Presences(*[np.zeros(0)] * 3), rows, {})


@pytest.fixture
def folders(tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        splits = {
            "test_s": make_split(seed),
            "test_u": make_split(seed + 10),
            "test_n": make_split(seed + 20, null=True),
        }
        write_table(splits, tmp_path / name)
    return tmp_path / "a", tmp_path / "b"


def test_both_files_hold_the_same(folders):
    parquet, csv = (read_table(folders[0] / f"sentences.{kind}") for kind in ("parquet", "csv"))
    pd.testing.assert_frame_equal(parquet, csv, check_exact=True)
    assert list(parquet) == list(COLUMNS)
    assert len(parquet) == 108
    assert parquet["expression"].tolist()[:3] == ['the "red", one', "NA", ""]
    assert parquet["J"].isna().tolist() == parquet["is_null"].tolist()
    assert parquet["S"].isna().tolist() == (~parquet["is_null"]).tolist()
    assert np.isnan(parquet["presence"][0])


def test_the_table_has_the_numbers_of_the_report(folders):
    """J, F and S of a split, N-acc and T-acc are means of its rows."""
    pooling = Pooling(num_draws=5)
    rows = read_table(folders[0] / "sentences.csv")
    for split, scored in (("test_s", make_split(1)), ("test_n", make_split(21, null=True))):
        expected = scored.sentences.measure(pooling)
        for found in (_measure(rows, pooling)[split], means_of(rows[rows["split"] == split])):
            for name, estimate in expected.items():
                value = getattr(found[name], "value", found[name])
                assert value == pytest.approx(estimate.value, nan_ok=True), name


def means_of(rows: pd.DataFrame) -> dict[str, float]:
    real, null = rows[~rows["is_null"]], rows[rows["is_null"]]
    jaccard = fscore = np.nan
    if len(real):
        jaccard = np.average(real["J"], weights=real["jaccard_frames"])
        shown = real[real["object_frames"] > 0]
        fscore = np.average(shown["F"], weights=shown["object_frames"])
    return {
        "jaccard": jaccard,
        "fscore": fscore,
        "jaccard_and_fscore": (jaccard + fscore) / 2,
        "null": np.sqrt((null["S"] ** 2).mean()),
        "n_acc": 1 - null["answered"].mean(),
        "t_acc": real["answered"].mean(),
    }


def test_intervals_are_scipys(tmp_path):
    """One sentence a clip, where a bootstrap over clips is one over sentences: the interval of
    `scipy.stats.bootstrap`, but for the draws."""
    splits = [make_split(seed, clips=60, each=1) for seed in (1, 2)]
    for name, split in zip("ab", splits, strict=True):
        (tmp_path / name).mkdir()
        write_table({"test_s": split}, tmp_path / name)
    text = compare(tmp_path / "a", tmp_path / "b", num_draws=9999)
    line = next(line for line in text.splitlines() if line.startswith("| Seen | J |"))
    found = [
        float(number)
        for number in line.replace("[", "").replace("]", "").replace(",", " |").split("|")[3:-1]
    ]
    first, second = (10 * split.sentences.jaccard for split in splits)
    drawn = scipy.stats.bootstrap(
        (first, second),
        lambda one, other, axis: np.mean(other - one, axis=axis),
        paired=True,
        method="percentile",
        n_resamples=9999,
        random_state=np.random.default_rng(5),
    )
    expected = [first.mean(), second.mean(), (second - first).mean(), *drawn.confidence_interval]
    np.testing.assert_allclose(found[:3], expected[:3], atol=0.0051)
    np.testing.assert_allclose(found[3:5], expected[3:], atol=0.35)
    below = np.mean(drawn.bootstrap_distribution <= 0)
    assert found[5] == pytest.approx(2 * min(below, 1 - below), abs=0.02)


def test_a_clear_difference_and_none(folders, tmp_path):
    rows = read_table(folders[0])
    better = rows.assign(J=rows["J"] + 0.1)
    better.sample(frac=1, random_state=0).to_csv(tmp_path / "better.csv", index=False)
    text = compare(folders[0], tmp_path / "better.csv")  # whatever the order of the rows
    seen = [line for line in text.splitlines() if line.startswith("| Seen")]
    assert seen[0].endswith("| +10.00 | [+10.00, +10.00] | 0.002 |")
    assert seen[1].endswith("| +0.00 | [+0.00, +0.00] | 1.000 |")
    assert [line.split("|")[1].strip() for line in text.splitlines() if "| J |" in line] == [
        "Seen",
        "Unseen",
        "Mix",
    ]


def test_clips_of_one_table_alone_are_left_out(folders, tmp_path):
    rows = read_table(folders[1])
    rows[rows["split"] != "test_u"].to_parquet(tmp_path / "fewer.parquet")
    text = compare(folders[0], tmp_path / "fewer.parquet")
    assert "72 sentences of 24 clips; 12 clips are in one table alone and left out" in text
    assert "Unseen" not in text


def test_tables_that_cannot_be_compared(folders, tmp_path):
    rows = read_table(folders[0])
    with pytest.raises(ValueError, match="no table: give a folder"):
        compare(folders[0], tmp_path / "nowhere")
    rows.drop(columns="J").to_csv(tmp_path / "lacks.csv")
    with pytest.raises(ValueError, match=r"lacks.csv: no table of .*'J'"):
        read_table(tmp_path / "lacks.csv")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"broken.parquet: no table of"):
        read_table(tmp_path / "broken.parquet")
    rows.assign(expression="another").to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="the same clips have other sentences in each"):
        compare(folders[0], tmp_path / "other.parquet")
    rows.assign(clip_id="x").to_parquet(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="no clip is in both"):
        compare(folders[0], tmp_path / "x.parquet")
