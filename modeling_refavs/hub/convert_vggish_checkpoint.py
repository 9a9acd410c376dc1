"""The public PyTorch port of VGGish to a folder for `RefAVSVggishModel.from_pretrained`.

The port ends in a ReLU, a PCA and a quantisation unless told otherwise; the Ref-AVS features have none of them.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from modeling_refavs import RefAVSAudioConfig, RefAVSVggishModel

from ..media.writing import whole_folder
from .state_dict import KeyReport, check_output, compare, read_state_dict


NO_PCA = "Ref-AVS features are without PCA"
IGNORED = {"pproc.pca_eigen_vectors": NO_PCA, "pproc.pca_means": NO_PCA}


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


def load_vggish(checkpoint: str | Path, report_path: str | Path | None = None) -> tuple[RefAVSVggishModel, KeyReport]:
    """The model with the weights of the port's file."""
    state_dict = read_state_dict(checkpoint)
    shapes = {name: tensor.shape for name, tensor in state_dict.items()}
    try:
        config = infer_config(shapes)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{checkpoint}: not the public VGGish port ({error} is missing or unusual)") from error
    with torch.device("meta"):
        expected = {name: (name, tensor.shape) for name, tensor in RefAVSVggishModel(config).state_dict().items()}
    report = compare(shapes, expected, IGNORED)
    if report_path:
        report.write(report_path)
    if not report.fits:
        raise ValueError(f"{checkpoint}: not the public VGGish port: {report}")
    weights = {name: state_dict[name] for name in report.used}
    return RefAVSVggishModel.from_pretrained(None, config=config, state_dict=weights), report


def infer_config(shapes: Mapping[str, torch.Size]) -> RefAVSAudioConfig:
    """A ReLU follows each convolution, and a pool where a stage ends: the next one's number tells which."""
    layers = sorted(int(match[1]) for name in shapes if (match := re.fullmatch(r"features\.(\d+)\.weight", name)))
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
