"""One small synthetic tree, one cache and the smoke recipe, cut to a few steps, for all tests of
training."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dataset_script.synthetic.clips import SynthesisOptions
from dataset_script.synthetic.generate import synthesize
from modeling_refavs.research.stages import STAGE_CLASSES
from modeling_refavs.training.arguments import read_recipe
from modeling_refavs.training.cache import ArrayCache, Preparation
from modeling_refavs.training.dataset import SplitRows
from modeling_refavs.training.train import run_training, start_model


SMOKE = Path(__file__).parents[2] / "modeling_refavs/training/recipes/smoke.yaml"
PARTS = ("loss_mask", "loss_dice", "loss_cross_entropy")
STEPS = 4
CLIPS = 16  # of which 12 are of train

Run = Callable[..., Path]


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """A folder with `tree`, `cache` and `recipe.yaml`: what every run of this session is given."""
    folder = tmp_path_factory.mktemp("training")
    synthesize(folder / "tree", CLIPS, SynthesisOptions(height=48, width=64))
    recipe = yaml.safe_load(SMOKE.read_text())
    recipe |= {
        "data": str(folder / "tree"),
        "cache_dir": str(folder / "cache"),
        "image_size": 64,
        "disable_tqdm": True,
        "max_steps": STEPS,
        "logging_steps": 1,
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": False,
        "lr_scheduler_type": "constant",
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


@pytest.fixture(scope="session")
def recipe(shared) -> Path:
    return shared / "recipe.yaml"


@pytest.fixture
def train(recipe, tmp_path) -> Run:
    """`train("name", "--option", "value", ...)`: a run in the folder of that name in
    `train.folder`, which is returned."""

    def run(name: str, *words: str) -> Path:
        run_training(recipe, ["--output_dir", str(tmp_path / name), *words], STAGE_CLASSES)
        return tmp_path / name

    run.folder = tmp_path
    return run


@pytest.fixture(scope="session")
def plain(recipe, tmp_path_factory) -> Path:
    """A run of a few steps that others are compared with; saved and validated half way and at the
    end."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    run_training(recipe, ["--output_dir", str(folder), *SAVING])
    return folder


SAVING = (
    *(
        "--save_strategy",
        "steps",
        "--save_steps",
        "2",
        "--eval_strategy",
        "steps",
        "--eval_steps",
        "2",
    ),
    *("--load_best_model_at_end", "true"),
)


def read_log(folder: Path) -> list[dict]:
    return json.loads((folder / "trainer_state.json").read_text())["log_history"]


def curve(folder: Path, name: str = "loss") -> list[float]:
    """One number of each logged step."""
    return [entry[name] for entry in read_log(folder) if name in entry]


@pytest.fixture(scope="session")
def prepared(shared, recipe):
    """The training split of the tree, prepared; and the model and the processor it was prepared
    for."""
    model_args, data_args, _ = read_recipe(recipe)
    rows = SplitRows(
        data_args.data, "train", damaged="trust", cache_dir=shared / "cache" / "datasets"
    )
    sentences = sorted({sentence.text for clip in rows.read_clips() for sentence in clip.sentences})
    model, processor = start_model(model_args, sentences)
    split = Preparation(model, processor, ArrayCache(shared / "cache")).prepare(rows, families=True)
    return rows, split, model, processor
