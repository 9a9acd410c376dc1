"""`refavs train`, and `torchrun ... -m modeling_refavs.training.train`: a recipe in, a trained model out."""

import sys
from collections.abc import Sequence
from pathlib import Path

from transformers import set_seed

from .arguments import DataArguments, ModelArguments, RefAVSTrainingArguments
from .cache import ArrayCache
from .checkpoints import claim, has_ended, is_finished, last_complete_checkpoint, remove_incomplete, remove_run
from .clips import SplitRows
from .mirroring import mirror_sentence
from .name_mixup import find_renamed
from .preparing import Preparation
from .recipe import read_recipe
from .starting import start_model
from .trainer import RefAVSTrainer


def run_training(recipe: str | Path, overrides: Sequence[str] = ()) -> str | None:
    """Train, or go on with a training that was stopped. Returns what became of it in one line; None in all processes but the
    first.

    Raises:
        ValueError: a recipe, a file or a disk that training cannot work with.
    """
    model_args, data_args, args = read_recipe(recipe, overrides)
    outcome = train(model_args, data_args, args)
    return None if args.process_index else outcome


def train(model_args: ModelArguments, data_args: DataArguments, args: RefAVSTrainingArguments) -> str:
    """The same, from arguments."""
    output = Path(args.output_dir)
    if is_finished(output) and not args.overwrite:
        return f"{output}: this training is finished: choose another output_dir, or --overwrite"
    with args.main_process_first(desc="the output folder"):
        if args.process_index == 0:
            if args.overwrite:
                remove_run(output)
            claim(output, model_args, data_args)
            remove_incomplete(output)
    checkpoint = last_complete_checkpoint(output)
    trainer = make_trainer(model_args, data_args, args)
    if checkpoint is not None and has_ended(checkpoint, args.early_stopping_patience):
        trainer.finish(checkpoint)
    else:
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        trainer.finish()
    trainer.end()
    state, best = trainer.state, ""
    if state.best_metric is not None:
        best = f", {args.metric_for_best_model} {state.best_metric:.4f} at step {state.best_global_step}"
    return f"{output}: trained for {state.global_step} steps{best}"


def make_trainer(model_args: ModelArguments, data_args: DataArguments, args: RefAVSTrainingArguments) -> RefAVSTrainer:
    """The model to start from, the data prepared for it, and a Trainer of both."""
    if model_args.stage != "masks" and data_args.cache_vision:
        raise ValueError(f"stage {model_args.stage} decodes nothing: set cache_cues in place of cache_vision")
    if model_args.stage != "masks" and args.eval_strategy != "no":
        raise ValueError(f"stage {model_args.stage} trains no masks that could be validated: eval_strategy must be no")
    set_seed(args.seed)
    with args.main_process_first(desc="reading and preparing data"):
        cache = ArrayCache(data_args.cache_dir, data_args.num_proc)
        rows = open_split(data_args, data_args.train_split, data_args.max_train_clips, cache)
        clips = rows.read_clips(graded=False)
        sentences = sorted({sentence.text for clip in clips for sentence in clip.sentences})
        model, processor = start_model(model_args, sentences)
        preparation = Preparation(model, processor, cache, data_args.mask_size, data_args.cache_vision, args.device)
        if not model.config.use_text_cues:
            data_args.name_mixup, data_args.unnamed = 0.0, []  # an ablation that reads no name
        elif (data_args.name_mixup or data_args.unnamed) and not model.config.freeze_text_encoder:
            raise ValueError("name_mixup mixes what a frozen RoBERTa makes of sentences: set freeze_text_encoder")
        if unknown := sorted(set(data_args.unnamed).difference(*(clip.categories for clip in clips))):
            raise ValueError(f"unnamed: no sentence of {data_args.train_split} is about {', '.join(unknown)}")
        more = find_renamed(clips, data_args.unnamed) if data_args.name_mixup or data_args.unnamed else []
        more += [mirror_sentence(sentence) for sentence in [*sentences, *more]] if data_args.mirror else []
        graded = bool(data_args.curriculum or data_args.families)
        train_split = preparation.prepare(rows, graded, more, data_args.cache_cues)
        eval_split = None
        if args.eval_strategy != "no":
            eval_rows = open_split(data_args, data_args.eval_split, data_args.max_eval_clips, cache)
            more = find_renamed(eval_rows.read_clips(graded=False), data_args.unnamed) if data_args.unnamed else []
            eval_split = preparation.prepare(eval_rows, more_sentences=more)
    return RefAVSTrainer(model, processor, args, data_args, train_split, eval_split)


def open_split(data_args: DataArguments, split: str, max_clips: int | None, cache: ArrayCache) -> SplitRows:
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


if __name__ == "__main__":
    from ..cli import main

    sys.exit(main(["train", *sys.argv[1:]]))
