"""What the methods of Table 3 have in common: EEMC's inputs, outputs and encoders."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, Mask2FormerModel

from modeling_refavs import RefAVSStream
from modeling_refavs.deformable_attention import RefAVSDeformableAttention
from modeling_refavs.inference.segment import segment_video
from modeling_refavs.pipeline_refavs import RefAVSPipeline
from tests.conftest import SENTENCES, make_config
from tests.refavs.baseline_kit import BASELINES, baseline_config, make_baseline


NAMES = list(BASELINES)
EACH = pytest.mark.parametrize("name", NAMES)
ENCODERS = ("vision_encoder.", "text_encoder.", "audio_encoder.")


@pytest.fixture(scope="module")
def models():
    return {name: make_baseline(name) for name in NAMES}


@pytest.fixture(scope="module")
def inputs(processor, clip):
    return dict(processor(text=SENTENCES, **clip))


@torch.no_grad()
def ask(model, inputs):
    return model(**inputs).mask_logits


def assert_alike(found, expected):
    """To rounding: logits of these weights are in the thousands."""
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-5 * expected.abs().max().item())


# Published heads, dead modules left out and counted: AVSegFormer's `fpn` and `attn_fc`, and the
# unit of TPAVI's coarsest level that nothing passes through.
SWIN, PVT = [128, 256, 512, 1024], [64, 128, 320, 512]
HEADS = [
    ("avsegformer", PVT, 32_436_288, 2_102_208),
    ("avsegformer", SWIN, 32_665_664, 2_102_208),
    ("referformer", SWIN, 25_310_847, 0),
    ("tpavi", PVT, 19_877_569, 1_180_160),
]


@pytest.mark.parametrize("name", ["avsegformer", "tpavi"])
def test_the_mask_head_can_be_narrower_and_enlarge_less(name, models, inputs):
    def channels(model):
        return [part.out_channels for part in model.mask_head if hasattr(part, "out_channels")]

    small = make_baseline(name, mask_head_size=8, upsampling=1)
    assert (channels(small), channels(models[name])) == ([8, 2, 1], [128, 32, 1])
    height, width = ask(small, inputs).shape[-2:]
    assert ask(models[name], inputs).shape[-2:] == (2 * height, 2 * width)


@pytest.mark.parametrize(("name", "channels", "published", "dead"), HEADS)
def test_heads_have_as_many_parameters_as_the_published_ones(name, channels, published, dead):
    kind, _ = BASELINES[name]
    vision = {
        "model_type": "pvt_v2",
        "hidden_sizes": channels,
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 4, 8],
    }
    added = {"use_audio": False} if name == "referformer" else {"use_text": False}
    text = {"hidden_size": 768, "num_hidden_layers": 1, "vocab_size": 50}
    config = kind.config_class(vision_config=vision, text_config=text, **added)
    with torch.device("meta"):
        model = kind(config)
    head = sum(
        parameter.numel()
        for part, parameter in model.named_parameters()
        if not part.startswith(ENCODERS)
    )
    if name == "avsegformer":  # published outside of the head
        head -= 128 * 256 + 256
    assert head + dead == published


@EACH
def test_shapes_and_names(name, models, inputs):
    outputs = models[name](**inputs)
    assert outputs.mask_logits.shape[:2] == (4, 4)
    assert outputs.presence_logits.shape == (4, 4)
    assert outputs.memory is None
    assert outputs.loss is None
    assert not torch.allclose(outputs.mask_logits[0], outputs.mask_logits[1], atol=1e-2)


@EACH
def test_one_sentence_at_a_time(name, models, processor, clip, inputs):
    expected = ask(models[name], inputs)
    for row, sentence in enumerate(SENTENCES[:2]):
        alone = ask(models[name], processor(text=sentence, **clip))
        assert_alike(alone[0], expected[row])


@EACH
def test_padding_of_words_and_frames_changes_nothing(name, models, inputs):
    expected = ask(models[name], inputs)
    padded = {
        **inputs,
        "input_ids": torch.nn.functional.pad(inputs["input_ids"], (0, 3), value=1),
        "attention_mask": torch.nn.functional.pad(inputs["attention_mask"], (0, 3)),
        "pixel_values": torch.cat([inputs["pixel_values"], torch.randn(1, 2, 3, 96, 96)], dim=1),
        "frame_mask": torch.nn.functional.pad(inputs["frame_mask"], (0, 2)),
        "input_features": torch.cat([inputs["input_features"], torch.randn(1, 2, 96, 64)], dim=1),
        "input_features_mask": torch.nn.functional.pad(inputs["input_features_mask"], (0, 0, 0, 2)),
    }
    found = models[name](**padded)
    assert_alike(found.mask_logits[:, :4], expected)
    assert (found.mask_logits[:, 4:] < -1e30).all()
    assert (found.presence_logits[:, 4:] < -1e30).all()


@EACH
def test_a_batch_of_two_clips_is_two_clips_of_one(name, models, processor, clip):
    frames = [np.flipud(frame).copy() for frame in clip["frames"]]
    clips = [clip, {**clip, "frames": frames, "audio": clip["audio"][::-1].copy()}]
    both = processor(
        text=[SENTENCES[:2], SENTENCES[2:3]],
        frames=[part["frames"] for part in clips],
        audio=[part["audio"] for part in clips],
        sampling_rate=16_000,
    )
    expected = [
        ask(models[name], processor(text=text, **part))
        for text, part in zip((SENTENCES[:2], SENTENCES[2:3]), clips, strict=True)
    ]
    assert_alike(ask(models[name], both), torch.cat(expected))


@EACH
@torch.no_grad()
def test_what_was_computed_before_stands_in(name, models, inputs):
    model = models[name]
    expected = ask(model, inputs)
    clips = model.encode_clips(
        **{key: inputs[key] for key in inputs if key.startswith(("pixel", "input_f", "frame"))}
    )
    texts = {key: inputs[key] for key in ("input_ids", "attention_mask", "clip_index")}
    assert_alike(model.segment(clips, **texts).mask_logits, expected)
    stages = model._encode_frames(inputs["pixel_values"])
    words, _ = model.encode_text(inputs["input_ids"], inputs["attention_mask"])
    others = {
        key: value
        for key, value in inputs.items()
        if key not in ("pixel_values", "input_ids", "input_features")
    }
    found = model(
        vision_features=stages,
        text_features=words,
        audio_features=clips.audio_features,
        **others,
    )
    assert_alike(found.mask_logits, expected)


@EACH
def test_steps_that_are_not_wanted_are_not_seen(name, models, inputs):
    steps = torch.tensor([1, 3])
    clip_inputs = ("pixel_values", "input_features", "input_features_mask", "frame_mask")
    few = {**inputs, **{key: inputs[key][:, steps] for key in clip_inputs}}
    found = ask(models[name], {**inputs, "step_index": steps})
    assert_alike(found, ask(models[name], few))


@EACH
def test_the_added_modality_can_be_left_out(name, inputs):
    added, own = ("audio", "text") if name == "referformer" else ("text", "audio")
    model = make_baseline(name, **{f"use_{added}": False})
    assert getattr(model, f"{added}_encoder") is None
    assert getattr(model, f"{added}_projection") is None
    expected = ask(model, inputs)
    if added == "text":
        assert_alike(expected[1:], expected[:1].expand_as(expected[1:]))
        changed = {**inputs, "input_ids": inputs["input_ids"].flip(0)}
    else:
        changed = {**inputs, "input_features": torch.randn_like(inputs["input_features"])}
    assert_alike(ask(model, changed), expected)
    with pytest.raises(ValueError, match=f"use_{own} cannot be off: {own} is this method's own"):
        baseline_config(name, **{f"use_{own}": False})


@EACH
def test_sound_and_sentence_matter(name, models, inputs):
    expected = ask(models[name], inputs)
    for changed in (
        {"input_features": inputs["input_features"].roll(1, dims=1)},
        {"input_ids": inputs["input_ids"].flip(0)},
    ):
        assert not torch.allclose(ask(models[name], {**inputs, **changed}), expected, atol=1e-3)


@EACH
def test_no_sound_is_the_same_however_it_is_said(name, models, processor, clip, inputs):
    silent = processor(text=SENTENCES, frames=clip["frames"])
    expected = ask(models[name], silent)
    marked = {**inputs, "input_features_mask": torch.zeros_like(inputs["input_features_mask"])}
    assert_alike(ask(models[name], marked), expected)
    without = {key: value for key, value in silent.items() if not key.startswith("input_features")}
    assert_alike(ask(models[name], without), expected)


@EACH
def test_what_is_frozen_and_what_learns(name, inputs):
    model = make_baseline(name).train()
    labels = torch.zeros(4, 4, 96, 96)
    labels[:3, :, 20:60, 10:50] = 1
    outputs = model(**inputs, mask_labels=labels)
    assert set(outputs.loss_parts) == set(model.loss_names)
    assert sum(outputs.loss_parts.values()).item() == pytest.approx(outputs.loss.item(), rel=1e-5)
    outputs.loss.backward()
    for part, parameter in model.named_parameters():
        assert (parameter.grad is None) == part.startswith(ENCODERS), part
        assert parameter.requires_grad == (not part.startswith(ENCODERS))
    assert not model.vision_encoder.training
    other = BASELINES[name][0](baseline_config(name, freeze_text_encoder=False)).train()
    assert other.text_encoder.training


@EACH
def test_frames_that_are_padding_are_not_learned_from(name, models, inputs):
    labels = (torch.rand(4, 4, 24, 24) > 0.8).float()
    frame_mask = torch.ones(1, 4)
    frame_mask[:, 3:] = 0
    marked = {**inputs, "frame_mask": frame_mask}
    with torch.no_grad():
        losses = []
        for value in (0.0, 1.0):
            labels[:, 3] = value
            losses.append(models[name](**marked, mask_labels=labels).loss)
    torch.testing.assert_close(*losses)


@EACH
def test_checkpointing_changes_no_gradient(name, inputs):
    labels = torch.zeros(4, 4, 24, 24)
    labels[..., 6:18, 4:12] = 1
    inputs = {
        key: value.double() if value.is_floating_point() else value for key, value in inputs.items()
    }
    found = []
    for checkpoints in (False, True):
        model = make_baseline(name).double().train()
        if checkpoints:
            model.activation_checkpointing_enable({"use_reentrant": False})
        model(**inputs, mask_labels=labels).loss.backward()
        found.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
    for key, gradient in found[0].items():
        torch.testing.assert_close(found[1][key], gradient, msg=key)


@EACH
def test_bfloat16(name, models, inputs, tmp_path):
    models[name].save_pretrained(tmp_path)
    half = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    halves = {
        key: value.bfloat16() if value.is_floating_point() else value
        for key, value in inputs.items()
    }
    labels = (torch.rand(4, 4, 24, 24) > 0.8).float()
    outputs = half(**halves, mask_labels=labels)
    assert outputs.mask_logits.dtype == torch.bfloat16
    assert torch.isfinite(outputs.loss)
    exact = models[name](**inputs, mask_labels=labels).loss
    assert outputs.loss.item() == pytest.approx(exact.item(), rel=0.2)


@EACH
def test_deformable_attention_starts_on_a_ring(name):
    model = BASELINES[name][0](baseline_config(name))
    for module in model.modules():
        if isinstance(module, RefAVSDeformableAttention):
            offsets = module.sampling_offsets.bias.view(4, module.n_levels, 4, 2)
            assert not module.sampling_offsets.weight.any()
            expected = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(4, module.n_levels, 4)
            torch.testing.assert_close(offsets.abs().amax(-1), expected)


CLEAN_ROOM = """
import sys

sys.modules |= dict.fromkeys(["modeling_refavs", "dataset_script", "scipy", "av"])
import torch
from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline

trust = {"trust_remote_code": True}
AutoConfig.from_pretrained("saved", **trust)
processor = AutoProcessor.from_pretrained("saved", **trust)
model = AutoModel.from_pretrained("saved", **trust)
assert type(model).__module__.startswith("transformers_modules")
expected = torch.load("expected.pt", weights_only=False)
with torch.no_grad():
    outputs = model(**processor(text=expected["text"], **expected["clip"]))
close = 2e-5 * expected["mask_logits"].abs().max().item()
torch.testing.assert_close(outputs.mask_logits, expected["mask_logits"], atol=close, rtol=1e-3)
pipe = pipeline("referring-audio-visual-segmentation", model="saved", **trust)
answers = pipe(expected["clip"], text=expected["text"])
assert [answer["masks"].shape for answer in answers] == [(4, 120, 160)] * 4
"""


@EACH
def test_saved_it_answers_alike_here_and_where_nothing_is_installed(
    name, models, processor, clip, inputs, tmp_path
):
    models[name].save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    expected = ask(models[name], inputs)
    again = AutoModel.from_pretrained(tmp_path / "saved")
    assert type(again) is type(models[name])
    assert type(AutoConfig.from_pretrained(tmp_path / "saved")) is type(again.config)
    assert_alike(ask(again.eval(), inputs), expected)
    torch.save({"text": SENTENCES, "clip": clip, "mask_logits": expected}, tmp_path / "expected.pt")
    subprocess.run([sys.executable, "-c", CLEAN_ROOM], cwd=tmp_path, check=True)


@EACH
def test_the_pipeline_answers_alike(name, models, processor, clip, inputs):
    model = models[name]
    answers = RefAVSPipeline(model=model, processor=processor)(clip, text=SENTENCES)
    masks = processor.post_process_masks(model(**inputs), (120, 160))
    for answer, mask in zip(answers, masks, strict=True):
        assert (answer["masks"] == mask).mean() > 0.9999
    with pytest.raises(ValueError, match="a stream needs a model of type refavs"):
        RefAVSStream(model, processor, SENTENCES)


@EACH
@pytest.mark.parametrize("source", ["vision", "mask2former"])
def test_from_backbones_every_weight_arrives(name, source, models, tmp_path):
    kind, sizes = BASELINES[name]
    saved, ours = models[name], make_config()
    if source == "vision":
        saved.vision_encoder.save_pretrained(tmp_path / "vision")
    else:
        pretrained = Mask2FormerModel(ours.mask2former_config)
        pretrained.pixel_level_module.encoder.load_state_dict(saved.vision_encoder.state_dict())
        pretrained.save_pretrained(tmp_path / "mask2former")
    saved.text_encoder.save_pretrained(tmp_path / "text")
    saved.audio_encoder.save_pretrained(tmp_path / "audio")
    model = kind.from_backbones(
        **{source: tmp_path / source},
        text_model=tmp_path / "text",
        audio_model=tmp_path / "audio",
        hidden_size=32,
        num_attention_heads=4,
        **sizes,
    )
    for part in ENCODERS:
        expected = getattr(saved, part[:-1]).state_dict()
        for key, value in getattr(model, part[:-1]).state_dict().items():
            torch.testing.assert_close(value, expected[key], msg=key)
    assert not model.training
    with pytest.raises(ValueError, match="pass vision, or mask2former, whose backbone is taken"):
        kind.from_backbones(text_model="text", audio_model="audio")


VISIONS = {
    "pvt_v2": {"model_type": "pvt_v2", "hidden_sizes": [8, 16, 40, 64], "depths": [1, 1, 1, 1]},
    "efficientnet_lite": {"model_type": "refavs_efficientnet_lite"},
    "dinov2": {
        "model_type": "dinov2",
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 96,
        "patch_size": 16,
    },
}


@EACH
@pytest.mark.parametrize("vision", VISIONS)
def test_any_backbone(name, vision, inputs):
    model = make_baseline(name, vision_config=VISIONS[vision])
    assert torch.isfinite(ask(model, inputs)).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pixel_values": None}, "frames are needed"),
        ({"pixel_values": torch.zeros(4, 3, 96, 96)}, "pixel_values must be"),
        ({"input_ids": None, "attention_mask": None}, "a sentence is needed"),
        ({"frame_features": torch.zeros(1, 4, 128, 3, 3)}, "leave out cache_cues"),
        ({"mask_labels": torch.zeros(4, 3, 24, 24)}, "mask_labels must be"),
        ({"input_features": torch.zeros(1, 3, 96, 64)}, "each frame needs one second of sound"),
    ],
)
def test_bad_input_is_refused(models, inputs, changes, words):
    with pytest.raises(ValueError, match=words):
        models["tpavi"](**{**inputs, **changes})


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("tpavi", {"hidden_size": 40}, "hidden_size must be a multiple"),
        ("tpavi", {"sentence_poling": "mean"}, "did you mean `sentence_pooling`"),
        ("tpavi", {"sentence_pooling": "last"}, "sentence_pooling"),
        ("avsegformer", {"loss": "focal"}, "loss"),
        ("referformer", {"num_feature_levels": 2}, "num_feature_levels must be at least 3"),
    ],
)
def test_bad_configurations_are_refused(name, fields, words):
    with pytest.raises(Exception, match=words):
        baseline_config(name, **fields)


def test_a_video_at_one_frame_a_second(models, processor):
    video = Path(__file__).parents[2] / "spaces_demo/examples/bell_first.mp4"
    with pytest.raises(ValueError, match="a refavs_tpavi needs rate=1"):
        segment_video(models["tpavi"], processor, video, SENTENCES[:1], rate=2)
    answer = segment_video(models["tpavi"], processor, video, SENTENCES[:1])
    assert answer.presence.shape == (1, answer.num_steps)
