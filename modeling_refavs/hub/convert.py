"""State dicts that others saved: read without running their code, and compared with what a model
expects."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    Mask2FormerImageProcessorPil,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaModel,
)
from transformers.core_model_loading import revert_weight_conversion

from modeling_refavs import (
    RefAVSAudioConfig,
    RefAVSFeatureExtractor,
    RefAVSProcessor,
    RefAVSVggishModel,
)
from modeling_refavs.configuration_refavs_released import RELEASED_SWIN, RefAVSReleasedConfig
from modeling_refavs.modeling_refavs_released import RefAVSReleasedForSegmentation

from ..utils.files import whole_file, whole_folder


@dataclass(frozen=True)
class KeyReport:
    """What becomes of every key.

    Args:
        used: name in the file -> name in the model.
        ignored: name in the file -> why it is left out on purpose.
        missing, unexpected: names that only the model knows, names that only the file knows.
        misshapen: name -> the shape that came and the one that the model has.
    """

    used: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        text = f"{len(self.used)} keys used, {len(self.ignored)} ignored on purpose"
        for kind in ("missing", "unexpected", "misshapen"):
            names = list(getattr(self, kind))
            text += f", {len(names)} {kind}" + (f" (such as {names[0]})" if names else "")
        return text

    @property
    def fits(self) -> bool:
        return not (self.missing or self.unexpected or self.misshapen)

    def write(self, path: str | Path) -> None:
        """As JSON."""
        with whole_file(path) as unfinished:
            unfinished.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a `.pth` file. Only tensors are read: a pickle that would run code is refused.

    Raises:
        ValueError: the file is missing, broken, or holds something else.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken or foreign file makes the unpickler raise
        raise ValueError(
            f"{path}: not a file of tensors that torch can read safely ({type(error).__name__})"
        ) from error
    if not isinstance(loaded, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in loaded.values()
    ):
        raise ValueError(
            f"{path}: not a state dict (names and tensors), but a {type(loaded).__name__} of other "
            "things"
        )
    return dict(loaded)


def saved_names(model: PreTrainedModel) -> dict[str, str]:
    """Name in a file that `save_pretrained` writes -> name in the model: transformers renames
    Swin's in between."""
    markers = {name: torch.tensor(index) for index, name in enumerate(model.state_dict())}
    names = list(markers)
    return {
        saved: names[int(marker)]
        for saved, marker in revert_weight_conversion(model, markers).items()
    }


def compare(
    found: Mapping[str, torch.Size],
    expected: Mapping[str, tuple[str, torch.Size]],
    ignored: Mapping[str, str],
) -> KeyReport:
    """Sort every key.

    Args:
        found: names and shapes of the file.
        expected: name in the file -> name in the model, shape.
        ignored: end of a name -> why such keys are left out.
    """
    report = KeyReport()
    for name, shape in found.items():
        reason = next((reason for end, reason in ignored.items() if name.endswith(end)), None)
        if reason:
            report.ignored[name] = reason
        elif name not in expected:
            report.unexpected.append(name)
        elif shape != expected[name][1]:
            report.misshapen[name] = f"{tuple(shape)} and not {tuple(expected[name][1])}"
        else:
            report.used[name] = expected[name][0]
    report.missing.extend(name for name in expected if name not in found)
    return report


def check_output(folder: str | Path) -> None:
    """`ValueError` before the work for a folder that cannot be written to after it."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{folder}: must be a new or empty folder, so that nothing older stays in it"
        )
    if not folder.resolve().parent.is_dir():
        raise ValueError(f"{folder}: there is no folder {folder.resolve().parent} to put it in")


NO_PCA = "Ref-AVS features are without PCA"
VGGISH_IGNORED = {"pproc.pca_eigen_vectors": NO_PCA, "pproc.pca_means": NO_PCA}


def convert_vggish_checkpoint(
    checkpoint: str | Path, output: str | Path, report_path: str | Path | None = None
) -> KeyReport:
    """Write `output`, whole or not at all.

    Args:
        checkpoint: `.pth` of the port.
        output: a new or empty folder.
        report_path: JSON that says what became of every key, also when the file does not fit.

    Raises:
        ValueError: the file is no VGGish.
    """
    check_output(output)
    model, report = load_vggish(checkpoint, report_path)
    with whole_folder(output) as unfinished:
        model.save_pretrained(unfinished)
    return report


def load_vggish(
    checkpoint: str | Path, report_path: str | Path | None = None
) -> tuple[RefAVSVggishModel, KeyReport]:
    """The model with the weights of the port's file."""
    state_dict = read_state_dict(checkpoint)
    shapes = {name: tensor.shape for name, tensor in state_dict.items()}
    try:
        config = infer_vggish_config(shapes)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"{checkpoint}: not the public VGGish port ({error} is missing or unusual)"
        ) from error
    with torch.device("meta"):
        expected = {
            name: (name, tensor.shape)
            for name, tensor in RefAVSVggishModel(config).state_dict().items()
        }
    report = compare(shapes, expected, VGGISH_IGNORED)
    if report_path:
        report.write(report_path)
    if not report.fits:
        raise ValueError(f"{checkpoint}: not the public VGGish port: {report}")
    weights = {name: state_dict[name] for name in report.used}
    return RefAVSVggishModel.from_pretrained(None, config=config, state_dict=weights), report


def infer_vggish_config(shapes: Mapping[str, torch.Size]) -> RefAVSAudioConfig:
    """A ReLU follows each convolution, and a pool where a stage ends: the next one's number tells
    which."""
    layers = sorted(
        int(match[1])
        for name in shapes
        if (match := re.fullmatch(r"features\.(\d+)\.weight", name))
    )
    stages = []  # the channels of each convolution
    for previous, layer in zip([-3, *layers], layers, strict=False):
        if layer == previous + 3:
            stages.append([])
        stages[-1].append(shapes[f"features.{layer}.weight"][0])
    return RefAVSAudioConfig(
        hidden_sizes=[channels[-1] for channels in stages],
        depths=[len(channels) for channels in stages],
        intermediate_size=shapes["embeddings.0.weight"][0],
        embedding_size=shapes["embeddings.4.weight"][0],
    )


PREFIXES = {
    "mask2former.": "model_v.model.",
    "class_predictor.": "model_v.class_predictor.",
}  # ours -> released
IGNORED = {
    ".relative_position_index": "a table that follows from the window size",
    ".criterion.empty_weight": "of Mask2Former's own loss, which the released model does not use",
}
# Swin has it as a classifier; as a backbone it leaves it unused, and files leave it out
UNUSED = ".swin.layernorm."
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
    """Write `output`, whole or not at all: safetensors, config and, with a text model, the
    processor.

    Args:
        checkpoint: the released `.pth`.
        output: a new or empty folder.
        vggish: `.pth` of the public VGGish port; without it the model is given `audio_features`.
        text_model: folder or Hub id of `distilbert/distilroberta-base`; without it the model is
            given `text_features`.
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
        _check_width(
            f"--vggish {vggish}",
            model.config.audio_config.embedding_size,
            model.config.audio_feature_size,
        )
    if text_model:
        _check_width(
            f"--text-model {text_model}", text_config.hidden_size, model.config.text_feature_size
        )
        model.text_encoder = RobertaModel.from_pretrained(text_model, add_pooling_layer=False)
        model.config.text_config = model.text_encoder.config
    with whole_folder(output) as unfinished:
        model.save_pretrained(unfinished)
        if text_model:
            make_processor(AutoTokenizer.from_pretrained(text_model), model.config).save_pretrained(
                unfinished
            )
    return report


def load_released(
    checkpoint: str | Path, report_path: str | Path | None = None
) -> tuple[RefAVSReleasedForSegmentation, KeyReport]:
    """The model with the checkpoint's weights, without encoders of sound and text."""
    state_dict = read_state_dict(checkpoint)
    config, report = examine(
        {name: tensor.shape for name, tensor in state_dict.items()}, str(checkpoint)
    )
    if report_path:
        report.write(report_path)
    if not report.fits:
        raise ValueError(f"{checkpoint}: not the released Ref-AVS checkpoint: {report}")
    weights = {our_name(name): state_dict[name] for name in report.used}
    return RefAVSReleasedForSegmentation.from_pretrained(
        None, config=config, state_dict=weights
    ), report


def examine(
    shapes: Mapping[str, torch.Size], source: str
) -> tuple[RefAVSReleasedConfig, KeyReport]:
    """The architecture that names and shapes describe, and whether its model has just these
    keys."""
    try:
        config = infer_config(shapes)
        with torch.device("meta"):
            model = RefAVSReleasedForSegmentation(config)
    except KeyError as error:
        raise ValueError(
            f"{source}: not the released Ref-AVS checkpoint: it has no {error}"
        ) from error
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
        "decoder_layers": decoder_layers
        + 1,  # Mask2Former counts the queries before the first layer too
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
    stages = [
        f"{SWIN}encoder.layers.{stage}.blocks."
        for stage in range(_count(shapes, f"{SWIN}encoder.layers."))
    ]
    tables = [shapes[f"{stage}0.attention.self.relative_position_bias_table"] for stage in stages]
    embed_dim, _, patch_size, _ = shapes[f"{SWIN}embeddings.patch_embeddings.projection.weight"]
    return {
        **RELEASED_SWIN,
        "embed_dim": embed_dim,
        "patch_size": patch_size,
        "depths": [_count(shapes, stage) for stage in stages],
        "num_heads": [num_heads for _, num_heads in tables],
        "window_size": (round(tables[0][0] ** 0.5) + 1)
        // 2,  # a row for each of (2w - 1)^2 offsets
        "mlp_ratio": shapes[f"{stages[0]}0.intermediate.dense.weight"][0] / embed_dim,
    }


def make_processor(
    tokenizer: PreTrainedTokenizerBase, config: RefAVSReleasedConfig
) -> RefAVSProcessor:
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
        raise ValueError(
            f"--text-model {name}: a {config.model_type}, but distilroberta-base (a roberta) is "
            "needed"
        )
    return config


def _check_width(source: str, width: int, needed: int) -> None:
    if width != needed:
        raise ValueError(
            f"{source}: gives features of width {width}, but the checkpoint takes {needed}"
        )


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
    return len(
        {name.removeprefix(prefix).partition(".")[0] for name in shapes if name.startswith(prefix)}
    )
