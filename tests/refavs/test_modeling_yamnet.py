"""YAMNet against its definition written out in numpy, and through transformers' Auto classes."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForAudioClassification

import modeling_refavs.auto  # noqa: F401, it registers the classes
from modeling_refavs import (
    RefAVSYamnetConfig,
    RefAVSYamnetForAudioClassification,
    RefAVSYamnetModel,
)
from tests.refavs.test_efficientnet_lite_refavs import same_convolution


STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


def tiny() -> RefAVSYamnetConfig:
    return RefAVSYamnetConfig(hidden_sizes=[*range(4, 17), 20], num_labels=7)


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    model = RefAVSYamnetForAudioClassification(tiny()).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2.0)
            torch.nn.init.normal_(module.bias, std=0.3)
    return model


def reference(model, examples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Embedding and class probabilities of `(N, 96, 64)` examples."""
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
    maps, layer = examples[:, None], 0

    def convolve(stride, groups=1):
        nonlocal maps, layer
        name = f"audio_encoder.layers.{layer}"
        maps = same_convolution(maps, weights[f"{name}.0.weight"], stride, groups)
        mean, variance, shift = (
            weights[f"{name}.1.{leaf}"][:, None, None]
            for leaf in ("running_mean", "running_var", "bias")
        )
        maps = np.maximum((maps - mean) / np.sqrt(variance + 1e-4) + shift, 0)
        layer += 1

    convolve(STRIDES[0])
    for stride in STRIDES[1:]:
        convolve(stride, groups=maps.shape[1])
        convolve(1)
    assert maps.shape[2:] == (3, 2)
    embedding = maps.mean(axis=(2, 3))
    logits = embedding @ weights["classifier.weight"].T + weights["classifier.bias"]
    return embedding, 1 / (1 + np.exp(-logits))


def test_equals_the_definition_in_numpy(classifier):
    examples = torch.randn(2, 3, 96, 64)
    embedding, probabilities = reference(classifier, examples.flatten(0, 1).double().numpy())
    with torch.no_grad():
        vectors = classifier.audio_encoder(examples).last_hidden_state
        ours = classifier(examples).logits.sigmoid()
    assert np.ptp(probabilities) > 0.005
    assert vectors.shape == (2, 3, 20)
    np.testing.assert_allclose(vectors.flatten(0, 1), embedding, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.flatten(0, 1), probabilities, rtol=1e-4, atol=1e-6)


def test_parameters_are_those_of_the_published_weights():
    with torch.device("meta"):
        model = RefAVSYamnetForAudioClassification(RefAVSYamnetConfig(num_labels=521))
    trained = sum(parameter.numel() for parameter in model.parameters())
    scales = sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    )
    assert trained - scales == 3_729_481  # of the SavedModel: its norms shift and do not scale
    assert model.config.hidden_size == 1024


def test_a_classifier_is_saved_and_its_encoder_loaded(classifier, tmp_path):
    classifier.save_pretrained(tmp_path)
    examples = torch.randn(3, 96, 64)
    loaded = AutoModelForAudioClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(examples).logits, classifier(examples).logits)
    encoder, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(encoder, RefAVSYamnetModel)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    torch.testing.assert_close(
        encoder(examples).last_hidden_state, classifier.audio_encoder(examples).last_hidden_state
    )
    assert isinstance(AutoModel.from_config(AutoConfig.from_pretrained(tmp_path)), type(encoder))


def test_labels_give_a_loss_that_reaches_every_weight(classifier):
    labels = torch.randint(0, 2, (2, 7))
    outputs = classifier.train()(torch.randn(2, 96, 64), labels=labels)
    probabilities = outputs.logits.sigmoid()
    right = torch.where(labels == 1, probabilities, 1 - probabilities)
    torch.testing.assert_close(outputs.loss, -right.log().mean())
    outputs.loss.backward()
    assert all(parameter.grad is not None for parameter in classifier.parameters())


def test_sizes_and_strides_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="same layers"):
        RefAVSYamnetConfig(hidden_sizes=[4, 8])
