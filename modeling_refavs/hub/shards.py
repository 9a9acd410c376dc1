"""A checkpoint for a repository: half the bytes, and what training never changes in files of its
own, so that a better model replaces only the small rest."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel, ProcessorMixin


LARGEST = 40 * 2**20  # bytes of a file, unless one tensor alone is larger
ENCODERS = ("pixel_level_module.encoder.", "text_encoder.", "audio_encoder.")
INDEX = "model.safetensors.index.json"


def save_in_shards(model: PreTrainedModel, processor: ProcessorMixin, folder: str | Path) -> None:
    """Write a folder for `from_pretrained`, weights in float16. The configuration asks for float32,
    in which the model then computes.

    Args:
        model: its frozen encoders come first, what was trained last.
    """
    folder = Path(folder)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    for path in [*folder.glob("*.safetensors"), folder / INDEX]:
        path.unlink(missing_ok=True)
    weights = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    shards: list[dict[str, torch.Tensor]] = []
    for frozen in (True, False):
        shards.append({})
        for name, tensor in weights.items():
            if any(part in name for part in ENCODERS) != frozen:
                continue
            if shards[-1] and size_of(shards[-1]) + tensor.nbytes > LARGEST:
                shards.append({})
            shards[-1][name] = tensor.contiguous()
    shards = [shard for shard in shards if shard]
    places = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": sum(map(size_of, shards))}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def size_of(shard: dict[str, torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in shard.values())


__all__ = ["save_in_shards"]
