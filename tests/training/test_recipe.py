"""A recipe and the words that win over it; a mistake is one clear line."""

from pathlib import Path

import pytest

from modeling_refavs.training.arguments import read_recipe
from modeling_refavs.training.train import MODEL_CLASSES

from .conftest import SMOKE


RECIPES = sorted(SMOKE.parents[2].glob("*/recipes/*.yaml"))


@pytest.fixture
def write(tmp_path):
    def recipe(text: str) -> Path:
        (tmp_path / "recipe.yaml").write_text(
            f"output_dir: {tmp_path / 'out'}\nuse_cpu: true\n{text}"
        )
        return tmp_path / "recipe.yaml"

    return recipe


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_understood(path, tmp_path):
    model_args, data_args, args = read_recipe(
        path, ["--bf16", "false", "--output_dir", str(tmp_path)]
    )
    assert data_args.data
    assert args.learning_rate > 0
    starts = {
        "smoke": "config",
        "synthetic_alignment": "mask2former",
        "photo_single_step": "vision",
        "refavs_bench": "mask2former",
        "compare": "vision",
    }
    method = path.stem.removesuffix(f"_{model_args.architecture}")
    assert getattr(model_args, starts.get(method, "model"))
    if model_args.architecture != "eemc":
        MODEL_CLASSES[model_args.architecture].config_class(**model_args.config)


def test_old_name_of_an_option_is_understood(write):
    recipe = write("data: tree\nmodel: folder\nglance: true\nstage: cues")
    assert read_recipe(recipe)[1].single_step
    plain = write("data: tree\nmodel: folder\nstage: cues")
    assert read_recipe(plain, ["--glance", "true"])[1].single_step
    assert read_recipe(plain, ["--glance=true"])[1].single_step
    assert not read_recipe(plain)[1].single_step


def test_defaults_suit_this_model(write):
    model_args, data_args, args = read_recipe(write("data: tree\nmodel: folder"))
    assert (model_args.config, data_args.max_eval_clips) == ({}, None)
    assert args.metric_for_best_model == "eval_jaccard"
    assert args.label_names == ["mask_labels"]
    assert not args.remove_unused_columns


def test_values_of_every_kind(write):
    recipe = """
data: tree
config: {hidden_size: 64, mask2former_config: {num_queries: 10}}
learning_rate: 1e-4
report_to: [none]
max_steps: 7
early_stopping_patience: null
name_mixup: 0.5
families: [semantic, acoustic + action]
lr_scheduler_kwargs: {num_cycles: 2}
"""
    model_args, data_args, args = read_recipe(write(recipe))
    assert model_args.config == {"hidden_size": 64, "mask2former_config": {"num_queries": 10}}
    assert data_args.families == ["semantic", "acoustic + action"]
    assert (args.learning_rate, args.max_steps, args.early_stopping_patience) == (1e-4, 7, None)
    assert (data_args.name_mixup, args.lr_scheduler_kwargs) == (0.5, {"num_cycles": 2})


def test_words_win(write):
    words = [
        "--max_steps",
        "3",
        "--config.hidden_size=32",
        "--config.use_audio_cues",
        "false",
        "--cache_vision",
    ]
    words += [
        "--config.mask2former_config.num_queries",
        "5",
        "--learning-rate",
        "2e-3",
    ]
    recipe = write("data: tree\nconfig: {hidden_size: 64, num_cue_layers: 2}\nmax_steps: 9")
    model_args, data_args, args = read_recipe(recipe, words)
    assert model_args.config == {
        "hidden_size": 32,
        "num_cue_layers": 2,
        "use_audio_cues": False,
        "mask2former_config": {"num_queries": 5},
    }
    assert (args.max_steps, args.learning_rate) == (3, 2e-3)
    assert data_args.cache_vision


@pytest.mark.parametrize("word", [["--config", "null"], ["--config=null"]])
def test_null_takes_a_value_of_the_recipe_back(word, tmp_path):
    words = ["--model", "m", *word, "--max-steps", "null", "--output_dir", str(tmp_path)]
    model_args, _, args = read_recipe(SMOKE, words)
    assert (model_args.model, model_args.config, args.max_steps) == ("m", {}, -1)


@pytest.mark.parametrize(
    ("text", "strategies"),
    [
        ("", ("epoch", "epoch", True)),
        ("eval_strategy: steps\neval_steps: 15", ("steps", "steps", True)),
        ("eval_strategy: 'no'", ("no", "epoch", False)),
        ("save_strategy: 'no'", ("epoch", "no", False)),
        ("eval_strategy: 'no'\nsave_strategy: steps\nsave_steps: 7", ("no", "steps", False)),
    ],
)
def test_defaults_agree_with_each_other(write, text, strategies):
    args = read_recipe(write(f"data: tree\nmodel: m\n{text}"))[2]
    assert (args.eval_strategy, args.save_strategy, args.load_best_model_at_end) == strategies
    assert args.save_steps == {"eval_strategy: steps\neval_steps: 15": 15}.get(
        text, 7 if "7" in text else 500
    )


MISTAKES = {
    "misspelt": (
        "data: tree\nmodel: m\nlerning_rate: 1",
        [],
        "lerning_rate is not known: did you mean `learning_rate`",
    ),
    "misspelt word": (
        "data: tree\nmodel: m",
        ["--max_step", "3"],
        "--max_step is not known: did you mean `max_steps`",
    ),
    "no number": ("data: tree\nmodel: m\nmax_steps: many", [], "invalid int value: 'many'"),
    "no data": ("model: m", [], "data is missing"),
    "no start": ("data: tree", [], "nothing to start from"),
    "two starts": ("data: tree\nmodel: m\nvggish: v", [], "model is a whole model"),
    "two parts": ("data: tree\nvggish: v\ntext_model: t", [], "mask2former or vision is missing"),
    "config of a model": (
        "data: tree\nmodel: m",
        ["--config.dropout", "0"],
        "model is a whole model",
    ),
    "model beside a recipe's config": (
        "data: tree\nconfig: {hidden_size: 64}",
        ["--model", "m"],
        "a recipe's own is taken back by --config null",
    ),
    "no dict": ("data: tree\nconfig: 3", [], "config must be a dict, got 3"),
    "mixup": ("data: tree\nmodel: m\nname_mixup: -1", [], "name_mixup is a probability, got -1"),
    "share": ("data: tree\nmodel: m\nnull_share: 1", [], "null_share must lie in"),
    "count": (
        "data: tree\nmodel: m\nsteps_per_clip: 0",
        [],
        "steps_per_clip must be at least 1, got 0",
    ),
    "not YAML": ("data: [", [], "cannot be read as a recipe"),
    "leftover word": ("data: tree\nmodel: m", ["word"], "word"),
    "half a value": (
        "data: tree\nconfig: {hidden_size: 64}",
        ["--config.hidden_size", "["],
        "--config.hidden_size: cannot be read: while parsing a flow node",
    ),
    "value missing": ("data: tree\nmodel: m", ["--config.dropout"], "a value is missing"),
}


@pytest.mark.parametrize(("text", "words", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(write, text, words, message):
    with pytest.raises(ValueError, match=r"\A.*\Z") as caught:  # one line
        read_recipe(write(text), words)
    assert message in str(caught.value)


def test_a_recipe_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="cannot be read as a recipe"):
        read_recipe(tmp_path / "none.yaml")
