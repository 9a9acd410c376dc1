import json
from pathlib import Path

import pytest

from dataset_script.synthetic import SynthesisOptions, SyntheticClip, make_clip, synthesize


@pytest.fixture(scope="session")
def benchmark_folder(tmp_path_factory) -> Path:
    """90 clips: six of each line of the split table."""
    folder = tmp_path_factory.mktemp("synthetic")
    synthesize(folder, 90, SynthesisOptions(seed=7))
    return folder


@pytest.fixture(scope="session")
def stored_clips(benchmark_folder) -> dict[str, dict]:
    """The stored JSON of each clip, by name."""
    return {
        path.stem: json.loads(path.read_text())
        for path in sorted((benchmark_folder / "scenes").iterdir())
    }


@pytest.fixture(scope="session")
def undrawn_clips() -> list[SyntheticClip]:
    """450 more clips, not drawn: enough for the rare kinds of sentences and for counting."""
    return [make_clip(SynthesisOptions(seed=8), index) for index in range(450)]
