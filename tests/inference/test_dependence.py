"""What an answer depends on: variants equal those of changed files, and effects lie where the model
cannot do without."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_refavs import RefAVSForSegmentation, RefAVSProcessor
from modeling_refavs.cli import main
from modeling_refavs.inference.dependence import Answer, ask_video, measure_dependence
from modeling_refavs.inference.segment import segment_video
from modeling_refavs.video_refavs import read_steps
from modeling_refavs.visualization.dependence_plot import plot_dependence
from tests.conftest import make_model
from tests.media_kit import tone


DEMO = Path(__file__).parents[2] / "spaces_demo"
CLIP = DEMO / "examples" / "bell_first.mp4"


@pytest.fixture(scope="module")
def drawn():
    folder = DEMO / "synthetic_checkpoint"
    return (
        RefAVSForSegmentation.from_pretrained(folder).eval(),
        RefAVSProcessor.from_pretrained(folder),
    )


@pytest.fixture(scope="module")
def acoustic(drawn):
    return ask_video(*drawn, CLIP, "the sounding object").question


def test_loss_is_of_iou_or_of_presence():
    masks = np.zeros((1, 4, 2, 4), dtype=bool)
    masks[0, :2] = True
    other = masks.copy()
    other[0, 0, :, 2:] = False  # half of it
    other[0, 1] = False  # none of it
    answer = Answer(masks, np.array([[0.9, 0.9, 0.1, 0.1]]))
    found = answer.loss(Answer(other, np.array([[0.8, 0.2, 0.1, 0.4]])))
    np.testing.assert_allclose(found, [[0.5, 1.0, 0.0, 0.3]])
    np.testing.assert_array_equal(answer.loss(answer), 0)


def test_the_answer_is_that_of_segment_video(drawn, acoustic):
    expected = segment_video(*drawn, CLIP, ["the sounding object"])
    answer = acoustic.ask()
    np.testing.assert_allclose(answer.presence, expected.presence, atol=1e-4)
    size = answer.masks.shape[:1:-1]
    np.testing.assert_array_equal(
        answer.masks[0].any((1, 2)), [expected.masks(step, size).any() for step in range(10)]
    )


def test_variants_equal_those_of_changed_inputs(drawn, acoustic):
    """Muted and swapped in the samples, not in the features; the memory emptied by asking of single
    steps; without sound as a video without a track."""
    model, processor = drawn
    steps = list(read_steps(CLIP))
    frames = [step.frame for step in steps]
    sound = np.stack([step.audio for step in steps])

    @torch.no_grad()
    def presence(frames, audio):
        said = processor(
            text=["the sounding object"],
            frames=frames,
            audio=None if audio is None else audio.ravel(),
            sampling_rate=16_000,
        )
        return model(**said).presence_logits.sigmoid().numpy()

    muted = sound.copy()
    muted[1] = 0
    close = {"atol": 2e-3}
    np.testing.assert_allclose(acoustic.ask_muted(1).presence, presence(frames, muted), **close)
    np.testing.assert_allclose(
        acoustic.ask_with_sound_swapped().presence, presence(frames, np.roll(sound, 5, 0)), **close
    )
    np.testing.assert_allclose(
        acoustic.ask_without_sound().presence, presence(frames, None), **close
    )
    np.testing.assert_allclose(
        acoustic.ask_without_memory().presence[0, 7],
        presence(frames[7:8], sound[7:8])[0, 0],
        **close,
    )


def test_a_masked_word_is_read_by_nobody(acoustic):
    """Another word in its place changes nothing."""
    words, tokens = acoustic.words()
    assert words == ("The", "sounding", "object", ".")
    masked = acoustic.ask_without_words(tokens)
    before = acoustic.tokens["input_ids"]
    try:
        acoustic.tokens["input_ids"] = before.clone()
        acoustic.tokens["input_ids"][0, tokens[1]] = before[0, tokens[0]][0]
        again = acoustic.ask_without_words(tokens)
    finally:
        acoustic.tokens["input_ids"] = before
    np.testing.assert_allclose(again.presence[1], masked.presence[1], atol=1e-5)
    assert np.abs(again.presence[0] - masked.presence[0]).max() > 0.01


def test_sound_matters_where_the_sentence_is_about_it(drawn, acoustic):
    heard = measure_dependence(acoustic)
    named = measure_dependence(ask_video(*drawn, CLIP, "the house").question)
    assert heard.no_sound > 0.5 > 0.1 > named.no_sound
    assert heard.by_second.max() > 0.1 > named.by_second.max()
    effects = dict(zip(named.words, named.by_word, strict=True))
    assert effects["house"] > 0.5 > 0.1 > effects["The"]
    assert named.grounding.shape[0] == 10


def test_later_steps_remember_the_steps_before(drawn):
    whole = ask_video(*drawn, CLIP, "the sounding object", 0, 4).question.ask()
    later = ask_video(*drawn, CLIP, "the sounding object", 2, 2).question.ask()
    np.testing.assert_allclose(later.presence, whole.presence[:, 2:], atol=1e-3)


@pytest.mark.parametrize("sound", [True, False])
def test_plot_has_a_bar_for_each_word(drawn, write_clip, sound):
    track = {"sound": [(0.0, tone(3))], "sound_codec": "aac"} if sound else {}
    figure = plot_dependence(*drawn, write_clip("clip.mp4", **track), "the red cat")
    texts = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    assert {"“the red cat”", "The", "red", "cat", "no\nmemory", "0 s"} <= set(texts)
    assert ("no sound track" in texts) != sound


def test_a_model_without_sound_or_grounding_is_drawn(processor, write_clip):
    model = make_model(use_audio_cues=False)
    steps = ask_video(model, processor, write_clip("clip.mp4"), "the red circle")
    found = measure_dependence(steps.question)
    assert found.no_sound == found.swapped_sound == found.by_second.max() == 0
    assert found.grounding is None
    assert plot_dependence(model, processor, write_clip("clip.mp4"), "the red circle").axes


def test_predicted_quality_is_drawn_where_the_model_has_it(drawn, write_clip, monkeypatch):
    model, processor = drawn
    segment = model.segment

    def rated(*args, **kwargs):
        outputs = SimpleNamespace(**segment(*args, **kwargs))
        outputs.iou_scores = torch.full_like(outputs.presence_logits, 0.75)
        return outputs

    monkeypatch.setattr(model, "segment", rated)
    figure = plot_dependence(model, processor, write_clip("clip.mp4"), "the red cat")
    texts = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    assert texts.count("IoU 0.75") == 3


def test_explain_draws_either(drawn, tmp_path, monkeypatch, write_clip):
    monkeypatch.setattr("modeling_refavs.inference.loading.load_model", lambda *_, **__: drawn)
    clip, sizes = write_clip("clip.mp4"), []
    for options in ([], ["--attention"]):
        output = tmp_path / f"{len(options)}.png"
        assert main(["explain", str(clip), "a cat", "--output", str(output), *options]) == 0
        sizes.append(Image.open(output).size)
    assert sizes[0] != sizes[1]
