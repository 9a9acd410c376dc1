"""The released checkpoint, a `.pth` state dict of `REFAVS_Model_Base`, to a folder for `from_pretrained`.

The checkpoint holds neither text encoder nor VGGish; given both, the folder answers to videos and sentences.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    Mask2FormerImageProcessorPil,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaModel,
)

from modeling_refavs import RefAVSFeatureExtractor, RefAVSProcessor
from modeling_refavs.configuration_refavs_released import RELEASED_SWIN, RefAVSReleasedConfig
from modeling_refavs.modeling_refavs_released import RefAVSReleasedForSegmentation

from ..media.writing import whole_folder
from .convert_vggish_checkpoint import load_vggish
from .state_dict import KeyReport, check_output, compare, read_state_dict, saved_names


PREFIXES = {"mask2former.": "model_v.model.", "class_predictor.": "model_v.class_predictor."}  # ours -> released
IGNORED = {
    ".relative_position_index": "a table that follows from the window size",
    ".criterion.empty_weight": "of Mask2Former's own loss, which the released model does not use",
}
UNUSED = ".swin.layernorm."  # Swin has it as a classifier; as a backbone it leaves it unused, and files leave it out

SWIN = "model_v.model.pixel_level_module.encoder."
PIXEL_DECODER = "model_v.model.pixel_level_module.decoder."
MASK_DECODER = "model_v.model.transformer_module."
NUM_LEVELS, NUM_POINTS = 3, 4  # of Mask2Former's deformable attention


def convert_released_checkpoint(
    checkpoint: str | Path,
    output: str | Path,
    vggish: str | Path | None = None,
    text_model: str | None = None,
    report_path: str | Path | None = None,
) -> KeyReport:
    """Write `output`, whole or not at all: safetensors, config and, with a text model, the processor.

    Args:
        checkpoint: the released `.pth`.
        output: a new or empty folder.
        vggish: `.pth` of the public VGGish port; without it the model is given `audio_features`.
        text_model: folder or Hub id of `distilbert/distilroberta-base`; without it the model is given `text_features`.
        report_path: JSON that says what became of every key, also when the file does not fit.

    Raises:
        ValueError: something that was given is not what it should be; the message names it.
    """
    check_output(output)
    text_config = text_model and _read_text_config(text_model)
    model, report = load_released(checkpoint, report_path)
    if vggish:
        model.audio_encoder = load_vggish(vggish)[0]
        model.config.audio_config = model.audio_encoder.config
        _check_width(f"--vggish {vggish}", model.config.audio_config.embedding_size, model.config.audio_feature_size)
    if text_model:
        _check_width(f"--text-model {text_model}", text_config.hidden_size, model.config.text_feature_size)
        model.text_encoder = RobertaModel.from_pretrained(text_model, add_pooling_layer=False)
        model.config.text_config = model.text_encoder.config
    with whole_folder(output) as unfinished:
        model.save_pretrained(unfinished)
        if text_model:
            make_processor(AutoTokenizer.from_pretrained(text_model), model.config).save_pretrained(unfinished)
    return report


def load_released(
    checkpoint: str | Path, report_path: str | Path | None = None
) -> tuple[RefAVSReleasedForSegmentation, KeyReport]:
    """The model with the checkpoint's weights, without encoders of sound and text."""
    state_dict = read_state_dict(checkpoint)
    config, report = examine({name: tensor.shape for name, tensor in state_dict.items()}, str(checkpoint))
    if report_path:
        report.write(report_path)
    if not report.fits:
        raise ValueError(f"{checkpoint}: not the released Ref-AVS checkpoint: {report}")
    weights = {our_name(name): state_dict[name] for name in report.used}
    return RefAVSReleasedForSegmentation.from_pretrained(None, config=config, state_dict=weights), report


def examine(shapes: Mapping[str, torch.Size], source: str) -> tuple[RefAVSReleasedConfig, KeyReport]:
    """The architecture that names and shapes describe, and whether its model has just these keys."""
    try:
        config = infer_config(shapes)
        with torch.device("meta"):
            model = RefAVSReleasedForSegmentation(config)
    except KeyError as error:
        raise ValueError(f"{source}: not the released Ref-AVS checkpoint: it has no {error}") from error
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise ValueError(
            f"{source}: not the released Ref-AVS checkpoint: its shapes fit no model ({error})"
        ) from error
    ours = model.state_dict()
    expected = {
        released_name(saved): (name, ours[name].shape)
        for saved, name in saved_names(model).items()
        if UNUSED not in name
    }
    return config, compare(shapes, expected, IGNORED)


def infer_config(shapes: Mapping[str, torch.Size]) -> RefAVSReleasedConfig:
    """Every size that a name or a shape tells."""
    decoder_layers = _count(shapes, f"{MASK_DECODER}decoder.layers.")
    decoder = {
        "feature_size": shapes[f"{PIXEL_DECODER}input_projections.0.0.weight"][0],
        "mask_feature_size": shapes[f"{PIXEL_DECODER}mask_projection.weight"][0],
        "encoder_layers": _count(shapes, f"{PIXEL_DECODER}encoder.layers."),
        "encoder_feedforward_dim": shapes[f"{PIXEL_DECODER}encoder.layers.0.fc1.weight"][0],
        "num_attention_heads": (
            shapes[f"{PIXEL_DECODER}encoder.layers.0.self_attn.attention_weights.weight"][0]
            // (NUM_LEVELS * NUM_POINTS)
        ),
        "decoder_layers": decoder_layers + 1,  # Mask2Former counts the queries before the first layer too
        "dim_feedforward": shapes[f"{MASK_DECODER}decoder.layers.0.fc1.weight"][0],
        "num_queries": shapes[f"{MASK_DECODER}queries_features.weight"][0],
        "hidden_dim": shapes[f"{MASK_DECODER}queries_features.weight"][1],
        "num_labels": shapes["model_v.class_predictor.weight"][0] - 1,  # and no object
    }
    return RefAVSReleasedConfig(
        mask2former_config={"backbone_config": _infer_swin(shapes), **decoder},
        audio_feature_size=shapes["audio_proj.0.weight"][1],
        text_feature_size=shapes["text_proj.0.weight"][1],
        hidden_size=shapes["prompt_proj.0.weight"][1],
        intermediate_size=shapes["prompt_proj.0.weight"][0],
        adapter_size=shapes[f"{PIXEL_DECODER}encoder.layers.0.self_attn.avs_adapt.0.weight"][0],
    )


def _infer_swin(shapes: Mapping[str, torch.Size]) -> dict:
    stages = [f"{SWIN}encoder.layers.{stage}.blocks." for stage in range(_count(shapes, f"{SWIN}encoder.layers."))]
    tables = [shapes[f"{stage}0.attention.self.relative_position_bias_table"] for stage in stages]
    embed_dim, _, patch_size, _ = shapes[f"{SWIN}embeddings.patch_embeddings.projection.weight"]
    return {
        **RELEASED_SWIN,
        "embed_dim": embed_dim,
        "patch_size": patch_size,
        "depths": [_count(shapes, stage) for stage in stages],
        "num_heads": [num_heads for _, num_heads in tables],
        "window_size": (round(tables[0][0] ** 0.5) + 1) // 2,  # a row for each of (2w - 1)^2 offsets
        "mlp_ratio": shapes[f"{stages[0]}0.intermediate.dense.weight"][0] / embed_dim,
    }


def make_processor(tokenizer: PreTrainedTokenizerBase, config: RefAVSReleasedConfig) -> RefAVSProcessor:
    """What the released code does to frames, sound and sentences (docs/released.md)."""
    size = config.mask2former_config.backbone_config.image_size
    return RefAVSProcessor(
        Mask2FormerImageProcessorPil(size={"height": size, "width": size}),
        RefAVSFeatureExtractor(mode="contiguous"),
        tokenizer,
        max_text_length=config.text_length,
    )


def _read_text_config(name: str) -> RobertaConfig:
    """Before the checkpoint is read, which takes longer."""
    if name.startswith(("/", ".", "~")) and not Path(name).is_dir():
        raise ValueError(f"--text-model {name}: no such folder")
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"--text-model {name}: cannot be read: {reason}") from error
    if config.model_type != "roberta":
        raise ValueError(f"--text-model {name}: a {config.model_type}, but distilroberta-base (a roberta) is needed")
    return config


def _check_width(source: str, width: int, needed: int) -> None:
    if width != needed:
        raise ValueError(f"{source}: gives features of width {width}, but the checkpoint takes {needed}")


def released_name(name: str) -> str:
    for ours, released in PREFIXES.items():
        if name.startswith(ours):
            return released + name.removeprefix(ours)
    return name


def our_name(name: str) -> str:
    for ours, released in PREFIXES.items():
        if name.startswith(released):
            return ours + name.removeprefix(released)
    return name


def _count(shapes: Mapping[str, torch.Size], prefix: str) -> int:
    """How many modules are numbered after a prefix."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in shapes if name.startswith(prefix)})
