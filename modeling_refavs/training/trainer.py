"""Which parameters are trained, and how fast."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from transformers import EvalPrediction, TrainerCallback

from ..metrics.refavs_jaccard.refavs_jaccard import pool as pool_jaccard
from ..metrics.refavs_jaccard.refavs_jaccard import score_frames as jaccard_frames
from ..metrics.refavs_null.refavs_null import pool as pool_null
from ..metrics.refavs_null.refavs_null import score_frames as predicted_shares
from .arguments import RefAVSTrainingArguments


if TYPE_CHECKING:
    pass
import shutil
from pathlib import Path

from torch.utils.data import DataLoader, Sampler
from transformers import EarlyStoppingCallback, Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from ..baselines_refavs import RefAVSBaseline
from ..loss_refavs import RefAVSLossCounts, count_masks
from ..modeling_refavs import RefAVSForSegmentation
from ..utils.files import whole_file
from .arguments import DataArguments
from .cache import PreparedSplit, pixel_table
from .checkpoints import (
    STATE_FILE,
    last_complete_checkpoint,
    read_stages,
    read_state,
    step_of,
)
from .collator import ClipCollator, ClipDataset
from .curves import CURVES_FILE, draw_curves
from .sampler import ClipSampler


def parameter_groups(model: nn.Module, args: RefAVSTrainingArguments) -> list[dict[str, Any]]:
    """New and pretrained parameters at their own learning rates, the matrices among them with
    weight decay."""
    embeddings = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)
    }
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            pretrained = name.startswith("vision_encoder.") or (
                "mask2former." in name and ".adapter." not in name
            )
            decays = parameter.dim() > 1 and id(parameter) not in embeddings
            groups.setdefault((pretrained, decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": args.weight_decay if decays else 0.0,
            "lr": args.learning_rate * (args.mask2former_lr_scale if pretrained else 1.0),
        }
        for (pretrained, decays), parameters in sorted(groups.items(), key=lambda entry: entry[0])
    ]


def freeze_unused(model: nn.Module) -> None:
    """Swin's last norm is not on the way to a mask, and no loss reads what the clip head says: left
    trainable, they would stop several processes."""
    for name, parameter in model.named_parameters():
        if ".swin.layernorm." in name or name.startswith("clip_predictor."):
            parameter.requires_grad_(False)


SUMS = 4  # numbers of a clip


def score_clips(
    mask_logits: torch.Tensor, mask_labels: torch.Tensor, clip_index: torch.Tensor, clips: int
) -> torch.Tensor:
    """
    Args:
        mask_logits: `(expressions, frames, h, w)`.
        mask_labels: `(expressions, frames, H, W)` bool; scores are of this size. A sentence whose
            labels are all empty is a null reference.
        clip_index: `(expressions,)`; `clips` is how many there are.

    Returns:
        `(clips, 4)` float64: the sum of J and the frames that count, the sum of the predicted parts
            of null references'
        frames and their number.
    """
    size = mask_labels.shape[-2:]
    sums = torch.zeros(clips, SUMS, dtype=torch.float64)
    for logits, labels, clip in zip(
        mask_logits.float(), mask_labels, clip_index.tolist(), strict=True
    ):
        probabilities = (
            nn.functional.interpolate(logits[None], size=size, mode="bilinear")[0]
            .sigmoid()
            .cpu()
            .numpy()
        )
        masks = labels.cpu().numpy()
        if masks.any():
            scores = jaccard_frames(probabilities, masks)
            sums[clip, :2] += torch.tensor([np.nansum(scores), np.isfinite(scores).sum()])
        else:
            shares = predicted_shares(probabilities)
            sums[clip, 2:] += torch.tensor([shares.sum(), len(shares)])
    return sums


class ValidationScores:
    """`compute_metrics` of a Trainer with `batch_eval_metrics`: `jaccard` and `null` once the last
    batch is in."""

    def __init__(self) -> None:
        self.sums = np.zeros(SUMS)

    def __call__(self, batch: EvalPrediction, compute_result: bool) -> dict[str, Any]:
        sums = (
            torch.as_tensor(batch.predictions).cpu().double().numpy()
        )  # of one batch, from where it was made
        self.sums += sums.reshape(-1, SUMS).sum(axis=0)
        if not compute_result:
            return {}
        jaccard, frames, predicted, null_frames = np.split(self.sums, SUMS)
        self.sums = np.zeros(SUMS)
        scores = {"jaccard": pool_jaccard(jaccard, frames)}
        if null_frames:
            scores["null"] = pool_null(predicted, null_frames)
        return scores


class Intervals(TrainerCallback):
    """Tells the sampler the epoch; and wherever a checkpoint is saved the log is written, so that a
    run that goes on from there
    logs the same averages as one that was never stopped."""

    def __init__(self, trainer: "RefAVSTrainer"):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.trainer.restart_interval()

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        self.trainer.sampler.epoch = int(state.epoch or 0)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        control.should_log |= control.should_save

    on_epoch_end = on_step_end


logger = logging.get_logger(__name__)


class RefAVSTrainer(Trainer):
    """
    Args:
        model, processor: [`RefAVSForSegmentation`] and [`RefAVSProcessor`].
        args: of training; `data_args` say how clips are drawn.
        train_split, eval_split: prepared.
    """

    loss_is_scaled_for_ga = True  # by `RefAVSLossCounts`

    def __init__(
        self,
        model: nn.Module,
        processor: Any,
        args: RefAVSTrainingArguments,
        data_args: DataArguments,
        train_split: PreparedSplit,
        eval_split: PreparedSplit | None,
    ):
        self.data_args = data_args
        table, padding = pixel_table(processor), processor.tokenizer.pad_token_id
        decodes = isinstance(model, (RefAVSForSegmentation, RefAVSBaseline))
        self.eval_collator = eval_split and ClipCollator(eval_split, table, padding)
        super().__init__(
            model=model,
            args=args,
            data_collator=ClipCollator(
                train_split,
                table,
                padding,
                data_args.steps_per_clip,
                data_args.single_step,
                decodes,
                data_args.feature_pooling,
            ),
            train_dataset=ClipDataset(
                train_split,
                data_args.expressions_per_clip,
                data_args.name_mixup,
                data_args.unnamed,
            ),
            eval_dataset=eval_split and ClipDataset(eval_split, unnamed=data_args.unnamed),
            processing_class=processor,
            compute_metrics=ValidationScores(),
        )
        self.kind = type(model)
        del model.config.use_cache  # Trainer's addition, which is no field of the configuration
        if args.n_gpu > 1:
            raise ValueError(
                "several GPUs: start one process for each, with torchrun --nproc_per_node"
            )
        freeze_unused(model)
        self.part_names = model.loss_names
        self.parts = torch.zeros(len(self.part_names), device=args.device)
        self.parts_since = 0
        self.add_callback(Intervals(self))
        if args.early_stopping_patience is not None:
            self.add_callback(EarlyStoppingCallback(args.early_stopping_patience))

    # Data

    def _get_train_sampler(self, train_dataset: ClipDataset | None = None) -> Sampler:
        clips = (train_dataset or self.train_dataset).split.clips
        self.sampler = ClipSampler(
            clips, self._seed(), self.data_args.null_share, self.data_args.families
        )
        return self.sampler

    def _seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        train_collator, self.data_collator = self.data_collator, self.eval_collator
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = train_collator

    # Loss

    def _get_num_items_in_batch(
        self, batch_samples: list[dict], device: torch.device
    ) -> RefAVSLossCounts | None:
        """What the loss of an update is a mean over: all its micro-batches in all processes."""
        if not batch_samples:
            return None
        counts = [count_masks(batch["mask_labels"].flatten(0, 1)) for batch in batch_samples]
        local = torch.stack([torch.stack(list(count)) for count in counts]).sum(dim=0).to(device)
        return RefAVSLossCounts(*self.accelerator.reduce(local, "sum"))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: RefAVSLossCounts | None = None,
    ) -> Any:
        """This process's share of the loss, times the number of processes, since gradients are
        averaged over them."""
        outputs = model(**inputs, loss_counts=num_items_in_batch)
        if model.training:
            self.parts += torch.stack(
                [outputs.loss_parts[name].float() for name in self.part_names]
            )
        loss = outputs.loss * (
            self.accelerator.num_processes if num_items_in_batch is not None else 1
        )
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        updates = self.state.global_step - self.parts_since
        if "loss" in logs and updates:
            parts = self.accelerator.reduce(self.parts, "sum") / updates
            logs |= dict(zip(self.part_names, parts.tolist(), strict=True))
            self.restart_interval()
        super().log(logs, start_time)

    def restart_interval(self) -> None:
        self.parts.zero_()
        self.parts_since = self.state.global_step

    # Validation

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: Any = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        clips = len(
            inputs["pixel_values"] if "pixel_values" in inputs else inputs["vision_features"][0]
        )
        scores = score_clips(
            outputs.mask_logits, inputs["mask_labels"], inputs["clip_index"], clips
        )
        scores = scores.float().to(self.args.device)  # not all accelerators know float64
        return loss.detach(), scores, scores[:, :1]

    # Optimizer

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, model or self.model)
            self.optimizer = kind(parameter_groups(model or self.model, self.args), **options)
        return self.optimizer

    # Checkpoints

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None
    ) -> None:
        """FSDP makes the model one of a class of torch's, whose code would be saved for
        `trust_remote_code`: ours is meant."""
        kind, self.model.__class__ = type(self.model), self.kind
        try:
            super()._save(output_dir, state_dict)
        finally:
            self.model.__class__ = kind

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """One that cannot be written leaves nothing behind, and the one before it as it was."""
        unfinished = (
            Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        )
        try:
            super()._save_checkpoint(model, trial)
        except Exception as error:  # safetensors and torch have their own for a full disk
            if self.args.should_save:
                shutil.rmtree(unfinished, ignore_errors=True)
            last = last_complete_checkpoint(unfinished.parent)
            raise ValueError(
                f"{unfinished} cannot be written: {' '.join(str(error).split())}; "
                f"{shutil.disk_usage(unfinished.parent).free / 1e9:.1f} GB are free. Make room and "
                "start again: the run goes "
                f"on from {f'step {step_of(last)}' if last else 'the start'}"
            ) from error

    def finish(self, checkpoint: Path | None = None) -> None:
        """Save the best model and its processor, and last the state of the run, which says that it
        is finished.

        Args:
            checkpoint: the last of a run that was stopped between its last step and this; None:
                straight after training.
        """
        if checkpoint is not None:
            self.state = read_state(checkpoint)
            self._load_weights(self.state.best_model_checkpoint or str(checkpoint))
        try:
            self.save_model(_internal_call=True)  # which does not push
            if self.args.should_save:
                output = Path(self.args.output_dir)
                draw_curves(read_stages(output, self.state), output / CURVES_FILE)
                with whole_file(output / STATE_FILE) as unfinished:
                    self.state.save_to_json(str(unfinished))
        except Exception as error:
            raise ValueError(
                f"{self.args.output_dir}: the trained model cannot be written: "
                f"{' '.join(str(error).split())}. Make room and "
                "start again: nothing is trained twice"
            ) from error
        if self.args.push_to_hub:
            self._push()

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """One that cannot begin stops no training: the checkpoint is here, and the end pushes once
        more."""
        try:
            super()._push_from_checkpoint(checkpoint_folder)
        except Exception as error:  # whatever the network's client of the day raises
            logger.warning(
                f"{checkpoint_folder}: cannot be pushed: {' '.join(str(error).split())}. The "
                "training goes on"
            )

    def _push(self) -> None:
        try:
            self.push_to_hub()
        except Exception as error:
            raise ValueError(
                f"{self.hub_model_id}: cannot be pushed: {' '.join(str(error).split())}. The "
                "trained model is in "
                f"{self.args.output_dir}: refavs publish model {self.args.output_dir} "
                f"{self.hub_model_id}"
            ) from error

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self._load_weights(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        if self.is_fsdp_enabled:
            super()._load_best_model()
        else:
            self._load_weights(self.state.best_model_checkpoint)

    def _load_weights(self, checkpoint: str) -> None:
        """By `from_pretrained`: some weights have another name on disk."""
        saved = type(self.model).from_pretrained(checkpoint, dtype=self.model.dtype)
        self.model.load_state_dict(saved.state_dict())
