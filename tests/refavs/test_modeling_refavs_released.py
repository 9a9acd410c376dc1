"""The released model answers as the released code does, and no clip's answer depends on another
unless it is asked to."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainingArguments

from modeling_refavs import RefAVSReleasedConfig, RefAVSReleasedForSegmentation
from modeling_refavs.hub.convert import convert_released_checkpoint
from modeling_refavs.inference.segment import segment_video
from modeling_refavs.modeling_refavs_released import TRAINED, fill_up, read_out, set_off
from modeling_refavs.video_refavs import read_steps
from tests.conftest import SENTENCES, make_released_model
from tests.media_kit import tone, write_clip
from tests.refavs.golden.fill import fill_state_dict, make_inputs


__all__ = ["write_clip"]  # fixture

GOLDEN = Path(__file__).parent / "golden"
NAMES = ("mask_logits", "presence_logits", "masks_queries_logits", "class_queries_logits")


# Against the released code


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A checkpoint in the released form, converted and loaded."""
    folder = tmp_path_factory.mktemp("released")
    shapes = json.loads((GOLDEN / "tiny_shapes.json").read_text())
    torch.save(fill_state_dict(shapes, seed=1), folder / "tiny.pth")
    convert_released_checkpoint(folder / "tiny.pth", folder / "converted")
    return RefAVSReleasedForSegmentation.from_pretrained(folder / "converted")


@pytest.fixture(scope="module")
def captured(released):
    """Outputs of inner modules, by name, and inputs of `mha_mm`: filled by whatever runs last."""
    outputs = {}
    mask2former = released.mask2former
    modules = {
        "swin": mask2former.pixel_level_module.encoder,
        "pixel decoder": mask2former.pixel_level_module.decoder.encoder,
        "catf": mask2former.transformer_module.ref_avs_attn,
        **{
            name: getattr(released, name)
            for name in ("audio_proj", "text_proj", "mha_A_T", "mha_V_T")
        },
    }
    for name, module in modules.items():
        module.register_forward_hook(
            lambda _, args, output, name=name: outputs.update({name: output})
        )
    released.mha_mm.register_forward_hook(
        lambda _, args, output: outputs.update({"mha_mm in": args[0], "mha_mm out": output[0]})
    )
    return outputs


@pytest.fixture(scope="module")
def two_clips():
    return make_inputs(seed=1, clips=2)


@pytest.fixture(scope="module")
def clip_features(released, captured, two_clips):
    with torch.no_grad():
        return released.encode_clips(
            two_clips["pixel_values"], audio_features=two_clips["audio_features"]
        )


def near(ours, golden, limit):
    error = np.linalg.norm(np.asarray(ours, dtype=np.float64) - golden) / np.linalg.norm(golden)
    assert error <= limit, f"{error:.1e}"


def near_sample(tensor, golden, limit):
    """`golden` is a tensor's mean, deviation and first 64 values."""
    values = tensor.double().flatten()
    near(values[:64], golden[2:], limit)
    near(values.std(correction=0), golden[1], limit)
    assert abs(values.mean() - golden[0]) <= limit * golden[1]


@torch.no_grad()
def test_one_clip_is_answered_as_the_released_code_does(
    released, captured, clip_features, two_clips
):
    golden = np.load(GOLDEN / "one_clip.npz")
    answer = released.segment(
        clip_features,
        clip_index=torch.tensor([0]),
        text_features=two_clips["text_features"][:1],
        mask_labels=make_inputs(seed=1, clips=1)["mask_labels"],
    )
    near(answer.mask_logits[0, :, ::4, ::4], golden["pred_every_4th"], 1e-4)
    assert answer.loss.item() == pytest.approx(float(golden["loss"]), rel=1e-5)
    near(
        answer.masks_queries_logits[0, 0, :4, ::4, ::4],
        golden["masks_queries_logits_every_4th"],
        1e-4,
    )
    classes = np.abs(answer.class_queries_logits[0].numpy() - golden["class_logits_first_and_last"])
    assert np.quantile(classes, 0.99) < 1e-3  # single ones may flip with an attention mask
    cues = answer.cue_hidden_states[0]
    near(cues[:2, :8], golden["batch_prompt_emb_f0f1_t0to7"], 1e-5)
    near(cues[0, 11:19], golden["batch_prompt_emb_f0_t11to18_visual"], 1e-5)
    near(cues[0, 156:164], golden["batch_prompt_emb_f0_t156to163_text"], 1e-5)

    cues_in, cues_out = (captured[name].view(10, 181, -1) for name in ("mha_mm in", "mha_mm out"))
    inner = {
        **{
            f"swin_stage{n}_pass1": level[:10]
            for n, level in enumerate(captured["swin"].feature_maps, start=1)
        },
        "pixdec_encoder_pass1": captured["pixel decoder"].last_hidden_state[:10],
        **{
            f"pixdec_ms{n}_pass1": level[0]
            for n, level in enumerate(clip_features.multi_scale_features)
        },
        "pixdec_mask_features_pass1": clip_features.mask_features[0],
        "audio_proj_out": captured["audio_proj"],
        "text_proj_out": captured["text_proj"],
        "mha_A_T_out": captured["mha_A_T"][0],
        "mha_V_T_out": captured["mha_V_T"][0],
        "mha_mm_in_f0": cues_in[0],
        "mha_mm_out_f0": cues_out[0],
        "mha_mm_out_f1": cues_out[1],
        "batch_prompt_emb": cues,
        "ref_avs_attn_out": captured["catf"].transpose(0, 1),  # released: (queries, steps, D)
    }
    assert {f"loc_{name}" for name in inner} == {name for name in golden if name.startswith("loc_")}
    for name, tensor in inner.items():
        near_sample(tensor, golden[f"loc_{name}"], 1e-5)


@torch.no_grad()
def test_a_batch_of_two_is_answered_as_the_released_code_does(
    released, clip_features, two_clips, monkeypatch
):
    golden = np.load(GOLDEN / "two_clips.npz")
    monkeypatch.setattr(released.config, "attend_across_clips", True)
    text = {name: two_clips[name] for name in ("text_features", "mask_labels")}
    answer = released.segment(clip_features, **text)
    near(answer.mask_logits.flatten(0, 1)[:, ::8, ::8], golden["pred_every_8th"], 1e-4)
    assert answer.loss.item() == pytest.approx(float(golden["loss"]), rel=1e-5)
    near(answer.cue_hidden_states[1, 0, :8], golden["batch_prompt_emb_clip1_f0_t0to7"], 1e-5)
    near_sample(answer.cue_hidden_states, golden["loc_batch_prompt_emb"], 1e-5)


# The same question asked in two ways


@pytest.fixture(scope="module")
def model():
    """Small, and in double precision."""
    return make_released_model().double()


@pytest.fixture(scope="module")
def inputs(processor, clip):
    """All sentences on one clip of four seconds."""
    return processor(text=SENTENCES, **clip)


@pytest.fixture(scope="module")
def outputs(model, inputs):
    return ask(model, inputs)


@torch.no_grad()
def ask(model, inputs, **changes):
    inputs = {**inputs, **changes}
    floats = {name: value.to(model.dtype) for name, value in inputs.items() if is_float(value)}
    return model(**{**inputs, **floats})


def is_float(value):
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def same(ours, theirs, rows=slice(None), frames=slice(None)):
    for name in NAMES:
        torch.testing.assert_close(
            getattr(ours, name), getattr(theirs, name)[rows, frames], atol=1e-9, rtol=1e-9
        )


def test_shapes(outputs):
    assert outputs.mask_logits.shape == (4, 4, 256, 256)
    assert outputs.presence_logits.shape == (4, 4)
    assert outputs.masks_queries_logits.shape == (4, 4, 10, 24, 24)
    assert outputs.class_queries_logits.shape == (4, 4, 10, 2)
    assert outputs.cue_hidden_states.shape == (4, 4, 10 + 1 + 9 + 1 + 25, 32)
    assert outputs.loss is None
    for other in (1, 2, 3):  # else the tests below would hold for a model that ignores its sentence
        assert (outputs.mask_logits[0] - outputs.mask_logits[other]).abs().max() > 0.05


def test_one_sentence_at_a_time(model, processor, clip, outputs):
    for index, sentence in enumerate(SENTENCES):
        same(ask(model, processor(text=sentence, **clip)), outputs, rows=slice(index, index + 1))


@pytest.mark.parametrize("attend_across_clips", [False, True])
def test_a_batch_of_two_clips_is_two_clips_of_one(
    model, processor, clip, attend_across_clips, monkeypatch
):
    """Unless they attend to one another, as they do in the released code. The shorter clip goes on
    with its last step."""
    monkeypatch.setattr(model.config, "attend_across_clips", attend_across_clips)
    short = {"frames": clip["frames"][::-1][:2], "audio": clip["audio"][::-1][:32_000].copy()}
    batch = processor(
        text=[SENTENCES[:2], SENTENCES[2:]],
        frames=[short["frames"], clip["frames"]],
        audio=[short["audio"], clip["audio"]],
        sampling_rate=16_000,
    )
    together = ask(model, batch)
    first = ask(model, processor(text=SENTENCES[:2], sampling_rate=16_000, **short))
    second = ask(model, processor(text=SENTENCES[2:], **clip))
    if attend_across_clips:
        assert not torch.allclose(first.mask_logits, together.mask_logits[:2, :2], atol=1e-3)
        return
    same(first, together, slice(0, 2), slice(0, 2))
    same(second, together, slice(2, 4))
    assert (together.mask_logits[:2, 2:].sigmoid() == 0).all()


def test_a_short_clip_goes_on_with_its_last_step(model, inputs, outputs):
    longer = {
        name: inputs[name].clone() for name in ("pixel_values", "input_features", "frame_mask")
    }
    longer = {
        name: torch.cat([value, *[value[:, -1:]] * 6], dim=1) for name, value in longer.items()
    }
    same(outputs, ask(model, inputs, **longer, input_features_mask=None), frames=slice(0, 4))


def test_forward_is_encode_clips_and_then_segment(model, inputs, outputs):
    with torch.no_grad():
        clips = model.encode_clips(
            inputs["pixel_values"].double(), inputs["input_features"].double()
        )
        for index in range(4):
            text = {
                name: inputs[name][index : index + 1]
                for name in ("input_ids", "attention_mask", "clip_index")
            }
            same(model.segment(clips, **text), outputs, rows=slice(index, index + 1))


def test_mask2formers_first_half_runs_once_a_clip(model, inputs):
    rows = []
    hook = model.mask2former.pixel_level_module.register_forward_pre_hook(
        lambda _, args: rows.append(len(args[0]))
    )
    ask(model, inputs)
    hook.remove()
    assert rows == [4]  # four frames, not twice, and not for each of four sentences


def test_a_sentence_is_filled_up_to_25_tokens_that_are_all_attended_to(model, inputs, outputs):
    missing = (0, 25 - inputs["input_ids"].shape[1])
    input_ids = torch.nn.functional.pad(inputs["input_ids"], missing, value=1)
    attention_mask = torch.nn.functional.pad(inputs["attention_mask"], missing)
    same(ask(model, inputs, input_ids=input_ids, attention_mask=attention_mask), outputs)
    with torch.no_grad():
        text_features = model.text_encoder(
            input_ids, attention_mask=attention_mask
        ).last_hidden_state
    same(ask(model, inputs, text_features=text_features, input_ids=None), outputs)
    text_features[:, -1] += 1  # padding in every sentence
    assert not torch.allclose(
        ask(model, inputs, text_features=text_features).mask_logits, outputs.mask_logits, atol=1e-3
    )


def test_no_sound_is_silence(model, processor, clip, inputs):
    nothing = ask(model, inputs, input_features=None)
    same(nothing, ask(model, processor(text=SENTENCES, frames=clip["frames"])))
    assert not torch.allclose(nothing.mask_logits, ask(model, inputs).mask_logits, atol=1e-3)


def test_presence_is_the_highest_logit(outputs):
    torch.testing.assert_close(
        outputs.presence_logits, outputs.mask_logits.flatten(2).max(dim=-1).values
    )


def test_saved_and_loaded_it_answers_the_same(model, inputs, outputs, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = RefAVSReleasedForSegmentation.from_pretrained(tmp_path, dtype=torch.double)
    same(ask(loaded, inputs), outputs)
    assert trained_names(loaded) == trained_names(model)


def test_a_long_video_is_clips_of_ten_seconds_each_on_its_own(processor, write_clip):
    model = make_released_model()
    path = write_clip(times=tuple(np.arange(13)), end=13.0, sound=[(0.0, tone(13))])
    whole = segment_video(model, processor, path, SENTENCES[:2])
    assert whole.mask_logits.shape == (2, 13, 256, 256)
    rest = list(read_steps(path))[10:]
    audio = np.concatenate([step.audio for step in rest])
    inputs = processor(SENTENCES[:2], [step.frame for step in rest], audio, sampling_rate=16_000)
    half = {"rtol": 1e-3, "atol": 1e-3}  # what waits on disk
    torch.testing.assert_close(whole.mask_logits[:, 10:], ask(model, inputs).mask_logits, **half)
    with pytest.raises(ValueError, match="clips of 10 frames, got 13"):
        segment_video(model, processor, path, SENTENCES[:2], steps_per_chunk=20)


# Parts


def test_read_out_is_the_weighted_sum_of_raw_mask_logits():
    masks, classes = torch.randn(2, 5, 24, 24), torch.randn(2, 5, 2)
    weights = classes.exp()[..., 0] / classes.exp().sum(-1)
    resized = torch.nn.functional.interpolate(masks, size=(384, 384), mode="bilinear")
    summed = (weights[..., None, None] * resized).sum(dim=1, keepdim=True)
    expected = torch.nn.functional.interpolate(summed, size=(256, 256), mode="bilinear").squeeze(1)
    torch.testing.assert_close(read_out(masks, classes), expected, atol=1e-5, rtol=1e-5)


def test_set_off_counts_the_current_token():
    cues = torch.randn(2, 4, 3)
    expected = torch.stack([2 * cues[:, n] - cues[:, : n + 1].mean(dim=1) for n in range(4)], dim=1)
    torch.testing.assert_close(set_off(cues), expected)


def test_fill_up_repeats_the_last_real_step():
    steps = torch.tensor([[1, 2, 3], [4, 5, 0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]]).bool()
    assert fill_up(steps, mask, 5).tolist() == [[1, 2, 3, 3, 3], [4, 5, 5, 5, 5]]


# Training


def trained_names(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def square_labels(size=96):
    labels = torch.zeros(4, 4, size, size)
    labels[:3, :, size // 3 : size // 2, size // 4 : size // 2] = 1
    return labels


def test_only_what_the_released_code_trained_is_trained(inputs):
    model = make_released_model().train()
    names = trained_names(model)
    assert {part for part in TRAINED if any(part in name for name in names)} == set(TRAINED)
    assert not [name for name in names if not any(part in name for part in TRAINED)]
    assert not [name for name in names if "mha_" in name]
    model(**inputs, mask_labels=square_labels()).loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (name in names), name


def test_the_loss_is_bce_on_the_map_of_real_frames(model, inputs, outputs):
    labels = square_labels(256)
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    answer = ask(model, inputs, mask_labels=labels)
    torch.testing.assert_close(answer.loss, loss(outputs.mask_logits.float(), labels))
    twice = labels.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
    torch.testing.assert_close(ask(model, inputs, mask_labels=twice).loss, answer.loss)
    mask = torch.tensor([[1, 1, 1, 0]])
    answer = ask(model, inputs, mask_labels=labels, frame_mask=mask)
    torch.testing.assert_close(answer.loss, loss(answer.mask_logits[:, :3].float(), labels[:, :3]))


def test_train_mode_draws_nothing(inputs):
    model = make_released_model()
    calm = ask(model, inputs)
    torch.testing.assert_close(ask(model.train(), inputs).mask_logits, calm.mask_logits)


def test_trainer_lowers_the_loss_and_moves_nothing_else(inputs, tmp_path):
    model = make_released_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    example = {**inputs, "mask_labels": square_labels()}
    arguments = TrainingArguments(
        tmp_path,
        max_steps=4,
        learning_rate=1e-3,
        per_device_train_batch_size=1,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        remove_unused_columns=False,
        label_names=["mask_labels"],
        disable_tqdm=True,
    )
    trainer = Trainer(
        model, arguments, train_dataset=[example] * 4, data_collator=lambda examples: examples[0]
    )
    first = ask(model, example).loss.item()
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[0] == pytest.approx(first, rel=1e-3)
    assert losses[-1] < losses[0]
    moved = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == trained_names(model)


# Bad input


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pixel_values": torch.zeros(4, 3, 96, 96)}, "pixel_values must be"),
        ({"pixel_values": torch.zeros(1, 11, 3, 96, 96)}, "clips of 10 frames, got 11"),
        ({"clip_index": None}, "4 sentences on 1 clips: pass clip_index"),
        ({"input_ids": None}, "pass input_ids or text_features"),
        (
            {"input_ids": torch.zeros(4, 26, dtype=torch.long), "attention_mask": None},
            "25 tokens.* got 26",
        ),
        ({"text_features": torch.zeros(4, 9, 32)}, "25 tokens.* got 9"),
        ({"input_features": torch.zeros(1, 3, 96, 64)}, "each frame needs one second of sound"),
        ({"mask_labels": torch.zeros(4, 3, 96, 96)}, "mask_labels must be"),
    ],
)
def test_bad_input_is_refused(model, inputs, changes, words):
    with pytest.raises(ValueError, match=words):
        ask(model, inputs, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input_features": None}, "pass audio_features"),
        ({}, "pass audio_features"),
        ({"audio": True}, "text_features"),
    ],
)
def test_a_checkpoint_without_encoders_says_what_to_pass(inputs, changes, words):
    model = make_released_model(encoders=False).double()
    changes = {"audio_features": torch.zeros(1, 4, 128)} if "audio" in changes else changes
    with pytest.raises(ValueError, match=words):
        ask(model, inputs, **changes)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"attend_accross_clips": True}, "did you mean `attend_across_clips`"),
        ({"hidden_size": 512}, "last Swin stage's, 1024, got 512"),
        ({"num_attention_heads": 7}, "hidden_size must be a multiple"),
        (
            {"text_config": {"hidden_size": 512}},
            "text_feature_size must be the text encoder's, 512, got 768",
        ),
    ],
)
def test_a_bad_config_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        RefAVSReleasedConfig(**fields)
