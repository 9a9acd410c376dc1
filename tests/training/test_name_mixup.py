"""Names that were never read, made of those that were."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from modeling_refavs.cli import main
from modeling_refavs.training.cache import ArrayCache
from modeling_refavs.training.clips import PreparedClip, Sentence
from modeling_refavs.training.collator import ClipCollator, ClipDataset
from modeling_refavs.training.draws import Draw
from modeling_refavs.training.name_mixup import NameMixup, find_names, find_renamed, rename
from modeling_refavs.training.pictures import pixel_table
from modeling_refavs.training.preparing import Preparation


NAMES = ["acoustic_guitar", "bell", "cat"]


@pytest.mark.parametrize(
    ("text", "category", "renamed"),
    [
        ("The red Bell.", "bell", {"acoustic_guitar": "The red acoustic guitar.", "cat": "The red cat."}),
        ("The acoustic guitar by the bell.", "acoustic_guitar", {"bell": "The bell by the bell.", "cat": "The cat by the bell."}),
        ("The doorbell.", "bell", {}),
        ("The sounding object.", "bell", {}),
    ],
)  # fmt: skip
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
    spans = {"The cat.": (0, 3), "The owl.": (3, 6), "The fan.": (6, 9), "The flute.": (9, 13)}
    others = (replace(sentence, category=name) for name in ("cat", "owl", "fan", "flute"))
    clips = [PreparedClip("clip", (sentence, *others))]
    mix, rng = NameMixup(clips, 1.0, spans), np.random.default_rng(0)
    drawn = [mix((sentence,), {"bell", "cat"}, rng)[0].mixture for _ in range(20)]
    assert {mixture[:2] for mixture in drawn} == {("The fan.", "The owl.")}  # the flute has one token more
    assert all(0.3 <= mixture.share <= 0.7 for mixture in drawn)
    assert len({mixture.share for mixture in drawn}) == 20
    assert mix((sentence,), {"bell", "cat", "owl"}, rng) == (sentence,)
    mix.probability = 0.25
    assert 20 < sum(mix((sentence,), {"bell"}, rng)[0].mixture is not None for _ in range(200)) < 80


def test_the_text_of_a_batch_is_mixed_and_nothing_else(prepared, shared):
    rows, split, model, processor = prepared
    more = find_renamed(split.clips)
    split = Preparation(model, processor, ArrayCache(shared / "cache")).prepare(rows, more_sentences=more)
    assert set(more) <= set(split.text_spans)
    names = find_names(split.clips)
    index = next(i for i, clip in enumerate(split.clips) if any(rename(s, names) for s in clip.sentences))
    collate, draw = ClipCollator(split, pixel_table(processor)), Draw(index, 0, 0, 0, None)
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
            assert found["text_features"][row, :length].equal(expected["text_features"][row, :length])
            continue
        one, two, share = sentence.mixture
        tokens = processor(text=[one, two])
        with torch.no_grad():
            states = model.model.text_encoder(tokens["input_ids"], attention_mask=tokens["attention_mask"])[0]
        wanted = share * states[0] + (1 - share) * states[1]
        torch.testing.assert_close(found["text_features"][row, : wanted.shape[0]], wanted, rtol=1e-4, atol=1e-5)
        count += 1
    assert count


def test_a_text_encoder_that_learns_cannot_be_mixed(recipe, tmp_path, capsys):
    words = ["--name_mixup", "0.5", "--config.freeze_text_encoder", "false", "--output_dir", str(tmp_path / "run")]
    assert main(["train", str(recipe), *words]) == 2
    assert "set freeze_text_encoder" in capsys.readouterr().err.splitlines()[-1]


def test_without_text_there_is_no_name_to_mix(train):
    words = ["--config.use_text_cues", "false", "--max_steps", "2", "--report_to", "none"]
    plain, mixed = train("plain", *words), train("mixed", *words, "--name_mixup", "0.5")
    assert (plain / "model.safetensors").read_bytes() == (mixed / "model.safetensors").read_bytes()
