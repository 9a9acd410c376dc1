"""A forward on an accelerator never waits for it: nothing is sent there, and nothing is asked of
it.

Without an accelerator, its tensors are shapes alone: whoever asks for their values fails, and so
does whoever sends some.
"""

import subprocess
import sys

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from modeling_refavs import RefAVSForSegmentation, deformable_attention
from tests.conftest import make_config


FRAMES, SENTENCES = 3, 2


def test_a_forward_never_waits():
    """In a process of its own, which believes that it has an accelerator."""
    answer = subprocess.run([sys.executable, "-m", __name__], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == [str(SENTENCES), str(FRAMES), "privateuseone:0"]


def sample_nothing(value, shapes, x, y, weights):
    """A kernel's place."""
    return value.new_empty(*x.shape[:2], value.shape[-2] * value.shape[-1])


def run_on_shapes() -> torch.Tensor:
    _setup_privateuseone_for_python_backend()
    deformable_attention.choose_sampling = lambda device, dtype: sample_nothing
    mode, device = FakeTensorMode(), torch.device("privateuseone:0")

    def move(tensor: torch.Tensor) -> torch.Tensor:
        return FakeTensor(mode, tensor.to("meta"), device)

    model = RefAVSForSegmentation(make_config()).eval()
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(move(parameter.data), requires_grad=False)
        for name, buffer in module._buffers.items():
            module._buffers[name] = move(buffer)
    inputs = {
        "pixel_values": torch.zeros(1, FRAMES, 3, 96, 96),
        "frame_mask": torch.ones(1, FRAMES, dtype=torch.long),
        "input_features": torch.zeros(1, FRAMES, 96, 64),
        "input_features_mask": torch.ones(1, FRAMES, 96, dtype=torch.long),
        "input_ids": torch.zeros(SENTENCES, 5, dtype=torch.long),
        "attention_mask": torch.ones(SENTENCES, 5, dtype=torch.long),
        "clip_index": torch.zeros(SENTENCES, dtype=torch.long),
    }
    inputs = {name: move(value) for name, value in inputs.items()}
    with mode, torch.no_grad():
        return model(**inputs, memory=model(**inputs).memory).mask_logits


if __name__ == "__main__":
    masks = run_on_shapes()
    sys.stdout.write(f"{masks.shape[0]} {masks.shape[1]} {masks.device}")
