"""The proof that takes minutes and a download: REFAVS_SLOW_TESTS=1 pytest
tests/hub/test_fresh_environment.py

A virtual environment with what the published code imports, and four lines that load the pushed
model from loopback.
"""

import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from modeling_refavs import RefAVSForSegmentation, RefAVSPipeline, RefAVSProcessor
from modeling_refavs.cli import main

from .test_arrival import CLIP, SENTENCE


SHIPPED = CLIP.parents[1] / "synthetic_checkpoint"
PACKAGES = ("torch", "transformers", "numpy", "pillow", "av")


@pytest.mark.slow
def test_four_lines_in_a_fresh_environment(request, checkpoint, tmp_path):
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    wanted = [f"{package}=={version(package).partition('+')[0]}" for package in PACKAGES]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)

    hub = request.getfixturevalue("hub")  # from here on nothing but loopback is reached
    source = Path(shutil.copytree(SHIPPED, tmp_path / "checkpoint"))
    for name in ("card_facts.yaml", "evaluation.json"):
        shutil.copyfile(checkpoint / name, source / name)
    assert main(["publish", "model", str(source), "user/refavs"]) == 0
    card = hub.files("model", "user/refavs")["README.md"].decode()
    snippet = re.search(r"```python\n(.*?)```", card, flags=re.DOTALL)[1]
    shutil.copyfile(CLIP, tmp_path / CLIP.name)
    save = "\nimport numpy\nnumpy.save('masks.npy', answers[0]['masks'])\n"
    subprocess.run([python, "-I", "-c", snippet + save], cwd=tmp_path, check=True)

    segment = RefAVSPipeline(
        model=RefAVSForSegmentation.from_pretrained(source),
        processor=RefAVSProcessor.from_pretrained(source),
    )
    masks = segment(str(CLIP), text=[SENTENCE])[0]["masks"]
    np.testing.assert_array_equal(np.load(tmp_path / "masks.npy"), masks)
