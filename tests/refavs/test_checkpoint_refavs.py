"""A checkpoint is taken whole, or refused by the name of what is wrong with it."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from modeling_refavs import RefAVSForSegmentation, RefAVSModel
from modeling_refavs.cli import main
from modeling_refavs.configuration_refavs import RefAVSAudioConfig
from modeling_refavs.modeling_vggish import RefAVSVggishModel

from ..conftest import make_model
from ..media_kit import write_clip


__all__ = ["write_clip"]  # a fixture
WEIGHT = "model.catf.update_projection.weight"


@pytest.fixture(scope="module")
def saved(tmp_path_factory, processor):
    folder = tmp_path_factory.mktemp("saved") / "model"
    make_model().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def change(folder, edit):
    path = folder / "model.safetensors"
    weights = load_file(path)
    edit(weights)
    save_file(weights, path, {"format": "pt"})


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def pickled(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    data = (folder / "pytorch_model.bin").read_bytes()
    (folder / "pytorch_model.bin").write_bytes(data[:5000])


BROKEN = {
    "missing": (
        lambda folder: change(folder, lambda weights: weights.pop(WEIGHT)),
        f"weights {WEIGHT} are missing",
    ),
    "unexpected": (
        lambda folder: change(folder, lambda weights: weights.update(head=torch.ones(2))),
        "weights head are not of this model",
    ),
    "another shape": (
        lambda folder: change(folder, lambda weights: weights.update({WEIGHT: torch.ones(2)})),
        f"weights {WEIGHT} have another shape",
    ),
    "not a number": (
        lambda folder: change(folder, lambda weights: weights[WEIGHT][0].fill_(torch.nan)),
        f"weights {WEIGHT} are not finite",
    ),
    "truncated": (truncate, "its weights cannot be read"),
    "a truncated pickle": (pickled, "cannot be read"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_weights_are_refused_by_name_in_one_line(what, folder, write_clip, tmp_path, capfd):
    damage, words = BROKEN[what]
    damage(folder)
    with pytest.raises((ValueError, OSError), match=words.replace(".", r"\.")):
        RefAVSForSegmentation.from_pretrained(folder)
    output = tmp_path / "out.mp4"
    capfd.readouterr()
    words_of_command = ["--model", str(folder), "--output", str(output)]
    assert main(["segment", str(write_clip()), "a dog", *words_of_command]) == 2
    error = capfd.readouterr().err
    assert words in error
    assert error.splitlines()[-1].startswith(f"refavs segment: --model {folder}: cannot be loaded")
    assert "Traceback" not in error
    assert not output.exists()


def test_a_new_head_may_start_at_random(folder):
    change(folder, lambda weights: weights.pop("class_predictor.weight"))
    with pytest.raises(ValueError, match=r"class_predictor\.weight are missing.*strict=False"):
        RefAVSForSegmentation.from_pretrained(folder)
    model, info = RefAVSForSegmentation.from_pretrained(
        folder, strict=False, output_loading_info=True
    )
    assert info["missing_keys"] == {"class_predictor.weight"}
    assert model.class_predictor.weight.isfinite().all()


def test_the_base_of_a_model_with_a_head_loads(saved):
    base, whole = RefAVSModel.from_pretrained(saved), make_model().model
    torch.testing.assert_close(base.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_an_audio_encoder_is_taken_whole_too(tmp_path):
    config = RefAVSAudioConfig(hidden_sizes=[4, 8, 8, 8], intermediate_size=32)
    RefAVSVggishModel(config).save_pretrained(tmp_path)
    change(tmp_path, lambda weights: weights.pop("embeddings.0.bias"))
    with pytest.raises(ValueError, match=r"embeddings\.0\.bias are missing"):
        RefAVSVggishModel.from_pretrained(tmp_path)
