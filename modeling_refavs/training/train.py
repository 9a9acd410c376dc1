"""The model and the processor that a training starts with."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType

from safetensors import safe_open
from tokenizers import ByteLevelBPETokenizer
from torch import nn
from transformers import PreTrainedModel, RobertaTokenizer, ViTImageProcessorPil, set_seed
from transformers.utils import cached_file, logging

from ..avsegformer_refavs import RefAVSAVSegFormerForSegmentation
from ..baselines_refavs import RefAVSBaseline
from ..configuration_refavs import use_four_stages
from ..encoders_refavs import frozen_names
from ..feature_extraction_refavs import RefAVSFeatureExtractor
from ..modeling_refavs import RefAVSForSegmentation, RefAVSPreTrainedModel
from ..processing_refavs import RefAVSProcessor
from ..referformer_refavs import RefAVSReferFormerForSegmentation
from ..tpavi_refavs import RefAVSTPAVIForSegmentation
from ..utils.files import lock_folder
from .arguments import DataArguments, ModelArguments, RefAVSTrainingArguments, read_recipe
from .augmentation import find_renamed
from .cache import ArrayCache, Preparation
from .checkpoints import (
    check_finished,
    claim_folder,
    has_ended,
    is_finished,
    last_complete_checkpoint,
    read_state,
    remove_incomplete,
    remove_run,
    step_of,
)
from .class_names import start_from_class_names
from .dataset import SplitRows
from .trainer import RefAVSTrainer


logger = logging.get_logger(__name__)
ModelClass = type[RefAVSPreTrainedModel] | type[RefAVSBaseline]
MODEL_CLASSES: dict[str, ModelClass] = {  # by the recipe's architecture
    "eemc": RefAVSForSegmentation,
    "avsegformer": RefAVSAVSegFormerForSegmentation,
    "referformer": RefAVSReferFormerForSegmentation,
    "tpavi": RefAVSTPAVIForSegmentation,
}
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def start_model(
    arguments: ModelArguments,
    sentences: Sequence[str],
    kind: ModelClass = RefAVSForSegmentation,
) -> tuple[RefAVSPreTrainedModel, RefAVSProcessor]:
    """
    Args:
        arguments: a saved model, pretrained parts, or a configuration whose weights are drawn at
            random.
        sentences: of the training, which a tokenizer is made from where there is none.
        kind: class of the model.

    Raises:
        ValueError: something cannot be loaded, or is no field of the configuration.
    """
    names = ("mask2former", "vision", "text_model", "audio_model")
    parts = {name: getattr(arguments, name) for name in names}
    try:
        from .. import auto  # noqa: F401, a saved folder carries code too: the installed one is meant

        if arguments.model:
            strict = not arguments.new_weights
            model = kind.from_pretrained(arguments.model, strict=strict, **arguments.config)
            if arguments.mask2former:
                _take_mask2former(model, arguments.mask2former)
            return model, RefAVSProcessor.from_pretrained(arguments.model)
        if arguments.text_model:
            model = kind.from_backbones(**parts, **arguments.config)
            processor = RefAVSProcessor.from_backbones(
                **parts,
                image_size=arguments.image_size,
                max_text_length=arguments.max_text_length,
                sentence_case=arguments.sentence_case,
            )
            return model, processor
    except OSError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"the model to start from cannot be loaded: {reason}") from error
    return _random_model(kind, arguments, sentences)


def _take_mask2former(model: RefAVSPreTrainedModel, mask2former: str) -> None:
    """Decoders and backbone in place of the model's own; the cues, which read the last map and
    prompt the queries, stay."""
    parts, old = model.base_model, model.config.mask2former_config
    channels = parts.vision_encoder.channels[-1]
    config = type(old).from_pretrained(mask2former, id2label=old.id2label, label2id=old.label2id)
    use_four_stages(config.backbone_config)
    new = type(parts.mask2former).from_pretrained(
        mask2former, config=config, adapter_size=model.config.adapter_size
    )
    widths = config.hidden_dim, new.pixel_level_module.encoder.channels[-1]
    if widths != (old.hidden_dim, channels):
        raise ValueError(
            f"{mask2former}: hidden_dim is {widths[0]} and its backbone's last map has {widths[1]} "
            f"channels, where the model's cues have {old.hidden_dim} and read {channels}"
        )
    parts.mask2former, model.config.mask2former_config = new, config
    parts._freeze(*frozen_names(parts))
    take_class_predictor(model, mask2former)
    model.eval()


def take_class_predictor(model: nn.Module, mask2former: str) -> None:
    """A Mask2Former of one class, such as `refavs pretrain-decoders` makes, tells objects from
    nothing already: the model starts with its class head."""
    path = cached_file(
        mask2former, "model.safetensors", _raise_exceptions_for_missing_entries=False
    )
    predictor = getattr(model, "class_predictor", None)
    if path is None or predictor is None:
        return
    with safe_open(path, "pt") as file:
        head = {
            name: file.get_tensor(f"class_predictor.{name}")
            for name in predictor.state_dict()
            if f"class_predictor.{name}" in file.keys()  # noqa: SIM118, it is no dict
        }
    if head and head["weight"].shape == predictor.weight.shape:
        predictor.load_state_dict(head)


def _random_model(
    kind: ModelClass, arguments: ModelArguments, sentences: Sequence[str]
) -> tuple[RefAVSPreTrainedModel, RefAVSProcessor]:
    model = kind(kind.config_class(**arguments.config))
    size = {"height": arguments.image_size, "width": arguments.image_size}
    processor = RefAVSProcessor(
        ViTImageProcessorPil(size=size),
        RefAVSFeatureExtractor(),
        make_tokenizer(sentences, model.config.text_config.vocab_size),
        max_text_length=arguments.max_text_length,
        sentence_case=arguments.sentence_case,
    )
    return model, processor


def make_tokenizer(sentences: Sequence[str], vocabulary: int) -> RobertaTokenizer:
    """A byte-level BPE of these sentences, in RoBERTa's form."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        sentences, vocabulary, min_frequency=1, special_tokens=SPECIAL_TOKENS, show_progress=False
    )
    merges = json.loads(trained.to_str())["model"]["merges"]
    return RobertaTokenizer(vocab=trained.get_vocab(), merges=[tuple(merge) for merge in merges])


def run_training(
    recipe: str | Path,
    overrides: Sequence[str] = (),
    stage_classes: Mapping[str, type[RefAVSPreTrainedModel]] = MappingProxyType({}),
    announce: Callable[[str], None] = lambda line: None,
) -> str | None:
    """Train by a recipe, or go on with a training that was stopped. Returns what became of it in
    one line; None in all processes
    but the first.

    Args:
        recipe, overrides: see [`read_recipe`].
        stage_classes: what is trained in a stage before that of the masks.
        announce: is given a line, in the first process, where a training goes on: from which step.

    Raises:
        ValueError: a recipe, a file or a disk that training cannot work with.
    """
    model_args, data_args, args = read_recipe(recipe, overrides)
    classes = {"masks": MODEL_CLASSES[model_args.architecture], **stage_classes}
    if model_args.stage not in classes:
        raise ValueError(
            f"stage {model_args.stage} is one of modeling_refavs.research.stages: pass its "
            "stage_classes"
        )
    outcome = train(model_args, data_args, args, classes[model_args.stage], announce)
    return None if args.process_index else outcome


def train(
    model_args: ModelArguments,
    data_args: DataArguments,
    args: RefAVSTrainingArguments,
    model_class: ModelClass | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> str:
    """Train, or go on with a training that was stopped. Returns what became of it in one line.

    Args:
        model_args, data_args, args: see [`read_recipe`].
        model_class: what is trained; None: what the recipe's architecture says.
        announce: see [`run_training`].

    Raises:
        ValueError: a recipe, a file or a disk that training cannot work with.
    """
    output = Path(args.output_dir)
    if is_finished(output) and not args.overwrite:
        check_finished(output, model_args, data_args, args)
        return f"{output}: this training is finished: choose another output_dir, or --overwrite"
    with ExitStack() as stack:
        with args.main_process_first(desc="the output folder"):
            if args.process_index == 0:
                stack.enter_context(lock_folder(output))
                if args.overwrite:
                    remove_run(output)
                claim_folder(output, model_args, data_args, args)
                remove_incomplete(output)
        return _train(model_args, data_args, args, model_class, announce)


def _train(
    model_args: ModelArguments,
    data_args: DataArguments,
    args: RefAVSTrainingArguments,
    model_class: ModelClass | None,
    announce: Callable[[str], None],
) -> str:
    output = Path(args.output_dir)
    checkpoint = last_complete_checkpoint(output)
    if checkpoint is not None and args.process_index == 0:
        steps = read_state(checkpoint).max_steps
        announce(f"{output}: goes on from step {step_of(checkpoint)} of {steps}")
    trainer = make_trainer(model_args, data_args, args, model_class)
    if checkpoint is not None and has_ended(checkpoint, args.early_stopping_patience):
        trainer.finish(checkpoint)
    else:
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        trainer.finish()
    trainer.end()
    state, best = trainer.state, ""
    if state.best_global_step is not None:
        best = (
            f", {args.metric_for_best_model} {state.best_metric:.4f} at step "
            f"{state.best_global_step}"
        )
    return f"{output}: trained for {state.global_step} steps{best}"


def make_trainer(
    model_args: ModelArguments,
    data_args: DataArguments,
    args: RefAVSTrainingArguments,
    model_class: ModelClass | None = None,
) -> RefAVSTrainer:
    """The model to start from, the data prepared for it, and a Trainer of both; `model_class` as in
    [`train`]."""
    model_class = model_class or MODEL_CLASSES[model_args.architecture]
    if model_args.stage != "masks" and data_args.cache_vision:
        raise ValueError(
            f"stage {model_args.stage} decodes nothing: set cache_cues in place of cache_vision"
        )
    if model_args.stage != "masks" and args.eval_strategy != "no":
        raise ValueError(
            f"stage {model_args.stage} trains no masks that could be validated: eval_strategy must "
            "be no"
        )
    if model_args.architecture != "eemc" and data_args.cache_cues:
        raise ValueError(
            f"{model_args.architecture} has no cues: set cache_vision in place of cache_cues"
        )
    set_seed(args.seed)
    with args.main_process_first(desc="reading and preparing data"):
        cache = ArrayCache(data_args.cache_dir, data_args.num_proc)
        rows = open_split(data_args, data_args.train_split, data_args.max_train_clips, cache)
        clips = rows.read_clips()
        sentences = sorted({sentence.text for clip in clips for sentence in clip.sentences})
        model, processor = start_model(model_args, sentences, model_class)
        preparation = Preparation(
            model, processor, cache, data_args.mask_size, data_args.cache_vision, args.device
        )
        if not model.config.use_text_cues:
            data_args.name_mixup, data_args.unnamed = 0.0, []  # an ablation that reads no name
        elif (data_args.name_mixup or data_args.unnamed) and not model.config.freeze_text_encoder:
            raise ValueError(
                "name_mixup mixes what a frozen RoBERTa makes of sentences: set freeze_text_encoder"
            )
        if unknown := sorted(
            set(data_args.unnamed).difference(*(clip.categories for clip in clips))
        ):
            raise ValueError(
                f"unnamed: no sentence of {data_args.train_split} is about {', '.join(unknown)}"
            )
        more = (
            find_renamed(clips, data_args.unnamed)
            if data_args.name_mixup or data_args.unnamed
            else []
        )
        train_split = preparation.prepare(
            rows, bool(data_args.families), more, data_args.cache_cues
        )
        if model_args.projection_init:
            if train_split.frame_features is None or "audio_features" not in train_split.sound:
                raise ValueError("projection_init needs cache_cues and a frozen audio encoder")
            explained = start_from_class_names(
                model,
                processor,
                model_args.image_classifier,
                model_args.audio_model,
                train_split,
            )
            logger.info(f"projection_init: squared correlations {explained}")
        eval_split = None
        if args.eval_strategy != "no":
            eval_rows = open_split(data_args, data_args.eval_split, data_args.max_eval_clips, cache)
            more = (
                find_renamed(eval_rows.read_clips(), data_args.unnamed) if data_args.unnamed else []
            )
            eval_split = preparation.prepare(eval_rows, more_sentences=more)
    if args.learned:
        freeze_all_but(model, args.learned)
    return RefAVSTrainer(model, processor, args, data_args, train_split, eval_split)


def freeze_all_but(model: PreTrainedModel, learned: Sequence[str]) -> None:
    """
    Raises:
        ValueError: a name is of no module with parameters.
    """
    names = [name for name, _ in model.named_parameters()]
    for module in learned:
        if not any(name.startswith(f"{module}.") for name in names):
            raise ValueError(f"learned: the model has no module {module} that could be trained")
    prefixes = tuple(f"{module}." for module in learned)
    for name, parameter in model.named_parameters():
        if not name.startswith(prefixes):
            parameter.requires_grad_(False)


def open_split(
    data_args: DataArguments, split: str, max_clips: int | None, cache: ArrayCache
) -> SplitRows:
    """The rows of a split, as the arguments say."""
    return SplitRows(
        data_args.data,
        split,
        max_clips,
        data_args.paper_splits,
        data_args.damaged,
        data_args.num_proc,
        cache.folder / "datasets",
    )
