"""The three pretrained parts: what they are taught, and that EEMC starts from them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataset_script.media_files import frame_paths
from dataset_script.synthetic.objects import CATEGORIES, UNSEEN
from dataset_script.synthetic.scene import Scene, SceneObject, Sound, read_scenes
from modeling_refavs import RefAVSForSegmentation, RefAVSProcessor
from modeling_refavs.research import pretrain_audio as audio
from modeling_refavs.research import pretrain_text as text
from modeling_refavs.research.pretrain import PARTS, pretrain

from .conftest import FAST


def make_object(fid: int, category: str, sound: Sound | None) -> SceneObject:
    return SceneObject(
        fid, category, "red", "plain", 0.15, (0.5, 0.5), "still", 0.0, (0.0, 10.0), fid, sound
    )


def test_labels_say_who_sounds_how_loud_and_how_fast():
    drum = Sound(((1.0, 2.48), (8.0, 9.0)), level=(-30.0, -14.0), rate=(2.0, 2.0), pitch=1.0)
    fan = Sound(((2.0, 4.0),), level=(-20.0, -20.0), rate=None, pitch=1.0)
    objects = (
        make_object(0, "drum", drum),
        make_object(1, "fan", fan),
        make_object(2, "cup", None),
    )
    labels = audio.label_seconds(Scene(0, 10.0, 1.0, 1.0, objects))
    column = {kind: audio.KINDS.index(kind) for kind in ("drum", "fan", "loudest", "bell")}
    assert labels["share"].shape == (10, len(audio.KINDS))
    assert labels["share"][:4, column["drum"]] == pytest.approx([0, 1, 0.5, 0])
    assert labels["share"][:5, column["fan"]] == pytest.approx([0, 0, 1, 1, 0])
    assert labels["share"][:5, column["loudest"]] == pytest.approx([0, 1, 1, 1, 0])
    assert not labels["share"][:, column["bell"]].any()
    # the drum rises by 2 dB a second from -30 at 1 s; the mean of second 1 is that of its middle,
    # 1.48 s
    assert labels["level"][1, column["drum"]] == pytest.approx(-30 + 2 * 0.48, abs=1e-3)
    assert labels["level"][2, column["loudest"]] == pytest.approx(
        -20
    )  # the fan, beside a drum of about -27.5 dB
    assert labels["rate"][1, column["drum"]] == pytest.approx(1)  # 2 strokes a second
    assert np.isnan(labels["rate"][2, column["fan"]])
    assert labels["steady"][1:3, column["drum"]].tolist() == [0, 0]
    assert labels["steady"][2, [column["fan"], column["loudest"]]].tolist() == [1, 1]


def test_unnamed_sounds_are_only_the_loudest():
    owl = make_object(0, "owl", Sound(((0.0, 10.0),), (-20.0, -20.0), (4.0, 4.0), 1.0))
    labels = audio.label_seconds(Scene(0, 10.0, 1.0, 1.0, (owl,)))
    assert [audio.KINDS[column] for column in labels["share"].any(0).nonzero()[0]] == ["loudest"]
    assert labels["rate"][:, -1] == pytest.approx(np.full(10, 2.0))


def test_average_precision():
    scores, truth = np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False])
    assert audio.average_precision(scores, truth) == pytest.approx((1 + 2 / 3) / 2)


def test_standardised_vectors():
    encoder = audio.RefAVSVggishModel(audio.make_config())
    examples = torch.randn(64, 96, 64, generator=torch.Generator().manual_seed(0))
    audio.standardise(encoder, examples)
    vectors = encoder(examples).last_hidden_state
    assert vectors.mean(0).abs().max() < 1e-4
    assert (vectors.std(0) - 1).abs().max() < 1e-3


def test_swapped_words_are_of_the_same_kind():
    torch.manual_seed(0)
    said = {text.swap_categories("The bell near the cup.") for _ in range(200)}
    things, others = zip(
        *(sentence.removesuffix(".").split(" near the ") for sentence in said), strict=True
    )
    assert set(things) == {f"The {name}" for name in ("bell", "flute", "guitar", "trumpet", "harp")}
    assert set(others) == {"cup", "tree", "house"}
    assert text.swap_categories("The red object.") == "The red object."


def test_every_category_is_one_token(tree):
    sentences = text.read_sentences(tree, "train")
    assert not any(name in sentence for name in UNSEEN for sentence in sentences)
    tokenizer = text.train_tokenizer(sentences)
    for category in CATEGORIES:
        assert len(tokenizer.tokenize(f" {category}")) == 1


def test_eemc_starts_from_the_three_parts(tree, parts):
    folders = {part.folder: str(parts / part.folder) for part in PARTS.values()}
    model = RefAVSForSegmentation.from_backbones(**folders, hidden_size=64)
    del folders["vggish"]
    processor = RefAVSProcessor.from_backbones(**folders, image_size=96)
    clip = read_scenes(tree, "train")[0].clip_id
    frames = [Image.open(path) for path in frame_paths(tree, clip)]
    inputs = processor(
        text=["The harp."], frames=frames, audio=np.zeros(160_000), sampling_rate=16_000
    )
    with torch.no_grad():
        outputs = model(**inputs)
    assert outputs.mask_logits.shape[:2] == (1, 10)
    assert outputs.mask_logits.isfinite().all()


def test_scores_are_written_and_the_code_is_not(parts):
    scores = json.loads((parts / "vggish" / "scores.json").read_text())
    assert 0 <= scores["mean_average_precision"] <= 1
    assert scores["level_error_db"] > 0
    assert (
        0 <= json.loads((parts / "text_model" / "scores.json").read_text())["masked_accuracy"] <= 1
    )
    assert not list(parts.rglob("*.py"))


def test_a_stopped_part_goes_on_and_a_finished_one_stays(tree, parts):
    model = parts / "text_model" / "model.safetensors"
    before = model.read_bytes()
    pretrain(tree, parts, ["text"], resume=True, **{**FAST, "steps": 4})
    assert model.read_bytes() == before  # finished
    model.unlink()
    pretrain(tree, parts, ["text"], resume=True, **{**FAST, "steps": 4})
    state = json.loads(
        (parts / "runs" / "text" / "checkpoint-4" / "trainer_state.json").read_text()
    )
    assert state["global_step"] == 4
    assert model.read_bytes() != before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "--steps must be above 0, got 0"),
        ({"parts": ["smell"]}, "--parts smell: must be of vision, audio, text"),
        ({"tree": Path("elsewhere")}, "elsewhere holds no scene graphs of split train"),
        ({}, "holds a model already: pass --resume"),
    ],
)
def test_bad_input(tree, parts, changes, message):
    with pytest.raises(ValueError, match=message):
        pretrain(**{"tree": tree, "output": parts, **FAST, **changes})
