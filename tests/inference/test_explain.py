"""The attention that is drawn equals the layers' own; a segment names each cue token."""

from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataset_script.synthetic.sentences import SLOTS, TEMPLATES
from modeling_refavs import RefAVSProcessor
from modeling_refavs.cli import main
from modeling_refavs.eemc import RefAVSAttention
from modeling_refavs.inference.explain import (
    attend,
    divide_attention,
    explain_steps,
    record_attention,
)
from modeling_refavs.visualization.explain_plot import plot_cues
from tests.conftest import SENTENCES, make_config, make_model
from tests.media_kit import tone


CHECKPOINT = Path(__file__).parents[2] / "spaces_demo" / "synthetic_checkpoint"
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


def test_weights_times_values_equal_the_layers_output(attention, states):
    queries, context, mask = states
    weights = attention.weights(queries, context, mask)
    values = attention._split_heads(attention.value_projection(context))
    given = attention.output_projection((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(given, attention(queries, context, mask)[0])
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4, 3))
    assert not weights[0, ..., 5:].any()
    assert not weights[1, ..., 0].any()
    assert (weights[0, ..., :5] > 0).all()
    torch.testing.assert_close(
        attention.weights(queries, context),
        attention.weights(queries, context, torch.ones_like(mask)),
    )


def test_recording_leaves_outputs_equal_and_ends(attention, states):
    expected = attention(*states)
    with record_attention([attention]) as recorded:
        torch.testing.assert_close(attention(*states), expected, rtol=0, atol=0)
    attention(*states)
    assert len(recorded) == 1
    torch.testing.assert_close(recorded[0], attention.weights(*states))


@pytest.fixture(scope="module")
def inputs(processor, clip):
    return processor(text=[SENTENCE], **clip)


def shares_of(model, processor, inputs):
    _, weights, segments = attend(model, **inputs)
    return divide_attention(processor, SENTENCE, weights.numpy(), segments)


def test_queries_count_by_their_object_score(model, inputs):
    """By hand, from CATF's own inputs: its layers one after the other."""
    outputs, weights, _ = attend(model, **inputs)
    cues, mask = outputs.cue_hidden_states[0], outputs.cue_mask[0].bool()
    queries = model.model.mask2former.transformer_module.start_queries(len(cues), cues.device)
    attended = 0
    for layer in model.model.catf.layers:
        attended = attended + layer.attention.weights(queries, cues, mask).mean(dim=1) / len(
            model.model.catf.layers
        )
        queries = layer(queries, context=cues, context_mask=mask)
    classes = outputs.class_queries_logits[0]
    scores = (classes[..., 0] - classes[..., 1]).sigmoid()
    expected = torch.einsum("tq,tqm->tm", scores, attended) / scores.sum(dim=1, keepdim=True)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(4))


def test_step_without_sound_has_no_share_of_sound(model, processor, clip):
    inputs = processor(
        text=[SENTENCE],
        frames=clip["frames"],
        audio=clip["audio"][:16_000],
        sampling_rate=clip["sampling_rate"],
    )
    shares = shares_of(model, processor, inputs)
    assert shares.audio[0] > 0
    assert not shares.audio[1:].any()


def test_segments_are_named_in_order(model, processor, inputs):
    """One token after the other gets all: the names follow [sound, aud, places, vis, words]."""
    num_tokens, grid = inputs["input_ids"].shape[1], model.config.visual_grid_size
    _, weights, segments = attend(model, **inputs)
    assert weights.shape[1] == 1 + 1 + grid**2 + 1 + num_tokens
    shares = divide_attention(processor, SENTENCE, np.eye(weights.shape[1]), segments)
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


def test_audio_memory_counts_as_sound(processor, inputs):
    model = make_model(grounding_config={"use_audio_memory_cue": True})
    weights = attend(model, **inputs)[1].numpy()
    shares = shares_of(model, processor, inputs)
    np.testing.assert_allclose(shares.audio, weights[:, :2].sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(
        shares.tags, weights[:, 2] + weights[:, 3 + model.config.visual_grid_size**2], rtol=1e-6
    )
    assert shares.even["sound"] == 2 / weights.shape[1]


def test_every_template_sentence_has_its_words_and_tokens():
    """With the shipped processor, which adds a capital and a full stop; as stored and as typed."""
    processor = RefAVSProcessor.from_pretrained(CHECKPOINT)
    texts = set()
    for template in TEMPLATES.values():
        words = [list(SLOTS[slot].values()) for slot in template.slots]
        for values in zip_longest(*words):
            filled = {
                slot: value or next(iter(SLOTS[slot].values()))
                for slot, value in zip(template.slots, values, strict=True)
            }
            texts |= {form.format(**filled) for form in template.forms}
    texts |= {text[0].lower() + text[1:].rstrip(".") for text in texts} | {"house", "red object"}
    segments = {"visual": slice(0, 1)}
    for text in texts:
        num_tokens = processor(text=[text])["input_ids"].shape[1]
        segments["text"] = slice(1, 1 + num_tokens)
        shares = divide_attention(processor, text, np.eye(1 + num_tokens), segments)
        whole = "".join(processor.normalize_text(text).split())
        assert whole.startswith("".join(shares.words))
        assert len("".join(shares.words)) == len(whole) or num_tokens == processor.max_text_length
        np.testing.assert_array_equal(shares.text.sum(axis=0) > 0, True)
        np.testing.assert_allclose(sum(shares.by_modality.values()), 1)


@pytest.mark.parametrize("ablation", ["use_audio_cues", "use_text_cues", "use_modality_encoding"])
def test_ablated_modality_has_no_share(processor, inputs, ablation):
    model = make_model(**{ablation: False})
    shares = shares_of(model, processor, inputs)
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


def test_step_by_step_equals_whole_clip(model, processor, clip, video):
    everything = explain_steps(model, processor, video, SENTENCE, 0, 10, 0.5)
    later = explain_steps(model, processor, video, SENTENCE, 2, 1, 0.5)
    assert (len(everything.frames), len(later.frames)) == (4, 1)
    # the steps before fed the memory
    np.testing.assert_array_equal(later.weights[0], everything.weights[2])
    outputs, weights, _ = attend(
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
def test_plot_holds_expression_words_and_times(model, processor, write_clip, video, sound):
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
    arguments = ["explain", str(video), SENTENCE, "--attention", "--model", "m", "--output"]
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
