"""Names that were never read, made of those that were."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dataset_script.synthetic import SynthesisOptions, synthesize
from modeling_refavs.cli import main
from modeling_refavs.training import augmentation
from modeling_refavs.training.augmentation import (
    NameMixup,
    draw_shares,
    find_names,
    find_renamed,
    rename,
)
from modeling_refavs.training.cache import ArrayCache, Preparation, pixel_table
from modeling_refavs.training.collator import ClipCollator, ClipDataset
from modeling_refavs.training.dataset import PreparedClip, Sentence
from modeling_refavs.training.sampler import Draw


NAMES = ["acoustic_guitar", "bell", "cat"]


@pytest.fixture
def three_suffice(monkeypatch):
    """In the small tree few names have equally many tokens."""
    monkeypatch.setattr(augmentation, "FEWEST", 3)
    monkeypatch.setattr(augmentation, "LARGEST", 0.7)


@pytest.mark.parametrize(
    ("text", "category", "renamed"),
    [
        (
            "The red Bell.",
            "bell",
            {"acoustic_guitar": "The red acoustic guitar.", "cat": "The red cat."},
        ),
        (
            "The acoustic guitar by the bell.",
            "acoustic_guitar",
            {"bell": "The bell by the bell.", "cat": "The cat by the bell."},
        ),
        ("The doorbell.", "bell", {}),
        ("The sounding object.", "bell", {}),
    ],
)
def test_a_name_gives_way_to_others(text, category, renamed):
    assert rename(Sentence(text, False, 0, category), NAMES) == renamed
    assert rename(Sentence(text, True, 0, category), NAMES) == {}


def test_at_most_eight_names_take_its_place_the_same_each_time():
    names = [f"thing_{number}" for number in range(40)]
    sentence = Sentence("The thing 3.", False, 0, "thing_3")
    renamed = rename(sentence, names)
    assert len(renamed) == 8
    assert "thing_3" not in renamed
    assert rename(sentence, reversed(names)) == renamed


def test_mixtures_are_of_names_that_the_clip_does_not_show():
    sentence = Sentence("The bell.", False, 0, "bell")
    lengths = {"cat": 3, "owl": 3, "fan": 3, "car": 3, "dog": 3, "cow": 3, "flute": 4}
    ends = np.cumsum(list(lengths.values())).tolist()
    spans = {
        f"The {name}.": (end - lengths[name], end) for name, end in zip(lengths, ends, strict=True)
    }
    others = (replace(sentence, category=name) for name in lengths)
    clips = [PreparedClip("clip", (sentence, *others))]
    mix, rng = NameMixup(clips, 1.0, spans), np.random.default_rng(0)
    drawn = [mix((sentence,), {"bell", "cat", "flute"}, rng)[0].mixture for _ in range(40)]
    assert {text for mixture in drawn for text in mixture.texts} == {
        "The owl.",
        "The fan.",
        "The car.",
        "The dog.",
        "The cow.",
    }
    assert {len(mixture.texts) for mixture in drawn} == {4, 5}
    assert all(len(set(mixture.texts)) == len(mixture.shares) for mixture in drawn)
    assert len({mixture.shares for mixture in drawn}) == 40
    mixed = [mix((sentence,), {"bell"}, rng)[0].mixture for _ in range(40)]
    assert all(
        mixture is None or "The flute." not in mixture.texts for mixture in mixed
    )  # it has one token more
    assert mix((sentence,), {"bell", "cat", "owl", "fan"}, rng) == (sentence,)
    assert mix((sentence,), set(NAMES) | set(lengths), rng) == (sentence,)
    mix.probability = 0.25
    assert 20 < sum(mix((sentence,), {"bell"}, rng)[0].mixture is not None for _ in range(200)) < 80


def test_what_has_no_name_is_mixed_each_time_and_into_none():
    names = ("bell", "cat", "owl", "fan", "car", "novelty")
    sentences = [Sentence(f"The {name}.", False, 0, name) for name in names]
    clips = [PreparedClip("clip", tuple(sentences))]
    assert find_names(clips, ["novelty"]) == ["bell", "car", "cat", "fan", "owl"]
    assert set(find_renamed(clips, ["novelty"])) == {
        "The bell.",
        "The cat.",
        "The owl.",
        "The fan.",
        "The car.",
    }
    spans = {sentence.text: (3 * row, 3 * row + 3) for row, sentence in enumerate(sentences)}
    mix, rng = NameMixup(clips, 1.0, spans, ["novelty"]), np.random.default_rng(0)
    drawn = [mix(tuple(sentences), {"bell", "novelty"}, rng) for _ in range(20)]
    assert all(
        known == sentences[:-1] for *known, _ in drawn
    )  # beside it the others keep their names
    assert all(
        set(last.mixture.texts) == {"The cat.", "The owl.", "The fan.", "The car."}
        for *_, last in drawn
    )


@pytest.mark.parametrize("count", [4, 5, 8])
def test_shares_keep_the_length_of_vectors_at_right_angles(count):
    rng = np.random.default_rng(0)
    shares = np.array([draw_shares(count, rng) for _ in range(100)])
    np.testing.assert_allclose(shares.sum(1), 1)
    np.testing.assert_allclose((shares**2).sum(1), 1)
    assert shares.max() <= 0.6
    assert shares.min() < 0


def test_the_text_of_a_batch_is_mixed_and_nothing_else(prepared, shared, three_suffice):
    rows, split, model, processor = prepared
    more = find_renamed(split.clips)
    split = Preparation(model, processor, ArrayCache(shared / "cache")).prepare(
        rows, more_sentences=more
    )
    assert set(more) <= set(split.text_spans)
    names = find_names(split.clips)
    index = next(
        i for i, clip in enumerate(split.clips) if any(rename(s, names) for s in clip.sentences)
    )
    collate, draw = ClipCollator(split, pixel_table(processor)), Draw(index, 0, 0, 0)
    plain, mixed = ClipDataset(split)[draw], ClipDataset(split, name_mixup=1.0)[draw]
    assert ClipDataset(split, name_mixup=1.0)[draw] == mixed
    expected, found = collate([plain]), collate([mixed])
    assert expected.keys() == found.keys()
    for name in expected.keys() - {"text_features", "attention_mask"}:
        assert expected[name].equal(found[name])
    count = 0
    for row, sentence in enumerate(mixed.sentences):
        if sentence.mixture is None:
            length = int(expected["attention_mask"][row].sum())
            assert found["text_features"][row, :length].equal(
                expected["text_features"][row, :length]
            )
            continue
        tokens = processor(text=list(sentence.mixture.texts))
        with torch.no_grad():
            states = model.model.text_encoder(
                tokens["input_ids"], attention_mask=tokens["attention_mask"]
            )[0]
        wanted = torch.einsum("n,nld->ld", torch.tensor(sentence.mixture.shares), states)
        torch.testing.assert_close(
            found["text_features"][row, : wanted.shape[0]], wanted, rtol=1e-4, atol=1e-5
        )
        count += 1
    assert count


def test_validation_mixes_what_has_no_name_the_same_each_time(prepared, shared, three_suffice):
    rows, split, model, processor = prepared
    for unnamed in find_names(split.clips):
        more = find_renamed(split.clips, [unnamed])
        split = Preparation(model, processor, ArrayCache(shared / "cache")).prepare(
            rows, more_sentences=more
        )
        data = ClipDataset(split, unnamed=[unnamed])
        seen = [data[index] for index in range(len(data))]
        assert seen == [data[index] for index in range(len(data))]
        mixed = [sentence for sample in seen for sentence in sample.sentences if sentence.mixture]
        assert {sentence.category for sentence in mixed} <= {unnamed}
        if mixed:
            break
    else:
        pytest.fail("no sentence was mixed")


@pytest.mark.parametrize("words", [["--name_mixup", "0.5"], ["--unnamed", "cat"]])
def test_a_text_encoder_that_learns_cannot_be_mixed(recipe, words, tmp_path, capsys):
    words = [*words, "--config.freeze_text_encoder", "false", "--output_dir", str(tmp_path / "run")]
    assert main(["train", str(recipe), *words]) == 2
    assert "set freeze_text_encoder" in capsys.readouterr().err.splitlines()[-1]


def test_what_the_data_do_not_hold_cannot_lack_a_name(recipe, tmp_path, capsys):
    words = ["--unnamed", "novelty", "unicorn", "--output_dir", str(tmp_path / "run")]
    assert main(["train", str(recipe), *words]) == 2
    assert (
        "unnamed: no sentence of train is about novelty, unicorn"
        in capsys.readouterr().err.splitlines()[-1]
    )


def test_a_run_learns_from_and_is_validated_on_what_has_no_name(train, shared, three_suffice):
    synthesize(shared / "novel", 60, SynthesisOptions(height=48, width=64, novelty_share=0.5))
    words = [
        "--data",
        str(shared / "novel"),
        "--families",
        "semantic",
        "--eval_strategy",
        "steps",
        "--eval_steps",
        "4",
        "--per_device_train_batch_size",
        "11",  # four steps are all 44 clips, of which few name a novel object
    ]
    plain, unnamed = train("plain", *words), train("unnamed", *words, "--unnamed", "novelty")
    assert (plain / "model.safetensors").read_bytes() != (
        unnamed / "model.safetensors"
    ).read_bytes()


def test_without_text_there_is_no_name_to_mix(train):
    words = ["--config.use_text_cues", "false", "--max_steps", "2", "--report_to", "none"]
    plain, mixed = (
        train("plain", *words),
        train("mixed", *words, "--name_mixup", "0.5", "--unnamed", "cat"),
    )
    assert (plain / "model.safetensors").read_bytes() == (mixed / "model.safetensors").read_bytes()
