"""AVSegFormer + text against the same written plainly, and what follows from how it is made."""

import pytest
import torch
from torch.nn import functional

from tests.refavs.baseline_kit import (
    convolve,
    encode_levels,
    group_norm,
    layer_norm,
    linear,
    make_baseline,
    multihead,
    part,
    split_tokens,
)


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    sizes = ((16, 12), (32, 6), (64, 3), (128, 2))
    return {
        "vision_features": tuple(torch.randn(2, 2, c, s, s).double() for c, s in sizes),
        "audio_features": torch.randn(2, 2, 128).double(),
        "text_features": torch.randn(2, 5, 32).double(),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
    }


def plain_answer(weights, inputs, words_as_keys):
    """Frame by frame."""
    answers = torch.zeros(2, 2, 24, 24, dtype=torch.float64)
    for clip in range(2):
        for frame in range(2):
            stages = [stage[clip, frame][None] for stage in inputs["vision_features"]]
            maps = [
                group_norm(
                    weights,
                    f"input_projections.{level}.1",
                    convolve(weights, f"input_projections.{level}.0", stage),
                    32,
                )
                for level, stage in enumerate(stages)
            ]
            tokens, shapes = encode_levels(
                part(weights, "encoder"), maps[1:], False, functional.gelu
            )
            words = inputs["text_features"][clip][inputs["attention_mask"][clip] > 0]
            token = linear(weights, "audio_projection", inputs["audio_features"][clip, frame])
            token = (token + linear(weights, "text_projection", words[0]))[None, None]
            keys = token
            if words_as_keys:
                keys = torch.cat([token, linear(weights, "word_projection", words)[None]], dim=1)
            queries = weights["generator_queries.weight"][None]
            for number in range(2):
                layer = part(weights, f"generator.{number}")
                for index, (name, context) in enumerate(
                    (("self_attention", None), ("cross_attention", keys))
                ):
                    context = queries if context is None else context
                    attended = multihead(layer, name, queries, context, context)
                    queries = layer_norm(layer, f"norms.{index}", queries + attended)
                inner = functional.gelu(linear(layer, "feed_forward.0", queries))
                queries = layer_norm(
                    layer, "norms.2", queries + linear(layer, "feed_forward.2", inner)
                )
            queries = queries + weights["learned_queries.weight"]
            for number in range(2):
                layer = part(weights, f"decoder.{number}")
                attended = multihead(layer, "self_attn", queries, queries, queries)
                queries = layer_norm(layer, "norm1", queries + attended)
                attended = multihead(layer, "multihead_attn", queries, tokens, tokens)
                queries = layer_norm(layer, "norm2", queries + attended)
                inner = functional.gelu(linear(layer, "linear1", queries))
                queries = layer_norm(layer, "norm3", queries + linear(layer, "linear2", inner))
            finest = split_tokens(tokens, shapes)[0]
            beside = group_norm(weights, "lateral.1", convolve(weights, "lateral.0", maps[0]), 32)
            feature = beside + functional.interpolate(finest, (12, 12), mode="bilinear")
            feature = convolve(weights, "output_convolution.0", feature, padding=1)
            feature = group_norm(weights, "output_convolution.1", feature, 32).relu()
            pixels = feature.flatten(2).transpose(1, 2)
            mixer = part(weights, "channel_mixer")
            keys_values = pixels @ mixer["key_value_projection.weight"].T
            identity = torch.eye(32, dtype=torch.float64)
            found = multihead(
                {
                    "a.in_proj_weight": torch.cat(
                        [mixer["query_projection.weight"], identity, identity]
                    ),
                    "a.out_proj.weight": mixer["output_projection.weight"],
                    "a.out_proj.bias": mixer["output_projection.bias"],
                },
                "a",
                token,
                keys_values[..., :32],
                keys_values[..., 32:],
            )
            feature = feature * found[0, 0].sigmoid()[:, None, None]
            drawn = (queries[0] @ feature[0].flatten(1)).view(1, -1, 12, 12)
            for index in (0, 2):
                drawn = convolve(weights, f"query_mixer.{index}", drawn).relu()
            feature = feature + convolve(weights, "query_mixer.4", drawn)
            mask = convolve(weights, "mask_head.0", feature, padding=1)
            mask = functional.interpolate(mask, scale_factor=2, mode="bilinear")
            mask = convolve(weights, "mask_head.2", mask, padding=1).relu()
            answers[clip, frame] = convolve(weights, "mask_head.4", mask)[0, 0]
    return answers


@pytest.mark.parametrize("words_as_keys", [False, True])
@torch.no_grad()
def test_golden(inputs, words_as_keys):
    model = make_baseline("avsegformer", words_as_keys=words_as_keys).double()
    expected = plain_answer(model.state_dict(), inputs, words_as_keys)
    torch.testing.assert_close(model(**inputs).mask_logits, expected, rtol=1e-8, atol=1e-8)


@torch.no_grad()
def test_attention_to_one_key_is_its_value():
    layer = make_baseline("avsegformer").generator[0]
    token = torch.randn(3, 1, 32)
    found, _ = layer.cross_attention(torch.randn(3, 12, 32), token, token)
    attention = layer.cross_attention
    value = token @ attention.in_proj_weight[64:].T @ attention.out_proj.weight.T
    torch.testing.assert_close(found, value.expand(-1, 12, -1))


@torch.no_grad()
def test_a_frame_knows_no_other(inputs):
    model = make_baseline("avsegformer").double()
    expected = model(**inputs).mask_logits
    stages = [stage.clone() for stage in inputs["vision_features"]]
    sound = inputs["audio_features"].clone()
    for values in (*stages, sound):
        values[:, 1] = torch.randn_like(values[:, 1])
    changed = model(**{**inputs, "vision_features": tuple(stages), "audio_features": sound})
    torch.testing.assert_close(changed.mask_logits[:, 0], expected[:, 0])
    assert not torch.allclose(changed.mask_logits[:, 1], expected[:, 1])


@pytest.mark.parametrize(("loss", "learns"), [("dice", False), ("dice+bce", True)])
def test_what_null_references_teach(inputs, loss, learns):
    """Dice of an empty mask is 1 and has no gradient, in both of its terms."""
    model = make_baseline("avsegformer", loss=loss).double()
    outputs = model(**inputs, mask_labels=torch.zeros(2, 2, 24, 24))
    assert outputs.loss_parts["loss_dice"] == pytest.approx(1.0)
    assert outputs.loss_parts["loss_mix"] == pytest.approx(0.1)
    outputs.loss.backward()
    largest = max(p.grad.abs().max() for p in model.parameters() if p.grad is not None)
    assert (largest > 0) == learns


def test_loss_is_the_published_one(inputs):
    model = make_baseline("avsegformer").double()
    labels = (torch.rand(2, 2, 24, 24) > 0.7).float()
    outputs = model(**inputs, mask_labels=labels)
    clips = model.encode_clips(**frames_of(inputs))
    mixed = model.predict(clips, inputs["text_features"], inputs["attention_mask"] > 0).for_loss
    mixed = functional.interpolate(mixed, (24, 24), mode="bilinear")
    expected = 0.0
    for weight, logits in ((1.0, outputs.mask_logits), (0.1, mixed)):
        for row in range(2):
            for frame in range(2):
                p, g = logits[row, frame].sigmoid(), labels[row, frame]
                ratio = 2 * (p * g).sum() / (p.square().sum() + g.sum() + 0.002)
                expected += weight * (1 - ratio.item()) / 4
    assert outputs.loss.item() == pytest.approx(expected, rel=1e-6)


def frames_of(inputs):
    return {name: inputs[name] for name in ("vision_features", "audio_features")}
