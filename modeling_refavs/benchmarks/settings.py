"""The ways of running that are compared: each makes a model, in a process of its own."""

from collections.abc import Callable

import torch
from torch import nn

from .. import deformable_attention
from ..configuration_refavs import RefAVSConfig
from ..configuration_refavs_released import RefAVSReleasedConfig
from ..media.cuda_graphs import record_graphs
from ..media.loading import compile_layers, quantize
from ..modeling_refavs import RefAVSForSegmentation
from ..modeling_refavs_released import RefAVSReleasedForSegmentation


Load = Callable[[], nn.Module]


def released(load: Load) -> nn.Module:
    """The released model as its code runs it: a pass of an unprompted Mask2Former before each of its own."""
    model = released_once(load)
    model.register_forward_pre_hook(_run_unprompted, with_kwargs=True)
    return model


def released_once(load: Load) -> nn.Module:
    """The released model as it runs here."""
    return RefAVSReleasedForSegmentation(RefAVSReleasedConfig()).eval()


def plain(load: Load) -> nn.Module:
    """EEMC with transformers' own deformable attention."""
    deformable_attention.choose_sampling = lambda device, dtype: None
    return load()


def eemc(load: Load) -> nn.Module:
    """EEMC as it comes."""
    return load()


def checkpointed(load: Load) -> nn.Module:
    """EEMC that computes the inside of layers again on the way back: for training in less memory."""
    model = load()
    model.gradient_checkpointing_enable()
    return model


def bf16(load: Load) -> nn.Module:
    return load().to(torch.bfloat16)


def graphs(load: Load) -> nn.Module:
    """EEMC in bf16, replayed: as a command runs it with `--dtype bf16` on CUDA."""
    model = bf16(load)
    record_graphs(model)
    return model


def int8(load: Load) -> nn.Module:
    return quantize(load())


def compiled(load: Load) -> nn.Module:
    model = load()
    compile_layers(model)
    return model


SETTINGS = {
    setting.__name__: setting
    for setting in (released, released_once, plain, eemc, checkpointed, bf16, graphs, int8, compiled)
}


def make_model(setting: str, folder: str | None, device: str = "cpu") -> nn.Module:
    """With the weights of `folder`, or random ones at the paper's size."""

    def load() -> RefAVSForSegmentation:
        if folder is not None:
            return RefAVSForSegmentation.from_pretrained(folder).eval().requires_grad_(False)
        return RefAVSForSegmentation(RefAVSConfig()).eval().requires_grad_(False)

    torch.manual_seed(0)
    with torch.device(device):
        return SETTINGS[setting](load).to(device)


@torch.no_grad()
def _run_unprompted(model: RefAVSReleasedForSegmentation, args: tuple, inputs: dict[str, torch.Tensor]) -> None:
    """From Mask2Former's own queries to masks and classes: the released code's first pass, of which it uses Swin's last stage alone."""
    frames = inputs["pixel_values"].flatten(0, 1)
    pixels = model.mask2former.pixel_level_module(frames)
    decoder = model.mask2former.transformer_module
    decoded = decoder(
        decoder.queries_features.weight.expand(len(frames), -1, -1),
        pixels.decoder_hidden_states,
        pixels.decoder_last_hidden_state,
    )
    for queries in decoded.intermediate_hidden_states:  # the released code classifies after every layer
        model.class_predictor(queries)
