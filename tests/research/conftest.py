"""A synthetic tree, and the three parts after two steps each."""

import pytest

from dataset_script.synthetic import synthesize
from modeling_refavs.research.pretrain import pretrain

from ..dataset_script.synthetic.conftest import benchmark_folder  # noqa: F401, fixtures
from ..training.conftest import prepared, recipe, shared, train  # noqa: F401, fixtures


FAST = {"steps": 2, "batch_size": 2, "learning_rate": 1e-3}


@pytest.fixture(scope="package")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretraining") / "tree"
    synthesize(folder, clips=30)
    return folder


@pytest.fixture(scope="package")
def parts(tree):
    pretrain(tree, tree.parent / "parts", **FAST)
    return tree.parent / "parts"
