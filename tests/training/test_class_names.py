"""The shared start: projections that come from the class names of the encoders' classifiers."""

import numpy as np
import pytest
import torch

from modeling_refavs import RefAVSForSegmentation
from modeling_refavs.efficientnet_lite_refavs import (
    RefAVSEfficientNetLiteConfig,
    RefAVSEfficientNetLiteForImageClassification,
)
from modeling_refavs.modeling_yamnet import (
    RefAVSYamnetConfig,
    RefAVSYamnetForAudioClassification,
)
from modeling_refavs.training.class_names import embed_names, fit_linear, mix_names
from modeling_refavs.training.class_names import start_from_class_names as start
from tests.conftest import make_config


NAMES = ["red circle", "blue square", "first object", "left sound"]
HEAD = {"out_features": ["stage1", "stage2", "stage3", "head"]}
LITE = {"width_coefficient": 0.2, "stem_size": 8, "head_size": 16}
YAMNET = {"hidden_sizes": [4, 8, 8, 12], "strides": [2, 2, 2, 2]}


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory):
    """Folders of two classifiers that know the same four names, and are sure of themselves."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("classifiers")
    labels = dict(enumerate(NAMES))
    seeing = RefAVSEfficientNetLiteForImageClassification(
        RefAVSEfficientNetLiteConfig(**LITE, id2label=labels)
    )
    hearing = RefAVSYamnetForAudioClassification(RefAVSYamnetConfig(**YAMNET, id2label=labels))
    for classifier in (seeing, hearing):
        torch.nn.init.orthogonal_(classifier.classifier.weight, gain=8)
    seeing.save_pretrained(folder / "seeing")
    hearing.save_pretrained(folder / "hearing")
    return str(folder / "seeing"), str(folder / "hearing"), seeing, hearing


@pytest.fixture
def model():
    torch.manual_seed(0)
    return RefAVSForSegmentation(
        make_config(
            vision_config={"model_type": "refavs_efficientnet_lite", **LITE, **HEAD},
            audio_config={"model_type": "refavs_yamnet", **YAMNET},
        )
    ).eval()


def features_of(classifier, rng, count=400):
    """Features that the classifier is sure of, and which class each is of."""
    weight = classifier.classifier.weight.detach()
    which = rng.integers(len(weight), size=count)
    noise = 0.05 * rng.standard_normal((count, weight.shape[1]))
    return (weight[which].numpy() / 8 + noise).astype(np.float32), which


def test_what_is_seen_and_heard_lies_at_its_name(model, processor, classifiers):
    image_folder, audio_folder, seeing, hearing = classifiers
    rng = np.random.default_rng(0)
    seen, seen_class = features_of(seeing, rng)
    heard, heard_class = features_of(hearing, rng)
    start(
        model,
        processor,
        image_folder,
        audio_folder,
        seen.reshape(40, 10, -1, 1, 1),
        heard.reshape(40, 10, -1),
    )
    projection = model.model.cue_projection
    with torch.no_grad():
        names = projection.text(embed_names(model.model.text_encoder, processor, NAMES))
        parts = ((projection.visual, seen, seen_class), (projection.audio, heard, heard_class))
        for layer, features, classes in parts:
            tokens = torch.nn.functional.normalize(layer(torch.from_numpy(features)), dim=1)
            nearest = (tokens @ torch.nn.functional.normalize(names, dim=1).T).argmax(1)
            assert (nearest.numpy() == classes).mean() > 0.95
            assert 0.5 < layer(torch.from_numpy(features)).std() < 2


def test_a_classifier_of_other_features_is_refused(model, processor, classifiers):
    image_folder, audio_folder, *_ = classifiers
    with pytest.raises(ValueError, match=r"the classifier of frames reads 16 features.* has 9"):
        start(
            model,
            processor,
            image_folder,
            audio_folder,
            np.zeros((2, 10, 9, 1, 1), np.float32),
            np.zeros((2, 10, 12), np.float32),
        )


def test_mixtures_take_the_likeliest_names():
    names = torch.eye(12)
    probabilities = torch.full((1, 12), 0.01)
    probabilities[0, 3], probabilities[0, 5] = 0.6, 0.3
    mixed = mix_names(probabilities, names)[0]
    assert mixed.count_nonzero() == 10
    assert mixed[3] == pytest.approx(0.6 / 0.98)
    assert mixed.sum() == pytest.approx(1)


def test_a_linear_truth_is_found():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(300, 5, generator=generator)
    truth = features @ torch.randn(5, 3, generator=generator) + 7
    layer = torch.nn.Linear(5, 3)
    assert fit_linear(layer, features, truth) > 0.99
    found = layer(features).detach()
    assert found.square().mean().sqrt() == pytest.approx(1, abs=0.01)
    centred = truth - truth.mean(0)
    assert torch.nn.functional.cosine_similarity(found, centred, dim=1).min() > 0.99
