"""The clip head: one object for all frames, by what frames say and by what the whole tells."""

import pytest
import torch

from modeling_refavs import RefAVSForSegmentation
from modeling_refavs.clip_head_refavs import (
    NUM_CLAIMS,
    RefAVSObjectsOverTime,
    claim_objects,
    fade,
    tell_same,
)
from modeling_refavs.object_head_refavs import NUM_LIKENESSES, choose_query
from modeling_refavs.training.trainer import freeze_unused
from tests.conftest import SENTENCES, make_model


NAMING = {"loss_weight": 1.0, "use_alignment": True, "vocabulary_size": 7, "sound_classes": 5}
close = torch.testing.assert_close


@pytest.fixture(scope="module")
def head():
    """It has learned nothing."""
    config = make_model(grounding_config={**NAMING, "object_head_size": 16}).config
    return RefAVSForSegmentation(config).clip_predictor.eval()


@pytest.fixture
def choose(head):
    def choose(logits, visual, facts, frame_mask, is_first, fading=None, bias=0.0, memory=None):
        rows, queries = visual.shape[:2]
        claims = claim_objects(
            logits, visual.new_zeros(rows, queries, NUM_LIKENESSES), visual.new_zeros(rows, 2)
        )
        expression = visual.new_zeros(len(is_first), head.asked[0].in_features)
        fading = visual.new_zeros(len(is_first)) if fading is None else fading
        return head.to(visual.dtype).choose(
            expression, visual, facts, claims, frame_mask, is_first, fading, bias, memory
        )

    return choose


def scene():
    """Four steps of two things and a mask of nothing, of which the second thing leaves after the
    second step: F'_V, facts and what each frame says by itself, of three queries in any order."""
    torch.manual_seed(0)
    looks, places = torch.randn(2, 16), torch.tensor([[0.4, 0.3, 0.5], [0.2, 0.8, 0.6]])
    visual, facts, logits = torch.zeros(4, 3, 16), torch.zeros(4, 3, 10), torch.zeros(4, 4)
    said = torch.tensor([[-2.0, 3.0], [1.0, 2.0], [0.5, 0.0], [1.0, 0.0]])
    for step, order in enumerate([(0, 1), (1, 0), (2, 0), (0, 2)]):
        for thing in range(1 if step > 1 else 2):
            query = order[thing]
            visual[step, query] = looks[thing] + 0.1 * torch.randn(16)
            facts[step, query, :3] = places[thing] + 0.01 * step
            logits[step, query] = said[step, thing]
    return visual, facts, logits


def test_one_object_is_meant_in_all_frames(choose):
    """The second thing, which is surer, though later frames by themselves say the first."""
    visual, facts, logits = scene()
    every = torch.ones(1, 4, dtype=torch.bool)
    found, after = choose(logits, visual, facts, every, every)
    _, presence = choose_query(torch.zeros(4, 3, 2, 2), found)
    assert found[:, :-1].argmax(1)[:2].tolist() == [1, 0]
    assert (presence > 0).tolist() == [True, True, False, False]
    # one after the other, with what the steps before said, it is so from the first on
    memory, alone = None, []
    for step in range(4):
        one = slice(step, step + 1)
        answer, memory = choose(
            logits[one], visual[one], facts[one], every[:, one], every[:, one], memory=memory
        )
        alone.append(answer[0])
    close(alone[-1], found[-1])
    close(memory, after)
    assert (choose_query(torch.zeros(4, 3, 2, 2), torch.stack(alone))[1] > 0).tolist() == [
        *[True, True],
        *[False, False],
    ]
    # without it the first thing is meant, but where it is not sure
    facts[:2][(visual[:2] - visual[0, 1]).abs().mean(-1) < 0.3] = 0
    found, _ = choose(logits, visual, facts, every, every)
    assert found[:, :-1].argmax(1).tolist() == [0, 1, 2, 0]


def test_what_is_true_of_the_moment_may_change(choose):
    """The first thing sounds at first and then the second, by what each frame says by itself."""
    visual, facts, _ = scene()
    visual[2:], facts[2:] = visual[:2].flip(0), facts[:2].flip(0)  # both stay
    logits = torch.tensor([[1.0, -1, -9, 0], [-1, 1, -9, 0], [2, -2, -9, 0], [-2, 2, -9, 0]])
    every = torch.ones(2, 4, dtype=torch.bool)
    rows = [torch.cat([part, part]) for part in (logits, visual, facts)]
    found, _ = choose(*rows, every, every, torch.tensor([0.0, 9.0]))
    assert found[:, :-1].argmax(1).tolist() == [1, 0, 0, 1, 0, 1, 0, 1]
    alone = [choose(*(p[t : t + 1] for p in rows), *[every[:1, :1]] * 2)[0] for t in range(4)]
    close(found[4:], torch.cat(alone), rtol=1e-3, atol=1e-3)


def test_what_frames_say_of_an_object_is_averaged(choose):
    """Against a loop, with two expressions, padding and several frames of one step."""
    torch.manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.double)  # noqa: E731
    visual, facts, logits = draw(2, 5, 3, 16), draw(2, 5, 3, 10).sigmoid() / 9, draw(2, 5, 4)
    visual[:, 1:] = visual[:, :1] + 0.1 * visual[:, 1:]
    facts[0, 2, 1, 0] = 0.0  # an empty mask
    real = torch.tensor([[True] * 5, [True, True, False, True, False]])
    first = torch.tensor([[True, False, True, True, False], [True, True, False, True, False]])
    rows = [part.flatten(0, 1) for part in (logits, visual, facts)]
    fading = torch.tensor([0.0, 0.7])
    found, after = choose(*rows, real, first, fading, -0.3)
    found, step = found.unflatten(0, (2, 5)), first.cumsum(1)
    normalised = torch.nn.functional.layer_norm(visual, [16])
    for row in range(2):
        frames = [t for t in range(5) if real[row, t]]
        masks = [(t, q) for t in frames for q in range(3) if facts[row, t, q, 0] > 0]

        def alike(one, other, row=row):
            pair = torch.stack([normalised[row][one], normalised[row][other]])
            return tell_same(
                pair[None], facts[row][[one[0], other[0]], [one[1], other[1]], :3][None]
            )[0, 0, 1]

        for frame in frames:
            known = [t for t in frames if first[row, t] and step[row, t] != step[row, frame]]
            known, best = sorted({*known, frame}), None
            for mask in masks:
                if mask[0] not in known:
                    continue
                total, weight = 0.0, 0.0
                for t in known:
                    own = [other for other in masks if other[0] == t]
                    same = torch.stack([alike(mask, other) for other in own]).sigmoid()
                    claim = torch.stack([logits[row][o] - logits[row, t, -1] for o in own])
                    weigh = same.amax() * torch.exp(
                        -fading[row] * (step[row, t] - step[row, frame]).abs()
                    )
                    total += weigh * (same * claim.exp()).sum().log()
                    weight += weigh
                if best is None or total / weight > best[0]:
                    best = total / weight, mask
            own = [other for other in masks if other[0] == frame]
            same = torch.stack([alike(best[1], other) for other in own])
            presence = torch.minimum(best[0] - 0.3, same.amax())
            close(found[row, frame, :-1].logsumexp(0), presence)
            claim = torch.stack([logits[row][other] for other in own])
            among = (claim + same.sigmoid().log()).log_softmax(0) + presence
            close(found[row, frame, [other[1] for other in own]], among)
    assert after.shape == (2, 10, 3, 37)
    for row, kept in enumerate([[0, 2, 3], [0, 1, 3]]):
        assert not after[row, :7].any()
        close(after[row, 7:, :, :16], normalised[row, kept])


def test_what_is_claimed_of_an_object_is_gathered_from_the_steps_that_show_it():
    """Two things in three steps of which the last has two frames; the second leaves."""
    visual, facts, logits = scene()
    first = torch.tensor([[True, True, True, False]])
    torch.manual_seed(1)
    claims = claim_objects(logits, torch.randn(4, 3, NUM_LIKENESSES), torch.randn(4, 2))
    objects = RefAVSObjectsOverTime(visual, facts, claims, first | True, first)
    found = objects.gather()[0].unflatten(0, (4, 3))
    weights = objects.in_view[0].unflatten(0, (4, 3))
    # the first thing; a frame knows of itself and of the first frames of other steps
    own = torch.stack([claims[0, 0], claims[1, 1], claims[2, 2], claims[3, 0]])
    for step, query in ((0, 0), (1, 1), (2, 2), (3, 0)):
        for frame in range(4):
            known = [0, 1, 3] if frame == 3 else [0, 1, 2]
            weight = weights[step, query, known, None]
            mean, highest = found[step, query, frame].split(NUM_CLAIMS)
            close(mean, (weight * own[known]).sum(0) / weight.sum())
            close(highest, own[known].amax(0))
    second = torch.stack([claims[0, 1], claims[1, 0]])
    close(found[0, 1, 0, NUM_CLAIMS:], second.amax(0))  # later steps do not show it


def test_the_whole_may_tell_another_object_or_none(head, choose):
    """What learned that large things are asked for chooses the first, and with a bias none."""
    visual, facts, logits = scene()
    every = torch.ones(1, 4, dtype=torch.bool)
    said, _ = choose(logits, visual, facts, every, every)
    measures = torch.zeros(4, 3, NUM_LIKENESSES)
    measures[..., 0] = facts[..., 0]
    claims = claim_objects(logits, measures, torch.zeros(4, 2))

    def ask(weight, bias):
        with torch.no_grad():
            head.asked[-1].bias[1], head.asked[-1].bias[-1] = weight, bias
            found = head.choose(
                torch.zeros(1, 32), visual, facts, claims, every, every, torch.zeros(1)
            )[0]
            torch.nn.init.zeros_(head.asked[-1].bias)
        _, presence = choose_query(torch.zeros(4, 3, 2, 2), found)
        return found[:, :-1].argmax(1).tolist(), (presence > 0).tolist()

    close(ask(0.0, 0.0)[0][:2], said[:2, :-1].argmax(1).tolist())
    assert ask(30.0, 0.0) == ([0, 1, 2, 0], [True] * 4)
    assert ask(0.0, -9.0)[1] == [False] * 4


def test_the_sound_of_the_moment_lets_other_steps_fade():
    assert fade(torch.tensor([-1.0, 0.1, 0.6])).tolist() == pytest.approx([0.0, 0.0, 3.0])


def test_a_training_on_masks_leaves_it_as_it_is(processor, clip):
    """No loss reads what it says, so it must not wait for a gradient either."""
    model = make_model(grounding_config={**NAMING, "object_head_size": 16}).train()
    inputs = processor(text=SENTENCES, **clip)
    model(**inputs, mask_labels=torch.ones(4, 4, 24, 24)).loss.backward()
    assert all(weight.grad is None for weight in model.clip_predictor.parameters())
    freeze_unused(model)
    assert not any(weight.requires_grad for weight in model.clip_predictor.parameters())
    assert any(weight.requires_grad for weight in model.object_predictor.parameters())
