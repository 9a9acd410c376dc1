"""Things of no kind, drawn for one clip."""

import json

import numpy as np
import pytest

from dataset_script.synthetic import Scene, SynthesisOptions, make_clip, synthesize
from dataset_script.synthetic.drawing import draw
from dataset_script.synthetic.objects import (
    CATEGORIES,
    NOVELTY,
    SILHOUETTES,
    draw_silhouette,
    draw_timbre,
    silhouette_of,
    timbre_of,
)
from dataset_script.synthetic.shortcuts import measure_shortcuts
from dataset_script.synthetic.sounds import render_stems


@pytest.fixture(scope="module")
def clips():
    return [make_clip(SynthesisOptions(novelty_share=0.5), index) for index in range(150)]


def is_novel(clip):
    return NOVELTY in {item.category for item in clip.scene.objects}


def test_half_of_the_clips_that_are_learned_from_hold_one_and_all_others_stay_as_they_are(clips):
    plain = [make_clip(SynthesisOptions(), index) for index in range(len(clips))]
    assert not any(map(is_novel, plain))
    learned = [
        clip
        for clip in clips
        if clip.split in ("train", "val") and not clip.name.startswith("null_")
    ]
    assert np.mean([is_novel(clip) for clip in learned]) == pytest.approx(0.5, abs=0.12)
    assert {clip.split for clip in clips if is_novel(clip)} == {"train", "val"}
    assert all(
        clip == other for clip, other in zip(clips, plain, strict=True) if not is_novel(clip)
    )


def test_sentences_are_about_it_and_about_known_things_beside_it(clips):
    said = [(clip, sentence) for clip in clips if is_novel(clip) for sentence in clip.expressions]
    about = [clip.scene.objects[sentence.fid].category == NOVELTY for clip, sentence in said]
    assert 0.3 < np.mean(about) < 0.95
    named = [sentence for _, sentence in said if NOVELTY in sentence.text]
    assert named
    assert all(sentence.slots["thing"] == NOVELTY for sentence in named)  # never a landmark


@pytest.mark.parametrize("seed", range(40))
def test_silhouettes_and_timbres_follow_from_the_seed(seed):
    parts = draw_silhouette(seed)
    outline = np.concatenate([part.points for part in parts if part.role == "body"])
    assert np.abs(outline).max() == pytest.approx(1)
    again, other = draw_silhouette.__wrapped__(seed), draw_silhouette(seed + 1000)
    assert all(
        np.array_equal(one.points, two.points) for one, two in zip(parts, again, strict=True)
    )
    assert not np.array_equal(parts[0].points, other[0].points)
    timbre = draw_timbre(seed)
    assert timbre == draw_timbre.__wrapped__(seed) != draw_timbre(seed + 1000)
    assert timbre.partials or timbre.noise[2]


def test_known_kinds_look_and_sound_the_same_in_every_clip():
    for name, category in CATEGORIES.items():
        assert silhouette_of(name, 3) is SILHOUETTES[name]
        assert timbre_of(name, 3) is category.timbre


def test_it_is_seen_and_heard(clips):
    heard = 0
    for clip in filter(is_novel, clips):
        item = clip.scene.objects[0]
        assert item.category == NOVELTY
        time = float(np.ceil(item.presence[0]))
        alone = Scene(clip.scene.seed, 10.0, 1.0, 1.0, (item,))
        box = (2 * item.radius * 96) ** 2
        assert 0.1 < draw(alone, time, 96, 96)[1].sum() / box < 1
        if item.sound:
            assert np.abs(render_stems(clip.scene)[0]).max() > 0.005
            heard += 1
    assert heard > 10


def test_a_tree_holds_it_as_one_category_that_guessers_can_be_measured_on(tmp_path):
    synthesize(tmp_path / "novel", 75, SynthesisOptions(seconds=2, novelty_share=0.5), workers=2)
    synthesize(tmp_path / "plain", 1, SynthesisOptions(seconds=2))
    kinds = json.loads((tmp_path / "novel" / "taxonomy.json").read_text())
    assert kinds["categories"] == json.loads((tmp_path / "plain" / "taxonomy.json").read_text())[
        "categories"
    ] | {NOVELTY: NOVELTY}
    assert NOVELTY not in kinds["unseen"]
    measure_shortcuts(tmp_path / "novel")
