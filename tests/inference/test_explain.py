"""What is drawn as attention is the layer's own; each cue is named as what it is."""

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_refavs.cli import main
from modeling_refavs.eemc import RefAVSAttention
from modeling_refavs.inference.explain import attend, divide_attention, look, record_attention
from modeling_refavs.visualization.explain_plot import plot_cues
from tests.conftest import SENTENCES, make_config, make_model
from tests.media_kit import tone


SENTENCE = "the blue square that is making a sound"


@pytest.fixture(scope="module")
def attention() -> RefAVSAttention:
    torch.manual_seed(0)
    return RefAVSAttention(make_config()).eval()


@pytest.fixture
def states() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, context, and a mask that hides some of it."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[0, 5:], mask[1, 0] = False, False
    return (
        torch.randn(2, 3, 32, generator=generator),
        torch.randn(2, 7, 32, generator=generator),
        mask,
    )


def test_weights_times_values_is_what_the_layer_gives(attention, states):
    queries, context, mask = states
    weights = attention.weights(queries, context, mask)
    values = attention._split_heads(attention.value_projection(context))
    given = attention.output_projection((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(given, attention(queries, context, mask))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4, 3))
    assert not weights[0, ..., 5:].any()
    assert not weights[1, ..., 0].any()
    assert (weights[0, ..., :5] > 0).all()
    torch.testing.assert_close(
        attention.weights(queries, context),
        attention.weights(queries, context, torch.ones_like(mask)),
    )


def test_recording_changes_nothing_and_ends(attention, states):
    expected = attention(*states)
    with record_attention([attention]) as recorded:
        torch.testing.assert_close(attention(*states), expected, rtol=0, atol=0)
    attention(*states)
    assert len(recorded) == 1
    torch.testing.assert_close(recorded[0], attention.weights(*states))


@pytest.fixture(scope="module")
def inputs(processor, clip):
    return processor(text=[SENTENCE], **clip)


def test_the_query_that_claims_the_object_counts_most(model, inputs):
    """By hand, from CATF's own inputs: its layers one after the other."""
    outputs, weights = attend(model, **inputs)
    cues, mask = outputs.cue_hidden_states[0], outputs.cue_mask[0]
    queries = model.model.mask2former.transformer_module.queries_features.weight.expand(
        len(cues), -1, -1
    )
    read = 0
    for layer in model.model.catf.layers:
        read = read + layer.attention.weights(queries, cues, mask).mean(dim=1) / len(
            model.model.catf.layers
        )
        queries = layer(queries, context=cues, context_mask=mask)
    classes = outputs.class_queries_logits[0]
    claims = (classes[..., 0] - classes[..., 1]).sigmoid()
    expected = torch.einsum("tq,tqm->tm", claims, read) / claims.sum(dim=1, keepdim=True)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(4))


def test_a_second_without_sound_reads_none(model, processor, clip):
    inputs = processor(
        text=[SENTENCE],
        frames=clip["frames"],
        audio=clip["audio"][:16_000],
        sampling_rate=clip["sampling_rate"],
    )
    shares = divide_attention(model, processor, SENTENCE, attend(model, **inputs)[1].numpy())
    assert shares.audio[0] > 0
    assert not shares.audio[1:].any()


def test_cues_are_named_in_their_order(model, processor, inputs):
    """One token after the other gets all: the names follow [sound, aud, places, vis, words]."""
    num_tokens, grid = inputs["input_ids"].shape[1], model.config.visual_grid_size
    shares = divide_attention(model, processor, SENTENCE, np.eye(1 + 1 + grid**2 + 1 + num_tokens))
    assert shares.words == tuple(SENTENCE.split())
    assert np.flatnonzero(shares.audio).tolist() == [0]
    assert np.flatnonzero(shares.tags).tolist() == [1, 2 + grid**2]
    np.testing.assert_array_equal(
        shares.visual[2 : 2 + grid**2].reshape(grid**2, -1), np.eye(grid**2)
    )
    begin = 3 + grid**2
    assert np.flatnonzero(shares.ends).tolist() == [begin, begin + num_tokens - 1]
    owners = shares.text[begin + 1 : begin + num_tokens - 1].argmax(axis=1)
    assert sorted(set(owners.tolist())) == list(
        range(len(shares.words))
    )  # each word has its tokens, in order
    assert (np.diff(owners) >= 0).all()
    for shares_of_all in (sum(shares.by_modality.values()), sum(shares.even.values())):
        np.testing.assert_allclose(shares_of_all, 1)


def test_the_past_of_the_sound_is_sound(processor, inputs):
    model = make_model(use_audio_memory_cue=True)
    weights = attend(model, **inputs)[1].numpy()
    shares = divide_attention(model, processor, SENTENCE, weights)
    np.testing.assert_allclose(shares.audio, weights[:, :2].sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(
        shares.tags, weights[:, 2] + weights[:, 3 + model.config.visual_grid_size**2], rtol=1e-6
    )
    assert shares.even["sound"] == 2 / weights.shape[1]


@pytest.mark.parametrize("ablation", ["use_audio_cues", "use_text_cues", "use_modality_encoding"])
def test_ablations_have_fewer_cues(processor, inputs, ablation):
    model = make_model(**{ablation: False})
    shares = divide_attention(model, processor, SENTENCE, attend(model, **inputs)[1].numpy())
    np.testing.assert_allclose(sum(shares.by_modality.values()), 1, rtol=1e-5)
    missing = {
        "use_audio_cues": "sound",
        "use_text_cues": "words",
        "use_modality_encoding": "tags",
    }[ablation]
    assert shares.even[missing] == 0
    assert not shares.by_modality[missing].any()


@pytest.fixture
def video(write_clip):
    return write_clip(
        "clip.mp4", times=tuple(np.arange(35) / 10), end=3.5, sound=[(0.0, tone(1.5))]
    )


def test_seconds_one_at_a_time_are_the_whole_clips(model, processor, clip, video):
    everything = look(model, processor, video, SENTENCE, 0, 10, 0.5)
    later = look(model, processor, video, SENTENCE, 2, 1, 0.5)
    assert (len(everything.frames), len(later.frames)) == (4, 1)
    np.testing.assert_array_equal(
        later.weights[0], everything.weights[2]
    )  # the seconds before fed the memory
    outputs, weights = attend(
        model,
        **processor(
            text=[SENTENCE],
            frames=everything.frames,
            audio=np.concatenate(everything.audio),
            sampling_rate=16_000,
        ),
    )
    np.testing.assert_allclose(np.stack(everything.weights), weights.numpy(), atol=1e-4)
    np.testing.assert_allclose(everything.presence, outputs.presence_logits[0].sigmoid(), atol=1e-4)


@pytest.mark.parametrize("sound", [True, False])
def test_the_plot_says_what_was_asked(model, processor, write_clip, video, sound):
    path = video if sound else write_clip("silent.mp4")
    figure = plot_cues(model, processor, path, SENTENCES[0], num_steps=3)
    texts = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    assert f"“{SENTENCES[0]}”" in texts
    assert {"the", "red", "circle", "(start, end)", "0 s", "2 s"} <= set(texts)
    assert ("no sound track" in texts) != sound
    assert (texts.count("no sound") == 3) != sound


def test_explain_writes_a_picture(processor, video, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "modeling_refavs.inference.loading.load_model", lambda *_, **__: (make_model(), processor)
    )
    output = tmp_path / "cues.png"
    arguments = ["explain", str(video), SENTENCE, "--model", "m", "--output"]
    assert main([*arguments, str(output), "--start", "1", "--seconds", "2"]) == 0
    assert Image.open(output).size[0] > 700
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4", "cues.png"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--start": "9"}, "over before 9 s"),
        ({"--start": "-1"}, "start must be at least 0"),
        ({"--seconds": "0"}, "num_steps at least 1"),
        ({"--output": "cues.gif"}, "must end in .png, .pdf, .svg"),
        ({"--output": "nowhere/cues.png"}, "no such folder"),
        ({"sentence": " "}, "sentence 1 is empty"),
    ],
)
def test_mistakes_get_one_line(
    processor, model, video, tmp_path, monkeypatch, capsys, change, words
):
    monkeypatch.setattr(
        "modeling_refavs.inference.loading.load_model", lambda *_, **__: (model, processor)
    )
    monkeypatch.chdir(tmp_path)
    request = {"sentence": SENTENCE, "--model": "m", "--output": "cues.png", **change}
    options = [
        part for name, value in request.items() if name.startswith("--") for part in (name, value)
    ]
    assert main(["explain", str(video), request["sentence"], *options]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4"}
