"""On CUDA: the kernel, the whole model and its recorded graphs answer as the plain ways do. Skipped
where there is none."""

import numpy as np
import pytest
import torch

from modeling_refavs import RefAVSForSegmentation, deformable_attention
from modeling_refavs.deformable_attention import sample_levels
from modeling_refavs.inference.cuda_graphs import record_graphs
from tests.conftest import make_config, stir
from tests.refavs.test_deformable_attention import draw_samples


pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
FRAMES = 4


@pytest.fixture
def model() -> RefAVSForSegmentation:
    torch.manual_seed(0)
    model = RefAVSForSegmentation(make_config()).eval()
    stir(model)
    return model


@pytest.fixture(autouse=True)
def whole_float32(monkeypatch):
    """No TF32: what is compared is equal but for the order of sums."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def draw_inputs(device: str, seed: int = 1, sentences: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = {
        "pixel_values": torch.randn(1, FRAMES, 3, 96, 96, generator=generator),
        "input_features": torch.randn(1, FRAMES, 96, 64, generator=generator),
        "input_ids": torch.randint(4, 50, (sentences, 5), generator=generator),
        "clip_index": torch.zeros(sentences, dtype=torch.long),
    }
    return {name: value.to(device) for name, value in inputs.items()}


@pytest.mark.parametrize("channels", [32, 16, 6])
def test_the_kernel_samples_as_a_cpu_does(channels):
    from modeling_refavs.deformable_attention_triton import sample_levels_triton

    answers = []
    for sample, device in ((sample_levels, "cpu"), (sample_levels_triton, "cuda")):
        value, shapes, *rest = draw_samples(channels)
        asked = [tensor.to(device).requires_grad_() for tensor in (value, *rest)]
        output = sample(asked[0], shapes, *asked[1:])
        output.square().sum().backward()
        answers.append([output.detach().cpu(), *(tensor.grad.cpu() for tensor in asked)])
    for found, expected in zip(*answers, strict=True):
        torch.testing.assert_close(
            found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())
        )


@torch.no_grad()
def test_the_model_answers_as_on_a_cpu(model):
    expected = model(**draw_inputs("cpu"))
    found = model.to("cuda")(**draw_inputs("cuda"))
    assert found.mask_logits.is_cuda
    torch.testing.assert_close(
        found.masks_queries_logits.cpu(), expected.masks_queries_logits, rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(
        found.presence_logits.cpu(), expected.presence_logits, rtol=1e-3, atol=1e-3
    )


def test_it_learns_as_on_a_cpu(model):
    """To within ten times of what float32 errs by on a CPU: what goes through the norms on a
    sound's one token is all but rounding."""
    labels = torch.zeros(2, FRAMES, 24, 24)
    labels[..., 5:12, 3:10] = 1
    gradients = []
    for device, dtype in (("cpu", torch.float32), ("cuda", torch.float32), ("cpu", torch.float64)):
        model.to(device, dtype).zero_grad(set_to_none=True)
        inputs = {
            k: v.to(dtype) if v.is_floating_point() else v for k, v in draw_inputs(device).items()
        }
        model(**inputs, mask_labels=labels.to(device)).loss.backward()
        named = {
            name: p.grad.cpu().double()
            for name, p in model.named_parameters()
            if p.grad is not None
        }
        gradients.append(named)
    cpu, cuda, truth = gradients
    assert cpu.keys() == cuda.keys() == truth.keys()
    whole = torch.stack([gradient.norm() for gradient in truth.values()]).norm()
    for name, expected in truth.items():
        usual = (cpu[name] - expected).norm()
        assert (
            cuda[name] - expected
        ).norm() < 10 * usual + 1e-2 * expected.norm() + 1e-5 * whole, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_replayed_is_what_is_computed(model, dtype, monkeypatch):
    """Four pieces of a video, the memory passed on: the first goes the usual way, the second is
    recorded, the others are replayed."""
    model = model.to("cuda", dtype)
    answers = []
    for recorded in (False, True):
        if recorded:
            record_graphs(model)
        memory, pieces = None, []
        for piece in range(5):
            inputs = {
                k: v.to(dtype) if v.is_floating_point() else v
                for k, v in draw_inputs("cuda", piece).items()
            }
            with torch.inference_mode():
                outputs = model(**inputs, memory=memory)
            memory = outputs.memory
            pieces.append(outputs)
        answers.append(pieces)
    assert len(model.encode_clips.graphs) == 1
    assert len(model.segment.graphs) == 1  # with a memory; without one it was called once
    for found, expected in zip(
        *answers, strict=True
    ):  # all of them: a replay must not write over an earlier answer
        torch.testing.assert_close(found.mask_logits, expected.mask_logits, rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(
            found.memory.visual.total, expected.memory.visual.total, rtol=1e-2, atol=1e-2
        )


def test_several_clips_are_replayed_too(model):
    model.to("cuda")
    inputs = draw_inputs("cuda", sentences=4)
    inputs |= {
        name: inputs[name].repeat_interleave(2, dim=0)
        for name in ("pixel_values", "input_features")
    }
    inputs["clip_index"] = torch.tensor([0, 0, 1, 1], device="cuda")
    with torch.no_grad():
        expected = model(**inputs).mask_logits
        record_graphs(model)
        for _ in range(3):
            found = model(**inputs).mask_logits
    assert len(model.segment.graphs) == 1
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_a_video_is_segmented_as_on_a_cpu():
    """Two seconds at a time, read ahead: the last ones are replayed."""
    pytest.importorskip("av")
    from modeling_refavs.inference.loading import load_model
    from modeling_refavs.inference.segment import segment_video

    masks = []
    for device in ("cpu", "cuda"):
        model, processor = load_model("spaces_demo/synthetic_checkpoint", torch.device(device))
        video = "spaces_demo/examples/bell_first.mp4"
        result = segment_video(
            model, processor, video, ["the house", "the drum"], steps_per_chunk=2
        )
        masks.append(np.stack([result.masks(step) for step in range(result.num_steps)]))
    assert len(model.segment.graphs) == 1
    assert masks[0][:, 0].any()
    assert (masks[0] != masks[1]).mean() < 1e-3


def test_other_devices_and_gradients_go_the_usual_way(model):
    record_graphs(model)
    for _ in range(3):
        model(**draw_inputs("cpu"))
    assert not model.segment.graphs
    model.to("cuda")
    for _ in range(3):
        model(
            **draw_inputs("cuda"), mask_labels=torch.ones(2, FRAMES, 24, 24, device="cuda")
        ).loss.backward()
    assert not model.segment.graphs


def test_half_precision_comes_nearer_to_the_truth_than_the_plain_way(model, monkeypatch):
    """Places are computed in float32 whatever the model's precision."""
    inputs = draw_inputs("cuda")
    half = {
        name: value.bfloat16() if value.is_floating_point() else value
        for name, value in inputs.items()
    }
    with torch.no_grad():
        truth = (
            model.to("cuda")
            .encode_clips(inputs["pixel_values"], inputs["input_features"])
            .mask_features
        )
        model.bfloat16()
        ours = model.encode_clips(
            half["pixel_values"], half["input_features"]
        ).mask_features.float()
        monkeypatch.setattr(deformable_attention, "choose_sampling", lambda device, dtype: None)
        plain = model.encode_clips(
            half["pixel_values"], half["input_features"]
        ).mask_features.float()
    assert (ours - truth).norm() < 1.1 * (plain - truth).norm()
