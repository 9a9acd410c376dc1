"""`push_to_hub` of model and processor, and `Trainer(push_to_hub=True)`: what they leave on the Hub
is loaded from it."""

import pytest
import torch
from transformers import Trainer

from modeling_refavs import RefAVSForSegmentation, RefAVSProcessor
from modeling_refavs.hub.clean_room import ask_model, load_in_clean_room
from modeling_refavs.pipeline_refavs import RefAVSPipeline
from modeling_refavs.training import trainer
from modeling_refavs.training.train import run_training

from ..training.conftest import recipe, shared
from .loopback import TOKEN


__all__ = ["recipe", "shared"]  # fixtures


@pytest.fixture
def client(hub, monkeypatch):
    """The client that transformers keeps for the process, made anew for this Hub."""
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)
    return hub


def test_push_to_hub(client, model, processor):
    model.push_to_hub("user/pushed", private=True)
    processor.push_to_hub("user/pushed")
    assert client.repos["model", "user/pushed"].private
    commit = client.repos["model", "user/pushed"].branches["main"]
    at_home = ask_model(RefAVSPipeline(model=model, processor=processor))
    assert load_in_clean_room("model", "user/pushed", commit, TOKEN) == at_home
    assert model.training is False


def test_a_checkpoint_that_cannot_be_pushed_stops_no_training(
    client, recipe, tmp_path, monkeypatch
):
    def refuse(trainer, folder):
        raise ConnectionError("the Hub\nis away")

    warnings = []
    monkeypatch.setattr(Trainer, "_push_from_checkpoint", refuse)
    monkeypatch.setattr(trainer.logger, "warning", warnings.append)
    output = tmp_path / "run"
    saving = ["--save_strategy", "steps", "--save_steps", "1", "--max_steps", "2"]
    run_training(
        recipe,
        [
            "--output_dir",
            str(output),
            "--push_to_hub",
            "true",
            "--hub_model_id",
            "user/late",
            *saving,
        ],
    )
    expected = "cannot be pushed: the Hub is away. The training goes on"
    assert warnings == [f"{output / f'checkpoint-{step}'}: {expected}" for step in (1, 2)]
    assert (
        client.files("model", "user/late")["model.safetensors"]
        == (output / "model.safetensors").read_bytes()
    )


def test_a_training_pushes_its_model(client, recipe, tmp_path):
    output = tmp_path / "run"
    run_training(
        recipe,
        [
            "--output_dir",
            str(output),
            "--push_to_hub",
            "true",
            "--hub_model_id",
            "user/trained",
            "--max_steps",
            "2",
        ],
    )
    files = client.files("model", "user/trained")
    assert files["model.safetensors"] == (output / "model.safetensors").read_bytes()
    assert {
        "README.md",
        "config.json",
        "processor_config.json",
        "tokenizer.json",
        "pipeline_refavs.py",
    } <= set(files)
    arrived = RefAVSForSegmentation.from_pretrained("user/trained", cache_dir=tmp_path / "cache")
    here = RefAVSForSegmentation.from_pretrained(output)
    for name, weight in here.state_dict().items():
        torch.testing.assert_close(arrived.state_dict()[name], weight, atol=0, rtol=0)
    assert RefAVSProcessor.from_pretrained(
        "user/trained", cache_dir=tmp_path / "cache"
    ).max_text_length
