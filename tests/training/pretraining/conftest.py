"""A synthetic tree, and the three parts after two steps each."""

from argparse import Namespace
from pathlib import Path

import pytest

from dataset_script.synthetic import synthesize
from modeling_refavs.training.pretraining.command import PARTS, run_pretrain


def command(tree: Path, output: Path, **changes) -> Namespace:
    values = {"parts": list(PARTS), "resume": False, "steps": 2, "batch_size": 2, "learning_rate": 1e-3, "seed": 0}
    return Namespace(tree=tree, output=output, **(values | changes))


@pytest.fixture(scope="package")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretraining") / "tree"
    synthesize(folder, clips=30)
    return folder


@pytest.fixture(scope="package")
def parts(tree):
    run_pretrain(command(tree, tree.parent / "parts"))
    return tree.parent / "parts"
