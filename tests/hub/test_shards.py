"""A checkpoint in float16 shards."""

import json

import torch
from safetensors.torch import load_file

from modeling_refavs import RefAVSForSegmentation, RefAVSProcessor
from modeling_refavs.hub import publish
from modeling_refavs.hub.publish import INDEX, save_in_shards
from tests.conftest import SENTENCES


def test_it_loads_in_float32_and_answers_as_before(model, processor, clip, tmp_path):
    save_in_shards(model, processor, tmp_path)
    loaded = RefAVSForSegmentation.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)
    inputs = RefAVSProcessor.from_pretrained(tmp_path)(text=SENTENCES, **clip)
    with torch.no_grad():
        assert loaded(**inputs).mask_logits.shape[:2] == (4, 4)


def test_what_is_trained_is_apart_and_no_file_is_large(model, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "LARGEST", 100_000)
    save_in_shards(model, processor, tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    files = sorted(set(index["weight_map"].values()))
    assert files == sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(files) > 2
    for file in files:
        weights = load_file(tmp_path / file)
        assert len(weights) == 1 or publish.size_of(weights) <= 100_000
        frozen = {any(part in name for part in publish.ENCODERS) for name in weights}
        assert len(frozen) == 1
