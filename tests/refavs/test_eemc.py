"""Fusion (Eq. 1), cached memory (Eq. 2-3), integration (Eq. 4) and CATF (Eq. 5), each against
something independent."""

import pytest
import torch
from torch import nn

from modeling_refavs.eemc import (
    RefAVSCachedMemory,
    RefAVSCrossAttentionTransformer,
    RefAVSCueProjection,
    RefAVSMultimodalIntegration,
    RefAVSTemporalBimodalTransformer,
    RefAVSTransformerLayer,
)
from tests.conftest import make_config, stir


@pytest.fixture(scope="module")
def config():
    return make_config()


def cues_of(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_layer_equals_torchs_own(pre_norm):
    config = make_config(cue_pre_norm=pre_norm)
    ours = RefAVSTransformerLayer(config).eval()
    stir(ours)
    theirs = nn.TransformerEncoderLayer(
        32, 4, 64, dropout=0.0, batch_first=True, norm_first=pre_norm
    ).eval()
    attention = ours.attention
    projections = (attention.query_projection, attention.key_projection, attention.value_projection)
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": torch.cat(
                [projection.weight for projection in projections]
            ),
            "self_attn.in_proj_bias": torch.cat([projection.bias for projection in projections]),
            **{
                f"self_attn.out_proj.{k}": v
                for k, v in attention.output_projection.state_dict().items()
            },
            **{f"linear1.{k}": v for k, v in ours.feed_forward[0].state_dict().items()},
            **{f"linear2.{k}": v for k, v in ours.feed_forward[3].state_dict().items()},
            **{f"norm1.{k}": v for k, v in ours.attention_norm.state_dict().items()},
            **{f"norm2.{k}": v for k, v in ours.feed_forward_norm.state_dict().items()},
        }
    )
    tokens, mask = cues_of(2, 5, 32), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    expected = theirs(tokens, src_key_padding_mask=~mask)
    torch.testing.assert_close(ours(tokens, context_mask=mask)[mask], expected[mask])


def test_fusion_is_self_attention_over_cue_and_sentence(config):
    fusion = RefAVSTemporalBimodalTransformer(config).eval()
    cues, text = cues_of(3, 9, 32), cues_of(3, 6, 32)
    joint = torch.cat([cues, text], dim=1)
    for layer in fusion.layers:
        joint = layer(joint)
    fused_cues, fused_text = fusion(cues, text)
    torch.testing.assert_close(fused_cues, joint[:, :9])
    torch.testing.assert_close(fused_text, joint[:, 9:])


def test_fusion_does_not_see_padding(config):
    fusion = RefAVSTemporalBimodalTransformer(config).eval()
    cues, text = cues_of(3, 9, 32), cues_of(3, 6, 32)
    mask = torch.ones(3, 6, dtype=torch.bool)
    padded, padded_mask = (
        nn.functional.pad(text, (0, 0, 0, 4), value=9.0),
        nn.functional.pad(mask, (0, 4)),
    )
    expected = fusion(cues, text, text_mask=mask)
    fused_cues, fused_text = fusion(cues, padded, text_mask=padded_mask)
    torch.testing.assert_close(fused_cues, expected[0])
    torch.testing.assert_close(fused_text[:, :6], expected[1])


@pytest.mark.parametrize("beta", [0.0, 1.0, 0.3])
def test_memory_equals_five_lines(beta):
    cues = cues_of(2, 7, 3, 4)
    expected = []
    for step in range(7):
        past = cues[:, :step].mean(dim=1) if step else torch.zeros(2, 3, 4)
        expected.append((beta + 1) * cues[:, step] - beta * past)
    answer, past, memory = RefAVSCachedMemory(beta)(cues, torch.ones(2, 7, dtype=torch.bool))
    torch.testing.assert_close(answer, torch.stack(expected, dim=1))
    torch.testing.assert_close((beta + 1) * cues - beta * past, answer)
    torch.testing.assert_close(past[:, 3], cues[:, :3].mean(dim=1))
    torch.testing.assert_close(memory.total, cues.sum(dim=1))
    assert memory.count.tolist() == [7, 7]


@pytest.mark.parametrize("pieces", [[1] * 7, [3, 4], [1, 5, 1]])
def test_memory_goes_on_from_piece_to_piece(pieces):
    cached_memory, cues, steps = (
        RefAVSCachedMemory(1.0),
        cues_of(2, 7, 3, 4),
        torch.ones(2, 7, dtype=torch.bool),
    )
    steps[0, 2] = steps[1, 0] = False
    whole, _, last = cached_memory(cues, steps)
    memory, answers = None, []
    for cue, step in zip(cues.split(pieces, dim=1), steps.split(pieces, dim=1), strict=True):
        answer, _, memory = cached_memory(cue, step, memory)
        answers.append(answer)
    torch.testing.assert_close(torch.cat(answers, dim=1), whole)
    torch.testing.assert_close(memory, last)


def test_memory_forgets_steps_that_are_padding():
    cached_memory, cues = RefAVSCachedMemory(1.0), cues_of(1, 5, 3, 4)
    steps = torch.tensor([[True, False, True, False, True]])
    answer, _, memory = cached_memory(cues, steps)
    expected, _, _ = cached_memory(cues[:, steps[0]], torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(answer[:, steps[0]], expected)
    assert memory.count.item() == 3


def test_integration_orders_cues_and_tags_as_eq_4_does(config):
    integration = RefAVSMultimodalIntegration(config).eval()
    stir(integration)
    audio, visual, text = cues_of(2, 1, 32), cues_of(2, 9, 32), cues_of(2, 6, 32)
    tags = [tag.expand(2, 1, 32) for tag in (integration.audio_tag, integration.visual_tag)]
    expected = torch.cat([audio, tags[0], visual, tags[1], text], dim=1)
    for layer in integration.layers:
        expected = layer(expected)
    cues, mask, _ = integration(audio, visual, text)
    assert mask.all()
    torch.testing.assert_close(cues, expected)


def test_the_past_of_the_sound_comes_after_the_sound():
    integration = RefAVSMultimodalIntegration(
        make_config(grounding_config={"use_audio_memory_cue": True})
    ).eval()
    stir(integration)
    audio, past, visual, text = (
        cues_of(2, 1, 32),
        cues_of(2, 1, 32),
        cues_of(2, 9, 32),
        cues_of(2, 6, 32),
    )
    tags = [tag.expand(2, 1, 32) for tag in (integration.audio_tag, integration.visual_tag)]
    expected = torch.cat(
        [audio, past + integration.past_encoding, tags[0], visual, tags[1], text], dim=1
    )
    for layer in integration.layers:
        expected = layer(expected)
    cues, mask, segments = integration(audio, visual, text, audio_memory=past)
    assert mask.all()
    torch.testing.assert_close(cues, expected)
    lengths = {name: part.stop - part.start for name, part in segments.items()}
    names = ("audio", "audio_memory", "audio_tag", "visual", "visual_tag", "text")
    assert lengths == dict(zip(names, (1, 1, 1, 9, 1, 6), strict=True))
    assert segments["visual"] == slice(3, 12)


def test_integration_does_not_hear_a_step_without_sound(config):
    integration = RefAVSMultimodalIntegration(config).eval()
    visual, text, silent = cues_of(2, 9, 32), cues_of(2, 6, 32), torch.zeros(2, 1, dtype=torch.bool)
    one, mask, _ = integration(cues_of(2, 1, 32), visual, text, audio_mask=silent)
    other, _, _ = integration(torch.full((2, 1, 32), 7.0), visual, text, audio_mask=silent)
    assert mask[:, 0].logical_not().all()
    assert mask[:, 1:].all()
    torch.testing.assert_close(one[:, 1:], other[:, 1:])


def test_catf_starts_at_the_queries_and_then_follows_the_cues(config):
    torch.manual_seed(0)
    model = RefAVSCrossAttentionTransformer(config).eval()
    nn.init.zeros_(model.update_projection.weight)
    nn.init.zeros_(model.update_projection.bias)
    queries, cues, mask = (
        cues_of(2, 10, 32),
        cues_of(2, 17, 32),
        torch.ones(2, 17, dtype=torch.bool),
    )
    torch.testing.assert_close(model(queries, cues, mask), queries)
    stir(model)
    assert not torch.allclose(model(queries, cues, mask), model(queries, 2 * cues, mask), atol=1e-3)
    swapped = model(queries.flip(1), cues, mask).flip(1)  # each query is answered alone
    torch.testing.assert_close(swapped, model(queries, cues, mask))


def test_visual_tokens_know_their_place(config):
    projection = RefAVSCueProjection(config, visual_channels=128)
    frames = cues_of(2, 3, 1, 1, 1).expand(2, 3, 128, 3, 3)  # the same everywhere
    tokens = projection.project_frames(frames)
    assert tokens.shape == (2, 3, 9, 32)
    distance = torch.cdist(tokens[0, 0], tokens[0, 0]) + 9 * torch.eye(9)
    assert distance.min() > 0.1
