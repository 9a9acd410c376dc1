"""What anything that works with transformers' models expects of ours."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from transformers import AutoModel, PreTrainedModel, default_data_collator
from transformers.modeling_layers import GradientCheckpointingLayer

from modeling_refavs import RefAVSVggishModel
from tests.conftest import SENTENCES, make_config, make_model, make_released_model
from tests.refavs.baseline_kit import BASELINES, make_baseline


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def inputs(processor, clip):
    return processor(text=SENTENCES, **clip)


def as_of(model, inputs):
    floats = {
        name: value.to(model.dtype)
        for name, value in inputs.items()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    }
    return {**inputs, **floats}


@torch.no_grad()
def ask(model, inputs):
    return model(**as_of(model, inputs))


def test_rows_of_the_default_collator_are_asked_of_their_own_clips(processor, clip):
    model = make_model().double()  # rounding may turn a pixel of the masks that attention heeds
    clips = [clip, {**clip, "frames": [np.flipud(frame).copy() for frame in clip["frames"]]}]
    alone = [
        processor(text=f"{sentence}", **clip)
        for sentence, clip in zip(SENTENCES[:2], clips, strict=True)
    ]
    length = max(inputs["input_ids"].shape[1] for inputs in alone)
    rows = []
    for inputs in alone:
        missing = (0, length - inputs["input_ids"].shape[1])
        padded = {
            "input_ids": torch.nn.functional.pad(inputs["input_ids"], missing, value=1),
            "attention_mask": torch.nn.functional.pad(inputs["attention_mask"], missing),
        }
        rows.append({name: value[0] for name, value in {**inputs, **padded}.items()})
    outputs = ask(model, default_data_collator(rows))
    for row, inputs in enumerate(alone):
        expected = ask(model, inputs).mask_logits[0]
        torch.testing.assert_close(outputs.mask_logits[row], expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(outputs.mask_logits[0], outputs.mask_logits[1], atol=1e-2)


def test_hidden_states_and_attentions_are_those_of_the_cue_transformers(inputs):
    model = make_model(attn_implementation="eager")
    outputs = model(**inputs, output_hidden_states=True, output_attentions=True)
    rows, tokens = 4 * 4, outputs.cue_hidden_states.shape[2]
    assert [tuple(states.shape) for states in outputs.hidden_states] == [(rows, tokens, 32)] * 3
    assert [tuple(part.shape) for part in outputs.attentions] == [(rows, 4, tokens, tokens)] * 2
    shape = (rows, 4, 10, tokens)
    assert [tuple(part.shape) for part in outputs.cross_attentions] == [shape] * 2
    torch.testing.assert_close(outputs.hidden_states[-1], outputs.cue_hidden_states.flatten(0, 1))
    for weights in (*outputs.attentions, *outputs.cross_attentions):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        hidden = outputs.cue_mask.flatten(0, 1) == 0
        assert not weights.masked_select(hidden[:, None, None]).any()


def test_hidden_states_hold_gradients_and_may_be_chosen(model, inputs):
    outputs = model(**inputs, output_hidden_states=[0, -1])
    assert [states is not None for states in outputs.hidden_states] == [True, False, True]
    outputs.hidden_states[0].retain_grad()
    outputs.mask_logits.sum().backward()
    assert outputs.hidden_states[0].grad.abs().sum() > 0
    assert model(**inputs).hidden_states is None
    base = model.model(**inputs, output_hidden_states=True)
    torch.testing.assert_close(base.hidden_states[-1], outputs.hidden_states[-1])
    model.zero_grad()


def test_attention_is_of_the_implementation_that_the_config_names(inputs):
    """In double precision, so that no mask of the masked attention tips over; the softmax of
    transformers' own eager attention is in single precision all the same."""
    model = make_model().double()
    assert model.config._attn_implementation == "sdpa"
    for name in ("sdpa", "eager"):
        other = make_model(attn_implementation=name).double()
        assert {
            part.config._attn_implementation
            for part in other.modules()
            if isinstance(part, PreTrainedModel)
        } == {name}
        answer = ask(other, inputs).mask_logits
        expected = ask(model, inputs).mask_logits
        torch.testing.assert_close(answer, expected, atol=5e-3, rtol=1e-3)
    other.set_attn_implementation("sdpa")
    assert ask(other, inputs).mask_logits.equal(ask(model, inputs).mask_logits)


def test_outputs_can_be_compared(model, inputs):
    """As transformers' own tests do: a tuple of floats and whole numbers."""
    for part in (model, model.model):
        outputs, values = part(**inputs), part(**inputs, return_dict=False)
        assert isinstance(values, tuple)
        assert len(values) == len(outputs.to_tuple())
        tensors = [value for value in outputs.to_tuple() if isinstance(value, torch.Tensor)]
        assert all(value.dtype != torch.bool for value in tensors)
        torch.testing.assert_close(values[0], outputs.to_tuple()[0])


MODELS = {"ours": make_model, "released": make_released_model}


@pytest.mark.parametrize(
    ("kind", "reentrant"), [("ours", False), ("ours", True), ("released", False)]
)
def test_checkpointing_changes_no_gradient(kind, reentrant, inputs):
    """In double precision, since sums are taken in another order. Not the released model reentrant:
    the mask decoder's layer in transformers takes the maps in a list, whose gradients that form
    does not see."""
    labels = torch.zeros(4, 4, 24, 24)
    labels[..., 6:18, 4:12] = 1

    def gradients(model):
        loss = model(**as_of(model, inputs), mask_labels=labels).loss
        loss.backward()
        return loss, {
            name: parameter.grad
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }

    plain, checkpointed = (MODELS[kind]().double().train() for _ in range(2))
    checkpointed.activation_checkpointing_enable({"use_reentrant": reentrant})
    layers = [
        part for part in checkpointed.modules() if isinstance(part, GradientCheckpointingLayer)
    ]
    assert all(layer.gradient_checkpointing for layer in layers)
    if reentrant:  # needs an input that has a gradient
        checkpointed.enable_input_require_grads()
    (loss, expected), (other, found) = gradients(plain), gradients(checkpointed)
    torch.testing.assert_close(other, loss)
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", MODELS)
def test_vocabulary_is_resized_and_pixels_have_embeddings(kind):
    model = MODELS[kind]()
    assert model.get_input_embeddings() is not None
    encoder = model.base_model.text_encoder
    for part in {model, model.base_model}:
        part.resize_token_embeddings(350)
    assert encoder.get_input_embeddings().num_embeddings == model.config.text_config.vocab_size
    assert model.config.text_config.vocab_size == 350


def test_what_is_put_into_a_frozen_encoder_later_is_trained():
    model = make_model().train()
    attention = model.model.text_encoder.encoder.layer[0].attention.self
    attention.query = torch.nn.Sequential(attention.query, torch.nn.Linear(32, 32))
    model.train()
    trained = {name for name, value in attention.query.named_parameters() if value.requires_grad}
    assert trained == {"1.weight", "1.bias"}
    assert not any(p.requires_grad for p in model.model.text_encoder.embeddings.parameters())
    assert attention.query[1].training
    assert not attention.training


def test_what_others_froze_stays_frozen_with_a_frozen_mask_decoder():
    model = make_model(freeze_mask_decoder=True).requires_grad_(False)
    model.train()
    assert not any(parameter.requires_grad for parameter in model.parameters())


TARGETS = {
    "encoders": r".*(text_encoder.*\.(query|value)|encoder\.swin.*\.(q_proj|v_proj))",
    "all": "all-linear",
}


@pytest.mark.parametrize("reentrant", [None, False])
@pytest.mark.parametrize("target", TARGETS)
def test_lora_trains_merges_and_reloads(target, reentrant, inputs, tmp_path):
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(
        make_model(freeze_mask_decoder=True),
        peft.LoraConfig(r=2, target_modules=TARGETS[target], init_lora_weights=False),
    )
    model.train()
    names = {name for name, value in model.named_parameters() if value.requires_grad}
    assert names
    assert all("lora_" in name for name in names)
    if reentrant is not None:
        model.base_model.model.activation_checkpointing_enable({"use_reentrant": reentrant})
        model.enable_input_require_grads()
    labels = torch.zeros(4, 4, 24, 24)
    labels[..., 6:18, 4:12] = 1
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    model(**inputs, mask_labels=labels).loss.backward()
    optimizer.step()
    moved = {name for name, value in model.named_parameters() if not value.equal(before[name])}
    assert moved <= names
    assert any("text_encoder" in name for name in moved)
    assert any("swin" in name for name in moved)
    assert all(value.grad is not None for value in model.parameters() if value.requires_grad)

    model.eval()
    expected = ask(model, inputs).mask_logits
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(
        make_model(freeze_mask_decoder=True),
        tmp_path,
        is_trainable=True,  # torch rounds otherwise where no weight wants a gradient
    ).eval()
    torch.testing.assert_close(ask(again, inputs).mask_logits, expected)
    again.double()  # a cue that is rounded otherwise turns pixels of the attention masks
    expected = ask(again, inputs).mask_logits
    merged = again.merge_and_unload()
    torch.testing.assert_close(ask(merged, inputs).mask_logits, expected, atol=1e-4, rtol=1e-4)


def test_lora_of_the_masked_cross_attention_is_refused_in_one_line(inputs):
    """Its weights are one tensor, which no adapter fits; what projects its answer is a layer."""
    peft = pytest.importorskip("peft")
    with pytest.raises(ValueError, match=r"(?s)RefAVSMaskedCrossAttention.* is not supported"):
        peft.get_peft_model(make_model(), peft.LoraConfig(target_modules=["cross_attn"]))


def make_vggish():
    torch.manual_seed(0)
    return RefAVSVggishModel(make_config().audio_config).eval()


OFFLOADED = {
    **MODELS,
    **{name: partial(make_baseline, name) for name in BASELINES},
    "vggish": make_vggish,
}


@pytest.fixture(scope="module", params=OFFLOADED)
def offloaded(request, inputs, tmp_path_factory):
    """A model that was loaded whole, where it is saved, and what it is asked."""
    model, folder = OFFLOADED[request.param](), tmp_path_factory.mktemp("offloaded")
    model.save_pretrained(folder / "saved")
    if request.param == "vggish":
        inputs = {"input_features": inputs["input_features"]}
    return model, folder, dict(inputs)


def load_in_part(model, folder, memory: int):
    """`memory` bytes of its weights, and the rest is left on the disk."""
    return type(model).from_pretrained(
        folder / "saved",
        device_map="auto",
        max_memory={"cpu": memory},
        offload_folder=folder / "rest",
    )


def share_on_disk(model) -> float:
    sizes = [(part.numel(), part.device.type == "meta") for part in model.parameters()]
    return sum(size for size, on_disk in sizes if on_disk) / sum(size for size, _ in sizes)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_weights_on_a_disk_are_read_where_they_are_used(share, offloaded):
    """All on the disk, each weight is brought to the forward of its own module alone."""
    model, folder, inputs = offloaded
    size = sum(part.numel() * part.element_size() for part in model.parameters())
    # of which accelerate leaves room for the largest part
    loaded = load_in_part(model, folder, int((1 - share) * size))
    assert share - 0.01 < share_on_disk(loaded) <= 1
    assert loaded.device.type == "cpu"
    expected, answer = ask(model, inputs), ask(loaded, inputs)
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(answer[name], value)


@pytest.mark.parametrize("kind", MODELS)
def test_silence_is_made_where_the_model_computes(kind, inputs, tmp_path):
    model = MODELS[kind]()
    model.save_pretrained(tmp_path / "saved")
    loaded = load_in_part(model, tmp_path, 0)
    silent = {name: value for name, value in inputs.items() if not name.startswith("input_feat")}
    expected = ask(model, silent).mask_logits
    torch.testing.assert_close(ask(loaded, silent).mask_logits, expected)


def test_no_module_is_split_from_weights_of_its_own(offloaded):
    """A lone weight on a disk is brought to no forward."""
    model, *_ = offloaded
    kept = tuple(
        f"{name}."
        for name, part in model.named_modules()
        if type(part).__name__ in model._no_split_modules
    )
    for name, part in model.named_modules():
        own = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        assert not own or not list(part.children()) or f"{name}.".startswith(kept), name
    assert model._no_split_modules <= {type(part).__name__ for part in model.modules()}


def test_device_map_and_dtype_are_chosen(model, inputs, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, device_map="auto", dtype="auto")
    assert loaded.dtype == torch.float32
    expected = ask(model, inputs).mask_logits
    torch.testing.assert_close(ask(loaded, inputs.to(loaded.device)).mask_logits.cpu(), expected)
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(tmp_path / "half")
    half = AutoModel.from_pretrained(tmp_path / "half", dtype="auto")
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    assert type(AutoModel.from_pretrained(tmp_path / "half", dtype=torch.float32)) is type(model)


def test_an_exported_program_answers_alike(inputs, tmp_path):
    """By `torch.export` through transformers, which saves the types of the outputs too."""
    exporters = pytest.importorskip("transformers.exporters.exporter_dynamo")
    model = make_model()
    exported = exporters.DynamoExporter().export(model, dict(inputs), exporters.DynamoConfig())
    exported.save_pretrained(tmp_path)
    answer = type(exported).from_pretrained(tmp_path)(**inputs)
    torch.testing.assert_close(answer["mask_logits"], ask(model, inputs).mask_logits)


def test_an_onnx_program_answers_alike(inputs, tmp_path):
    """Probabilities: of one that is almost 0 or 1 a logit magnifies the rounding."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

    model = make_model()
    exported = OnnxExporter().export(model, dict(inputs), config=OnnxConfig())
    exported.save_pretrained(tmp_path)
    answer, expected = type(exported).from_pretrained(tmp_path)(**inputs), ask(model, inputs)
    for name in ("mask_logits", "presence_logits"):
        torch.testing.assert_close(
            torch.as_tensor(answer[name]).sigmoid(), expected[name].sigmoid(), rtol=0, atol=1e-4
        )


def test_int8_weights_are_saved_and_read_back(inputs, tmp_path):
    quantization = pytest.importorskip("torchao.quantization")
    from transformers import TorchAoConfig

    make_model().save_pretrained(tmp_path / "whole")
    config = TorchAoConfig(quantization.Int8WeightOnlyConfig())
    model = AutoModel.from_pretrained(tmp_path / "whole", quantization_config=config)
    model.save_pretrained(tmp_path / "int8")
    again = AutoModel.from_pretrained(tmp_path / "int8")
    assert torch.equal(ask(again, inputs).mask_logits, ask(model, inputs).mask_logits)
