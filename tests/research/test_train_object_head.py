"""The object head's training: clips with all that is true of them, encoded once, and folds."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from modeling_refavs import RefAVSForSegmentation, RefAVSProcessor, modeling_refavs
from modeling_refavs.cli import main
from modeling_refavs.clip_head_refavs import NUM_CLAIMS, claim_objects
from modeling_refavs.efficientnet_lite_refavs import (
    RefAVSEfficientNetLiteConfig,
    RefAVSEfficientNetLiteForImageClassification,
)
from modeling_refavs.encoders_refavs import audio_size
from modeling_refavs.modeling_yamnet import (
    RefAVSYamnetConfig,
    RefAVSYamnetForAudioClassification,
)
from modeling_refavs.object_head_refavs import (
    NUM_HISTORY,
    RefAVSMeaning,
    RefAVSObjects,
    remember,
    share,
)
from modeling_refavs.research import train_clip_head
from modeling_refavs.research import train_object_head as training
from modeling_refavs.research.train_clip_head import (
    Candidates,
    find_candidates,
    fit_clip_head,
    judge,
    score_clips,
)
from modeling_refavs.research.train_object_head import (
    DrawnClips,
    EncodedClips,
    ObjectHeadTraining,
    ObjectProjections,
    ObjectQuestions,
    Said,
    collate,
    fit_whitening,
    read_texts,
    sounding_seconds,
)
from modeling_refavs.training import class_names
from tests.conftest import make_model
from tests.dataset_script.synthetic.test_library import write_library


NOUNS = ("cat", "dog", "drum", "hen", "lion", "owl")
NAMING = {"loss_weight": 1.0, "use_alignment": True, "vocabulary_size": 7}
HEAD = {"object_head_size": 16, "sound_classes": 5}


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(class_names, "VERBS_STEPS", 3)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, processor):
    """A library, an image classifier of seven classes, one of five sounds, and a model without the
    head."""
    folder = tmp_path_factory.mktemp("object_head")
    write_library(folder / "library")
    torch.manual_seed(0)
    config = RefAVSEfficientNetLiteConfig(
        width_coefficient=0.2, stem_size=8, head_size=16, num_labels=7
    )
    RefAVSEfficientNetLiteForImageClassification(config).save_pretrained(folder / "classifier")
    model = make_model(grounding_config=NAMING)
    sizes = [4, audio_size(model.config.audio_config)]
    config = RefAVSYamnetConfig(hidden_sizes=sizes, strides=[2, 2], num_labels=5)
    RefAVSYamnetForAudioClassification(config).save_pretrained(folder / "sounds")
    names, makers = [[noun] for noun in (*NOUNS, "saw")], [[noun] for noun in NOUNS[:5]]
    (folder / "classifier" / "class_names.json").write_text(json.dumps(names))
    verbs = [["meowing"], ["barking"], ["drumming", "playing"], [], ["roaring"]]
    (folder / "sounds" / "class_makers.json").write_text(json.dumps(makers))
    (folder / "sounds" / "class_verbs.json").write_text(json.dumps(verbs))
    (folder / "classifier" / "near_names.json").write_text(json.dumps({"kitten": ["cat", 1]}))
    for parameter in model.model.catf.update_projection.parameters():
        torch.nn.init.zeros_(parameter)
    model.save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    return folder


@pytest.fixture(scope="module")
def model(folders):
    head = {"grounding_config": HEAD}
    return RefAVSForSegmentation.from_pretrained(folders / "model", strict=False, **head).eval()


@pytest.fixture(scope="module")
def drawn(folders, processor):
    return DrawnClips(str(folders / "library"), "train", 6, 3, processor)


@pytest.fixture(scope="module")
def encoded(drawn, model, tmp_path_factory):
    encoded = EncodedClips(drawn, model, tmp_path_factory.mktemp("encoded"))
    encoded.make()
    return encoded


def test_a_clip_is_drawn_with_all_that_is_true_of_it(folders, drawn, processor):
    again = DrawnClips(str(folders / "library"), "train", 6, 3, processor)
    clips = [drawn[index] for index in range(len(drawn))]
    assert clips[2]["said"] == again[2]["said"]
    assert (clips[2]["frames"] == again[2]["frames"]).all()
    for clip in clips:
        count = len(clip["kinds"])
        assert clip["masks"].shape == (count, 10, 96, 96)
        assert len({one.text for one in clip["said"]}) == len(clip["said"])
        assert {one.row for one in clip["said"]} <= {*range(-1, count)}
    said = [one for clip in clips for one in clip["said"]]
    assert len(said) > 10 * len(clips)  # a tree has at most nine of a clip
    assert {one.row < 0 for one in said} == {True, False}


def test_iou_of_queries_with_objects_is_that_of_their_masks(drawn, model, encoded, processor):
    clip, read = drawn[1], encoded.read()[1]
    assert read["said"] == clip["said"]
    frames = list(clip["frames"])
    pixels = processor.image_processor(frames, do_resize=False, return_tensors="pt")
    with torch.no_grad():
        clips = model.encode_clips(pixels["pixel_values"][None])
        objects, masks = model.find_objects(clips)
    np.testing.assert_allclose(read["facts"], objects.facts, rtol=1e-2, atol=1e-2)
    large = torch.nn.functional.interpolate(masks, (96, 96), mode="bilinear").numpy() > 0
    for step, query, row in np.ndindex(10, large.shape[1], len(clip["kinds"])):
        truth = clip["masks"][row, step]
        one, other = large[step, query], truth
        expected = (one & other).sum() / max(1, (one | other).sum()) if truth.any() else -1
        assert read["iou"][step, query, row] == pytest.approx(expected, abs=1e-3)


def test_clips_are_encoded_once(drawn, encoded, model, monkeypatch):
    times = [path.stat().st_mtime_ns for path in encoded.paths]
    encoded.paths[2].unlink()  # as if it was stopped half way
    encoded.make()
    again = [path.stat().st_mtime_ns for path in encoded.paths]
    assert [one == other for one, other in zip(times, again, strict=True)] == [
        number != 2 for number in range(6)
    ]


def prepare(clip):
    """A clip as its questions need it, with made-up projections."""
    rng = np.random.default_rng(0)
    steps, queries = clip["iou"].shape[:2]
    draw = lambda *shape: torch.from_numpy(rng.normal(size=shape)).half()  # noqa: E731
    made = {"visual": draw(steps, queries, 32), "audio": draw(steps, 32)}
    made["history"] = draw(steps, queries, NUM_HISTORY)
    made["makers"], made["heard"] = draw(steps, 7).sigmoid(), draw(steps, 5).sigmoid()
    return {**clip, **made, "classes": draw(steps, queries, 7).float().softmax(-1)}


def test_sounding_seconds_are_those_of_the_scene(drawn):
    times, most = np.arange(0, 10, 0.001), 0.0
    for number in drawn.numbers:
        clip = training.make_clip(drawn.options, number)
        seconds = sounding_seconds(clip.scene)
        most = max(most, seconds.max(initial=0))
        for row, item in enumerate(clip.scene.objects):
            intervals = item.sound.intervals if item.sound else ()
            sounds = [any(start <= t < end for start, end in intervals) for t in times]
            expected = np.reshape(sounds, (10, -1)).mean(1)
            np.testing.assert_allclose(seconds[:, row], expected, atol=0.01)
    assert 0.5 < most <= 1


def test_questions_follow_from_their_number(encoded, model, processor):
    clips = [prepare(clip) for clip in encoded.read()]
    texts = read_texts(model, processor, {one.text for clip in clips for one in clip["said"]})
    questions = ObjectQuestions(clips, texts, 8, seed=1)
    one, other = questions[3], questions[3]
    assert all(torch.equal(one[name], other[name]) for name in one)
    batch = collate([questions[0], questions[1]])
    rows = training.SENTENCES * training.STEPS
    assert all(len(value) == 2 * rows for value in batch.values())
    outputs = ObjectHeadTraining(model.object_predictor)(**batch)
    assert outputs["loss"].isfinite()
    # padding to the longest of both changes nothing
    training_head = ObjectHeadTraining(model.object_predictor).eval()
    alone = [training_head(**questions[number])["logits"] for number in (0, 1)]
    torch.testing.assert_close(training_head(**batch)["logits"], torch.cat(alone))


def test_questions_are_those_that_the_model_answers(drawn, encoded, model, processor, monkeypatch):
    """The head in training reads what it reads in the model, of each frame by itself."""
    given = []

    def claim(logits, *args):
        given.append(claim_objects(logits, *args))
        return given[-1]

    monkeypatch.setattr(modeling_refavs, "claim_objects", claim)
    clip, number = drawn[1], 1
    read = encoded.read()[number]
    texts = read_texts(model, processor, {one.text for one in read["said"]})
    parts = model.base_model
    with torch.no_grad():
        shown = torch.from_numpy(read["shown"]).float()
        heard = torch.from_numpy(read["audio_features"]).float()
        projection, head = parts.cue_projection, model.object_predictor
        for added in (head.visual, head.audio):
            torch.nn.init.normal_(added.weight, std=0.1)
        read["visual"] = projection.visual(shown) + head.visual(shown)
        read["audio"] = projection.audio(heard) + head.audio(heard)
        read["classes"] = parts.naming.classify(shown)
        read["makers"] = parts.naming.find_makers(heard)
        read["heard"] = parts.naming.hear(heard)
        facts, overlaps = (torch.from_numpy(read[name]).float() for name in ("facts", "overlaps"))
        shared = share(RefAVSObjects(shown, facts, overlaps), read["classes"])
        objects = RefAVSMeaning(read["visual"], shared)
        sound = RefAVSMeaning(read["audio"], read["makers"], torch.from_numpy(read["audible"]))
        read["history"] = remember(facts, objects, sound, torch.ones(1, 10) > 0)[0]
        questions = ObjectQuestions([read], texts, 1, 0, swapped=0.0)
        rows = questions.ask(0, read["said"], np.arange(10), np.random.default_rng(0))
        found = ObjectHeadTraining(model.object_predictor).eval()(**rows)
        frames = list(clip["frames"])
        pixels = processor.image_processor(frames, do_resize=False, return_tensors="pt")
        tokens = processor([one.text for one in read["said"]], return_tensors="pt")
        weights = model.config.grounding_config
        weights.grounding_weight, before = 0.0, weights.grounding_weight
        model(
            pixels["pixel_values"][None],
            torch.from_numpy(clip["mel"])[None],
            **tokens,
            input_features_mask=torch.from_numpy(clip["audible"])[None, :, None].expand(1, 10, 96),
            clip_index=torch.zeros(len(read["said"]), dtype=torch.long),
        )
        weights.grounding_weight = before
    (expected,) = given
    found = claim_objects(found["logits"], found["seen"], rows["verbs"])
    presence, said = (claims[..., 0].logsumexp(1) for claims in (found, expected))
    assert (presence - said).abs().max() < 0.05  # what is kept is in half precision
    shown = facts[..., 0].repeat(len(read["said"]), 1) > 0
    assert (found - expected)[..., 1:][shown].abs().max() < 0.05


def test_a_clip_may_be_heard_with_the_sound_of_any_thing_in_it(
    encoded, model, processor, monkeypatch
):
    monkeypatch.setattr(training, "OTHER_SOUND", 1.0)
    clip = next(clip for clip in encoded.read() if len({*clip["kinds"]}) == len(clip["kinds"]) > 1)
    clip = {**prepare(clip), "said": [Said("What is making the sound?", 0, "sounding")]}
    texts = read_texts(model, processor, {one.text for one in clip["said"]})
    kinds = [*clip["kinds"], "a kind that it does not show"]
    sounds = {
        kind: (
            torch.full((3, 32), float(number)),
            torch.full((3, 7), number / 10),
            torch.full((3, 5), 0.1),
        )
        for number, kind in enumerate(kinds)
    }
    iou = torch.from_numpy(clip["iou"]).float()
    for not_shown in (0.0, 1.0):
        monkeypatch.setattr(training, "NOT_SHOWN", not_shown)
        questions = ObjectQuestions([clip], texts, 40, 0, sounds=sounds)
        heard = set()
        for index in range(len(questions)):
            item = questions[index]
            (number,) = {*item["audio"].flatten().tolist()}
            heard.add(int(number))
            assert item["audible"].all()
            assert not item["history"][..., :6].any()  # as if it was the first second
            if not_shown:
                assert not item["in_view"].any()
            else:
                rows = item["iou"][: training.STEPS]  # of the first sentence
                of_kind = iou[..., int(number)].clamp(min=0)
                assert all((of_kind == row).all(-1).any() for row in rows)
        assert heard == ({len(kinds) - 1} if not_shown else {*range(len(kinds) - 1)})
    # where all that sounds is there twice, the clip keeps its own sound
    twins = {**clip, "kinds": ["dog"] * len(clip["kinds"])}
    questions = ObjectQuestions([twins], texts, 1, 0, sounds={"dog": (torch.zeros(3, 32),) * 3})
    assert questions[0]["audio"].any()


def test_words_are_swapped_within_a_form(encoded, model, processor):
    said = [Said("The dog.", 0, "thing"), Said("The drum.", 0, "thing")]
    said += [Said("The loud big dog.", 0, "other"), Said("The drum that you hear.", 0, "thing")]
    clip = {**prepare(encoded.read()[0]), "said": said}
    texts = read_texts(model, processor, {one.text for one in said})
    lengths = {text: len(read.words) for text, read in texts.items()}
    questions = ObjectQuestions([clip], texts, 1, 0, swapped=1.0)
    rng = np.random.default_rng(0)
    for one in said:
        found = {questions._swap(one, rng) for _ in range(30)}
        alike = [o.text for o in said if o.form == one.form]
        assert found == {text for text in alike if lengths[text] == lengths[one.text]}


def test_projections_of_a_fold_do_not_know_its_kinds(folders, model, processor):
    """What is said of a kind changes F'_V and F'_A of other kinds, and not of its own."""
    rng = np.random.default_rng(0)
    projection = model.model.cue_projection
    kinds = list(NOUNS)
    clips = []
    for number in range(12):
        iou = np.zeros((10, 4, 1), np.float16)
        iou[:, number % 4] = 0.9
        kind = kinds[number % 6]
        draw = lambda *shape: rng.normal(size=shape).astype(np.float16)  # noqa: E731
        clip = {"shown": draw(10, 4, projection.visual.in_features), "iou": iou, "kinds": [kind]}
        clip |= {"facts": draw(10, 4, 10), "audio_features": draw(10, projection.audio.in_features)}
        clip |= {"sounding": np.ones((10, 1), np.float32), "audible": np.ones(10, bool)}
        clip["overlaps"] = np.zeros((10, 4, 4, 2), np.float16)
        clips.append({**clip, "said": [Said(f"The {kind}.", 0, "thing")]})
    texts = read_texts(model, processor, {f"The {kind}." for kind in kinds})
    other = texts["The hen."]
    changed = replace(other, projected=other.projected + 5)

    def project(texts, **kwargs):
        fitted = ObjectProjections(model, processor, str(folders / "classifier"), clips, texts)
        made = [dict(clip) for clip in clips]
        for number, clip in enumerate(made):
            fitted.add_to(clip, number)
        return fitted, made

    (fitted, before), (_, after) = project(texts), project({**texts, "The hen.": changed})
    for number, clip in enumerate(clips):
        is_own = kinds.index(clip["kinds"][0]) % 4 == kinds.index("hen") % 4
        one, two = before[number], after[number]
        query = number % 4
        assert torch.equal(one["visual"][:, query], two["visual"][:, query]) == is_own
        assert torch.equal(one["audio"], two["audio"]) == is_own
    head = make_model(grounding_config={**NAMING, **HEAD}).object_predictor
    fitted.give_to(head)
    with torch.no_grad():
        for own, added, whole in (
            (projection.visual, head.visual, fitted.visual[-1]),
            (projection.audio, head.audio, fitted.audio[-1]),
        ):
            features = torch.randn(3, own.in_features)
            torch.testing.assert_close(own(features) + added(features), whole(features))


def test_whitened_words_have_no_axis_that_counts_for_little(model, processor):
    sentences = [f"The {what} on the {side}." for what in NOUNS for side in ("left", "right")]
    texts = read_texts(model, processor, set(sentences))
    layer = torch.nn.Linear(32, 32)
    fit_whitening(layer, list(texts.values()))
    tokens = torch.cat([text.words for text in texts.values()]).float()
    with torch.no_grad():
        whitened = layer(tokens)
    torch.testing.assert_close(whitened.mean(0), torch.zeros(32), atol=1e-3, rtol=0)
    values = torch.linalg.eigvalsh(torch.cov(tokens.T))
    expected = values / (values + training.WHITENED * values.mean())
    found = torch.linalg.eigvalsh(torch.cov(whitened.T))
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)


def test_command(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "SCORED", 2)
    monkeypatch.setitem(training.GROUNDING_CONFIG, "object_head_size", 16)
    monkeypatch.setattr(training, "FITTED_IOU", 0.0)  # of decoders that are not trained
    parts = [str(folders / name) for name in ("model", "classifier", "sounds", "library")]
    command = ["train-object-head", *parts, str(tmp_path), "--clips", "3", "--batch-size", "2"]
    assert main([*command, "--steps", "3"]) == 0, capsys.readouterr().err[-500:]
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert set(scores) == {"iou", "nothing", "right", "refused"}
    start = RefAVSForSegmentation.from_pretrained(folders / "model").state_dict()
    learned = RefAVSForSegmentation.from_pretrained(tmp_path)
    assert learned.object_predictor.layers[0].num_heads == learned.config.num_attention_heads
    state = learned.state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in start.items())
    makers = learned.base_model.naming.makers.weight
    assert torch.equal(makers, torch.eye(7)[:, :5])  # each sound is of one class
    times = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("run/*/*.npz"))]
    assert (
        main([*command, "--steps", "3"]) == 0
    )  # finished: nothing is made anew, and it is the same model
    assert times == [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("run/*/*.npz"))]
    again = RefAVSForSegmentation.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in again.items())


def test_parts_of_a_head_are_trained_alone(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "SCORED", 2)
    monkeypatch.setitem(training.GROUNDING_CONFIG, "object_head_size", 16)
    monkeypatch.setattr(training, "FITTED_IOU", 0.0)
    make_model(grounding_config={**NAMING, **HEAD}).save_pretrained(tmp_path / "model")
    model = RefAVSForSegmentation.from_pretrained(tmp_path / "model")
    for parameter in model.model.catf.update_projection.parameters():
        torch.nn.init.zeros_(parameter)
    model.save_pretrained(tmp_path / "model")
    RefAVSProcessor.from_pretrained(folders / "model").save_pretrained(tmp_path / "model")
    parts = [str(folders / name) for name in ("classifier", "sounds", "library")]
    command = ["train-object-head", str(tmp_path / "model"), *parts, str(tmp_path / "out")]
    command += ["--clips", "3", "--batch-size", "2", "--steps", "3"]
    without = ["train-object-head", str(folders / "model"), *parts, str(tmp_path / "none")]
    assert main([*without, "--learned", "asked"]) == 2
    assert "has no object head" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    assert main([*command, "--learned", "asked", "ears"]) == 2
    assert "the object head has no ears, but visual" in capsys.readouterr().err
    assert main([*command, "--learned", "asked", "history"]) == 0, capsys.readouterr().err[-500:]
    before, after = (
        RefAVSForSegmentation.from_pretrained(folder).object_predictor.state_dict()
        for folder in (tmp_path / "model", tmp_path / "out")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.partition(".")[0] for name in changed} == {"asked", "history", "whitening"}
    command[5] = str(tmp_path / "clip")
    assert main([*command, "--learned", "clip"]) == 0, capsys.readouterr().err[-500:]
    before, after = (
        RefAVSForSegmentation.from_pretrained(folder).state_dict()
        for folder in (tmp_path / "model", tmp_path / "clip")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    fitted = ("clip_predictor.", "model.naming.sounds.", "model.naming.makers.")
    assert {name for name in changed if not name.startswith(fitted)} == {
        f"model.naming.verbs.{part}" for part in ("0.weight", "0.bias", "2.weight", "2.bias")
    }
    assert "clip_predictor.middle" in changed


def test_a_model_whose_queries_follow_what_is_asked_is_refused(
    folders, processor, tmp_path, capsys
):
    make_model(grounding_config=NAMING).save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    parts = [str(folders / name) for name in ("classifier", "sounds", "library")]
    out = tmp_path / "out"
    assert main(["train-object-head", str(tmp_path / "model"), *parts, str(out)]) == 2
    assert "its CATF is trained" in capsys.readouterr().err
    assert not out.exists()


def test_candidates_are_what_the_clip_head_chooses_among(encoded, model, processor):
    """The best of them is what the model would choose, by a head that has learned nothing."""
    clips = [clip for clip in encoded.read() if any(one.row >= 0 for one in clip["said"])]
    clips = [prepare(clip) for clip in clips[:2]]
    texts = read_texts(model, processor, {one.text for clip in clips for one in clip["said"]})
    questions = ObjectQuestions(clips, texts, 0, 0, swapped=0.0)
    gates = model.base_model.alignment.gates
    found = find_candidates(
        ObjectHeadTraining(model.object_predictor), questions, gates, training.NAMES
    )
    null = []  # of each clip all sentences, and then those that only name, in one frame
    for clip in clips:
        null += [one.row < 0 for one in clip["said"]]
        null += [one.row < 0 for one in clip["said"] if one.form in training.NAMES]
    assert (found.null >= torch.tensor(null)).all()  # that frame may not show what is named
    assert not found.null.all()
    assert not found.right[found.null].any()
    assert (found.mean[:, 0] == found.mean.amax(1)).all()
    judged = judge(model.clip_predictor, found)
    torch.testing.assert_close(judged[:, :-1], found.mean)
    assert not judged[:, -1].any()


def test_a_clip_head_learns_what_only_the_whole_tells(monkeypatch):
    """Of two objects that are as likely by what frames say the expression means the one of which
    a measure is high; where it is high of none, nothing."""
    monkeypatch.setattr(train_clip_head, "EPOCHS", 400)
    torch.manual_seed(0)
    size, rows = 32, 600
    which = torch.arange(rows) % 3  # the first, the second or none
    over_time = torch.randn(rows, 2, 2 * NUM_CLAIMS)
    over_time[..., 7] = torch.stack([which == 0, which == 1], dim=1) * 4.0
    right = torch.stack([which == 0, which == 1], dim=1)
    expression = torch.randn(1, size).expand(rows, -1)
    candidates = Candidates(expression, torch.zeros(rows, 2), over_time, right, which == 2)
    head = make_model(grounding_config={**NAMING, **HEAD}).clip_predictor
    fit_clip_head(head, candidates.take(torch.arange(300)))
    scores = score_clips(head, candidates.take(torch.arange(300, 600)))
    assert min(scores.values()) > 0.9
