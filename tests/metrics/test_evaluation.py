"""Every clip through a predictor, scores that survive any stop, and what a model and a folder of
masks are asked."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.utils import ModelOutput

from dataset_script.builder_refavs import load_refavs
from dataset_script.media_files import mask_paths, write_mask
from modeling_refavs.metrics.evaluation import (
    Journal,
    Processes,
    evaluate_clips,
    fingerprint,
    join_processes,
)
from modeling_refavs.metrics.predictors import (
    FolderPredictor,
    ModelPredictor,
    SavedPredictor,
    SavingPredictor,
    open_predictions,
)
from modeling_refavs.metrics.scoring import (
    Conventions,
    Prediction,
    score_sentence,
    true_masks,
)
from modeling_refavs.video_refavs import read_wav

from ..conftest import make_model
from .conftest import METRICS


ROOT = METRICS.parents[1]
OWN_SIZE = Conventions(mask_size=None)


@pytest.fixture(scope="module")
def clips(tree) -> dict:
    return {
        split: load_refavs(tree, "clips", split, damaged="trust") for split in ("test_s", "test_n")
    }


class HalfRight:
    """Predicts the truth in even frames and nothing in odd ones, or a tenth of null frames; counts
    its clips."""

    def __init__(self, stop_at: int | None = None):
        self.asked, self.stop_at = [], stop_at

    def __call__(self, clip, truths):
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append(clip["clip_id"])
        for truth in truths:
            probabilities = (
                truth.masks * (np.arange(10) % 2 == 0)[:, None, None].astype(np.float32) * 0.9
            )
            if not truth.masks.any():
                probabilities[:, :, :1] = 0.9
            yield Prediction(probabilities.astype(np.float32))


def scores_of(journal: Journal) -> list[dict]:
    records = sorted(journal.read(), key=lambda record: (record["split"], record["index"]))
    return [
        {name: value for name, value in record.items() if name != "seconds"} for record in records
    ]


@pytest.fixture(scope="module")
def uninterrupted(clips, tmp_path_factory) -> list[dict]:
    with Journal(tmp_path_factory.mktemp("whole"), {}) as journal:
        evaluate_clips(clips, HalfRight(), OWN_SIZE, journal, Processes())
        return scores_of(journal)


def test_what_is_kept_of_a_sentence(uninterrupted):
    null, seen = uninterrupted[0]["sentences"][0], uninterrupted[3]["sentences"][0]
    assert (null["predicted"], null["frames"]) == (pytest.approx(10 / 48), 10)
    assert (seen["jaccard"], seen["jaccard_frames"], seen["object_frames"]) == (5, 10, 10)
    assert len(seen["fscore"]) == 255
    assert max(seen["fscore"][1:]) == 5
    assert [len(record["sentences"]) for record in uninterrupted] == [4, 4, 4, 6, 6, 6]


def test_stopped_and_gone_on(clips, uninterrupted, tmp_path):
    """With a line cut short, and another number of processes the second time."""
    with Journal(tmp_path, {}) as journal, pytest.raises(KeyboardInterrupt):
        evaluate_clips(clips, HalfRight(stop_at=3), OWN_SIZE, journal, Processes())
    first = tmp_path / "scores-0.jsonl"
    first.write_bytes(first.read_bytes()[:-2000])
    again = [HalfRight(), HalfRight()]
    journals = [Journal(tmp_path, {}, rank) for rank in (0, 1)]
    for rank in (0, 1):
        with journals[rank] as journal:
            evaluate_clips(clips, again[rank], OWN_SIZE, journal, Processes(rank, 2))
    assert [len(predictor.asked) for predictor in again] == [2, 2]
    assert scores_of(journals[0]) == uninterrupted


KILLED = """
import os, signal, sys
from dataset_script.builder_refavs import load_refavs
from modeling_refavs.metrics.evaluation import evaluate_clips
from modeling_refavs.metrics.scoring import Journal
from modeling_refavs.metrics.evaluation import Processes, join_processes
from tests.metrics.test_evaluation import OWN_SIZE, HalfRight

class Killed(HalfRight):
    def __call__(self, clip, truths):
        if len(self.asked) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(clip, truths)

tree, cache, output = sys.argv[1:]
clips = {split: load_refavs(tree, "clips", split, damaged="trust", cache_dir=cache) for split in ("test_s", "test_n")}
evaluate_clips(clips, Killed(), OWN_SIZE, Journal(output, {}), Processes())
"""  # noqa: E501


def test_killed_and_gone_on(clips, tree, cache, uninterrupted, tmp_path):
    arguments = [sys.executable, "-c", KILLED, str(tree), str(cache), str(tmp_path)]
    assert subprocess.run(arguments, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    with Journal(tmp_path, {}) as journal:
        predictor = HalfRight()
        assert len(journal.done) == 2
        evaluate_clips(clips, predictor, OWN_SIZE, journal, Processes())
        assert len(predictor.asked) == 4
        assert scores_of(journal) == uninterrupted


def slow_or_waiting(rank: int, port: int, file: Path) -> bool:
    """Whether `file` is there when both have come to the same place; the second process writes it,
    and takes its time."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    with join_processes() as processes:
        if processes.rank == 1:
            time.sleep(1)
            file.touch()
        processes.wait()
        return file.exists()


def test_processes_wait_for_each_other(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        answers = [
            pool.submit(slow_or_waiting, rank, port, tmp_path / "written") for rank in (0, 1)
        ]
        assert [answer.result(timeout=60) for answer in answers] == [True, True]


def test_a_journal_is_of_one_request(tmp_path):
    Journal(tmp_path, {"model": "a", "conventions": {"threshold": 0.4}}).__exit__()
    Journal(tmp_path, {"model": "a", "conventions": {"threshold": 0.4}}).__exit__()
    with pytest.raises(ValueError, match=r"another evaluation \(conventions differ\)"):
        Journal(tmp_path, {"model": "a", "conventions": {"threshold": 0.5}})


def test_a_changed_file_changes_the_fingerprint(tmp_path):
    (tmp_path / "config.json").write_text("1")
    before = fingerprint(tmp_path, "*")
    assert fingerprint(tmp_path, "*") == before
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "report.md").write_text("deeper files do not count")
    assert fingerprint(tmp_path, "*") == before
    (tmp_path / "config.json").write_text("22")
    assert fingerprint(tmp_path, "*") != before
    assert fingerprint("someone/model", "*") == "someone/model"


def test_truth_at_its_own_size_and_at_another(clips):
    own, square = (true_masks(clips["test_s"][0], size)[0] for size in (None, 256))
    assert own.masks.shape == (10, 36, 48)
    assert square.masks.shape == (10, 256, 256)
    assert own.file_size == square.file_size == (36, 48)
    assert square.masks.mean() == pytest.approx(own.masks.mean(), abs=0.01)
    assert own.masks[3, :18, 3:19].all()
    assert own.masks[3].sum() == 18 * 16


@pytest.mark.parametrize("sentences_at_once", [8, 4])
def test_a_model_is_asked_as_its_forward_would(sentences_at_once, clips, processor, monkeypatch):
    """One clip through the backbone once; each sentence as if it were the only one."""
    monkeypatch.setattr("modeling_refavs.metrics.predictors.SENTENCES_AT_ONCE", sentences_at_once)
    model, clip = make_model(), clips["test_s"][0]
    encoded = []
    encode = model.encode_clips
    monkeypatch.setattr(
        model, "encode_clips", lambda *args, **kwargs: encoded.append(1) or encode(*args, **kwargs)
    )
    predictions = list(ModelPredictor(model, processor)(clip, true_masks(clip, 64)))
    assert len(encoded) == 1
    assert [prediction.probabilities.shape for prediction in predictions] == [(10, 64, 64)] * 6
    for prediction, sentence in zip(predictions, clip["expressions"], strict=True):
        inputs = processor(
            sentence["expression"], clip["frames"], read_wav(clip["audio"]), clip["sampling_rate"]
        )
        with torch.no_grad():
            outputs = model(**inputs)
            logits = torch.nn.functional.interpolate(
                outputs.mask_logits, size=(64, 64), mode="bilinear"
            )[0]
        np.testing.assert_allclose(prediction.probabilities, logits.sigmoid().numpy(), atol=2e-4)
        presence = outputs.presence_logits[0].sigmoid().numpy()
        np.testing.assert_allclose(prediction.presence, presence, atol=2e-4)
        assert prediction.iou is None
    assert np.abs(predictions[0].probabilities - predictions[1].probabilities).max() > 0.01


@pytest.mark.parametrize("shape", [(6,), (6, 10)])
def test_the_iou_that_a_model_expects_is_kept(shape, clips, processor, monkeypatch):
    """One for each sentence, or for each of its frames, of which the mean is kept."""
    model, clip = make_model(), clips["test_s"][0]
    segment, ious = model.segment, torch.rand(shape)
    monkeypatch.setattr(
        model,
        "segment",
        lambda *args, **kwargs: ModelOutput(**segment(*args, **kwargs), iou_scores=ious),
    )
    predictions = list(ModelPredictor(model, processor)(clip, true_masks(clip, 64)))
    expected = ious.reshape(6, -1).mean(dim=1).tolist()
    assert [prediction.iou for prediction in predictions] == pytest.approx(expected)
    score = score_sentence(
        clip["expressions"][0], predictions[0], true_masks(clip, 64)[0].masks, Conventions()
    )
    assert score.iou == pytest.approx(expected[0])


def test_a_wav_is_read_as_it_is(clips):
    waveform = read_wav(clips["test_s"][0]["audio"])
    assert (waveform.shape, waveform.dtype) == ((1, 20_000), np.float32)
    samples = np.frombuffer(clips["test_s"][0]["audio"][-40_000:], dtype="<i2")
    np.testing.assert_allclose(waveform[0], samples / 32768, atol=1e-6)


@pytest.fixture
def masks(tree, clips, tmp_path) -> Path:
    """The truth, as another program would write it; one mask at the size that is scored."""
    for split in clips.values():
        for clip in split:
            for sentence in clip["expressions"]:
                (folder := tmp_path / "masks" / sentence["uid"]).mkdir(parents=True)
                for path in mask_paths(tree, clip["clip_id"], sentence["fid"]):
                    Image.open(path).save(folder / path.name)
    square = Image.open(folder / "00003.png").resize((256, 256), Image.Resampling.NEAREST)
    square.save(folder / "00003.png")
    return tmp_path / "masks"


def test_masks_that_another_program_wrote(masks, clips):
    predictor = FolderPredictor(masks)
    predictor.check([clip["expressions"] for clip in clips["test_s"]], 10)
    for clip in (clips["test_s"][0], clips["test_n"][2]):
        truths = true_masks(clip, 256)
        for truth, prediction in zip(truths, predictor(clip, truths), strict=True):
            assert prediction.probabilities.dtype == np.float32
            assert np.array_equal(prediction.probabilities, truth.masks)
            assert prediction.presence is None


def test_masks_that_cannot_be_scored(masks, clips, tmp_path):
    predictor, clip = FolderPredictor(masks), clips["test_s"][0]
    uid = clip["expressions"][0]["uid"]
    write_mask(masks / uid / "00002.png", np.ones((20, 30), dtype=bool))
    with pytest.raises(ValueError, match=r"00002.png: must be 48x36 or 256x256 pixels, got 30x20"):
        next(predictor(clip, true_masks(clip, 256)))
    (masks / uid / "00002.png").write_bytes(b"no frame")
    with pytest.raises(ValueError, match=r"00002.png: cannot be read as an image"):
        next(predictor(clip, true_masks(clip, 256)))
    (masks / uid / "00002.png").unlink()
    with pytest.raises(
        ValueError, match=rf"lacks masks of 1 of 2 sentences, first .*{uid}/00002.png"
    ):
        predictor.check([clip["expressions"][:2]], 10)
    with pytest.raises(ValueError, match="no such folder"):
        FolderPredictor(tmp_path / "nowhere")


ABOUT = {"subject": "m", "mask_size": 64}


class Asked:
    """Probabilities drawn from the words of each sentence, with presence; counts its clips."""

    def __init__(self, iou: float | None = 0.5):
        self.asked, self.iou = [], iou

    def __call__(self, clip, truths):
        self.asked.append(clip["clip_id"])
        for sentence, truth in zip(clip["expressions"], truths, strict=True):
            rng = np.random.default_rng(list(sentence["expression"].encode()))
            probabilities = rng.random(truth.masks.shape, dtype=np.float32)
            yield Prediction(probabilities, rng.random(len(truth.masks)), self.iou)


def test_what_was_saved_is_what_was_scored(clips, tmp_path):
    """To 16 bits of what the model said, and to the last bit the next time; no clip is asked
    twice."""
    clip, model = clips["test_s"][0], Asked()
    truths = true_masks(clip, 64)
    first = list(SavingPredictor(model, tmp_path / "saved", ABOUT)(clip, truths))
    for said, given in zip(Asked()(clip, truths), first, strict=True):
        np.testing.assert_allclose(given.probabilities, said.probabilities, atol=0.5001 / 65535)
        assert np.array_equal(given.presence, said.presence)
        assert given.iou == 0.5
    again = list(SavingPredictor(model, tmp_path / "saved", ABOUT)(clip, truths))
    loaded = open_predictions(tmp_path / "saved", 64)
    loaded.check([clip["expressions"]], 10)
    assert model.asked == [clip["clip_id"]]
    for one, *others in zip(first, again, loaded(clip, truths), strict=True):
        for other in others:
            assert np.array_equal(one.probabilities, other.probabilities)
            assert np.array_equal(one.presence, other.presence)


def test_saved_sentences_of_one_uid_are_kept_apart(clips, tmp_path):
    clip = clips["test_s"][0]
    first, second = clip["expressions"][0], {**clip["expressions"][1]}
    clip = {**clip, "expressions": [first, {**second, "uid": first["uid"]}]}
    truths = true_masks(clip, 64)
    saved = list(SavingPredictor(Asked(), tmp_path / "saved", ABOUT)(clip, truths))
    assert not np.array_equal(saved[0].probabilities, saved[1].probabilities)
    assert (tmp_path / "saved" / f"{first['uid']}.2" / "scores.json").is_file()


SAVED_AND_KILLED = """
import os, signal, sys
from dataset_script.builder_refavs import load_refavs
from modeling_refavs.metrics.predictors import SavingPredictor
from modeling_refavs.metrics.scoring import true_masks
from tests.metrics.test_evaluation import ABOUT, Asked
import modeling_refavs.metrics.predictors as predictors

tree, cache, output = sys.argv[1:]
clip = load_refavs(tree, "clips", "test_s", damaged="trust", cache_dir=cache)[0]
written = []
save = predictors.Image.Image.save
def save_or_die(picture, path):
    written.append(path)
    if len(written) == 25:
        os.kill(os.getpid(), signal.SIGKILL)
    save(picture, path)
predictors.Image.Image.save = save_or_die
list(SavingPredictor(Asked(), output, ABOUT)(clip, true_masks(clip, 64)))
"""


def test_saving_that_was_killed_goes_on(clips, tree, cache, tmp_path):
    """In the middle of the third sentence: what is there is whole, and is not written again."""
    output, clip = tmp_path / "saved", clips["test_s"][0]
    arguments = [sys.executable, "-c", SAVED_AND_KILLED, str(tree), str(cache), str(output)]
    assert subprocess.run(arguments, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    folders = [output / sentence["uid"] for sentence in clip["expressions"]]
    assert [folder.is_dir() for folder in folders] == [True, True, False, False, False, False]
    times = [path.stat().st_mtime_ns for path in folders[0].iterdir()]
    truths = true_masks(clip, 64)
    killed = list(SavingPredictor(Asked(), output, ABOUT)(clip, truths))
    whole = list(SavingPredictor(Asked(), tmp_path / "whole", ABOUT)(clip, truths))
    assert [path.stat().st_mtime_ns for path in folders[0].iterdir()] == times
    for one, other in zip(killed, whole, strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)
    names = [
        sorted(path.name for path in (tmp_path / name).rglob("*")) for name in ("saved", "whole")
    ]
    assert names[0] == names[1]


def test_saved_predictions_that_cannot_be_used(clips, tmp_path):
    clip, folder = clips["test_s"][0], tmp_path / "saved"
    truths = true_masks(clip, 64)
    list(SavingPredictor(Asked(iou=None), folder, ABOUT)(clip, truths))
    with pytest.raises(ValueError, match=r"predictions of something else \(subject differ\)"):
        SavingPredictor(Asked(), folder, {**ABOUT, "subject": "other"})
    with pytest.raises(ValueError, match="saved at --mask-size 64 and scored at no other, got own"):
        open_predictions(folder, None)
    uid = clip["expressions"][0]["uid"]
    for frame in range(10):
        write_mask(folder / uid / f"0000{frame}.png", np.ones((64, 64), dtype=bool))
    with pytest.raises(ValueError, match="saved masks have 16 bits a pixel, got L"):
        next(SavedPredictor(folder, 64)(clip, truths))
    (folder / uid / "scores.json").unlink()
    with pytest.raises(ValueError, match=rf"lacks masks of 1 of 6 sentences, first .*{uid}/scores"):
        open_predictions(folder, 64).check([clip["expressions"]], 10)
    (other := tmp_path / "other").mkdir()
    (other / "mine.txt").touch()
    with pytest.raises(ValueError, match="holds other files: give a new one"):
        SavingPredictor(Asked(), other, ABOUT)


def test_conventions_of_a_score():
    sentence = {"uid": "u", "expression": "e", "category": "dog"}
    masks = np.zeros((2, 4, 4), dtype=bool)
    masks[0, 0] = True
    probabilities = masks * np.float32(0.45)
    prediction = Prediction(probabilities, presence=np.array([0.75, 0.25]))
    score = score_sentence(sentence, prediction, masks, Conventions())
    assert (score.jaccard, score.jaccard_frames, score.predicted) == (2, 2, 0)
    assert (score.answered, score.presence, score.shown) == (False, (0.75, 0.25), (True, False))
    other = Conventions(threshold=0.46, null_threshold=0.4, empty_truth="skip")
    score = score_sentence(sentence, prediction, masks, other)
    assert (score.jaccard, score.jaccard_frames, score.predicted) == (0, 1, 0.25)
    assert score.answered
    assert not score.is_null
    assert replace(score, category="null").is_null


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"threshold": 1.0}, "a threshold must lie in"),
        ({"null_threshold": -0.1}, "a threshold must lie in"),
        ({"mask_size": 0}, "the mask size must be at least 1 pixel, got 0"),
        ({"empty_truth": "one"}, "empty_truth must be one of"),
    ],
)
def test_conventions_that_cannot_be(change, words):
    with pytest.raises(ValueError, match=words):
        Conventions(**change)
