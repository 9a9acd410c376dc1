"""A checkpoint is taken whole, or refused by the name of what is wrong with it; and its weights may
lie on several devices or on a disk (`device_map`), from where accelerate brings them to the forward
of the module that they belong to."""

import pickle
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers.integrations.accelerate import force_accelerate_hooks
from transformers.models.mask2former.modeling_mask2former import Mask2FormerPredictionBlock
from transformers.utils import logging


MAX_NAMES = 3  # of weights in a message
BROKEN = (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError)


class RefAVSMultiheadAttention(nn.MultiheadAttention):
    """torch's, which reads the weights of `out_proj` without its forward: here accelerate brings
    them all the same."""

    forward = force_accelerate_hooks("out_proj")(nn.MultiheadAttention.forward)


class RefAVSPredictionBlock(Mask2FormerPredictionBlock):
    """transformers', which keeps its layers in a list beside the modules: here a layer that took
    another's place, as LoRA's do, is the one that computes."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        for layer in self.children():
            states = layer(states)
        return states


OURS = {
    nn.MultiheadAttention: RefAVSMultiheadAttention,
    Mask2FormerPredictionBlock: RefAVSPredictionBlock,
}


class StrictLoadingMixin:
    """`from_pretrained` for a model that is to answer: transformers' own draws what is missing at
    random and goes on."""

    def post_init(self) -> None:
        """As transformers' own, which gathers what must not be split from direct children: here
        from all parts, and with them each module that has weights of its own beside its parts,
        since accelerate brings a weight alone to no forward. Parts of others become ours."""
        super().post_init()
        names, kept = set(), set()
        for part in self.modules():
            if type(part) in OURS:
                part.__class__ = OURS[type(part)]  # the draws of a new one would be others
            names.add(type(part).__name__)
            kept.update(getattr(part, "_no_split_modules", None) or ())
            if _has_weights_beside_parts(part):
                kept.add(type(part).__name__)
        self._no_split_modules = kept & names

    @property
    def device(self) -> torch.device:
        """Where the model computes, though its first weights may lie elsewhere in between."""
        device = super().device
        if device.type != "meta":
            return device
        hooks = (getattr(part, "_hf_hook", None) for part in self.modules())
        places = (getattr(hook, "execution_device", None) for hook in hooks)
        return torch.device(next((place for place in places if place is not None), device))

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Any, *args, strict: bool = True, **kwargs
    ):
        """As transformers' own, but for weights that are missing, unexpected, of another shape or
        not finite.

        Args:
            strict: False, for fine-tuning, lets weights that are missing start at random, and
                leaves out those that this model does not have.

        Raises:
            ValueError: names the weights, or says why the file cannot be read.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        if strict:
            kwargs["ignore_mismatched_sizes"] = True  # what is mismatched is named below
        verbosity = logging.get_verbosity()
        if strict:
            logging.set_verbosity_error()  # a table of what is named below
        try:
            model, info = super().from_pretrained(
                pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
            )
        except torch.OutOfMemoryError:
            raise
        except (*BROKEN, OSError) as error:
            if isinstance(error, OSError) and (error.errno is None or error.filename):
                raise  # transformers' own words
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(
                f"{pretrained_model_name_or_path}: its weights cannot be read: {reason}"
            ) from error
        finally:
            logging.set_verbosity(verbosity)
        if problem := (strict and _differences(info)) or _not_finite(model):
            raise ValueError(f"{pretrained_model_name_or_path}: {problem}")
        return (model, info) if wants_info else model


def _has_weights_beside_parts(module: nn.Module) -> bool:
    weights = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return bool(weights) and any(True for _ in module.children())


def _differences(info: dict[str, Any]) -> str | None:
    found = {
        "are missing": info["missing_keys"],
        "have another shape": {entry[0] for entry in info["mismatched_keys"]},
        "are not of this model": info["unexpected_keys"],
    }
    parts = [f"{_name(names)} {what}" for what, names in found.items() if names]
    if not parts:
        return None
    return f"{'; '.join(parts)}: to fine-tune from it all the same, pass strict=False"


def _not_finite(model: nn.Module) -> str | None:
    names = [
        name
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        if type(tensor) in (torch.Tensor, nn.Parameter)  # not quantized
        and tensor.device.type != "meta"
        and tensor.is_floating_point()
        and not torch.isfinite(tensor).all()
    ]
    return f"{_name(names)} are not finite" if names else None


def _name(names: Any) -> str:
    names = sorted(names)
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"weights {', '.join(names[:MAX_NAMES])}{more}"


__all__ = ["RefAVSMultiheadAttention", "RefAVSPredictionBlock", "StrictLoadingMixin"]
