"""Every family of encoders, tiny and random: forward, gradient, save and load, stream and clip."""

import numpy as np
import pytest
import torch
from transformers import (
    ASTFeatureExtractor,
    ClapFeatureExtractor,
    WhisperFeatureExtractor,
)

from modeling_refavs import RefAVSConfig, RefAVSFeatureExtractor, RefAVSForSegmentation
from modeling_refavs.configuration_refavs import RefAVSGroundingConfig
from modeling_refavs.streaming_refavs import RefAVSStream
from tests.conftest import IMAGE_SIZE, SENTENCES, VOCABULARY, make_config
from tests.refavs.test_auto import run_alone


NARROW = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 32}
VIT = {**NARROW, "image_size": IMAGE_SIZE, "num_hidden_layers": 4}
LITE = {"width_coefficient": 0.2, "stem_size": 8, "image_size": 32}
TINY_VIT = {
    "hidden_sizes": [8, 8, 16, 24],
    "depths": [1, 1, 1, 1],
    "num_heads": [0, 2, 2, 2],
    "window_sizes": [0, 2, 3, 2],
    "neck_size": 8,
}
PAIR = {
    "fine_config": {
        "model_type": "refavs_tiny_vit",
        **TINY_VIT,
        "out_features": ["stage1", "stage2", "neck"],
    },
    "coarse_config": {"model_type": "refavs_efficientnet_lite", **LITE},
}
VISION = {
    "swin": None,  # the test configuration's own
    "refavs_efficientnet_lite": LITE,
    "refavs_tiny_vit": TINY_VIT,
    "refavs_paired_backbone": PAIR,
    "convnext": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
    "resnet": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "embedding_size": 8},
    "pvt_v2": {
        "hidden_sizes": [8, 16, 24, 32],
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 1, 2, 2],
        "mlp_ratios": [2, 2, 2, 2],
    },
    "hiera": {
        "embed_dim": 8,
        "image_size": [IMAGE_SIZE, IMAGE_SIZE],
        "depths": [1, 1, 2, 1],
        "num_heads": [1, 1, 2, 2],
    },
    "dinov2": {**VIT, "patch_size": 14},
    "dinov3_vit": {**VIT, "patch_size": 16},
}
TEXT = {
    "roberta": None,
    "bert": {**NARROW, "vocab_size": VOCABULARY, "num_hidden_layers": 2},
    "t5": {"d_model": 24, "d_kv": 12, "d_ff": 32, "num_layers": 2, "vocab_size": VOCABULARY},
    "clip_text_model": {**NARROW, "vocab_size": VOCABULARY, "num_hidden_layers": 2},
}
SOUND = {
    "refavs_vggish": (None, None),
    "refavs_yamnet": (
        {"hidden_sizes": [4, 8, 8, 16], "strides": [2, 2, 2, 2]},
        RefAVSFeatureExtractor(log_offset=0.001),
    ),
    "audio-spectrogram-transformer": (
        {**NARROW, "num_hidden_layers": 1, "max_length": 104, "num_mel_bins": 32},
        ASTFeatureExtractor(num_mel_bins=32, max_length=104),
    ),
    "whisper": (
        {
            "d_model": 24,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "max_source_positions": 100,
        },
        WhisperFeatureExtractor(chunk_length=2),
    ),
    "clap_audio_model": (
        {
            "patch_embeds_hidden_size": 8,
            "hidden_size": 64,
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 1, 2, 2],
            "num_hidden_layers": 4,
            "enable_fusion": False,
        },
        ClapFeatureExtractor(truncation="rand_trunc", max_length_s=10),
    ),
}
FAMILIES = [
    *(("vision_config", name, fields, None) for name, fields in VISION.items()),
    *(("text_config", name, fields, None) for name, fields in TEXT.items()),
    *(("audio_config", name, fields, extractor) for name, (fields, extractor) in SOUND.items()),
]


@pytest.fixture(params=FAMILIES, ids=[f"{part}-{name}" for part, name, *_ in FAMILIES])
def family(request, processor):
    """A model with one encoder of the family, and its processor."""
    part, name, fields, extractor = request.param
    torch.manual_seed(0)
    changes = {} if fields is None else {part: {"model_type": name, **fields}}
    model = RefAVSForSegmentation(make_config(**changes)).eval()
    encoder = model.model.mask2former.pixel_level_module.encoder
    for module in encoder.modules():  # a random net of many layers would give almost nothing
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.fill_(0.5)
    if extractor is not None:
        processor = type(processor)(processor.image_processor, extractor, processor.tokenizer)
    return model, processor


@torch.no_grad()
def ask(model, inputs):
    return model(**inputs)


def test_it_answers_and_learns(family, clip):
    model, processor = family
    inputs = processor(text=SENTENCES[:2], **clip)
    steps = len(clip["frames"])
    outputs = model(**inputs, mask_labels=torch.ones(2, steps, 8, 8))
    assert outputs.mask_logits.shape[:2] == (2, steps)
    assert torch.isfinite(outputs.mask_logits).all()
    outputs.loss.backward()
    gradients = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    for name in ("visual", "audio", "text"):
        weight = gradients[f"model.cue_projection.{name}.weight"]
        assert torch.isfinite(weight).all()
    encoders = ("text_encoder.", "audio_encoder.", "pixel_level_module.encoder.")
    assert not any(part in name for name in gradients for part in encoders)  # they are frozen


def test_frames_and_sound_are_seen_and_heard(family, clip):
    model, processor = family
    inputs = processor(text=SENTENCES[:1], **clip)
    features = model.encode_clips(**{name: inputs[name] for name in CLIP_INPUTS})
    assert features.audio_features.std(dim=1).max() > 1e-6  # seconds differ
    assert features.frame_features.flatten(2).std(dim=1).max() > 1e-6


CLIP_INPUTS = ("pixel_values", "input_features", "input_features_mask", "frame_mask")


def test_what_is_saved_loads(family, clip, tmp_path):
    model, processor = family
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    inputs = processor(text=SENTENCES[:2], **clip)
    again = RefAVSForSegmentation.from_pretrained(tmp_path)
    processed = type(processor).from_pretrained(tmp_path)(text=SENTENCES[:2], **clip)
    for name, value in inputs.items():
        torch.testing.assert_close(processed[name], value)
    assert torch.equal(ask(again, inputs).mask_logits, ask(model, inputs).mask_logits)


def test_a_stream_gives_what_the_clip_gives(family, clip):
    model, processor = family
    whole = ask(model, processor(text=SENTENCES[:2], **clip))
    stream, rate = RefAVSStream(model, processor, SENTENCES[:2]), clip["sampling_rate"]
    for step, frame in enumerate(clip["frames"]):
        second = clip["audio"][..., step * rate : (step + 1) * rate]
        outputs = stream.step(frame, second, rate)
        torch.testing.assert_close(
            outputs.mask_logits, whole.mask_logits[:, step], atol=2e-4, rtol=2e-4
        )


def test_a_plain_transformer_gets_a_pyramid_and_its_maps_halve():
    model = RefAVSForSegmentation(
        make_config(vision_config={"model_type": "dinov3_vit", **VISION["dinov3_vit"]})
    ).eval()
    frames = torch.zeros(1, 1, 3, IMAGE_SIZE, IMAGE_SIZE)
    features = model.encode_clips(frames)
    side = IMAGE_SIZE // 16
    assert features.mask_features.shape[-2:] == (4 * side, 4 * side)
    sizes = [level.shape[-1] for level in features.multi_scale_features]
    assert sizes == [-(-side // 2), side, 2 * side]
    decoder = model.model.mask2former.pixel_level_module.decoder
    assert all(parameter.requires_grad for parameter in decoder.pyramid.parameters())


def test_what_cannot_be_an_encoder_is_refused_by_name():
    with pytest.raises(ValueError, match="text_config is of type resnet"):
        RefAVSForSegmentation(make_config(text_config={"model_type": "resnet"}))
    with pytest.raises(ValueError, match="audio_config is of type refavs_grounding"):
        RefAVSForSegmentation(make_config(audio_config=RefAVSGroundingConfig()))
    with pytest.raises(ValueError, match="must give 4 maps"):
        make_config(vision_config={"model_type": "dinov2", **VIT, "num_hidden_layers": 3})
    with pytest.raises(ValueError, match="pass mask2former, or vision"):
        RefAVSForSegmentation.from_backbones(text_model="t", audio_model="a")


def test_the_vision_encoder_has_one_name_in_the_configuration():
    config = RefAVSConfig(vision_config={"model_type": "resnet"})
    assert config.vision_config is config.mask2former_config.backbone_config
    assert config.vision_config.out_features == ["stage1", "stage2", "stage3", "stage4"]
    again = RefAVSConfig.from_dict(config.to_dict())
    assert again.vision_config.model_type == "resnet"
    assert again.to_dict() == config.to_dict()


def test_parts_of_any_type_come_together_from_their_folders(clip, processor, tmp_path):
    whole = RefAVSForSegmentation(
        make_config(
            vision_config={"model_type": "resnet", **VISION["resnet"]},
            text_config={"model_type": "bert", **TEXT["bert"]},
            audio_config={"model_type": "refavs_yamnet", **SOUND["refavs_yamnet"][0]},
        )
    )
    parts = whole.model
    parts.mask2former.pixel_level_module.encoder.save_pretrained(tmp_path / "vision")
    processor.image_processor.save_pretrained(tmp_path / "vision")
    parts.text_encoder.save_pretrained(tmp_path / "text")
    processor.tokenizer.save_pretrained(tmp_path / "text")
    parts.audio_encoder.save_pretrained(tmp_path / "audio")
    RefAVSFeatureExtractor(log_offset=0.001).save_pretrained(tmp_path / "audio")
    folders = {
        "vision": str(tmp_path / "vision"),
        "text_model": str(tmp_path / "text"),
        "audio_model": str(tmp_path / "audio"),
    }
    fields = whole.config.to_dict()
    small = {name: fields[name] for name in ("hidden_size", "num_attention_heads", "adapter_size")}
    decoders = {
        name: fields["mask2former_config"][name]
        for name in ("hidden_dim", "feature_size", "mask_feature_size", "num_attention_heads")
    }
    model = RefAVSForSegmentation.from_backbones(**folders, **small, mask2former_config=decoders)
    made = type(processor).from_backbones(**folders, image_size=IMAGE_SIZE)
    assert made.feature_extractor.log_offset == 0.001
    for name in ("text_encoder", "audio_encoder"):
        for key, value in getattr(model.model, name).state_dict().items():
            assert torch.equal(value, getattr(parts, name).state_dict()[key]), (name, key)
    outputs = ask(model, made(text=["a thing"], **clip))
    assert np.isfinite(outputs.mask_logits.numpy()).all()


ALONE = """
import torch
from transformers import AutoModel, AutoProcessor
for folder in FOLDERS:
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    clip = torch.load(f"{folder}/clip.pt", weights_only=False)
    with torch.no_grad():
        masks = model(**processor(**clip["given"])).mask_logits
    assert type(model).__module__.startswith("transformers_modules."), type(model)
    assert torch.equal(masks, clip["masks"]), folder
print("all")
"""


def test_all_families_load_with_the_code_that_they_carry(clip, processor, tmp_path):
    """Three models with every kind of code in them, where the package is not installed."""
    folders = []
    for number, (vision, text, sound) in enumerate(
        [
            ("refavs_efficientnet_lite", "bert", "refavs_yamnet"),
            ("dinov3_vit", "t5", "audio-spectrogram-transformer"),
            ("convnext", "clip_text_model", "whisper"),
        ]
    ):
        fields, extractor = SOUND[sound]
        torch.manual_seed(0)
        model = RefAVSForSegmentation(
            make_config(
                vision_config={"model_type": vision, **VISION[vision]},
                text_config={"model_type": text, **TEXT[text]},
                audio_config={"model_type": sound, **fields},
            )
        ).eval()
        parts = (processor.image_processor, extractor, processor.tokenizer)
        folder, made = tmp_path / f"model_{number}", type(processor)(*parts)
        model.save_pretrained(folder)
        made.save_pretrained(folder)
        given = {"text": SENTENCES[:2], **clip}
        torch.save(
            {"given": given, "masks": ask(model, made(**given)).mask_logits}, folder / "clip.pt"
        )
        folders.append(str(folder))
    (tmp_path / "alone").mkdir()
    script = ALONE.replace("FOLDERS", repr(folders))
    assert run_alone(script, tmp_path / "alone").split() == ["all"]
