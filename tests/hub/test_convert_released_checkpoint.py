"""The released checkpoint arrives whole, or is refused in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoProcessor, BertConfig, RobertaConfig

import modeling_refavs.auto
from modeling_refavs import RefAVSReleasedForSegmentation, RefAVSVggishModel
from modeling_refavs.cli import main
from modeling_refavs.hub.convert import examine
from tests.media_kit import tone, write_clip


__all__ = ["modeling_refavs", "write_clip"]

GOLDEN = Path(__file__).parents[1] / "refavs" / "golden"


@pytest.mark.parametrize(
    ("file", "used", "ignored", "depths"),
    [("tiny", 263, 5, [1, 1, 1, 1]), ("full", 815, 25, [2, 2, 18, 2])],
)
def test_the_released_names_and_shapes_fit(file, used, ignored, depths):
    shapes = json.loads((GOLDEN / f"{file}_shapes.json").read_text())
    config, report = examine({name: torch.Size(shape) for name, shape in shapes.items()}, file)
    assert report.fits
    assert (len(report.used), len(report.ignored)) == (used, ignored)
    assert used + ignored == len(shapes)
    mask2former = config.mask2former_config
    assert mask2former.backbone_config.depths == depths
    sizes = (
        mask2former.num_attention_heads,
        mask2former.num_queries,
        mask2former.num_labels,
        config.hidden_size,
    )
    assert sizes == (8, 100, 150, 1024)
    layers = (mask2former.encoder_layers, mask2former.decoder_layers)
    assert (
        layers == {"tiny": (2, 4), "full": (6, 10)}[file]
    )  # the queries before the first layer count as one


def test_every_weight_arrives_and_every_key_is_reported(
    published, released_state, tmp_path, capsys
):
    report_path = tmp_path / "report.json"
    arguments = [
        str(published / "released.pth"),
        str(tmp_path / "out"),
        "--report",
        str(report_path),
    ]
    assert main(["convert-released", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "2 ignored on purpose, 0 missing, 0 unexpected" in printed
    assert "without --text-model" in printed
    assert "without --vggish" in printed

    state, _ = released_state
    report = json.loads(report_path.read_text())
    reported = [name for kind in report.values() for name in kind]
    assert sorted(reported) == sorted(state)
    loaded, info = RefAVSReleasedForSegmentation.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    weights = loaded.state_dict()
    for name, ours_name in report["used"].items():
        assert torch.equal(weights[ours_name], state[name]), name
    assert set(weights) - set(report["used"].values()) == {
        f"mask2former.pixel_level_module.encoder.swin.layernorm.{leaf}"
        for leaf in ("weight", "bias")
    }
    assert {path.name for path in tmp_path.iterdir()} == {"out", "report.json"}
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "model.safetensors", "modeling_refavs_released.py"} <= files
    assert "processor_config.json" not in files


@pytest.fixture(scope="module")
def converted(published, tmp_path_factory):
    """With sound and text, through the command line."""
    folder = tmp_path_factory.mktemp("converted") / "out"
    parts = ["--vggish", str(published / "vggish.pth"), "--text-model", str(published / "roberta")]
    assert main(["convert-released", str(published / "released.pth"), str(folder), *parts]) == 0
    return folder


def test_the_converted_folder_is_known_to_the_auto_classes(converted, published):
    model, processor = (
        AutoModel.from_pretrained(converted),
        AutoProcessor.from_pretrained(converted),
    )
    assert type(model) is RefAVSReleasedForSegmentation
    assert processor.feature_extractor.mode == "contiguous"
    assert processor.max_text_length == 25
    frames, audio = (
        [np.full((40, 60, 3), 128, dtype=np.uint8)] * 3,
        np.zeros(48_000, dtype=np.float32),
    )
    inputs = processor(text="the red circle", frames=frames, audio=audio, sampling_rate=16_000)
    assert inputs["pixel_values"].shape == (1, 3, 3, 384, 384)
    mean = np.array(
        [(128 / 255 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (128 / 255 - 0.406) / 0.225]
    )
    np.testing.assert_allclose(inputs["pixel_values"][0, 0, :, 0, 0], mean, atol=1e-5)  # ImageNet's
    original = torch.load(published / "vggish.pth", weights_only=True)
    for name, value in model.audio_encoder.state_dict().items():
        assert torch.equal(value, original[name]), name


def test_refavs_segment_uses_it(converted, write_clip, tmp_path, capsys):
    video = write_clip(times=tuple(np.arange(12)), end=12.0, sound=[(0.0, tone(12))])
    output = tmp_path / "out.mp4"
    assert (
        main(
            [
                "segment",
                str(video),
                "the red circle",
                "--model",
                str(converted),
                "--output",
                str(output),
            ]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["video"]["steps"] == 12
    assert output.stat().st_size > 1000


# What does not fit


class Runs:
    """Unpickled, it would run code."""

    def __reduce__(self):
        return print, ("code ran",)


def without(state, end):
    return {name: tensor for name, tensor in state.items() if not name.endswith(end)}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda state: without(state, "prompt_proj.2.bias"),
            "1 missing (such as prompt_proj.2.bias)",
        ),
        (lambda state: without(state, "prompt_proj.0.weight"), "it has no 'prompt_proj.0.weight'"),
        (lambda state: without(state, "projection.weight"), "it has no 'model_v.model.pixel_level"),
        (
            lambda state: {**state, "extra.weight": torch.zeros(1)},
            "1 unexpected (such as extra.weight)",
        ),
        (
            lambda state: {**state, "mha_mm.out_proj.bias": torch.zeros(9)},
            "1 misshapen (such as mha_mm.out_proj.bias)",
        ),
        (lambda state: {**state, "audio_proj.0.weight": torch.zeros(9)}, "its shapes fit no model"),
        (lambda state: {"state_dict": state}, "not a state dict"),
        (lambda state: [1, 2], "not a state dict"),
        (lambda state: {**state, "x": Runs()}, "not a file of tensors that torch can read safely"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_in_one_line(
    released_state, tmp_path, capsys, spoil, words
):
    torch.save(spoil(dict(released_state[0])), tmp_path / "spoilt.pth")
    refused(
        ["convert-released", str(tmp_path / "spoilt.pth"), str(tmp_path / "out")], words, capsys
    )
    assert {path.name for path in tmp_path.iterdir()} == {"spoilt.pth"}


def test_a_report_is_written_of_what_does_not_fit_too(released_state, tmp_path, capsys):
    torch.save(without(released_state[0], "prompt_proj.2.bias"), tmp_path / "spoilt.pth")
    report = ["--report", str(tmp_path / "report.json")]
    assert (
        main(["convert-released", str(tmp_path / "spoilt.pth"), str(tmp_path / "out"), *report])
        == 2
    )
    assert json.loads((tmp_path / "report.json").read_text())["missing"] == ["prompt_proj.2.bias"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"checkpoint": "nowhere.pth"}, "nowhere.pth: no such file"),
        ({"checkpoint": "page.pth"}, "not a file of tensors"),
        ({"checkpoint": "vggish.pth"}, "not the released Ref-AVS checkpoint: it has no"),
        ({"output": "full"}, "must be a new or empty folder"),
        ({"output": "nowhere/out"}, "there is no folder"),
        ({"--vggish": "released.pth"}, "not the public VGGish port"),
        (
            {"--vggish": "wide.pth"},
            "wide.pth: gives features of width 96, but the checkpoint takes 128",
        ),
        ({"--text-model": "bert"}, "a bert, but distilroberta-base (a roberta) is needed"),
        ({"--text-model": "wide"}, "wide: gives features of width 48, but the checkpoint takes 32"),
        ({"--text-model": "full"}, "full: cannot be read"),
        ({"--text-model": "nowhere"}, "nowhere: no such folder"),
    ],
)
def test_a_bad_request_is_refused_in_one_line(
    published, tmp_path, capsys, monkeypatch, changes, words
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html>Not found</html>")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "older.txt").write_text("")
    BertConfig().save_pretrained(tmp_path / "bert")
    RobertaConfig(hidden_size=48).save_pretrained(tmp_path / "wide")
    for name in ("released.pth", "vggish.pth", "roberta"):
        (tmp_path / name).symlink_to(published / name)
    vggish = torch.load(published / "vggish.pth", weights_only=True)
    last = {"embeddings.4.weight": torch.zeros(96, 16), "embeddings.4.bias": torch.zeros(96)}
    torch.save({**vggish, **last}, tmp_path / "wide.pth")
    before = {path.name for path in tmp_path.iterdir()}
    request = {"checkpoint": "released.pth", "output": "out", **changes}
    request = {name: str(tmp_path / value) for name, value in request.items()}
    options = [
        part
        for name in ("--vggish", "--text-model")
        if name in request
        for part in (name, request[name])
    ]
    refused(["convert-released", request["checkpoint"], request["output"], *options], words, capsys)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_write_that_fails_leaves_nothing(published, tmp_path, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(RefAVSReleasedForSegmentation, "save_pretrained", fail)
    refused(
        ["convert-released", str(published / "released.pth"), str(tmp_path / "out")],
        "No space left",
        capsys,
    )
    assert not list(tmp_path.iterdir())


def refused(arguments, words, capsys):
    assert main(arguments) == 2
    printed, error = capsys.readouterr()
    lines = [line for line in error.splitlines() if line and "Loading weights" not in line]
    assert len(lines) == 1, error
    assert words in lines[0]
    assert "code ran" not in printed


# VGGish alone


def test_vggish_is_converted_without_its_last_relu_and_pca(published, tmp_path, capsys):
    assert main(["convert-vggish", str(published / "vggish.pth"), str(tmp_path / "out")]) == 0
    assert (
        "18 keys used, 2 ignored on purpose, 0 missing, 0 unexpected, 0 misshapen"
        in capsys.readouterr().out
    )
    model = RefAVSVggishModel.from_pretrained(tmp_path / "out")
    assert model.config.hidden_sizes == [2, 3, 4, 5]
    assert model.config.depths == [1, 1, 2, 2]
    original = torch.load(published / "vggish.pth", weights_only=True)
    assert all(torch.equal(value, original[name]) for name, value in model.state_dict().items())
    assert (model(torch.randn(2, 96, 64)).last_hidden_state < 0).any()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda state: without(state, "embeddings.4.bias"),
            "1 missing (such as embeddings.4.bias)",
        ),
        (lambda state: without(state, "embeddings.4.weight"), "'embeddings.4.weight' is missing"),
        (
            lambda state: {**state, "embeddings.0.weight": torch.zeros(16, 9)},
            "1 misshapen (such as embeddings.0.weight)",
        ),
        (
            lambda state: {**state, "head.weight": torch.zeros(1)},
            "1 unexpected (such as head.weight)",
        ),
        (lambda state: {}, "not the public VGGish port"),
    ],
)
def test_a_vggish_that_does_not_fit_is_refused_in_one_line(
    published, tmp_path, capsys, spoil, words
):
    torch.save(
        spoil(torch.load(published / "vggish.pth", weights_only=True)), tmp_path / "spoilt.pth"
    )
    refused(["convert-vggish", str(tmp_path / "spoilt.pth"), str(tmp_path / "out")], words, capsys)
    assert {path.name for path in tmp_path.iterdir()} == {"spoilt.pth"}
