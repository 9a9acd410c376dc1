"""The decoder that computes what is asked for, against transformers' own, which computes all of it."""

import pytest
import torch
from transformers.models.mask2former.modeling_mask2former import Mask2FormerTransformerModule

from modeling_refavs.masked_attention import RefAVSMaskedCrossAttention
from modeling_refavs.prompt_decoder import RefAVSMask2FormerModel, RefAVSMaskDecoder
from tests.conftest import make_config


STEPS, QUERIES = 2, 4


@pytest.fixture
def pair() -> tuple[Mask2FormerTransformerModule, RefAVSMaskDecoder]:
    """Both with the same weights; adapters change nothing yet."""
    torch.manual_seed(0)
    config = make_config().mask2former_config
    plain = Mask2FormerTransformerModule(config.feature_size, config).eval()
    for parameter in plain.parameters():
        if parameter.dim() > 1:
            torch.nn.init.xavier_uniform_(parameter)
    fast = RefAVSMask2FormerModel(config, adapter_size=4).transformer_module.eval()
    missing, unexpected = fast.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all(".adapter." in name for name in missing)
    return plain, fast


def draw_features() -> tuple[list[torch.Tensor], torch.Tensor]:
    """The pixel decoder's three maps and its mask features."""
    generator = torch.Generator().manual_seed(1)
    size = make_config().mask2former_config.feature_size
    levels = [torch.randn(STEPS, size, side, side, generator=generator) for side in (3, 6, 12)]
    return levels, torch.randn(STEPS, make_config().mask2former_config.mask_feature_size, 24, 24, generator=generator)


def run(module: torch.nn.Module, levels: list[torch.Tensor], pixels: torch.Tensor):
    """Queries of every layer, and their masks."""
    if not isinstance(module, RefAVSMaskDecoder):
        outputs = module(levels, pixels, output_hidden_states=True, output_attentions=False)
        return outputs.intermediate_hidden_states, outputs.masks_queries_logits
    outputs = module(module.queries_features.weight.expand(STEPS, -1, -1), levels, pixels)
    masks = [module.decoder.predict_masks(states, pixels) for states in outputs.intermediate_hidden_states]
    torch.testing.assert_close(outputs.masks_queries_logits[-1], masks[-1])
    return outputs.intermediate_hidden_states, masks


def test_every_layer_gives_the_plain_masks(pair):
    for expected, found in zip(*(run(module, *draw_features()) for module in pair), strict=True):
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_gradients_are_the_plain_ones(pair):
    gradients = []
    for module in pair:
        levels, pixels = draw_features()
        asked = [map_.requires_grad_() for map_ in (*levels, pixels)]
        sum(masks.square().mean() for masks in run(module, levels, pixels)[1]).backward()
        named = {name: parameter.grad for name, parameter in module.named_parameters() if ".adapter." not in name}
        gradients.append(named | {str(index): map_.grad for index, map_ in enumerate(asked)})
    for name, expected in gradients[0].items():
        if expected is not None:
            atol = 1e-6 + 1e-3 * float(expected.abs().max())
            torch.testing.assert_close(gradients[1][name], expected, rtol=1e-3, atol=atol)


def test_a_chosen_query_has_the_mask_that_it_has_among_all(pair):
    _, fast = pair
    levels, pixels = draw_features()
    states = run(fast, levels, pixels)[0][-1]
    chosen = torch.tensor([2, 0])
    alone = fast.decoder.predict_masks(states, pixels, chosen)
    torch.testing.assert_close(alone, fast.decoder.predict_masks(states, pixels)[torch.arange(STEPS), chosen])


def test_attention_is_torchs():
    torch.manual_seed(0)
    plain, fast = torch.nn.MultiheadAttention(16, 4), RefAVSMaskedCrossAttention(16, 4)
    torch.nn.init.normal_(plain.in_proj_bias)
    fast.load_state_dict(plain.state_dict())
    query, key, value = torch.randn(3, 2, 16), torch.randn(7, 2, 16), torch.randn(7, 2, 16)
    hidden = torch.rand(2, 3, 7) < 0.5
    hidden[..., 0] = False
    expected = plain(query, key, value, attn_mask=hidden.repeat_interleave(4, dim=0))[0]
    torch.testing.assert_close(fast(query, key, value, attn_mask=hidden)[0], expected)
    with pytest.raises(ValueError, match="no padding"):
        fast(query, key, value, key_padding_mask=hidden[:, 0])
