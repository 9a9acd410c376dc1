"""A video in chunks gives what the whole gives; seconds, masks and summary agree."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_refavs.inference.export import mask_folder_name, summarize, to_json, write_masks
from modeling_refavs.inference.segment import segment_video
from tests.conftest import make_model
from tests.media_kit import tone


SENTENCES = ("the brighter half", "everything", "the Düdelsack! (nothing)")


@pytest.fixture
def clip(write_clip):
    """3.5 s, brighter each second; 1.5 s of sound."""
    return write_clip(
        times=tuple(np.arange(35) / 10),
        end=3.5,
        size=(63, 47),
        pix_fmt="yuv444p",
        sound=[(0.0, tone(1.5))],
    )


@pytest.mark.parametrize("steps_per_chunk", [1, 2, 3])
def test_chunks_give_what_the_whole_gives(clip, fake_model, steps_per_chunk):
    whole = segment_video(*fake_model, clip, SENTENCES, steps_per_chunk=10)
    chunked = segment_video(*fake_model, clip, SENTENCES, steps_per_chunk=steps_per_chunk)
    torch.testing.assert_close(chunked.mask_logits, whole.mask_logits, rtol=0, atol=0)
    np.testing.assert_array_equal(chunked.presence, whole.presence)
    assert chunked.duration == pytest.approx(whole.duration)


def test_shapes_and_masks(clip, fake_model):
    done = []
    result = segment_video(*fake_model, clip, SENTENCES, steps_per_chunk=3, progress=done.append)
    assert done == [3, 1]
    assert result.mask_logits.shape == (3, 4, 6, 8)
    assert result.mask_logits.dtype == torch.float32
    assert result.presence.shape == (3, 4)
    masks = result.masks(1)
    assert (masks.shape, masks.dtype) == ((3, 47, 63), bool)
    assert masks[0, :, :28].all()
    assert not masks[0, :, 36:].any()
    assert result.masks(1, size=(126, 94)).shape == (3, 94, 126)


def test_an_absent_object_has_no_mask(clip, fake_model):
    result = segment_video(*fake_model, clip, SENTENCES)
    result.presence[1, 2] = 0.4
    assert not result.masks(2)[1].any()
    assert result.masks(1)[1].all()
    assert result.intervals(1) == [(0.0, 2.0), (3.0, pytest.approx(3.5, abs=2e-3))]
    assert {type(time) for interval in result.intervals(1) for time in interval} == {float}


@pytest.mark.parametrize(
    ("sound", "lengths"), [((), [None, None]), ([(0.0, tone(1.5))], [24000, 0])]
)
def test_the_model_hears_each_chunk(write_clip, fake_model, sound, lengths):
    model, processor = fake_model
    path = write_clip(times=tuple(np.arange(40) / 10), end=4.0, sound=sound)
    segment_video(model, processor, path, SENTENCES, steps_per_chunk=2)
    assert [audio if audio is None else len(audio) for audio in processor.heard] == lengths


def test_summary(clip, fake_model):
    summary = summarize(segment_video(*fake_model, clip, SENTENCES))
    assert json.loads(to_json(summary)) == summary
    assert summary["video"] | {"path": ""} == {
        "path": "",
        "width": 63,
        "height": 47,
        "frame_rate": 10.0,
        "duration": pytest.approx(3.5, abs=2e-3),
        "has_audio": True,
        "steps": 4,
        "steps_per_second": 1,
    }
    half, everything, nothing = summary["expressions"]
    assert [entry["fits"] for entry in summary["expressions"]] == [True, True, False]
    assert half["text"] == "the brighter half"
    assert half["share"][1] == pytest.approx(0.5, abs=0.05)
    assert everything["intervals"] == [[0.0, pytest.approx(3.5, abs=2e-3)]]
    assert everything["share"] == [1.0] * 4
    assert nothing["intervals"] == []
    assert nothing["presence"] == [0.0003] * 4


def test_masks_on_disk_are_the_masks(clip, fake_model, tmp_path):
    result = segment_video(*fake_model, clip, SENTENCES)
    write_masks(result, tmp_path / "masks")
    folders = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert folders == ["1_the-brighter-half", "2_everything", "3_the-d-delsack-nothing"]
    for index, folder in enumerate(folders):
        files = sorted((tmp_path / "masks" / folder).iterdir())
        assert [file.name for file in files] == [f"{step:05d}.png" for step in range(4)]
        for step, file in enumerate(files):
            np.testing.assert_array_equal(
                np.asarray(Image.open(file)), result.masks(step)[index] * np.uint8(255)
            )


def test_folder_names_are_safe():
    assert mask_folder_name(2, "../../etc/passwd") == "2_etc-passwd"
    assert mask_folder_name(3, "狗") == "3"
    assert len(mask_folder_name(1, "x" * 500)) < 100


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"expressions": ["the dog", " "]}, "sentence 2 is empty"),
        ({"expressions": []}, "at least one sentence"),
        ({"expressions": "the dog"}, "must be a list"),
        ({"threshold": 1.0}, "between 0 and 1"),
        ({"steps_per_chunk": 0}, "at least 1"),
    ],
)
def test_bad_requests(clip, fake_model, change, words):
    with pytest.raises(ValueError, match=words):
        segment_video(*fake_model, clip, **{"expressions": SENTENCES, **change})


@pytest.mark.parametrize("steps_per_chunk", [1, 3])
def test_eemc_in_chunks_gives_what_the_whole_gives(clip, processor, steps_per_chunk):
    """The model itself: its memory goes on from chunk to chunk, and over the end of the sound."""
    model = make_model().double()
    sentences = ["the red circle", "the first object to make a sound"]
    whole = segment_video(model, processor, clip, sentences)
    chunked = segment_video(model, processor, clip, sentences, steps_per_chunk=steps_per_chunk)
    torch.testing.assert_close(
        chunked.mask_logits, whole.mask_logits, rtol=2e-3, atol=1e-5
    )  # half precision
    assert whole.mask_logits.shape == (2, 4, 24, 24)
    assert (whole.mask_logits[0] - whole.mask_logits[1]).abs().max() > 0.01


def test_predicted_quality_is_kept_where_the_model_has_it(clip, fake_model, monkeypatch):
    model, processor = fake_model
    assert segment_video(model, processor, clip, SENTENCES).iou_scores is None
    call = type(model).__call__

    def rated(self, **inputs):
        outputs = call(self, **inputs)
        outputs.iou_scores = outputs.presence_logits.sigmoid()
        return outputs

    monkeypatch.setattr(type(model), "__call__", rated)
    result = segment_video(model, processor, clip, SENTENCES, steps_per_chunk=2)
    np.testing.assert_allclose(result.iou_scores, result.presence)
    found = summarize(result)["expressions"][0]
    assert found["iou_scores"] == found["presence"]
