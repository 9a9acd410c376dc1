import json
from pathlib import Path

import pytest
from transformers import AutoConfig, Mask2FormerConfig

from modeling_refavs import RefAVSConfig, RefAVSReleasedConfig


SAVED_BEFORE = Path(__file__).parent / "golden" / "config_saved_before_grounding.json"


def test_defaults_are_the_papers():
    config = RefAVSConfig()
    mask2former, swin = config.mask2former_config, config.mask2former_config.backbone_config
    assert (
        config.hidden_size,
        config.num_cue_layers,
        config.visual_grid_size,
        config.memory_beta,
    ) == (
        256,
        4,
        8,
        1.0,
    )
    assert (mask2former.num_queries, mask2former.decoder_layers) == (100, 10)
    assert (mask2former.mask_weight, mask2former.dice_weight, mask2former.class_weight) == (
        5.0,
        5.0,
        2.0,
    )
    assert (swin.embed_dim, swin.image_size, swin.depths, swin.window_size) == (
        128,
        384,
        [2, 2, 18, 2],
        12,
    )
    assert (config.text_config.hidden_size, config.text_config.num_hidden_layers) == (768, 12)
    assert (config.audio_config.num_mel_frames, config.audio_config.embedding_size) == (96, 128)


def test_a_saved_config_is_the_same_config(tmp_path):
    config = RefAVSConfig(use_cached_memory=False, adapter_size=16, memory_beta=0.5)
    config.save_pretrained(tmp_path)
    loaded = RefAVSConfig.from_pretrained(tmp_path)
    assert loaded.to_diff_dict() == config.to_diff_dict()
    assert (loaded.use_cached_memory, loaded.adapter_size, loaded.memory_beta) == (False, 16, 0.5)


def test_config_saved_before_grounding_config_loads(tmp_path):
    """Saved by the version before, of the shipped checkpoint; what is passed beside it wins."""
    saved = json.loads(SAVED_BEFORE.read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(saved), encoding="utf-8")
    config = RefAVSConfig.from_pretrained(tmp_path)
    grounding = config.grounding_config
    assert grounding.loss_weight == saved["cue_loss_weight"] == 4.0
    assert grounding.grounding_weight == saved["claim_from_cues"] == 1.0
    assert grounding.object_score_bias == saved["claim_bias"] == -0.5
    assert grounding.use_audio_memory_cue is saved["use_audio_memory_cue"] is True
    assert config.cue_pre_norm is True
    assert not hasattr(config, "cue_tied_start")
    biased = RefAVSConfig.from_pretrained(tmp_path, claim_bias=-1.0)
    assert biased.grounding_config.object_score_bias == -1.0
    assert biased.grounding_config.loss_weight == 4.0
    named = RefAVSConfig.from_pretrained(tmp_path, grounding_config={"object_score_bias": -1.0})
    assert named.to_dict() == biased.to_dict()


@pytest.mark.parametrize("pre_norm", [False, True])
def test_saved_null_cue_pre_norm_follows_mask2former(pre_norm):
    saved = {"cue_pre_norm": None, "mask2former_config": {"pre_norm": pre_norm}}
    assert RefAVSConfig.from_dict(saved).cue_pre_norm is pre_norm


def test_a_backbone_of_other_classes_is_taken_and_left_as_it_was():
    backbone = Mask2FormerConfig(num_labels=150)
    config = RefAVSConfig(mask2former_config=backbone)
    assert config.mask2former_config.num_labels == 1
    assert backbone.num_labels == 150


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hiden_size": 256}, "did you mean `hidden_size`"),
        ({"use_text_cue": False}, "did you mean `use_text_cues`"),
        ({"audio_config": {"embeding_size": 64}}, "did you mean `embedding_size`"),
        ({"audio_config": {"depths": [1, 1]}}, "same stages"),
        ({"hidden_size": 128}, "must equal mask2former_config.hidden_dim"),
        ({"num_attention_heads": 3}, "multiple of num_attention_heads"),
        ({"num_cue_layers": 0}, "at least 1"),
        ({"visual_grid_size": -1}, "at least 1"),
        ({"num_cue_layers": "four"}, "expected int"),
        ({"claim_bias": float("nan")}, "object_score_bias must be a finite number"),
        ({"grounding_config": {"grounding_weight": 1.0}}, "set loss_weight above 0"),
        ({"grounding_config": {"los_weight": 1.0}}, "did you mean `loss_weight`"),
    ],
)
def test_bad_fields_are_refused(fields, words):
    with pytest.raises(Exception, match=words) as error:
        RefAVSConfig(**fields)
    assert (
        isinstance(error.value, (ValueError, TypeError))
        or "Validation" in type(error.value).__name__
    )


NOTES = {
    "use_cache": False,
    "tie_word_embeddings": False,
    "tokenizer_class": "RobertaTokenizer",
    "pad_token_id": 1,
    "quantization_config": {"quant_method": "torchao"},
}


@pytest.mark.parametrize("name", NOTES)
def test_fields_of_transformers_are_taken(name):
    RefAVSConfig(**{name: NOTES[name]})
    RefAVSReleasedConfig(**{name: NOTES[name]})


@pytest.mark.parametrize("config_class", [RefAVSConfig, RefAVSReleasedConfig])
def test_what_any_tool_has_saved_loads_and_is_kept(config_class, tmp_path):
    config = config_class(audio_config={})
    for name, value in {**NOTES, "a_note": "of a tool"}.items():
        setattr(config, name, value)
    config.audio_config.a_note = "of another"
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert loaded.a_note == "of a tool"
    assert loaded.audio_config.a_note == "of another"
    assert loaded.quantization_config == NOTES["quantization_config"]


def test_a_saved_field_that_nearly_is_ours_is_named(caplog):
    saved = {**RefAVSConfig().to_dict(), "num_cue_layer": 3}
    RefAVSConfig.from_dict(saved)
    assert "no field `num_cue_layer`: did you mean `num_cue_layers`" in caplog.text


def test_a_misspelt_change_of_a_saved_part_is_refused(tmp_path):
    RefAVSConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="did you mean `object_score_bias`"):
        RefAVSConfig.from_pretrained(tmp_path, grounding_config={"object_score_bais": 1.0})


def test_a_backbone_that_transformers_does_not_know_is_taken_without_a_warning(monkeypatch):
    warned = []
    logger = "transformers.models.mask2former.configuration_mask2former.logger"
    monkeypatch.setattr(f"{logger}.warning_once", warned.append)
    config = RefAVSConfig(vision_config={"model_type": "refavs_efficientnet_lite"})
    RefAVSConfig.from_dict(config.to_dict())
    assert not warned
