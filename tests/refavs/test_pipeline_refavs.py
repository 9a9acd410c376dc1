"""The pipeline: any kind of video, one sentence or many, alone or in batches, and every way gives
the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import pipeline

from modeling_refavs import video_refavs
from modeling_refavs.configuration_refavs import TASK
from modeling_refavs.mask_rle import decode_rle
from modeling_refavs.pipeline_refavs import RefAVSPipeline
from modeling_refavs.video_refavs import read_steps
from tests.conftest import SENTENCES, make_released_model
from tests.media_kit import rotate, tone, write_clip


__all__ = ["rotate", "write_clip"]  # fixtures


@pytest.fixture(scope="module")
def pipe(model, processor):
    return pipeline(TASK, model=model, processor=processor)


def same(ours, theirs, atol=1e-5):
    assert [answer["expression"] for answer in ours] == [answer["expression"] for answer in theirs]
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our["presence"], their["presence"], atol=atol)
        assert our["score"] == pytest.approx(their["score"], abs=1e-4)
        assert our["masks"].shape == their["masks"].shape
        assert (our["masks"] != their["masks"]).mean() < 1e-3


def test_frames_and_sound_give_what_the_model_gives(pipe, model, processor, clip):
    answers = pipe(clip, text=SENTENCES[:2], steps_per_chunk=3)
    with torch.no_grad():
        outputs = model(**processor(text=SENTENCES[:2], **clip))
    masks = processor.post_process_masks(outputs, (120, 160))
    assert isinstance(pipe, RefAVSPipeline)
    for index, answer in enumerate(answers):
        assert (answer["expression"], answer["masks"].shape, answer["masks"].dtype) == (
            SENTENCES[index],
            (4, 120, 160),
            bool,
        )
        assert (answer["masks"] != masks[index]).mean() < 1e-4
        np.testing.assert_allclose(
            answer["presence"], outputs.presence_logits[index].sigmoid(), atol=1e-4
        )
        probabilities = outputs.mask_logits[index].sigmoid()
        inside = probabilities[probabilities > 0.5]
        assert answer["score"] == pytest.approx(
            inside.mean().item() if len(inside) else 0, abs=1e-4
        )


def test_run_lengths_are_the_masks(pipe, clip):
    (masks,), (runs,) = (
        pipe(clip, text=SENTENCES[0]),
        pipe(clip, text=SENTENCES[0], return_rle=True),
    )
    assert "masks" not in runs
    assert masks["masks"].any()
    np.testing.assert_array_equal(
        np.stack([decode_rle(rle) for rle in runs["rle"]]), masks["masks"]
    )


def test_videos_of_different_length_and_kind_in_one_batch(pipe, clip, write_clip):
    path = write_clip(sound=[(0.0, tone(2.5))])
    silent = {"frames": clip["frames"][:2], "text": [SENTENCES[2], SENTENCES[3]]}
    videos = [silent, path, clip]  # the first ends first
    together = pipe(videos, text=SENTENCES[0], batch_size=3, steps_per_chunk=2)
    alone = [pipe(video, text=SENTENCES[0]) for video in videos]
    assert [len(answers[0]["presence"]) for answers in together] == [2, 3, 4]
    for ours, theirs in zip(together, alone, strict=True):
        same(ours, theirs)
    lazily = pipe((video for video in videos), text=SENTENCES[0])
    same(next(iter(lazily)), alone[0])
    assert pipe([], text="x") == []


def test_path_bytes_and_frames_are_one_video(pipe, write_clip):
    path = write_clip("clip.mp4", sound=[(0.0, tone(2.5))], sound_codec="aac")
    steps = list(read_steps(path))
    frames = {
        "frames": [step.frame for step in steps],
        "audio": np.concatenate([step.audio for step in steps]),
    }
    expected = pipe({**frames, "sampling_rate": 16_000}, text=SENTENCES[0])
    for video in (path, str(path), path.read_bytes(), {"video": path, "text": [SENTENCES[0]]}):
        same(pipe(video, text=SENTENCES[0]), expected)


@pytest.mark.parametrize(
    "clip_facts",
    [
        {},
        {"sound": [(0.0, tone(3))]},
        {"sound": [(0.5, tone(1, channels=2))], "rate": 16000},
        {"times": (0, 0.1, 0.9, 1.05, 3.5, 3.6), "end": 5.2, "sound": [(0.0, tone(9))]},
        {"times": (0,), "end": 0.1},
        {"times": tuple(5 + np.arange(20) / 10), "end": 7.02, "sound": [(5.0, tone(2))]},
        {
            "times": tuple(5 + np.arange(20) / 10),
            "end": 7.02,
            "sound": [(4.5, tone(0.2)), (4.7, tone(1.1, loudness=0.1))],
        },
    ],
)
def test_bytes_are_read_as_the_file_is(write_clip, clip_facts):
    path = write_clip(**clip_facts)
    expected = list(read_steps(path))
    steps = list(read_steps(path.read_bytes()))
    assert len(steps) == len(expected)
    for step, same in zip(steps, expected, strict=True):
        np.testing.assert_array_equal(step.frame, same.frame)
        assert step.duration == same.duration
        if same.audio is None:
            assert step.audio is None
        else:
            np.testing.assert_array_equal(step.audio, same.audio)


def test_bytes_of_a_rotated_video_are_read_upright(write_clip, rotate):
    path = rotate(write_clip("turned.mp4"), 1)
    step = next(read_steps(path.read_bytes()))
    np.testing.assert_array_equal(step.frame, next(read_steps(path)).frame)
    assert step.frame.shape == (64, 48, 3)


def test_without_pyav_frames_still_work(pipe, clip, write_clip, monkeypatch):
    path = write_clip()
    monkeypatch.setattr(video_refavs, "is_av_available", lambda: False)
    with pytest.raises(ValueError, match="pip install av"):
        pipe(path, text="the dog")
    assert len(pipe(clip, text="the dog")) == 1


def test_mistakes(pipe, clip, tmp_path):
    (tmp_path / "notes.mp4").write_text("Dear diary, today no video. " * 40)
    mistakes = {
        "pass text=": lambda: pipe(clip),
        "is empty": lambda: pipe(clip, text=["the dog", " "]),
        "got int": lambda: pipe(7, text="the dog"),
        r"got \['pictures'\]": lambda: pipe({"pictures": []}, text="the dog"),
        "no such file": lambda: pipe("https://example.org/a.mp4", text="the dog"),
        "not a media file that FFmpeg can read": lambda: pipe(
            tmp_path / "notes.mp4", text="the dog"
        ),
        "11 bytes: not a media file": lambda: pipe(b"Dear diary,", text="the dog"),
        "without a single frame": lambda: pipe({"frames": []}, text="the dog"),
        "between 0 and 1": lambda: pipe(clip, text="the dog", threshold=1),
        "at least 1": lambda: pipe(clip, text="the dog", steps_per_chunk=0),
        "sampling_rate must be given": lambda: pipe(
            {"frames": clip["frames"], "audio": clip["audio"]}, text="the dog"
        ),
        "or refavs_tpavi, got refavs_released": lambda: RefAVSPipeline(
            make_released_model(), processor=pipe.processor
        ),
    }
    for words, mistake in mistakes.items():
        with pytest.raises(ValueError, match=words):
            mistake()


def test_a_saved_pipeline_has_everything(pipe, clip, tmp_path):
    pipe.save_pretrained(tmp_path / "saved")
    names = {path.name for path in Path(tmp_path / "saved").iterdir()}
    assert {
        "pipeline_refavs.py",
        "video_refavs.py",
        "mask_rle.py",
        "processor_config.json",
    } <= names
    again = pipeline(TASK, model=str(tmp_path / "saved"))  # registered: no remote code is asked for
    assert type(again) is RefAVSPipeline
    same(again(clip, text=SENTENCES[0]), pipe(clip, text=SENTENCES[0]))
