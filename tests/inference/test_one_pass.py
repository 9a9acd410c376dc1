"""A video segmented while it is drawn is the video segmented first and drawn then."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from modeling_refavs.inference import one_pass
from modeling_refavs.inference.export import (
    coco_writer,
    cvat_writer,
    mask_writer,
    summarize,
    write_outputs,
)
from modeling_refavs.inference.mask_store import MaskStore, PersistentMaskStore
from modeling_refavs.inference.one_pass import OnePassSegmentation, can_segment_in_one_pass
from modeling_refavs.inference.segment import segment_video
from modeling_refavs.video_refavs import probe_video
from modeling_refavs.visualization.contact_sheet import contact_sheet_writer
from modeling_refavs.visualization.render import rendered_video_writer
from tests.conftest import make_model
from tests.media_kit import FakeModel, FakeProcessor, tone


SENTENCES = ("the left half", "everything", "nothing")
TIMES = {
    "ten a second": (np.arange(35) / 10, 3.5),
    "a tail that is too short to be a step": (np.arange(31) / 10, 3.08),
    "a tail of several frames, too short all the same": ((*np.arange(30) / 10, 3, 3.03), 3.06),
    "a frame that stands for seconds": ((0, 0.5, 0.9, 4.2, 5.0), 5.5),
    "one frame": ((0,), 0.04),
    "one frame that stands": ((0,), 3.0),
    "a second without a frame of its own": ((0, 0.9, 1.95, 3.3), 3.6),
}


def in_one_pass(model, processor, info, store=None):
    store = MaskStore() if store is None else store
    return OnePassSegmentation(model, processor, info, SENTENCES, 0.5, store)


def write_all(segmentation, folder):
    folder.mkdir()
    writers = [
        mask_writer(segmentation, folder / "masks"),
        coco_writer(segmentation, folder / "coco.json"),
        cvat_writer(segmentation, folder / "cvat.xml"),
        contact_sheet_writer(segmentation, folder / "sheet.png"),
        rendered_video_writer(segmentation, folder / "video.mp4", threads=1),
    ]
    done = []
    write_outputs(segmentation, writers, done.append)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}, sum(done)


def same(ours, theirs):
    torch.testing.assert_close(ours.mask_logits, theirs.mask_logits, rtol=0, atol=0)
    np.testing.assert_array_equal(ours.presence, theirs.presence)
    np.testing.assert_array_equal(ours.peaks, theirs.peaks)
    assert ours.duration == pytest.approx(theirs.duration)
    ours, theirs = ({**summarize(each), "throughput": None} for each in (ours, theirs))
    assert ours == theirs


@pytest.mark.parametrize("case", TIMES)
def test_all_outputs_are_those_of_two_passes(write_clip, fake_model, tmp_path, case):
    times, end = TIMES[case]
    sound = [(0.0, tone(max(0.02, end - 1)))]
    info = probe_video(write_clip(times=tuple(times), end=end, sound=sound))
    first = segment_video(*fake_model, info, SENTENCES)
    ours = in_one_pass(*fake_model, info)
    theirs = write_all(first, tmp_path / "theirs")
    written, done = write_all(ours, tmp_path / "ours")
    assert {name for name in written if written[name] != theirs[0].get(name)} == set()
    assert (len(written), done) == (len(theirs[0]), theirs[1])
    same(ours, first)
    assert ours.throughput > 0


def test_the_model_itself_says_the_same(write_clip, processor, tmp_path):
    model = make_model()
    info = probe_video(write_clip(end=3.0, sound=[(0.0, tone(3))]))
    first = segment_video(model, processor, info, SENTENCES)
    ours = in_one_pass(model, processor, info)
    write_all(ours, tmp_path / "ours")
    torch.testing.assert_close(ours.mask_logits, first.mask_logits, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(ours.presence, first.presence, atol=1e-4)


@pytest.mark.parametrize("num_known", [1, 2, 4])
def test_a_stopped_run_goes_on(write_clip, processor, tmp_path, num_known):
    model = make_model()
    info = probe_video(write_clip(times=tuple(np.arange(35) / 10), end=3.5))
    whole = in_one_pass(model, processor, info)
    expected = write_all(whole, tmp_path / "whole")
    store = PersistentMaskStore(tmp_path / "journal", {})
    frames = in_one_pass(model, processor, info, store).masked_frames()
    while len(store) < num_known:
        next(frames)
    frames.close()
    store = PersistentMaskStore(tmp_path / "journal", {})
    assert len(store) == num_known
    ours = in_one_pass(model, processor, info, store)
    assert write_all(ours, tmp_path / "ours") == expected
    same(ours, whole)
    assert (ours.throughput is None) == (num_known == 4)
    # What one pass has left, two passes resume, and know the length too.
    again = segment_video(model, processor, info, SENTENCES, store=store, smoothing=0.2)
    assert (again.throughput, again.duration) == (None, pytest.approx(3.5))


def test_a_file_that_declares_another_length(write_clip, fake_model, tmp_path):
    """Shorter or longer than it is: the sheet is that of the true length."""
    info = probe_video(write_clip(times=tuple(range(14)), end=14))
    write_all(segment_video(*fake_model, info, SENTENCES), tmp_path / "expected")
    for declared in (3.0, 60.0):
        ours = in_one_pass(*fake_model, replace(info, duration=declared))
        folder = tmp_path / str(declared)
        write_all(ours, folder)
        assert ours.duration == pytest.approx(14)
        sheets = [(each / "sheet.png").read_bytes() for each in (folder, tmp_path / "expected")]
        assert sheets[0] == sheets[1]


def test_each_frame_is_decoded_once_and_each_mask_up_sampled_once(
    write_clip, fake_model, tmp_path, monkeypatch
):
    info = probe_video(write_clip())
    sizes, reads = [], []
    post_process, read_frames = fake_model[1].post_process_masks, one_pass.read_frames
    monkeypatch.setattr(
        fake_model[1],
        "post_process_masks",
        lambda outputs, size, threshold: (
            sizes.append(size) or post_process(outputs, size, threshold)
        ),
    )
    monkeypatch.setattr(
        one_pass, "read_frames", lambda source: reads.append(1) or read_frames(source)
    )
    ours = in_one_pass(*fake_model, info)
    write_all(ours, tmp_path / "ours")
    summarize(ours)
    assert len(reads) == 1
    assert sizes.count(info.size[::-1]) == 3


@pytest.mark.parametrize(
    ("change", "possible"),
    [
        ({}, True),
        ({"rate": 2}, False),
        ({"rate": "video"}, False),
        ({"smoothing": 0.5}, False),
        ({"smoothing": 0.0}, True),
        ({"declared": None}, False),
        ({"declared": 0.0}, False),
        ({"model_type": "refavs-released"}, False),
        ({"mode": "released"}, False),
    ],
)
def test_what_needs_the_future_takes_two_passes(write_clip, change, possible):
    info = probe_video(write_clip())
    info = replace(info, duration=change.get("declared", info.duration))
    model, processor = FakeModel(), FakeProcessor()
    model.config = SimpleNamespace(model_type=change.get("model_type", "refavs"))
    processor.feature_extractor = SimpleNamespace(mode=change.get("mode", "aligned"))
    options = change.get("rate", 1), change.get("smoothing")
    assert can_segment_in_one_pass(model, processor, info, *options) == possible
