"""Which parameters are trained, and how fast."""

from typing import Any

from torch import nn

from .arguments import RefAVSTrainingArguments


def parameter_groups(model: nn.Module, args: RefAVSTrainingArguments) -> list[dict[str, Any]]:
    """New and pretrained parameters at their own learning rates, the matrices among them with weight decay."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            pretrained = "mask2former." in name and ".adapter." not in name
            decays = parameter.dim() > 1 and id(parameter) not in embeddings
            groups.setdefault((pretrained, decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": args.weight_decay if decays else 0.0,
            "lr": args.learning_rate * (args.mask2former_lr_scale if pretrained else 1.0),
        }
        for (pretrained, decays), parameters in sorted(groups.items(), key=lambda entry: entry[0])
    ]


def freeze_unused(model: nn.Module) -> None:
    """Swin's last norm is not on the way to a mask: left trainable, it would stop several processes."""
    for name, parameter in model.named_parameters():
        if ".swin.layernorm." in name:
            parameter.requires_grad_(False)
