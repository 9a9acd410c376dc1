"""The object head's training: clips with all that is true of them, encoded once, and folds."""

import json

import numpy as np
import pytest
import torch

from modeling_refavs import RefAVSForSegmentation
from modeling_refavs.cli import main
from modeling_refavs.efficientnet_lite_refavs import (
    RefAVSEfficientNetLiteConfig,
    RefAVSEfficientNetLiteForImageClassification,
)
from modeling_refavs.research import train_object_head as training
from modeling_refavs.research.train_object_head import (
    DrawnClips,
    EncodedClips,
    ObjectHeadTraining,
    ObjectQuestions,
    Said,
    collate,
    fit_folds,
    read_words,
)
from tests.conftest import make_model
from tests.dataset_script.synthetic.test_library import write_library


NAMING = {"loss_weight": 1.0, "use_alignment": True, "vocabulary_size": 7}


@pytest.fixture(scope="module")
def folders(tmp_path_factory, processor):
    """A library, an image classifier of seven classes and a model without the head."""
    folder = tmp_path_factory.mktemp("object_head")
    write_library(folder / "library")
    torch.manual_seed(0)
    config = RefAVSEfficientNetLiteConfig(
        width_coefficient=0.2, stem_size=8, head_size=16, num_labels=7
    )
    RefAVSEfficientNetLiteForImageClassification(config).save_pretrained(folder / "classifier")
    model = make_model(grounding_config=NAMING)
    for parameter in model.model.catf.update_projection.parameters():
        torch.nn.init.zeros_(parameter)
    model.save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    return folder


@pytest.fixture(scope="module")
def model(folders):
    head = {"grounding_config": {"object_head_size": 16}}
    return RefAVSForSegmentation.from_pretrained(folders / "model", strict=False, **head).eval()


@pytest.fixture(scope="module")
def drawn(folders, processor):
    return DrawnClips(str(folders / "library"), "train", 6, 3, processor)


@pytest.fixture(scope="module")
def encoded(drawn, model, tmp_path_factory):
    encoded = EncodedClips(drawn, model, tmp_path_factory.mktemp("encoded"))
    encoded.make()
    return encoded


def test_a_clip_is_drawn_with_all_that_is_true_of_it(folders, drawn, processor):
    again = DrawnClips(str(folders / "library"), "train", 6, 3, processor)
    clips = [drawn[index] for index in range(len(drawn))]
    assert clips[2]["said"] == again[2]["said"]
    assert (clips[2]["frames"] == again[2]["frames"]).all()
    for clip in clips:
        count = len(clip["kinds"])
        assert clip["masks"].shape == (count, 10, 96, 96)
        assert len({one.text for one in clip["said"]}) == len(clip["said"])
        assert {one.row for one in clip["said"]} <= {*range(-1, count)}
    said = [one for clip in clips for one in clip["said"]]
    assert len(said) > 10 * len(clips)  # a tree has at most nine of a clip
    assert {one.row < 0 for one in said} == {True, False}


def test_iou_of_queries_with_objects_is_that_of_their_masks(drawn, model, encoded, processor):
    clip, read = drawn[1], encoded.read()[1]
    assert read["said"] == clip["said"]
    frames = list(clip["frames"])
    pixels = processor.image_processor(frames, do_resize=False, return_tensors="pt")
    with torch.no_grad():
        clips = model.encode_clips(pixels["pixel_values"][None])
        objects, masks = model.find_objects(clips)
    np.testing.assert_allclose(read["facts"], objects.facts, rtol=1e-2, atol=1e-2)
    large = torch.nn.functional.interpolate(masks, (96, 96), mode="bilinear").numpy() > 0
    for step, query, row in np.ndindex(10, large.shape[1], len(clip["kinds"])):
        truth = clip["masks"][row, step]
        one, other = large[step, query], truth
        expected = (one & other).sum() / max(1, (one | other).sum()) if truth.any() else -1
        assert read["iou"][step, query, row] == pytest.approx(expected, abs=1e-3)


def test_clips_are_encoded_once(drawn, encoded, model, monkeypatch):
    times = [path.stat().st_mtime_ns for path in encoded.paths]
    encoded.paths[2].unlink()  # as if it was stopped half way
    encoded.make()
    again = [path.stat().st_mtime_ns for path in encoded.paths]
    assert [one == other for one, other in zip(times, again, strict=True)] == [
        number != 2 for number in range(6)
    ]


def test_questions_follow_from_their_number(encoded, model, processor):
    clips = encoded.read()
    words = read_words(model, processor, {one.text for clip in clips for one in clip["said"]})
    visual = [torch.zeros(*clip["shown"].shape[:2], 32) for clip in clips]
    questions = ObjectQuestions(clips, visual, words, 8, seed=1)
    one, other = questions[3], questions[3]
    assert all(torch.equal(one[name], other[name]) for name in one)
    batch = collate([questions[0], questions[1]])
    rows = training.SENTENCES * training.STEPS
    assert all(len(value) == 2 * rows for value in batch.values())
    loss = ObjectHeadTraining(model)(**batch)["loss"]
    assert loss.isfinite()


def test_words_are_swapped_within_a_form(encoded, model, processor):
    said = [Said("The dog.", 0, "thing"), Said("The drum.", 0, "thing")]
    said += [Said("The loud big dog.", 0, "other"), Said("The drum that you hear.", 0, "thing")]
    clip = {**encoded.read()[0], "said": said}
    words = read_words(model, processor, {one.text for one in said})
    lengths = {text: len(states) for text, states in words.items()}
    questions = ObjectQuestions([clip], [torch.zeros(10, 4, 8)], words, 1, 0, swapped=1.0)
    rng = np.random.default_rng(0)
    for one in said:
        found = {questions._swap(one, rng) for _ in range(30)}
        alike = [o.text for o in said if o.form == one.form]
        assert found == {text for text in alike if lengths[text] == lengths[one.text]}


def test_a_map_of_a_fold_does_not_know_its_kinds(folders, model, processor):
    """What is said of a kind changes F'_V of other kinds, and not of its own."""
    rng = np.random.default_rng(0)
    channels = model.model.cue_projection.visual.in_features
    kinds = ["cat", "dog", "drum", "hen", "lion", "owl"]
    clips = []
    for number in range(12):
        iou = np.zeros((10, 4, 1), np.float16)
        iou[:, number % 4] = 0.9
        shown = rng.normal(size=(10, 4, channels)).astype(np.float16)
        kind = kinds[number % 6]
        said = [Said(f"The {kind}.", 0, "thing")]
        clips.append({"shown": shown, "iou": iou, "kinds": [kind], "said": said})
    words = read_words(model, processor, {f"The {kind}." for kind in kinds})
    arguments = (model, processor, str(folders / "classifier"), clips)
    before = fit_folds(*arguments, words)
    after = fit_folds(*arguments, {**words, "The hen.": words["The hen."] + 5})
    for number, clip in enumerate(clips):
        query = number % 4
        same = torch.equal(before[number][:, query], after[number][:, query])
        assert same == (kinds.index(clip["kinds"][0]) % 4 == kinds.index("hen") % 4)


def test_command(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "SCORED", 2)
    monkeypatch.setitem(training.GROUNDING_CONFIG, "object_head_size", 16)
    monkeypatch.setattr(training, "FITTED_IOU", 0.0)  # of decoders that are not trained
    parts = [str(folders / name) for name in ("model", "classifier", "library")]
    command = ["train-object-head", *parts, str(tmp_path), "--clips", "3", "--batch-size", "2"]
    assert main([*command, "--steps", "3"]) == 0, capsys.readouterr().err[-500:]
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert set(scores) == {"iou", "nothing"}
    start = RefAVSForSegmentation.from_pretrained(folders / "model").state_dict()
    learned = RefAVSForSegmentation.from_pretrained(tmp_path)
    assert learned.object_predictor.layers[0].num_heads == learned.config.num_attention_heads
    state = learned.state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in start.items())
    times = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("run/*/*.npz"))]
    assert (
        main([*command, "--steps", "3"]) == 0
    )  # finished: nothing is made anew, and it is the same model
    assert times == [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("run/*/*.npz"))]
    again = RefAVSForSegmentation.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in again.items())


def test_a_model_whose_queries_follow_what_is_asked_is_refused(
    folders, processor, tmp_path, capsys
):
    make_model(grounding_config=NAMING).save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    parts = [str(folders / name) for name in ("classifier", "library")]
    out = tmp_path / "out"
    assert main(["train-object-head", str(tmp_path / "model"), *parts, str(out)]) == 2
    assert "its CATF is trained" in capsys.readouterr().err
    assert not out.exists()
