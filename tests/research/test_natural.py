"""Natural photographs of packages, with masks made by hand."""

import pytest

from modeling_refavs.research import natural


def test_masks_fit_the_pictures_of_installed_packages():
    photographs = natural.read_photographs()
    assert len(photographs) >= 3  # gradio's; scikit-image need not be there
    for picture, mask, entry in photographs:
        assert mask.shape == (picture.height, picture.width)
        assert 0.02 < mask.mean() < 0.9
        assert not set(entry["names"]) & set(entry["absent"])


def test_scores_are_of_what_the_model_answers(model, processor, monkeypatch):
    first = natural.read_photographs()[:1]
    monkeypatch.setattr(natural, "read_photographs", lambda: first)
    scores = {}
    for bias in (-100.0, 0.0, 100.0):
        monkeypatch.setattr(model.config.grounding_config, "object_score_bias", bias)
        scores[bias] = natural.measure_natural(model, processor)
    silent, _, eager = scores.values()
    assert silent.jaccard == silent.null == 0
    assert eager.jaccard == pytest.approx(eager.likeliest, abs=0.2)  # some queries show the same
    assert eager.null > 0
    for score in scores.values():
        assert score.jaccard <= 1
        assert score.likeliest <= score.best
        assert score.photographs == 1


def test_without_the_packages_there_is_nothing_to_score(model, processor, monkeypatch):
    monkeypatch.setattr(natural, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="there is no photograph"):
        natural.measure_natural(model, processor)
