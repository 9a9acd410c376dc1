"""ReferFormer + audio against the same written plainly, its matching, and its answer to nothing."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional

from modeling_refavs.referformer_refavs import (
    boxes_of,
    class_costs,
    generalized_iou,
    mask_terms,
    sequence_criterion,
    word_positions,
)
from tests.refavs.baseline_kit import (
    attend,
    convolve,
    deformable,
    encode_levels,
    group_norm,
    layer_norm,
    linear,
    make_baseline,
    multihead,
    part,
    sine,
    split_tokens,
)


PLACES = {"rtol": 1e-5, "atol": 1e-4}  # where pixels sample is in single precision


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    sizes = ((16, 16), (32, 8), (64, 4), (128, 2))
    return {
        "vision_features": tuple(torch.randn(2, 3, c, s, s).double() for c, s in sizes),
        "audio_features": torch.randn(2, 3, 128).double(),
        "text_features": torch.randn(2, 5, 32).double(),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
    }


def plain_block(weights, maps, position, words, word_position, stride):
    """Of one clip: `maps (T, D, h, w)`."""
    frames, size, height, width = maps.shape
    few = (max(1, height // stride), max(1, width // stride))

    def tokens(states):
        return states.permute(0, 2, 3, 1).reshape(1, -1, size)

    placed = functional.interpolate(maps + position, few, mode="nearest")
    small = functional.interpolate(maps, few, mode="nearest")
    found = multihead(weights, "self_attention", tokens(placed), tokens(placed), tokens(small))
    found = found.view(frames, *few, size).permute(0, 3, 1, 2)
    found = functional.interpolate(found, (height, width), mode="bilinear")
    pixels = layer_norm(weights, "norms.0", tokens(maps + found))
    placed = pixels + tokens(position.expand_as(maps))
    found = multihead(weights, "cross_attention", placed, words + word_position, words)
    pixels = layer_norm(weights, "norms.1", pixels + found)
    inner = linear(weights, "feed_forward.0", pixels).relu()
    pixels = layer_norm(weights, "norms.2", pixels + linear(weights, "feed_forward.3", inner))
    return pixels.view(frames, height, width, size).permute(0, 3, 1, 2)


def mlp(weights, prefix, states):
    for layer in range(3):
        states = linear(weights, f"{prefix}.layers.{layer}", states)
        states = states.relu() if layer < 2 else states
    return states


def inverse(p):
    return torch.log(p.clamp(1e-5, 1) / (1 - p).clamp(min=1e-5))


def plain_masks(weights, features, states, centres):
    """Of one clip, by grouped convolutions: a group is a query of a frame."""
    frames, size, height, width = features.shape
    count = states.shape[1]
    y, x = torch.meshgrid(torch.arange(height) * 4 + 2, torch.arange(width) * 4 + 2, indexing="ij")
    places = torch.stack([x, y]).double()  # (2, h, w)
    wide = torch.tensor([4 * width, 4 * height], dtype=torch.float64)
    relative = (centres * wide)[..., None, None] - places
    maps = features[:, None].expand(-1, count, -1, -1, -1)
    maps = torch.cat([maps, relative], dim=2).reshape(1, -1, height, width)
    parameters = mlp(weights, "controller", states).flatten(0, 1)
    first, second, third, *biases = parameters.split([8 * (size + 2), 64, 8, 8, 8, 1], dim=1)
    groups = frames * count
    for weight, bias, rows in zip((first, second, third), biases, (8, 8, 1), strict=True):
        maps = functional.conv2d(
            maps,
            weight.reshape(groups * rows, -1, 1, 1),
            bias.reshape(-1),
            groups=groups,
        )
        maps = maps.relu() if rows == 8 else maps
    return maps.view(frames, count, height, width)


def plain_answer(weights, stages, sound, words, audio_to):
    """Of one clip without padding: masks, class logits and boxes of the last layer."""
    resize = lambda text: layer_norm(  # noqa: E731
        weights, "text_resizer.norm", linear(weights, "text_resizer.projection", text), 1e-12
    )
    audio, sentence, words = (
        linear(weights, "audio_projection", sound),
        resize(words[0]),
        resize(words)[None],
    )
    content = sentence.expand(len(sound), -1)
    if audio_to == "query":
        content = content + audio
    else:
        words = words + audio.mean(0)
    length, size = words.shape[1:]
    word_position = torch.zeros(length, size, dtype=torch.float64)
    for place in range(length):
        for k in range(size):
            angle = (place + 1) / (length + 1e-6) * 2 * math.pi / 10_000 ** (2 * (k // 2) / size)
            word_position[place, k] = math.sin(angle) if k % 2 == 0 else math.cos(angle)
    maps = []
    for number, stage in enumerate((*stages[1:], stages[3])):
        options = {"stride": 2, "padding": 1} if number == 3 else {}
        level = convolve(weights, f"input_projections.{number}.0", stage, **options)
        level = group_norm(weights, f"input_projections.{number}.1", level, 32)
        pixels = level.permute(0, 2, 3, 1).reshape(1, -1, size)
        found = multihead(weights, "early_fusion", pixels, words + word_position, words)
        found = found.view(len(level), *level.shape[-2:], size).permute(0, 3, 1, 2)
        maps.append(level * found)
    tokens, shapes = encode_levels(part(weights, "encoder"), maps, True, torch.relu)
    queries = weights["queries.weight"].expand(len(sound), -1, -1)
    states = content[:, None].expand_as(queries)
    places = linear(weights, "reference_points", queries).sigmoid()
    for number in range(2):
        layer = part(weights, f"decoder.{number}")
        attention = part(layer, "self_attn")
        names = ("q_proj", "k_proj", "v_proj")
        projected = [
            linear(attention, name, states + queries if name != "v_proj" else states)
            for name in names
        ]
        found = linear(
            attention,
            "o_proj" if "o_proj.weight" in attention else "out_proj",
            attend(*projected, 4),
        )
        states = layer_norm(layer, "self_attn_layer_norm", states + found)
        found = deformable(layer, "encoder_attn", states + queries, tokens, shapes, places)
        states = layer_norm(layer, "encoder_attn_layer_norm", states + found)
        inner = linear(layer, "mlp.fc1", states).relu()
        states = layer_norm(layer, "final_layer_norm", states + linear(layer, "mlp.fc2", inner))
        change = mlp(weights, f"box_heads.{number}", states)
        before = inverse(places)
        if before.shape[-1] == 2:
            before = torch.cat([before, torch.zeros_like(before)], dim=-1)
        places = (change + before).sigmoid()
    pyramid = part(weights, "pyramid_decoder")
    levels, finer = [stages[0], *split_tokens(tokens, shapes)[:3]], None
    for number in (3, 2, 1, 0):
        level = convolve(pyramid, f"laterals.{number}.0", levels[number])
        level = group_norm(pyramid, f"laterals.{number}.1", level, 8)
        position = sine(*level.shape[-2:], size, True).permute(2, 0, 1)
        level = plain_block(
            part(pyramid, f"blocks.{number}"),
            level,
            position,
            words,
            word_position,
            (8, 4, 2, 1)[number],
        )
        if finer is not None:
            level = level + functional.interpolate(finer, scale_factor=2, mode="nearest")
        level = convolve(pyramid, f"outputs.{number}.0", level, padding=1)
        finer = group_norm(pyramid, f"outputs.{number}.1", level, 8).relu()
    features = convolve(pyramid, "projection", finer, padding=1)
    masks = plain_masks(weights, features, states, places[..., :2])
    return masks, linear(weights, "class_heads.1", states)[..., 0], places


@pytest.mark.parametrize("audio_to", ["query", "words"])
@torch.no_grad()
def test_golden(inputs, audio_to):
    model = make_baseline("referformer", audio_to=audio_to).double()
    outputs = model(**inputs)
    for clip in range(2):
        real = inputs["attention_mask"][clip] > 0
        masks, classes, _ = plain_answer(
            model.state_dict(),
            [stage[clip] for stage in inputs["vision_features"]],
            inputs["audio_features"][clip],
            inputs["text_features"][clip][real],
            audio_to,
        )
        found = outputs.masks_queries_logits[clip]
        torch.testing.assert_close(found, masks, **PLACES)
        found = outputs.class_queries_logits[clip]
        torch.testing.assert_close(found[..., 0], classes, **PLACES)
        assert not found[..., 1].any()
        best = classes.sigmoid().mean(0).argmax()
        torch.testing.assert_close(outputs.mask_logits[clip], masks[:, best], **PLACES)


@torch.no_grad()
def test_words_have_places_of_their_own_length():
    both = word_positions(torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]) > 0, 8, torch.float32)
    torch.testing.assert_close(
        both[1, :2], word_positions(torch.ones(1, 2) > 0, 8, torch.float32)[0]
    )


@torch.no_grad()
def test_queries_in_another_order_give_their_answers_in_that_order(inputs):
    model = make_baseline("referformer").double()
    expected, order = model(**inputs), torch.tensor([3, 0, 4, 1, 2])
    model.queries.weight.copy_(model.queries.weight[order])
    found = model(**inputs)
    torch.testing.assert_close(
        found.masks_queries_logits, expected.masks_queries_logits[:, :, order]
    )
    torch.testing.assert_close(found.mask_logits, expected.mask_logits)


def object_labels():
    labels = torch.zeros(3, 4, 64, 64)
    labels[0, :, 8:40, 4:30] = 1
    labels[1, 1:3, 30:60, 30:60] = 1  # not in all frames; the third clip is null
    return labels


def test_boxes_hold_their_masks():
    boxes = boxes_of(object_labels())
    expected = torch.tensor([17 / 64, 24 / 64, 26 / 64, 32 / 64])
    torch.testing.assert_close(boxes[0], expected.expand(4, -1))
    assert not boxes[1, 0].any()
    assert not boxes[2].any()


def test_generalized_iou_is_that_of_transformers():
    losses = pytest.importorskip("transformers.loss.loss_for_object_detection")
    torch.manual_seed(0)
    centre = torch.rand(7, 2)
    boxes, others = torch.rand(7, 4) * 0.5 + 0.1, torch.cat([centre, centre * 0.5 + 0.1], dim=1)

    def corners(box):
        return torch.cat([box[:, :2] - box[:, 2:] / 2, box[:, :2] + box[:, 2:] / 2], dim=1)

    expected = losses.generalized_box_iou(corners(boxes), corners(others)).diagonal()
    torch.testing.assert_close(generalized_iou(boxes, others), expected)


@pytest.mark.parametrize("hidden_boxes", [False, True])
def test_the_criterion_matches_as_scipy_does(hidden_boxes):
    """One target a clip: the Hungarian algorithm, and the loss of the query that it finds."""
    torch.manual_seed(3)
    config = make_baseline("referformer", learn_hidden_boxes=hidden_boxes).config
    labels = functional.interpolate(object_labels(), size=16, mode="nearest-exact")
    boxes = boxes_of(object_labels())
    masks = torch.randn(3, 4, 5, 16, 16).double()
    classes = torch.randn(3, 4, 5).double()
    predicted = torch.rand(3, 4, 5, 4).double() * 0.4 + 0.2
    real = torch.ones(3, 4, dtype=torch.bool)
    found = sequence_criterion(masks, classes, predicted, labels.double(), boxes, real, config)
    expected = dict.fromkeys(found, 0.0)
    for clip in range(3):
        shown = boxes[clip, :, 2] > 0
        boxed = torch.ones(4, dtype=torch.bool) if hidden_boxes else shown
        target = torch.zeros(4, 5)
        if shown.any():
            focal, overlap = mask_terms(
                masks[clip : clip + 1],
                labels[clip : clip + 1, :, None].double(),
                torch.ones(1, 4, 1),
            )
            away = (predicted[clip] - boxes[clip][:, None]).abs().sum(-1)[boxed]
            giou = generalized_iou(predicted[clip], boxes[clip][:, None])[boxed]
            cost = (
                2 * class_costs(classes[clip])[shown].mean(0)
                + 5 * away.mean(0)
                + 2 * (1 - giou).mean(0)
                + 2 * focal[0]
                + 5 * overlap[0]
            )
            (best,), _ = linear_sum_assignment(cost.numpy()[:, None])
            target[shown, best] = 1
            expected["loss_box"] += 5 * away[:, best].sum()
            expected["loss_giou"] += 2 * (1 - giou[:, best]).sum()
            expected["loss_mask"] += 2 * focal[0, best]
            expected["loss_dice"] += 5 * overlap[0, best]
        p = np.clip(classes[clip].sigmoid().numpy(), 1e-12, 1)
        g = target.numpy()
        expected["loss_class"] += 2 * np.sum(
            -0.25 * g * (1 - p) ** 2 * np.log(p) - 0.75 * (1 - g) * p**2 * np.log(1 - p)
        )
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(float(value), rel=1e-6), name


@pytest.mark.parametrize("learns", [True, False])
def test_a_null_clip_has_no_positive_and_a_finite_loss(inputs, learns):
    model = make_baseline("referformer", learn_null_rows=learns).double()
    outputs = model(**inputs, mask_labels=torch.zeros(2, 3, 64, 64))
    assert torch.isfinite(outputs.loss)
    assert {name for name, value in outputs.loss_parts.items() if value} == (
        {"loss_class"} if learns else set()
    )
    outputs.loss.backward()
    gradient = model.class_heads[-1].bias.grad
    assert (gradient > 0).all() if learns else not gradient.any()


@torch.no_grad()
def test_a_query_that_is_not_sure_is_not_drawn(inputs):
    released = make_baseline("referformer").double()
    scores = released(**inputs).class_queries_logits.softmax(-1)[..., 0].mean(1).amax(-1)
    between = scores.mean().item()
    gated = make_baseline("referformer", min_object_score=between).double()
    always, sometimes = released(**inputs), gated(**inputs)
    assert always.mask_logits.isfinite().all()
    for row, score in enumerate(scores):
        if score < between:
            assert (sometimes.mask_logits[row].sigmoid() < 2e-6).all()
            assert (sometimes.presence_logits[row].sigmoid() < 2e-6).all()
        else:
            torch.testing.assert_close(sometimes.mask_logits[row], always.mask_logits[row])
    assert (scores < between).any()
    assert (scores > between).any()
