"""Before training, the prompted Mask2Former is Mask2Former."""

import pytest
import torch
from transformers import Mask2FormerForUniversalSegmentation

from modeling_refavs import RefAVSForSegmentation, encoders_refavs, mask2former_refavs
from modeling_refavs.mask2former_refavs import RefAVSMask2FormerModel
from tests.conftest import make_config, stir


def as_one_clip(pixels) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """What the pixel decoder gives of some frames, as the mask decoder takes it."""
    return tuple(
        level.unsqueeze(0) for level in pixels.multi_scale_features
    ), pixels.mask_features.unsqueeze(0)


ROUNDING = {"rtol": 1e-4, "atol": 1e-4}  # sums in another order


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A Mask2Former of 150 classes, as a published one, on disk."""
    config = make_config().mask2former_config
    config.num_labels = 150
    torch.manual_seed(3)
    model = Mask2FormerForUniversalSegmentation(config).eval()
    stir(model)
    folder = tmp_path_factory.mktemp("mask2former")
    model.save_pretrained(folder)
    return model, folder


def test_every_weight_arrives_and_only_adapters_are_new(plain):
    model, folder = plain
    ours = RefAVSMask2FormerModel.from_pretrained(folder, adapter_size=8)
    theirs = model.model.state_dict()
    state = ours.state_dict()
    assert {name for name in state if name not in theirs} == {
        name for name in state if ".adapter." in name
    }
    for name, value in theirs.items():
        torch.testing.assert_close(state[name], value, msg=name)


def test_untrained_it_answers_as_mask2former_does(plain):
    model, folder = plain
    ours = RefAVSMask2FormerModel.from_pretrained(folder, adapter_size=8).eval()
    pixel_values = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = model(pixel_values, output_hidden_states=True)
        stages = ours.encode_frames(pixel_values)
        pixels = ours.decode_pixels(stages)
        queries = ours.transformer_module.queries_features.weight.expand(2, -1, -1)
        decoded = ours.transformer_module(queries, *as_one_clip(pixels))
    assert torch.equal(stages[-1], expected.encoder_last_hidden_state)
    torch.testing.assert_close(
        pixels.mask_features, expected.pixel_decoder_last_hidden_state, **ROUNDING
    )
    for ours_level, level in zip(
        pixels.multi_scale_features, expected.pixel_decoder_hidden_states, strict=True
    ):
        torch.testing.assert_close(ours_level, level, **ROUNDING)
    torch.testing.assert_close(
        decoded.masks_queries_logits, expected.masks_queries_logits, **ROUNDING
    )


@torch.no_grad()
def test_a_few_frames_at_a_time_give_what_all_at_once_give(plain, monkeypatch):
    ours = RefAVSMask2FormerModel.from_pretrained(plain[1], adapter_size=8).eval()
    frames, passed = torch.randn(5, 3, 96, 96), []
    hook = ours.pixel_level_module.decoder.register_forward_hook(
        lambda module, args, _: passed.append(len(args[0][0]))
    )
    answers = []
    for frames_at_once in (5, 2, 0):
        monkeypatch.setattr(encoders_refavs, "PIXELS_AT_ONCE", frames_at_once * 96 * 96)
        monkeypatch.setattr(mask2former_refavs, "POSITIONS_AT_ONCE", frames_at_once * 24 * 24)
        stages = ours.encode_frames(frames)
        decoded = ours.decode_pixels(stages)
        answers.append([*stages, *decoded.multi_scale_features, decoded.mask_features])
    hook.remove()
    assert passed == [5, 2, 2, 1, 1, 1, 1, 1, 1]
    for answer in answers[1:]:
        for maps, expected in zip(answer, answers[0], strict=True):
            torch.testing.assert_close(maps, expected, **ROUNDING)


def test_adapters_act_once_they_are_trained(plain):
    ours = RefAVSMask2FormerModel.from_pretrained(plain[1], adapter_size=8).eval()
    pixel_values = torch.randn(1, 3, 96, 96)
    for decoder in ("pixel_level_module.decoder", "transformer_module"):
        before = _answer(ours, pixel_values)
        for name, parameter in ours.get_submodule(decoder).named_parameters():
            if "adapter.up.bias" in name:
                torch.nn.init.constant_(parameter, 0.5)
        assert not torch.allclose(before, _answer(ours, pixel_values), atol=1e-3)


@torch.no_grad()
def _answer(model, pixel_values):
    pixels = model.decode_pixels(model.encode_frames(pixel_values))
    queries = model.transformer_module.queries_features.weight.expand(1, -1, -1)
    return model.transformer_module(queries, *as_one_clip(pixels)).masks_queries_logits


def test_the_whole_untrained_model_still_finds_mask2formers_masks(plain):
    """CATF starts at zero: whatever the sentence, the queries' masks are the pretrained ones."""
    model, folder = plain
    eemc = RefAVSForSegmentation(make_config()).eval()
    eemc.model.mask2former = RefAVSMask2FormerModel.from_pretrained(folder, adapter_size=8).eval()
    pixel_values = torch.randn(1, 2, 3, 96, 96)
    with torch.no_grad():
        outputs = eemc(pixel_values, torch.randn(1, 2, 96, 64), torch.tensor([[0, 9, 10, 2]]))
        expected = model(pixel_values[0]).masks_queries_logits
    torch.testing.assert_close(outputs.masks_queries_logits[0], expected, **ROUNDING)


def test_made_from_scratch_it_starts_as_transformers_starts_it():
    """Of code outside transformers, modules without parameters of their own would be skipped:
    without the grid of the
    deformable attention and the zeros below, a small model needs ten times the steps to learn a
    clip."""
    model = RefAVSForSegmentation(make_config()).model
    theirs = Mask2FormerForUniversalSegmentation(make_config().mask2former_config).model
    name = "pixel_level_module.decoder.encoder.layers.0.self_attn.sampling_offsets.bias"
    assert torch.equal(model.mask2former.get_parameter(name), theirs.get_parameter(name))
    started_at_zero = [
        p for n, p in model.named_parameters() if "adapter.up." in n or "update_projection" in n
    ]
    assert len(started_at_zero) == 2 * (2 + 3) + 2
    assert all((parameter == 0).all() for parameter in started_at_zero)
    assert model.integration.audio_tag.abs().sum() > 0
