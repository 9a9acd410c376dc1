"""The embedded default of `refavs annotate`: candidates, GrabCut, tracking and sounds."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dataset_script.annotate.models import Candidate, Prompt


cv2 = pytest.importorskip("cv2")

from modeling_refavs.inference.annotation_default import (  # noqa: E402
    GrabCutSegmenter,
    NamedSounds,
    QueryDetector,
    QueryMasks,
    SoundIntervals,
    mask_overlap,
)
from modeling_refavs.inference.annotation_models import (  # noqa: E402
    ClassifiedSounds,
    load_annotation_models,
)
from modeling_refavs.inference.loading import load_model  # noqa: E402
from modeling_refavs.inference.mask_tracking import MaskTracker  # noqa: E402
from modeling_refavs.video_refavs import probe_video, read_steps  # noqa: E402


CHECKPOINT, CLIP = "spaces_demo/synthetic_checkpoint", "spaces_demo/examples/bell_first.mp4"
SIZE = (96, 128)  # (height, width) of frames


def texture(seed: int, size: tuple[int, int], mean: tuple[int, int, int]) -> np.ndarray:
    """A picture with blotches, by which its parts are told apart."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 40, (size[0] // 5 + 1, size[1] // 5 + 1, 3)).astype(np.float32)
    picture = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC) + mean
    return picture.clip(0, 255).astype(np.uint8)


BACKGROUND = texture(0, SIZE, (90, 100, 90))
RED, BLUE = texture(1, (32, 32), (200, 60, 50)), texture(2, (24, 24), (50, 80, 210))


def disc_mask(centre: tuple[int, int], radius: int) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (columns - centre[0]) ** 2 + (rows - centre[1]) ** 2 < radius**2


def draw(*discs: tuple[np.ndarray, tuple[int, int] | None]) -> tuple[np.ndarray, list[np.ndarray]]:
    """A frame with discs cut out of pictures at (x, y), the last in front; and their masks."""
    frame, masks = BACKGROUND.copy(), []
    for picture, centre in discs:
        mask = np.zeros(SIZE, bool)
        if centre is not None:
            radius = len(picture) // 2
            mask = disc_mask(centre, radius)
            rows, columns = np.nonzero(mask)
            frame[mask] = picture[rows - centre[1] + radius, columns - centre[0] + radius]
        masks = [earlier & ~mask for earlier in masks] + [mask]
    return frame, masks


# Tracking

PATHS = [
    (((20 + 14 * place), 40), (110 - 14 * place, 66) if place < 5 else None) for place in range(7)
]


def moving() -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    """Two discs that pass each other, the blue one before the red; it is gone at the end."""
    drawn = [draw((RED, red), (BLUE, blue)) for red, blue in PATHS]
    return [frame for frame, _ in drawn], [masks for _, masks in drawn]


def test_objects_are_followed_forward_and_backward_until_they_are_gone():
    frames, truth = moving()
    found = dict(MaskTracker().track(frames, 1, {4: truth[1][0], 9: truth[1][1]}))
    assert sorted(found) == [0, 2, 3, 4, 5, 6]
    for place, masks in found.items():
        assert list(masks) == [4, 9]
        assert not (masks[4] & masks[9]).any()
        for fid, expected in zip((4, 9), truth[place], strict=True):
            assert masks[fid].shape == SIZE
            assert masks[fid].dtype == bool
            if expected.any():
                assert mask_overlap(masks[fid], expected) > 0.8, (place, fid)
            else:
                assert not masks[fid].any()


def test_an_object_that_comes_back_is_found_again():
    paths = [(30, 40), None, None, (90, 60)]
    frames = [draw((RED, centre))[0] for centre in paths]
    found = dict(MaskTracker().track(frames, 0, {1: disc_mask((30, 40), 16)}))
    assert not found[1][1].any()
    assert not found[2][1].any()
    assert mask_overlap(found[3][1], disc_mask((90, 60), 16)) > 0.9


def test_the_same_clicks_give_the_same_masks():
    frames, truth = moving()
    known = {1: truth[3][0], 2: truth[3][1]}
    once, again = (dict(MaskTracker().track(frames, 3, known)) for _ in range(2))
    for place, masks in once.items():
        for fid, mask in masks.items():
            np.testing.assert_array_equal(mask, again[place][fid])


def test_an_empty_mask_stays_empty_and_frames_of_any_size_do():
    frames, truth = moving()
    known = {1: truth[0][0], 2: np.zeros(SIZE, bool)}
    found = dict(MaskTracker().track(frames[:2], 0, known))
    assert not found[1][2].any()
    large = [cv2.resize(frame, None, fx=5, fy=5) for frame in frames[:2]]
    mask = cv2.resize(truth[0][0].astype(np.uint8), None, fx=5, fy=5) > 0
    (_, masks), *_ = MaskTracker().track(large, 0, {1: mask})
    expected = cv2.resize(truth[1][0].astype(np.uint8), None, fx=5, fy=5) > 0
    assert mask_overlap(masks[1], expected) > 0.85


def test_a_proposal_gives_the_outline_of_what_has_changed_its_form():
    """The disc is wider in the second frame, and its colours are not quite the same."""
    frame, (mask,) = draw((RED, (60, 48)))
    wide = cv2.resize(frame, None, fx=1.35, fy=0.95)[: SIZE[0]]
    wide = np.concatenate([wide, wide[-8:]])[: SIZE[0], 20 : 20 + SIZE[1]]
    expected = cv2.resize(mask.astype(np.uint8), None, fx=1.35, fy=0.95)
    expected = np.concatenate([expected, expected[-8:]])[: SIZE[0], 20 : 20 + SIZE[1]] > 0
    noise = np.random.default_rng(0).normal(0, 30, wide.shape)
    wide = (wide + noise).clip(0, 255).astype(np.uint8)
    proposals = SimpleNamespace(
        masks=np.stack([~expected, expected]), features=np.eye(2), describe=lambda _: np.eye(2)[1]
    )
    (_, alone), *_ = MaskTracker().track([frame, wide], 0, {1: mask})
    (_, helped), *_ = MaskTracker(lambda _: proposals).track([frame, wide], 0, {1: mask})
    assert 0.5 < mask_overlap(alone[1], expected) < 0.99
    np.testing.assert_array_equal(helped[1], expected)
    ways = ("flow", "features", "search")
    (_, without), *_ = MaskTracker(lambda _: proposals, ways).track([frame, wide], 0, {1: mask})
    np.testing.assert_array_equal(without[1], alone[1])


def test_what_cannot_be_tracked_is_refused():
    frame, (mask,) = draw((RED, (60, 48)))
    with pytest.raises(ValueError, match="pivot must be one of 1 frames, got 3"):
        list(MaskTracker().track([frame], 3, {1: mask}))
    with pytest.raises(ValueError, match=r"object 1: a mask of \(5, 5\)"):
        list(MaskTracker().track([frame], 0, {1: mask[:5, :5]}))
    with pytest.raises(ValueError, match="ways must be of flow, features, search, proposals"):
        MaskTracker(ways=["magic"])


# GrabCut


class Found:
    """A detector of given masks."""

    def __init__(self, *masks: np.ndarray):
        self.masks = masks

    def detect(self, frame: np.ndarray, text: str = "") -> list[Candidate]:
        return [Candidate(mask, "", 0.5) for mask in self.masks]


SCENE, (RED_MASK, BLUE_MASK) = draw((RED, (40, 48)), (BLUE, (90, 48)))


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(points=((40, 48),), labels=(True,)),
        Prompt(box=(22, 30, 58, 66)),
        Prompt(mask=disc_mask((42, 50), 15)),
        Prompt(points=((40, 48), (90, 48)), labels=(True, False), box=(22, 30, 58, 66)),
    ],
    ids=["click", "box", "mask", "all"],
)
def test_what_is_pointed_at_is_cut_out(prompt):
    mask = GrabCutSegmenter().segment(SCENE, prompt)
    assert mask.dtype == bool
    assert mask_overlap(mask, RED_MASK) > 0.85
    np.testing.assert_array_equal(mask, GrabCutSegmenter().segment(SCENE, prompt))


def test_clicks_are_obeyed():
    """Also those that say what no picture shows."""
    clicks = {(40, 48): True, (36, 44): False, (90, 48): True, (64, 10): False, (127, 95): True}
    prompt = Prompt(points=tuple(clicks), labels=tuple(clicks.values()))
    for segmenter in (GrabCutSegmenter(), GrabCutSegmenter(Found(RED_MASK))):
        mask = segmenter.segment(SCENE, prompt)
        assert {(x, y): bool(mask[y, x]) for x, y in clicks} == clicks


def test_a_click_takes_the_likeliest_candidate_that_holds_it():
    both = RED_MASK | BLUE_MASK
    click = Prompt(points=((40, 48),), labels=(True,))
    for candidates, expected in (((RED_MASK, both), RED_MASK), ((both, RED_MASK), both)):
        mask = GrabCutSegmenter(Found(BLUE_MASK, *candidates)).segment(SCENE, click)
        assert mask[48, 40]
        assert mask_overlap(mask, expected & (RED_MASK if not expected[48, 90] else both)) > 0.5
    not_blue = Prompt(points=((40, 48), (90, 48)), labels=(True, False))
    mask = GrabCutSegmenter(Found(both, RED_MASK)).segment(SCENE, not_blue)
    assert mask_overlap(mask, RED_MASK) > 0.85


def test_a_click_changes_a_mask_near_it_alone():
    drawn = RED_MASK | disc_mask((100, 20), 9)
    prompt = Prompt(points=((28, 48),), labels=(True,), mask=drawn & ~disc_mask((26, 48), 6))
    mask = GrabCutSegmenter().segment(SCENE, prompt)
    assert mask[48, 28]
    np.testing.assert_array_equal(mask[:40, 80:], drawn[:40, 80:])


def test_pointing_at_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing is pointed at"):
        GrabCutSegmenter().segment(SCENE, Prompt())


# Candidates


@pytest.fixture(scope="module")
def shipped() -> tuple:
    return load_model(CHECKPOINT, torch.device("cpu"))


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    return next(read_steps(probe_video(CLIP))).frame


def test_candidates_are_what_the_queries_show_each_once(shipped, frame):
    candidates = QueryDetector(QueryMasks(*shipped)).detect(frame)
    assert candidates
    scores = [candidate.score for candidate in candidates]
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[-1] <= scores[0] <= 1
    for place, candidate in enumerate(candidates):
        assert candidate.mask.shape == frame.shape[:2]
        assert candidate.mask.dtype == bool
        for other in candidates[:place]:
            assert mask_overlap(candidate.mask, other.mask) < 0.6


def test_a_text_names_the_candidates(shipped, frame):
    """The clip shows a bell and no drum."""
    detector = QueryDetector(QueryMasks(*shipped))
    (bell,) = detector.detect(frame, "bell")
    assert (bell.label, bell.score > 0.5) == ("bell", True)
    assert 0.002 < bell.mask.mean() < 0.1
    assert detector.detect(frame, "drum.") == []
    both = detector.detect(frame, "drum. bell.")
    assert [candidate.label for candidate in both] == ["bell"]
    np.testing.assert_array_equal(both[0].mask, bell.mask)


def test_a_frame_is_encoded_once(shipped, frame, monkeypatch):
    queries, calls = QueryMasks(*shipped), []
    look = queries._look
    monkeypatch.setattr(queries, "_look", lambda picture: calls.append(1) or look(picture))
    detector = QueryDetector(queries)
    detector.detect(frame)
    detector.detect(frame, "drum")
    detector.detect(frame.copy())
    assert len(calls) == 1


def test_the_default_needs_no_checkpoint_and_takes_one():
    bare = load_annotation_models(device="cpu")
    assert bare.detector is None
    assert bare.segmenter.segment(SCENE, Prompt(box=(22, 30, 58, 66))).any()
    models = load_annotation_models(checkpoint=CHECKPOINT, device="cpu")
    assert isinstance(models.detector, QueryDetector)
    assert models.segmenter.detector is models.detector
    with pytest.raises(ValueError, match="--checkpoint nowhere/at/all: no folder"):
        load_annotation_models(checkpoint="nowhere/at/all")


# Sounds

RATE = 16000


def hums(*intervals: tuple[float, float], seconds: float = 10.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    inside = np.zeros(len(time), bool)
    for start, end in intervals:
        inside |= (start <= time) & (time < end)
    noise = np.random.default_rng(0).normal(0, 0.001, len(time))
    return (noise + 0.3 * np.sin(2 * np.pi * 300 * time) * inside).astype(np.float32)


def test_sounds_stand_out_of_the_noise():
    found = SoundIntervals().propose(hums((1, 3), (3.1, 4), (6.5, 8)), "dog")
    assert found == [(1.0, 4.0), (6.5, 8.0)]
    assert SoundIntervals().propose(hums((0, 10)), "dog") == [(0.0, 10.0)]
    assert SoundIntervals().propose(np.zeros(RATE), "dog") == []
    assert SoundIntervals().propose(np.zeros(0), "dog") == []


def test_intervals_of_other_sounds_are_left_out():
    def hear(window: np.ndarray) -> dict[str, float]:
        crossings = (np.diff(np.signbit(window[4000:12000])) != 0).sum()
        low = 200 < crossings < 500 and np.abs(window).max() > 0.1
        return {"Dog": 0.9 * low, "Hot dog": 0.0, "Speech": 0.5}

    samples = hums((1, 3))
    high = 0.3 * np.sin(2 * np.pi * 2000 * np.arange(2 * RATE) / RATE)
    samples[6 * RATE : 8 * RATE] += high.astype(np.float32)
    proposer = SoundIntervals(ClassifiedSounds(hear))
    assert proposer.propose(samples, "dog") == [(1.0, 3.0)]
    assert proposer.propose(samples, "hot dog") == [(1.0, 3.0), (6.0, 8.0)]  # heard nowhere
    assert proposer.propose(samples, "piano") == [(1.0, 3.0), (6.0, 8.0)]  # no such class


def test_a_checkpoint_hears_windows(shipped):
    heard = NamedSounds(*shipped)(hums((1, 3)), "drum")
    assert heard.shape == (38,)
    assert heard.dtype == bool
