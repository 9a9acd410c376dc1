"""Files as others publish them, small; and a Hub on loopback.

`huggingface_hub` reads HF_ENDPOINT when it is imported: processes that a test starts find it in
their environment, the client in the test's own process is told by its constants.
"""

import shutil
import socket
from pathlib import Path

import datasets
import pytest
import torch
from huggingface_hub import constants
from transformers import RobertaModel

from modeling_refavs import RefAVSAudioConfig, RefAVSVggishModel
from modeling_refavs.cli import main
from modeling_refavs.hub.convert import released_name, saved_names
from modeling_refavs.hub.publish import CARD_FACTS, EVALUATION
from tests.conftest import make_config, make_released_model, make_tokenizer, stir

from ..dataset_script.conftest import rows_of, write_tree
from .loopback import TOKEN, loopback_hub


@pytest.fixture(scope="session")
def released_state():
    """(names and tensors as the released code saves them, our model with the same weights)."""
    model = make_released_model(encoders=False)
    ours = model.state_dict()
    state = {
        released_name(saved): ours[name]
        for saved, name in saved_names(model).items()
        if ".swin.layernorm." not in name
    }
    buffers = {
        "model_v.criterion.empty_weight": torch.ones(6),
        "model_v.model.pixel_level_module.encoder.encoder.layers.0.blocks.0.attention.self.relative_position_index": torch.zeros(  # noqa: E501
            9, 9, dtype=torch.long
        ),
    }
    return {**state, **buffers}, model


@pytest.fixture(scope="session")
def published(released_state, tmp_path_factory):
    """`released.pth`, `vggish.pth` and the folder `roberta`."""
    folder = tmp_path_factory.mktemp("published")
    torch.save(released_state[0], folder / "released.pth")
    torch.manual_seed(0)
    vggish = RefAVSVggishModel(RefAVSAudioConfig(hidden_sizes=[2, 3, 4, 5], intermediate_size=16))
    pca = {"pproc.pca_eigen_vectors": torch.zeros(128, 128), "pproc.pca_means": torch.zeros(128, 1)}
    torch.save({**vggish.state_dict(), **pca}, folder / "vggish.pth")
    text_model = RobertaModel(make_config().text_config)
    stir(text_model)
    text_model.save_pretrained(folder / "roberta")
    make_tokenizer().save_pretrained(folder / "roberta")
    return folder


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A server that speaks the Hub's routes; no other address can be reached from this process."""
    with loopback_hub() as server:
        template = "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        environment = {"HF_ENDPOINT": server.url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
        for name, value in {**environment, "HF_HOME": str(tmp_path / "hf_home")}.items():
            monkeypatch.setenv(name, value)
        connect = socket.socket.connect

        def connect_to_loopback(self, address):
            assert address[0] == "127.0.0.1", f"{address} is not on loopback"
            return connect(self, address)

        monkeypatch.setattr(socket.socket, "connect", connect_to_loopback)
        yield server


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """A clip of each split."""
    rows = rows_of("seen_0_10000", "test_s", {0: "dog", 1: "man"}) + rows_of(
        "unseen_0_10000", "test_u", {0: "tiger"}
    )
    rows += rows_of("null_c-seen_0_10000", "test_n", {0: "null"}) + rows_of(
        "train_0_10000", "train", {0: "dog"}
    )
    return write_tree(tmp_path_factory.mktemp("tree") / "REFAVS", rows)


@pytest.fixture(scope="session")
def checkpoint(model, processor, tree, tmp_path_factory) -> Path:
    """The tiny model as `refavs publish model` takes it: evaluated, with the facts of its card."""
    folder, evaluation = (
        tmp_path_factory.mktemp("checkpoint"),
        tmp_path_factory.mktemp("evaluation"),
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    arguments = ["--model", str(folder), "--data", str(tree), "--output", str(evaluation)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        assert (
            main(["evaluate", *arguments, "--draws", "20", "--mask-size", "64", "--by", "length"])
            == 0
        )
    shutil.copyfile(evaluation / "report.json", folder / EVALUATION)
    shutil.copyfile(Path(__file__).with_name("drawn_facts.yaml"), folder / CARD_FACTS)
    return folder
