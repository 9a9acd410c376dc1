"""The alignment stage learns one space of sound and picture: here their product alone tells which
object sounds."""

import pytest
import torch

from modeling_refavs import RefAVSForSegmentation
from modeling_refavs.research.stages import RefAVSForCueAlignment, RefAVSForCueLocalization
from tests.conftest import make_config


def make_stage(**overrides) -> RefAVSForCueAlignment:
    torch.manual_seed(0)
    return RefAVSForCueAlignment(
        make_config(grounding_config={"loss_weight": 1.0}, visual_grid_size=2, **overrides)
    )


def draw_batch(count: int, seed: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Two kinds of things, each in one of four places, of which one sounds; the sentence says
    nothing. `(inputs, answer)`."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.eye(128)[:2] * 5
    sounding = torch.randint(2, (count,), generator=generator)
    places = torch.stack(
        [torch.randperm(4, generator=generator)[:2] for _ in range(count)]
    )  # of kind 0, of kind 1
    frames = torch.zeros(count, 1, 128, 4)
    for row in range(count):
        frames[row, 0, :, places[row, 0]], frames[row, 0, :, places[row, 1]] = kinds[0], kinds[1]
    answer = places[torch.arange(count), sounding]
    masks = torch.nn.functional.one_hot(answer, 4).reshape(count, 1, 2, 2).float()
    return {
        "frame_features": frames.unflatten(-1, (2, 2)),
        "audio_features": kinds[sounding].unsqueeze(1),
        "text_features": torch.ones(count, 3, 32),
        "mask_labels": masks,
    }, answer


def test_alignment_learns_which_object_sounds():
    stage = make_stage().train()
    optimizer = torch.optim.Adam([p for p in stage.parameters() if p.requires_grad], lr=1e-2)
    for step in range(60):
        optimizer.zero_grad()
        stage(**draw_batch(16, step)[0]).loss.backward()
        optimizer.step()
    inputs, answer = draw_batch(64, seed=1000)
    with torch.no_grad():
        right = stage(**inputs).grounding_logits[:, 0].argmax(-1) == answer
        deaf = (
            stage(**{**inputs, "audio_features": inputs["audio_features"].roll(1, 0)})
            .grounding_logits[:, 0]
            .argmax(-1)
        )
    assert right.float().mean() > 0.95
    assert (deaf == answer).float().mean() < 0.8


def test_alignment_without_text_depends_on_the_sound():
    stage = make_stage(use_text_cues=False).eval()
    inputs = draw_batch(4, 0)[0]
    with torch.no_grad():
        stage.visibility.weight.zero_()
        lit = stage(**inputs).grounding_logits
        silent = stage(
            **{**inputs, "audio_features": torch.zeros_like(inputs["audio_features"])}
        ).grounding_logits
    assert stage.listening is None
    assert not torch.equal(lit, silent)
    deaf = make_stage(use_text_cues=False, use_audio_cues=False).eval()
    assert deaf(**inputs).loss.isfinite()


def test_alignment_trains_projections_alone():
    stage = make_stage().train()
    trained = [name for name, parameter in stage.named_parameters() if parameter.requires_grad]
    learned = {
        "cue_projection" if "cue_projection" in name else name.split(".")[0] for name in trained
    }
    assert learned == {"cue_projection", "listening", "visibility"}


@pytest.mark.parametrize("kind", [RefAVSForCueAlignment, RefAVSForCueLocalization])
def test_queries_and_keys_start_alike_in_a_stage(kind, tmp_path):
    stage = kind(make_config(grounding_config={"loss_weight": 1.0}))
    attention = stage.model.integration.layers[0].attention
    assert torch.equal(attention.query_projection.weight, attention.key_projection.weight)
    attention.key_projection.weight.data += 1
    stage.save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path).model.integration.layers[0].attention
    assert torch.equal(loaded.key_projection.weight, attention.key_projection.weight)
    later = RefAVSForSegmentation(make_config(grounding_config={"loss_weight": 1.0}))
    attention = later.model.integration.layers[0].attention
    assert not torch.equal(attention.query_projection.weight, attention.key_projection.weight)
