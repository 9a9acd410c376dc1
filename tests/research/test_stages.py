"""The first stage learns one space of sound and picture: what it is given to learn here can be told
by their product alone."""

import torch

from modeling_refavs.research.stages import RefAVSForCueAlignment
from tests.conftest import make_config


def make_stage(**overrides) -> RefAVSForCueAlignment:
    torch.manual_seed(0)
    return RefAVSForCueAlignment(make_config(cue_loss_weight=1.0, visual_grid_size=2, **overrides))


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


def test_what_sounds_is_told_by_the_product():
    stage = make_stage().train()
    optimizer = torch.optim.Adam([p for p in stage.parameters() if p.requires_grad], lr=1e-2)
    for step in range(60):
        optimizer.zero_grad()
        stage(**draw_batch(16, step)[0]).loss.backward()
        optimizer.step()
    inputs, answer = draw_batch(64, seed=1000)
    with torch.no_grad():
        told = stage(**inputs).cue_logits[:, 0].argmax(-1) == answer
        deaf = (
            stage(**{**inputs, "audio_features": inputs["audio_features"].roll(1, 0)})
            .cue_logits[:, 0]
            .argmax(-1)
        )
    assert told.float().mean() > 0.95
    assert (deaf == answer).float().mean() < 0.8


def test_without_a_sentence_the_sound_tells_alone():
    stage = make_stage(use_text_cues=False).eval()
    inputs = draw_batch(4, 0)[0]
    with torch.no_grad():
        stage.visibility.weight.zero_()
        lit = stage(**inputs).cue_logits
        silent = stage(
            **{**inputs, "audio_features": torch.zeros_like(inputs["audio_features"])}
        ).cue_logits
    assert stage.listening is None
    assert not torch.equal(lit, silent)
    deaf = make_stage(use_text_cues=False, use_audio_cues=False).eval()
    assert deaf(**inputs).loss.isfinite()


def test_only_the_projections_learn():
    stage = make_stage().train()
    learned = {name.split(".")[-3] if "cue_projection" in name else name.split(".")[0]
               for name, parameter in stage.named_parameters() if parameter.requires_grad}  # fmt: skip
    assert learned == {"cue_projection", "listening", "visibility"}
