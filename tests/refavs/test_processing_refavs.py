import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Mask2FormerImageProcessorPil

from modeling_refavs import RefAVSProcessor
from tests.conftest import SENTENCES


def test_sentences_get_a_capital_and_a_full_stop_on_request(processor, tmp_path):
    cased = RefAVSProcessor(
        processor.image_processor,
        processor.feature_extractor,
        processor.tokenizer,
        sentence_case=True,
    )
    cased.save_pretrained(tmp_path)
    for ours in (cased, RefAVSProcessor.from_pretrained(tmp_path)):
        for text in ("the first dog to bark", "The first dog to bark.", " the first  dog to bark"):
            assert (
                ours(text=text)["input_ids"].tolist()
                == processor(text="The first dog to bark.")["input_ids"].tolist()
            )
    assert (
        processor(text="the dog")["input_ids"].tolist()
        != processor(text="The dog.")["input_ids"].tolist()
    )


def test_names_shapes_and_types(processor, clip):
    inputs = processor(text=SENTENCES, **clip)
    assert {name: tuple(value.shape) for name, value in inputs.items()} == {
        "pixel_values": (1, 4, 3, 96, 96),
        "frame_mask": (1, 4),
        "input_features": (1, 4, 96, 64),
        "input_features_mask": (1, 4, 96),
        "input_ids": tuple(inputs["input_ids"].shape),
        "attention_mask": tuple(inputs["input_ids"].shape),
        "clip_index": (4,),
    }
    assert inputs["input_ids"].shape[0] == 4
    assert set(inputs) == set(processor.model_input_names)
    assert inputs["pixel_values"].dtype == inputs["input_features"].dtype == torch.float32
    assert inputs["clip_index"].dtype == torch.int64


def kinds_of_frames(frames):
    array = np.stack(frames)
    return {
        "arrays": frames,
        "stacked": array,
        "tensor": torch.from_numpy(array),
        "channels first": torch.from_numpy(array).permute(0, 3, 1, 2),
        "floats": array / 255,
        "pictures": [Image.fromarray(frame) for frame in frames],
        "with transparency": [Image.fromarray(frame).convert("RGBA") for frame in frames],
        "mixed": [
            Image.fromarray(frames[0]),
            torch.from_numpy(frames[1]),
            frames[2],
            frames[3] / 255,
        ],
        "a batch of one": [frames],
        "stacked twice": array[None],
        "mirrored in place": list(array[:, :, ::-1].copy()[:, :, ::-1]),
        "not to be written": [
            np.frombuffer(frame.tobytes(), np.uint8).reshape(frame.shape) for frame in frames
        ],
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", kinds_of_frames([np.zeros((2, 2, 3), np.uint8)] * 4))
def test_frames_of_any_kind_are_the_same_frames(processor, clip, kind):
    expected = processor(frames=clip["frames"])["pixel_values"]
    answer = processor(frames=kinds_of_frames(clip["frames"])[kind])["pixel_values"]
    torch.testing.assert_close(answer, expected)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 3), (2000, 1)])
def test_frames_of_any_size_are_taken(processor, size):
    frame = np.zeros((*size, 3), np.uint8)
    frame[...] = (250, 120, 10)
    pixels = processor(frames=[frame])["pixel_values"][0, 0]
    expected = processor(frames=[np.full((96, 96, 3), (250, 120, 10), np.uint8)])["pixel_values"][
        0, 0
    ]
    torch.testing.assert_close(pixels, expected)


def test_resized_frames_take_the_place_of_frames(processor):
    frame = np.random.default_rng(0).integers(0, 256, (37, 90, 3), dtype=np.uint8)
    whole, small = (
        processor(frames=frames)["pixel_values"]
        for frames in ([frame], processor.resize_frames([frame]))
    )
    assert torch.equal(whole, small)


def test_one_frame_is_a_clip_of_one(processor, clip):
    for frame in (clip["frames"][0], Image.fromarray(clip["frames"][0])):
        assert processor(frames=frame)["pixel_values"].shape == (1, 1, 3, 96, 96)


def test_grey_frames_are_taken(processor, clip):
    grey = clip["frames"][0].mean(axis=-1).astype(np.uint8)
    colour = np.repeat(grey[..., None], 3, axis=-1)
    expected = processor(frames=colour)["pixel_values"]
    for frame in (grey, grey[..., None], Image.fromarray(grey)):
        torch.testing.assert_close(processor(frames=[frame])["pixel_values"], expected)


def test_clips_of_different_lengths_are_filled_up_and_marked(processor, clip):
    inputs = processor(
        text=["the red circle", SENTENCES[1:3]],
        frames=[clip["frames"][:1], clip["frames"]],
        audio=[clip["audio"], None],
        sampling_rate=16_000,
    )
    assert inputs["frame_mask"].tolist() == [[1, 0, 0, 0], [1, 1, 1, 1]]
    assert (inputs["pixel_values"][0, 1:] == 0).all()
    assert inputs["clip_index"].tolist() == [0, 1, 1]
    assert inputs["input_features_mask"].any(-1).tolist() == [
        [True, False, False, False],
        [False] * 4,
    ]
    alone = processor(frames=clip["frames"])["pixel_values"][0]
    torch.testing.assert_close(inputs["pixel_values"][1], alone)


def test_sound_that_ends_early_is_marked_to_the_mel_frame(processor, clip):
    inputs = processor(
        frames=clip["frames"], audio=clip["audio"][: 16_000 + 8_000], sampling_rate=16_000
    )
    assert inputs["input_features_mask"][0].sum(-1).tolist() == [96, 50, 0, 0]


def test_sound_beyond_the_last_frame_is_cut(processor, clip):
    inputs = processor(frames=clip["frames"][:2], audio=clip["audio"], sampling_rate=16_000)
    assert inputs["input_features"].shape == (1, 2, 96, 64)


def test_no_track_and_no_samples_left_are_both_padding(processor, clip):
    for audio in (None, np.zeros(0, np.float32)):
        inputs = processor(frames=clip["frames"], audio=audio, sampling_rate=16_000)
        assert not inputs["input_features_mask"].any()


def test_silence_is_a_sound(processor, clip):
    inputs = processor(frames=clip["frames"], audio=0 * clip["audio"], sampling_rate=16_000)
    assert inputs["input_features_mask"].all()
    torch.testing.assert_close(
        inputs["input_features"], torch.full((1, 4, 96, 64), float(np.log(0.01)))
    )


def test_white_space_is_tidied(processor):
    expected, answer = processor(text="the red circle"), processor(text="  the  red\n circle ")
    assert expected["input_ids"].tolist() == answer["input_ids"].tolist()


def test_a_sentence_too_long_is_cut_with_a_warning(processor, caplog):
    logging.getLogger("transformers").propagate = True
    inputs = processor(text=["the red circle " * 20, "the red circle"])
    assert inputs["input_ids"].shape == (2, 25)
    assert inputs["input_ids"][0, -1] == processor.tokenizer.eos_token_id
    assert caplog.text.count("cut to 25 tokens") == 1


def test_text_alone_has_no_clip(processor):
    assert set(processor(text=SENTENCES)) == {"input_ids", "attention_mask"}


def test_the_callers_arrays_are_left_as_they_were(processor, clip):
    frames, audio = [frame.copy() for frame in clip["frames"]], clip["audio"].copy()
    processor(text=SENTENCES, **clip)
    assert all(
        (before == after).all() for before, after in zip(frames, clip["frames"], strict=True)
    )
    assert (audio == clip["audio"]).all()


def test_masks_come_back_at_the_videos_size(processor):
    logits = torch.full((2, 3, 24, 24), -4.0)
    logits[0, :, :12, :6] = 4.0
    masks = processor.post_process_masks(SimpleNamespace(mask_logits=logits), (120, 160))
    assert [mask.shape for mask in masks] == [(3, 120, 160)] * 2
    assert masks[0].dtype == bool
    assert masks[0][:, :56, :36].all()
    assert not masks[0][:, 64:].any()
    assert not masks[0][:, :, 44:].any()
    assert not masks[1].any()


def test_the_threshold_is_a_probability_and_sizes_may_differ(processor):
    outputs = SimpleNamespace(
        mask_logits=torch.logit(torch.tensor([0.3, 0.6])).reshape(2, 1, 1, 1).expand(2, 1, 8, 8)
    )
    shares = {
        level: [m.mean() for m in processor.post_process_masks(outputs, (9, 7), level)]
        for level in (0.2, 0.5, 0.7)
    }
    assert shares == {0.2: [1, 1], 0.5: [0, 1], 0.7: [0, 0]}
    first, second = processor.post_process_masks(outputs, [(9, 7), (30, 20)])
    assert (first.shape, second.shape) == ((1, 9, 7), (1, 30, 20))


def test_it_is_saved_and_loaded(processor, clip, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = RefAVSProcessor.from_pretrained(tmp_path)
    assert loaded.max_text_length == 25
    expected, answer = processor(text=SENTENCES, **clip), loaded(text=SENTENCES, **clip)
    for name, value in expected.items():
        assert torch.equal(answer[name], value), name


def test_it_is_made_from_backbones(processor, clip, tmp_path):
    Mask2FormerImageProcessorPil(
        size={"shortest_edge": 640}, image_mean=[0.4, 0.5, 0.6]
    ).save_pretrained(tmp_path / "m2f")
    processor.tokenizer.save_pretrained(tmp_path / "roberta")
    made = RefAVSProcessor.from_backbones(
        tmp_path / "m2f", tmp_path / "roberta", image_size=96, max_text_length=7
    )
    inputs = made(text=SENTENCES, **clip)
    assert inputs["pixel_values"].shape == (1, 4, 3, 96, 96)
    assert inputs["input_ids"].shape == (4, 7)
    black = made(frames=np.zeros((8, 8, 3), np.uint8))["pixel_values"][0, 0, :, 0, 0]
    torch.testing.assert_close(
        black, -torch.tensor([0.4, 0.5, 0.6]) / torch.tensor([0.229, 0.224, 0.225])
    )
    with pytest.raises(ValueError, match="image_size must be a multiple of 32"):  # else padded
        RefAVSProcessor.from_backbones(tmp_path / "m2f", tmp_path / "roberta", image_size=72)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "nothing to process"),
        ({"text": ""}, "sentence 0 is empty"),
        ({"text": ["the red circle", " \t"]}, "sentence 1 is empty"),
        ({"text": []}, "no sentence was given"),
        ({"text": [3]}, "must be a string, got int"),
        ({"text": "a", "frames": []}, "clip 0 has no frame"),
        ({"text": "a", "frames": [np.zeros((8, 8, 7), np.uint8)]}, "a frame must be"),
        ({"text": "a", "frames": [np.zeros((8, 8, 3), np.int32)]}, "got int32"),
        ({"text": "a", "frames": [np.full((8, 8, 3), 200.0)]}, "divide by 255"),
        ({"text": "a", "frames": [np.full((8, 8, 3), np.nan)]}, "divide by 255"),
        (
            {"text": ["a", "b", "c"], "frames": [[np.zeros((8, 8, 3), np.uint8)]] * 2},
            "each of 2 clips: got 3",
        ),
        (
            {"text": "a", "frames": [np.zeros((8, 8, 3), np.uint8)], "audio": np.zeros(99)},
            "sampling_rate must be given",
        ),
        (
            {"text": ["a", "b"], "frames": [[np.zeros((8, 8, 3), np.uint8)]] * 2, "audio": [None]},
            "each of 2 clips, got 1",
        ),
        (
            {
                "text": "a",
                "frames": [np.zeros((8, 8, 3), np.uint8)],
                "audio": np.array([np.nan]),
                "sampling_rate": 16_000,
            },
            "NaN",
        ),
    ],
)
def test_bad_input_is_refused(processor, arguments, words):
    with pytest.raises(ValueError, match=words):
        processor(**arguments)


@pytest.mark.parametrize("shape", [(0, 0, 3), (0, 64, 3), (3, 48, 0)])
def test_a_frame_without_pixels_is_refused(processor, shape):
    with pytest.raises(ValueError, match="a frame must have pixels"):
        processor(text="the red circle", frames=[np.zeros(shape, np.uint8)])


@pytest.mark.parametrize("rate", [1, 16, 44.1, 0, -16000, float("nan"), None])
def test_a_rate_that_is_not_in_hertz_is_refused(processor, rate):
    """Resampled from 1 Hz, ten seconds would fill 6 GB."""
    frame = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="must be given in Hz, at least 1000"):
        processor(text="a", frames=[frame], audio=np.zeros(160_000), sampling_rate=rate)


def test_a_warning_does_not_print_a_whole_book(processor, caplog):
    with caplog.at_level("WARNING"):
        processor(text="the red circle " * 10_000)
    assert "cut to 25 tokens from" in caplog.text
    assert len(caplog.text) < 500


def test_videos_is_another_name_of_frames(processor, clip):
    expected = processor(frames=clip["frames"])
    torch.testing.assert_close(dict(processor(videos=clip["frames"])), dict(expected))
    with pytest.raises(ValueError, match="two names of one argument"):
        processor(frames=clip["frames"], videos=clip["frames"])


@pytest.mark.parametrize(
    "keywords",
    [
        {"max_length": 6, "padding": "max_length"},
        {"text_kwargs": {"max_length": 6, "padding": "max_length"}},
    ],
    ids=["alone", "of a part"],
)
def test_keywords_reach_the_tokenizer(processor, keywords):
    assert processor(text=SENTENCES, **keywords)["input_ids"].shape == (4, 6)
    short = processor(text="the", **keywords)
    assert short["input_ids"].shape == (1, 6)
    assert short["attention_mask"].sum() < 6


def test_keywords_reach_the_image_processor_and_the_feature_extractor(processor, clip):
    plain = processor(frames=clip["frames"], images_kwargs={"do_normalize": False})
    assert plain["pixel_values"].min() >= 0
    usual = processor(**clip)
    given = {"frames": clip["frames"], "audio": clip["audio"]}
    unified = processor(**given, audio_kwargs={"sampling_rate": 16_000})
    torch.testing.assert_close(unified["input_features"], usual["input_features"])


def test_common_keywords_reach_all(processor, clip):
    inputs = processor(text=SENTENCES, **clip, common_kwargs={"return_tensors": "np"})
    assert all(isinstance(value, np.ndarray) for value in inputs.values())


def test_a_misspelt_keyword_is_refused(processor):
    with pytest.raises(TypeError, match="max_lenght"):
        processor(text="the dog", max_lenght=3)


def test_sound_alone_gives_an_example_a_second(processor, clip):
    inputs = processor(audio=clip["audio"], sampling_rate=16_000)
    assert set(inputs) == {"input_features", "input_features_mask"}
    torch.testing.assert_close(inputs["input_features"], processor(**clip)["input_features"])
    two = processor(audio=[clip["audio"][:16_000], clip["audio"]], sampling_rate=16_000)
    assert two["input_features"].shape == (2, 4, 96, 64)
    assert two["input_features_mask"].any(-1).sum(-1).tolist() == [1, 4]
