"""Auto classes and the pipeline: with the package installed, and in a clean room without it."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from modeling_refavs import RefAVSForSegmentation, RefAVSModel, RefAVSPipeline, RefAVSProcessor
from modeling_refavs.hub.publish import write_code
from tests.conftest import SENTENCES


ROOT = Path(__file__).parents[2]
SHIPPED, CLIP = (
    ROOT / "spaces_demo/synthetic_checkpoint",
    ROOT / "spaces_demo/examples/bell_first.mp4",
)


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


@pytest.mark.parametrize(
    "folder", sorted(SHIPPED.parent.glob("*_checkpoint")), ids=lambda f: f.name
)
def test_the_shipped_checkpoints_carry_the_code_of_the_package(folder, tmp_path):
    write_code(tmp_path)
    code, shipped = ({path.name for path in place.glob("*.py")} for place in (tmp_path, folder))
    assert shipped == code, "make code"
    for name in code:
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes(), f"{name}: make code"


def run_alone(script: str, folder: Path) -> str:
    """What a file prints that stands in a folder of its own, where our packages are not
    installed."""
    for ours in ("modeling_refavs", "dataset_script"):
        missing = f'raise ModuleNotFoundError("No module named {ours!r}", name={ours!r})\n'
        (folder / f"{ours}.py").write_text(missing)
    (folder / "script.py").write_text(script)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "HF_MODULES_CACHE": str(folder / "modules"),
        "HF_HUB_OFFLINE": "1",
    }
    answer = subprocess.run(
        [sys.executable, "script.py"], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


FOUR_LINES = {
    "pipeline": f"""
from transformers import pipeline
pipe = pipeline(model={str(SHIPPED)!r}, trust_remote_code=True)
answers = pipe({str(CLIP)!r}, text="the first object to make a sound")
print(answers[0]["masks"].sum(), type(pipe).__module__)
""",
    "model": f"""
from transformers import AutoModel, AutoProcessor
model = AutoModel.from_pretrained({str(SHIPPED)!r}, trust_remote_code=True)
processor = AutoProcessor.from_pretrained({str(SHIPPED)!r}, trust_remote_code=True)
print(model.num_parameters(), type(model).__module__)
""",
}


@pytest.mark.parametrize("kind", FOUR_LINES)
def test_four_lines_in_a_file_load_the_shipped_checkpoint_without_the_package(kind, tmp_path):
    number, module = run_alone(FOUR_LINES[kind], tmp_path).split()
    assert module.startswith("transformers_modules.synthetic_checkpoint")
    model = RefAVSForSegmentation.from_pretrained(SHIPPED)
    if kind == "model":
        assert int(number) == model.num_parameters()
    else:
        processor = RefAVSProcessor.from_pretrained(SHIPPED)
        pipe = RefAVSPipeline(model=model, processor=processor)
        answers = pipe(str(CLIP), text="the first object to make a sound")
        assert int(number) == answers[0]["masks"].sum()


ORDERS = [
    "import modeling_refavs; from transformers import pipeline",
    "from transformers import pipeline; import modeling_refavs",
    "import modeling_refavs; from transformers.pipelines import pipeline",
    "import modeling_refavs, transformers; pipeline = transformers.pipeline",
    "import modeling_refavs.configuration_refavs; from transformers import pipeline",
    "import modeling_refavs; from transformers import Mask2FormerModel, pipeline",
]


@pytest.mark.parametrize(
    "order", [*ORDERS[:2], *(pytest.param(order, marks=pytest.mark.slow) for order in ORDERS[2:])]
)
def test_importing_the_package_registers_the_task_in_any_order(order):
    code = f"""
{order}
from transformers import AutoModel
print(type(AutoModel.from_pretrained({str(SHIPPED)!r})).__module__)
pipe = pipeline("referring-audio-visual-segmentation", model={str(SHIPPED)!r})
print(type(pipe).__module__)
"""
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert answer.stdout.split() == [
        "modeling_refavs.modeling_refavs",
        "modeling_refavs.pipeline_refavs",
    ], answer.stderr


@pytest.mark.parametrize("model_class", [RefAVSModel, RefAVSForSegmentation])
def test_auto_model_gives_the_class_that_was_saved(model_class, model, tmp_path):
    saved = copy.deepcopy(model.model if model_class is RefAVSModel else model)
    saved.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is model_class
    assert loaded.state_dict().keys() == saved.state_dict().keys()
    assert type(AutoModel.from_config(loaded.config)) is model_class
    assert type(AutoModel.from_config(model.config)) is RefAVSForSegmentation  # saved by nobody


def test_a_folder_of_the_model_without_its_head_carries_its_code(model, tmp_path):
    model.model.save_pretrained(tmp_path / "base")
    script = """
from transformers import AutoModel
print(type(AutoModel.from_pretrained("base", trust_remote_code=True)).__name__)
"""
    assert run_alone(script, tmp_path).split() == ["RefAVSModel"]
