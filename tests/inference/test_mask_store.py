"""A run that was stopped goes on where it was, and ends as if it had never been."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from modeling_refavs.inference.mask_store import (
    MaskStore,
    PersistentMaskStore,
    describe_request,
    store_folder_of,
)
from modeling_refavs.inference.segment import segment_video
from tests.conftest import SENTENCES, make_model
from tests.media_kit import FakeModel, FakeProcessor


EXPRESSIONS = ["the brighter half", "everything"]


class Stopping:
    """A model that is stopped before its `limit`-th call."""

    def __init__(self, model, limit):
        self.model, self.limit, self.calls = model, limit, 0

    def __getattr__(self, name):
        return getattr(self.model, name)

    def __call__(self, **inputs):
        if self.calls == self.limit:
            raise KeyboardInterrupt
        self.calls += 1
        return self.model(**inputs)


@pytest.fixture
def video(write_clip):
    return write_clip(times=tuple(np.arange(70) / 10), end=7.0)


def segment(video, folder, limit=None, request="the same", model=None, processor=None):
    model = Stopping(model or FakeModel(), limit)
    expressions = EXPRESSIONS if processor is None else SENTENCES[:2]
    store = PersistentMaskStore(folder, {"request": request}) if folder else None
    processor = processor or FakeProcessor()
    return model, segment_video(
        model, processor, video, expressions, steps_per_chunk=2, store=store
    )


def stop(video, folder, limit, **options):
    with pytest.raises(KeyboardInterrupt):
        segment(video, folder, limit, **options)


def same(ours, theirs):
    torch.testing.assert_close(ours.mask_logits, theirs.mask_logits, rtol=0, atol=0)
    np.testing.assert_array_equal(ours.presence, theirs.presence)
    assert ours.duration == pytest.approx(theirs.duration)


@pytest.mark.parametrize("damage", [False, True])
def test_a_stopped_run_goes_on(video, tmp_path, damage):
    folder = tmp_path / "journal"
    stop(video, folder, limit=2)
    if damage:  # killed while it wrote the next answers
        with (folder / "mask_logits.f16").open("ab") as file:
            file.write(b"\1" * 50)
    model, ours = segment(video, folder)
    assert model.calls == 2  # of four
    same(ours, segment(video, None)[1])
    assert ours.throughput > 0
    model, again = segment(video, folder)
    assert (model.calls, again.throughput) == (0, None)
    same(again, ours)
    ours.store.remove()
    assert not folder.exists()


def test_the_model_itself_goes_on_with_its_memory(video, processor, tmp_path):
    model = make_model()
    stop(video, tmp_path / "journal", limit=2, model=model, processor=processor)
    ours = segment(video, tmp_path / "journal", model=model, processor=processor)[1]
    theirs = segment(video, None, model=model, processor=processor)[1]
    same(ours, theirs)
    assert (theirs.mask_logits[:, 3] - theirs.mask_logits[:, 4]).abs().max() > 0.01


@pytest.mark.parametrize(
    "change", ["another request", "half a state", "no answers", "too few answers"]
)
def test_what_does_not_fit_is_begun_anew(video, tmp_path, change):
    folder = tmp_path / "journal"
    stop(video, folder, limit=2)
    state, answers = folder / "state.safetensors", folder / "mask_logits.f16"
    if change == "half a state":
        state.write_bytes(state.read_bytes()[:40])
    elif change == "no answers":
        answers.unlink()
    elif change == "too few answers":
        answers.write_bytes(answers.read_bytes()[:-1])
    model, ours = segment(
        video, folder, request=change if change == "another request" else "the same"
    )
    assert model.calls == 4
    same(ours, segment(video, None)[1])


def test_no_sign_is_lost_on_disk():
    logits = torch.tensor([[1e-3, -1e-3, 2.0, -17.23, 60.0, -3e-5]]).reshape(1, 1, 2, 3)
    store = MaskStore()
    store.append(logits, np.ones((1, 1), dtype=np.float32), None, 1.0)
    torch.testing.assert_close(store.read(0), logits[:, 0], rtol=1e-3, atol=1e-6)
    assert ((store.read(0) > 0) == (logits[:, 0] > 0)).all()


def test_a_request_is_of_these_files(tmp_path):
    (tmp_path / "model").mkdir()
    video, weights = tmp_path / "a.mp4", tmp_path / "model" / "model.safetensors"
    for file in (video, weights):
        file.write_bytes(b"1")

    def describe():
        return describe_request(video, EXPRESSIONS, str(tmp_path / "model"), rate=1)

    first = describe()
    assert describe() == first
    for file in (video, weights):
        before = describe()
        file.write_bytes(b"22")
        assert describe() != before
    assert describe_request(video, EXPRESSIONS[:1], "model", rate=1) != describe_request(
        video, EXPRESSIONS, "model", rate=1
    )
    assert store_folder_of("x/out.mp4").as_posix() == "x/.out.mp4.journal"


def test_threads_read_their_own_frames():
    store = MaskStore()
    logits = torch.arange(40.0).view(1, 40, 1, 1).expand(1, 40, 32, 32)
    store.append(logits, np.zeros((1, 40)), None, 40.0)
    with ThreadPoolExecutor(8) as threads:
        read = list(
            threads.map(lambda index: store.read(index).unique().tolist(), [*range(40)] * 9)
        )
    assert read == [[float(index)] for index in range(40)] * 9
