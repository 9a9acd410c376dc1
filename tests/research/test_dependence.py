"""Effects over a benchmark: means of what `refavs explain` tells of its sentences."""

from pathlib import Path

import pytest

from modeling_refavs import RefAVSForSegmentation, RefAVSProcessor
from modeling_refavs.research.dependence import measure_effects


CHECKPOINT = Path(__file__).parents[2] / "spaces_demo" / "synthetic_checkpoint"


@pytest.fixture(scope="module")
def drawn():
    return (
        RefAVSForSegmentation.from_pretrained(CHECKPOINT).eval(),
        RefAVSProcessor.from_pretrained(CHECKPOINT),
    )


def test_sound_and_key_words_matter_where_they_should(drawn, tree):
    effects = measure_effects(*drawn, tree, clips=6)
    heard, seen, both = effects["acoustic"], effects["appearance"], effects["all"]
    assert both.sentences == heard.sentences + seen.sentences > 3
    mean = heard.sentences * heard.no_sound + seen.sentences * seen.no_sound
    assert both.no_sound == pytest.approx(mean / both.sentences)
    assert heard.no_sound > 2 * seen.no_sound
    assert both.key_word > 2 * both.article


def test_a_folder_without_clips_is_refused(drawn, tmp_path):
    with pytest.raises(ValueError, match="no clip of a drawn benchmark"):
        measure_effects(*drawn, tmp_path)
