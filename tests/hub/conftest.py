"""Files as others publish them, small."""

import pytest
import torch
from transformers import RobertaModel

from modeling_refavs import RefAVSAudioConfig, RefAVSVggishModel
from modeling_refavs.hub.convert_released_checkpoint import released_name
from modeling_refavs.hub.state_dict import saved_names
from tests.conftest import make_config, make_released_model, make_tokenizer, stir


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
        "model_v.model.pixel_level_module.encoder.encoder.layers.0.blocks.0.attention.self.relative_position_index": torch.zeros(
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
