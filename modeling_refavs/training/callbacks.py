"""What happens between the steps of a training."""

from typing import TYPE_CHECKING

from transformers import TrainerCallback


if TYPE_CHECKING:
    from .trainer import RefAVSTrainer


class Intervals(TrainerCallback):
    """Tells the sampler the epoch; and wherever a checkpoint is saved the log is written, so that a run that goes on from there
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
