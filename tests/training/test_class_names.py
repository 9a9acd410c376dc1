"""The shared start: projections that come from the class names of the encoders' classifiers."""

from types import SimpleNamespace

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
from modeling_refavs.training.cache import PreparedSplit
from modeling_refavs.training.class_names import (
    embed_names,
    find_objects,
    find_true,
    fit_linear,
    fit_makers,
    fit_naming,
    fit_verbs,
    mix_names,
    read_nouns,
    read_tokens,
)
from modeling_refavs.training.class_names import start_from_class_names as start
from modeling_refavs.training.dataset import PreparedClip, Sentence
from tests.conftest import VOCABULARY, make_config, make_model


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


def split_of(model, processor, seen, heard, which):
    """Clips of one object each, `which (clips,)` of the names, that fills its frames."""
    tokens = processor.tokenize(NAMES)
    ids, mask = (torch.from_numpy(tokens[key]) for key in ("input_ids", "attention_mask"))
    with torch.no_grad():
        states = model.model.text_encoder(ids, attention_mask=mask).last_hidden_state
    words = [row[real > 0].numpy() for row, real in zip(states, mask, strict=True)]
    ends = np.cumsum([len(part) for part in words]).tolist()
    return PreparedSplit(
        clips=[
            PreparedClip(str(row), (Sentence(NAMES[name], False, row),))
            for row, name in enumerate(which)
        ],
        frames=np.empty(0),
        masks=np.full((len(which), 10, 2), 255, np.uint8),
        mask_size=4,
        sound={"audio_features": heard},
        text={"text_features": np.concatenate(words)},
        text_spans=dict(zip(NAMES, zip([0, *ends], ends, strict=False), strict=True)),
        frame_features=seen,
    )


def features_of(classifier, which, rng):
    """Features `(clips, 10, C)` that the classifier is sure of."""
    weight = classifier.classifier.weight.detach().numpy() / 8
    noise = 0.05 * rng.standard_normal((len(which), 10, weight.shape[1]))
    return (weight[which][:, None] + noise).astype(np.float32)


def test_what_is_seen_and_heard_lies_at_its_name(model, processor, classifiers):
    image_folder, audio_folder, seeing, hearing = classifiers
    rng = np.random.default_rng(0)
    which = rng.integers(len(NAMES), size=40)
    seen, heard = (features_of(classifier, which, rng) for classifier in (seeing, hearing))
    split = split_of(model, processor, seen[..., None, None], heard, which)
    start(model, processor, image_folder, audio_folder, split)
    projection = model.model.cue_projection
    with torch.no_grad():
        names = projection.text(embed_names(model.model.text_encoder, processor, NAMES))
        parts = ((projection.visual, seen, 2), (projection.audio, heard, 1))
        for layer, features, deviation in parts:
            found = layer(torch.from_numpy(features))
            tokens = torch.nn.functional.normalize(found, dim=-1)
            nearest = (tokens @ torch.nn.functional.normalize(names, dim=1).T).argmax(-1)
            assert (nearest.numpy() == which[:, None]).mean() > 0.95
            assert found.square().mean().sqrt() == pytest.approx(deviation, rel=0.2)


def test_objects_are_means_over_what_they_cover(model, processor):
    rng = np.random.default_rng(0)
    seen = rng.standard_normal((2, 10, 5, 2, 2)).astype(np.float32)
    split = split_of(model, processor, seen, np.zeros((2, 10, 3)), [0, 1])
    split.masks[0] = np.packbits(np.r_[[[1, 1, 0, 0]] * 2, [[0, 0, 0, 0]] * 2])  # the first token
    split.masks[1] = 0
    features, sentences = find_objects(split)
    assert features.numpy() == pytest.approx(seen[0, ::3, :, 0, 0])
    assert len(sentences) == 4


def test_a_classifier_of_other_features_is_refused(model, processor, classifiers):
    image_folder, audio_folder, *_ = classifiers
    seen, heard = np.zeros((2, 10, 9, 1, 1), np.float32), np.zeros((2, 10, 12), np.float32)
    split = split_of(model, processor, seen, heard, [0, 1])
    with pytest.raises(ValueError, match=r"the classifier of frames reads 16 features.* has 9"):
        start(model, processor, image_folder, audio_folder, split)


def test_naming_learns_of_which_classes_a_noun_is_true(processor, classifiers, monkeypatch):
    """Circle and square, of one class each; shape, of both; red, which is near a circle here; and
    first, what squares do."""
    torch.manual_seed(0)
    folder, *_ = classifiers
    others = [[f"other{letter}"] for letter in "abcdefghijklmnop"]
    names = [["circle", "shape"], ["square", "Shape"], *others]
    near = {"red": ("circle", 1), "sound": ("Shape", 2)}
    verbs = {"first": ["square"], "left": ["red", "square"]}
    grounding = {"loss_weight": 1.0, "use_alignment": True, "vocabulary_size": len(names)}
    nouns, true_of = find_true(names, near, verbs)
    true_of = dict(zip(nouns, true_of[:, :3].tolist(), strict=True))
    assert true_of["shape"] == [1, 1, 0]
    assert true_of["red"] == pytest.approx([0.7, 0, 0])
    assert true_of["sound"] == pytest.approx([0.49, 0.49, 0])
    assert true_of["first"] == [0, 1, 0]
    assert true_of["left"] == pytest.approx([0.7, 1, 0])
    assert set(true_of) == {"circle", "square", "shape", *near, *verbs, *(n[0] for n in others)}
    head, table = make_model(grounding_config=grounding).model.naming, torch.randn(VOCABULARY, 32)

    def encoder(ids, attention_mask):  # tells all tokens apart
        return SimpleNamespace(last_hidden_state=table[ids])

    for name, value in (("MODIFIERS", "big"), ("NAMING_RATE", 1e-2)):  # for fewer steps
        monkeypatch.setattr(f"modeling_refavs.training.class_names.{name}", value)
    classifier = torch.nn.Linear(head.classifier.in_features, len(names))
    fit_naming(head, classifier, names, near, verbs, encoder, processor)
    assert torch.equal(head.classifier.weight, classifier.weight)
    assert not any(weight.requires_grad for weight in head.parameters())
    with torch.no_grad():
        said = [f"The {noun}." for noun in ("circle", "square", "shape", "red", "first")]
        states = torch.nn.utils.rnn.pad_sequence(read_tokens(encoder, processor, said), True)
        named = head.read(states.float(), states.any(-1))
    circle, square, shape, red, first = named[:, :2].tolist()
    assert circle[0] > circle[1] + 0.5
    assert square[1] > square[0] + 0.5
    assert min(shape) > 0.5
    assert first[1] > first[0] + 0.5
    assert circle[0] > red[0] > red[1] + 0.3
    with pytest.raises(ValueError, match=r"vocabulary_size is 18, the classifier has 18.* of 17"):
        fit_naming(head, classifier, names[:-1], near, verbs, encoder, processor)
    with pytest.raises(ValueError, match=r"has no class_names\.json"):
        read_nouns(folder, "class_names.json")


def test_a_sound_is_of_the_classes_that_make_it(classifiers):
    """The barking of two kinds of dog, and what a trumpet alone does."""
    *_, hearing = classifiers
    model = RefAVSForSegmentation(
        make_config(
            audio_config={"model_type": "refavs_yamnet", **YAMNET},
            grounding_config={
                "loss_weight": 1.0,
                "use_alignment": True,
                "vocabulary_size": 3,
                "sound_classes": 4,
            },
        )
    ).eval()
    head, names = model.model.naming, [["Beagle", "dog"], ["Collie", "Dog"], ["trumpet"]]
    makers = [["dog"], ["trumpet"], ["dog", "trumpet"], []]
    fit_makers(head, hearing.classifier, makers, names)
    half, third = 1 / 2, 1 / 3
    expected = torch.tensor([[half, 0, third, 0], [half, 0, third, 0], [0, 1, third, 0]])
    assert torch.equal(head.makers.weight, expected)
    features = torch.randn(5, 12) / 8
    with torch.no_grad():
        sure = hearing.classifier(features).sigmoid() ** 2
        found = head.find_makers(features)
    made = sure @ expected.T
    torch.testing.assert_close(found, made / made.amax(1, keepdim=True))
    with pytest.raises(ValueError, match=r"sound_classes is 4 and vocabulary_size 3.* 3 sounds"):
        fit_makers(head, hearing.classifier, makers[:3], names)


def test_a_verb_is_of_the_sounds_that_it_names(processor, monkeypatch):
    grounding = {"loss_weight": 1.0, "use_alignment": True, "vocabulary_size": 3}
    grounding["sound_classes"] = 3
    head, table = make_model(grounding_config=grounding).model.naming, torch.randn(VOCABULARY, 32)

    def encoder(ids, attention_mask):  # tells all tokens apart
        return SimpleNamespace(last_hidden_state=table[ids])

    for name, value in (("VERBS_STEPS", 300), ("NAMING_RATE", 1e-2)):
        monkeypatch.setattr(f"modeling_refavs.training.class_names.{name}", value)
    fit_verbs(head, [["first"], ["first", "second"], []], ["circle"], encoder, processor)
    assert not any(weight.requires_grad for weight in head.verbs.parameters())
    with torch.no_grad():
        said = [f"The {word} one." for word in ("first", "second", "circle")]
        states = torch.nn.utils.rnn.pad_sequence(read_tokens(encoder, processor, said), True)
        found = head.read_verbs(states.float(), states.any(-1))
    assert ((found > 0.5).int().tolist()) == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    features = torch.randn(2, head.sounds.in_features)
    assert torch.equal(head.hear(features), head.sounds(features).sigmoid())


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
    assert fit_linear(layer, [(features, truth)], deviation=2) > 0.9
    found = layer(features).detach()
    assert found.square().mean().sqrt() == pytest.approx(2, abs=0.01)
    centred = truth - truth.mean(0)
    assert torch.nn.functional.cosine_similarity(found, centred, dim=1).median() > 0.95
