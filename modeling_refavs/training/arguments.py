"""What a recipe says: the model to start from, the data, and how it is trained."""

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments


ARCHITECTURES = ("eemc", "avsegformer", "referformer", "tpavi")
STAGES = ("alignment", "cues", "masks")


@dataclass
class ModelArguments:
    """Where training starts: a saved model, pretrained parts, or `config` alone and random
    weights."""

    architecture: str = field(
        default="eemc",
        metadata={"help": "eemc, or a method to compare with: avsegformer, referformer, tpavi"},
    )
    model: str | None = field(
        default=None, metadata={"help": "folder or id of a saved model with its processor"}
    )
    new_weights: bool = field(
        default=False,
        metadata={
            "help": "where model lacks weights they start at random, and what it has beyond is "
            "left out: a new head, which config may ask for, or another stage"
        },
    )
    mask2former: str | None = field(
        default=None,
        metadata={"help": "folder or id of a Mask2Former; beside model, in place of its own"},
    )
    vision: str | None = field(
        default=None,
        metadata={"help": "in its place, folder or id of a backbone, and the decoders are new"},
    )
    text_model: str | None = field(
        default=None, metadata={"help": "folder or id of a text encoder and its tokenizer"}
    )
    audio_model: str | None = field(
        default=None, metadata={"help": "folder or id of an audio encoder"}
    )
    projection_init: str | None = field(
        default=None,
        metadata={
            "help": "class_names: F'_V, F'_A and F'_T start as maps into the text encoder's space, "
            "by the class names of image_classifier and audio_model"
        },
    )
    image_classifier: str | None = field(
        default=None,
        metadata={"help": "for projection_init, a classifier on the same backbone; None: vision"},
    )
    stage: str = field(
        default="masks",
        metadata={
            "help": "what is learned: masks; or before that cues, which tell where the object is, "
            "and before that alignment of "
            "the projections that cues are made of"
        },
    )
    image_size: int = field(
        default=384, metadata={"help": "frames are resized to this height and width, pixels"}
    )
    max_text_length: int = field(default=25, metadata={"help": "tokens of a sentence"})
    sentence_case: bool = field(default=False, metadata={"help": "as in RefAVSProcessor"})
    config: dict | str | None = field(
        default=None, metadata={"help": "fields of the model's configuration, ablations among them"}
    )

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ValueError(f"stage must be of {', '.join(STAGES)}, got {self.stage}")
        if self.architecture not in ARCHITECTURES:
            raise ValueError(
                f"architecture must be of {', '.join(ARCHITECTURES)}, got {self.architecture}"
            )
        if self.architecture != "eemc" and (
            self.stage != "masks" or self.projection_init or (self.model and self.mask2former)
        ):
            raise ValueError(
                f"{self.architecture} has neither cues nor the decoders of a Mask2Former: give no "
                "stage, no projection_init and no mask2former beside model"
            )
        if self.projection_init not in (None, "class_names"):
            raise ValueError(f"projection_init must be class_names, got {self.projection_init}")
        self.image_classifier = self.image_classifier or self.vision
        if self.projection_init and not (self.image_classifier and self.audio_model):
            raise ValueError("projection_init needs image_classifier and audio_model")
        self.config = _parse("config", self.config, dict) or {}
        if self.mask2former and self.vision:
            raise ValueError(
                "mask2former has a vision encoder of its own: give no vision beside it"
            )
        parts = {
            "mask2former or vision": self.mask2former or self.vision,
            "text_model": self.text_model,
            "audio_model": self.audio_model,
        }
        lacking = [name for name, part in parts.items() if part is None]
        config = None if self.new_weights else self.config
        if self.model and (config or self.vision or self.text_model or self.audio_model):
            raise ValueError(
                "model is a whole model: give no vision, text_model, audio_model or, without "
                "new_weights, config beside it (a recipe's own is taken back by --config null); a "
                "mask2former takes the place of the model's own"
            )
        if not self.model and 0 < len(lacking) < len(parts):
            raise ValueError(
                f"{' and '.join(lacking)} is missing: pretrained parts come three at a time"
            )
        if not self.model and lacking and not self.config:
            raise ValueError(
                "nothing to start from: give model; or mask2former or vision, text_model and "
                "audio_model; or config"
            )


@dataclass
class DataArguments:
    """What is learned from, and how it is drawn."""

    data: str | None = field(
        default=None, metadata={"help": "folder with metadata.csv, an export, or its id"}
    )
    train_split: str = "train"
    eval_split: str = "val"
    paper_splits: bool = field(default=False, metadata={"help": "as in load_refavs"})
    damaged: str = field(
        default="error", metadata={"help": "missing or broken files: error, skip or trust"}
    )
    max_train_clips: int | None = field(
        default=None, metadata={"help": "spread evenly over the split; None: all"}
    )
    max_eval_clips: int | None = field(
        default=None, metadata={"help": "spread evenly over the split; None: all"}
    )
    expressions_per_clip: int | None = field(
        default=None, metadata={"help": "drawn each time; None: all"}
    )
    steps_per_clip: int | None = field(
        default=None, metadata={"help": "steps whose masks are learned, drawn each time; None: all"}
    )
    single_step: bool = field(
        default=False,
        metadata={
            "help": "one step alone of each clip is seen and learned from, in place of "
            "steps_per_clip"
        },
    )
    null_share: float | None = field(
        default=None,
        metadata={
            "help": "of the clips drawn, those whose sentences refer to nothing; None: as they are"
        },
    )
    name_mixup: float = field(
        default=0.0,
        metadata={
            "help": "probability that an object's name becomes a mixture of others', as if it was "
            "never read"
        },
    )
    unnamed: list[str] = field(
        default_factory=list,
        metadata={
            "help": "categories whose names are such mixtures each time, in validation too, and in "
            "none"
        },
    )
    families: list[str] | None = field(
        default=None,
        metadata={
            "help": "of sentences that are asked in training, such as semantic acoustic; None: all"
        },
    )
    mask_size: int | None = field(
        default=None, metadata={"help": "height and width of true masks; None: image_size"}
    )
    cache_dir: str = field(
        default="~/.cache/refavs", metadata={"help": "where prepared data are kept"}
    )
    cache_cues: bool = field(
        default=False,
        metadata={
            "help": "keep what visual cues are made of: only the steps that are learned from go "
            "through Swin then"
        },
    )
    cache_vision: bool = field(
        default=False, metadata={"help": "keep the frozen Swin's features too: large"}
    )
    feature_pooling: int = field(
        default=1,
        metadata={
            "help": "of cache_vision's features, all but the coarsest, squares of so many cells "
            "are averaged in training: masks become coarse, and a step costs a fraction"
        },
    )
    num_proc: int = field(default=1, metadata={"help": "processes that prepare data"})

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError(
                "data is missing: a folder with metadata.csv, an export, or its id on the Hub"
            )
        for name in (
            "max_train_clips",
            "max_eval_clips",
            "expressions_per_clip",
            "steps_per_clip",
            "mask_size",
            "feature_pooling",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.single_step and self.steps_per_clip is not None:
            raise ValueError(
                "single_step is one step of each clip: it cannot go with steps_per_clip"
            )
        if self.feature_pooling > 1 and not self.cache_vision:
            raise ValueError("feature_pooling averages features that are kept: set cache_vision")
        if not 0 <= self.name_mixup <= 1:
            raise ValueError(f"name_mixup is a probability, got {self.name_mixup}")
        if self.null_share is not None and not 0 <= self.null_share < 1:
            raise ValueError(f"null_share must lie in [0, 1), got {self.null_share}")


@dataclass
class RefAVSTrainingArguments(TrainingArguments):
    """`TrainingArguments` with defaults for this model, and what it lacks."""

    mask2former_lr_scale: float = field(
        default=1.0,
        metadata={
            "help": "the learning rate of the pretrained Mask2Former, or of another architecture's "
            "vision encoder, in units of learning_rate"
        },
    )
    learned: list[str] = field(
        default_factory=list,
        metadata={
            "help": "modules that are trained, such as class_predictor or model.catf; by default "
            "all that the config does not freeze"
        },
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "stop after so many evaluations without a better one"}
    )
    overwrite: bool = field(
        default=False, metadata={"help": "start anew in an output folder that holds a run"}
    )

    remove_unused_columns: bool | None = False
    label_names: list[str] | None = field(default_factory=lambda: ["mask_labels"])
    batch_eval_metrics: bool = True
    eval_strategy: str = "epoch"
    save_strategy: str | None = field(
        default=None, metadata={"help": "as eval_strategy, or by the epoch without validation"}
    )
    save_steps: float | None = field(default=None, metadata={"help": "as eval_steps, or 500"})
    save_total_limit: int | None = 2
    load_best_model_at_end: bool | None = field(
        default=None, metadata={"help": "where there are validation and checkpoints"}
    )
    metric_for_best_model: str | None = "eval_jaccard"
    greater_is_better: bool | None = True
    restore_callback_states_from_checkpoint: bool = True
    dataloader_pin_memory: bool = False
    ddp_find_unused_parameters: bool | None = False
    ddp_timeout: int = 24 * 3600  # s: the others wait while the first prepares data

    def __post_init__(self) -> None:
        if not torch.accelerator.is_available():
            self.use_cpu = True  # else each process of torchrun takes itself for the only one
        validates = self.eval_strategy != "no"
        if self.save_strategy is None:
            self.save_strategy = self.eval_strategy if validates else "epoch"
        if self.save_steps is None:
            self.save_steps = (validates and self.eval_steps) or 500
        if self.load_best_model_at_end is None:
            self.load_best_model_at_end = validates and self.save_strategy != "no"
        super().__post_init__()


def _parse(name: str, value: Any, kind: type) -> Any:
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        value = " ".join(value)
    if isinstance(value, str):
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"{name}: cannot be read: {' '.join(str(error).split())}") from error
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"{name} must be a {kind.__name__}, got {value!r}")
    return value


# Options of older recipes -> what they are called now.
RENAMED_OPTIONS = {"glance": "single_step", "vggish": "audio_model"}
ARGUMENT_CLASSES = (ModelArguments, DataArguments, RefAVSTrainingArguments)
Arguments = tuple[ModelArguments, DataArguments, RefAVSTrainingArguments]


class RecipeParser(HfArgumentParser):
    """A mistake is a `ValueError` of one line."""

    def error(self, message: str):
        raise ValueError(message)


def read_recipe(recipe: str | Path, overrides: Sequence[str] = ()) -> Arguments:
    """A YAML file of `name: value`, and `--name value` that win over it; `--config.name value` sets
    one entry of `config`, `--config.mask2former_config.class_weight 5` one deeper in it;
    `--name null` takes a value of the file back.

    Raises:
        ValueError: the file cannot be read, or a name or a value is not known.
    """
    try:
        values = yaml.safe_load(Path(recipe).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(
            f"{recipe}: cannot be read as a recipe: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(values, dict):
        raise ValueError(
            f"{recipe}: a recipe is a list of `name: value`, got {type(values).__name__}"
        )
    values = rename_options(values)
    _check_names(values, f"{recipe}: ")
    overrides = [_rename_word(word) for word in overrides]
    words = _merge_entries(values, _take_back(values, overrides))
    _check_names((word[2:].partition("=")[0] for word in words if word.startswith("--")), "--")
    parser = RecipeParser(ARGUMENT_CLASSES, allow_abbrev=False)
    return parser.parse_args_into_dataclasses(
        [*_as_words(values), *words], look_for_args_file=False
    )


def rename_options(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe with the options of older versions as they are called now."""
    return {RENAMED_OPTIONS.get(name, name): value for name, value in values.items()}


def _rename_word(word: str) -> str:
    name, equals, value = word.removeprefix("--").partition("=")
    renamed = word.startswith("--") and RENAMED_OPTIONS.get(name)
    return f"--{renamed}{equals}{value}" if renamed else word


def _take_back(values: dict[str, Any], words: list[str]) -> list[str]:
    """`--name null` leaves the default of `name`; the other words are returned."""
    rest = []
    for word in words:
        name, equals, value = word.partition("=")
        if word == "null" and rest and rest[-1].startswith("--") and "." not in rest[-1]:
            values.pop(rest.pop()[2:].replace("-", "_"), None)
        elif equals and value == "null" and name.startswith("--") and "." not in name:
            values.pop(name[2:].replace("-", "_"), None)
        else:
            rest.append(word)
    return rest


def _merge_entries(values: dict[str, Any], words: list[str]) -> list[str]:
    """`--config.name value` goes into `values`; the other words are returned."""
    rest = []
    while words:
        word = words.pop(0)
        if not word.startswith("--config."):
            rest.append(word)
            continue
        name, equals, value = word[len("--config.") :].partition("=")
        if not equals and not words:
            raise ValueError(f"{word}: a value is missing")
        value = _parse(word, value if equals else words.pop(0), object)
        _set_entry(values, ["config", *name.split(".")], value)
    return rest


def _set_entry(values: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        values[name] = values.get(name) or {}
        values = values[name]
    values[path[-1]] = value


def _as_words(values: dict[str, Any]) -> list[str]:
    """Entries of a recipe as a command line has them, so that both are understood alike; null
    leaves the default."""
    words = []
    for name, value in values.items():
        if isinstance(value, list) and not any(isinstance(item, (list, dict)) for item in value):
            words += [f"--{name}", *map(str, value)]
        elif name == "fsdp" and value is True:
            words.append("--fsdp")  # a flag; a word after it would be its older form
        elif value is not None:
            words.append(
                f"--{name}={json.dumps(value) if isinstance(value, (dict, list)) else value}"
            )
    return words


def _check_names(names: Iterable[str], place: str) -> None:
    known = [entry.name for kind in ARGUMENT_CLASSES for entry in fields(kind) if entry.init]
    for name in names:
        if str(name).replace("-", "_") not in known:
            nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
            raise ValueError(f"{place}{name} is not known: did you mean `{nearest}`?")
