"""`refavs compare`: trainings and evaluations of several recipes, and what it makes of them."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from dataset_script.builder_refavs import load_refavs
from modeling_refavs.cli import main
from modeling_refavs.metrics.predictors import Prediction
from modeling_refavs.metrics.scoring import true_masks
from modeling_refavs.research import ablate as ablation
from modeling_refavs.research.compare import (
    answers_text,
    choose_typical,
    compare,
    comparison_text,
    find_contested,
    measure_overlap,
    score_contested,
)
from tests.research.test_ablate import make_report


@pytest.fixture
def recipes(recipe, tmp_path):
    """Of EEMC and of TPAVI, one step each."""
    values = yaml.safe_load(recipe.read_text()) | {"max_steps": 1}
    config = values["config"]
    tpavi = {
        "architecture": "tpavi",
        "config": {
            "vision_config": config["mask2former_config"]["backbone_config"],
            "text_config": config["text_config"],
            "audio_config": config["audio_config"],
            "hidden_size": 32,
        },
    }
    paths = [tmp_path / "small_eemc.yaml", tmp_path / "small_tpavi.yaml"]
    for path, changed in zip(paths, ({}, tpavi), strict=True):
        path.write_text(yaml.safe_dump({**values, **changed}))
    return paths


@pytest.fixture
def started(monkeypatch):
    """The words of each command, which runs here and not in a process of its own."""
    commands = []

    def run_here(words, what):
        commands.append(list(words[2:]))
        assert main(words[2:]) == 0, what

    monkeypatch.setattr(ablation, "run_apart", run_here)
    return commands


def test_methods_are_trained_scored_and_shown(recipes, started, tmp_path, capsys):
    output = tmp_path / "out"
    words = ["compare", *map(str, recipes), "--output", str(output), "--by", "dimension"]
    assert main(words) == 0
    assert [command[0] for command in started] == ["train", "evaluate"] * 2
    text = (output / "comparison.md").read_text()
    assert capsys.readouterr().out.endswith(text)
    for line in ("| EEMC |", "| AVSBench + text |", "| EEMC, paper | 34.20 | 51.3 | 49.54 |"):
        assert line in text
    assert "| AVSBench + text, paper | 23.20 | 51.1 | 32.36 | 52.9" not in text
    assert "| dimension | EEMC | AVSBench + text |" in text
    assert "AVSegFormer" not in text
    assert "## Does it follow the sentence?" in text
    with Image.open(output / "figure_4.png") as figure:
        assert figure.width > 1500
    assert main(words) == 0  # nothing is trained again, and nothing scored
    assert [command[0] for command in started[4:]] == ["evaluate"] * 2
    scores = output / "small_tpavi" / "seed0" / "evaluation" / "scores-0.jsonl"
    assert len(scores.read_text().splitlines()) == 3


def test_every_method_goes_on_by_the_recipe_of_the_second_stage(recipes, started, tmp_path):
    values = yaml.safe_load(recipes[1].read_text())
    for name in ("architecture", "config"):
        del values[name]
    then = tmp_path / "then.yaml"
    then.write_text(yaml.safe_dump(values))
    compare(recipes[1:], tmp_path / "out", then=then)
    folder = tmp_path / "out" / "small_tpavi" / "seed0"
    first, second, evaluation = started
    assert first[:2] == ["train", str(recipes[1])]
    assert f"--output_dir={folder / 'stage1'}" in first
    assert second[:2] == ["train", str(then)]
    assert {"--architecture=tpavi", f"--model={folder / 'stage1'}"} < set(second)
    assert evaluation[evaluation.index("--model") + 1] == str(folder)


def test_without_the_added_modality_a_method_has_its_own_name():
    text = comparison_text({"AVSegFormer": [make_report(0.3)], "EEMC": [make_report(0.4)]})
    assert "| AVSegFormer | 30.00 |" in text
    assert "AVSegFormer + text, paper" not in text
    assert "one seed" in text


def test_the_typical_clip_is_the_median_of_the_mean_over_methods(tmp_path):
    scores = {"a": [0.9, 0.2, 0.4], "b": [0.1, 0.2, 0.9]}  # means 0.5, 0.2, 0.65
    for name, values in scores.items():
        folder = tmp_path / name
        folder.mkdir()
        lines = [
            {
                "split": "test_s",
                "index": index,
                "sentences": [
                    {"category": "dog", "jaccard": 10 * value, "jaccard_frames": 10, "predicted": 0}
                ],
            }
            for index, value in enumerate(values)
        ]
        (folder / "scores-0.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    choice = choose_typical([tmp_path / name for name in scores], "test_s")
    assert (choice.index, choice.title) == (0, "median of 3 clips")


def test_overlap_tells_who_follows_the_sentence(benchmark_folder):
    def the_truth(clip, truths):
        return [Prediction(truth.masks.astype(np.float32)) for truth in truths]

    def every_object(clip, truths):
        shown = np.any([truth.masks for truth in truths], axis=0).astype(np.float32)
        return [Prediction(shown) for _ in truths]

    def nothing(clip, truths):
        return [Prediction(np.zeros(truth.masks.shape, np.float32)) for truth in truths]

    data = str(benchmark_folder)
    assert measure_overlap(the_truth, data) == 0
    assert measure_overlap(every_object, data) == 1
    assert np.isnan(measure_overlap(nothing, data))


def test_answers_are_shown_beside_the_overlap():
    report = make_report(0.3)
    report["splits"]["test_s"]["t_acc"] = {"value": 0.9}
    report["splits"]["test_n"]["n_acc"] = {"value": 0.25}
    text = answers_text({"EEMC": [report] * 2}, {"EEMC": [0.25, 0.75]}, {"EEMC": [30, 34]}, 7)
    assert "of the 7 sentences" in text
    assert "| EEMC | 0.500 ± 0.354 | 32.0 ± 2.8 | 90.0 ± 0.0 | 90.0 ± 0.0 | 25.0 ± 0.0 |" in text


def test_contested_are_those_that_a_mask_of_everything_misses(benchmark_folder, tmp_path):
    data, scores = str(benchmark_folder), {}
    for split in ("test_s", "test_u"):
        for clip in load_refavs(data, "clips", split):
            truths = [truth.masks for truth in true_masks(clip, 64)]
            everything = np.maximum.reduce(truths)
            for sentence, truth in zip(clip["expressions"], truths, strict=True):
                frames = [
                    (one & both).sum() / both.sum()
                    for one, both in zip(truth, everything, strict=True)
                    if one.any()
                ]
                scores[sentence["uid"]] = np.mean(frames)
    chosen = find_contested(data)
    assert 0 < len(chosen) < len(scores)
    far = {uid: score < 0.5 for uid, score in scores.items() if abs(score - 0.5) > 0.05}
    assert {uid for uid in far if uid in chosen} == {uid for uid, below in far.items() if below}
    line = {
        "sentences": [
            {"uid": "a", "jaccard": 3.0, "jaccard_frames": 10},
            {"uid": "b", "jaccard": 4.0, "jaccard_frames": 4},
            {"uid": "c", "jaccard": 5.0, "jaccard_frames": 10},
        ]
    }
    (tmp_path / "scores-0.jsonl").write_text(json.dumps(line) + "\n")
    assert score_contested(tmp_path, {"a", "c"}) == pytest.approx(40)


def test_mistakes(recipes, started, tmp_path):
    with pytest.raises(ValueError, match="different file names"):
        compare([recipes[0], recipes[0]], tmp_path / "out")
    with pytest.raises(ValueError, match="small_eemc: a recipe of stage masks is needed"):
        compare(recipes[:1], tmp_path / "out", overrides=["--stage", "cues"])
    values = yaml.safe_load(recipes[1].read_text()) | {"data": "elsewhere"}
    recipes[1].write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match="elsewhere: say with --data what is scored"):
        compare(recipes, tmp_path / "out")
    assert not started
