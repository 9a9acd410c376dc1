"""The object head: what it reads of masks, words and sound, and that its scores are the
answer's."""

import math

import numpy as np
import pytest
import torch

from modeling_refavs import RefAVSForSegmentation, modeling_refavs
from modeling_refavs.clip_head_refavs import claim_objects
from modeling_refavs.grounding_refavs import pool_under_masks
from modeling_refavs.loss_refavs import RefAVSLossCounts
from modeling_refavs.object_head_refavs import (
    RefAVSMeaning,
    RefAVSObjects,
    choose_query,
    compare,
    describe_objects,
    follow,
    hear,
    object_criterion,
    object_scores,
    relate,
    remember,
    share,
)
from modeling_refavs.training.train import freeze_all_but
from tests.conftest import SENTENCES, make_model


NAMING = {"loss_weight": 1.0, "use_alignment": True, "vocabulary_size": 7, "sound_classes": 5}
HEAD = {"grounding_config": {**NAMING, "object_head_size": 16, "refine_masks": True}}
close = torch.testing.assert_close


def make():
    """The clip head has learned nothing."""
    model = make_model(**HEAD)
    for parameter in model.clip_predictor.asked[-1].parameters():
        torch.nn.init.zeros_(parameter)
    return model


@pytest.fixture(scope="module")
def model():
    return make().double()


@pytest.fixture(scope="module")
def inputs(processor, clip):
    inputs = dict(processor(text=SENTENCES, **clip))
    return {
        name: value.double() if value.is_floating_point() else value
        for name, value in inputs.items()
    }


def test_facts_are_those_of_the_pixels_inside():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 6, 9)) * 2
    logits[0, 1] = -3  # an empty mask
    classes = rng.normal(size=(2, 3, 2))
    tokens = rng.normal(size=(2, 9, 4))
    found = describe_objects(*map(torch.from_numpy, (logits, classes, tokens)))
    for row, query in np.ndindex(2, 3):
        inside = {tuple(place) for place in np.argwhere(logits[row, query] > 0)}
        facts = found.facts[row, query].numpy()
        y, x = (np.array(sorted(inside)).reshape(-1, 2) / [5, 8]).T
        if inside:
            ends = [x.mean(), y.mean(), x.min(), x.max(), y.min(), y.max()]
        else:
            ends = [0, 0, 1, 0, 1, 0]
        sure = [1 / (1 + math.exp(-logits[row, query][place])) for place in inside]
        stable = (logits[row, query] > 1).sum() / max(1, (logits[row, query] > -1).sum())
        expected = [math.sqrt(len(inside) / 54), *ends, stable, np.mean(sure) if sure else 0]
        np.testing.assert_allclose(facts, [*expected, -np.diff(classes[row, query])[0]], rtol=1e-6)
        for other in range(3):
            second = {tuple(place) for place in np.argwhere(logits[row, other] > 0)}
            both, either = len(inside & second), len(inside | second)
            shares = [both / max(1, either), both / max(1, len(inside))]
            np.testing.assert_allclose(found.overlaps[row, query, other], shares, rtol=1e-6)


def test_queries_of_one_object_share_what_they_show():
    """Two masks of one object, a part of it, another object, and a mask of nothing over all."""
    classes = torch.tensor([[[0.8, 0.2], [0.4, 0.6], [0.1, 0.9], [0.3, 0.7], [0.0, 1.0]]])
    iou = [[1, 0.5, 0.2, 0, 0.3], [0.5, 1, 0.2, 0, 0.3], [0.2, 0.2, 1, 0, 0.1], [0, 0, 0, 1, 0.1]]
    held = [[1, 0.6, 0.2, 0, 0.9], [0.6, 1, 0.2, 0, 0.9], [1, 1, 1, 0, 0.9], [0, 0, 0, 1, 0.5]]
    overlaps = torch.tensor([[*iou, [0.0] * 4 + [1]], [*held, [0.0] * 4 + [1]]])
    facts = torch.zeros(1, 5, 10)
    facts[..., -1] = torch.tensor([1.0, 0.0, -0.5, 2.0, -30.0])
    objects = RefAVSObjects(torch.zeros(1, 5, 4), facts, overlaps.permute(1, 2, 0)[None])
    found = share(objects, classes)
    for row in range(4):
        weights = [
            (iou[row][other] ** 2 + held[row][other] ** 2 / 2)
            / (1 + math.exp(-2 * facts[0, other, -1]))
            + 1e-4 * (row == other)
            for other in range(5)
        ]
        expected = sum(w * c for w, c in zip(weights, classes[0], strict=True)) / sum(weights)
        close(found[0, row], expected)
    assert found[0, 2, 0] > 0.4  # the part is taken for more of what it is a part of
    close(found[0, 3:], classes[0, 3:])


def test_what_one_object_is_to_another():
    facts = torch.zeros(1, 2, 10)
    #                            size x  y  left right upper lower
    facts[0, 0, :7] = torch.tensor([0.5, 0.2, 0.6, 0.1, 0.3, 0.5, 0.7])
    facts[0, 1, :7] = torch.tensor([0.25, 0.8, 0.4, 0.6, 0.9, 0.2, 0.6])
    overlaps = torch.tensor([[[[1.0, 1.0], [0.1, 0.2]], [[0.1, 0.4], [1.0, 1.0]]]])
    between = relate(RefAVSObjects(torch.zeros(1, 2, 4), facts, overlaps))
    close(between[0, 0, 1], torch.tensor([-1.2, 0.4, 1.0, -0.8, -0.3, -0.1, 0.1, 0.2, 0.4]))


def test_an_object_is_followed_whatever_query_shows_it():
    """Two objects change queries from step to step; the first moves right, the other up and down;
    a third comes in the last step."""
    torch.manual_seed(0)
    looks = torch.randn(3, 16)
    places = torch.tensor([[[0.2, 0.5], [0.8, 0.6]], [[0.3, 0.5], [0.8, 0.5]]])
    places = torch.cat([places, torch.tensor([[[0.4, 0.5], [0.8, 0.6]]])])
    orders, tracks = [(0, 1), (1, 0), (0, 1)], torch.zeros(1, 3, 24)
    for step, order in enumerate(orders):
        facts = torch.zeros(1, 3, 10)
        visual = torch.randn(1, 3, 16)
        for query, thing in enumerate(order):
            facts[0, query, :3] = torch.tensor([0.3, *places[step, thing]])
            visual[0, query] = 2 * looks[thing] + 1  # which normalisation takes away
        if step == 2:
            facts[0, 2, :3] = torch.tensor([0.3, 0.5, 0.1])
            visual[0, 2] = looks[2]
        changes, tracks = follow(visual, facts, tracks)
        if step == 0:
            assert not changes.any()
    # the means of two changes, times five; seen in two steps before; as sure as they are near
    close(changes[0, 0, :5], torch.tensor([0.5, 0.0, 0.5, 0.0, 0.4]))
    close(changes[0, 1, :5], torch.tensor([0.0, 0.0, 0.0, 0.5, 0.4]))
    close(changes[0, :2, 5], torch.tensor([0.9, 0.9]), atol=1e-4, rtol=0)
    assert not changes[0, 2].any()
    assert tracks.shape == (1, 3, 24)


def test_what_sounded_first_is_remembered():
    torch.manual_seed(0)
    visual, sounds = torch.randn(1, 2, 16), torch.randn(3, 16)
    classes, makers = torch.rand(1, 2, 4), torch.rand(3, 4)
    audible, heard = [False, True, True], torch.zeros(1, 2, 21)
    for step in range(3):
        sound = sounds[step : step + 1], makers[step : step + 1], torch.tensor([audible[step]])
        near, heard = hear(RefAVSMeaning(visual, classes), RefAVSMeaning(*sound), heard)
        if step == 0:
            assert not near.any()

    def alike(one, other):
        one, other = ((part - part.mean()) / part.std(unbiased=False) for part in (one, other))
        return (one * other).sum() / 4

    normalised = [(s - s.mean()) / s.std(unbiased=False) for s in sounds]
    for query in range(2):
        close(near[0, query, 0], alike(visual[0, query], sounds[1]), rtol=1e-4, atol=1e-4)
        both = normalised[1] + normalised[2]
        close(near[0, query, 2], alike(visual[0, query], both), rtol=1e-4, atol=1e-4)
        close(near[0, query, 4], classes[0, query] @ makers[1])
        close(near[0, query, 6], classes[0, query] @ (makers[1] + makers[2]) / 2)
    close(near[..., 1::2], near[..., ::2] - near[..., ::2].amax(1, keepdim=True))


def test_padding_is_not_remembered():
    torch.manual_seed(0)
    facts, visual, audio = torch.rand(6, 4, 10), torch.randn(6, 4, 16), torch.randn(6, 16)
    classes, makers = torch.rand(6, 4, 5), torch.rand(6, 5)
    every = torch.ones(1, 6, dtype=torch.bool)
    real = torch.tensor([[True, True, False, True, False, True]])

    def of(steps, frame_mask):
        objects = RefAVSMeaning(visual[steps], classes[steps])
        sound = RefAVSMeaning(audio[steps], makers[steps], frame_mask[0] >= 0)
        return remember(facts[steps], objects, sound, frame_mask)

    steps = real[0].nonzero().flatten()
    whole, memory = of(torch.arange(6), real)
    alone, expected = of(steps, every[:, :4])
    close(whole[steps], alone)
    close(memory.tracks, expected.tracks)
    close(memory.heard, expected.heard)


def test_frames_of_one_step_are_compared_with_the_step_before():
    torch.manual_seed(0)
    facts, visual, audio = torch.rand(4, 4, 10), torch.randn(4, 4, 16), torch.randn(4, 16)
    classes, makers = torch.rand(4, 4, 5), torch.rand(4, 5)

    def of(steps, is_first, memory=None):
        objects = RefAVSMeaning(visual[steps], classes[steps])
        sound = RefAVSMeaning(audio[steps], makers[steps], torch.ones(len(steps)) > 0)
        return remember(facts[steps], objects, sound, torch.tensor([is_first]), memory)

    start = of([0], [True])[1]
    found, memory = of([1, 2, 3], [True, False, False], start)
    for row, step in enumerate([1, 2, 3]):
        alone, after = of([step], [True], start)
        close(found[row], alone[0])
        if step == 1:
            close(memory.tracks, after.tracks)
            close(memory.heard, after.heard)


def test_likenesses_are_products_of_normalised_vectors():
    torch.manual_seed(0)
    visual, text, audio = torch.randn(2, 3, 8), torch.randn(2, 4, 8), torch.randn(2, 8)
    classes, named = torch.rand(2, 3, 5).softmax(-1), torch.randn(2, 4, 5)
    real = torch.tensor([[True, True, True, True], [True, True, False, False]])
    heard = torch.tensor([True, False])
    makers, shared = torch.rand(2, 5), torch.rand(2, 3, 5).softmax(-1)
    of_sounds, sounds = torch.rand(2, 6), torch.rand(2, 6)
    found = compare(
        RefAVSMeaning(visual, classes),
        shared,
        RefAVSMeaning(text, named, real, of_sounds),
        RefAVSMeaning(audio, makers, heard, sounds),
    )

    def alike(one, other):
        one, other = ((part - part.mean()) / part.std(unbiased=False) for part in (one, other))
        return (one * other).sum() / math.sqrt(8)

    kwargs = {"rtol": 1e-4, "atol": 1e-4}
    for row, query in np.ndindex(2, 3):
        for word in range(4):
            is_real = real[row, word]
            expected = alike(visual[row, query], text[row, word]) * is_real
            close(found.words[row, query, word], expected, **kwargs)
            names = classes[row, query] @ named[row, word] * is_real
            close(found.names[row, query, word], names, **kwargs)
        mean = text[row][real[row]].mean(0)
        close(found.expression[row, query], alike(visual[row, query], mean), **kwargs)
        sound = alike(visual[row, query], audio[row]) * heard[row]
        close(found.sound[row, query], sound, **kwargs)
        certainty = torch.distributions.Categorical(classes[row, query]).entropy() / 5
        close(found.certainty[row, query, 1], certainty, **kwargs)
        makes = shared[row, query] @ makers[row] * heard[row]
        close(found.makes[row, query], makes, **kwargs)
        sounding = sound + 1.5 * math.log(max(makes, 1e-3))
        close(found.sounding()[row, query], torch.tensor(sounding), **kwargs)
    close(found.word_sound[0, 1], alike(text[0, 1], audio[0]), **kwargs)
    word_makes = named[0, 1] @ makers[0] / makers[0].sum().clamp(min=1)
    close(found.word_makes[0, 1], word_makes, **kwargs)
    assert not found.word_sound[1].any()
    assert not found.word_makes[1].any()
    said = of_sounds.amax(1)
    close(found.verbs[:, 0], said)
    agrees = ((of_sounds[0] * sounds[0]).amax() / said[0]).log() / 4
    close(found.verbs[:, 1], said * torch.stack([agrees, torch.tensor(math.log(1e-3) / 4)]))


def test_scores_are_log_probabilities_of_one_thing_being_true():
    logits = torch.tensor([[2.0, 0.5, -1.0, 1.0]], dtype=torch.double)
    scores = object_scores(logits)
    close(scores.softmax(-1)[..., 0], logits.softmax(-1)[:, :3])
    close(scores.exp().sum(-1), torch.ones(1, 3, dtype=torch.double))


def test_criterion_is_cross_entropy_with_the_masks_that_fit():
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    iou = torch.tensor([[0.9, 0.81, 0.0], [0.1, 0.0, 0.15], [0.7, 0.0, 0.0], [0.0, 0.0, 0.0]])
    shown = torch.tensor([True, True, True, False])
    logs = logits.log_softmax(-1)
    first = -(logs[0, 0] + 0.9**12 * logs[0, 1]) / (1 + 0.9**12)
    # of the second frame no mask fits, which is not the head's fault
    expected = (first - logs[2, 0] - logs[3, 3]) / 3
    close(object_criterion(logits, iou, shown), expected)
    assert object_criterion(logits[:0], iou[:0], shown[:0]) == 0
    counts = RefAVSLossCounts(torch.tensor(3), torch.tensor(4))  # of an update in two parts
    parts = [object_criterion(logits[p], iou[p], shown[p], counts) for p in ([0, 1], [2, 3])]
    close(sum(parts), 3 / 4 * expected)


def test_the_head_alone_says_which_object_and_whether(model, inputs):
    """Neither the weights of the other evidence nor what the cues point at change its scores."""
    outputs = model(**inputs)
    probabilities = outputs.class_queries_logits.softmax(-1)[..., 0]
    assert (probabilities.sum(-1) <= 1).all()
    assert probabilities.std() > 1e-3
    weights = {"naming_weight": 9.0}
    other = make_model(grounding_config={**HEAD["grounding_config"], **weights}).double()
    other.load_state_dict(model.state_dict())
    other.cue_predictor.weight.data.zero_()
    close(other(**inputs).class_queries_logits, outputs.class_queries_logits)


def test_a_bias_makes_every_object_likelier(model, inputs):
    def ask(bias):
        grounding = {**HEAD["grounding_config"], "object_score_bias": bias}
        biased = make_model(grounding_config=grounding).double()
        biased.load_state_dict(model.state_dict())
        return biased(**inputs)

    outputs, low, sure = ask(-20.0), ask(-21.5), ask(9.0)
    close(low.presence_logits, outputs.presence_logits - 1.5)
    # no surer than that the frame shows the object at all
    assert (sure.presence_logits < 4).all()
    assert (sure.presence_logits > outputs.presence_logits).all()
    before, after = (part.class_queries_logits.softmax(-1)[..., 0] for part in (outputs, low))
    close(after / after.sum(-1, keepdim=True), before / before.sum(-1, keepdim=True))


def test_what_the_cues_point_at_weighs_the_choice_alone(model, inputs, monkeypatch):
    """Of each frame by itself."""
    given = []

    def claim(logits, *args):
        given.append(logits)
        return claim_objects(logits, *args)

    monkeypatch.setattr(modeling_refavs, "claim_objects", claim)
    outputs = model(**inputs)
    weighed = make_model(grounding_config={**HEAD["grounding_config"], "grounding_weight": 1.5})
    weighed.double().load_state_dict(model.state_dict())
    weighed(**inputs)
    before, after = given
    close(after[:, :-1].logsumexp(1), before[:, :-1].logsumexp(1))
    close(after[:, -1], before[:, -1])
    clips = weighed.encode_clips(inputs["pixel_values"], inputs["input_features"])
    cues = weighed.model.gather_cues(
        clips, inputs["input_ids"], inputs["attention_mask"], inputs["clip_index"]
    )
    pointed = weighed.cue_predictor(cues)
    masks = outputs.masks_queries_logits.flatten(0, 1)
    pooled = pool_under_masks(masks, pointed.flatten(0, 1).unsqueeze(-1)).squeeze(-1)
    change = (after - before)[:, :-1] - 1.5 * pooled
    close(change, change[:, :1].expand_as(change))  # the same for all queries of a frame


def test_the_answer_is_the_likeliest_mask_where_any_is_likely():
    masks = torch.tensor([[[[3.0, -1.0]], [[4.0, 2.0]], [[-2.0, 0.5]]]])
    logits = torch.tensor([[0.2, 0.3, -1.0, 0.5]])
    mask, presence = choose_query(masks, logits)
    close(presence.sigmoid(), logits.softmax(-1)[:, :3].sum(-1))
    close(mask, torch.tensor([[[presence.item(), presence.item()]]]))  # surer than that it is there
    mask, presence = choose_query(masks, logits + torch.tensor([3.0, 0.0, 0.0, 0.0]))
    close(mask, torch.tensor([[[presence.item(), -1.0]]]))
    mask, presence = choose_query(masks, logits + torch.tensor([0.0, 0.0, 0.0, 3.0]))
    assert presence < 0
    assert (mask < 0).all()


def test_a_sentence_alone_equals_one_among_longer_ones(model, processor, clip, inputs):
    together = model(**inputs)
    for row, number in enumerate(inputs["clip_index"].tolist()):
        length = int(inputs["attention_mask"][row].sum())
        one = {
            name: inputs[name][number : number + 1]
            for name in ("pixel_values", "input_features", "input_features_mask")
        }
        ids = inputs["input_ids"][row : row + 1, :length]
        alone = model(**one, input_ids=ids, attention_mask=torch.ones_like(ids))
        close(alone.class_queries_logits[0], together.class_queries_logits[row])
        close(alone.mask_logits[0], together.mask_logits[row])


def test_of_steps_of_interest_alone_objects_are_followed(model, inputs):
    """The others have no masks: what is remembered of objects is of the steps that are wanted."""
    steps = torch.tensor([1, 3])
    frames = model.encode_clips(inputs["pixel_values"]).frame_features
    some = {**inputs, "pixel_values": inputs["pixel_values"][:, steps], "frame_features": frames}
    found, whole = model(**some, step_index=steps), model(**inputs)
    close(found.masks_queries_logits, whole.masks_queries_logits[:, steps])
    first = model(**some | {"pixel_values": some["pixel_values"][:, :1]}, step_index=steps[:1])
    claims = found.memory.objects.claims
    close(claims[:, -2], first.memory.objects.claims[:, -1])
    assert claims[:, -2:].any()
    assert not claims[:, :-2].any()


def test_the_order_of_queries_does_not_matter(model, inputs):
    head = model.object_predictor
    torch.manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.double)  # noqa: E731
    order = torch.tensor([2, 0, 3, 1])
    facts, overlaps = draw(3, 4, 10), draw(3, 4, 4, 2)
    size, words = model.config.hidden_size, model.config.text_config.hidden_size
    shown, visual, classes = draw(3, 4, 8), draw(3, 4, size), draw(3, 4, 7).softmax(-1)
    named, text, features = draw(3, 5, 7), draw(3, 5, size), draw(3, 5, words)
    audio, real = draw(3, size), torch.ones(3, 5, dtype=torch.bool)
    heard, history = torch.tensor([True, False, True]), draw(3, 4, 14)
    makers, words_read = draw(3, 7).sigmoid(), RefAVSMeaning(text, named, real, draw(3, 5))
    sound = RefAVSMeaning(audio, makers, heard, draw(3, 5))

    def ask(queries):
        objects = RefAVSObjects(
            shown[:, queries], facts[:, queries], overlaps[:, queries][:, :, queries]
        )
        things = RefAVSMeaning(visual[:, queries], classes[:, queries])
        shared = share(objects, things.classes)
        alike = compare(things, shared, words_read, sound)
        return head(objects, history[:, queries], alike, features, real, audio, heard)

    as_they_are, measures = ask(torch.arange(4))
    found, measured = ask(order)
    close(found, torch.cat([as_they_are[:, order], as_they_are[:, 4:]], dim=1))
    close(measured, measures[:, order])


def test_an_expression_weighs_the_measures_of_objects():
    """What asks for the leftmost makes an object likelier the further its middle is to the left."""
    model = make_model(**HEAD)
    head, size = model.object_predictor, model.config.hidden_size
    torch.manual_seed(0)
    facts = torch.rand(2, 4, 10)
    alike = compare(
        RefAVSMeaning(torch.randn(2, 4, size), torch.rand(2, 4, 7).softmax(-1)),
        torch.rand(2, 4, 7).softmax(-1),
        RefAVSMeaning(
            torch.randn(2, 5, size), torch.randn(2, 5, 7), torch.ones(2, 5) > 0, torch.rand(2, 5)
        ),
        RefAVSMeaning(torch.randn(2, size), torch.rand(2, 7), torch.ones(2) > 0, torch.rand(2, 5)),
    )
    objects = RefAVSObjects(torch.randn(2, 4, 8), facts, torch.rand(2, 4, 4, 2))
    read = torch.randn(2, 5, model.config.text_config.hidden_size)
    inputs = (objects, torch.randn(2, 4, 14), alike, read, torch.ones(2, 5, dtype=torch.bool))
    inputs += (torch.randn(2, size), torch.ones(2) > 0)
    before, _ = head(*inputs)
    head.asked[-1].bias.data[1] -= 3.0
    change = head(*inputs)[0] - before
    x = 4 * facts[..., 1] - 2
    close(change[:, :4], -3 * (x - x.mean(1, keepdim=True)), rtol=1e-4, atol=1e-4)
    close(change[:, 4], torch.zeros(2))  # that there is any is not for the measures to say


def test_objects_before_any_sentence_are_those_of_the_answers(model, inputs):
    model = make_model(**HEAD).double()
    clips = model.encode_clips(inputs["pixel_values"])
    with pytest.raises(ValueError, match="its CATF is trained"):
        model.find_objects(clips)
    torch.nn.init.zeros_(model.model.catf.update_projection.weight)
    torch.nn.init.zeros_(model.model.catf.update_projection.bias)
    objects, masks = model.find_objects(clips)
    outputs = model(**inputs)
    frames = inputs["pixel_values"].shape[1]
    for row, number in enumerate(inputs["clip_index"].tolist()):
        own = slice(number * frames, (number + 1) * frames)
        close(outputs.masks_queries_logits[row], masks[own])
    assert objects.shown.shape[:2] == masks.shape[:2]


def test_it_learns_alone_and_is_saved_and_loaded(inputs, tmp_path):
    model = make_model(**HEAD).double()
    assert "loss_object" in model.loss_names
    freeze_all_but(model, ["object_predictor"])
    outputs = model.train()(**inputs, mask_labels=torch.ones(4, 4, 24, 24))
    outputs.loss_parts["loss_object"]  # one of the parts
    outputs.loss.backward()
    learned = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert {name.partition(".")[0] for name in learned} == {"object_predictor"}
    model.eval().save_pretrained(tmp_path)
    again = RefAVSForSegmentation.from_pretrained(tmp_path, dtype=torch.double).eval()
    close(again(**inputs).mask_logits, model(**inputs).mask_logits)
    fresh = RefAVSForSegmentation(model.config).object_predictor  # has learned nothing
    assert fresh.direct.tolist() == [1.0, 1.0]
    assert torch.equal(fresh.whitening(torch.eye(32)), torch.eye(32))
    for part in (fresh.visual, fresh.audio, fresh.asked[-1]):
        assert not any(parameter.any() for parameter in part.parameters())


@pytest.mark.parametrize("ablation", ["use_text_cues", "use_audio_cues"])
def test_an_ablation_has_no_head(inputs, ablation):
    model = make_model(**{ablation: False}, **HEAD).double()
    assert model.object_predictor is None
    assert model(**inputs).mask_logits.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype, inputs):
    model = make()
    single = {n: v.float() if v.is_floating_point() else v for n, v in inputs.items()}
    half = {n: v.to(dtype) if v.is_floating_point() else v for n, v in inputs.items()}
    expected = model(**single).class_queries_logits
    found = model.to(dtype)(**half).class_queries_logits
    assert found.isfinite().all()
    near = torch.isclose(found.float(), expected, rtol=0.2, atol=0.5)
    assert near.float().mean() > 0.98  # of two objects that are as likely another may be chosen


def test_mistakes():
    with pytest.raises(ValueError, match="object_head_size needs vocabulary_size"):
        make_model(grounding_config={"loss_weight": 1.0, "object_head_size": 16})
    with pytest.raises(ValueError, match="multiple of num_attention_heads"):
        make_model(grounding_config={**NAMING, "object_head_size": 17})
