"""The decoder that computes what is asked for, against transformers' own, which computes all of
it."""

import pytest
import torch
from transformers.models.mask2former.modeling_mask2former import Mask2FormerTransformerModule

from modeling_refavs.mask2former_refavs import RefAVSMaskDecoder, fold, shrink, unfold
from modeling_refavs.modeling_outputs_refavs import is_regular
from tests.conftest import make_config


CLIPS, STEPS, SENTENCES = 2, 3, 2  # sentences of each clip
FRAMES = CLIPS * SENTENCES * STEPS
ROUNDING = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(params=[False, True], ids=["post-norm", "pre-norm"])
def pair(request) -> tuple[Mask2FormerTransformerModule, RefAVSMaskDecoder]:
    """Both with the same weights; adapters change nothing yet."""
    torch.manual_seed(0)
    config = make_config().mask2former_config
    config.pre_norm = request.param
    plain = Mask2FormerTransformerModule(config.feature_size, config).eval()
    for parameter in plain.parameters():
        if parameter.dim() > 1:
            torch.nn.init.xavier_uniform_(parameter)
    fast = RefAVSMaskDecoder(config, adapter_size=4).eval()
    for layer in fast.decoder.layers:
        torch.nn.init.zeros_(layer.adapter.up.weight)
        torch.nn.init.zeros_(layer.adapter.up.bias)
    missing, unexpected = fast.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all(".adapter." in name for name in missing)
    return plain, fast


def draw_features() -> tuple[list[torch.Tensor], torch.Tensor]:
    """The pixel decoder's three maps and its mask features, of all clips."""
    generator, config = torch.Generator().manual_seed(1), make_config().mask2former_config
    levels = [
        torch.randn(CLIPS, STEPS, config.feature_size, side, side, generator=generator)
        for side in (3, 6, 12)
    ]
    return levels, torch.randn(CLIPS, STEPS, config.mask_feature_size, 24, 24, generator=generator)


def run(
    module: torch.nn.Module, levels: list[torch.Tensor], pixels: torch.Tensor
) -> tuple[list, list]:
    """Queries of every layer, and their masks, of each sentence's frames; transformers' own is
    given each sentence's maps."""
    if isinstance(module, RefAVSMaskDecoder):
        decoded = module(module.queries_features.weight.expand(FRAMES, -1, -1), levels, pixels)
        masks = [module.predict_masks(states, pixels) for states in decoded.states]
        torch.testing.assert_close(decoded.masks_queries_logits, masks[-1])
        return list(decoded.states), masks
    levels, pixels = (
        [*(m.repeat_interleave(SENTENCES, dim=0).flatten(0, 1) for m in maps)]
        for maps in (levels, [pixels])
    )
    outputs = module(levels, pixels[0], output_hidden_states=True, output_attentions=False)
    return [s.transpose(0, 1) for s in outputs.intermediate_hidden_states], list(
        outputs.masks_queries_logits
    )


def test_every_layer_gives_the_plain_masks(pair):
    for expected, found in zip(*(run(module, *draw_features()) for module in pair), strict=True):
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, **ROUNDING)


def test_gradients_are_the_plain_ones(pair):
    gradients = []
    for module in pair:
        levels, pixels = draw_features()
        asked = [maps.requires_grad_() for maps in (*levels, pixels)]
        sum(masks.square().mean() for masks in run(module, levels, pixels)[1]).backward()
        named = {
            name: parameter.grad
            for name, parameter in module.named_parameters()
            if ".adapter." not in name
        }
        gradients.append(named | {str(index): maps.grad for index, maps in enumerate(asked)})
    for name, expected in gradients[0].items():
        if expected is not None:
            atol = 1e-6 + 1e-3 * float(expected.abs().max())
            torch.testing.assert_close(gradients[1][name], expected, rtol=1e-3, atol=atol)


def test_a_chosen_query_has_the_mask_that_it_has_among_all(pair):
    levels, pixels = draw_features()
    states = run(pair[1], levels, pixels)[0][-1]
    chosen = torch.arange(FRAMES) % states.shape[1]
    alone = pair[1].predict_masks(states, pixels, chosen)
    torch.testing.assert_close(
        alone, pair[1].predict_masks(states, pixels)[torch.arange(FRAMES), chosen]
    )


def test_folding_keeps_sentences_with_their_clip():
    states = torch.arange(FRAMES)[:, None, None].expand(-1, 4, 1)  # numbered (clip, sentence, step)
    folded = fold(states, torch.Size([CLIPS, STEPS]))
    assert folded[1, 2, :, 0].tolist() == [8] * 4 + [11] * 4
    assert torch.equal(unfold(folded, 4), states)


@pytest.mark.parametrize("size", [(3, 3), (6, 6), (12, 12), (8, 8), (5, 7), (24, 24)])
def test_maps_shrink_as_torch_resizes_them(size):
    maps = torch.randn(2, 3, 5, 24, 24)
    expected = torch.nn.functional.interpolate(maps.flatten(0, 1), size=size, mode="bilinear")
    torch.testing.assert_close(shrink(maps, torch.Size(size)).flatten(0, 1), expected)


def test_regular_is_as_many_sentences_of_each_clip():
    assert is_regular(None, 3)
    assert is_regular(torch.tensor([0, 0, 1, 1]), 2)
    for index in ([0, 1, 0, 1], [0, 0, 1], [0, 0, 0, 1], [1, 1, 0, 0]):
        assert not is_regular(torch.tensor(index), 2)
