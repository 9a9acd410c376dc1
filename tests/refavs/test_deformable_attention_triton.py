"""The Triton kernels against what a CPU does, gradients too; line by line in Triton's interpreter.
`test_cuda.py` runs them themselves."""

import json
import os
import subprocess
import sys

import pytest
import torch

from modeling_refavs.deformable_attention import sample_levels
from tests.refavs.test_deformable_attention import draw_samples


CASES = {  # head size, precision, and how much rounding it does, relative to the greatest value
    "a power of two": (8, torch.float32, 1e-5),
    "no power of two": (6, torch.float32, 1e-5),
    "half precision": (8, torch.bfloat16, 2e-2),
}


@pytest.fixture(scope="module")
def errors() -> dict[str, list[float]]:
    """Of each case; in a process of its own, since Triton asks when it is imported whether to
    interpret."""
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    answer = subprocess.run(
        [sys.executable, "-m", __name__], capture_output=True, text=True, env=environment
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


@pytest.mark.parametrize("case", CASES)
def test_the_kernel_samples_as_a_cpu_does(case, errors):
    assert len(errors[case]) == 5  # the output, and the gradients of values, places and weights
    assert max(errors[case]) < CASES[case][2]


def compare(channels: int, dtype: torch.dtype) -> list[float]:
    from modeling_refavs.deformable_attention_triton import sample_levels_triton

    value, shapes, x, y, weights = draw_samples(channels)
    answers = []
    for sample in (sample_levels, sample_levels_triton):
        asked = [t.clone().requires_grad_() for t in (value.to(dtype), x, y, weights.to(dtype))]
        output = sample(asked[0], shapes, *asked[1:])
        output.float().square().sum().backward()
        answers.append([output.detach(), *(tensor.grad for tensor in asked)])
    assert [found.dtype for found in answers[0]] == [found.dtype for found in answers[1]]
    return [
        float((a.float() - b.float()).abs().max() / a.float().abs().max())
        for a, b in zip(*answers, strict=True)
    ]


if __name__ == "__main__":
    sys.stdout.write(json.dumps({case: compare(*facts[:2]) for case, facts in CASES.items()}))
