import numpy as np
import pytest

from dataset_script.synthetic import SynthesisOptions, synthesize
from dataset_script.synthetic.shortcuts import (
    GUESSERS,
    LINE,
    format_shortcuts,
    jaccard,
    measure_shortcuts,
)
from modeling_refavs.cli import main


@pytest.fixture(scope="module")
def table(benchmark_folder):
    return measure_shortcuts(benchmark_folder)


def test_no_guesser_passes_without_the_modality(table):
    """On few clips, so all families at once; docs/data.md holds the table of many."""
    for name in set(GUESSERS) - {"sentence + frames"}:
        assert table["all"][name] < LINE, name


def test_who_sees_and_reads_knows_what_takes_no_ear(table):
    for family, row in table.items():
        if family != "all" and "acoustic" not in family and family != "audio-visual":
            assert row["sentence + frames"] == pytest.approx(1.0), family
    heard = [
        row for family, row in table.items() if "acoustic" in family or family == "audio-visual"
    ]
    total = sum(row["sentences"] for row in heard)
    assert total > 40
    assert sum(row["sentence + frames"] * row["sentences"] for row in heard) / total < LINE


def test_jaccard_of_frames_with_and_without_the_object():
    truth = np.zeros((3, 4, 4), dtype=bool)
    truth[0, :2] = True
    guess = np.zeros_like(truth)
    guess[0, 1:3] = True
    guess[2, 0, 0] = True
    assert jaccard(truth, truth) == 1.0
    assert jaccard(guess, truth) == pytest.approx((1 / 3 + 1 + 0) / 3)


def test_the_command_prints_the_table(tmp_path, capsys):
    folder = str(tmp_path / "out")
    assert (
        main(
            ["synthesize", folder, "--clips", "20", "--seconds", "5", "--size", "32", "--shortcuts"]
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| family | sentences | biggest |")
    assert lines[-1].startswith("| all |")
    assert len({line.count("|") for line in lines}) == 1


def test_nothing_to_measure_is_said(tmp_path):
    synthesize(tmp_path / "out", 1, SynthesisOptions(seed=0, height=32, width=32, seconds=1.0))
    with pytest.raises(ValueError, match="make more clips"):
        measure_shortcuts(tmp_path / "out")
    assert format_shortcuts({"all": {"sentences": 1, **dict.fromkeys(GUESSERS, 0.5)}}).count(
        "0.50"
    ) == len(GUESSERS)
