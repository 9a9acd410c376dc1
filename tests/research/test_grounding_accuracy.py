"""How often cues choose the right object: counted by hand, and from a command to a table."""

import copy
import json
import math

import pytest
import torch

from modeling_refavs.cli import main
from modeling_refavs.research.ablate import GroundingScores, grounding_hits, measure_grounding
from modeling_refavs.research.stages import RefAVSForCueAlignment
from modeling_refavs.training.arguments import read_recipe
from tests.training.conftest import SMOKE


def make_masks(*places: int | None) -> torch.Tensor:
    """`(sentences, 1, 4, 4)`: the object covers one quarter of the frame, or nothing."""
    masks = torch.zeros(len(places), 1, 4, 4)
    for row, place in enumerate(places):
        if place is not None:
            top, left = 2 * (place // 2), 2 * (place % 2)
            masks[row, 0, top : top + 2, left : left + 2] = 1
    return masks


def lit_at(*places: int) -> torch.Tensor:
    return 6 * torch.nn.functional.one_hot(torch.tensor(places), 4).float().unsqueeze(1)


def test_the_brightest_of_the_objects_in_view_is_chosen():
    masks = make_masks(0, 0, 3)  # two sentences mean one object, the third another
    right, asked = grounding_hits(lit_at(0, 3, 3), masks, torch.zeros(3, dtype=torch.long))
    assert asked.all()
    assert right[:, 0].tolist() == [True, False, True]


def test_light_where_no_object_is_decides_nothing():
    logits = lit_at(1, 1)
    logits[0, 0, 3] = logits[1, 0, 0] = 1.0  # place 1 is empty
    right, asked = grounding_hits(logits, make_masks(3, 0), torch.zeros(2, dtype=torch.long))
    assert asked.all()
    assert right.all()


@pytest.mark.parametrize(
    ("places", "clips"),
    [((0, 0), (0, 0)), ((0, None), (0, 0)), ((None, None), (0, 0)), ((0, 1), (0, 1))],
)
def test_where_there_is_no_choice_nothing_is_asked(places, clips):
    right, asked = grounding_hits(lit_at(0, 0), make_masks(*places), torch.tensor(clips))
    assert not asked.any()
    assert not right.any()


def test_what_leaves_the_frame_is_not_asked_there():
    masks = torch.cat([make_masks(0, 1), make_masks(0, None)], dim=1)
    _, asked = grounding_hits(torch.zeros(2, 2, 4), masks, torch.zeros(2, dtype=torch.long))
    assert asked.tolist() == [[True, False], [True, False]]


CUES = ("--config.cue_loss_weight", "4.0", "--cache_cues", "true")


def test_an_ablation_that_ends_with_the_cues_is_judged_by_its_choices(recipe, tmp_path, capfd):
    words = [str(recipe), "--output", str(tmp_path), "--only", "full", "no_text"]
    settings = ["--stage", "alignment", "--max_steps", "2", *CUES]
    assert main(["ablate", *words, "--set", *settings]) == 0
    table = capfd.readouterr().out
    assert "|  | full | no_text |" in table
    assert "| Seen |" in table
    assert set(
        json.loads((tmp_path / "full" / "seed0" / "grounding_accuracy.json").read_text())
    ) == {
        "test_s",
        "test_u",
    }
    assert main(["ablate", *words, "--set", *settings]) == 0  # nothing anew
    assert capfd.readouterr() == (table, "")


def test_choices_are_counted_by_family(prepared):
    _, split, model, processor = prepared
    torch.manual_seed(0)
    config = copy.deepcopy(model.config)
    config.grounding_config.loss_weight = 1.0
    stage = RefAVSForCueAlignment(config).eval()
    counts = measure_grounding(stage, processor, split)
    sentences = [
        sentence for clip in split.clips for sentence in clip.sentences if not sentence.is_null
    ]
    assert set(counts) <= {sentence.family for sentence in sentences}
    assert sum(asked for _, asked in counts.values()) >= 50
    assert all(0 <= right <= asked for right, asked in counts.values())


def test_shares_are_pooled_over_both_splits():
    judge = GroundingScores(read_recipe(SMOKE)[1], "cues")
    report = {"test_s": {"acoustic": [1, 2], "semantic": [2, 2]}, "test_u": {"acoustic": [1, 6]}}
    assert math.isnan(judge.scores({"test_s": {}, "test_u": {"acoustic": [1, 2]}})["Seen"])
    assert judge.scores(report) == {
        "Seen": 0.75,
        "Unseen": 1 / 6,
        "acoustic": 0.25,
        "semantic": 1.0,
    }
    text = judge.text({"full": [report, report]})
    assert "over 2 seeds" in text
    assert "| acoustic | 0.25 ± 0.00 |" in text
