"""The IoU head: what it learns is the IoU of the answer with the truth, and no mask changes by
it."""

import numpy as np
import pytest
import torch
from transformers import pipeline

from modeling_refavs import RefAVSForSegmentation, RefAVSPipeline, RefAVSStream
from modeling_refavs.grounding_refavs import describe_answer, mask_iou
from modeling_refavs.inference.export import summarize
from modeling_refavs.inference.live import LiveAnswer, describe
from modeling_refavs.inference.mask_store import PersistentMaskStore
from modeling_refavs.inference.segment import segment_video
from modeling_refavs.loss_refavs import RefAVSLossCounts
from modeling_refavs.training.train import freeze_all_but
from tests.conftest import SENTENCES, make_model


CLIP = "spaces_demo/examples/bell_first.mp4"
HEAD = {"grounding_config": {"use_iou_head": True}}


@pytest.fixture(scope="module")
def plain():
    return make_model()


@pytest.fixture(scope="module")
def model(plain):
    """The same weights, and a head."""
    model = make_model(**HEAD)
    assert set(model.load_state_dict(plain.state_dict(), strict=False).missing_keys) == {
        f"iou_predictor.{name}" for name, _ in model.iou_predictor.named_parameters()
    }
    return model


@pytest.fixture(scope="module")
def inputs(processor, clip):
    return processor(text=SENTENCES, **clip)


@pytest.fixture(scope="module")
def labels():
    labels = torch.zeros(4, 4, 60, 80)
    labels[0, :, 20:40, 5:30] = labels[1, 2:, 15:35, 50:70] = 1
    return labels


def test_iou_is_that_of_sets_of_pixels():
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(2, 3, 6, 8)), rng.random((2, 3, 6, 8)) > 0.7
    logits[0, 0] = logits[0, 1] = -1
    truth[0, 0] = truth[0, 2] = False
    found = mask_iou(torch.from_numpy(logits), torch.from_numpy(truth).float())
    assert found[0].tolist() == [1, 0, 0]  # both empty; nothing found; nothing there
    for row in range(3):
        true = {tuple(place) for place in np.argwhere(truth[1, row])}
        answer = {tuple(place) for place in np.argwhere(logits[1, row] > 0)}
        assert found[1, row].item() == pytest.approx(len(true & answer) / len(true | answer))
    larger = np.repeat(np.repeat(truth, 8, axis=2), 8, axis=3)
    assert (mask_iou(torch.from_numpy(logits), torch.from_numpy(larger).float()) <= 1).all()


def test_facts_of_an_answer():
    mask_logits = torch.full((2, 4, 4), -3.0)
    mask_logits[0, :2, :2] = torch.tensor([[2.0, 2.0], [0.5, 0.5]])
    queries = torch.full((2, 3, 4, 4), -1.0)
    queries[0, 0, :2, :2] = queries[0, 1, :2, :3] = queries[0, 2, 2:] = 1.0
    scores = torch.tensor([[4.0, 3.0, -2.0], [-1.0, -2.0, -3.0]])
    classes = torch.stack([scores, torch.zeros(2, 3)], dim=-1)
    facts = describe_answer(queries, classes, mask_logits, torch.tensor([3.0, -2.0]))
    probability = torch.tensor([2.0, 0.5]).sigmoid().mean()
    # the second query shows the same object; where nothing is found every query shows another
    torch.testing.assert_close(facts[0], torch.tensor([0.6, 0.8, -0.4, probability, 0.5, 0.5]))
    torch.testing.assert_close(facts[1], torch.tensor([-0.4, -0.2, -0.2, 0.0, 0.0, 0.0]))
    same = describe_answer(queries[:, :2], classes[:, :2], mask_logits, torch.zeros(2))
    assert same[0, 2] == pytest.approx(-14 / 5)


def test_the_head_changes_no_mask_and_no_gradient_of_others(plain, model, inputs, labels):
    without, with_head = (part(**inputs, mask_labels=labels) for part in (plain, model))
    for name in ("mask_logits", "presence_logits", "class_queries_logits"):
        assert torch.equal(without[name], with_head[name]), name
    assert without.iou_scores is None
    assert with_head.iou_scores.shape == (4, 4)
    assert set(with_head.loss_parts) - set(without.loss_parts) == {"loss_iou"}
    for part, outputs in ((plain, without), (model, with_head)):
        part.zero_grad()
        outputs.loss.backward()
    gradients = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        if name.startswith("iou_predictor."):
            assert parameter.grad.abs().sum() > 0, name
        elif parameter.grad is None:
            assert gradients[name].grad is None
        else:
            assert torch.equal(parameter.grad, gradients[name].grad), name
        parameter.grad = gradients.get(name, parameter).grad = None


def test_the_loss_is_the_mean_squared_error_over_real_frames(model, inputs, labels):
    frame_mask = torch.tensor([[1, 1, 1, 0]])
    inputs = {**inputs, "frame_mask": frame_mask}
    with torch.no_grad():
        outputs = model(**inputs, mask_labels=labels)
        sizes = [torch.tensor(value) for value in (3, 24)]
        counted = model(**inputs, mask_labels=labels, loss_counts=RefAVSLossCounts(*sizes))
    truth = mask_iou(outputs.mask_logits, labels)
    expected = (outputs.iou_scores - truth)[:, :3].square().mean()
    torch.testing.assert_close(outputs.loss_parts["loss_iou"], expected)
    torch.testing.assert_close(counted.loss_parts["loss_iou"], expected / 2)
    assert (outputs.iou_scores[:, 3] == 0).all()


def test_the_head_alone_learns(inputs, labels):
    model = make_model(**HEAD).train()
    freeze_all_but(model, ["iou_predictor"])
    optimizer = torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.02
    )
    outputs = []
    for _ in range(12):
        outputs.append(model(**inputs, mask_labels=labels))
        optimizer.zero_grad()
        outputs[-1].loss.backward()
        optimizer.step()
    assert torch.equal(outputs[0].mask_logits, outputs[-1].mask_logits)
    first, last = (output.loss_parts["loss_iou"] for output in (outputs[0], outputs[-1]))
    assert last < first / 2


def test_a_checkpoint_without_the_head_loads_unchanged_and_may_be_given_one(plain, tmp_path):
    plain.save_pretrained(tmp_path)
    assert RefAVSForSegmentation.from_pretrained(tmp_path).iou_predictor is None
    with pytest.raises(ValueError, match=r"weights iou_predictor\..* are missing"):
        RefAVSForSegmentation.from_pretrained(tmp_path, **HEAD)
    given = RefAVSForSegmentation.from_pretrained(tmp_path, strict=False, **HEAD)
    given.save_pretrained(tmp_path)
    again = RefAVSForSegmentation.from_pretrained(tmp_path)
    assert torch.equal(again.iou_predictor.hidden.weight, given.iou_predictor.hidden.weight)
    assert "iou_predictor" not in dict(RefAVSForSegmentation(plain.config).named_modules())


def test_scores_come_out_of_every_door(model, processor, clip, inputs, tmp_path):
    with torch.no_grad():
        expected = model(**inputs).iou_scores.numpy()
    stream = RefAVSStream(model, processor, SENTENCES)
    audio = np.split(clip["audio"], 4)
    answers = [
        stream.step(frame, second) for frame, second in zip(clip["frames"], audio, strict=True)
    ]
    found = np.stack([answer.iou_scores for answer in answers], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert RefAVSStream(model, processor).step(clip["frames"][0]).iou_scores is None
    entries = RefAVSPipeline(model=model, processor=processor)(clip, text=SENTENCES)
    np.testing.assert_allclose([entry["iou_scores"] for entry in entries], expected, atol=1e-3)
    second = type("Second", (), {"number": 0})()
    line = describe(LiveAnswer(second, answers[0], (), 0.0))["expressions"]
    rows = [row["iou_score"] for row in line]
    np.testing.assert_allclose(rows, answers[0].iou_scores, atol=1e-4)

    store = PersistentMaskStore(tmp_path, {"request": 1})
    segmentation = segment_video(model, processor, CLIP, SENTENCES[:2], store=store)
    rows = [row["iou_scores"] for row in summarize(segmentation)["expressions"]]
    assert np.shape(rows) == segmentation.presence.shape
    resumed = PersistentMaskStore(tmp_path, {"request": 1})
    np.testing.assert_array_equal(resumed.iou_scores.round(4), np.float32(rows))
    pipe = pipeline("referring-audio-visual-segmentation", model=model, processor=processor)
    found = [entry["iou_scores"] for entry in pipe(CLIP, text=SENTENCES[:2])]
    np.testing.assert_allclose(rows, found, atol=1e-3)
    dense = segment_video(model, processor, CLIP, SENTENCES[:1], rate=1.5)
    assert dense.iou_scores.shape == dense.presence.shape
    assert (dense.iou_scores > 0).all()


def test_without_a_head_nothing_is_said(plain, processor, clip):
    (entry,) = RefAVSPipeline(model=plain, processor=processor)(clip, text=SENTENCES[0])
    assert "iou_scores" not in entry
    segmentation = segment_video(plain, processor, CLIP, SENTENCES[:1])
    assert segmentation.iou_scores is None
    assert "iou_scores" not in summarize(segmentation)["expressions"][0]
