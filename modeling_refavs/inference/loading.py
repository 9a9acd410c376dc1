"""A model for a command: from a folder or the Hub, on a device, in a precision, compiled or not."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from torch import nn

from .cuda_graphs import record_graphs


DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
INT8 = "int8"
PRECISIONS = (*DTYPES, INT8)
GRAPHED_TYPES = ("refavs", "refavs_released")  # which never wait for a tensor
# More than there are; transformers gives layers of all classes one entry, for which torch allows 8.
NUM_LAYER_SHAPES = 64


def choose_device(name: str) -> torch.device:
    """ "auto" is the accelerator if there is one; `ValueError` for a device that this machine
    lacks."""
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"--device {name}: not on this machine: use auto, cpu or another"
        ) from error


def load_model(
    name: str,
    device: torch.device,
    dtype: str = "float32",
    compiled: bool = False,
    graphs: bool = True,
) -> tuple[Any, Any]:
    """The model and its processor, from a folder or the Hub.

    Args:
        name: of a folder, or an id on the Hub.
        device: see [`choose_device`].
        dtype: of weights and sums: a key of [`DTYPES`]; or int8, see [`quantize`].
        compiled: see [`compile_layers`].
        graphs: see [`record_graphs`], for [`GRAPHED_TYPES`]; False for whoever hooks into layers,
            since what is replayed calls no Python.

    Raises:
        ValueError: there is no such model, or it cannot be loaded.
    """
    check_model(name)
    if dtype == INT8 and device.type != "cpu":
        raise ValueError(f"--dtype {INT8} is for the CPU, not for {device.type}: use bf16 or fp16")
    from transformers import AutoModel  # seconds, and only for a request that can work

    import modeling_refavs.auto  # noqa: F401, tells AutoModel which of our models a folder holds
    from modeling_refavs import RefAVSProcessor

    try:
        processor = RefAVSProcessor.from_pretrained(name)
        model = (
            AutoModel.from_pretrained(name, dtype=DTYPES.get(dtype, torch.float32))
            .to(device)
            .eval()
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"--model {name}: cannot be loaded: {reason}") from error
    if dtype == INT8:
        model = quantize(model)
    if compiled:
        compile_layers(model)
    if graphs and device.type == "cuda" and model.config.model_type in GRAPHED_TYPES:
        record_graphs(model)
    return model, processor


def load_sound_classifier(folder: str) -> Callable[[np.ndarray], dict[str, float]]:
    """What says how likely each class of a `RefAVSYamnetForAudioClassification` is in a second of
    sound, `(16000,)` float32.

    Args:
        folder: of the model and its feature extractor, as `refavs parts fetch` writes `audio`.

    Raises:
        ValueError: there is no such model in it.
    """
    if not (Path(folder) / "config.json").is_file():
        raise ValueError(
            f"--audio-classifier {folder}: no folder with a config.json: `refavs parts fetch DIR` "
            "writes one, DIR/audio"
        )
    from ..feature_extraction_refavs import SAMPLING_RATE, RefAVSFeatureExtractor
    from ..modeling_yamnet import RefAVSYamnetForAudioClassification

    try:
        extractor = RefAVSFeatureExtractor.from_pretrained(folder)
        model = RefAVSYamnetForAudioClassification.from_pretrained(folder).eval()
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"--audio-classifier {folder}: cannot be loaded: {reason}") from error
    names = [model.config.id2label[index] for index in range(model.config.num_labels)]

    @torch.no_grad()
    def hear(samples: np.ndarray) -> dict[str, float]:
        inputs = extractor(samples, SAMPLING_RATE, num_examples=1, return_tensors="pt")
        logits = model(inputs["input_features"]).logits[0, 0]
        return dict(zip(names, logits.sigmoid().tolist(), strict=True))

    return hear


def compile_layers(model: nn.Module) -> None:
    """`torch.compile` for each layer of each stack, not for the whole: layers that are alike are
    compiled once."""
    torch._dynamo.config.recompile_limit = NUM_LAYER_SHAPES
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and not _holds_stacks(module):
            for layer in module:
                layer.compile()


def quantize(model: nn.Module) -> nn.Module:
    """Linear layers in int8: weights once, what comes in each time anew; on a CPU."""
    with warnings.catch_warnings():  # torch announces a successor that does not come with it
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear})


def _holds_stacks(module: nn.ModuleList) -> bool:
    return any(isinstance(part, nn.ModuleList) for part in module.modules() if part is not module)


def check_model(name: str, option: str = "--model") -> None:
    """Ask once whether the model is there: `from_pretrained` would ask an unreachable Hub for
    minutes.

    Raises:
        ValueError: it is not; names the option that asked for it.
    """
    if (Path(name) / "config.json").is_file():
        return
    if Path(name).exists() or not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name):
        raise ValueError(
            f"{option} {name}: no folder with a config.json: give one, or a model's id on the Hub"
        )
    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=10)
    except Exception as error:  # whatever the network's client of the day raises
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{option} {name}: no such folder, and the Hub does not answer for it: {reason}"
        ) from error
