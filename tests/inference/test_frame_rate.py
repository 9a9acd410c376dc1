"""Masks at the video's frame rate: which answers make them, which pictures and sounds the model is
shown, what it is asked."""

import numpy as np
import pytest
import torch

from modeling_refavs.inference.export import summarize
from modeling_refavs.inference.mask_store import PersistentMaskStore
from modeling_refavs.inference.segment import (
    FrameTimeline,
    Timeline,
    decode_with_cues,
    sample_frames,
    segment_video,
)
from modeling_refavs.visualization.contact_sheet import draw_contact_sheet
from tests.conftest import SENTENCES, make_model
from tests.media_kit import tone
from tests.refavs.test_video_refavs import grey_of


@pytest.fixture(scope="module")
def model():
    return make_model().double()


@pytest.fixture
def video(write_clip):
    """2.5 s at ten pictures a second, brighter each time; the sound ends in the middle of second
    1."""
    return write_clip(times=tuple(np.arange(25) / 10), end=2.5, sound=[(0.0, tone(1.5))])


def test_looks_are_at_every_picture_with_the_sound_of_its_second(video):
    frames = list(sample_frames(video, 10.0))
    assert [grey_of(frame.rgb) for frame in frames] == list(range(25))
    assert [frame.second for frame in frames] == [0] * 10 + [1] * 10 + [2] * 5
    assert [len(frame.audio) for frame in frames[::10]] == [16000, 8000, 0]
    assert frames[-1].end == pytest.approx(2.5, abs=2e-3)


@pytest.mark.parametrize(
    ("rate", "expected"), [(2.0, [0, 5, 10, 15, 20]), (4.0, [0, 2, 5, 7, 10, 12, 15, 17, 20, 22])]
)
def test_fewer_looks_than_pictures(video, rate, expected):
    assert [grey_of(frame.rgb) for frame in sample_frames(video, rate)] == expected


def test_time_stamps_that_are_rounded_cost_no_picture(write_clip):
    times = tuple(np.round(np.arange(60) / 29.97, 3))
    path = write_clip(times=times, end=2.002)
    assert [grey_of(frame.rgb) for frame in sample_frames(path, 29.97)][:60] == list(range(60))


BURSTS = (0.0, 0.04, 0.08, 0.12, 1.5, 1.54, 1.58, 1.62)  # s; the last one stands for two seconds


def test_every_frame_of_a_variable_rate_is_seen_once_and_what_stands_each_second(write_clip):
    path = write_clip(times=BURSTS, end=3.7, sound=[(0.0, tone(3.7))])
    frames = list(sample_frames(path, None))
    assert [frame.time for frame in frames] == pytest.approx([*BURSTS[:4], 1.0, *BURSTS[4:], 2, 3])
    assert [grey_of(frame.rgb) for frame in frames] == [0, 1, 2, 3, 3, 4, 5, 6, 7, 7, 7]
    assert [frame.second for frame in frames] == [0] * 4 + [1] * 5 + [2, 3]
    assert [len(frame.audio) for frame in frames[:9]] == [16000] * 9


def test_each_frame_of_a_variable_rate_has_masks_of_its_own(model, processor, write_clip, tmp_path):
    path = write_clip(times=BURSTS, end=3.7, sound=[(0.0, tone(3.7))])
    options = {"rate": "video", "smoothing": 0}
    result = segment_video(model, processor, path, SENTENCES[:1], **options)
    assert (result.num_steps, result.duration) == (11, pytest.approx(3.7, abs=2e-3))
    shown = [item for item in result.masked_frames() if item.is_shown]
    assert [item.step for item in shown] == list(range(11))
    assert [item.time for item in shown] == pytest.approx([*BURSTS[:4], 1.0, *BURSTS[4:], 2, 3])
    # a run that goes on has the times of the frames before
    with pytest.raises(KeyboardInterrupt):
        segment_video(
            *(model, processor, path, SENTENCES[:1]),
            **options,
            store=PersistentMaskStore(tmp_path / "j", {}),
            progress=lambda seconds: (_ for _ in ()).throw(KeyboardInterrupt),
        )
    store = PersistentMaskStore(tmp_path / "j", {})
    assert 0 < len(store) < 11
    resumed = segment_video(model, processor, path, SENTENCES[:1], **options, store=store)
    np.testing.assert_array_equal(resumed.timeline.times, result.timeline.times)
    torch.testing.assert_close(resumed.mask_logits, result.mask_logits, rtol=2e-3, atol=1e-5)


def test_with_a_pictures_own_cues_it_is_the_usual_answer(model, processor, clip):
    """Every second's first look is what the second alone would give; the later ones take its cues,
    not their own."""
    inputs = processor(text=SENTENCES[:2], **clip).to(torch.double)
    tokens = {name: inputs.pop(name) for name in ("input_ids", "attention_mask")}
    index = inputs.pop("clip_index")
    with torch.no_grad():
        features = model.encode_clips(**inputs)
        usual = model.segment(features, **tokens, clip_index=index)
        dense = decode_with_cues(model, features, features, tokens, None)
    torch.testing.assert_close(
        dense.mask_logits[:, 0], usual.mask_logits[:, 0], rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(
        dense.cue_hidden_states[:, 3], usual.cue_hidden_states[:, 0], rtol=1e-9, atol=1e-9
    )
    assert (dense.mask_logits[:, 1] - usual.mask_logits[:, 1]).abs().max() > 1e-3
    torch.testing.assert_close(dense.memory.visual.count, torch.ones(2).double())


OBJECT_HEAD = {
    "grounding_config": {
        **{"loss_weight": 1.0, "use_alignment": True, "vocabulary_size": 7},
        "object_head_size": 16,
        "refine_masks": True,
    }
}


@pytest.mark.parametrize("variant", [{}, OBJECT_HEAD], ids=["usual", "object_head"])
def test_groups_and_journals_change_nothing(variant, processor, video, tmp_path):
    """Nor does what an object head remembers: it is of the first picture of each second."""
    model = make_model(**variant).double()
    whole = segment_video(
        model, processor, video, SENTENCES[:2], rate="video", smoothing=0, steps_per_chunk=30
    )
    # of seconds that go through the model together an object head knows those that follow
    seconds = segment_video(model, processor, video, SENTENCES[:2], steps_per_chunk=1)
    done = []
    journal = PersistentMaskStore(tmp_path / "journal", {})
    parts = segment_video(
        model,
        processor,
        video,
        SENTENCES[:2],
        rate="video",
        smoothing=0,
        steps_per_chunk=3,
        store=journal,
        progress=done.append,
    )
    assert (whole.num_steps, done, whole.duration) == (25, [1, 1, 1], pytest.approx(2.5, abs=2e-3))
    torch.testing.assert_close(parts.mask_logits, whole.mask_logits, rtol=2e-3, atol=1e-5)
    torch.testing.assert_close(
        whole.mask_logits[:, ::10], seconds.mask_logits, rtol=2e-3, atol=1e-5
    )
    np.testing.assert_allclose(whole.presence[:, ::10], seconds.presence, atol=1e-6)


def test_a_dense_run_goes_on(model, processor, video, tmp_path, monkeypatch):
    options = {"rate": 5, "steps_per_chunk": 2}
    whole = segment_video(model, processor, video, SENTENCES[:1], **options)

    def stop(seconds):
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            segment_video(
                model,
                processor,
                video,
                SENTENCES[:1],
                **options,
                store=PersistentMaskStore(tmp_path / "j", {}),
                progress=stop,
            )
    resumed = segment_video(
        model,
        processor,
        video,
        SENTENCES[:1],
        **options,
        store=PersistentMaskStore(tmp_path / "j", {}),
    )
    torch.testing.assert_close(resumed.mask_logits, whole.mask_logits, rtol=2e-3, atol=1e-5)
    assert resumed.num_steps == whole.num_steps == 25


def test_what_is_told_of_pictures_agrees(model, processor, video):
    result = segment_video(model, processor, video, SENTENCES[:1], rate=5)
    assert [result.step_at(time) for time in (0.0, 0.0999, 0.2, 2.4, 9.0)] == [0, 1, 2, 24, 24]
    assert result.time_of(7) == pytest.approx(0.7)
    assert result.masks(7).shape == (1, 48, 64)
    summary = summarize(result)
    assert (summary["video"]["steps"], summary["video"]["steps_per_second"]) == (25, 10.0)
    assert len(summary["expressions"][0]["presence"]) == 25
    assert np.asarray(draw_contact_sheet(result)).shape[0] > 100


@pytest.mark.parametrize(
    ("timeline", "step", "expected"),
    [
        (Timeline(), 3, {3: 1.0}),
        (Timeline(), 99, {9: 1.0}),
        (Timeline(25, 25), 3, {3: 1.0}),
        (Timeline(25, 5), 12, {2: 0.6, 3: 0.4}),  # 0.48 s: answers at 0.4 and 0.6 s
        (Timeline(25, 25, 0.08), 3, {2: 0.25, 3: 0.5, 4: 0.25}),
        (Timeline(25, 25, 0.08), 0, {0: 2 / 3, 1: 1 / 3}),
        (Timeline(25, 5), 48, {9: 1.0}),
        (Timeline(1, 1, 2.0), 3, {2: 0.25, 3: 0.5, 4: 0.25}),
        (FrameTimeline(25, np.arange(10) / 25, 0.08), 3, {2: 0.25, 3: 0.5, 4: 0.25}),
        (FrameTimeline(25, np.arange(10) / 25), 3, {3: 1.0}),
        (FrameTimeline(9, np.array([0, 1.0, 1.25, 3]), 1.0), 2, {1: 3 / 7, 2: 4 / 7}),
    ],
)
def test_which_answers_make_a_mask(timeline, step, expected):
    indices, weights = timeline.frames_of(step, num_frames=10)
    found = {
        int(index): weight for index, weight in zip(indices, weights, strict=True) if weight > 1e-4
    }
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rate": 0.5}, "at least 1"),
        ({"rate": "fast"}, "or 'video'"),
        ({"smoothing": -1.0}, "at least 0"),
        ({"rate": float("nan")}, "at least 1"),
    ],
)
def test_bad_requests(model, processor, video, change, words):
    with pytest.raises(ValueError, match=words):
        segment_video(model, processor, video, SENTENCES[:1], **change)
