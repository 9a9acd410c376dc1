"""Auto classes and the pipeline: with the package installed, and in a clean room without it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import SENTENCES


@pytest.fixture(scope="module")
def checkpoint(model, processor, clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder / "refavs")
    processor.save_pretrained(folder / "refavs")
    with torch.no_grad():
        outputs = model(**processor(text=SENTENCES, **clip))
    torch.save(
        {"text": SENTENCES, "clip": clip, "mask_logits": outputs.mask_logits},
        folder / "expected.pt",
    )
    return folder


INSTALLED = """
import modeling_refavs.auto
trust = {}
"""

CLEAN_ROOM = """
import sys

sys.modules |= dict.fromkeys(["modeling_refavs", "dataset_script", "scipy", "av"])  # not installed here
trust = {"trust_remote_code": True}
"""  # noqa: E501

ASK = """
import torch
from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline

config = AutoConfig.from_pretrained("refavs", **trust)
processor = AutoProcessor.from_pretrained("refavs", **trust)
model = AutoModel.from_pretrained("refavs", **trust)
expected = torch.load("expected.pt", weights_only=False)
with torch.no_grad():
    outputs = model(**processor(text=expected["text"], **expected["clip"]))
torch.testing.assert_close(outputs.mask_logits, expected["mask_logits"], atol=1e-4, rtol=1e-4)
masks = processor.post_process_masks(outputs, (120, 160))
assert [mask.shape for mask in masks] == [(4, 120, 160)] * 4
task = "referring-audio-visual-segmentation"
pipe = pipeline(task, model="refavs", **trust)
pipe.save_pretrained(f"again_{len(trust)}")
for pipe in (pipe, pipeline(task, model=f"again_{len(trust)}", **trust)):
    answers = pipe(expected["clip"], text=expected["text"])
    assert [answer["expression"] for answer in answers] == expected["text"]
    assert all((answer["masks"] == mask).mean() > 0.9999 for answer, mask in zip(answers, masks, strict=True))
    assert type(pipe).__module__.split(".")[0] == type(model).__module__.split(".")[0]
print(type(model).__module__)
"""  # noqa: E501


@pytest.mark.parametrize(
    ("room", "module"),
    [(INSTALLED, "modeling_refavs.modeling_refavs"), (CLEAN_ROOM, "transformers_modules.refavs")],
    ids=["installed", "clean room"],
)
def test_auto_classes_give_the_same_masks(checkpoint, monkeypatch, room, module):
    monkeypatch.setenv("HF_MODULES_CACHE", str(checkpoint / "modules"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    script = [sys.executable, "-c", room + ASK]
    answer = subprocess.run(script, cwd=checkpoint, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(module)


def test_a_checkpoint_of_the_clean_room_carries_its_code(checkpoint):
    names = {path.name for path in (checkpoint / "refavs").iterdir()}
    assert {
        "modeling_refavs.py",
        "processing_refavs.py",
        "eemc.py",
        "pipeline_refavs.py",
        "model.safetensors",
    } <= names
    assert not [name for name in names if name.endswith((".bin", ".pt"))]
